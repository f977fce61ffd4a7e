//! Which member looks from which view.

use super::grid::{Cell, Grid};
use super::sorted::SortedPairs;
use super::views::{ViewId, ViewKey, Views};
use crate::limits::{VIEW_HOLD, VIEW_JUMPS_MAX, VIEW_JUMPS_TIME};
use crate::memory::Allocated;
use crate::planted;
use crate::surplus::Surplus;
use crate::time::Instant;

/// Members by the slot of their seat.
#[derive(Debug, Default)]
pub struct Viewers {
    by_slot: Vec<Viewer>,
    /// As of the last `follow`.
    by_view: SortedPairs<ViewKey, u16>,
    /// Slots whose view may change with the next `follow`, whether or not their player moves.
    unsettled: Vec<u16>,
}

#[derive(Clone, Debug, Default)]
struct Viewer {
    /// A member looks.
    looks: bool,
    /// Since the last `follow`, or until then another one looked.
    is_new: bool,
    radius: u8,
    view: Option<(ViewKey, ViewId)>,
    hold: Hold,
}

/// What keeps a member's view where it is, in milliseconds of the shard's clock.
#[derive(Clone, Debug, Default)]
struct Hold {
    changed_ms: u32,
    /// When the present second of jumps began.
    jumps_since_ms: u32,
    jumps: u8,
}

impl Viewers {
    /// A member looks from seat `slot`, `radius` cells far. It has a view from the next `follow` on.
    pub fn look(&mut self, slot: u16, radius: u8) {
        let place = usize::from(slot);
        if place >= self.by_slot.len() {
            self.by_slot.resize(place + 1, Viewer::default());
        }
        let viewer = &mut self.by_slot[place];
        if viewer.looks && viewer.radius == radius {
            return;
        }
        if !viewer.looks {
            viewer.looks = true;
            viewer.is_new = true;
        }
        viewer.radius = radius;
        self.unsettled.push(slot);
    }

    /// Nobody looks from seat `slot` any more.
    pub fn look_away(&mut self, slot: u16) {
        if let Some(viewer) = self.by_slot.get_mut(usize::from(slot)).filter(|viewer| viewer.looks) {
            viewer.looks = false;
            self.unsettled.push(slot);
        }
    }

    /// The view of the member on seat `slot`, as of the last `follow`.
    pub fn view_of(&self, slot: u16) -> Option<(ViewKey, ViewId)> {
        let viewer = self.by_slot.get(usize::from(slot))?;
        viewer.view.filter(|_| viewer.looks && !viewer.is_new)
    }

    /// Moves the members of `slots`, and those that wait, to the views of the cells that their players are in now.
    pub fn follow(
        &mut self,
        slots: impl Iterator<Item = u16>,
        home_of: impl Fn(u16) -> Option<Cell>,
        now: Instant,
        views: &mut Views,
    ) {
        let Self { by_slot, by_view, unsettled } = self;
        unsettled
            .extend(slots.filter(|slot| by_slot.get(usize::from(*slot)).is_some_and(|viewer| viewer.looks)));
        unsettled.sort_unstable();
        unsettled.dedup();
        unsettled.retain(|slot| {
            let viewer = &mut by_slot[usize::from(*slot)];
            let before = viewer.view;
            let home = home_of(*slot);
            let after = viewer.next_view(home, now);
            if before.map(|(key, _)| key) != after {
                if let Some((key, _)) = before {
                    views.leave(key);
                    by_view.remove(key, *slot);
                }
                viewer.view = after.map(|key| {
                    by_view.add(key, *slot);
                    (key, views.enter(key))
                });
                if planted!(ContinuesViews)
                    && let (Some(view), Some((_, id))) = (&mut viewer.view, before)
                {
                    view.1 = id;
                }
            }
            after.is_some_and(|key| Some(key.cell) != home)
        });
        by_view.apply();
    }

    /// Whether a `follow` at any time would leave all views as they are.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Slots of the members that see `cell`. No view's radius is more than `radius_max`.
    pub fn who_see(&self, cell: Cell, grid: &Grid, radius_max: u8) -> impl Iterator<Item = u16> {
        grid.rows_around(cell, radius_max).flat_map(move |cells| {
            let first = ViewKey { cell: *cells.start(), radius: 0 };
            let last = ViewKey { cell: *cells.end(), radius: u8::MAX };
            let of_row = self.by_view.range(first..=last).iter();
            let seeing = of_row.filter(move |(view, _)| view.contains(cell)).map(|(_, slot)| *slot);
            seeing.filter(|slot| self.view_of(*slot).is_some())
        })
    }

    /// Shrinks what was large for a crowd that is gone.
    pub fn give_back(&mut self) {
        if self.unsettled.is_empty() {
            while self.by_slot.pop_if(|last| !last.looks).is_some() {}
            self.by_slot.give_back(self.by_view.all().len());
        }
        self.by_view.give_back();
        self.unsettled.give_back(self.by_view.all().len());
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.by_slot.allocated_bytes() + self.by_view.heap_bytes() + self.unsettled.allocated_bytes()
    }
}

impl Viewer {
    /// Where its member looks from, now that its player is in cell `home`.
    fn next_view(&mut self, home: Option<Cell>, now: Instant) -> Option<ViewKey> {
        let is_new = std::mem::take(&mut self.is_new);
        let home = home.filter(|_| self.looks)?;
        let cell = match self.view {
            Some((view, _)) if !is_new => {
                if self.hold.lets_go(view.cell, home, now) {
                    home
                } else {
                    view.cell
                }
            }
            _ => {
                self.hold = Hold { changed_ms: now.as_millis_u32(), ..Hold::default() };
                home
            }
        };
        Some(ViewKey { cell, radius: self.radius })
    }
}

impl Hold {
    /// Whether the view may move from cell `from` to `to`. If so, it is counted.
    fn lets_go(&mut self, from: Cell, to: Cell, now: Instant) -> bool {
        let now_ms = now.as_millis_u32();
        let is_over = now_ms.wrapping_sub(self.changed_ms) >= VIEW_HOLD.as_millis() as u32;
        if from == to || !(is_over || self.admits_jump(from, to, now_ms) || planted!(IgnoresTheHold)) {
            return false;
        }
        self.changed_ms = now_ms;
        true
    }

    fn admits_jump(&mut self, from: Cell, to: Cell, now_ms: u32) -> bool {
        if from.distance(to) <= 1 {
            return false;
        }
        if now_ms.wrapping_sub(self.jumps_since_ms) >= VIEW_JUMPS_TIME.as_millis() as u32 {
            self.jumps_since_ms = now_ms;
            self.jumps = 0;
        }
        let admits = self.jumps < VIEW_JUMPS_MAX;
        self.jumps += u8::from(admits);
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_would_change_too_often_waits() {
        let ms = |ms: u64| Instant::from_micros(9_000_000 + ms * 1000);
        let (near, next, far) = (Cell::at(5, 5), Cell::at(6, 5), Cell::at(9, 5));
        let mut hold = Hold { changed_ms: ms(0).as_millis_u32(), ..Hold::default() };
        assert!(!hold.lets_go(near, next, ms(249)));
        assert!(hold.lets_go(near, next, ms(250)));
        assert!(!hold.lets_go(next, near, ms(260)));
        let jumps = (0..10).filter(|jump| hold.lets_go(near, far, ms(270 + jump))).count();
        assert_eq!(jumps, 4);
        assert!(!hold.lets_go(near, far, ms(520)));
        assert!(hold.lets_go(near, far, ms(523)), "the hold lets jumps go, too");
        assert!(hold.lets_go(near, far, ms(1_270)));
    }
}
