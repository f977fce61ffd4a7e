//! A ring together with all memory that its operations use, so that neither can outlive the other in the wrong order.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, types};
use rustix::io::Errno;

use super::allocator;
use super::buffers::{Buffers, Protection};
use super::op::{Operation, Token};
use super::peers::Peers;
use super::probe::RingError;
use super::ring::{Reaped, Ring, RingSizes};
use super::sends::{Progress, Sends};
use crate::ids::{ConnId, ShardId};
use crate::limits;
use crate::mailbox::Ticket;
use crate::rim::driver::{
    Accept, Cancel, Completion, Counts, Descriptor, Driver, Lent, Receive, Received, SendId, ShutdownSides,
};
use crate::rim::listener::Listener;
use crate::shard::Frames;

/// How long the end of the loop waits for the last completions.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// `Accept::Many` as a number; single accepts have the numbers below it.
const ACCEPT_MANY: u32 = limits::SINGLE_ACCEPTS_MAX as u32;

/// How large a ring and its memory are.
#[derive(Clone, Copy, Debug)]
pub struct RingSettings {
    /// Entries of the descriptor table, at most `table_entries_max()`.
    pub descriptors: u32,
    /// Submission queue entries, a power of two.
    pub submissions: u32,
    /// Completion queue entries, a power of two.
    pub completions: u32,
    /// Receive buffers, a power of two.
    pub receive_buffers: u16,
    /// How long completions are gathered before a wait ends.
    pub gather_time: Duration,
}

/// The fields drop in order: the ring first, and only after `drop` has drained it.
pub struct RingDriver {
    pub(super) ring: Ring,
    buffers: Buffers,
    sends: Sends,
    peers: Peers,
    /// Rings of all shards.
    rings: Vec<RawFd>,
    /// What wakes the ring from outside.
    eventfd: Option<Arc<OwnedFd>>,
    /// What the kernel reads from the eventfd goes here.
    wake_count: Box<[u8; 8]>,
}

impl RingDriver {
    /// Makes a ring, which does nothing before it is enabled, and all memory that lives as long as the ring.
    pub fn new(settings: RingSettings) -> Result<Self, RingError> {
        let mut ring = Ring::new(RingSizes {
            submissions: settings.submissions,
            completions: settings.completions,
            descriptors: settings.descriptors,
        })?;
        ring.gather(settings.gather_time, settings.receive_buffers);
        let failed = |step| move |source| RingError::Setup { step, source };
        let bytes = limits::RECEIVE_BUFFER_BYTES;
        let mut buffers = Buffers::new(settings.receive_buffers, bytes, Protection::of_this_build())
            .map_err(RingError::NoMemory)?;
        buffers.register(ring.io_uring()).map_err(failed("registering the receive buffers"))?;
        Ok(Self {
            ring,
            buffers,
            sends: Sends::default(),
            peers: Peers::new(),
            rings: Vec::new(),
            eventfd: None,
            wake_count: Box::new([0; 8]),
        })
    }

