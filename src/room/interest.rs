//! Interest: which players and objects go into whose frames. Nothing is encoded here, and nobody is told.
//!
//! A view belongs to a cell, not to a player: members that look from the same view get the same frames. Who is in a view is
//! exact at every tick; only how often a position is told depends on the distance.

mod cells;
mod grid;
mod objects;
mod overview;
mod rules;
mod sorted;
mod viewers;
mod views;

use self::cells::{Cells, Entity};
pub use self::grid::Cell;
use self::grid::Grid;
use self::objects::ObjectCells;
use self::overview::Overview;
pub use self::overview::OverviewPlace;
pub use self::rules::ViewRules;
use self::viewers::Viewers;
use self::views::{Pace, RINGS, Views};
pub use self::views::{ViewId, ViewKey};
use crate::limits::VIEW_PERIOD_TICKS_MAX;
use crate::memory::Allocated;
use crate::planted;
use crate::surplus::Surplus;
use crate::time::Instant;

/// Who sees what in a game.
///
/// Each tick: `advance` with all that has changed since the last one; then for each view that a member looks from (`view_of`)
/// `select_delta`, and `select_keyframe` for members that were not sent the last frame of their `ViewId`. Between ticks `look`,
/// `look_away`, and `select_keyframe` for who cannot wait: the tick after it goes on with a Delta.
#[derive(Debug)]
pub struct Interest {
    radius: u8,
    radius_max: u8,
    budget: u16,
    everywhere: Box<[u16]>,
    grid: Grid,
    /// Counts calls of `advance`, so that what is due is told however the game's ticks are numbered.
    tick: u32,
    /// By slot.
    players: Cells,
    objects: ObjectCells,
    views: Views,
    viewers: Viewers,
    overview: Overview,
    /// Ticks until all that has changed was told.
    ticks_left: u32,
}

/// What has changed in a game since the last tick. It is applied in this order, so a seat may be taken again in the same tick.
#[derive(Debug)]
pub struct Changes<G, M, R, O> {
    /// Ids of the players whose seats were freed; those without a position may be among them.
    pub gone_players: G,
    /// Id, x and y of each player whose position was set.
    pub moved: M,
    /// Ids of the objects that were removed.
    pub gone_objects: R,
    /// Objects that were created or changed.
    pub objects: O,
}

/// An object that was created or changed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ChangedObject {
    pub id: u32,
    pub kind: u16,
    pub x: f32,
    pub y: f32,
}

/// What goes into a frame. What is gone comes before what is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ids of the players whose positions are told.
    pub players: Vec<u32>,
    /// Those of `players` that were not in the view before: all else that is known of them is told, too. Empty in a Keyframe,
    /// where it is everybody.
    pub entering: Vec<u32>,
    /// Ids of the objects that are told.
    pub objects: Vec<u32>,
    /// Ids of players that are no longer in the view. Empty in a Keyframe.
    pub gone_players: Vec<u32>,
    /// Ids of objects that are no longer in the view. Empty in a Keyframe.
    pub gone_objects: Vec<u32>,
    /// How crowded the view is, 0 to 4: each level halves how often far positions are told.
    pub level: u8,
}

impl Interest {
    /// Of a game without players, for `rules` that passed their `check` with these `bounds`: `min_x, min_y, max_x, max_y`.
    pub fn new(rules: &ViewRules, bounds: [f32; 4]) -> Self {
        debug_assert_eq!(rules.check(bounds), Ok(()));
        Self {
            radius: rules.radius,
            radius_max: rules.radius_max,
            budget: rules.budget,
            everywhere: rules.everywhere.clone(),
            grid: Grid::new(rules.cell, bounds),
            tick: 0,
            players: Cells::default(),
            objects: ObjectCells::default(),
            views: Views::default(),
            viewers: Viewers::default(),
            overview: Overview::new(rules.overview_hz),
            ticks_left: 0,
        }
    }

    /// A member looks from seat `slot`, `radius` cells far (at most `radius_max`; `None`: the default). It has a view, or another
    /// one, from the next `advance` on, if its player has a position. Before the seat is another member's, `look_away`.
    pub fn look(&mut self, slot: u16, radius: Option<u8>) {
        self.viewers.look(slot, radius.unwrap_or(self.radius).min(self.radius_max));
    }

    /// Nobody looks from seat `slot` any more.
    pub fn look_away(&mut self, slot: u16) {
        self.viewers.look_away(slot);
    }

    /// The view of the member on seat `slot`, as of the last `advance`. `None`: it sees only what is everywhere, like all frames of
    /// `ViewId::NOWHERE`.
    pub fn view_of(&self, slot: u16) -> Option<(ViewKey, ViewId)> {
        self.viewers.view_of(slot)
    }

