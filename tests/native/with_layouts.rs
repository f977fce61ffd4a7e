//! Games whose states are not just `x, y`: three axes, numbers on a grid, poses, values under keys; and which input a frame has in it.

use std::time::Duration;

use crate::layouts::{AckSeen, LayoutSeen, RichView, Shape, host_step, put_object_at, step};
use crate::world::World;
use crate::world::client::{ClientId, move_to, ping, set_state, take_payload};
use crate::world::tokens::{SECRET, signed, with_tokens};
use corelay::limits::KEYS_REMEMBERED_TICKS;
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use corelay::wire::layout::{Bounds, Layout, Number};

const BOUNDS: Bounds = Bounds { min: [-512.0, -512.0, 0.0], max: [512.0, 512.0, 64.0] };
const RICH: Layout = Layout { number: Number::F32, axes: 3, pose_bytes: 4, keys: 8, key_bytes_max: 32 };
const GRID: Layout = Layout { number: Number::U16, ..RICH };
/// Of what a step of the grid may be off.
const GRID_STEP: f32 = 1024.0 / 65_535.0;

fn rules(layout: Layout) -> GameRules {
    GameRules { layout, bounds: BOUNDS, ..GameRules::default() }
}

fn shape(layout: &Layout) -> Shape {
    let (axes, pose) = (layout.axes.into(), layout.pose_bytes.into());
    Shape { u16: layout.number == Number::U16, axes, pose, min: BOUNDS.min, max: BOUNDS.max }
}

/// A game of one layout, and its players' views.
struct Played {
    world: World,
    shape: Shape,
}

impl Played {
    fn new(rules: GameRules) -> Self {
        let shape = shape(&rules.layout);
        Self { world: World::new(Settings { games: vec![rules], ..Settings::default() }), shape }
    }

    fn join(&mut self, query: &str) -> (ClientId, RichView) {
        let client = self.world.request(&format!("/play/arena?layout=1&{query}"));
        let (status, head) = self.world.client(client).response();
        assert_eq!(status, 101, "{head}");
        let mut view = RichView::default();
        self.read(client, &mut view);
        (client, view)
    }

    fn read(&mut self, client: ClientId, view: &mut RichView) {
        while let Some((first, payload)) = take_payload(&mut self.world.client(client).inbox) {
            match first {
                0x82 => view.apply(&self.shape, &payload),
                // Silence is asked about.
                0x89 => {}
                other => panic!("a frame that begins with {other:#x}: {payload:?}"),
            }
        }
    }

    /// Lets the next ticks come.
    fn ticks(&mut self, client: ClientId, view: &mut RichView) {
        self.world.advance_ms(120);
        self.read(client, view);
    }
}

#[test]
fn places_of_three_axes_and_poses_arrive_as_they_were_sent() {
    let mut game = Played::new(rules(RICH));
    let (ann, ann_view) = game.join("name=Ann");
    assert_eq!(ann_view.kinds, [0x81, 0x8B, 0x86, 0x82, 0x8E], "the Layout is right behind the Welcome");
    let (bob, mut view) = game.join("name=Bob");
    game.world.send(ann, &step(1, &[1.5, -2.0, 8.25], &[1, 2, 3, 4]));
    game.world.send(ann, &step(2, &[2.5, -2.0, 8.25], &[5, 6, 7, 8]));
    game.world.send(ann, &put_object_at(9, 2, &[0.0, 1.0, 64.0]));
    game.ticks(bob, &mut view);
    assert_eq!(view.players[&1], (vec![2.5, -2.0, 8.25], vec![5, 6, 7, 8]), "the pose belongs to its place");
    assert_eq!(view.objects[&9], (2, 0, vec![0.0, 1.0, 64.0]));
    let (_, newcomer) = game.join("name=Cid");
    assert_eq!((&newcomer.players, &newcomer.objects), (&view.players, &view.objects));
    let seen = LayoutSeen {
        number: 0,
        axes: 3,
        pose_bytes: 4,
        keys: 8,
        key_bytes_max: 32,
        min_z: 0.0,
        max_z: 64.0,
        players: 3,
        ..newcomer.layout.expect("it asked")
    };
    assert_eq!(newcomer.layout, Some(seen));
}

