//! The border between the loop and the kernel. The loop asks by calling a method and is answered by a `Completion`; it does not
//! know which kernel interface a driver uses. The tests in `conformance` say what every driver does.
//!
//! A driver decides nothing: it knows descriptors, and carries a connection's id from each operation to its completions.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::listener::Listener;
use crate::ids::{ConnId, ShardId};
use crate::limits::{ACCEPTS_IN_FLIGHT, RECEIVE_BUFFER_BYTES, SINGLE_ACCEPTS_MAX};
use crate::mailbox::Ticket;
use crate::shard::Frames;

/// A client's socket: its place in the driver's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u32);

/// Names a send in flight, so that it can be cancelled. Never 0, so that an `Option` of it is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendId(pub std::num::NonZeroU32);

/// Names an accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Takes client after client until something ends it. It does not tell their addresses.
    Many,
    /// Takes one client. The number is below `SINGLE_ACCEPTS_MAX`.
    One(u8),
}

/// Which of a shard's two listeners an accept is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `listen`.
    Plain,
    /// `listen_tls`.
    Secure,
}

impl Accept {
    /// Where its clients come from: the second half of the numbers is for `listen_tls`.
    pub fn side(self) -> Side {
        match self {
            Self::One(number) if usize::from(number) >= ACCEPTS_IN_FLIGHT => Side::Secure,
            Self::Many | Self::One(_) => Side::Plain,
        }
    }
}

const _: () = assert!(SINGLE_ACCEPTS_MAX < u8::MAX as usize, "the number of an accept is one byte");

/// How much one receive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// One buffer, when something comes.
    One,
    /// One buffer of what is there already, or `Received::Nothing`.
    Now,
    /// Buffer after buffer, until something ends it.
    Many,
}

/// How a `shutdown` ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSides {
    /// Nothing more is sent.
    Write,
    /// Receives, polls and the send in flight end.
    Both,
}

/// What to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// An accept. It may still bring a client.
    Accept(Accept),
    /// The receive of a connection. It may still bring bytes.
    Receive(ConnId, Descriptor),
    /// The poll of a connection.
    Poll(ConnId, Descriptor),
    /// A send. Part of it may have gone out.
    Send(SendId),
}

/// The outcome of an operation, or something that came unasked. Every operation on a connection is answered, and its last answer
/// is marked as such. A cancel has no answer of its own: the cancelled operation has.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Completion {
    /// A client, or why there is none.
    Accepted {
        accept: Accept,
        /// The accept goes on.
        more: bool,
        client: Result<Descriptor, Errno>,
    },
    /// What a receive brought.
    Received {
        /// The connection may be gone by now.
        conn: ConnId,
        what: Received,
        /// More bytes were there than the receive took.
        left_some: bool,
        /// The receive goes on.
        more: bool,
    },
    /// Something is there for a connection: bytes, the end of its stream, an error.
    Polled { conn: ConnId },
    /// A send is over, and its frames are let go of.
    Sent {
        conn: ConnId,
        /// Bytes that have gone out.
        bytes: usize,
        /// Why the rest has not. Part of a frame may be on the wire, so nothing may follow it.
        failed: Option<Errno>,
    },
    /// A `shutdown` is done.
    ShutDown { conn: ConnId },
    /// The socket of a connection is closed.
    Closed { conn: ConnId },
    /// The socket of a client that never became a connection is closed.
    Discarded,
    /// The other shard has the socket, or could not take it. The place here is still to be closed.
    HandedOver { conn: ConnId, outcome: Result<(), Errno> },
    /// A socket has come from another shard.
    Arrived {
        /// The letter that announces the socket has this ticket, too.
        ticket: Ticket,
        descriptor: Result<Descriptor, Errno>,
    },
}

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes in a lent buffer, which must go back by `Driver::release` even if the connection is gone.
    Bytes(Lent),
    /// The peer sends nothing more, or the connection is broken.
    End,
    /// Nothing was there, or the receive was cancelled.
    Nothing,
    /// No buffer was free. A receive that is asked for before one is free fails again.
    Starved,
}

