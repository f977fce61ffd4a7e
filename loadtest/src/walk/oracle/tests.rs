//! The oracle against a relay of a few lines, which keeps the rules of views, or breaks one.

use std::collections::BTreeMap;

use corelay::wire::layout::{Bounds, Layout, Number};
use corelay::wire::native::{DeltaHeader, KeyframeHeader, LayoutRecord, Welcome, kind};
use zerocopy::IntoBytes;

use super::*;
use crate::crowd::Listener;
use crate::dialect::Event;
use crate::schedule::random;
use crate::walk::grid::{Cell, Grid, Span};
use crate::walk::sight::Sights;
use crate::walk::walker::{Paths, Walker};

const MS: u64 = 1_000_000;
const TICK_MS: u64 = 50;
const TICKS: u64 = 300;
const PLAYERS: u32 = 120;
const EVERY: u32 = 8;
const RADIUS: u8 = 2;
const BOUNDS: Bounds = Bounds { min: [-50.0, 0.0, 0.0], max: [50.0, 100.0, 0.0] };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Members are not told who has left their view.
    ForgetsWhoLeaves,
    /// A view that changes goes on with Deltas.
    NoKeyframe,
    SmallerViews,
    LargerViews,
    /// Views follow their players after seconds.
    LateViews,
    /// Who changed before the tick at which it is due is not told.
    OnlyLatestChanges,
    /// Rings are told half as often.
    SlowRings,
    /// The same, and frames say that it is a crowd: that is allowed.
    Crowd,
    /// Positions are swapped.
    WrongPlaces,
}

struct Entity {
    place: [f32; 2],
    cell: Cell,
    cell_before: Cell,
    changed_at: u64,
}

struct Relay {
    fault: Fault,
    layout: Layout,
    grid: Grid,
    entities: Vec<Entity>,
    /// By client: the cell of its view, when that changed, and whether the last frame was of it.
    views: BTreeMap<u32, (Cell, u64, bool)>,
}

impl Relay {
    fn end_tick(&mut self, tick: u64, places: &[[f32; 2]]) {
        for (entity, &place) in self.entities.iter_mut().zip(places) {
            entity.changed_at = if entity.place == place { entity.changed_at } else { tick };
            (entity.place, entity.cell_before) = (place, entity.cell);
            entity.cell = self.grid.settle(entity.cell, place);
        }
        let hold_ticks = if self.fault == Fault::LateViews { 80 } else { 5 };
        for (&client, (view, changed_at, in_sync)) in &mut self.views {
            let home = self.entities[client as usize].cell;
            if *view != home && tick >= *changed_at + hold_ticks {
                *in_sync &= self.fault == Fault::NoKeyframe;
                (*view, *changed_at) = (home, tick);
            }
        }
    }

    fn sees(&self, view: Cell, cell: Cell) -> Option<u32> {
        let radius = match self.fault {
            Fault::SmallerViews => RADIUS - 1,
            Fault::LargerViews => RADIUS + 1,
            Fault::Nothing
            | Fault::ForgetsWhoLeaves
            | Fault::NoKeyframe
            | Fault::LateViews
            | Fault::OnlyLatestChanges
            | Fault::SlowRings
            | Fault::Crowd
            | Fault::WrongPlaces => RADIUS,
        };
        let ring = Span::of(view).distance(&Span::of(cell)).farthest;
        (ring <= u32::from(radius)).then_some(ring)
    }

    /// The frame of a client; one of a hundred is skipped, but not one after the other.
    fn frame(&mut self, client: u32, tick: u64) -> Option<Vec<u8>> {
        let (view, _, in_sync) = self.views[&client];
        if in_sync && random(tick, client).is_multiple_of(100) {
            self.views.get_mut(&client)?.2 = false;
            return None;
        }
        self.views.get_mut(&client)?.2 = true;
        let (mut positions, mut gone) = (Vec::new(), Vec::new());
        for (player, entity) in self.entities.iter().enumerate() {
            let (now, before) = (self.sees(view, entity.cell), self.sees(view, entity.cell_before));
            let crosses = entity.cell != entity.cell_before;
            let due = |ring| self.is_due(player as u64, ring, entity.changed_at, tick);
            match (now, before) {
                (Some(_), _) if !in_sync || crosses => positions.push(player),
                (Some(ring), _) if due(ring) => positions.push(player),
                (None, Some(_)) if self.fault != Fault::ForgetsWhoLeaves => gone.push(player),
                _ => {}
            }
        }
        Some(self.encode(tick, in_sync, &positions, &gone))
    }

    fn is_due(&self, slot: u64, ring: u32, changed_at: u64, tick: u64) -> bool {
        let level = u32::from(matches!(self.fault, Fault::SlowRings | Fault::Crowd));
        let period = 1 << (ring.min(2) + level);
        let since = if self.fault == Fault::OnlyLatestChanges { 1 } else { period };
        (slot + tick).is_multiple_of(period) && changed_at + since > tick
    }

