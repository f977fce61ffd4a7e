//! Messages that have come and were not looked at, because the turn had done its work. They are read in the next one, before
//! anything that came later.

use std::collections::VecDeque;

use super::Shard;
use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::session::{Dialect, Lifecycle};
use crate::time::Now;

/// In the order in which they came; a connection is in it once. A rim that stops reading when the work is done keeps it at a
/// buffer or two.
#[derive(Debug, Default)]
pub(super) struct Unread(VecDeque<Rest>);

/// What is left of a connection's bytes.
#[derive(Debug)]
struct Rest {
    conn: ConnId,
    bytes: Vec<u8>,
    /// Behind them the peer has ended its stream.
    ended: bool,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// See `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.allocated_bytes() + self.0.iter().map(|rest| rest.bytes.capacity()).sum::<usize>()
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Rest> {
        self.0.iter_mut().find(|rest| rest.conn == conn)
    }
}

impl Shard {
    /// Puts bytes behind those of the same connection that wait; `false`: none do.
    pub(super) fn wait_behind_unread(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        match self.unread.find(conn) {
            Some(rest) => {
                rest.bytes.extend_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// The same for the end of its stream.
    pub(super) fn end_behind_unread(&mut self, conn: ConnId) -> bool {
        match self.unread.find(conn) {
            Some(rest) => {
                rest.ended = true;
                true
            }
            None => false,
        }
    }

    /// The turn has done its work: the rest of a connection's bytes waits for the next one.
    pub(super) fn leave_unread(&mut self, conn: ConnId, bytes: &[u8]) {
        self.unread.0.push_back(Rest { conn, bytes: bytes.to_vec(), ended: false });
    }

    /// Goes on with what waits.
    pub(super) fn read_unread(&mut self, now: Now) {
        while self.work.is_left()
            && let Some(Rest { conn, mut bytes, ended }) = self.unread.0.pop_front()
        {
            let Some(connection) = self.connections.find(conn) else { continue };
            let left = match connection.session.lifecycle {
                Lifecycle::Open(dialect @ (Dialect::Native | Dialect::Phoenix | Dialect::Echo)) => {
                    self.read_messages(conn, dialect, &mut bytes, now)
                }
                // Whatever a client says after its close, or ours, is not heard.
                Lifecycle::Closing(_) | Lifecycle::Upgrading | Lifecycle::HandingOver => 0,
            };
            if left > 0 {
                bytes.drain(..bytes.len() - left);
                self.unread.0.push_front(Rest { conn, bytes, ended });
            } else if ended {
                self.peer_is_done(conn, now);
            }
        }
        if self.unread.is_empty() {
            self.unread = Unread::default();
        }
    }
}
