//! The games of a shard: by name, and by when something is due in them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::ids::{PlayerId, TopicName};
use crate::memory::Allocated;
use crate::room::game::Game;
use crate::room::seats::SeatIndex;
use crate::surplus::{Surplus, is_surplus};
use crate::time::Instant;

/// Place of a game in its shard's table. Reused, but not while a connection has a seat in the game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GameIndex(u32);

/// A held seat whose time may be over. It is not, if the player came back meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldSeat {
    /// When.
    pub until: Instant,
    /// Where.
    pub game: GameIndex,
    /// Where.
    pub seat: SeatIndex,
    /// For whom.
    pub player: PlayerId,
}

/// See the module documentation. Only games in which something changed have a tick to come.
#[derive(Debug, Default)]
pub struct Games {
    /// Boxed: a table of games that grows would leave behind half its size each time.
    slots: Vec<Option<Box<Entry>>>,
    /// The lowest is used next, so that the table ends with games, not with free slots.
    free: BinaryHeap<Reverse<u32>>,
    by_name: BTreeMap<TopicName, GameIndex>,
    ticks: BinaryHeap<Reverse<(Instant, GameIndex)>>,
    held_seats: BinaryHeap<Reverse<HeldSeat>>,
    /// When a game has something to tell its channels that is not of a tick.
    channels: BinaryHeap<Reverse<(Instant, GameIndex)>>,
}

#[derive(Debug)]
struct Entry {
    game: Game,
    /// The one entry of `ticks` that counts for this game.
    tick_at: Option<Instant>,
    /// The one entry of `channels` that does.
    channels_at: Option<Instant>,
}

impl Games {
    /// Number of games.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The game called `name`, if somebody is in it.
    pub fn find(&self, name: &TopicName) -> Option<GameIndex> {
        self.by_name.get(name).copied()
    }

    /// Every game, in order of index.
    pub fn iter(&self) -> impl Iterator<Item = (GameIndex, &Game)> {
        let entries = self.slots.iter().enumerate();
        entries.filter_map(|(slot, entry)| Some((GameIndex(slot as u32), &entry.as_ref()?.game)))
    }

    /// The games in slots from `first` on, with their slots; for walks in parts.
    pub fn starting_at(&self, first: usize) -> impl Iterator<Item = (usize, &Game)> {
        let entries = self.slots.iter().enumerate().skip(first);
        entries.filter_map(|(slot, entry)| Some((slot, &entry.as_ref()?.game)))
    }

    /// But for what the games own; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let names = self.by_name.keys().map(TopicName::heap_bytes).sum::<usize>();
        self.slots.allocated_bytes()
            + self.len() * size_of::<Entry>()
            + self.free.allocated_bytes()
            + self.by_name.allocated_bytes()
            + names
            + self.ticks.allocated_bytes()
            + self.held_seats.allocated_bytes()
            + self.channels.allocated_bytes()
    }

    /// Takes a new game in.
    pub fn insert(&mut self, game: Game) -> GameIndex {
        let name = game.name().clone();
        let entry = Some(Box::new(Entry { game, tick_at: None, channels_at: None }));
        let index = match self.free.pop() {
            Some(Reverse(slot)) => {
                self.slots[slot as usize] = entry;
                GameIndex(slot)
            }
            None => {
                self.slots.push(entry);
                GameIndex(self.slots.len() as u32 - 1)
            }
        };
        self.by_name.insert(name, index);
        index
    }

    /// Removes a game that nobody is in any more.
    pub fn remove(&mut self, index: GameIndex) {
        if let Some(entry) = self.slots[index.0 as usize].take() {
            self.by_name.remove(entry.game.name());
            self.free.push(Reverse(index.0));
        }
    }

    /// Gives back what more games needed.
    pub fn give_back(&mut self) {
        let games = self.len();
        if is_surplus(self.slots.len(), games) {
            let used = self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            self.slots.truncate(used);
            self.free.retain(|Reverse(slot)| (*slot as usize) < used);
        }
        self.slots.give_back(games);
        self.free.give_back(games);
        self.ticks.give_back(games);
        self.held_seats.give_back(games);
        self.channels.give_back(games);
    }

    /// The game at `index`.
    pub fn game(&mut self, index: GameIndex) -> Option<&mut Game> {
        self.slots.get_mut(index.0 as usize)?.as_mut().map(|entry| &mut entry.game)
    }

    /// Something changed in the game: its next tick has work to do.
    pub fn changed(&mut self, index: GameIndex, now: Instant) {
        let Some(Some(entry)) = self.slots.get_mut(index.0 as usize) else { return };
        if entry.tick_at.is_none() {
            let at = entry.game.clock().next_after(now);
            entry.tick_at = Some(at);
            self.ticks.push(Reverse((at, index)));
        }
    }

    /// A game whose tick is due, and when it was.
    pub fn due_tick(&mut self, now: Instant) -> Option<(GameIndex, Instant)> {
        while let Some(Reverse((at, index))) =
            self.ticks.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.ticks.pop();
            // A tick of a game that ended, or ended and was followed by another in its slot, counts for nobody.
            if let Some(Some(entry)) = self.slots.get_mut(index.0 as usize)
                && entry.tick_at == Some(at)
            {
                entry.tick_at = None;
                return Some((index, at));
            }
        }
        None
    }

    /// The game has something to tell its channels at `due`.
    pub fn channels_due(&mut self, index: GameIndex, due: Instant) {
        let Some(Some(entry)) = self.slots.get_mut(index.0 as usize) else { return };
        if entry.channels_at.is_none_or(|at| due < at) {
            entry.channels_at = Some(due);
            self.channels.push(Reverse((due, index)));
        }
    }

    /// A game that has something to tell its channels.
    pub fn due_channels(&mut self, now: Instant) -> Option<GameIndex> {
        while let Some(Reverse((at, index))) =
            self.channels.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.channels.pop();
            if let Some(Some(entry)) = self.slots.get_mut(index.0 as usize)
                && entry.channels_at == Some(at)
            {
                entry.channels_at = None;
                return Some(index);
            }
        }
        None
    }

    /// A seat is held from now on.
    pub fn seat_held(&mut self, held: HeldSeat) {
        self.held_seats.push(Reverse(held));
    }

    /// A seat whose time may be over.
    pub fn due_seat(&mut self, now: Instant) -> Option<HeldSeat> {
        self.held_seats.peek().filter(|Reverse(held)| held.until <= now)?;
        self.held_seats.pop().map(|Reverse(held)| held)
    }

    /// When `due_tick`, `due_seat` or `due_channels` has something to say next.
    pub fn next(&self) -> Option<Instant> {
        let tick = self.ticks.peek().map(|Reverse((at, _))| *at);
        let seat = self.held_seats.peek().map(|Reverse(held)| held.until);
        let channels = self.channels.peek().map(|Reverse((at, _))| *at);
        tick.into_iter().chain(seat).chain(channels).min()
    }
}
