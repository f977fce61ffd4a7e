//! The chat rooms of a shard: by topic, and by when something is due in them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

use crate::ids::Topic;
use crate::limits::{ROOM_LINGER, ROOMS_LINGERING_MAX};
use crate::memory::Allocated;
use crate::room::chat::Chat;
use crate::surplus::Surplus;
use crate::time::Instant;

/// See the module documentation. A room ends a while after its last member has gone: its messages wait for who comes back.
#[derive(Debug, Default)]
pub struct Rooms {
    by_topic: BTreeMap<Arc<Topic>, Box<Entry>>,
    due: BinaryHeap<Reverse<(Instant, Arc<Topic>)>>,
    /// Rooms without members, and since when.
    empty: BTreeSet<(Instant, Arc<Topic>)>,
}

#[derive(Debug)]
struct Entry {
    chat: Chat,
    /// The one entry of `due` that counts for this room.
    due_at: Option<Instant>,
    /// `None`: it has members.
    empty_since: Option<Instant>,
}

impl Rooms {
    /// Number of rooms.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// The room of `topic`, if there is one.
    pub fn find(&mut self, topic: &Topic) -> Option<&mut Chat> {
        self.by_topic.get_mut(topic).map(|entry| &mut entry.chat)
    }

    /// The rooms behind that of `topic`, in order of topic; for walks in parts.
    pub fn after(&self, topic: Option<Arc<Topic>>) -> impl Iterator<Item = (&Arc<Topic>, &Chat)> {
        let first = topic.map_or(Bound::Unbounded, Bound::Excluded);
        let rooms = self.by_topic.range::<Arc<Topic>, _>((first, Bound::Unbounded));
        rooms.map(|(topic, entry)| (topic, &entry.chat))
    }

    /// But for what the rooms own; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let due = self.due.iter().map(|Reverse((_, topic))| topic);
        let empty = self.empty.iter().map(|(_, topic)| topic);
        let topics = self.by_topic.keys().chain(due).chain(empty).map(Topic::shared_bytes);
        self.by_topic.allocated_bytes()
            + self.len() * size_of::<Entry>()
            + self.due.allocated_bytes()
            + self.empty.allocated_bytes()
            + topics.sum::<usize>()
    }

    /// The room of `topic`, made if need be.
    pub fn find_or_insert(&mut self, topic: &Arc<Topic>, new: impl FnOnce() -> Chat) -> &mut Chat {
        let entry = self
            .by_topic
            .entry(topic.clone())
            .or_insert_with(|| Box::new(Entry { chat: new(), due_at: None, empty_since: None }));
        &mut entry.chat
    }

    /// Something has happened in a room: what is due in it, and whether it is still wanted, may have changed.
    pub fn changed(&mut self, topic: &Arc<Topic>, now: Instant) {
        let Some(entry) = self.by_topic.get_mut(topic) else { return };
        if let Some(due) = entry.chat.due()
            && entry.due_at.is_none_or(|at| due < at)
        {
            entry.due_at = Some(due);
            self.due.push(Reverse((due, topic.clone())));
        }
        if !entry.chat.audience().is_empty() {
            if let Some(since) = entry.empty_since.take() {
                self.empty.remove(&(since, topic.clone()));
            }
        } else if !entry.chat.has_messages() {
            self.by_topic.remove(topic);
        } else if entry.empty_since.is_none() {
            entry.empty_since = Some(now);
            self.empty.insert((now, topic.clone()));
        }
    }

    /// A room in which something is due.
    pub fn due(&mut self, now: Instant) -> Option<Arc<Topic>> {
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Reverse((at, topic)) = self.due.pop()?;
            if let Some(entry) = self.by_topic.get_mut(&topic)
                && entry.due_at == Some(at)
            {
                entry.due_at = None;
                return Some(topic);
            }
        }
        None
    }

    /// Forgets rooms that have been empty for long, and the oldest of too many.
    pub fn forget_empty(&mut self, now: Instant) {
        while let Some((since, topic)) = self.empty.first() {
            if *since + ROOM_LINGER > now && self.empty.len() <= ROOMS_LINGERING_MAX {
                return;
            }
            self.by_topic.remove(topic);
            self.empty.pop_first();
        }
    }

    /// Gives back what more rooms needed.
    pub fn give_back(&mut self) {
        self.due.give_back(self.by_topic.len());
    }

    /// Whether a room has members.
    pub fn have_members(&self) -> bool {
        self.by_topic.len() > self.empty.len()
    }

    /// When `due` or `forget_empty` has something to say next.
    pub fn next(&self) -> Option<Instant> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let empty = self.empty.first().map(|(since, _)| *since + ROOM_LINGER);
        due.into_iter().chain(empty).min()
    }
}
