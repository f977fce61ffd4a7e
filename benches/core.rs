//! The core without a kernel: a Move from its bytes to the game, the frames of a tick, and their fan-out.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, ResumeToken, ShardId, TopicName};
use corelay::room::game::{Game, GameRules, Moved};
use corelay::room::seats::{Newcomer, SeatIndex};
use corelay::session::outbox::Outbox;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use corelay::wire::encoded::FramePool;
use corelay::wire::native::{Move, kind};
use criterion::{Criterion, criterion_group, criterion_main};

const REQUEST: &[u8] =
    b"GET /play/arena HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked Move.
const MOVE: [u8; 18] = [0x82, 0x8C, 9, 8, 7, 6, 8, 8, 7, 7, 0x36, 0x88, 7, 6, 0x49, 8, 7, 6];

fn start() -> Now {
    Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 }
}

/// A Move's whole way through a shard: frame header, unmask, decode, byte budget, rate limit, bounds, array element.
fn decode_and_apply_a_move(criterion: &mut Criterion) {
    let mut now = start();
    let mut shard = Shard::new(ShardId(0), Arc::new(Settings::default()), Arc::default(), [7; 32]);
    let conn = shard.handle_accepted(Admission::Admitted, now).expect("the table has room");
    shard.handle_received(conn, &mut REQUEST.to_vec(), now);
    while let Some(output) = shard.poll_output() {
        if let Output::Send { conn, .. } = output {
            shard.handle_sent(conn, now);
        }
    }
    criterion.bench_function("decode and apply a Move", |bencher| {
        bencher.iter(|| {
            // At its rate limit, so that none is dropped.
            now.instant = now.instant + Duration::from_millis(17);
            let mut bytes = MOVE;
            shard.handle_received(conn, black_box(&mut bytes), now);
        });
    });
}

fn game_of(players: u32) -> Game {
    let name = TopicName::parse("arena").expect("a good name");
    let rules = GameRules { players_max: 20_000, ..GameRules::default() };
    let mut game = Game::new(name, rules, 1, 0.0, start().instant);
    for player in 0..players {
        let newcomer = Newcomer {
            conn: ConnId { slot: player, generation: 0 },
            user: "guest",
            name: "Guest",
            resume_token: ResumeToken([0; 16]),
        };
        let _ = game.join(&newcomer);
    }
    everybody_moves(&mut game, players);
    game
}

fn everybody_moves(game: &mut Game, players: u32) {
    let record = Move { kind: kind::MOVE, x: 1.5.into(), y: 2.5.into(), ..Move::default() };
    for seat in 0..players {
        assert_eq!(game.move_player(SeatIndex(seat), &record, start().instant), Moved::Applied);
    }
}

fn encode_frames(criterion: &mut Criterion) {
    for players in [10, 100, 1_000] {
        let game = game_of(players);
        let mut pool = FramePool::default();
        criterion.bench_function(&format!("Keyframe of {players} players"), |bencher| {
            bencher.iter(|| game.encode_keyframe(black_box(7), &mut pool));
        });
        criterion.bench_function(&format!("Delta of {players} players"), |bencher| {
            bencher.iter(|| game.encode_delta(black_box(7), &mut pool));
        });
    }
}

/// One frame to 1,000 outboxes, taken by the kernel and done: what a tick costs beyond its encoding.
fn fan_out(criterion: &mut Criterion) {
    let game = game_of(50);
    let frame = game.encode_delta(1, &mut FramePool::default());
    let mut outboxes: Vec<Outbox> = (0..1_000).map(|_| Outbox::default()).collect();
    criterion.bench_function("fan-out of one frame to 1,000 outboxes", |bencher| {
        bencher.iter(|| {
            for outbox in &mut outboxes {
                let _ = black_box(outbox.wanted());
                outbox.put_state(frame.clone());
            }
            for outbox in &mut outboxes {
                drop(black_box(outbox.take()));
                outbox.sent();
            }
        });
    });
}

criterion_group!(benches, decode_and_apply_a_move, encode_frames, fan_out);
criterion_main!(benches);
