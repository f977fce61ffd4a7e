//! The objects of a game: those in cells, and those that all see.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::cells::Cells;
use super::grid::{Cell, Grid};
use crate::memory::Allocated;
use crate::planted;
use crate::surplus::Surplus;

/// Objects by id. A tick is `begin`, any number of `remove` and `place`, `finish`.
#[derive(Debug, Default)]
pub struct ObjectCells {
    cells: Cells,
    /// Where an object stands in `cells`.
    indices: BTreeMap<u32, u32>,
    free: Vec<u32>,
    everywhere: Everywhere,
}

/// Objects that all see.
#[derive(Debug, Default)]
struct Everywhere {
    ids: BTreeSet<u32>,
    /// Those that changed in this tick.
    changed: Vec<u32>,
    /// Objects that all saw before this tick, and that were removed or given another kind in it.
    left: Vec<u32>,
}

impl ObjectCells {
    /// Begins tick `tick`.
    pub fn begin(&mut self, tick: u32) {
        self.cells.begin(tick);
        self.everywhere.changed.clear();
        self.everywhere.left.clear();
    }

    /// The object `id` is gone.
    pub fn remove(&mut self, id: u32) {
        if self.everywhere.ids.remove(&id) {
            self.everywhere.left.push(id);
        }
        if let Some(index) = self.indices.remove(&id) {
            self.cells.remove(index, id);
            self.free.push(index);
        }
    }

    /// The object `id` is new or has changed, and is one of those in cells.
    pub fn place(&mut self, id: u32, grid: &Grid, x: f32, y: f32) {
        if self.everywhere.ids.remove(&id) {
            self.everywhere.left.push(id);
        }
        let next = self.indices.len() as u32;
        let index = *self.indices.entry(id).or_insert_with(|| self.free.pop().unwrap_or(next));
        self.cells.place(index, id, grid, x, y);
    }

    /// The object `id` is new or has changed, and is one of those that all see.
    pub fn place_everywhere(&mut self, id: u32) {
        if let Some(index) = self.indices.remove(&id) {
            self.cells.remove(index, id);
            self.free.push(index);
        }
        self.everywhere.ids.insert(id);
        self.everywhere.changed.push(id);
    }

    /// Ends the tick.
    pub fn finish(&mut self) {
        self.cells.finish();
    }

    /// Whether anything was removed or placed in this tick.
    pub fn has_changed(&self) -> bool {
        self.cells.has_changed() || !self.everywhere.changed.is_empty() || !self.everywhere.left.is_empty()
    }

    /// Those that are in cells.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Every object that all see, by id.
    pub fn everywhere(&self) -> impl Iterator<Item = u32> {
        self.everywhere.ids.iter().copied()
    }

    /// Those of them that changed in this tick.
    pub fn changed_everywhere(&self) -> impl Iterator<Item = u32> {
        self.everywhere.changed.iter().copied()
    }

    /// Objects that all saw before this tick, and that are in no cell for which `is_seen` now.
    pub fn gone_from_everywhere(&self, is_seen: impl Fn(Cell) -> bool) -> impl Iterator<Item = u32> {
        let is_gone = move |id: &u32| {
            let entity = self.indices.get(id).and_then(|index| self.cells.entity(*index));
            let is_elsewhere = planted!(KeepsEverywhere) && entity.is_some();
            !self.everywhere.ids.contains(id)
                && !is_elsewhere
                && !entity.and_then(|e| e.cell).is_some_and(&is_seen)
        };
        self.everywhere.left.iter().copied().filter(is_gone)
    }

    /// Objects that were in `cells` before the tick, and are in no cell for which `is_seen` after it.
    pub fn gone_from(
        &self,
        cells: RangeInclusive<Cell>,
        is_seen: impl Fn(Cell) -> bool,
    ) -> impl Iterator<Item = u32> {
        let departures = self.cells.departures(cells);
        let gone = departures.filter(move |departure| !departure.to.is_some_and(&is_seen));
        gone.map(|departure| departure.id).filter(|id| !self.everywhere.ids.contains(id))
    }

    /// Shrinks what was large for many objects that are gone.
    pub fn give_back(&mut self) {
        self.cells.give_back();
        self.free.give_back(self.indices.len());
        self.everywhere.changed.give_back(self.everywhere.ids.len());
        self.everywhere.left.give_back(self.everywhere.ids.len());
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.cells.heap_bytes()
            + self.indices.allocated_bytes()
            + self.free.allocated_bytes()
            + self.everywhere.ids.allocated_bytes()
            + self.everywhere.changed.allocated_bytes()
            + self.everywhere.left.allocated_bytes()
    }
}
