//! The connections of a shard by slot: descriptor, generation, what is in flight, and how far the end is.
//!
//! How a connection receives:
//!
//! * until its request head is read, one receive at a time, so that it can be handed over with nothing in flight;
//! * then it is *parked*: a poll tells that something has come, one receive that does not wait takes it, and the next poll is
//!   armed. A poll costs the kernel 256 bytes, an armed multishot receive 864, and most connections are quiet most of the time;
//! * one that is heard twice within a sweep is *busy*: a multishot receive saves it the poll for each message. After a sweep in
//!   silence it is parked again.
//!
//! The poll tells once. A multishot poll would be armed once for all messages, but it ends by a cancel only, and the kernel looks
//! for what to cancel in 256 lists: with 16,000 connections that is a walk over 64 of them, and a million that go at once take
//! minutes. One that tells once ends by a shutdown, or has ended already when the client's close is read.

use super::driver::{Descriptor, SendId};
use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::surplus::Surplus;

/// Where a connection is in its life.
///
/// Its descriptor is closed only in `Closing` and only when nothing is in flight on it: closed earlier, the peer would see no
/// end, and what it sends would arrive beside the next connection of the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection has the slot.
    Free,
    /// It receives and sends.
    Open,
    /// Its descriptor is on the way to another shard.
    HandingOver,
    /// Its descriptor is on the way to another shard, and the core has closed it meanwhile: it ends here if that shard does not
    /// take it.
    GivenUp,
    /// Waits for the last completion of everything in flight.
    Closing,
    /// Waits for the completion of the close of its descriptor.
    ClosingDescriptor,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub(super) descriptor: Descriptor,
    pub(super) generation: u32,
    pub(super) state: State,
    /// The one send in flight.
    pub(super) send: Option<SendId>,
    /// Submissions whose last completion has not come.
    pub(super) in_flight: u8,
    pub(super) flags: Flags,
}

/// What is true of a connection beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Flag {
    /// A receive is in flight.
    Receiving = 1,
    /// The request head is read; nothing hands the connection over any more.
    Upgraded = 1 << 1,
    /// The core does not want to receive.
    Paused = 1 << 2,
    /// The core has been told that nothing more will be received.
    Ended = 1 << 3,
    /// It waits in a queue for its next receive.
    Queued = 1 << 4,
    /// A send has failed: part of a frame may be on the wire, so nothing may follow.
    Broken = 1 << 5,
    /// Shut the write side down when the send in flight is done.
    ShutdownAfterSend = 1 << 6,
    /// The sweeper has seen it closing.
    SeenClosing = 1 << 7,
    /// A poll is in flight.
    Polling = 1 << 8,
    /// There may be something to receive.
    Readable = 1 << 9,
    /// A multishot receive takes what comes.
    Busy = 1 << 10,
    /// It was paused, and its byte budget is not full again: it receives one buffer at a time, since a multishot receive takes all
    /// that has come before a cancel takes effect.
    Metered = 1 << 11,
    /// It was heard since the last sweep.
    Heard = 1 << 12,
    /// It waits for the next step of its handshake, and nothing more is received until then.
    Handshaking = 1 << 13,
    /// Nothing may follow but what TLS has still to say. One that is closing waits for that.
    LastWords = 1 << 14,
}

/// A set of `Flag`s, in two bytes of every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

/// What has to be armed on a connection so that nothing it receives is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arming {
    /// One receive that waits.
    One,
    /// One receive that takes what is there.
    Now,
    /// Receives without end.
    Many,
    /// A poll.
    Poll,
}

impl Flags {
    pub(super) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Returns whether the flag was raised already.
    pub(super) fn raise(&mut self, flag: Flag) -> bool {
        let before = self.has(flag);
        self.0 |= flag as u16;
        before
    }

    /// Returns whether the flag was raised.
    pub(super) fn lower(&mut self, flag: Flag) -> bool {
        let before = self.has(flag);
        self.0 &= !(flag as u16);
        before
    }
}

impl Socket {
    const FREE: Self = Self {
        descriptor: Descriptor(0),
        generation: 0,
        state: State::Free,
        send: None,
        in_flight: 0,
        flags: Flags(0),
    };

    /// Nothing that the core sends may follow what was sent.
    pub(super) fn is_mute(&self) -> bool {
        self.flags.has(Flag::Broken) || self.flags.has(Flag::LastWords)
    }

    /// A receive or a poll is in flight.
    pub(super) fn listens(&self) -> bool {
        self.flags.has(Flag::Receiving) || self.flags.has(Flag::Polling)
    }

    /// What has to be armed next. `None`: nothing, or the core does not want to receive.
    pub(super) fn missing(&self) -> Option<Arming> {
        let has = |flag| self.flags.has(flag);
        let wanted = self.state == State::Open && !has(Flag::Paused) && !has(Flag::Ended);
        if !wanted || has(Flag::Receiving) || has(Flag::Polling) || has(Flag::Handshaking) {
            return None;
        }
        Some(match (has(Flag::Upgraded), has(Flag::Busy), has(Flag::Readable)) {
            (false, _, _) => Arming::One,
            (true, true, _) => Arming::Many,
            (true, false, true) => Arming::Now,
            (true, false, false) => Arming::Poll,
        })
    }
}