    /// A tick, at time `now`, with all that has changed since the last one.
    pub fn advance(
        &mut self,
        now: Instant,
        changes: Changes<
            impl IntoIterator<Item = u32>,
            impl IntoIterator<Item = (u32, f32, f32)>,
            impl IntoIterator<Item = u32>,
            impl IntoIterator<Item = ChangedObject>,
        >,
    ) {
        self.tick = self.tick.wrapping_add(1);
        self.players.begin(self.tick);
        for player in changes.gone_players {
            self.remove_player(player);
        }
        for (player, x, y) in changes.moved {
            self.players.place(u32::from(slot_of(player)), player, &self.grid, x, y);
            self.overview.set(slot_of(player), Some(self.grid.coarse(x, y)));
        }
        self.players.finish();
        self.objects.begin(self.tick);
        for object in changes.gone_objects {
            self.objects.remove(object);
        }
        for ChangedObject { id, kind, x, y } in changes.objects {
            if self.everywhere.contains(&kind) {
                self.objects.place_everywhere(id);
            } else {
                self.objects.place(id, &self.grid, x, y);
            }
        }
        self.objects.finish();
        self.move_viewers(now);
        self.set_levels();
        let has_changed = self.players.has_changed() || self.objects.has_changed();
        let ticks = if planted!(SettlesTooEarly) { 2 } else { 2 * VIEW_PERIOD_TICKS_MAX };
        self.ticks_left = if has_changed { ticks } else { self.ticks_left.saturating_sub(1) };
    }

    /// What a Delta of `view` holds at the tick of the last `advance`. `into` is replaced. `None`: that of `ViewId::NOWHERE`.
    pub fn select_delta(&self, view: Option<ViewKey>, into: &mut Selection) {
        into.clear();
        let is_told = |id: &u32| !planted!(DecaysEverywhere) || id.wrapping_add(self.tick).is_multiple_of(4);
        into.objects.extend(self.objects.changed_everywhere().filter(is_told));
        let sees = |cell: Cell| view.is_some_and(|view| view.contains(cell));
        into.gone_objects.extend(self.objects.gone_from_everywhere(sees));
        let Some((key, view)) = view.and_then(|key| Some((key, self.views.view(key)?))) else { return };
        into.level = view.level();
        let pace = view.pace(self.tick);
        for cells in self.grid.rows_around(key.cell, key.radius) {
            for (cell, player) in self.players.residents(cells.clone()) {
                if is_told_in(key, cell, player, pace) {
                    into.players.push(player.id);
                    if player.is_crossing && !player.origin.is_some_and(sees) && !planted!(ForgetsOrigins) {
                        into.entering.push(player.id);
                    }
                }
            }
            let gone = self
                .players
                .departures(cells.clone())
                .filter(|departure| !departure.to.is_some_and(|to| sees(to) || planted!(HidesDepartures)));
            into.gone_players.extend(gone.map(|departure| departure.id));
            let objects = self.objects.cells().residents(cells.clone());
            let told = objects.filter(|(cell, object)| is_told_in(key, *cell, object, pace));
            into.objects.extend(told.map(|(_, object)| object.id));
            into.gone_objects.extend(self.objects.gone_from(cells, sees));
        }
    }

    /// What a Keyframe of `view` holds: everybody in its cells as of the last `advance`, and what all see. `into` is replaced.
    ///
    /// Between ticks, the caller leaves out players and objects that have gone since: a player whose seat has no position, or that
    /// of another player. The others are told as they are now. `None`: only what all see.
    pub fn select_keyframe(&self, view: Option<ViewKey>, into: &mut Selection) {
        into.clear();
        into.objects.extend(self.objects.everywhere());
        let Some(key) = view else { return };
        into.level = self.views.view(key).map_or(0, |view| view.level());
        let was_there = |entity: &Entity| {
            !planted!(KeyframesOfBefore)
                || !entity.is_crossing
                || entity.origin.is_some_and(|cell| key.contains(cell))
        };
        for cells in self.grid.rows_around(key.cell, key.radius) {
            let players = self.players.residents(cells.clone()).map(|(_, player)| player);
            into.players.extend(players.filter(|player| was_there(player)).map(|player| player.id));
            into.objects.extend(self.objects.cells().residents(cells).map(|(_, object)| object.id));
        }
    }

    /// Whether all that has changed was told at the rates of all views, so that the game need not tick until something changes
    /// or somebody looks.
    pub fn is_settled(&self) -> bool {
        self.ticks_left == 0 && self.viewers.is_settled() && self.overview.is_settled()
    }

