//! The core without a kernel: a Move from its bytes to the game, the frames of a tick, and their fan-out.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

mod fixtures;

use std::hint::black_box;

use corelay::room::player_keys::Told;
use corelay::session::outbox::Outbox;
use corelay::wire::encoded::FramePool;
use criterion::{Criterion, criterion_group, criterion_main};
use fixtures::{MOVE, OnePlayer, crowded_shard, game_of};

fn decode_and_apply_a_move(criterion: &mut Criterion) {
    let mut player = OnePlayer::joined();
    criterion.bench_function("decode and apply a Move", |bencher| {
        bencher.iter(|| player.moves(black_box(&mut MOVE.clone())));
    });
}

fn encode_frames(criterion: &mut Criterion) {
    for players in [10, 100, 1_000] {
        let game = game_of(players);
        let mut pool = FramePool::default();
        criterion.bench_function(&format!("Keyframe of {players} players"), |bencher| {
            bencher.iter(|| game.encode_keyframe(black_box(7), Told::Whole, &mut pool));
        });
        criterion.bench_function(&format!("Delta of {players} players"), |bencher| {
            bencher.iter(|| game.encode_delta(black_box(7), &mut pool));
        });
    }
}

/// One frame to 1,000 outboxes, taken by the kernel and done: what a tick costs beyond its encoding.
fn fan_out(criterion: &mut Criterion) {
    let frame = game_of(50).encode_delta(1, &mut FramePool::default());
    let mut outboxes: Vec<Outbox> = (0..1_000).map(|_| Outbox::default()).collect();
    criterion.bench_function("fan-out of one frame to 1,000 outboxes", |bencher| {
        bencher.iter(|| {
            for outbox in &mut outboxes {
                let _ = black_box(outbox.wanted());
                outbox.put_state(frame.clone());
            }
            for outbox in &mut outboxes {
                drop(black_box(outbox.take(None)));
                outbox.sent();
            }
        });
    });
}

/// What `/metrics` shows every 10 s is a walk over everything. More than the caches hold: it comes from memory.
fn count_memory(criterion: &mut Criterion) {
    for (players, members) in [(100_000, 0), (0, 20_000)] {
        let shard = crowded_shard(players, members);
        criterion.bench_function(
            &format!("memory of {players} idle players and {members} members of rooms"),
            |bencher| bencher.iter(|| black_box(shard.memory())),
        );
    }
}

criterion_group!(benches, decode_and_apply_a_move, encode_frames, fan_out, count_memory);
criterion_main!(benches);
