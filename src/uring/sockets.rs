//! The connections of a ring by slot: descriptor, generation, what is in flight, and how far the end is.

use super::ring::Descriptor;
use super::sends::SendId;
use crate::ids::ConnId;

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
    /// Its descriptor is on the way to another ring. `close`: end it if it comes back.
    HandingOver {
        /// The core has given it up meanwhile.
        close: bool,
    },
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
    /// A receive is in flight.
    pub(super) receiving: bool,
    /// Receive many times per submission.
    pub(super) multishot: bool,
    /// The core does not want to receive.
    pub(super) paused: bool,
    /// The core has been told that nothing more will be received.
    pub(super) ended: bool,
    /// It waits in a queue for its next receive.
    pub(super) queued: bool,
    /// A send has failed: part of a frame may be on the wire, so nothing may follow.
    pub(super) broken: bool,
    /// Shut the write side down when the send in flight is done.
    pub(super) shutdown_after_send: bool,
    /// The sweeper has seen it closing.
    pub(super) seen_closing: bool,
}

const _: () = assert!(size_of::<Socket>() <= 24, "part of the memory of an idle player");

impl Socket {
    const FREE: Self = Self {
        descriptor: Descriptor(0),
        generation: 0,
        state: State::Free,
        send: None,
        in_flight: 0,
        receiving: false,
        multishot: false,
        paused: false,
        ended: false,
        queued: false,
        broken: false,
        shutdown_after_send: false,
        seen_closing: false,
    };

    /// A receive should be in flight.
    pub(super) fn wants_receive(&self) -> bool {
        self.state == State::Open && !self.paused && !self.ended
    }
}

/// The table. Its memory is touched as far as slots have ever been used.
pub(super) struct Sockets {
    sockets: Vec<Socket>,
}

/// Bytes of one place in the table.
pub const SOCKET_BYTES: usize = size_of::<Socket>();
const _: () = assert!(SOCKET_BYTES <= crate::limits::SOCKET_BYTES_MAX);

impl Sockets {
    /// Room for `connections`; more grow it.
    pub(super) fn new(connections: u32) -> Self {
        Self { sockets: Vec::with_capacity(connections as usize) }
    }

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

    /// The connection, if it is still that one.
    pub(super) fn find(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(conn.slot as usize)?;
        (socket.generation == conn.generation && socket.state != State::Free).then_some(socket)
    }

    /// Frees the slot after its last completion.
    pub(super) fn release(&mut self, conn: ConnId) {
        let socket = self.find(conn).expect("a connection is released once");
        assert_eq!(socket.in_flight, 0, "a slot with something in flight must not be used again");
        socket.state = State::Free;
    }

    /// Slots that have ever been used.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
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
        let mut sockets = Sockets::new(4);
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
    #[should_panic(expected = "must not be used again")]
    fn a_slot_with_something_in_flight_is_not_released() {
        let mut sockets = Sockets::new(1);
        let conn = ConnId { slot: 0, generation: 0 };
        sockets.open(conn, Descriptor(0));
        sockets.find(conn).unwrap().in_flight = 1;
        sockets.release(conn);
    }
}
