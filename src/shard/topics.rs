//! The topics of a shard, of every kind: by name, and by when something is due in them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::kind::Kind;
use crate::ids::Topic;
use crate::impossible;
use crate::limits::ENTRIES_KEPT;
use crate::memory::Allocated;
use crate::planted;
use crate::room::game::Game;
use crate::surplus::{Surplus, is_surplus};
use crate::time::Instant;

/// Place of a topic in its shard's table. Reused, but not while a connection has a seat in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicIndex(u32);

/// The topics of a shard. A topic ends when nobody needs it.
#[derive(Debug, Default)]
pub struct Topics {
    /// Boxed: a table of topics that grows would leave behind half its size each time.
    slots: Vec<Option<Box<Entry>>>,
    /// The lowest is used next, so that the table ends with topics, not with free slots.
    free: BinaryHeap<Reverse<u32>>,
    by_topic: BTreeMap<Arc<Topic>, TopicIndex>,
    due: BinaryHeap<Reverse<(Instant, TopicIndex)>>,
    games: usize,
    documents: usize,
}

#[derive(Debug)]
struct Entry {
    topic: Arc<Topic>,
    kind: Kind,
    /// The one entry of `due` that counts for this topic.
    due_at: Option<Instant>,
}

impl Topics {
    /// Number of topics.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Number of games.
    pub fn games(&self) -> usize {
        self.games
    }

    /// Number of chat rooms.
    pub fn rooms(&self) -> usize {
        self.len() - self.games - self.documents
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// The topic with this name, if there is one.
    pub fn find(&self, topic: &Topic) -> Option<TopicIndex> {
        self.by_topic.get(topic).copied()
    }

    /// The topic at `index`.
    pub fn kind(&mut self, index: TopicIndex) -> Option<&mut Kind> {
        self.entry(index).map(|entry| &mut entry.kind)
    }

    /// The game at `index`; `None`: another kind is there, or nothing.
    pub fn game(&mut self, index: TopicIndex) -> Option<&mut Game> {
        self.kind(index)?.as_game_mut()
    }

    /// The shared name of the topic at `index`.
    pub fn name(&self, index: TopicIndex) -> Option<&Arc<Topic>> {
        self.slots.get(index.0 as usize)?.as_ref().map(|entry| &entry.topic)
    }

    /// Number of slots: every topic's place is below it.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The game in a slot; `None`: another kind is there, or nothing.
    pub fn game_in_slot(&self, slot: usize) -> Option<(TopicIndex, &Game)> {
        let game = self.slots.get(slot)?.as_ref()?.kind.as_game()?;
        Some((TopicIndex(slot as u32), game))
    }

    /// Every topic's place, in order.
    pub fn indices(&self) -> impl Iterator<Item = TopicIndex> {
        self.starting_at(0).map(|(slot, _)| TopicIndex(slot as u32))
    }

    /// The topics in slots from `first` on, with their slots; for walks in parts.
    pub fn starting_at(&self, first: usize) -> impl Iterator<Item = (usize, &Kind)> {
        let entries = self.slots.iter().enumerate().skip(first);
        entries.filter_map(|(slot, entry)| Some((slot, &entry.as_ref()?.kind)))
    }

    /// Whether somebody is in a topic through a channel.
    pub fn have_members(&self) -> bool {
        let has_members =
            |kind: &Kind| kind.as_hosted().audience().is_some_and(|audience| !audience.is_empty());
        self.starting_at(0).any(|(_, kind)| has_members(kind))
    }

    /// Bytes of the table, without what the topics own; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.slots.allocated_bytes()
            + self.len() * size_of::<Entry>()
            + self.free.allocated_bytes()
            + self.by_topic.allocated_bytes()
            + self.by_topic.keys().map(|topic| 2 * Topic::shared_bytes(topic)).sum::<usize>()
            + self.due.allocated_bytes()
    }