#[test]
fn numbers_on_the_grid_are_half_as_long_and_what_is_checked_is_exact() {
    let mut game = Played::new(rules(Layout { pose_bytes: 0, axes: 2, keys: 0, ..GRID }));
    game.shape = shape(&Layout { pose_bytes: 0, axes: 2, ..GRID });
    let (ann, mut own) = game.join("name=Ann");
    let (bob, mut view) = game.join("name=Bob");
    game.world.send(ann, &move_to(1, 100.25, -511.9));
    game.ticks(bob, &mut view);
    let (place, _) = &view.players[&0];
    assert!((place[0] - 100.25).abs() <= GRID_STEP && (place[1] + 511.9).abs() <= GRID_STEP, "{place:?}");
    game.world.send(ann, &move_to(2, 600.0, 0.0));
    game.read(ann, &mut own);
    assert_eq!(own.corrections, [(1, 2, vec![100.25, -511.9])], "as it was sent");
    game.world.send(ann, &move_to(3, 512.0, -512.0));
    game.ticks(bob, &mut view);
    assert_eq!(view.players[&0].0, [512.0, -512.0], "the corners are on the grid");
    let bytes = game.world.count(|metrics| metrics.deltas.value());
    assert!(bytes > 0);
}

#[test]
fn a_seat_is_given_anew_only_when_all_have_been_told_that_it_is_free() {
    let mut game = Played::new(GameRules { seat_hold: Duration::ZERO, ..rules(GRID) });
    let (ann, _) = game.join("name=Ann");
    let (bob, mut view) = game.join("name=Bob");
    game.world.send(ann, &step(1, &[1.0, 1.0, 1.0], &[9; 4]));
    game.ticks(bob, &mut view);
    assert!(view.players.contains_key(&0));
    game.world.hang_up(ann);
    let (cid, cid_view) = game.join("name=Cid");
    assert_eq!(cid_view.welcome.0, 3, "within the tick it is not taken");
    game.world.send(cid, &step(1, &[2.0, 2.0, 2.0], &[7; 4]));
    game.ticks(bob, &mut view);
    assert_eq!(view.players.keys().collect::<Vec<_>>(), [&2]);
    let (dan, dan_view) = game.join("name=Dan");
    assert_eq!(dan_view.welcome.0, 0x1_0001, "and then it is");
    game.world.send(dan, &step(1, &[3.0, 3.0, 3.0], &[1; 4]));
    game.ticks(bob, &mut view);
    assert_eq!(view.players[&0].1, [1; 4]);
}

#[test]
fn steps_are_checked_in_all_axes() {
    let mut game = Played::new(GameRules { max_speed: 10.0, ..rules(RICH) });
    let (ann, mut view) = game.join("name=Ann");
    game.world.send(ann, &step(1, &[0.0, 0.0, 99.0], &[0; 4]));
    game.world.send(ann, &step(2, &[0.0, 0.0, 0.0], &[0; 4]));
    game.world.send(ann, &step(3, &[0.0, 0.0, -0.5], &[0; 4]));
    game.world.send(ann, &step(4, &[0.0, 0.0, 50.0], &[0; 4]));
    game.read(ann, &mut view);
    let corrections = [(1, 1, vec![0.0, 0.0, 64.0]), (1, 3, vec![0.0; 3]), (2, 4, vec![0.0; 3])];
    assert_eq!(view.corrections, corrections);
    game.world.send(ann, &put_object_at(1, 1, &[0.0, 0.0, 65.0]));
    game.read(ann, &mut view);
    assert_eq!(view.errors, ["[0.0, 0.0, 65.0] is outside the game's bounds"]);
}

