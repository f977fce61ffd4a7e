//! Whole shards: a player and a Phoenix client in the same game and room, and a third client that sends whatever the fuzzer
//! likes, in whatever pieces, at whatever times, on `/play` or on `/socket`. Nothing may panic, and the others stay.
#![no_main]

#[path = "../../tests/support/store.rs"]
mod store;

use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, ShardId};
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use libfuzzer_sys::fuzz_target;
use store::StoreModel;

const PATHS: [&str; 4] = [
    "/play/arena",
    "/socket/websocket?vsn=2.0.0",
    "/socket/websocket",
    "/socket/websocket?vsn=2.0.0&name=Eve",
];
const JOINS: [&[u8]; 2] = [
    br#"["1","1","room:a","phx_join",{"meta":{"x":1}}]"#,
    br#"["2","2","game:arena","phx_join",{"resume":{"epoch":"1","seq":0}}]"#,
];

/// A connection, wherever it is.
type Place = (usize, ConnId);

struct Relay {
    shards: Vec<Shard>,
    store: StoreModel,
    now: Now,
    /// The rough client, until it is ended, and those that must stay.
    rough: Option<Place>,
    quiet: Vec<Place>,
    /// The rough client takes nothing until its connection ends.
    is_stuck: bool,
}

impl Relay {
    fn new(shards: u16) -> Self {
        let settings = Arc::new(Settings { placement: Placement::known(shards), ..Settings::default() });
        let shard = |id| Shard::new(ShardId(id), settings.clone(), Arc::default(), [id as u8 + 1; 32]);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        Self {
            shards: (0..shards).map(shard).collect(),
            store: StoreModel::default(),
            now,
            rough: None,
            quiet: Vec::new(),
            is_stuck: false,
        }
    }

    /// Requests `path` on the first shard; whoever is quiet is remembered.
    fn dial(&mut self, path: &str, is_rough: bool) {
        let conn = self.shards[0].handle_accepted(Admission::Admitted, self.now).expect("the table has room");
        if is_rough {
            self.rough = Some((0, conn));
        } else {
            self.quiet.push((0, conn));
        }
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        self.shards[0].handle_received(conn, &mut request, self.now);
        self.settle();
    }

    fn receive(&mut self, (shard, conn): Place, bytes: &[u8]) {
        self.shards[shard].handle_received(conn, &mut bytes.to_vec(), self.now);
        self.settle();
    }

    fn wait(&mut self, pause: Duration) {
        self.now.instant = self.now.instant + pause;
        self.now.unix_us += pause.as_micros() as u64;
        self.shards.iter_mut().for_each(|shard| shard.handle_timeout(self.now));
        self.settle();
    }

    fn settle(&mut self) {
        let next = |shards: &mut Vec<Shard>| {
            shards.iter_mut().enumerate().find_map(|(index, shard)| Some((index, shard.poll_output()?)))
        };
        while let Some((shard, output)) = next(&mut self.shards) {
            match output {
                Output::Send { conn, .. } if self.is_stuck && self.rough == Some((shard, conn)) => {}
                Output::Send { conn, .. } => self.shards[shard].handle_sent(conn, self.now),
                Output::Close { conn, .. } => {
                    assert!(!self.quiet.contains(&(shard, conn)), "another client's bytes ended this one");
                    self.rough = self.rough.filter(|place| *place != (shard, conn));
                    self.shards[shard].handle_closed(conn, self.now);
                }
                Output::HandOver { conn, target, state } => {
                    let target = usize::from(target.0);
                    let there = self.shards[target].handle_handed_over(*state, self.now).expect("room");
                    for place in self.rough.iter_mut().chain(&mut self.quiet) {
                        if *place == (shard, conn) {
                            *place = (target, there);
                        }
                    }
                    self.shards[shard].handle_closed(conn, self.now);
                }
                Output::Forward { target, message } => {
                    let Party::Shard(target) = target else {
                        // The service thread is told what it has asked: nothing.
                        let answer = self.store.reply(message);
                        self.shards[shard].handle_peer(Party::Store, answer, self.now);
                        continue;
                    };
                    let source = Party::Shard(ShardId(shard as u16));
                    self.shards[usize::from(target.0)].handle_peer(source, message, self.now);
                }
                _ => {}
            }
        }
    }
}

/// A frame whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => frame.extend([&[0xFE], &(long as u16).to_be_bytes()[..]].concat()),
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fuzz_target!(|input: &[u8]| {
    // How the rough client connects; whether its pieces are bytes or whole messages; how many shards there are.
    let [mode, input @ ..] = input else { return };
    let mut relay = Relay::new(if mode & 0x80 == 0 { 1 } else { 3 });
    relay.dial("/play/arena", false);
    relay.dial("/socket/websocket?vsn=2.0.0", false);
    JOINS.iter().for_each(|join| relay.receive(relay.quiet[1], &frame(0x81, join)));
    relay.dial(PATHS[usize::from(mode & 3)], true);
    if mode & 4 != 0 {
        for join in JOINS {
            let Some(rough) = relay.rough else { return };
            relay.receive(rough, &frame(0x81, join));
        }
    }
    let in_messages = mode & 8 != 0;
    let mut rest = input;
    // A byte for the length of a piece, a byte for the time that passes after it, the piece.
    while let [length, pause, after @ ..] = rest {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let Some(rough) = relay.rough else { return };
        // The first time that it does not take what it is sent, it is stuck.
        relay.is_stuck |= pause & 0xF == 0xF;
        match (in_messages, pause & 0x10) {
            (false, _) => relay.receive(rough, piece),
            (true, 0) => relay.receive(rough, &frame(0x81, piece)),
            (true, _) => relay.receive(rough, &frame(0x82, piece)),
        }
        // A Pong keeps the others alive.
        for quiet in relay.quiet.clone() {
            relay.receive(quiet, &[0x8A, 0x80, 0, 0, 0, 0]);
        }
        relay.wait(Duration::from_millis(u64::from(*pause)));
    }
});
