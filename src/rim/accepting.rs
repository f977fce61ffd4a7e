//! Accepting: how many clients to ask the kernel for, given how many descriptors are free.
//!
//! With plenty of descriptors one accept takes all clients. It may take a whole backlog at once, and a client that
//! meets a full table is accepted and dropped, so near the end clients are asked for one by one, and at last not at all:
//! they wait in the backlog until connections end.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::driver::{Accept, Cancel, Descriptor, Driver};
use super::listener::Listener;
use crate::limits::{ACCEPTS_IN_FLIGHT, CONNECTIONS_RESERVE, LISTEN_BACKLOG, SINGLE_ACCEPTS_MAX};
use crate::metrics::ShardMetrics;
use crate::time::Instant;

/// First wait after an accept failed for want of something; each further failure doubles it, up to `BACKOFF_MAX`.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait after a failed accept.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The log tells about a full table at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Indices in `flights` of the single accepts on `listen`: their numbers.
const PLAIN: Range<usize> = 0..ACCEPTS_IN_FLIGHT;
/// Those of the accepts on `listen_tls`, which are always single: a handshake takes longer than an accept.
const SECURE: Range<usize> = ACCEPTS_IN_FLIGHT..SINGLE_ACCEPTS_MAX;
/// Index of `Accept::Many`, which is on `listen`.
const MANY: usize = SINGLE_ACCEPTS_MAX;

/// Whether an accept is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Idle,
    Armed,
    /// A cancel is on the way; it may still bring a client.
    Cancelling,
}

/// Where a shard listens.
pub struct Listeners {
    /// `listen`.
    pub plain: Arc<Listener>,
    /// `listen_tls`.
    pub secure: Option<Arc<Listener>>,
}

/// Keeps as many accepts in flight as there are free descriptors for.
pub(super) struct Acceptor {
    /// Closed after the last accept has ended.
    listeners: Option<Listeners>,
    flights: [Flight; MANY + 1],
    /// Addresses are counted, and an accept of many does not tell them: clients are accepted one by one.
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
    /// When the log has been told of an accept that failed.
    failure_warned_at: Option<Instant>,
}

impl Acceptor {
    pub(super) fn new(listeners: Listeners, descriptors: u32, wants_addresses: bool) -> Self {
        Self {
            listeners: Some(listeners),
            flights: [Flight::Idle; MANY + 1],
            wants_addresses,
            descriptors,
            in_use: 0,
            paused: false,
            stopping: false,
            retry_at: None,
            backoff: BACKOFF_MIN,
            warned_at: None,
            failure_warned_at: None,
        }
    }

    /// A handover has put a descriptor into the table.
    pub(super) fn taken(&mut self) {
        self.in_use += 1;
    }

    /// A descriptor is closed, so an accept that failed for want of one may succeed now.
    pub(super) fn given_back(&mut self) {
        self.in_use -= 1;
        self.retry_at = None;
    }

