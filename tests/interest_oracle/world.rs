//! What is where, by a model that knows nothing of tables: each entity with its cell and its last changes.

use std::collections::{BTreeMap, VecDeque};

use corelay::room::interest::{Cell, ViewKey};

/// Changes that an entity remembers: more than any period has ticks.
const CHANGES_KEPT: usize = 80;
/// Kinds of objects; the last one is everywhere.
pub const KINDS: u16 = 3;
pub const EVERYWHERE: u16 = 2;

/// Column and row.
pub type Place = (i32, i32);

/// A player or object. Places are in eighths of a cell, so that no rounding matters.
#[derive(Clone, Debug)]
pub struct Entity {
    pub x: i32,
    pub y: i32,
    /// Of an object.
    pub kind: u16,
    /// At the end of the last tick; `None`: it was not there, or everywhere.
    pub cell: Option<Place>,
    /// At the end of the last tick.
    pub is_everywhere: bool,
    /// Number of its last change.
    pub serial: u64,
    /// The ticks that told of its last changes, with their numbers.
    changes: VecDeque<(u64, u64)>,
    /// Changed since the last tick.
    pub is_changed: bool,
}

impl Entity {
    pub fn new(x: i32, y: i32, kind: u16) -> Self {
        Self {
            x,
            y,
            kind,
            cell: None,
            is_everywhere: false,
            serial: 1,
            changes: VecDeque::new(),
            is_changed: true,
        }
    }

    pub fn set(&mut self, x: i32, y: i32) {
        (self.x, self.y) = (x, y);
        self.change();
    }

    pub fn change(&mut self) {
        self.serial += 1;
        self.is_changed = true;
    }

    /// For how many ticks, `tick` included, the state after change `known` has been too old.
    pub fn lag(&self, known: u64, tick: u64) -> u64 {
        let missed = self.changes.iter().find(|(serial, _)| *serial > known);
        missed.map_or(0, |(_, at)| tick - at + 1)
    }

    pub fn changed_within(&self, ticks: u64, tick: u64) -> bool {
        self.changes.back().is_some_and(|(_, at)| tick - at < ticks)
    }

    /// The tick `tick` takes note of its changes.
    fn settle(&mut self, tick: u64, side: i32) {
        if std::mem::take(&mut self.is_changed) {
            self.changes.push_back((self.serial, tick));
            if self.changes.len() > CHANGES_KEPT {
                self.changes.pop_front();
            }
            let home = self.cell.unwrap_or((self.x.div_euclid(8), self.y.div_euclid(8)));
            self.cell = Some((along(home.0, self.x, side), along(home.1, self.y, side)));
        }
    }
}

/// Which column or row: the one before, up to a quarter (2 eighths) beyond its edges.
fn along(home: i32, place: i32, side: i32) -> i32 {
    let inside = place - home * 8;
    if (-2..10).contains(&inside) { home.clamp(0, side - 1) } else { place.div_euclid(8).clamp(0, side - 1) }
}

/// All entities.
#[derive(Debug, Default)]
pub struct World {
    /// Cells along a side.
    pub side: i32,
    /// By player id.
    pub players: BTreeMap<u32, Entity>,
    /// By object id.
    pub objects: BTreeMap<u32, Entity>,
    /// Players gone since the last tick.
    pub gone_players: Vec<u32>,
    /// Objects gone since the last tick.
    pub gone_objects: Vec<u32>,
}

impl World {
    /// The tick `tick` takes note of everything.
    pub fn settle(&mut self, tick: u64) {
        for player in self.players.values_mut() {
            player.settle(tick, self.side);
        }
        for object in self.objects.values_mut() {
            object.settle(tick, self.side);
            object.is_everywhere = object.kind == EVERYWHERE;
            if object.is_everywhere {
                object.cell = None;
            }
        }
        self.gone_players.clear();
        self.gone_objects.clear();
    }

    /// Players that are in a view, as of the last tick.
    pub fn players_in(&self, view: ViewKey) -> impl Iterator<Item = (u32, &Entity)> {
        self.players.iter().filter(move |(_, player)| sees(view, player)).map(|(id, player)| (*id, player))
    }

    /// Objects in cells that are in a view, as of the last tick.
    pub fn objects_in(&self, view: ViewKey) -> impl Iterator<Item = (u32, &Entity)> {
        self.objects.iter().filter(move |(_, object)| sees(view, object)).map(|(id, object)| (*id, object))
    }
}

pub fn place_of(cell: Cell) -> Place {
    (i32::from(cell.column()), i32::from(cell.row()))
}

pub fn distance(one: Place, other: Place) -> u32 {
    one.0.abs_diff(other.0).max(one.1.abs_diff(other.1))
}

fn sees(view: ViewKey, entity: &Entity) -> bool {
    entity.cell.is_some_and(|cell| distance(cell, place_of(view.cell)) <= u32::from(view.radius))
}
