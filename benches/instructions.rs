//! The core's hot paths in instructions, which do not vary with what else the machine does. Each has a ceiling: above it the
//! bench fails. Needs valgrind, and `gungraun-runner` of the same version as the `gungraun` package (`scripts/tools`).
#![allow(missing_docs, reason = "the macros make undocumented functions")]

mod fixtures;

use std::hint::black_box;

use corelay::room::game::Game;
use corelay::room::player_keys::Told;
use corelay::wire::encoded::{Encoded, FramePool};
use fixtures::{MOVE, OnePlayer, game_of};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};

/// A bench that fails with more instructions.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    config
}

#[library_benchmark]
#[bench::of_a_joined_player(args = (Box::new(OnePlayer::joined())), config = at_most(830))]
fn decode_and_apply_a_move(mut player: Box<OnePlayer>) -> Box<OnePlayer> {
    player.moves(black_box(&mut MOVE.clone()));
    player
}

/// A game, and a pool that has encoded its frames before. Boxed, like the player: what is measured is not their moving.
fn ticking(players: u32) -> Box<(Game, FramePool)> {
    let game = game_of(players);
    let mut pool = FramePool::default();
    for _ in 0..10 {
        drop(game.encode_keyframe(1, Told::Whole, &mut pool));
        drop(game.encode_delta(1, &mut pool));
    }
    Box::new((game, pool))
}

#[library_benchmark]
#[bench::of_10_players(args = (10), setup = ticking, config = at_most(560))]
#[bench::of_100_players(args = (100), setup = ticking, config = at_most(2_200))]
#[bench::of_1000_players(args = (1_000), setup = ticking, config = at_most(18_500))]
fn encode_a_keyframe(mut ticking: Box<(Game, FramePool)>) -> (Encoded, Box<(Game, FramePool)>) {
    let (game, pool) = &mut *ticking;
    (game.encode_keyframe(black_box(7), Told::Whole, pool), ticking)
}

#[library_benchmark]
#[bench::of_10_players(args = (10), setup = ticking, config = at_most(760))]
#[bench::of_100_players(args = (100), setup = ticking, config = at_most(3_000))]
#[bench::of_1000_players(args = (1_000), setup = ticking, config = at_most(25_200))]
fn encode_a_delta(mut ticking: Box<(Game, FramePool)>) -> (Encoded, Box<(Game, FramePool)>) {
    let (game, pool) = &mut *ticking;
    (game.encode_delta(black_box(7), pool), ticking)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [decode_and_apply_a_move, encode_a_keyframe, encode_a_delta]
);
main!(library_benchmark_groups = hot_paths);