    fn encode(&self, tick: u64, in_sync: bool, positions: &[usize], gone: &[usize]) -> Vec<u8> {
        let level = u8::from(self.fault == Fault::Crowd);
        let (tick, position_count) = ((tick as u32).into(), (positions.len() as u32).into());
        let mut frame = if in_sync {
            let gone_players = (gone.len() as u16).into();
            let header = DeltaHeader {
                kind: kind::DELTA,
                tick,
                gone_players,
                position_count,
                ..DeltaHeader::default()
            };
            header.as_bytes().to_vec()
        } else {
            let header =
                KeyframeHeader { kind: kind::KEYFRAME, tick, position_count, ..KeyframeHeader::default() };
            header.as_bytes().to_vec()
        };
        frame[1] = level;
        let id = |player: usize| player as u32 + 1;
        for &player in positions {
            let swaps = self.fault == Fault::WrongPlaces && player == 3;
            let [x, y] = self.entities[if swaps { 4 } else { player }].place;
            let held = [&id(player).to_be_bytes()[..], &self.layout.state_at([x, y, 0.0])].concat();
            self.layout.write_position(&held, &BOUNDS, &mut frame);
        }
        if in_sync {
            gone.iter().for_each(|&player| self.layout.write_player(id(player), &mut frame));
        }
        frame
    }
}

fn sights(layout: &Layout) -> Sights {
    let mut sights = Sights::new(PLAYERS, EVERY);
    for player in 0..PLAYERS {
        let welcome = Welcome {
            kind: kind::WELCOME,
            tick_hz: 20.into(),
            player_id: (player + 1).into(),
            min_x: BOUNDS.min[0].into(),
            max_x: BOUNDS.max[0].into(),
            max_y: BOUNDS.max[1].into(),
            ..Welcome::default()
        };
        let number = u8::from(layout.number == Number::U16);
        let record = LayoutRecord {
            kind: kind::LAYOUT,
            number,
            axes: 2,
            flags: 2,
            radius: RADIUS,
            cell: 10.0.into(),
            ..LayoutRecord::default()
        };
        sights.handle_event(player, Event::Record(welcome.as_bytes()), 0);
        sights.handle_event(player, Event::Record(record.as_bytes()), 0);
    }
    sights
}

/// Moves leave 20 ms before their tick, frames arrive 10 ms behind it or are skipped, and clients are looked at just before.
fn findings(fault: Fault, number: Number) -> Findings {
    let layout = Layout { number, ..Layout::PLAIN };
    let mut sights = sights(&layout);
    let rules = Rules::new(&sights.world, 85 * MS);
    let grid = Grid::new(&BOUNDS, 10.0);
    let paths = Paths { bounds: BOUNDS, cell: 10.0, crowd: 0.2, may_leap: true, seed: 5 };
    let mut walkers: Vec<Walker> = (0..PLAYERS).map(|player| paths.walker(player)).collect();
    let mut places: Vec<_> = walkers.iter().map(Walker::place).collect();
    let mut trails = Trails::new(grid, &places, rules.memory_ns(), 0);
    let entity = |&place: &[f32; 2]| {
        let cell = grid.cell_at(place);
        Entity { place, cell, cell_before: cell, changed_at: 0 }
    };
    let entities: Vec<Entity> = places.iter().map(entity).collect();
    let clients = (0..PLAYERS).step_by(EVERY as usize);
    let views = clients.clone().map(|client| (client, (entities[client as usize].cell, 0, false)));
    let mut relay = Relay { fault, layout, grid, views: views.collect(), entities };
    let mut findings = Findings::default();
    for tick in 1..TICKS {
        let tick_ns = tick * TICK_MS * MS;
        trails.forget_old(tick_ns);
        for (player, walker) in (0..).zip(&mut walkers) {
            let place = walker.step(0.25);
            if tick == 1 || place != places[player as usize] {
                trails.handle_sent(player, place, tick_ns - 20 * MS);
            }
            places[player as usize] = place;
        }
        relay.end_tick(tick, &places);
        for client in clients.clone() {
            let (nth, now_ns) = (client / EVERY, tick_ns + 10 * MS);
            if tick > 40 && (tick + u64::from(nth)) % 3 == 0 {
                let sight = sights.nth(nth).1;
                findings.look(client, (sight, sights.as_of_ns(sight)), &trails, &rules, now_ns - 1);
            }
            if let Some(frame) = relay.frame(client, tick) {
                sights.handle_event(client, Event::Record(&frame), now_ns);
            }
        }
    }
    assert_eq!(sights.malformed, 0);
    findings
}

#[test]
fn a_relay_that_keeps_the_rules_is_right_in_both_numbers() {
    for (fault, number) in
        [(Fault::Nothing, Number::F32), (Fault::Nothing, Number::U16), (Fault::Crowd, Number::F32)]
    {
        let found = findings(fault, number);
        assert_eq!(found.faults(), 0, "{fault:?} {:#?}", found.told);
        assert!(found.inside * 3 > found.visible && found.outside > found.visible);
        assert_eq!(found.fresh, found.inside);
    }
}

#[test]
fn each_broken_rule_is_found_out() {
    let cases = [
        (Fault::ForgetsWhoLeaves, [false, true, false]),
        (Fault::NoKeyframe, [true, true, false]),
        (Fault::SmallerViews, [true, false, false]),
        (Fault::LargerViews, [false, true, false]),
        (Fault::LateViews, [true, true, false]),
        (Fault::OnlyLatestChanges, [false, false, true]),
        (Fault::SlowRings, [false, false, true]),
        (Fault::WrongPlaces, [false, false, true]),
    ];
    for (fault, expected) in cases {
        let found = findings(fault, Number::F32);
        let stale = found.stale.iter().sum::<u64>();
        let kinds = [found.missing, found.ghosts, stale].map(|count| count > 0);
        let differs = expected.iter().zip(kinds).any(|(&expected, found)| expected && !found);
        assert!(!differs, "{fault:?}: {kinds:?}");
    }
}
