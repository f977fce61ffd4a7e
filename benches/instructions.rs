//! The core's hot paths in instructions, which do not vary with what else the machine does. Needs valgrind, and
//! `gungraun-runner` of the same version as the `gungraun` package.
#![allow(missing_docs, reason = "the macros make undocumented functions")]

mod fixtures;

use std::hint::black_box;

use corelay::room::game::Game;
use corelay::wire::encoded::{Encoded, FramePool};
use fixtures::{MOVE, OnePlayer, game_of};
use gungraun::prelude::*;

#[library_benchmark]
#[bench::of_a_joined_player(OnePlayer::joined())]
fn decode_and_apply_a_move(mut player: OnePlayer) -> OnePlayer {
    player.moves(black_box(&mut MOVE.clone()));
    player
}

/// A game, and a pool that has encoded its frames before.
fn ticking(players: u32) -> (Game, FramePool) {
    let game = game_of(players);
    let mut pool = FramePool::default();
    for _ in 0..10 {
        drop(game.encode_keyframe(1, &mut pool));
        drop(game.encode_delta(1, &mut pool));
    }
    (game, pool)
}

#[library_benchmark]
#[benches::of_players(args = [10, 100, 1_000], setup = ticking)]
fn encode_a_keyframe((game, mut pool): (Game, FramePool)) -> (Encoded, Game, FramePool) {
    (game.encode_keyframe(black_box(7), &mut pool), game, pool)
}

#[library_benchmark]
#[benches::of_players(args = [10, 100, 1_000], setup = ticking)]
fn encode_a_delta((game, mut pool): (Game, FramePool)) -> (Encoded, Game, FramePool) {
    (game.encode_delta(black_box(7), &mut pool), game, pool)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [decode_and_apply_a_move, encode_a_keyframe, encode_a_delta]
);
main!(library_benchmark_groups = hot_paths);
