//! Which cell each entity is in, and which ones have changed cell in the last tick.

use std::ops::RangeInclusive;

use super::grid::{Cell, Grid};
use super::sorted::{SortedPairs, slice_of};
use crate::limits::VIEW_PERIOD_TICKS_MAX;
use crate::memory::Allocated;
use crate::planted;
use crate::surplus::Surplus;

/// Players or objects, by their index in a table. A tick is `begin`, any number of `remove` and `place`, `finish`; in between,
/// everything is as of the last `finish`.
#[derive(Debug, Default)]
pub struct Cells {
    tick: u32,
    entities: Vec<Entity>,
    /// Indices of entities by cell.
    residents: SortedPairs<Cell, u32>,
    /// Indices of the entities that came, went, or changed cell in this tick.
    crossing: Vec<u32>,
    /// By the cell at the end of the tick before, and id.
    departures: Vec<(Cell, Departure)>,
    /// How many entities of a cell have changed within `VIEW_PERIOD_TICKS_MAX`, for cells with any.
    active: Vec<(Cell, u32)>,
    has_changed: bool,
}

/// A player or object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entity {
    /// Player id or object id.
    pub id: u32,
    /// `None`: there is no such entity.
    pub cell: Option<Cell>,
    /// If `is_crossing`: its cell at the end of the tick before; `None`: it was in none.
    pub origin: Option<Cell>,
    /// Tick of its last change.
    pub changed_at: u32,
    /// Whether it came to its cell in this tick.
    pub is_crossing: bool,
}

/// An entity that is no longer in the cell that it was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Departure {
    /// Player id or object id.
    pub id: u32,
    /// Where it is now; `None`: it has gone.
    pub to: Option<Cell>,
}

impl Cells {
    /// Begins tick `tick`.
    pub fn begin(&mut self, tick: u32) {
        self.tick = tick;
        for index in self.crossing.drain(..) {
            self.entities[index as usize].is_crossing = false;
        }
        self.departures.clear();
        self.has_changed = false;
    }

    /// The entity at `index` has gone; nothing if its id is not `id`.
    pub fn remove(&mut self, index: u32, id: u32) {
        let Some(entity) = self.entities.get_mut(index as usize).filter(|entity| entity.id == id) else {
            return;
        };
        let Some(cell) = entity.cell.take() else { return };
        let origin = if entity.is_crossing { entity.origin.take() } else { Some(cell) };
        if !entity.is_crossing {
            entity.is_crossing = true;
            entity.origin = None;
            self.crossing.push(index);
        }
        if let Some(origin) = origin {
            self.residents.remove(origin, index);
            self.departures.push((origin, Departure { id, to: None }));
        }
        self.has_changed = true;
    }

    /// The entity `id` at `index` is at a place, or has otherwise changed. One with another id that was there has gone.
    pub fn place(&mut self, index: u32, id: u32, grid: &Grid, x: f32, y: f32) {
        let place = index as usize;
        if place >= self.entities.len() {
            self.entities.resize(place + 1, Entity::default());
        }
        let before = self.entities[place];
        if before.cell.is_some() && before.id != id {
            self.remove(index, before.id);
        }
        if planted!(ForgetsReusedSeats) {
            self.departures.retain(|(_, departure)| departure.id as u16 != id as u16);
        }
        let entity = &mut self.entities[place];
        entity.id = id;
        entity.changed_at = self.tick;
        self.has_changed = true;
        let cell = entity.cell.map_or_else(|| grid.cell_at(x, y), |home| grid.cell_from(home, x, y));
        if entity.cell == Some(cell) {
            return;
        }
        if !entity.is_crossing {
            entity.is_crossing = true;
            entity.origin = entity.cell;
            self.crossing.push(index);
        }
        entity.cell = Some(cell);
    }

    /// Ends the tick.
    pub fn finish(&mut self) {
        for index in &self.crossing {
            let Entity { id, cell, origin, .. } = self.entities[*index as usize];
            if cell == origin {
                continue;
            }
            if let Some(origin) = origin {
                self.residents.remove(origin, *index);
                self.departures.push((origin, Departure { id, to: cell }));
            }
            if let Some(cell) = cell {
                self.residents.add(cell, *index);
            }
        }
        self.residents.apply();
        self.departures.sort_unstable();
        self.count_active();
    }

    /// Whether anything was removed or placed in this tick.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Indices of entities that came, went, or changed cell in this tick.
    pub fn crossing(&self) -> &[u32] {
        &self.crossing
    }

    /// The entity at `index`.
    pub fn entity(&self, index: u32) -> Option<&Entity> {
        self.entities.get(index as usize).filter(|entity| entity.cell.is_some())
    }

    /// The entities in `cells`, with their cell.
    pub fn residents(&self, cells: RangeInclusive<Cell>) -> impl Iterator<Item = (Cell, &Entity)> {
        let residents = self.residents.range(cells);
        residents.iter().map(|(cell, index)| (*cell, &self.entities[*index as usize]))
    }

    /// The entities that were in `cells` before the tick and are in another cell, or in none, after it.
    pub fn departures(&self, cells: RangeInclusive<Cell>) -> impl Iterator<Item = &Departure> {
        slice_of(&self.departures, cells).iter().map(|(_, departure)| departure)
    }

    /// How many entities of each of `cells` have changed within `VIEW_PERIOD_TICKS_MAX`; cells without any are left out.
    pub fn active(&self, cells: RangeInclusive<Cell>) -> &[(Cell, u32)] {
        slice_of(&self.active, cells)
    }

    /// Shrinks what was large for a crowd that is gone.
    pub fn give_back(&mut self) {
        let wanted = self.residents.all().len();
        while self.entities.pop_if(|last| last.cell.is_none() && !last.is_crossing).is_some() {}
        self.entities.give_back(wanted);
        self.residents.give_back();
        self.crossing.give_back(wanted);
        self.departures.give_back(wanted);
        self.active.give_back(wanted);
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.entities.allocated_bytes()
            + self.residents.heap_bytes()
            + self.crossing.allocated_bytes()
            + self.departures.allocated_bytes()
            + self.active.allocated_bytes()
    }

    fn count_active(&mut self) {
        self.active.clear();
        for (cell, index) in self.residents.all() {
            if self.tick.wrapping_sub(self.entities[*index as usize].changed_at) >= VIEW_PERIOD_TICKS_MAX {
                continue;
            }
            match self.active.last_mut() {
                Some((last, count)) if last == cell => *count += 1,
                _ => self.active.push((*cell, 1)),
            }
        }
    }
}
