//! The views that members look from: which cells each one is, and how often it is told what.

use std::collections::BTreeMap;

use super::grid::Cell;
use crate::limits::{VIEW_PERIOD_TICKS_MAX, VIEW_RINGS};
use crate::memory::Allocated;
use crate::planted;

/// The rings from which on all are told equally often.
pub const RINGS: usize = VIEW_RINGS as usize;

/// At this level every ring is told once in `VIEW_PERIOD_TICKS_MAX`.
const LEVEL_MAX: u8 = VIEW_PERIOD_TICKS_MAX.ilog2() as u8;

/// The cells that a member sees: those within `radius` of `cell`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewKey {
    /// The cell in the middle.
    pub cell: Cell,
    /// Chebyshev distance, in cells.
    pub radius: u8,
}

impl ViewKey {
    /// Whether `cell` is one of the view's.
    pub fn contains(self, cell: Cell) -> bool {
        self.cell.distance(cell) <= u16::from(self.radius)
    }
}

/// Names one life of a view: a view that was dropped and comes again has another id. A client that was sent the last frame of an
/// id goes on with a Delta, any other needs a Keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewId(pub u32);

impl ViewId {
    /// What members without a view see: `everywhere` objects only.
    pub const NOWHERE: Self = Self(0);
}

/// A view that somebody looks from.
#[derive(Debug)]
pub struct View {
    id: ViewId,
    viewers: u32,
    level: u8,
    /// When the level last changed; `None`: never.
    level_changed_at: Option<u32>,
    is_new: bool,
}

/// All views that somebody looks from.
#[derive(Debug, Default)]
pub struct Views {
    by_key: BTreeMap<ViewKey, View>,
    last_id: u32,
    /// Views that nobody looked from at some time of this tick.
    emptied: Vec<ViewKey>,
}

impl Views {
    /// One more member looks from a view.
    pub fn enter(&mut self, key: ViewKey) -> ViewId {
        let last_id = &mut self.last_id;
        let view = self.by_key.entry(key).or_insert_with(|| {
            *last_id = last_id.wrapping_add(1).max(1);
            let revived = u32::from(key.cell.row()) << 16 | u32::from(key.cell.column()) << 4 | 1 << 31;
            let id = if planted!(RevivesViews) { revived | u32::from(key.radius) } else { *last_id };
            View { id: ViewId(id), viewers: 0, level: 0, level_changed_at: None, is_new: true }
        });
        view.viewers += 1;
        view.id
    }

    /// One member fewer looks from a view.
    pub fn leave(&mut self, key: ViewKey) {
        if let Some(view) = self.by_key.get_mut(&key) {
            view.viewers -= 1;
            if view.viewers == 0 {
                self.emptied.push(key);
            }
        }
    }

    /// Drops the views that nobody looks from.
    pub fn drop_empty(&mut self) {
        for key in self.emptied.drain(..) {
            if self.by_key.get(&key).is_some_and(|view| view.viewers == 0) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Sets each view's level so that a frame is expected to hold at most `budget` positions. `active_of` says how many entities
    /// have changed lately, by ring.
    pub fn set_levels(&mut self, tick: u32, budget: u16, active_of: impl Fn(ViewKey) -> [u32; RINGS]) {
        for (key, view) in &mut self.by_key {
            let level = level_for(view.level, budget, active_of(*key));
            if level != view.level {
                view.level = level;
                view.level_changed_at = (!view.is_new).then_some(tick);
            }
            view.is_new = false;
        }
    }

    /// The view `key`; `None`: nobody looks from it.
    pub fn view(&self, key: ViewKey) -> Option<&View> {
        self.by_key.get(&key)
    }

    /// Number of views.
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.by_key.allocated_bytes() + self.emptied.allocated_bytes()
    }
}

impl View {
    /// How crowded it is: each level halves how often far entities are told.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// What is due in this view at `tick`.
    pub fn pace(&self, tick: u32) -> Pace {
        let is_settling = self
            .level_changed_at
            .is_some_and(|changed_at| tick.wrapping_sub(changed_at) < 2 * VIEW_PERIOD_TICKS_MAX);
        let is_wide = is_settling && !planted!(KeepsTheWindow);
        Pace { tick, periods: [0, 1, 2].map(|ring| period(ring, self.level)), is_wide }
    }
}

/// When the entities of a view are due.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    tick: u32,
    /// By ring, in ticks.
    periods: [u32; RINGS],
    /// After a change of the level, what changed under the former one may not have been told.
    is_wide: bool,
}