/// The table, up to the last slot in use. It reserves nothing ahead: what it would reserve after a crowd is memory that others
/// have used, which costs, unlike memory that nobody has touched.
#[derive(Default)]
pub(super) struct Sockets {
    sockets: Vec<Socket>,
}

/// Bytes of one place in the table.
pub const SOCKET_BYTES: usize = size_of::<Socket>();
const _: () = assert!(SOCKET_BYTES <= crate::limits::SOCKET_BYTES_MAX);

impl Sockets {
    /// Gives the slot of `conn` a descriptor.
    pub(super) fn open(&mut self, conn: ConnId, descriptor: Descriptor) {
        let slot = conn.slot as usize;
        while self.sockets.len() <= slot {
            self.sockets.push(Socket::FREE);
        }
        let socket = &mut self.sockets[slot];
        assert_eq!(socket.state, State::Free, "slot {slot} still has a connection");
        *socket = Socket { descriptor, generation: conn.generation, state: State::Open, ..Socket::FREE };
    }

    /// The connection, if its slot is not another one's by now.
    pub(super) fn find(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(conn.slot as usize)?;
        (socket.generation == conn.generation && socket.state != State::Free).then_some(socket)
    }

    /// Frees the slot after its last completion.
    pub(super) fn release(&mut self, conn: ConnId) {
        let socket = self.find(conn).expect("a connection is released once");
        assert_eq!(socket.in_flight, 0, "a slot with something in flight must not be used again");
        socket.state = State::Free;
        while self.sockets.last().is_some_and(|last| last.state == State::Free) {
            self.sockets.pop();
        }
    }

    /// Frees what a larger number of connections needed.
    pub(super) fn give_back(&mut self) {
        self.sockets.give_back(0);
    }

    /// Slots up to the last one in use.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.sockets.allocated_bytes()
    }

    /// The connections of some slots.
    pub(super) fn range(&self, slots: std::ops::Range<usize>) -> impl Iterator<Item = ConnId> {
        let used = self.sockets[slots.clone()].iter().zip(slots);
        used.filter(|(socket, _)| socket.state != State::Free)
            .map(|(socket, slot)| ConnId { slot: slot as u32, generation: socket.generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_generation_is_another_connection() {
        let mut sockets = Sockets::default();
        let (old, new) = (ConnId { slot: 3, generation: 0 }, ConnId { slot: 3, generation: 1 });
        sockets.open(old, Descriptor(7));
        assert!(sockets.find(new).is_none());
        sockets.release(old);
        assert!(sockets.find(old).is_none(), "a free slot is nobody's");
        sockets.open(new, Descriptor(8));
        assert!(sockets.find(old).is_none());
        assert_eq!(sockets.find(new).unwrap().descriptor, Descriptor(8));
        assert_eq!(sockets.range(0..sockets.len()).collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn the_table_ends_with_its_last_connection() {
        let mut sockets = Sockets::default();
        let conns: Vec<_> = (0..10_000).map(|slot| ConnId { slot, generation: 0 }).collect();
        conns.iter().for_each(|conn| sockets.open(*conn, Descriptor(0)));
        let (few, many) = conns.split_at(20);
        many.iter().for_each(|conn| sockets.release(*conn));
        assert_eq!(sockets.len(), 20);
        sockets.give_back();
        assert!(sockets.sockets.capacity() < 1_000, "{}", sockets.sockets.capacity());
        few[..19].iter().for_each(|conn| sockets.release(*conn));
        assert_eq!((sockets.len(), sockets.range(0..20).collect::<Vec<_>>()), (20, vec![few[19]]));
        assert!(sockets.find(many[0]).is_none(), "beyond the table is nobody");
        sockets.release(few[19]);
        assert_eq!(sockets.len(), 0);
        sockets.open(many[0], Descriptor(1));
        assert_eq!((sockets.len(), sockets.find(many[0]).is_some()), (21, true));
    }

    #[test]
    fn flags_tell_what_they_were() {
        let mut flags = Flags::default();
        assert!(!flags.raise(Flag::Queued) && flags.raise(Flag::Queued));
        assert!(flags.has(Flag::Queued) && !flags.has(Flag::SeenClosing));
        assert!(flags.lower(Flag::Queued) && !flags.lower(Flag::Queued));
    }

    #[test]
    #[should_panic(expected = "must not be used again")]
    fn a_slot_with_something_in_flight_is_not_released() {
        let mut sockets = Sockets::default();
        let conn = ConnId { slot: 0, generation: 0 };
        sockets.open(conn, Descriptor(0));
        sockets.find(conn).unwrap().in_flight = 1;
        sockets.release(conn);
    }
}