    fn received(&mut self, reaped: &Reaped) -> Completion {
        let bytes = reaped.result.max(0) as usize;
        // A completion that names a buffer returns it, whatever became of the operation.
        let lent = reaped.buffer().map(|buffer| self.buffers.take(buffer, bytes));
        let what = match (reaped.error(), lent) {
            (None, Some(lent)) if bytes > 0 => Received::Bytes(lent),
            (error, lent) => {
                lent.into_iter().for_each(|empty| self.buffers.release(empty));
                match error {
                    Some(Errno::NOBUFS) => Received::Starved,
                    Some(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => Received::Nothing,
                    None | Some(_) => Received::End,
                }
            }
        };
        // A receive that filled its buffer may have left something behind without being told so.
        let full = bytes == limits::RECEIVE_BUFFER_BYTES as usize;
        let left_some = full || bytes > 0 && reaped.left_some();
        Completion::Received { conn: reaped.token.conn(), what, left_some, more: reaped.more() }
    }

    /// Submits the rest of a send that ended short; the loop is told of any other end.
    fn sent(&mut self, reaped: &Reaped) -> Option<Completion> {
        let id = Token::send_id(reaped.token);
        let failed = match reaped.error() {
            None => match self.sends.advance(id, reaped.result as usize) {
                Progress::Done => None,
                Progress::Short if reaped.result == 0 => Some(Errno::PIPE),
                Progress::Short => return self.send_rest(id),
                Progress::Cancelled => Some(Errno::CANCELED),
            },
            Some(Errno::INTR | Errno::AGAIN) if !self.sends.is_cancelled(id) => return self.send_rest(id),
            Some(errno) => Some(errno),
        };
        let (conn, bytes) = self.sends.finish(id);
        Some(Completion::Sent { conn, bytes, failed })
    }

    /// Submits what is unsent. The loop is told when all of it is sent.
    fn send_rest(&mut self, id: SendId) -> Option<Completion> {
        let entry = self.sends.entry(id);
        // SAFETY: the frames' bytes and the gather are on the heap: they do not move with `sends`, and stay until `finish`,
        // which follows the completion.
        unsafe { self.ring.push(entry, Token::send(id)) }
        None
    }

    /// Waits for a write to the eventfd.
    fn await_wake(&mut self) {
        let Some(eventfd) = &self.eventfd else { return };
        let entry =
            opcode::Read::new(types::Fd(eventfd.as_raw_fd()), self.wake_count.as_mut_ptr(), 8).build();
        // SAFETY: the boxed count outlives the ring's operations, and only one read of it is in flight.
        unsafe { self.ring.push(entry, Token::numbered(Operation::Wake, 0)) }
    }

    fn woken(&mut self, reaped: &Reaped) {
        match reaped.error() {
            None | Some(Errno::INTR | Errno::AGAIN) => self.await_wake(),
            // If the read were armed again it would fail again at once. The loop turns once a second anyway, and finds its mail
            // late.
            Some(errno) => {
                tracing::error!(%errno, "nobody but other shards can wake this one any more (a bug)");
            }
        }
    }

    fn accepted(&mut self, reaped: &Reaped) -> Completion {
        let accept = match reaped.token.slot {
            ACCEPT_MANY => Accept::Many,
            number => {
                self.peers.returned(number as u8);
                Accept::One(number as u8)
            }
        };
        Completion::Accepted { accept, more: reaped.more(), client: reaped.outcome().map(Descriptor) }
    }
}

impl Driver for RingDriver {
    type Error = RingError;
    type Peer = RawFd;

    fn peer(&self) -> RawFd {
        self.ring.fd()
    }

    fn enable(&mut self, peers: Vec<RawFd>) -> Result<(), RingError> {
        self.rings = peers;
        self.ring.enable()
    }

    fn accept(&mut self, listener: &Arc<Listener>, accept: Accept) {
        let fd = types::Fd(listener.fd().as_raw_fd());
        let token = accept_token(accept);
        match accept {
            Accept::Many => {
                let entry = opcode::AcceptMulti::new(fd).allocate_file_index(true).build();
                // SAFETY: the entry points at no memory.
                unsafe { self.ring.push(entry, token) }
            }
            Accept::One(number) => {
                let (address, bytes) = self.peers.lend(number);
                let entry = opcode::Accept::new(fd, address, bytes)
                    .file_index(Some(types::DestinationSlot::auto_target()))
                    .build();
                // SAFETY: `peers` is boxed, outlives the ring's operations, and lends a place again only after the completion.
                unsafe { self.ring.push(entry, token) }
            }
        }
    }

    fn accepted_address(&self, number: u8) -> Option<IpAddr> {
        self.peers.address(number)
    }

    fn receive(&mut self, conn: ConnId, descriptor: Descriptor, receive: Receive) {
        self.ring.receive(descriptor, receive, Token::of(Operation::Receive, conn));
    }

    fn poll(&mut self, conn: ConnId, descriptor: Descriptor) {
        self.ring.poll(descriptor, Token::of(Operation::Poll, conn));
    }

    fn send(&mut self, conn: ConnId, descriptor: Descriptor, frames: Frames) -> SendId {
        let id = self.sends.start(conn, descriptor, frames);
        self.send_rest(id);
        id
    }

    fn shutdown(&mut self, conn: ConnId, descriptor: Descriptor, sides: ShutdownSides) {
        self.ring.shutdown(descriptor, sides, Token::of(Operation::Shutdown, conn));
    }

    fn close(&mut self, conn: ConnId, descriptor: Descriptor) {
        self.ring.close(descriptor, Token::of(Operation::Close, conn));
    }

