//! What views are for: that frames are a small fraction of what they would be without, and stay bounded whatever players do.

use std::collections::BTreeMap;

use corelay::room::interest::{Changes, Interest, Selection, ViewRules};
use corelay::time::Instant;

use super::random::Random;

/// Cells of 8 players, as many as there are.
const PLAYERS: usize = 1_000;
const SIDE: usize = 11;
const CELL: f32 = 20.0;

/// Positions and objects per frame, and frames encoded per tick, when all move at once for `ticks` ticks.
struct Figures {
    per_frame: f64,
    encoded: f64,
    largest: usize,
}

fn figures(rules: &ViewRules, ticks: u64, mut place: impl FnMut(usize, u64) -> (f32, f32)) -> Figures {
    let length = SIDE as f32 * CELL;
    let mut interest = Interest::new(rules, [0.0, 0.0, length, length]);
    (0..PLAYERS as u16).for_each(|slot| interest.look(slot, None));
    let mut before = BTreeMap::new();
    let mut selection = Selection::default();
    let (mut told, mut encoded, mut largest) = (0, 0, 0);
    for tick in 0..ticks {
        let moved: Vec<_> = (0..PLAYERS).map(|slot| (slot as u32 + 1, place(slot, tick))).collect();
        interest.advance(
            Instant::from_micros(1_000_000 + tick * 50_000),
            Changes {
                gone_players: [],
                moved: moved.into_iter().map(|(player, (x, y))| (player, x, y)),
                gone_objects: [],
                objects: [],
            },
        );
        let mut frames = BTreeMap::new();
        for slot in 0..PLAYERS as u16 {
            let (key, id) = interest.view_of(slot).expect("everybody has a position");
            let is_delta = before.insert(slot, id) == Some(id);
            let length = *frames.entry((id, is_delta)).or_insert_with(|| {
                match is_delta {
                    true => interest.select_delta(Some(key), &mut selection),
                    false => interest.select_keyframe(Some(key), &mut selection),
                }
                selection.players.len() + selection.gone_players.len()
            });
            told += length;
            largest = largest.max(length);
        }
        encoded += frames.len();
    }
    let frames = ticks as f64 * PLAYERS as f64;
    Figures { per_frame: told as f64 / frames, encoded: encoded as f64 / ticks as f64, largest }
}

/// Everybody walks straight and turns at the border, at 5 units a second.
fn walks() -> impl FnMut(usize, u64) -> (f32, f32) {
    let mut random = Random::new(1);
    let length = SIDE * CELL as usize;
    let begins: Vec<(f32, f32, f32)> = (0..PLAYERS)
        .map(|_| (random.below(length) as f32, random.below(length) as f32, random.below(628) as f32 / 100.0))
        .collect();
    move |slot, tick| {
        let (x, y, angle) = begins[slot];
        let far = tick as f32 * 0.25;
        let turned = |place: f32| (place.rem_euclid(2.0 * length as f32) - length as f32).abs();
        (turned(x + far * angle.cos()), turned(y + far * angle.sin()))
    }
}

#[test]
fn a_frame_holds_a_small_part_of_a_large_game() {
    let figures = figures(&ViewRules::new(CELL), 120, walks());
    println!("{:.1} positions of 1,000, {:.0} frames encoded a tick", figures.per_frame, figures.encoded);
    assert!(figures.per_frame < 100.0, "{}", figures.per_frame);
    assert!(figures.encoded < 200.0, "{}", figures.encoded);
}

#[test]
fn a_crowd_in_one_cell_stays_within_the_budget() {
    let mut walks = walks();
    let in_crowd = move |slot: usize, tick: u64| {
        let (x, y) = walks(slot, tick);
        if slot.is_multiple_of(2) { (100.0 + x % CELL, 100.0 + y % CELL) } else { (x, y) }
    };
    let figures = figures(&ViewRules::new(CELL), 120, in_crowd);
    println!("{:.1} positions of 1,000, {:.0} frames encoded a tick", figures.per_frame, figures.encoded);
    assert!(figures.per_frame < 140.0, "{}", figures.per_frame);
}