/// A receive buffer with bytes in it. The owner of this value is its only reader.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the driver must have it back"]
pub struct Lent {
    pub(super) buffer: u16,
    pub(super) bytes: u16,
}

const _: () = assert!(RECEIVE_BUFFER_BYTES <= u16::MAX as u32, "how many bytes are in a buffer is two bytes");

/// What a driver has counted since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Completions, including those that the loop is not told of.
    pub completions: u64,
    /// Calls that submit or wait.
    pub enters: u64,
    /// How often there were more completions than their queue holds: a bug.
    pub overflows: u64,
}

/// What a loop asks of the kernel. A driver belongs to the thread that enables it. An operation begins at once, or with the next
/// `submit` or `wait` at the latest, and completes in `next_completion`.
pub trait Driver {
    /// Why the driver cannot go on.
    type Error: fmt::Debug + fmt::Display;
    /// How a driver is reached by those of other shards.
    type Peer: Clone + Send + 'static;

    /// By what the drivers of other shards reach this one.
    fn peer(&self) -> Self::Peer;

    /// Begins to work for the calling thread. `peers`: those of every shard's driver, by number.
    fn enable(&mut self, peers: Vec<Self::Peer>) -> Result<(), Self::Error>;

    /// Accepts clients. Each `Accept` may be in flight once at a time, all of them on one listener, which must stay open until the
    /// last completion.
    fn accept(&mut self, listener: &Arc<Listener>, accept: Accept);

    /// The address of the client that `Accept::One(number)` has brought, until that accept is asked for again.
    fn accepted_address(&self, number: u8) -> Option<IpAddr>;

    /// Receives into buffers of the driver.
    fn receive(&mut self, conn: ConnId, descriptor: Descriptor, receive: Receive);

    /// Completes once, when there is something to receive.
    fn poll(&mut self, conn: ConnId, descriptor: Descriptor);

    /// Sends all of the frames. At most one send per descriptor: a second one would land inside the first.
    fn send(&mut self, conn: ConnId, descriptor: Descriptor, frames: Frames) -> SendId;

    /// Ends one side of a connection, or both.
    fn shutdown(&mut self, conn: ConnId, descriptor: Descriptor, sides: ShutdownSides);

    /// Closes the socket of a connection, on which nothing may be in flight.
    fn close(&mut self, conn: ConnId, descriptor: Descriptor);

    /// Closes a socket that belongs to no connection.
    fn discard(&mut self, descriptor: Descriptor);

    /// Asks an operation to end.
    fn cancel(&mut self, what: Cancel);

    /// Gives a connection's socket to another shard, which is told by `Completion::Arrived`, unless its driver has no room for it.
    /// Nothing may be in flight on it.
    fn hand_over(&mut self, conn: ConnId, descriptor: Descriptor, target: ShardId, ticket: Ticket);

    /// Wakes another shard's loop, which then looks into its mailbox.
    fn ring(&mut self, target: ShardId);

    /// From now on writing to the eventfd wakes this driver.
    fn watch(&mut self, eventfd: Arc<OwnedFd>);

    /// Submits what was asked for, if it is so much that submitting it takes time.
    fn submit(&mut self) -> Result<(), Self::Error>;

    /// Submits what was asked for, and sleeps until something completes or somebody rings, at most for `timeout`. Completions
    /// that come close together are waited for together.
    fn wait(&mut self, timeout: Duration) -> Result<(), Self::Error>;

    /// The next completion; `None`: there is none, or the driver has worked for long without one. It then goes on after the next
    /// `wait`, which does not sleep.
    fn next_completion(&mut self) -> Option<Completion>;

    /// The bytes in a buffer.
    fn bytes(&mut self, lent: &Lent) -> &mut [u8];

    /// Takes a buffer back.
    fn release(&mut self, lent: Lent);

    /// Buffers that a receive would find.
    fn free_buffers(&self) -> usize;

    /// Frees what is kept for more than `connections` connections, and has the allocator return what it keeps for this thread.
    fn give_back(&mut self, connections: usize);

    /// User memory, in bytes; see `memory`.
    fn heap_bytes(&self) -> usize;

    /// What the driver has counted.
    fn counts(&self) -> Counts;
}
