//! One seed: what everybody does, tick by tick, and what must be true after each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelay::room::interest::{
    ChangedObject, Changes, Interest, OverviewPlace, Selection, ViewId, ViewKey, ViewRules,
};
use corelay::time::Instant;

use super::client::{Client, PERIOD_MAX, slot_of};
use super::random::Random;
use super::viewpoint::Viewpoint;
use super::world::{EVERYWHERE, Entity, KINDS, World, distance, place_of};

/// Ticks of a run.
const TICKS: u64 = 400;
/// Of so many ticks, the first move and the others rest.
const SEASON: u64 = 130;
const MOVING: u64 = 85;
/// Where the grid begins, in eighths of a cell.
const ORIGIN: i32 = -40;

/// What happened, how often.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ticks: u64,
    of: BTreeMap<&'static str, u64>,
}

const HAPPENINGS: [&str; 13] = [
    "delta",
    "keyframe",
    "keyframe between ticks",
    "gone",
    "entering",
    "object gone",
    "level changed",
    "level 4",
    "seat reused within a tick",
    "view came again",
    "rest",
    "rest without ticks",
    "everywhere changed",
];

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.ticks += other.ticks;
        for (what, times) in &other.of {
            *self.of.entry(what).or_default() += times;
        }
    }

    pub fn never(&self) -> Vec<&'static str> {
        HAPPENINGS.into_iter().filter(|what| !self.of.contains_key(what)).collect()
    }

    fn count(&mut self, what: &'static str, times: usize) {
        debug_assert!(HAPPENINGS.contains(&what));
        if times > 0 {
            *self.of.entry(what).or_default() += times as u64;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Rests,
    Walks(i32, i32),
    Oscillates,
    Teleports,
    Crowds,
    FollowsTrain,
}

#[derive(Debug)]
struct Seat {
    player: Option<u32>,
    /// Upper half of the next player id.
    generation: u32,
    mood: Mood,
    /// A member is connected.
    looks: bool,
    radius: u8,
    client: Client,
    viewpoint: Viewpoint,
}

pub struct Run {
    random: Random,
    interest: Interest,
    rules: ViewRules,
    world: World,
    seats: Vec<Seat>,
    tick: u64,
    now_us: u64,
    tick_us: u64,
    skips_permille: u32,
    /// The tick of the last frame of each view.
    last_frames: BTreeMap<ViewId, u64>,
    /// Levels of each view, the last ones.
    levels: BTreeMap<ViewId, VecDeque<u8>>,
    keys: BTreeMap<ViewKey, ViewId>,
    keys_ever: BTreeSet<ViewKey>,
    resting_ticks: u64,
    overview: OverviewRound,
    selection: Selection,
    counts: Counts,
}

#[derive(Default)]
struct OverviewRound {
    told: BTreeSet<u16>,
    /// Those that had a position all the time.
    there: BTreeSet<u16>,
    places: Vec<OverviewPlace>,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let side = random.one_of(&[1, 3, 6, 9, 14]);
        let players = random.one_of(&[4, 12, 12, 20, 20, 30, 60]);
        let radius_max = random.below(4) as u8;
        let rules = ViewRules {
            radius: random.below(usize::from(radius_max) + 1) as u8,
            radius_max,
            budget: random.one_of(&[1, 2, 4, 10, 128]),
            overview_hz: random.one_of(&[0.0, 0.0, 1.0, 5.0]),
            everywhere: [EVERYWHERE].into(),
            ..ViewRules::new(8.0)
        };
        let (min, max) = (ORIGIN as f32, (ORIGIN + side * 8) as f32);
        let seat = |_| Seat {
            player: None,
            generation: 0,
            mood: Mood::Rests,
            looks: false,
            radius: 0,
            client: Client::default(),
            viewpoint: Viewpoint::default(),
        };
        Self {
            interest: Interest::new(&rules, [min, min, max, max]),
            rules,
            world: World { side, ..World::default() },
            seats: (0..players).map(seat).collect(),
            tick: 0,
            now_us: 50_000_000 + random.below(1_000_000) as u64,
            tick_us: random.one_of(&[8_333, 33_333, 50_000, 100_000]),
            skips_permille: random.one_of(&[0, 20, 200, 500]),
            random,
            last_frames: BTreeMap::from([(ViewId::NOWHERE, 0)]),
            levels: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_ever: BTreeSet::new(),
            resting_ticks: 0,
            overview: OverviewRound::default(),
            selection: Selection::default(),
            counts: Counts::default(),
        }
    }

    pub fn run(mut self) -> Counts {
        for step in 0..TICKS {
            let moves = step % SEASON < MOVING;
            if moves {
                (0..self.seats.len()).for_each(|slot| self.act(slot));
                self.change_objects();
            }
            for slot in 0..self.seats.len() {
                if self.seats[slot].looks && self.random.chance(60) {
                    self.keyframe_between_ticks(slot);
                }
            }
            // A loop may be late.
            self.now_us += self.tick_us * if self.random.chance(30) { 3 } else { 1 };
            if moves || !self.interest.is_settled() {
                self.resting_ticks = if moves { 0 } else { self.resting_ticks + 1 };
                self.counts.ticks += 1;
                self.tick();
            } else {
                self.counts.count("rest without ticks", 1);
            }
            if self.random.chance(20) {
                self.interest.give_back();
            }
            if self.resting_ticks > 0 && self.interest.is_settled() {
                self.check_at_rest();
            }
            let ticks_of_hold = 300_000 / self.tick_us + 1;
            let is_late =
                self.resting_ticks > 2 * PERIOD_MAX + ticks_of_hold && self.rules.overview_hz == 0.0;
            assert!(!is_late || self.interest.is_settled(), "it does not settle");
        }
        self.counts
    }

    fn act(&mut self, slot: usize) {
        let Some(player) = self.seats[slot].player else {
            if self.random.chance(60) {
                self.join(slot);
            }
            return;
        };
        if self.random.chance(7) {
            self.leave(slot, player);
            if self.random.chance(500) {
                self.counts.count("seat reused within a tick", 1);
                self.join(slot);
            }
            return;
        }
        if self.random.chance(10) {
            self.lose_or_resume(slot);
        }
        if self.random.chance(10) && self.seats[slot].looks {
            self.look(slot);
        }
        if self.random.chance(25) {
            self.seats[slot].mood = self.any_mood();
        }
        self.walk(slot, player);
    }

    fn join(&mut self, slot: usize) {
        let seat = &mut self.seats[slot];
        let player = seat.generation << 16 | (slot as u32 + 1);
        seat.generation += 1;
        seat.player = Some(player);
        seat.client = Client::default();
        seat.viewpoint = Viewpoint::default();
        self.seats[slot].mood = self.any_mood();
        self.look(slot);
        if self.random.chance(700) {
            let (x, y) = self.anywhere();
            self.world.players.insert(player, Entity::new(x, y, 0));
        }
    }

    fn leave(&mut self, slot: usize, player: u32) {
        let seat = &mut self.seats[slot];
        (seat.player, seat.looks) = (None, false);
        self.interest.look_away(slot as u16);
        self.world.gone_players.push(player);
        self.world.players.remove(&player);
    }

    fn lose_or_resume(&mut self, slot: usize) {
        if self.seats[slot].looks {
            self.seats[slot].looks = false;
            self.interest.look_away(slot as u16);
        }
        if self.random.chance(500) {
            self.look(slot);
            self.seats[slot].client = Client::default();
            self.seats[slot].viewpoint = Viewpoint::default();
        }
    }

    fn look(&mut self, slot: usize) {
        let asked = self.random.chance(500).then(|| self.random.below(5) as u8);
        self.interest.look(slot as u16, asked);
        self.seats[slot].looks = true;
        self.seats[slot].radius = asked.unwrap_or(self.rules.radius).min(self.rules.radius_max);
    }

    fn any_mood(&mut self) -> Mood {
        let step = |random: &mut Random| random.below(7) as i32 - 3;
        match self.random.below(7) {
            0 => Mood::Rests,
            1 | 2 => Mood::Walks(step(&mut self.random), step(&mut self.random)),
            3 => Mood::Oscillates,
            4 => Mood::Teleports,
            5 => Mood::Crowds,
            _ => Mood::FollowsTrain,
        }
    }

    fn walk(&mut self, slot: usize, player: u32) {
        let length = self.world.side * 8;
        let to = self.anywhere();
        let before = self.world.players.get(&player).map_or(to, |player| (player.x, player.y));
        let (x, y) = match self.seats[slot].mood {
            Mood::Rests => return,
            Mood::Walks(x, y) => ((before.0 + x).rem_euclid(length), (before.1 + y).rem_euclid(length)),
            Mood::Oscillates => {
                let edge = before.0.div_euclid(4) * 4;
                let far = 1 + self.random.below(3) as i32;
                (if self.tick.is_multiple_of(2) { edge + far } else { edge - far }, before.1)
            }
            Mood::Teleports if self.random.chance(300) => to,
            Mood::Teleports => return,
            Mood::Crowds => (length / 2 + to.0 % 6, length / 2 + to.1 % 6),
            Mood::FollowsTrain => ((self.tick as i32 * 3 + slot as i32) % length, length / 3),
        };
        if self.random.chance(800) {
            let entity = self.world.players.entry(player).or_insert_with(|| Entity::new(x, y, 0));
            entity.set(x, y);
        }
    }

    /// Also a little outside of the bounds.
    fn anywhere(&mut self) -> (i32, i32) {
        let length = self.world.side as usize * 8 + 6;
        (self.random.below(length) as i32 - 3, self.random.below(length) as i32 - 3)
    }

    fn change_objects(&mut self) {
        for _ in 0..self.random.below(4) {
            let id = self.random.below(24) as u32 * 0x0101;
            let (x, y) = self.anywhere();
            let kind = self.random.below(usize::from(KINDS)) as u16;
            let is_gone = self.random.chance(200);
            match self.world.objects.get_mut(&id) {
                Some(_) if is_gone => {
                    self.world.objects.remove(&id);
                    self.world.gone_objects.push(id);
                }
                Some(object) => {
                    object.set(x, y);
                    if self.random.chance(300) {
                        let flips = (object.kind == EVERYWHERE) != (kind == EVERYWHERE);
                        self.counts.count("everywhere changed", usize::from(flips));
                        object.kind = kind;
                    }
                }
                // What is removed and made again within a tick is one change.
                None if self.world.gone_objects.contains(&id) => {}
                None => drop(self.world.objects.insert(id, Entity::new(x, y, kind))),
            }
        }
    }

    fn keyframe_between_ticks(&mut self, slot: usize) {
        let view = self.interest.view_of(slot as u16);
        self.interest.select_keyframe(view.map(|(key, _)| key), &mut self.selection);
        let client = &mut self.seats[slot].client;
        client.keyframe(&self.selection, &self.world);
        client.last = Some((view.map_or(ViewId::NOWHERE, |(_, id)| id), self.tick));
        client.check_sees_exactly(view.map(|(key, _)| key), &self.world);
        self.counts.count("keyframe between ticks", 1);
    }

    fn tick(&mut self) {
        let place = |entity: &Entity| ((entity.x + ORIGIN) as f32, (entity.y + ORIGIN) as f32);
        let moved = self.world.players.iter().filter(|(_, player)| player.is_changed);
        let objects = self.world.objects.iter().filter(|(_, object)| object.is_changed);
        let now = Instant::from_micros(self.now_us);
        self.interest.advance(
            now,
            Changes {
                gone_players: self.world.gone_players.iter().copied(),
                moved: moved.map(|(id, player)| (*id, place(player).0, place(player).1)),
                gone_objects: self.world.gone_objects.iter().copied(),
                objects: objects.map(|(id, object)| ChangedObject {
                    id: *id,
                    kind: object.kind,
                    x: place(object).0,
                    y: place(object).1,
                }),
            },
        );
        self.tick += 1;
        self.world.settle(self.tick);
        self.check_views();
        for slot in 0..self.seats.len() {
            let seat = &mut self.seats[slot];
            let view = self.interest.view_of(slot as u16);
            let home = seat.player.and_then(|player| self.world.players.get(&player)?.cell);
            if !seat.looks {
                assert_eq!(view, None);
                continue;
            }
            assert!(view.is_none_or(|(key, _)| key.radius == seat.radius));
            seat.viewpoint.check(view.map(|(key, _)| place_of(key.cell)), home, self.now_us);
            if !self.random.chance(self.skips_permille) {
                self.send(slot, view);
            }
        }
        self.last_frames.insert(ViewId::NOWHERE, self.tick);
        self.last_frames.extend(self.keys.values().map(|id| (*id, self.tick)));
        self.check_near();
        self.check_overview(now);
    }

    fn send(&mut self, slot: usize, view: Option<(ViewKey, ViewId)>) {
        let Self { interest, selection, world, counts, .. } = self;
        let (key, id) = (view.map(|(key, _)| key), view.map_or(ViewId::NOWHERE, |(_, id)| id));
        let client = &mut self.seats[slot].client;
        let goes_on =
            client.last.is_some_and(|(last, at)| last == id && self.last_frames.get(&id) == Some(&at));
        if goes_on {
            interest.select_delta(key, selection);
            client.delta(selection, world);
            counts.count("delta", 1);
            counts.count("gone", selection.gone_players.len());
            counts.count("object gone", selection.gone_objects.len());
            counts.count("entering", selection.entering.len());
        } else {
            interest.select_keyframe(key, selection);
            client.keyframe(selection, world);
            counts.count("keyframe", 1);
        }
        for ids in [&selection.players, &selection.objects] {
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "told once");
        }
        client.last = Some((id, self.tick));
        client.check_sees_exactly(key, world);
        let level = self.levels.get(&id).and_then(|levels| levels.iter().max().copied()).unwrap_or(0);
        client.check_nothing_old(key, world, self.tick, |ring| period(ring, level) - 1);
    }

    /// Views that are alive, and their levels.
    fn check_views(&mut self) {
        let mut keys: BTreeMap<ViewKey, ViewId> = BTreeMap::new();
        for slot in 0..self.seats.len() {
            if let Some((key, id)) = self.interest.view_of(slot as u16) {
                let of_others = *keys.entry(key).or_insert(id);
                let is_own = self.keys.get(&key).is_none_or(|before| *before == id);
                assert!(of_others == id && is_own, "a view has one id while it lives");
            }
        }
        assert_eq!(keys.len(), self.interest.view_count());
        for (key, id) in &keys {
            let came_again = !self.keys.contains_key(key) && !self.keys_ever.insert(*key);
            self.counts.count("view came again", usize::from(came_again));
            self.check_level(*key, *id);
        }
        self.keys = keys;
    }

    fn check_level(&mut self, key: ViewKey, id: ViewId) {
        self.interest.select_delta(Some(key), &mut self.selection);
        let level = self.selection.level;
        let all = self.world.players_in(key).chain(self.world.objects_in(key));
        let active = all.filter(|(_, entity)| entity.changed_within(PERIOD_MAX, self.tick));
        let rings: Vec<u32> =
            active.filter_map(|(_, entity)| Some(distance(place_of(key.cell), entity.cell?))).collect();
        let expected = |level| rings.iter().map(|ring| 1.0 / period(*ring, level) as f64).sum::<f64>();
        let budget = f64::from(self.rules.budget);
        assert!(level == 4 || expected(level) <= budget, "a frame is more than its budget at level {level}");
        assert!(
            level == 0 || expected(level) >= 0.4 * budget,
            "level {level} is too high for {}",
            expected(level)
        );
        self.counts.count("level 4", usize::from(level == 4));
        let levels = self.levels.entry(id).or_default();
        self.counts.count("level changed", usize::from(levels.back().is_some_and(|last| *last != level)));
        levels.push_back(level);
        if levels.len() > 2 * PERIOD_MAX as usize {
            levels.pop_front();
        }
    }

    /// Who would hear an event of somebody near.
    fn check_near(&mut self) {
        let slot = self.random.below(self.seats.len());
        let Some(player) = self.seats[slot].player else { return };
        let cell = self.world.players.get(&player).and_then(|player| player.cell);
        let sees = |slot: &u16| {
            let view = self.interest.view_of(*slot);
            view.is_some_and(|(key, _)| {
                let is_near =
                    cell.is_some_and(|cell| distance(place_of(key.cell), cell) <= u32::from(key.radius));
                assert_eq!(self.interest.sees(key, player), is_near);
                is_near
            })
        };
        let expected: Vec<u16> = (0..self.seats.len() as u16).filter(sees).collect();
        let mut hear: Vec<u16> = self.interest.viewers_of(player).collect();
        hear.sort_unstable();
        assert_eq!(hear, expected, "who are near");
    }

    /// A round tells everybody who was there all the time.
    fn check_overview(&mut self, now: Instant) {
        let OverviewRound { told, there, places } = &mut self.overview;
        places.clear();
        let begins = self.interest.overview(now, places);
        let now_there: BTreeSet<u16> = self.world.players.keys().map(|player| slot_of(*player)).collect();
        there.retain(|slot| now_there.contains(slot));
        if begins {
            assert!(there.is_subset(told), "missing in a round of the overview");
            told.clear();
            *there = now_there;
        }
        let length = f64::from(self.world.side * 8);
        for OverviewPlace { slot, x, .. } in places {
            let (_, player) =
                self.world.players.iter().find(|(player, _)| slot_of(**player) == *slot).expect("is there");
            let exact = (f64::from(player.x) / length * 255.0).clamp(0.0, 255.0);
            assert!((f64::from(*x) - exact).abs() <= 0.5, "{x} instead of {exact}");
            told.insert(*slot);
        }
    }

    /// Nothing has changed for so long that the game no longer ticks: who was sent the last frame knows everything.
    fn check_at_rest(&mut self) {
        for (slot, seat) in self.seats.iter().enumerate().filter(|(_, seat)| seat.looks) {
            let id = self.interest.view_of(slot as u16).map_or(ViewId::NOWHERE, |(_, id)| id);
            if seat.client.last == Some((id, self.tick)) {
                seat.client.check_nothing_differs(&self.world);
                self.counts.count("rest", 1);
            }
        }
    }
}

fn period(ring: u32, level: u8) -> u64 {
    (1 << (ring.min(2) + u32::from(level))).min(PERIOD_MAX)
}
