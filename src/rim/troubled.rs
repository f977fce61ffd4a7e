//! A driver for tests: it does what another driver does, and makes trouble when a test orders it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::driver::{
    Accept, Cancel, Completion, Counts, Descriptor, Driver, Lent, Receive, SendId, ShutdownSides,
};
use super::listener::Listener;
use crate::ids::{ConnId, ShardId};
use crate::mailbox::Ticket;
use crate::shard::Frames;

/// Whoever sends this brings the loop down, in the middle of a turn.
pub(super) const POISON: &[u8] = b"a bug";

/// How often a driver that holds ends of sends back looks whether it still should.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The trouble that is ordered, for all drivers of a test.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// How long every driver stands still, once, after one of its next waits.
    stand_still_ms: AtomicU64,
    /// How often a standstill was ordered.
    orders: AtomicU64,
    /// No driver tells that a send has ended, until this is over.
    sends_are_late: AtomicBool,
    /// How long it takes a driver to begin a send, behind the poison.
    goodbye_ms: AtomicU64,
    /// No shard has room for what is handed over.
    refuses_hand_overs: AtomicBool,
    /// Every loop comes down, in one of its next waits.
    poisons_all: AtomicBool,
}

impl Trouble {
    /// Orders a standstill of all drivers.
    pub(super) fn stand_still(&self, duration: Duration) {
        self.stand_still_ms.store(duration.as_millis() as u64, Ordering::Relaxed);
        self.orders.fetch_add(1, Ordering::Release);
    }

    /// Orders that the ends of sends are told from now on, or no longer, only behind this order's end.
    pub(super) fn hold_sends(&self, late: bool) {
        self.sends_are_late.store(late, Ordering::Relaxed);
    }

    /// Orders that it takes so long to begin a send, on a shard that has had its poison.
    pub(super) fn slow_goodbyes_down(&self, duration: Duration) {
        self.goodbye_ms.store(duration.as_millis() as u64, Ordering::Relaxed);
    }

    /// Orders that no shard has room for what is handed over from now on.
    pub(super) fn refuse_hand_overs(&self) {
        self.refuses_hand_overs.store(true, Ordering::Relaxed);
    }

    /// Orders what `POISON` does, of every loop: with TLS nobody can send that.
    pub(super) fn poison_all(&self) {
        self.poisons_all.store(true, Ordering::Relaxed);
    }
}

/// A driver that does what `driver` does, and stands still when ordered.
pub(super) struct Troubled<D> {
    driver: D,
    trouble: Arc<Trouble>,
    orders_seen: u64,
    /// Ends of sends that are not told yet.
    late: VecDeque<Completion>,
    /// The poison has come.
    is_poisoned: bool,
    /// Refusals that are not told yet.
    refusals: VecDeque<Completion>,
}

impl<D> Troubled<D> {
    pub(super) fn new(driver: D, trouble: Arc<Trouble>) -> Self {
        Self {
            driver,
            trouble,
            orders_seen: 0,
            late: VecDeque::new(),
            refusals: VecDeque::new(),
            is_poisoned: false,
        }
    }
}

impl<D: Driver> Driver for Troubled<D> {
    type Error = D::Error;
    type Peer = D::Peer;

    fn wait(&mut self, timeout: Duration) -> Result<(), D::Error> {
        let is_waited_for = !self.late.is_empty() || !self.refusals.is_empty();
        let patience = if is_waited_for { timeout.min(LOOK_INTERVAL) } else { timeout };
        let waited = self.driver.wait(patience);
        let orders = self.trouble.orders.load(Ordering::Acquire);
        if orders > self.orders_seen {
            self.orders_seen = orders;
            thread::sleep(Duration::from_millis(self.trouble.stand_still_ms.load(Ordering::Relaxed)));
        }
        if self.trouble.poisons_all.load(Ordering::Relaxed) && !self.is_poisoned {
            self.is_poisoned = true;
            panic!("this is what a test has ordered");
        }
        waited
    }

    fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        let bytes = self.driver.bytes(lent);
        self.is_poisoned |= bytes.windows(POISON.len()).any(|bytes| bytes == POISON);
        assert!(!self.is_poisoned, "this is what a test has ordered");
        bytes
    }

    fn peer(&self) -> D::Peer {
        self.driver.peer()
    }

    fn enable(&mut self, peers: Vec<D::Peer>) -> Result<(), D::Error> {
        self.driver.enable(peers)
    }

    fn accept(&mut self, listener: &Arc<Listener>, accept: Accept) {
        self.driver.accept(listener, accept);
    }

    fn accepted_address(&self, number: u8) -> Option<IpAddr> {
        self.driver.accepted_address(number)
    }

    fn receive(&mut self, conn: ConnId, descriptor: Descriptor, receive: Receive) {
        self.driver.receive(conn, descriptor, receive);
    }

    fn poll(&mut self, conn: ConnId, descriptor: Descriptor) {
        self.driver.poll(conn, descriptor);
    }

    fn send(&mut self, conn: ConnId, descriptor: Descriptor, frames: Frames) -> SendId {
        if self.is_poisoned {
            thread::sleep(Duration::from_millis(self.trouble.goodbye_ms.load(Ordering::Relaxed)));
        }
        self.driver.send(conn, descriptor, frames)
    }

    fn shutdown(&mut self, conn: ConnId, descriptor: Descriptor, sides: ShutdownSides) {
        self.driver.shutdown(conn, descriptor, sides);
    }

    fn close(&mut self, conn: ConnId, descriptor: Descriptor) {
        self.driver.close(conn, descriptor);
    }

    fn discard(&mut self, descriptor: Descriptor) {
        self.driver.discard(descriptor);
    }

    fn cancel(&mut self, what: Cancel) {
        self.driver.cancel(what);
    }

    fn hand_over(&mut self, conn: ConnId, descriptor: Descriptor, target: ShardId, ticket: Ticket) {
        if self.trouble.refuses_hand_overs.load(Ordering::Relaxed) {
            self.refusals.push_back(Completion::HandedOver { conn, outcome: Err(Errno::NFILE) });
        } else {
            self.driver.hand_over(conn, descriptor, target, ticket);
        }
    }

    fn ring(&mut self, target: ShardId) {
        self.driver.ring(target);
    }

    fn watch(&mut self, eventfd: Arc<OwnedFd>) {
        self.driver.watch(eventfd);
    }

    fn submit(&mut self) -> Result<(), D::Error> {
        self.driver.submit()
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let are_late = self.trouble.sends_are_late.load(Ordering::Relaxed);
        if !are_late && let Some(sent) = self.late.pop_front() {
            return Some(sent);
        }
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        loop {
            match self.driver.next_completion() {
                Some(sent @ Completion::Sent { .. }) if are_late => self.late.push_back(sent),
                other => return other,
            }
        }
    }

    fn release(&mut self, lent: Lent) {
        self.driver.release(lent);
    }

    fn free_buffers(&self) -> usize {
        self.driver.free_buffers()
    }

    fn give_back(&mut self, connections: usize) {
        self.driver.give_back(connections);
    }

    fn heap_bytes(&self) -> usize {
        self.driver.heap_bytes()
    }

    fn counts(&self) -> Counts {
        self.driver.counts()
    }
}
