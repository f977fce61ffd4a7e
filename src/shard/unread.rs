//! Messages that have come and were not looked at, because the turn had done its work. Those of one connection are read in the order in
//! which they came, and the connections take turns.
//!
//! Bytes are charged when they come, not when they are read, so what waits is bounded by the byte budget of its connection, and by
//! `UNREAD_BYTES_MAX` where that is wide.

use std::collections::{BTreeMap, VecDeque};

use super::Shard;
use crate::ids::ConnId;
use crate::impossible;
use crate::limits::{UNREAD_BYTES_MAX, UNREAD_WORK_AT_ONCE};
use crate::memory::Allocated;
use crate::planted;
use crate::session::{Dialect, Lifecycle};
use crate::time::Now;

/// See the module documentation. Invariant: `turns` names each connection of `rests` once, and no other.
#[derive(Debug, Default)]
pub(super) struct Unread {
    rests: BTreeMap<ConnId, Rest>,
    /// The connections, in the order in which they are read.
    turns: VecDeque<ConnId>,
}

/// What is left of a connection's bytes.
#[derive(Debug)]
struct Rest {
    bytes: Vec<u8>,
    /// How many of the bytes are read.
    read: usize,
    /// The peer has ended its stream behind these bytes.
    ended: bool,
}

/// What became of bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// No bytes of the connection wait, so these need not, either.
    Nothing,
    /// They wait behind others of the connection.
    Queued,
    /// They wait behind others of the connection, and more may not.
    Full,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// How many connections wait.
    pub(super) fn connections(&self) -> usize {
        self.rests.len()
    }

    /// Puts bytes behind those of the same connection that wait.
    pub(super) fn wait_behind(&mut self, conn: ConnId, bytes: &[u8]) -> Waiting {
        let rest = self.rests.get_mut(&conn).filter(|_| !planted!(OvertakesUnread));
        let Some(rest) = rest else { return Waiting::Nothing };
        rest.bytes.drain(..rest.read);
        rest.read = 0;
        rest.bytes.extend_from_slice(bytes);
        if rest.bytes.len() > UNREAD_BYTES_MAX { Waiting::Full } else { Waiting::Queued }
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let bytes = self.rests.values().map(|rest| rest.bytes.capacity()).sum::<usize>();
        self.rests.allocated_bytes() + self.turns.allocated_bytes() + bytes
    }
}

impl Shard {
    /// Puts the end of a stream behind the bytes of its connection that wait; `false`: none do.
    pub(super) fn end_behind_unread(&mut self, conn: ConnId) -> bool {
        let rest = self.unread.rests.get_mut(&conn);
        rest.map(|rest| rest.ended = true).is_some()
    }

    /// The turn has done its work: the rest of a connection's bytes waits for the next one.
    pub(super) fn leave_unread(&mut self, conn: ConnId, bytes: &[u8]) {
        let rest = Rest { bytes: bytes.to_vec(), read: 0, ended: false };
        match self.unread.rests.insert(conn, rest) {
            None => self.unread.turns.push_back(conn),
            Some(_) => impossible!("what comes behind bytes that wait waits, too"),
        }
    }

    /// Goes on with what waits, a little of each connection in turn.
    pub(super) fn read_unread(&mut self, now: Now) {
        while self.work.is_left()
            && let Some(conn) = self.unread.turns.pop_front()
        {
            let Some(mut rest) = self.unread.rests.remove(&conn) else {
                impossible!("whose turn it is has bytes that wait");
                continue;
            };
            let aside = self.work.set_aside(UNREAD_WORK_AT_ONCE);
            let left = self.read_rest(conn, &mut rest, now);
            self.work.take_back(aside);
            if left > 0 {
                rest.read = rest.bytes.len() - left;
                self.unread.rests.insert(conn, rest);
                self.unread.turns.push_back(conn);
            } else if rest.ended && self.connections.find(conn).is_some() {
                self.peer_is_done(conn, now);
            }
        }
        if self.unread.is_empty() {
            self.unread = Unread::default();
        }
    }

    /// Returns how many bytes are still left.
    fn read_rest(&mut self, conn: ConnId, rest: &mut Rest, now: Now) -> usize {
        let Some(connection) = self.connections.find(conn) else { return 0 };
        match connection.session.lifecycle {
            Lifecycle::Open(dialect @ (Dialect::Native | Dialect::Phoenix | Dialect::Echo)) => {
                let decoder = std::mem::take(&mut connection.session.decoder);
                self.read_messages(conn, dialect, decoder, &mut rest.bytes[rest.read..], now)
            }
            Lifecycle::Closing(_) => {
                self.discard(conn, rest.bytes.len() - rest.read);
                0
            }
            Lifecycle::Upgrading | Lifecycle::HandingOver => 0,
        }
    }
}
