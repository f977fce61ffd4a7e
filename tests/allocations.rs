//! After start-up a position allocates nothing, from the received bytes to the frame that every member is sent; and an idle
//! player stays within its budget of memory, which comes back when it goes.

#[path = "../tests/support/store.rs"]
mod store;

use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, ShardId};
use corelay::shard::memory::MemoryCount;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use store::StoreModel;

const REQUEST: &[u8] =
    b"GET /play/arena HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked Move with an all-zero mask.
const MOVE: [u8; 18] = [0x82, 0x8C, 0, 0, 0, 0, 1, 0, 0, 1, 0x3F, 0x80, 0, 0, 0x40, 0, 0, 0];

/// Players of one shard, 50 in each game.
struct Games {
    shard: Shard,
    store: StoreModel,
    players: Vec<ConnId>,
    now: Now,
}

impl Games {
    fn new(players: usize) -> Self {
        let settings = Settings { connections_per_shard_max: 20_000, ..Settings::default() };
        let shard = Shard::new(ShardId(0), Arc::new(settings), Arc::default(), [7; 32]);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        let mut games =
            Self { shard, store: StoreModel::default(), players: Vec::with_capacity(20_000), now };
        games.join(players);
        games
    }

    fn join(&mut self, players: usize) {
        for _ in 0..players {
            let conn = self.shard.handle_accepted(Admission::Admitted, self.now).expect("the table has room");
            let game = format!("/play/arena-{} ", self.players.len() / 50);
            let request = String::from_utf8_lossy(REQUEST).replace("/play/arena ", &game);
            self.shard.handle_received(conn, &mut request.into_bytes(), self.now);
            self.players.push(conn);
            self.send();
        }
    }

    /// The kernel takes every frame. Returns how many sends that were.
    fn send(&mut self) -> usize {
        let mut sent = 0;
        while let Some(output) = self.shard.poll_output() {
            if let Output::Forward { message, .. } = output {
                let answer = self.store.reply(message);
                self.shard.handle_peer(Party::Store, answer, self.now);
            } else if let Output::Send { conn, frames } = output {
                drop(frames);
                self.shard.handle_sent(conn, self.now);
                sent += 1;
            }
        }
        sent
    }

    /// Everybody's connection is lost, the seats are not held any longer, and the loop turns for some seconds more.
    fn lose_all(&mut self) {
        while let Some(conn) = self.players.pop() {
            self.shard.handle_eof(conn, self.now);
            self.send();
            self.shard.handle_closed(conn, self.now);
        }
        for _ in 0..20 {
            self.now.instant = self.now.instant + Duration::from_secs(1);
            self.shard.handle_timeout(self.now);
            self.send();
            self.shard.give_back();
        }
    }

    /// Everybody moves, a tick passes, every frame is taken by the kernel. Returns the frames sent.
    fn tick(&mut self) -> usize {
        for conn in &self.players {
            let mut bytes = MOVE;
            self.shard.handle_received(*conn, &mut bytes, self.now);
        }
        self.now.instant = self.now.instant + Duration::from_millis(50);
        self.shard.handle_timeout(self.now);
        self.send()
    }
}