    /// Takes a new topic in.
    pub fn insert(&mut self, topic: &Arc<Topic>, kind: Kind) -> TopicIndex {
        self.games += usize::from(kind.as_game().is_some());
        self.documents += usize::from(kind.is_document());
        let entry = Entry { topic: topic.clone(), kind, due_at: None };
        let entry = Some(Box::new(entry));
        let index = match self.free.pop() {
            Some(Reverse(slot)) => {
                self.slots[slot as usize] = entry;
                TopicIndex(slot)
            }
            None => {
                self.slots.push(entry);
                TopicIndex(self.slots.len() as u32 - 1)
            }
        };
        self.by_topic.insert(topic.clone(), index);
        index
    }

    /// Something has happened in a topic: when something is due in it, and whether it is needed, may have changed.
    pub fn changed(&mut self, index: TopicIndex) {
        self.reschedule(index);
        let Some(entry) = self.entry(index) else {
            return impossible!("what happens in a topic happens in one that is there");
        };
        if !entry.kind.as_hosted().is_needed() && !planted!(KeepsTopic) {
            self.remove(index);
        }
    }

    /// Something may be due in a topic earlier than before.
    pub fn reschedule(&mut self, index: TopicIndex) {
        let Some(Some(entry)) = self.slots.get_mut(index.0 as usize) else {
            return impossible!("what happens in a topic happens in one that is there");
        };
        if let Some(due) = entry.kind.as_hosted().due()
            && entry.due_at.is_none_or(|at| due < at)
        {
            entry.due_at = Some(due);
            self.due.push(Reverse((due, index)));
            if self.due.len() > 2 * self.len() + ENTRIES_KEPT {
                self.forget_stale_times();
            }
        }
    }

    /// Drops the entries of `due` that count for nobody: a topic in which something new is due each tick leaves one each time until
    /// the time has come for which it stands. At least half of all are dropped, so each costs a constant.
    fn forget_stale_times(&mut self) {
        let mut times = std::mem::take(&mut self.due).into_vec();
        times.sort_unstable();
        times.dedup();
        let counts = |Reverse((at, index)): &Reverse<(Instant, TopicIndex)>| {
            let entry = self.slots.get(index.0 as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.due_at == Some(*at))
        };
        times.retain(counts);
        self.due = times.into();
    }

    /// A topic in which something is due. The caller lets it do that, and calls `changed`.
    pub fn due(&mut self, now: Instant) -> Option<TopicIndex> {
        while let Some(Reverse((at, index))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.due.pop();
            // What was due in a topic that ended, or ended and was followed by another in its slot, counts for nobody.
            if let Some(entry) = self.entry(index)
                && entry.due_at == Some(at)
            {
                entry.due_at = None;
                return Some(index);
            }
        }
        None
    }

    /// Gives back what more topics needed.
    pub fn give_back(&mut self) {
        let topics = self.len();
        if is_surplus(self.slots.len(), topics) {
            let used = self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            self.slots.truncate(used);
            self.free.retain(|Reverse(slot)| (*slot as usize) < used);
        }
        self.slots.give_back(topics);
        self.free.give_back(topics);
        self.due.give_back(topics);
    }

    /// Number of times at which something is due, those that count for nobody any more included.
    pub fn due_count(&self) -> usize {
        self.due.len()
    }

    /// When `due` may have a topic next.
    pub fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    fn entry(&mut self, index: TopicIndex) -> Option<&mut Entry> {
        self.slots.get_mut(index.0 as usize)?.as_deref_mut()
    }

    fn remove(&mut self, index: TopicIndex) {
        let Some(entry) = self.slots.get_mut(index.0 as usize).and_then(Option::take) else {
            return impossible!("a topic ends once");
        };
        self.games -= usize::from(entry.kind.as_game().is_some());
        self.documents -= usize::from(entry.kind.is_document());
        self.by_topic.remove(&entry.topic);
        self.free.push(Reverse(index.0));
    }
}
