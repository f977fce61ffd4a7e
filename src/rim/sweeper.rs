//! The sweeper goes over all connections: it parks those that are quiet, and finds those that no completion will ever move again,
//! of which there should be none. After each round the loop gives back what it no longer needs. It also has memory counted.

use std::ops::Range;
use std::time::Duration;

use super::Loop;
use super::driver::{Cancel, Driver, ShutdownSides};
use super::sockets::{Flag, State};
use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::surplus::Surplus;

/// How often the sweeper goes over all connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that it looks at in one turn.
const SWEPT_PER_TURN: usize = 4096;
/// How often memory is counted, which is a walk over everything.
const MEMORY_INTERVAL: Duration = Duration::from_secs(10);
/// Connections, seats and members that are counted in one turn: 0.1 ms of players, 0.6 ms of members of rooms.
const COUNTED_PER_TURN: usize = 2048;

impl<D: Driver> Loop<D> {
    /// Goes over a part of the connections, if a sweep is due.
    pub(super) fn sweep(&mut self) {
        if self.now.instant < self.sweep_at {
            return;
        }
        // The table may have become shorter since the last turn.
        let end = self.sockets.len().min(self.swept + SWEPT_PER_TURN);
        self.sweep_slots(self.swept..end);
        self.swept = end;
        if self.swept == self.sockets.len() {
            self.swept = 0;
            self.sweep_at = self.now.instant + SWEEP_INTERVAL;
            self.sweep_handovers();
            self.give_back();
        }
    }

    /// Gives back what the shard and its driver have reserved for more connections than there are.
    fn give_back(&mut self) {
        self.shard.give_back();
        self.sockets.give_back();
        let slots = self.sockets.len();
        self.address_by_slot.truncate(slots);
        self.address_by_slot.give_back(0);
        self.receives.give_back(slots);
        self.starved.give_back(slots);
        self.transports.give_back();
        self.handovers.give_back();
        self.overflow.iter_mut().for_each(|letters| letters.give_back(0));
        // Last, because it has the allocator return what the others have freed.
        self.driver.give_back(slots);
    }

    /// Counts a part of the memory, if a count is due.
    pub(super) fn count_memory(&mut self) {
        if self.now.instant < self.count_memory_at {
            return;
        }
        let Some(mut memory) = self.shard.count_memory(&mut self.memory_count, COUNTED_PER_TURN) else {
            return;
        };
        self.count_memory_at = self.now.instant + MEMORY_INTERVAL;
        memory.tls = self.transports.heap_bytes();
        memory.rings = self.sockets.heap_bytes()
            + self.driver.heap_bytes()
            + self.address_by_slot.allocated_bytes()
            + self.receives.allocated_bytes()
            + self.starved.allocated_bytes();
        let waiting = self.overflow.iter().map(Allocated::allocated_bytes);
        memory.mailboxes = self.mailbox.heap_bytes() + waiting.sum::<usize>();
        self.metrics.set_memory(&memory);
    }

    fn sweep_slots(&mut self, slots: Range<usize>) {
        for slot in slots {
            let Some(conn) = self.sockets.range(slot..slot + 1).next() else { continue };
            let Some(socket) = self.sockets.find(conn) else { continue };
            let heard = socket.flags.lower(Flag::Heard);
            if socket.flags.has(Flag::Metered) && self.shard.has_full_byte_budget(conn, self.now) {
                socket.flags.lower(Flag::Metered);
            }
            if socket.flags.has(Flag::Busy) && !heard {
                self.park(conn);
            } else if socket.missing().is_some() && !socket.flags.has(Flag::Queued) {
                tracing::error!(slot, "a live connection had nothing armed (a bug)");
                self.metrics.receives_lost.increment();
                self.queue_receive(conn);
            } else if socket.state == State::Closing && socket.flags.raise(Flag::SeenClosing) {
                self.hurry(conn);
            }
        }
    }

    /// A second after a connection began to close something is still in flight.
    fn hurry(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.flags.lower(Flag::LastWords) {
            // Its client takes nothing, so it is not told either. From here on it closes like any other.
            socket.flags.lower(Flag::SeenClosing);
            self.submit_shutdown(conn, ShutdownSides::Both);
            return;
        }
        tracing::warn!(slot = conn.slot, in_flight = socket.in_flight, "a closed connection does not end");
        // One by one: a cancel by descriptor would look at everything that is in flight on the ring.
        let (descriptor, send) = (socket.descriptor, socket.send.map(Cancel::Send));
        let stuck =
            [Cancel::Receive(conn, descriptor), Cancel::Poll(conn, descriptor)].into_iter().chain(send);
        stuck.for_each(|what| self.driver.cancel(what));
    }
}
