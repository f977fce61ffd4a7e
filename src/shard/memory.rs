//! What the shard's memory is used for.

use super::Shard;
use crate::memory::{Allocated, MemoryByPart};
use crate::session::rate_limit::RateLimiter;

impl Shard {
    /// User memory of connections, games and rooms. It walks over all of them, some 10 ns each, and allocates nothing.
    pub fn memory(&self) -> MemoryByPart {
        let mut memory = MemoryByPart {
            sessions: self.tables_of_sessions(),
            outboxes: self.outputs.allocated_bytes() + self.ready.allocated_bytes(),
            games: self.games.heap_bytes(),
            rooms: self.rooms.heap_bytes(),
            frames: self.pool.heap_bytes() + self.ping.heap_bytes(),
            ..MemoryByPart::default()
        };
        for (_, connection) in self.connections.in_slots(0, self.connections.slots()) {
            memory.sessions += connection.session.heap_bytes();
            memory.outboxes += connection.session.outbox.heap_bytes();
        }
        for (_, game) in self.games.iter() {
            memory.games += game.heap_bytes();
            memory.presence += game.presence_heap_bytes();
        }
        for room in self.rooms.iter() {
            memory.rooms += room.heap_bytes();
            memory.presence += room.presence_heap_bytes();
        }
        memory
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
            + self.given_up.allocated_bytes()
            + self.overflowed.allocated_bytes()
    }
}
