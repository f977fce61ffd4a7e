//! The sweeper goes over all connections: it parks those that are quiet, and finds those that no completion will ever move
//! again, of which there should be none.

use std::ops::Range;
use std::time::Duration;

use super::Loop;
use super::op::{Operation, Token};
use super::sockets::{Flag, State};

/// The sweeper goes over all connections this often …
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// … and over so many in one turn.
const SWEPT_PER_TURN: usize = 4096;

impl Loop {
    /// Goes over a part of the connections, if a sweep is due.
    pub(super) fn sweep(&mut self) {
        if self.now.instant < self.sweep_at {
            return;
        }
        let slots = self.swept..self.sockets.len().min(self.swept + SWEPT_PER_TURN);
        self.swept = slots.end;
        self.sweep_slots(slots);
        if self.swept == self.sockets.len() {
            self.swept = 0;
            self.sweep_at = self.now.instant + SWEEP_INTERVAL;
        }
    }

    fn sweep_slots(&mut self, slots: Range<usize>) {
        for slot in slots {
            let Some(conn) = self.sockets.range(slot..slot + 1).next() else { continue };
            let Some(socket) = self.sockets.find(conn) else { continue };
            let heard = socket.flags.lower(Flag::Heard);
            if socket.flags.has(Flag::Busy) && !heard {
                self.park(conn);
            } else if socket.missing().is_some() && !socket.flags.has(Flag::Queued) {
                tracing::error!(slot, "a live connection had nothing armed (a bug)");
                self.metrics.receives_lost.increment();
                self.queue_receive(conn);
            } else if socket.state == State::Closing {
                // Shut down, yet something is in flight a second later: it is cancelled instead.
                if socket.flags.raise(Flag::SeenClosing) {
                    tracing::warn!(slot, in_flight = socket.in_flight, "a closed connection does not end");
                    // One by one: a cancel by descriptor would look at everything that is in flight on the ring.
                    for operation in [Operation::Receive, Operation::Poll, Operation::Send] {
                        self.driver.ring.cancel(Token::of(operation, conn));
                    }
                }
            }
        }
    }
}