    fn discard(&mut self, descriptor: Descriptor) {
        self.ring.close(descriptor, Token::numbered(Operation::Discard, descriptor.0));
    }

    fn cancel(&mut self, what: Cancel) {
        self.ring.cancel(match what {
            Cancel::Accept(accept) => accept_token(accept),
            Cancel::Receive(conn, _) => Token::of(Operation::Receive, conn),
            Cancel::Poll(conn, _) => Token::of(Operation::Poll, conn),
            Cancel::Send(id) => {
                self.sends.cancel(id);
                Token::send(id)
            }
        });
    }

    fn hand_over(&mut self, conn: ConnId, descriptor: Descriptor, target: ShardId, ticket: Ticket) {
        let ring = self.rings[usize::from(target.0)];
        let (notice, token) = (Token::handed_over(ticket), Token::of(Operation::HandOver, conn));
        self.ring.send_descriptor(descriptor, ring, notice, token);
    }

    fn ring(&mut self, target: ShardId) {
        let ring = self.rings[usize::from(target.0)];
        self.ring.ring_doorbell(ring, Token::numbered(Operation::Ring, u32::from(target.0)));
    }

    fn watch(&mut self, eventfd: Arc<OwnedFd>) {
        assert!(self.eventfd.is_none(), "two reads would share the place that they read to");
        self.eventfd = Some(eventfd);
        self.await_wake();
    }

    fn submit(&mut self) -> Result<(), RingError> {
        self.ring.submit()
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.ring.wait(timeout)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let reaped = self.ring.reap()?;
            let conn = reaped.token.conn();
            let completion = match reaped.token.operation {
                Operation::Receive => Some(self.received(&reaped)),
                Operation::Poll => Some(Completion::Polled { conn }),
                Operation::Send => self.sent(&reaped),
                Operation::Shutdown => Some(Completion::ShutDown { conn }),
                Operation::Close => Some(Completion::Closed { conn }),
                Operation::Discard => Some(Completion::Discarded),
                Operation::HandOver => {
                    Some(Completion::HandedOver { conn, outcome: reaped.outcome().map(drop) })
                }
                Operation::HandedOver => {
                    let descriptor = reaped.outcome().map(Descriptor);
                    Some(Completion::Arrived { ticket: reaped.token.ticket(), descriptor })
                }
                Operation::Accept => Some(self.accepted(&reaped)),
                // "Found", "not found" or "too late": the cancelled operation answers for itself.
                Operation::Cancel => None,
                // Even where the ringing failed, the other shard looks at its doorbell whenever it turns.
                Operation::Ring => None,
                // Its only purpose is to wake the ring.
                Operation::Doorbell => None,
                Operation::Wake => {
                    self.woken(&reaped);
                    None
                }
            };
            if completion.is_some() {
                return completion;
            }
        }
    }

    fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        self.buffers.bytes(lent)
    }

    fn release(&mut self, lent: Lent) {
        self.buffers.release(lent);
    }

    fn free_buffers(&self) -> usize {
        usize::from(self.buffers.with_kernel())
    }

    fn give_back(&mut self, connections: usize) {
        self.sends.give_back(connections);
        self.ring.give_back(connections);
        if connections == 0 {
            // Nothing is in flight on any connection, so no receive is, and no completion that names a buffer is to come.
            self.buffers.give_back();
        }
        allocator::give_back();
    }

    fn heap_bytes(&self) -> usize {
        self.buffers.heap_bytes() + self.sends.heap_bytes()
    }

    fn counts(&self) -> Counts {
        self.ring.counts()
    }
}

impl Drop for RingDriver {
    /// Cancels everything and waits, also when the thread panics: the kernel must not write into freed memory.
    fn drop(&mut self) {
        if self.ring.drain(DRAIN_PATIENCE) {
            return;
        }
        let in_flight = self.ring.in_flight();
        tracing::error!(in_flight, "the kernel does not end all operations; their memory is kept (a bug)");
        self.buffers.leak();
        self.sends.leak();
        self.peers.leak();
        std::mem::forget(std::mem::take(&mut self.wake_count));
    }
}

fn accept_token(accept: Accept) -> Token {
    match accept {
        Accept::Many => Token::numbered(Operation::Accept, ACCEPT_MANY),
        Accept::One(number) => Token::numbered(Operation::Accept, u32::from(number)),
    }
}
