//! What the shard's memory is used for.

use super::Shard;
use super::kind::Kind;
use super::tokens::Tokens;
use crate::memory::{Allocated, MemoryByPart};
use crate::session::rate_limit::RateLimiter;

/// A count under way, by `Shard::count_memory`. What comes or goes behind it is not counted this time.
#[derive(Debug, Default)]
pub struct MemoryCount {
    counted: MemoryByPart,
    /// The first slot of connections that is still to come.
    connection: usize,
    /// The first slot of topics that is still to come.
    topic: usize,
}

impl Shard {
    /// User memory of connections, games, rooms and documents.
    pub fn memory(&self) -> MemoryByPart {
        let mut count = MemoryCount::default();
        loop {
            if let Some(memory) = self.count_memory(&mut count, usize::MAX) {
                return memory;
            }
        }
    }

    /// Goes on with a count, which is a walk over everything: about `count_max` connections, seats and members of rooms and documents (a
    /// game or room is not parted). `Some`: it is done, and the next one begins. Allocates nothing.
    pub fn count_memory(&self, count: &mut MemoryCount, count_max: usize) -> Option<MemoryByPart> {
        let mut left = count_max;
        let counted = &mut count.counted;
        let slots = left.min(self.connections.slots().saturating_sub(count.connection));
        for (_, connection) in self.connections.in_slots(count.connection, slots) {
            counted.sessions += connection.session.heap_bytes();
            counted.outboxes += connection.session.outbox.heap_bytes();
        }
        count.connection += slots;
        left -= slots;
        for (slot, kind) in self.topics.starting_at(count.topic) {
            if left == 0 {
                return None;
            }
            let topic = kind.as_hosted();
            let members = topic.audience().map_or(0, |audience| audience.len() as usize);
            let (part, walked) = match kind {
                Kind::Game(game) => (&mut counted.games, game.seats().slots()),
                Kind::Room(_) => (&mut counted.rooms, members),
                Kind::Document(_) => (&mut counted.documents, members),
            };
            left = left.saturating_sub(1 + walked);
            *part += topic.heap_bytes();
            counted.presence += topic.presence_heap_bytes();
            count.topic = slot + 1;
        }
        if left == 0 {
            return None;
        }
        let MemoryCount { mut counted, .. } = std::mem::take(count);
        counted.sessions += self.tables_of_sessions();
        counted.outboxes += self.outputs.allocated_bytes() + self.ready.allocated_bytes();
        let tables = self.topics.heap_bytes();
        let part_of = |topics: usize| tables * topics / self.topics.len().max(1);
        let (rooms, documents) = (part_of(self.topics.rooms()), part_of(self.topics.documents()));
        counted.rooms += rooms;
        counted.documents += documents;
        counted.games += tables - rooms - documents;
        counted.frames = self.pool.heap_bytes() + self.ping.heap_bytes();
        Some(counted)
    }

    fn tables_of_sessions(&self) -> usize {
        let heads = self.heads.values().map(Vec::allocated_bytes).sum::<usize>();
        let held_rates = self.held_rates.values().map(RateLimiter::heap_bytes).sum::<usize>();
        self.connections.heap_bytes()
            + self.heads.allocated_bytes()
            + heads
            + self.held_rates.allocated_bytes()
            + held_rates
            + self.deadlines.heap_bytes()
            + self.subscribers.heap_bytes()
            + self.tokens.as_ref().map_or(0, Tokens::heap_bytes)
            + self.overflowed.allocated_bytes()
            + self.inquiries.allocated_bytes()
            + self.unread.heap_bytes()
    }
}
