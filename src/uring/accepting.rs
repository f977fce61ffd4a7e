//! Accepting: how many clients to ask the kernel for, given how many descriptors are free.
//!
//! With plenty of descriptors one multishot accept takes all clients. It may take a whole backlog at once, and a client that
//! meets a full table is accepted and dropped, so near the end clients are taken one submission each, and at last not at all:
//! they wait in the backlog until connections end.

use std::net::IpAddr;
use std::time::Duration;

use io_uring::{opcode, types};
use rustix::io::Errno;
use socket2::{SockAddr, SockAddrStorage};

use super::listener::Listener;
use super::op::{Operation, Token};
use super::ring::{Completion, Descriptor, Ring};
use crate::limits::{ACCEPTS_IN_FLIGHT, CONNECTIONS_RESERVE, LISTEN_BACKLOG};
use crate::metrics::ShardMetrics;
use crate::time::Instant;

/// First wait after an accept failed for want of something; each further failure doubles it …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The log tells about a full table at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Number of the multishot accept; the single ones have the numbers before it.
const MULTISHOT: usize = ACCEPTS_IN_FLIGHT;

/// A client that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) descriptor: Descriptor,
    /// Known if addresses are counted.
    pub(super) address: Option<IpAddr>,
}

/// What is in flight under one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Idle,
    Armed,
    /// A cancel is on the way; it may still bring a client.
    Cancelling,
}

/// Where the kernel writes the address of a client that is accepted on its own.
struct Peer {
    storage: SockAddrStorage,
    bytes: libc::socklen_t,
}

/// See the module documentation.
pub(super) struct Acceptor {
    /// Closed after the last accept has ended.
    listener: Option<Listener>,
    /// One per single accept; the kernel holds their addresses.
    peers: Box<[Peer]>,
    flights: [Flight; ACCEPTS_IN_FLIGHT + 1],
    /// Addresses are counted: a multishot accept does not tell them.
    wants_addresses: bool,
    /// Entries of the descriptor table.
    descriptors: u32,
    in_use: u32,
    /// So few descriptors are free that nobody is accepted.
    paused: bool,
    stopping: bool,
    retry_at: Option<Instant>,
    backoff: Duration,
    warned_at: Option<Instant>,
}

impl Acceptor {
    pub(super) fn new(listener: Listener, descriptors: u32, wants_addresses: bool) -> Self {
        let peer = || Peer { storage: SockAddrStorage::zeroed(), bytes: 0 };
        Self {
            listener: Some(listener),
            peers: (0..ACCEPTS_IN_FLIGHT).map(|_| peer()).collect(),
            flights: [Flight::Idle; ACCEPTS_IN_FLIGHT + 1],
            wants_addresses,
            descriptors,
            in_use: 0,
            paused: false,
            stopping: false,
            retry_at: None,
            backoff: BACKOFF_MIN,
            warned_at: None,
        }
    }

    /// A descriptor has come into the table by another way.
    pub(super) fn taken(&mut self) {
        self.in_use += 1;
    }

    /// A descriptor of the table is closed: what an accept was short of may be there again.
    pub(super) fn given_back(&mut self) {
        self.in_use -= 1;
        self.retry_at = None;
    }

