//! The border between the loop and the kernel. What a loop asks for is a method, what comes of it a `Completion`; which interface
//! of the kernel a driver uses, nothing on this side knows. `conformance` says in tests what every driver does.
//!
//! A driver decides nothing: it knows descriptors, and carries connections' names from an operation to its completions.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::ids::{ConnId, ShardId};
use crate::limits::{ACCEPTS_IN_FLIGHT, RECEIVE_BUFFER_BYTES};
use crate::mailbox::Ticket;
use crate::shard::Frames;

/// A client's socket: its place in the driver's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u32);

/// Names a send in flight, for a cancel. Never 0, so that "none" takes no byte more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendId(pub std::num::NonZeroU32);

/// Which accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// The one that takes client after client until something ends it, and learns no addresses.
    Many,
    /// One of those that take one client each, by number: below `ACCEPTS_IN_FLIGHT`.
    One(u8),
}

const _: () = assert!(ACCEPTS_IN_FLIGHT < u8::MAX as usize, "the number of an accept is one byte");

/// How much one receive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// One buffer, when something comes.
    One,
    /// One buffer of what is there; nothing, if nothing is.
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
    Receive(ConnId),
    /// The poll of a connection.
    Poll(ConnId),
    /// A send. Part of it may have gone out.
    Send(SendId),
}

/// What has become of an operation, or come by itself. Every operation on a connection is answered, and the last answer is
/// told as such; a cancel is not: the cancelled operation answers for itself.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Completion {
    /// A client, or why there is none.
    Accepted {
        /// Of which accept.
        accept: Accept,
        /// It goes on.
        more: bool,
        /// Its socket.
        client: Result<Descriptor, Errno>,
    },
    /// What a receive brought.
    Received {
        /// The connection it was for. It may be gone.
        conn: ConnId,
        /// What it brought.
        what: Received,
        /// There is more than it took.
        left_some: bool,
        /// It goes on.
        more: bool,
    },
    /// Something is there for a connection: bytes, the end of its stream, an error.
    Polled { conn: ConnId },
    /// A send is over, and its frames are let go of.
    Sent {
        conn: ConnId,
        /// So many bytes have gone out …
        bytes: usize,
        /// … and those are not all, for this reason: part of a frame may be on the wire, so nothing may follow it.
        failed: Option<Errno>,
    },
    /// A `shutdown` is done.
    ShutDown { conn: ConnId },
    /// The socket of a connection is closed.
    Closed { conn: ConnId },
    /// The socket of a client that never became a connection is closed.
    Discarded,
    /// The other shard has a copy of the socket, or could not take it. The one here is still open.
    HandedOver {
        conn: ConnId,
        /// Why it could not.
        outcome: Result<(), Errno>,
    },
    /// A socket has come from another shard.
    Arrived {
        /// What its letter names it by.
        ticket: Ticket,
        /// Its place here.
        descriptor: Result<Descriptor, Errno>,
    },
}

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, lent: the buffer goes back by `Driver::release`, whatever has become of the connection.
    Bytes(Lent),
    /// The peer sends nothing more, or the connection is broken.
    End,
    /// Nothing was there, or it was cancelled.
    Nothing,
    /// No buffer was free. Asked for again before one is, it fails again.
    Starved,
}

/// A receive buffer with bytes in it. Whoever has it is the one reader of the buffer.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the driver must have it back"]
pub struct Lent {
    /// Which buffer.
    pub(super) buffer: u16,
    /// How many bytes.
    pub(super) bytes: u16,
}

const _: () = assert!(RECEIVE_BUFFER_BYTES <= u16::MAX as u32, "how many bytes are in a buffer is two bytes");

/// What a driver has counted since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Completions, those that the loop is not told of included.
    pub completions: u64,
    /// Calls that submit or wait.
    pub enters: u64,
    /// How often there were more completions than their queue holds: a bug.
    pub overflows: u64,
}

/// See the module documentation. It belongs to the thread that enables it. What is asked for may begin at once, and at the
/// latest with the next `submit` or `wait`; it completes in `next_completion`.
pub trait Driver {
    /// Why it cannot go on.
    type Error: fmt::Debug + fmt::Display;

    /// The descriptor of the process by which the drivers of other shards reach this one.
    fn fd(&self) -> RawFd;

    /// Begins to work for the calling thread. `peers`: the descriptors of every shard's driver, by number.
    fn enable(&mut self, peers: Vec<RawFd>) -> Result<(), Self::Error>;

    /// Takes in clients. Each `Accept` at most once at a time; the listener must stay open until its last completion.
    fn accept(&mut self, listener: BorrowedFd<'_>, accept: Accept);

    /// The address of the client that `Accept::One(number)` has brought; to be asked before that accept is asked for again.
    fn accepted_address(&self, number: u8) -> Option<IpAddr>;

    /// Receives.
    fn receive(&mut self, conn: ConnId, descriptor: Descriptor, receive: Receive);

    /// Tells once that something is there, or has come.
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

    /// Gives a copy of a connection's socket to another shard, which is told by `Completion::Arrived`.
    fn hand_over(&mut self, conn: ConnId, descriptor: Descriptor, target: ShardId, ticket: Ticket);

    /// Wakes another shard's driver, which is not told why.
    fn ring(&mut self, target: ShardId);

    /// From now on writing to the eventfd wakes this driver.
    fn watch(&mut self, eventfd: Arc<OwnedFd>);

    /// Begins what was asked for, if it is enough to take time.
    fn submit(&mut self) -> Result<(), Self::Error>;

    /// Begins what was asked for and sleeps until something completes or somebody rings, at most for `timeout`. Completions that
    /// come close together are waited for together.
    fn wait(&mut self, timeout: Duration) -> Result<(), Self::Error>;

    /// The next completion; `None`: the loop has been told of everything.
    fn next_completion(&mut self) -> Option<Completion>;

    /// The bytes in a buffer.
    fn bytes(&mut self, lent: &Lent) -> &mut [u8];

    /// Takes a buffer back.
    fn release(&mut self, lent: Lent);

    /// Buffers that a receive would find.
    fn free_buffers(&self) -> usize;

    /// Gives memory back: what more than `connections` needed, and what the allocator keeps for this thread.
    fn give_back(&mut self, connections: usize);

    /// User memory, in bytes; see `memory`.
    fn heap_bytes(&self) -> usize;

    /// What it has counted.
    fn counts(&self) -> Counts;
}