#[test]
fn a_move_allocates_nothing_from_its_bytes_to_the_frame_of_the_tick() {
    let mut game = Games::new(50);
    let warm_up: usize = (0..60).map(|_| game.tick()).sum();
    assert!(warm_up >= 60 * 50);
    let mut sent = 0;
    let counted = allocation_counter::measure(|| sent = (0..20).map(|_| game.tick()).sum());
    assert_eq!(sent, 20 * 50, "1,000 moves, and a frame for each of 50 players at each of 20 ticks");
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// What the load test measures as resident memory of the process, counted: the slope from 2,000 players to 15,000 that have
/// joined, moved once and had their first frames.
#[test]
fn an_idle_player_stays_within_its_budget() {
    let mut games = Games::new(2_000);
    games.tick();
    let counted = allocation_counter::measure(|| {
        games.join(13_000);
        games.tick();
        games.tick();
    });
    let heap = counted.bytes_current as f64 / 13_000.0;
    let socket = corelay::rim::SOCKET_BYTES;
    let player = heap + socket as f64;
    println!("{player:.0} bytes: {heap:.0} of the core's, {socket} of the ring's table");
    assert!(
        player <= corelay::limits::IDLE_PLAYER_BYTES_MAX as f64,
        "{player:.0} bytes, {heap:.0} of the core's"
    );
}

/// The table of chunks is a shard's from its start and not counted here.
#[test]
fn a_shard_that_has_lost_ten_thousand_players_is_as_small_as_an_empty_one() {
    let mut games = Games::new(0);
    let burst = |games: &mut Games| {
        games.join(10_000);
        games.tick();
        games.tick();
    };
    let mut top = 0;
    let left = allocation_counter::measure(|| {
        top = allocation_counter::measure(|| burst(&mut games)).bytes_current;
        games.lose_all();
    });
    println!("{} of {top} bytes are left", left.bytes_current);
    assert!(top > 1_900_000, "{top} bytes at the top");
    assert!((0..=8 * 1024).contains(&left.bytes_current), "{} bytes are left", left.bytes_current);
    let again = allocation_counter::measure(|| {
        burst(&mut games);
        games.lose_all();
    });
    assert!(again.bytes_current.abs() < 8 * 1024, "{} bytes more after a second time", again.bytes_current);
}

/// Members of chat rooms on one shard, 20 in each room.
fn join_rooms(games: &mut Games, members: usize) {
    join_topics(games, members, "room:lobby");
}

/// Members of topics of one kind on one shard, 20 in each.
fn join_topics(games: &mut Games, members: usize, topic: &str) -> Vec<ConnId> {
    let mut conns = Vec::new();
    for member in 0..members {
        let conn = games.shard.handle_accepted(Admission::Admitted, games.now).expect("the table has room");
        let request = String::from_utf8_lossy(REQUEST).replace("/play/arena", "/socket/websocket?vsn=2.0.0");
        games.shard.handle_received(conn, &mut request.into_bytes(), games.now);
        say(games, conn, &format!(r#"["1","1","{topic}-{}","phx_join",{{}}]"#, member / 20));
        conns.push(conn);
    }
    // Presence is told in windows of 50 ms.
    games.now.instant = games.now.instant + Duration::from_millis(60);
    games.shard.handle_timeout(games.now);
    games.send();
    conns
}

/// A client says something, and the kernel takes what comes of it.
fn say(games: &mut Games, conn: ConnId, text: &str) {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(bytes) if bytes < 126 => frame.push(0x80 | bytes),
        _ => frame.extend([0x80 | 126, (text.len() >> 8) as u8, text.len() as u8]),
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(text.as_bytes());
    games.shard.handle_received(conn, &mut frame, games.now);
    games.send();
}

/// What connections are said to take by `Shard::memory` is within 5 % of what the allocator says.
fn assert_explained(games: &mut Games, come: impl FnOnce(&mut Games)) {
    let before = games.shard.memory();
    let counted = allocation_counter::measure(|| come(games));
    let after = games.shard.memory();
    let explained = (after.total() - before.total()) as f64;
    let counted = counted.bytes_current as f64;
    assert!((0.95..=1.05).contains(&(explained / counted)), "{explained} of {counted}: {after:?}");
}

#[test]
fn the_memory_of_idle_players_is_explained_by_its_parts() {
    assert_explained(&mut Games::new(0), |games| {
        games.join(1_000);
        games.tick();
        games.tick();
    });
}

#[test]
fn the_memory_of_members_of_rooms_is_explained_by_its_parts() {
    assert_explained(&mut Games::new(0), |games| join_rooms(games, 200));
}

#[test]
fn the_memory_of_documents_is_explained_by_its_parts() {
    assert_explained(&mut Games::new(0), |games| {
        let conns = join_topics(games, 20, "doc:notes");
        for version in 0..400 {
            let (writer, at) = (version % 20, version * 61 % (1 + version * 90));
            let op = format!(
                r#"[{at},"{}"]"#,
                "twelve words, or about as many, in a sentence, for a start".repeat(2)
            );
            let push = format!(
                r#"["1","2","doc:notes-0","operation",{{"op":{op},"version":{version},"op_id":"{version:032x}"}}]"#
            );
            say(games, conns[writer], &push);
            games.now.instant = games.now.instant + Duration::from_millis(20);
        }
        // What is on disk is not the relay's memory.
        games.store = StoreModel::default();
    });
}

#[test]
fn counting_memory_allocates_nothing() {
    let mut games = Games::new(1_000);
    games.tick();
    join_rooms(&mut games, 200);
    join_topics(&mut games, 20, "doc:notes");
    let counted = allocation_counter::measure(|| {
        std::hint::black_box(games.shard.memory());
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");

    let mut count = MemoryCount::default();
    let mut parts = 0;
    let in_parts = std::iter::from_fn(|| {
        parts += 1;
        Some(games.shard.count_memory(&mut count, 100))
    });
    assert_eq!(in_parts.flatten().next(), Some(games.shard.memory()), "counted bit by bit it is the same");
    assert!(parts > 20, "1,200 connections, 1,000 seats, 200 members: {parts} parts");
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!(counted.count_total, 1);
}