    /// Whether `player` is in the cells of `view`, as of the last `advance`.
    pub fn sees(&self, view: ViewKey, player: u32) -> bool {
        self.cell_of(player).is_some_and(|cell| view.contains(cell))
    }

    /// Slots of the members in whose view `player` is, as of the last `advance`; its own is among them, if it looks.
    pub fn viewers_of(&self, player: u32) -> impl Iterator<Item = u16> {
        let seen_by = |cell| self.viewers.who_see(cell, &self.grid, self.radius_max);
        self.cell_of(player).map(seen_by).into_iter().flatten()
    }

    /// Adds the part of the overview that is due at `now` to `into`: a round over everybody takes `1 / overview_hz` seconds, or
    /// longer in a crowd. True: a round begins with it. To be called once a tick, behind `advance`, whoever wants to know: with an
    /// overview that is never told nothing settles.
    pub fn overview(&mut self, now: Instant, into: &mut Vec<OverviewPlace>) -> bool {
        self.overview.tell(now, into)
    }

    /// Number of views that somebody looks from.
    pub fn view_count(&self) -> usize {
        self.views.count()
    }

    /// Shrinks what was large for a crowd that is gone; see `surplus`.
    pub fn give_back(&mut self) {
        self.players.give_back();
        self.objects.give_back();
        self.viewers.give_back();
        self.overview.give_back();
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.everywhere.allocated_bytes()
            + self.players.heap_bytes()
            + self.objects.heap_bytes()
            + self.views.heap_bytes()
            + self.viewers.heap_bytes()
            + self.overview.heap_bytes()
    }

    fn cell_of(&self, player: u32) -> Option<Cell> {
        let entity = self.players.entity(u32::from(slot_of(player)))?;
        if entity.id == player { entity.cell } else { None }
    }

    fn remove_player(&mut self, player: u32) {
        if self.cell_of(player).is_some() {
            self.players.remove(u32::from(slot_of(player)), player);
            self.overview.set(slot_of(player), None);
        }
    }

    /// Members follow their players to other views.
    fn move_viewers(&mut self, now: Instant) {
        let players = &self.players;
        let slots = players.crossing().iter().map(|slot| *slot as u16);
        let home_of = |slot: u16| players.entity(u32::from(slot)).and_then(|player| player.cell);
        self.viewers.follow(slots, home_of, now, &mut self.views);
        self.views.drop_empty();
    }

    fn set_levels(&mut self) {
        let Self { views, grid, players, objects, .. } = self;
        views.set_levels(self.tick, self.budget, |key| {
            let mut by_ring = [0; RINGS];
            for cells in grid.rows_around(key.cell, key.radius) {
                for (cell, count) in players.active(cells.clone()).iter().chain(objects.cells().active(cells))
                {
                    by_ring[usize::from(key.cell.distance(*cell)).min(RINGS - 1)] += count;
                }
            }
            by_ring
        });
    }
}

impl Selection {
    /// Empties it, and keeps its room.
    pub fn clear(&mut self) {
        let Self { players, entering, objects, gone_players, gone_objects, level } = self;
        for ids in [players, entering, objects, gone_players, gone_objects] {
            ids.clear();
        }
        *level = 0;
    }

    /// How many ids it has.
    pub fn len(&self) -> usize {
        let Self { players, entering: _, objects, gone_players, gone_objects, level: _ } = self;
        players.len() + objects.len() + gone_players.len() + gone_objects.len()
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shrinks what was large for a crowd that is gone; see `surplus`.
    pub fn give_back(&mut self, wanted: usize) {
        let Self { players, entering, objects, gone_players, gone_objects, level: _ } = self;
        for ids in [players, entering, objects, gone_players, gone_objects] {
            ids.give_back(wanted);
        }
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let Self { players, entering, objects, gone_players, gone_objects, level: _ } = self;
        [players, entering, objects, gone_players, gone_objects].map(Allocated::allocated_bytes).iter().sum()
    }
}

/// Whether `entity` of `cell` is in a Delta of the view `key`: whoever comes to a cell is told at once.
fn is_told_in(key: ViewKey, cell: Cell, entity: &Entity, pace: Pace) -> bool {
    (entity.is_crossing && !planted!(DelaysArrivals))
        || pace.is_due(entity.id, entity.changed_at, key.cell.distance(cell))
}

/// Slot of the seat of `player`: the lower 16 bits of a player id are one more.
fn slot_of(player: u32) -> u16 {
    (player as u16).wrapping_sub(1)
}