#[test]
fn what_does_not_fit_the_layout_is_named() {
    let mut game = Played::new(rules(RICH));
    let (ann, mut view) = game.join("name=Ann");
    for (record, says) in [
        (move_to(1, 0.0, 0.0), "send a Step (0x09)"),
        (step(1, &[0.0; 2], &[]), "Step is 20 bytes long, not 12"),
        (step(1, &[0.0; 3], &[0; 33]), "Step is 20 bytes long, not 49"),
        (step(1, &[0.0, 0.0, f32::NAN], &[0; 4]), "not a finite number"),
        (set_state(0, b"x"), "a key of this game is 1 to 8, not 0"),
        (set_state(200, b"x"), "not 200"),
        (set_state(1, &[0; 33]), "a value of at most 32"),
    ] {
        game.world.send(ann, &record);
        game.read(ann, &mut view);
        let error = view.errors.pop().expect("an error");
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(game.world.count(|metrics| metrics.moves.value()), 0);
}

#[test]
fn whoever_does_not_know_layouts_is_told_what_to_ask_for() {
    for layout in [RICH, Layout { keys: 1, ..Layout::PLAIN }, Layout { pose_bytes: 1, ..Layout::PLAIN }] {
        let mut game = Played::new(rules(layout));
        let client = game.world.request("/play/arena?name=Ann");
        let (status, text) = game.world.client(client).response();
        assert!(status == 400 && text.contains("ask with ?layout=1"), "{status} {text}");
    }
    let mut game = Played::new(rules(RICH));
    for (query, says) in [("layout=2", "`layout` must be 1"), ("ack=yes", "`ack` must be 1")] {
        let client = game.world.request(&format!("/play/arena?{query}"));
        let (status, text) = game.world.client(client).response();
        assert!(status == 400 && text.contains(says), "{status} {text}");
    }
    // The plain layout is told to who asks, and nobody has to.
    let mut plain = Played::new(GameRules::default());
    plain.shape = shape(&Layout::PLAIN);
    let (_, view) = plain.join("name=Ann");
    assert_eq!(view.kinds, [0x81, 0x8B, 0x86, 0x82]);
}

#[test]
fn values_are_told_when_they_change_and_to_whoever_comes() {
    let mut game = Played::new(GameRules { seat_hold: Duration::ZERO, ..rules(RICH) });
    let (ann, mut own) = game.join("name=Ann");
    let (bob, mut view) = game.join("name=Bob");
    assert!(view.kinds.ends_with(&[0x8E]), "a newcomer forgets what it knew");
    game.world.send(ann, &set_state(1, b"red"));
    game.world.send(ann, &set_state(2, b"team-7"));
    game.world.send(ann, &set_state(1, b"blue"));
    game.ticks(bob, &mut view);
    game.read(ann, &mut own);
    assert_eq!(view.values, [((1, 1), b"blue".to_vec()), ((1, 2), b"team-7".to_vec())].into());
    assert_eq!(own.values, view.values);
    assert!(view.kinds.ends_with(&[0x83, 0x8E]), "right behind the Delta");
    let told = view.kinds.len();
    game.world.send(ann, &set_state(1, b"blue"));
    game.ticks(bob, &mut view);
    assert_eq!(view.kinds.len(), told, "it is what it was");
    game.world.send(ann, &set_state(2, b""));
    let (_, newcomer) = game.join("name=Cid");
    assert_eq!(newcomer.values, [((1, 1), b"blue".to_vec())].into());
    game.ticks(bob, &mut view);
    assert_eq!(view.values, newcomer.values);
    game.world.hang_up(ann);
    game.ticks(bob, &mut view);
    assert!(view.values.is_empty(), "they go with their player");
}

#[test]
fn whoever_missed_frames_is_told_what_it_missed_or_everything() {
    for (missed_ticks, is_whole) in [(10, false), (u64::from(KEYS_REMEMBERED_TICKS) + 40, true)] {
        let mut game = Played::new(rules(RICH));
        let (ann, _) = game.join("name=Ann");
        let (bob, mut view) = game.join("name=Bob");
        for key in 1..=4 {
            game.world.send(ann, &set_state(key, b"old"));
        }
        game.ticks(bob, &mut view);
        game.world.set_reading(bob, false);
        for tick in 0..missed_ticks {
            game.world.send(ann, &step(1, &[tick as f32, 0.0, 0.0], &[0; 4]));
            if tick == 5 {
                game.world.send(ann, &set_state(1, b"new"));
                game.world.send(ann, &set_state(2, b""));
            }
            game.world.advance_ms(50);
        }
        game.world.set_reading(bob, true);
        view.kinds.clear();
        let before = view.values.clone();
        game.ticks(bob, &mut view);
        let expected = [((1, 1), b"new".to_vec()), ((1, 3), b"old".to_vec()), ((1, 4), b"old".to_vec())];
        assert_eq!(view.values, expected.into(), "after {missed_ticks} ticks, from {before:?}");
        assert!(view.kinds.windows(2).any(|kinds| kinds == [0x82, 0x8E]), "{:?}", view.kinds);
        let whole = game.world.count(|metrics| metrics.keyframes.value());
        assert!(whole > 0 && is_whole == (missed_ticks > u64::from(KEYS_REMEMBERED_TICKS)));
    }
}

#[test]
fn an_ack_says_which_input_the_frame_has_in_it_and_how_early_it_came() {
    let mut game = Played::new(rules(RICH));
    let (ann, mut own) = game.join("name=Ann&ack=1");
    let (bob, mut view) = game.join("name=Bob");
    game.ticks(ann, &mut own);
    let next_tick = own.welcome.1 + 1;
    own.kinds.clear();
    game.world.send(ann, &step(6, &[0.0; 3], &[0; 4]));
    game.world.advance_ms(3);
    game.world.send(ann, &step(7, &[1.0, 0.0, 0.0], &[0; 4]));
    game.ticks(ann, &mut own);
    game.read(bob, &mut view);
    let [AckSeen { input_seq: 7, tick, slack }] = own.acks[..] else { panic!("{:?}", own.acks) };
    assert!(tick >= next_tick && slack <= 500, "tick {tick}, {slack} × 0.1 ms");
    assert_eq!(own.kinds, [0x8C, 0x83], "in front of the frame, in the same send");
    assert!(view.acks.is_empty(), "it is Ann's own");
    // What is refused was used as well.
    own.acks.clear();
    game.world.send(ann, &step(8, &[0.0, 0.0, 99.0], &[0; 4]));
    game.ticks(ann, &mut own);
    assert!(matches!(own.acks[..], [AckSeen { input_seq: 8, .. }]), "{:?}", own.acks);
    // Of a client that does not read the latest waits, and needs nothing else to be told it.
    own.acks.clear();
    game.world.set_reading(ann, false);
    for input in 10..40 {
        game.world.send(ann, &step(input, &[f32::from(input), 0.0, 0.0], &[0; 4]));
        game.world.advance_ms(50);
    }
    game.world.set_reading(ann, true);
    game.ticks(ann, &mut own);
    assert_eq!(own.acks.last().map(|ack| ack.input_seq), Some(39));
    assert!(own.acks.len() <= 3, "{:?}", own.acks);
    // It says which tick that was, however late it is told.
    own.acks.clear();
    game.world.set_reading(ann, false);
    let tick0_us = own.layout.expect("it asked").tick0_us;
    let tick = ((game.world.now.unix_us - tick0_us) * 20 / 1_000_000) as u32 + 2;
    for _ in 0..2 {
        game.world.send(ann, &step(41, &[5.0, 0.0, 0.0], &[0; 4]));
        game.world.advance_ms(50);
    }
    game.world.advance_ms(500);
    game.world.set_reading(ann, true);
    game.ticks(ann, &mut own);
    let last = own.acks.last().expect("it waited");
    assert!(last.input_seq == 41 && last.tick <= tick && last.slack <= 500, "{last:?}, now {tick}");
}

#[test]
fn a_host_acknowledges_what_it_has_used() {
    let rules = rules(RICH);
    let shape = shape(&rules.layout);
    let settings = Settings { games: vec![rules], ..with_tokens() };
    let mut game = Played { world: World::new(settings), shape };
    let token = |is_host| signed(SECRET, "ann", &["game:*"], |claims| claims.host = is_host);
    let (ann, mut own) = game.join(&format!("ack=1&token={}", token(false)));
    // The tick has a Roster for Ann as well, which waits in front of the Ack.
    let (host, mut view) = game.join(&format!("token={}", token(true)));
    game.world.send(host, &host_step(own.welcome.0, 77, &[3.0, 4.0, 5.0], &[1; 4]));
    game.ticks(ann, &mut own);
    game.read(host, &mut view);
    assert_eq!(view.players[&own.welcome.0], (vec![3.0, 4.0, 5.0], vec![1; 4]));
    assert!(matches!(own.acks[..], [AckSeen { input_seq: 77, slack: 0xFFFF, .. }]), "{:?}", own.acks);
}

#[test]
fn ticks_have_times_that_a_set_clock_does_not_move() {
    let mut game = Played::new(rules(RICH));
    let (ann, view) = game.join("name=Ann");
    let (_, tick, server_time_us) = view.welcome;
    let tick0_us = view.layout.expect("it asked").tick0_us;
    let now_tick = (server_time_us - tick0_us) * 20 / 1_000_000;
    assert_eq!(u64::from(tick), now_tick);
    // The wall clock is set back by an hour.
    game.world.now.unix_us -= 3_600_000_000;
    game.world.advance_ms(1_000);
    game.world.client(ann).inbox.clear();
    game.world.send(ann, &ping(1, 2));
    let (_, pong) = take_payload(&mut game.world.client(ann).inbox).expect("a Pong");
    let time = u64::from_be_bytes(pong[16..24].try_into().expect("8 bytes"));
    assert_eq!(time, server_time_us + 1_000_000);
    let (_, later) = game.join("name=Bob");
    assert_eq!(later.layout.map(|layout| layout.tick0_us), Some(tick0_us));
}