impl Pace {
    /// Whether the entity `id`, which last changed at tick `changed_at`, is told at a distance of `distance` cells.
    ///
    /// Ids spread over the ticks. Periods are powers of two, so what is due at one level is due at every lower one.
    pub fn is_due(&self, id: u32, changed_at: u32, distance: u16) -> bool {
        let distance = distance + u16::from(planted!(CountsRingsFromOne));
        let period = self.periods[usize::from(distance).min(RINGS - 1)];
        let window = if self.is_wide { 2 * VIEW_PERIOD_TICKS_MAX } else { period };
        let window = if planted!(NarrowsTheWindow) && window > 1 { window - 1 } else { window };
        let is_starved = planted!(StarvesSome) && period > 4 && id & 1 == 1;
        let is_its_turn = id.wrapping_add(self.tick) & (period - 1) == 0 && !is_starved;
        is_its_turn && self.tick.wrapping_sub(changed_at) < window
    }
}

/// Ticks from one position of an entity to the next.
fn period(ring: u8, level: u8) -> u32 {
    (1 << (ring + level)).min(VIEW_PERIOD_TICKS_MAX)
}

/// It rises until the budget holds, and falls when a level less would take at most 80 % of it. A level less is at most twice as
/// much, so it falls below 40 % in any case; sooner where far rings are at `VIEW_PERIOD_TICKS_MAX` at both levels.
fn level_for(mut level: u8, budget: u16, active: [u32; RINGS]) -> u8 {
    // In 16ths of a position, so that no period leaves a rest.
    let expected = |level| {
        let of_ring = |ring: u8| {
            u64::from(active[usize::from(ring)]) * u64::from(VIEW_PERIOD_TICKS_MAX / period(ring, level))
        };
        (0..RINGS as u8).map(of_ring).sum::<u64>()
    };
    let budget = u64::from(budget) * u64::from(VIEW_PERIOD_TICKS_MAX);
    while level < LEVEL_MAX && expected(level) > budget && !planted!(IgnoresTheBudget) {
        level += 1;
    }
    while level > 0 && expected(level - 1) * 10 <= budget * 8 && !planted!(KeepsLevels) {
        level -= 1;
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_only_when_far_below_the_budget() {
        assert_eq!(level_for(0, 100, [100, 0, 0]), 0);
        assert_eq!(level_for(0, 100, [101, 0, 0]), 1);
        assert_eq!(level_for(1, 100, [81, 0, 0]), 1);
        assert_eq!(level_for(1, 100, [80, 0, 0]), 0);
        assert_eq!(level_for(0, 100, [10_000, 0, 0]), 4, "a frame holds 625");
        assert_eq!(level_for(4, 100, [0, 0, 0]), 0);
        assert_eq!(level_for(0, 100, [0, 0, 400]), 0, "a quarter of them is due");
        assert_eq!(level_for(4, 100, [0, 0, 700]), 2, "they take 175, 87, 43, 43, 43");
    }

    #[test]
    fn a_view_that_comes_again_has_another_id() {
        let mut views = Views::default();
        let key = ViewKey { cell: Cell::at(1, 1), radius: 2 };
        let first = views.enter(key);
        views.leave(key);
        assert_eq!(views.enter(key), first, "somebody looks from it at the end of the tick");
        views.drop_empty();
        views.leave(key);
        views.drop_empty();
        assert_eq!(views.count(), 0);
        assert_ne!(views.enter(key), first);
    }
}
