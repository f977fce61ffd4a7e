//! Phoenix Channels without a kernel: a push from its text to its channel, and a message to everybody in a room beside an
//! event to everybody in a game.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

#[path = "../tests/support/store.rs"]
mod store;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, ShardId, Topic};
use corelay::metrics::ShardMetrics;
use corelay::session::channels::{ChannelState, Channels, Routed};
use corelay::shard::settings::{ClientRules, Settings};
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use corelay::wire::format::Format;
use corelay::wire::phoenix::Serializer;
use criterion::{Criterion, criterion_group, criterion_main};
use store::StoreModel;

const MEMBERS: usize = 1_000;

/// 100 bytes.
const PUSH: &str =
    r#"["3","4711","room:lobby","new_message",{"body":"Shall we meet at the old mill, or by the gate? :)"}]"#;

fn scan_and_route(criterion: &mut Criterion) {
    assert_eq!(PUSH.len(), 100);
    let mut channels = Channels::new(Serializer::V2, "ann".into(), "Ann".into(), None);
    let join = Serializer::V2.decode_text(r#"["3","3","room:lobby","phx_join",{}]"#).expect("a message");
    let topic = Arc::new(Topic::parse("room:lobby").expect("a topic"));
    let number = channels.begin_join(topic, Format::V2, &join.join_ref, &join.reference).number;
    channels.find(number).expect("it is joining").state = ChannelState::Joined;
    criterion.bench_function("scan and route a 100-byte push", |bencher| {
        bencher.iter(|| {
            let message = Serializer::V2.decode_text(black_box(PUSH)).expect("a message");
            assert_eq!(channels.route(&message), Routed::Push(number));
        });
    });
}

/// Members of one topic on one shard. Each sends in turn, so that nobody is over a rate.
struct Crowd {
    shard: Shard,
    store: StoreModel,
    metrics: Arc<ShardMetrics>,
    conns: Vec<ConnId>,
    now: Now,
    next: usize,
}

impl Crowd {
    fn new(path: &str, join: &[u8]) -> Self {
        let clients = ClientRules { presence_list_max: 0, ..ClientRules::default() };
        let settings = Settings { clients, ..Settings::default() };
        let metrics: Arc<ShardMetrics> = Arc::default();
        let mut shard = Shard::new(ShardId(0), Arc::new(settings), metrics.clone(), [7; 32]);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let conns = (0..MEMBERS).map(|_| {
            let conn = shard.handle_accepted(Admission::Admitted, now).expect("the table has room");
            shard.handle_received(conn, &mut request.clone().into_bytes(), now);
            if !join.is_empty() {
                shard.handle_received(conn, &mut join.to_vec(), now);
            }
            conn
        });
        let conns = conns.collect();
        let mut crowd = Self { shard, store: StoreModel::default(), metrics, conns, now, next: 0 };
        crowd.send();
        crowd
    }

    /// The next member sends `frame`, and the kernel takes what comes of it.
    fn say(&mut self, frame: &[u8]) -> usize {
        self.now.instant = self.now.instant + Duration::from_millis(10);
        self.now.unix_us += 10_000;
        self.shard.handle_received(self.conns[self.next], &mut frame.to_vec(), self.now);
        self.next = (self.next + 1) % MEMBERS;
        self.send()
    }

    fn send(&mut self) -> usize {
        let mut sends = 0;
        while let Some(output) = self.shard.poll_output() {
            if let Output::Forward { message, .. } = output {
                let answer = self.store.reply(message);
                self.shard.handle_peer(Party::Store, answer, self.now);
            } else if let Output::Send { conn, frames } = output {
                drop(black_box(frames));
                self.shard.handle_sent(conn, self.now);
                sends += 1;
            }
        }
        sends
    }
}

/// A masked frame with an all-zero mask.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("to 1,000 members");

    // Kind Event, scope 1: everyone and the sender; as many bytes of payload as the message below has of text.
    let event = frame(2, &[&[6, 1, 0, 7, 0, 0, 0, 0][..], &[b'x'; 46]].concat());
    let mut game = Crowd::new("/play/arena", b"");
    assert_eq!(game.say(&event), MEMBERS);
    group.bench_function("native event", |bencher| bencher.iter(|| game.say(&event)));

    let join = frame(1, br#"["3","3","room:lobby","phx_join",{}]"#);
    let message = frame(1, PUSH.as_bytes());
    let mut room = Crowd::new("/socket/websocket?vsn=2.0.0", &join);
    assert_eq!(room.say(&message), MEMBERS);
    let encoded = room.metrics.broadcasts_encoded.value();
    group.bench_function("room message", |bencher| bencher.iter(|| room.say(&message)));
    assert!(room.metrics.broadcasts_encoded.value() > encoded);
    assert_eq!(
        room.metrics.broadcasts_out.value(),
        room.metrics.broadcasts_encoded.value() * MEMBERS as u64,
        "a message is encoded once, whatever the number of members"
    );
    group.finish();
}

criterion_group!(benches, scan_and_route, fan_out);
criterion_main!(benches);
