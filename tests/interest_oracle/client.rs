//! A client: what it makes of its frames.

use std::collections::BTreeMap;

use corelay::room::interest::{Selection, ViewId, ViewKey};

use super::world::World;

/// Ticks of which the relay may take so many to tell a position at most.
pub const PERIOD_MAX: u64 = 16;

/// What a client was told.
#[derive(Debug, Default)]
pub struct Client {
    /// The view that its last frame was of, and that frame's tick.
    pub last: Option<(ViewId, u64)>,
    /// Player id and number of the change that it knows, by slot: what names a player may be its slot alone.
    pub players: BTreeMap<u16, (u32, u64)>,
    /// Number of the change that it knows, by object id.
    pub objects: BTreeMap<u32, u64>,
}

pub fn slot_of(player: u32) -> u16 {
    (player & 0xFFFF) as u16 - 1
}

impl Client {
    /// A Keyframe. Players and objects that have gone since the last tick are left out.
    pub fn keyframe(&mut self, selection: &Selection, world: &World) {
        assert!(selection.gone_players.is_empty() && selection.gone_objects.is_empty());
        assert!(selection.entering.is_empty());
        let known = |id: &u32| Some((slot_of(*id), (*id, world.players.get(id)?.serial)));
        self.players = selection.players.iter().filter_map(known).collect();
        let known = |id: &u32| Some((*id, world.objects.get(id)?.serial));
        self.objects = selection.objects.iter().filter_map(known).collect();
    }

    /// A Delta: first what is gone.
    pub fn delta(&mut self, selection: &Selection, world: &World) {
        for id in &selection.gone_players {
            self.players.remove(&slot_of(*id));
        }
        for id in &selection.gone_objects {
            self.objects.remove(id);
        }
        let mut entering: Vec<u32> = Vec::new();
        for id in &selection.players {
            let player = world.players.get(id).expect("who is told of is here");
            let before = self.players.insert(slot_of(*id), (*id, player.serial));
            if before.is_none_or(|(known, _)| known != *id) {
                entering.push(*id);
            }
        }
        assert_eq!(entering, selection.entering, "whose keys are told");
        for id in &selection.objects {
            self.objects
                .insert(*id, world.objects.get(id).expect("an object that is told of is here").serial);
        }
    }

    /// It sees exactly who was in its view at the last tick and is still here.
    pub fn check_sees_exactly(&self, view: Option<ViewKey>, world: &World) {
        let seen: Vec<u32> = self.players.values().map(|(id, _)| *id).collect();
        let mut there: Vec<u32> =
            view.into_iter().flat_map(|view| world.players_in(view)).map(|(id, _)| id).collect();
        there.sort_unstable_by_key(|id| slot_of(*id));
        assert_eq!(seen, there, "players seen, and those who are there");
        let seen: Vec<u32> = self.objects.keys().copied().collect();
        let near = view.into_iter().flat_map(|view| world.objects_in(view)).map(|(id, _)| id);
        // What became everywhere, or ceased to be, since the last tick, is told with the next one.
        let everywhere = world.objects.iter().filter(|(_, object)| object.is_everywhere).map(|(id, _)| *id);
        let mut there: Vec<u32> = near.chain(everywhere).collect();
        there.sort_unstable();
        there.dedup();
        assert_eq!(seen, there, "objects seen, and those that are there");
    }

    /// Nothing that it knows is older than `allowed` says for its distance, in ticks.
    pub fn check_nothing_old(
        &self,
        view: Option<ViewKey>,
        world: &World,
        tick: u64,
        allowed: impl Fn(u32) -> u64,
    ) {
        let ring = |cell: Option<super::world::Place>| match (view, cell) {
            (Some(view), Some(cell)) => super::world::distance(super::world::place_of(view.cell), cell),
            _ => 0,
        };
        for (id, known) in self.players.values() {
            let player = &world.players[id];
            let (lag, bound) = (player.lag(*known, tick), allowed(ring(player.cell)));
            assert!(
                lag <= bound,
                "player {id} is {lag} ticks old at ring {}, not {bound}",
                ring(player.cell)
            );
        }
        for (id, known) in &self.objects {
            let object = &world.objects[id];
            let bound = if object.is_everywhere { 0 } else { allowed(ring(object.cell)) };
            let lag = object.lag(*known, tick);
            assert!(lag <= bound, "object {id} is {lag} ticks old, not {bound}");
        }
    }

    /// All that it knows is what is.
    pub fn check_nothing_differs(&self, world: &World) {
        for (id, known) in self.players.values() {
            assert_eq!(world.players[id].serial, *known, "player {id}, at rest");
        }
        for (id, known) in &self.objects {
            assert_eq!(world.objects[id].serial, *known, "object {id}, at rest");
        }
    }
}