    /// Accept nobody any more, and close the listener.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.retry_at = None;
    }

    /// When `turn` has something to do even if nothing completes.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Keeps the memory for ever: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.peers));
    }

    /// The one place that submits accepts: once a turn, after everything that changes the number of free descriptors.
    pub(super) fn turn(&mut self, ring: &mut Ring, metrics: &ShardMetrics, now: Instant) {
        let Some(listener) = &self.listener else { return };
        let fd = types::Fd(listener.fd());
        if self.stopping {
            self.cancel_all(ring);
            if self.flights.iter().all(|&flight| flight == Flight::Idle) {
                self.listener = None;
                tracing::info!("stopped listening");
            }
            return;
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.pause_or_resume(metrics, now);
        if self.paused {
            self.cancel_all(ring);
        } else if !self.wants_addresses && self.free() > LISTEN_BACKLOG + CONNECTIONS_RESERVE {
            self.arm_multishot(ring, fd);
        } else {
            self.cancel(ring, MULTISHOT);
            self.arm_singles(ring, fd);
        }
    }

    /// Takes the client out of a completion.
    pub(super) fn completed(
        &mut self,
        completion: &Completion,
        metrics: &ShardMetrics,
        now: Instant,
    ) -> Option<Accepted> {
        let number = completion.token.slot as usize;
        if !completion.more() {
            self.flights[number] = Flight::Idle;
        }
        if let Some(errno) = completion.error() {
            self.failed(errno, metrics, now);
            return None;
        }
        self.backoff = BACKOFF_MIN;
        self.in_use += 1;
        metrics.accepts.increment();
        let descriptor = Descriptor(completion.result as u32);
        let address = self.peers.get(number).and_then(Peer::address).filter(|_| self.wants_addresses);
        Some(Accepted { descriptor, address })
    }

    fn free(&self) -> u32 {
        self.descriptors.saturating_sub(self.in_use)
    }

    /// With this many or fewer free nobody is accepted. The core refuses players while it still has `CONNECTIONS_RESERVE`; a
    /// quarter of it is left for clients that the kernel accepts before a cancel takes effect, and for hand-overs.
    fn pause_at(&self) -> u32 {
        (CONNECTIONS_RESERVE.min(self.descriptors / 4) / 4).max(1)
    }

    fn pause_or_resume(&mut self, metrics: &ShardMetrics, now: Instant) {
        let (free, descriptors) = (self.free(), self.descriptors);
        if !self.paused && free <= self.pause_at() {
            self.paused = true;
            metrics.accept_paused.set(1);
            if self.warned_at.is_none_or(|at| now.since(at) >= WARNING_INTERVAL) {
                self.warned_at = Some(now);
                tracing::warn!(
                    free,
                    descriptors,
                    "descriptor table nearly full: accepting stops until connections end; raise RLIMIT_NOFILE or --shards"
                );
            }
        } else if self.paused && free >= 2 * self.pause_at() {
            self.paused = false;
            metrics.accept_paused.set(0);
            tracing::debug!(free, descriptors, "accepting again");
        }
    }

    fn arm_multishot(&mut self, ring: &mut Ring, fd: types::Fd) {
        if self.flights[MULTISHOT] != Flight::Idle {
            return;
        }
        self.flights[MULTISHOT] = Flight::Armed;
        let entry = opcode::AcceptMulti::new(fd).allocate_file_index(true).build();
        // SAFETY: it points at nothing; the listener is open until the accept has ended.
        unsafe { ring.push(entry, Token::numbered(Operation::Accept, MULTISHOT as u32)) }
    }

    fn arm_singles(&mut self, ring: &mut Ring, fd: types::Fd) {
        let spare = (self.free() - self.pause_at()) as usize;
        let in_flight = self.flights[..MULTISHOT].iter().filter(|&&flight| flight != Flight::Idle).count();
        let idle = (0..MULTISHOT).filter(|&number| self.flights[number] == Flight::Idle);
        let numbers: Vec<usize> = idle.take(spare.saturating_sub(in_flight)).collect();
        for number in numbers {
            self.flights[number] = Flight::Armed;
            let peer = &mut self.peers[number];
            peer.bytes = size_of::<SockAddrStorage>() as libc::socklen_t;
            let storage = (&raw mut peer.storage).cast();
            let entry = opcode::Accept::new(fd, storage, &raw mut peer.bytes)
                .file_index(Some(types::DestinationSlot::auto_target()))
                .build();
            // SAFETY: `peers` is boxed, outlives the ring's operations (see `Driver`), and this one is used again only
            // after the completion has made its flight idle.
            unsafe { ring.push(entry, Token::numbered(Operation::Accept, number as u32)) }
        }
    }

    fn cancel_all(&mut self, ring: &mut Ring) {
        (0..=MULTISHOT).for_each(|number| self.cancel(ring, number));
    }

    fn cancel(&mut self, ring: &mut Ring, number: usize) {
        if self.flights[number] == Flight::Armed {
            self.flights[number] = Flight::Cancelling;
            ring.cancel(Token::numbered(Operation::Accept, number as u32));
        }
    }

    /// An accept without a client. What is short stays short for a while: armed again at once it would fail at once, even
    /// with no client waiting.
    fn failed(&mut self, errno: Errno, metrics: &ShardMetrics, now: Instant) {
        let harmless = [Errno::CANCELED, Errno::INTR, Errno::AGAIN, Errno::CONNABORTED];
        if harmless.contains(&errno) || self.stopping {
            return;
        }
        metrics.accept_failures.increment();
        if self.retry_at.is_none() {
            tracing::warn!(%errno, retry_ms = self.backoff.as_millis() as u64, "accept failed");
            self.retry_at = Some(now + self.backoff);
            self.backoff = (2 * self.backoff).min(BACKOFF_MAX);
        }
    }
}

impl Peer {
    fn address(&self) -> Option<IpAddr> {
        // SAFETY: the storage is plain bytes, of which the kernel has written `bytes` as an address; before that it is zero, an
        // unspecified family.
        let address = unsafe { SockAddr::new(std::ptr::read(&raw const self.storage), self.bytes) };
        address.as_socket().map(|address| address.ip())
    }
}