#[test]
fn whatever_teleports_a_frame_holds_its_view_only() {
    let mut random = Random::new(3);
    let length = SIDE * CELL as usize;
    let figures =
        figures(&ViewRules::new(CELL), 60, |_, _| (random.below(length) as f32, random.below(length) as f32));
    println!("{:.1} positions of 1,000, at most {}", figures.per_frame, figures.largest);
    assert!(figures.largest < 600, "a view has 25 of 121 cells: those in it, and those that left it");
}

#[test]
fn a_player_that_oscillates_over_an_edge_crosses_nothing() {
    let mut interest = Interest::new(&ViewRules::new(CELL), [0.0, 0.0, 220.0, 220.0]);
    interest.look(0, None);
    let mut views = Vec::new();
    for tick in 0..100 {
        let x = if tick % 2 == 0 { 102.0 } else { 98.0 };
        let now = Instant::from_micros(1_000_000 + tick * 50_000);
        interest
            .advance(now, Changes { gone_players: [], moved: [(1, x, 50.0)], gone_objects: [], objects: [] });
        views.extend(interest.view_of(0));
    }
    views.dedup();
    assert_eq!(views.len(), 1);
}

/// Each tick all of `players` have moved within one point.
fn in_one_point(interest: &mut Interest, players: u16, ticks: std::ops::Range<u64>) {
    for tick in ticks {
        let moved = (1..=u32::from(players)).map(|player| (player, 30.0, 30.0));
        let now = Instant::from_micros(1_000_000 + tick * 50_000);
        interest.advance(now, Changes { gone_players: [], moved, gone_objects: [], objects: [] });
    }
}

#[test]
fn of_ten_thousand_in_one_point_each_is_told_once_in_sixteen_ticks() {
    let players = 10_000;
    let mut interest = Interest::new(&ViewRules::new(CELL), [0.0, 0.0, 220.0, 220.0]);
    (0..players).for_each(|slot| interest.look(slot, None));
    in_one_point(&mut interest, players, 0..40);
    let (key, _) = interest.view_of(0).expect("it has a position");
    let mut times = vec![0; usize::from(players)];
    let mut selection = Selection::default();
    for tick in 40..56 {
        in_one_point(&mut interest, players, tick..tick + 1);
        interest.select_delta(Some(key), &mut selection);
        assert_eq!((selection.players.len(), selection.level), (625, 4));
        selection.players.iter().for_each(|player| times[*player as usize - 1] += 1);
    }
    assert!(times.iter().all(|times| *times == 1));
    assert_eq!(interest.view_count(), 1);
}

#[test]
fn a_tick_in_which_nobody_crosses_allocates_nothing() {
    let players = 1_000;
    let mut interest = Interest::new(&ViewRules::new(CELL), [0.0, 0.0, 220.0, 220.0]);
    (0..players).for_each(|slot| interest.look(slot, None));
    in_one_point(&mut interest, players, 0..40);
    let (key, _) = interest.view_of(0).expect("it has a position");
    let mut selection = Selection::default();
    interest.select_keyframe(Some(key), &mut selection);
    let tick = allocation_counter::measure(|| {
        in_one_point(&mut interest, players, 40..60);
        interest.select_delta(Some(key), &mut selection);
        assert!(interest.heap_bytes() > 0 && interest.viewers_of(1).count() == usize::from(players));
    });
    assert_eq!(tick.count_total, 0);
}

#[test]
fn its_memory_is_what_the_allocator_says() {
    let mut walks = walks();
    let mut interest = None;
    let made = allocation_counter::measure(|| {
        let mut made = Interest::new(&ViewRules::new(CELL), [0.0, 0.0, 220.0, 220.0]);
        for slot in 0..PLAYERS {
            made.look(slot as u16, None);
        }
        for tick in 0..40 {
            let place = |slot| (slot as u32 + 1, walks(slot, tick));
            let moved = (0..PLAYERS).map(place).map(|(player, (x, y))| (player, x, y));
            let now = Instant::from_micros(1_000_000 + tick * 50_000);
            made.advance(now, Changes { gone_players: [], moved, gone_objects: [], objects: [] });
        }
        interest = Some(made);
    });
    let counted = interest.expect("it was made").heap_bytes();
    println!("{counted} bytes, {} by the allocator", made.bytes_current);
    assert!((counted as i64 - made.bytes_current).abs() * 20 < made.bytes_current, "within 5 %");
}
