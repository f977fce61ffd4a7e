//! A TCP connection between a client and the relay: two streams of bytes, and what either side knows of them.

use std::collections::VecDeque;

use corelay::ids::ConnId;

/// The number of a socket, in order of dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// Where a connection is in its life at the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits to be accepted.
    Dialled,
    Open,
    /// Its letter or its descriptor is on the way to another shard.
    HandingOver,
    /// The shard that it leaves wants it closed.
    GivenUp,
    /// It is shut down; what is in flight is waited for.
    Closing,
    Closed,
}

/// How a client takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Everything,
    /// So many bytes every few milliseconds.
    Slowly(usize),
    Nothing,
}

/// A send that the kernel was given.
#[derive(Debug)]
pub struct Sending {
    bytes: Vec<u8>,
    /// How many of them the kernel has taken.
    taken: usize,
    /// The send's completion is on the way.
    pub completes: bool,
}

#[derive(Debug)]
pub struct Socket {
    pub state: State,
    /// The shard where the connection is, or was last.
    pub shard: usize,
    pub conn: Option<ConnId>,
    /// It may be read from at any time: nothing hands it over any more.
    pub upgraded: bool,
    pub paused: bool,
    /// What the client has sent and the relay has not received.
    pub up: VecDeque<u8>,
    /// The client sends nothing behind `up`.
    pub up_ended: bool,
    /// A receive is in flight, and will complete.
    pub receives: bool,
    /// The core has been told of the end of `up`.
    pub end_told: bool,
    /// The peer is gone: sends fail.
    pub is_reset: bool,
    /// A send has failed: nothing may follow.
    pub broken: bool,
    pub sending: Option<Sending>,
    pub shuts_down_after_send: bool,
    /// What the kernel has taken and the client has not read.
    down: VecDeque<u8>,
    down_bytes_max: usize,
    /// The relay sends nothing behind `down`.
    down_ended: bool,
    inbox: Vec<u8>,
    pub reading: Reading,
    /// The relay has answered something.
    pub answered: bool,
}

impl Socket {
    pub fn new(shard: usize, down_bytes_max: usize) -> Self {
        Self {
            state: State::Dialled,
            shard,
            conn: None,
            upgraded: false,
            paused: false,
            up: VecDeque::new(),
            up_ended: false,
            receives: false,
            end_told: false,
            is_reset: false,
            broken: false,
            sending: None,
            shuts_down_after_send: false,
            down: VecDeque::new(),
            down_bytes_max,
            down_ended: false,
            inbox: Vec::new(),
            reading: Reading::Everything,
            answered: false,
        }
    }

    /// Whether a receive would complete.
    pub fn is_readable(&self) -> bool {
        self.state == State::Open
            && !self.receives
            && !self.paused
            && !self.end_told
            && (!self.up.is_empty() || self.up_ended)
    }

    pub fn send(&mut self, bytes: Vec<u8>) {
        assert!(self.sending.is_none(), "a second send in flight would land inside the first");
        self.answered = true;
        self.sending = Some(Sending { bytes, taken: 0, completes: false });
    }

    /// Moves bytes as far as they go. `true`: the kernel has taken the whole of a send just now.
    pub fn flow(&mut self) -> bool {
        loop {
            if self.reading == Reading::Everything {
                self.inbox.extend(self.down.drain(..));
            }
            let Some(sending) = &mut self.sending else { return false };
            if sending.completes || self.is_reset {
                return false;
            }
            let room = self.down_bytes_max.saturating_sub(self.down.len());
            let end = sending.bytes.len().min(sending.taken + room);
            self.down.extend(&sending.bytes[sending.taken..end]);
            sending.taken = end;
            if end == sending.bytes.len() {
                if self.reading == Reading::Everything {
                    self.inbox.extend(self.down.drain(..));
                }
                sending.completes = true;
                return true;
            }
            if room == 0 {
                return false;
            }
        }
    }

    /// A slow client reads a little.
    pub fn read_slowly(&mut self) {
        if let Reading::Slowly(bytes) = self.reading {
            let bytes = bytes.min(self.down.len());
            self.inbox.extend(self.down.drain(..bytes));
        }
    }

    /// The relay sends nothing more.
    pub fn end_down(&mut self) {
        self.down_ended = true;
    }

    /// The connection breaks: of what is on the way, so many bytes arrive in either direction.
    pub fn reset(&mut self, up: usize, down: usize) {
        self.up.truncate(up);
        self.up_ended = true;
        self.down.truncate(down);
        self.down_ended = true;
        self.is_reset = true;
        self.inbox.extend(self.down.drain(..));
    }

    pub fn bytes_on_the_way(&self) -> (usize, usize) {
        (self.up.len(), self.down.len())
    }

    pub fn take_inbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// Whether the client sees that nothing more comes.
    pub fn is_over(&self) -> bool {
        self.down_ended && self.down.is_empty() && self.inbox.is_empty()
    }
}