    /// Ends accepting, and closes the listener.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.retry_at = None;
    }

    /// When `turn` has something to do even if nothing completes.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The one place that asks for clients: once a turn, after everything that changes the number of free descriptors.
    /// `takes_secure`: there is room for more handshakes.
    pub(super) fn turn(
        &mut self,
        driver: &mut impl Driver,
        metrics: &ShardMetrics,
        now: Instant,
        takes_secure: bool,
    ) {
        if self.listeners.is_none() {
            return;
        }
        if self.stopping {
            self.cancel_all(driver);
            if self.flights.iter().all(|&flight| flight == Flight::Idle) {
                self.listeners = None;
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
            self.cancel_all(driver);
            return;
        }
        let takes_many = !self.wants_addresses && self.free() > LISTEN_BACKLOG + CONNECTIONS_RESERVE;
        if takes_many {
            self.arm(driver, MANY);
        } else {
            self.cancel(driver, MANY);
        }
        if !takes_secure {
            SECURE.for_each(|place| self.cancel(driver, place));
        }
        let has_secure = self.listeners.as_ref().is_some_and(|listeners| listeners.secure.is_some());
        self.arm_singles(driver, !takes_many, takes_secure && has_secure);
    }

    /// Returns the client's socket, if the accept brought one, which counts as in use from now on.
    pub(super) fn completed(
        &mut self,
        accept: Accept,
        more: bool,
        client: Result<Descriptor, Errno>,
        metrics: &ShardMetrics,
        now: Instant,
    ) -> Option<Descriptor> {
        if !more {
            self.flights[place(accept)] = Flight::Idle;
        }
        match client {
            Ok(descriptor) => {
                self.backoff = BACKOFF_MIN;
                self.in_use += 1;
                metrics.accepts.increment();
                Some(descriptor)
            }
            Err(errno) => {
                self.failed(errno, metrics, now);
                None
            }
        }
    }

    fn free(&self) -> u32 {
        self.descriptors.saturating_sub(self.in_use)
    }

    /// With this many free descriptors or fewer, nobody is accepted. The core refuses players while it still has
    /// `CONNECTIONS_RESERVE`; a quarter of it is left for clients that are accepted before a cancel takes effect, and for
    /// handovers.
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

    /// By turns for the one listener and the other, so that neither takes the last descriptors from the other.
    fn arm_singles(&mut self, driver: &mut impl Driver, plain: bool, secure: bool) {
        let spare = (self.free() - self.pause_at()) as usize;
        let in_flight = self.flights[..MANY].iter().filter(|&&flight| flight != Flight::Idle).count();
        let mut missing = spare.saturating_sub(in_flight);
        let by_turns = PLAIN.zip(SECURE).flat_map(|(own, other)| [(own, plain), (other, secure)]);
        for (place, _) in by_turns.filter(|(_, is_wanted)| *is_wanted) {
            if missing > 0 && self.flights[place] == Flight::Idle {
                self.arm(driver, place);
                missing -= 1;
            }
        }
    }

    fn arm(&mut self, driver: &mut impl Driver, place: usize) {
        let Some(listeners) = &self.listeners else { return };
        let listener =
            if SECURE.contains(&place) { listeners.secure.as_ref() } else { Some(&listeners.plain) };
        let Some(listener) = listener else { return };
        if self.flights[place] == Flight::Idle {
            self.flights[place] = Flight::Armed;
            driver.accept(listener, accept(place));
        }
    }

    fn cancel_all(&mut self, driver: &mut impl Driver) {
        (0..=MANY).for_each(|place| self.cancel(driver, place));
    }

    fn cancel(&mut self, driver: &mut impl Driver, place: usize) {
        if self.flights[place] == Flight::Armed {
            self.flights[place] = Flight::Cancelling;
            driver.cancel(Cancel::Accept(accept(place)));
        }
    }

    /// An accept failed. What it was short of stays short for a while, so an accept that is armed again at once would fail at
    /// once, even with no client waiting.
    fn failed(&mut self, errno: Errno, metrics: &ShardMetrics, now: Instant) {
        let harmless = [Errno::CANCELED, Errno::INTR, Errno::AGAIN, Errno::CONNABORTED];
        if harmless.contains(&errno) || self.stopping {
            return;
        }
        metrics.accept_failures.increment();
        if self.retry_at.is_none() {
            if self.failure_warned_at.is_none_or(|at| now.since(at) >= WARNING_INTERVAL) {
                self.failure_warned_at = Some(now);
                let retry_ms = self.backoff.as_millis() as u64;
                match errno {
                    Errno::MFILE | Errno::NFILE => tracing::warn!(
                        %errno,
                        retry_ms,
                        "no descriptor is left for a client that has connected: clients are taken again as connections end; raise \
                         RLIMIT_NOFILE (`ulimit -n`, LimitNOFILE= in a systemd unit)"
                    ),
                    _ => tracing::warn!(%errno, retry_ms, "accept failed"),
                }
            }
            self.retry_at = Some(now + self.backoff);
            self.backoff = (2 * self.backoff).min(BACKOFF_MAX);
        }
    }
}

/// Index of an accept in `flights`.
fn place(accept: Accept) -> usize {
    match accept {
        Accept::Many => MANY,
        Accept::One(number) => usize::from(number),
    }
}

fn accept(place: usize) -> Accept {
    if place == MANY { Accept::Many } else { Accept::One(place as u8) }
}
