//! The loop of a shard: completions become calls of the core, its outputs become submissions.
//!
//! One turn: sleep (one submit-and-wait) → completions → mailbox → timers → outputs → what was decided on the way (receives,
//! accepts, doorbells). What bites on io_uring sockets, and the guard against it, is told where the guard is.
#![allow(
    unsafe_code,
    reason = "the kernel is given addresses; each block says what keeps the memory alive, and until when"
)]

mod accepting;
mod addresses;
mod allocator;
mod buffers;
mod clock;
mod connections;
mod crossings;
mod driver;
#[cfg(test)]
mod kernel_tests;
mod listener;
#[cfg(test)]
mod loop_tests;
mod op;
mod probe;
mod ring;
mod sends;
mod sockets;
mod sweeper;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use rustix::io::Errno;

pub use addresses::Addresses;
pub use clock::Clock;
pub use listener::{BindError, ListenOptions, Listener, bind};
pub use probe::{Feature, Probe, RingError, io_uring_disabled, kernel_release, probe, table_entries_max};
pub use sockets::SOCKET_BYTES;

use crate::ids::{ConnId, Party, ShardId};
use crate::limits;
use crate::mailbox::{Endpoint, Letter, Posted, Ticket};
use crate::metrics::ShardMetrics;
use crate::shard::memory::MemoryCount;
use crate::shard::peer::PeerMessage;
use crate::shard::{Output, Shard};
use crate::time::{Instant, Now};
use crossings::{Announced, Crossings};
use driver::Driver;
use op::{Operation, Token};
use ring::Completion;
use sockets::Sockets;

/// How soon a full mailbox is tried again.
const OVERFLOW_RETRY: Duration = Duration::from_millis(1);
/// Completions taken out of the queue at once.
const REAP_BATCH: usize = 1024;

/// What assembly decides about a loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopSettings {
    /// Entries of the descriptor table, at most `table_entries_max()`: players, refusals, and connections on their way.
    pub connections: u32,
    /// Connections that one address may have over all shards. `None`: addresses are not even asked for.
    pub connections_per_address: Option<u32>,
    /// Submission queue entries, a power of two.
    pub submissions: u32,
    /// Completion queue entries, a power of two.
    pub completions: u32,
    /// Receive buffers, a power of two.
    pub receive_buffers: u16,
    /// How long it gathers completions before it turns.
    pub gather_time: Duration,
}

/// One shard's ring, and the shard.
pub struct Loop {
    driver: Driver,
    settings: LoopSettings,
    shard: Shard,
    mailbox: Endpoint,
    metrics: Arc<ShardMetrics>,
    clock: Clock,
    /// Both clocks at the begin of the turn.
    now: Now,
    sockets: Sockets,
    crossings: Crossings,
    addresses: Arc<Addresses>,
    /// Counted addresses by slot; empty when they are not counted.
    address_by_slot: Vec<Option<IpAddr>>,
    /// Connections on which something has to be armed.
    receives: Vec<ConnId>,
    /// Among what was submitted last are receives that complete at once.
    receives_now: bool,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnId>,
    /// Where those of a turn go; made by `new`, taken by `run`.
    completions: Vec<Completion>,
    /// Rings of all shards.
    peers: Vec<RawFd>,
    /// Shards that were posted to in this turn.
    posted_to: Vec<ShardId>,
    /// By shard, what waits for room in its mailbox, in order.
    overflow: Vec<VecDeque<Letter>>,
    /// How many that are, over all shards.
    letters_waiting: usize,
    /// Letters that did not fit and must not be lost.
    withdrawals: Vec<(ShardId, Ticket)>,
    sweep_at: Instant,
    swept: usize,
    /// When the next count of memory begins.
    count_memory_at: Instant,
    memory_count: MemoryCount,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// After a sleep.
    Next,
    /// Sends are left: no sleep.
    AtOnce,
    /// It does not.
    Last,
}

impl Loop {
    /// Makes everything that a loop has for as long as it lives, and nothing later: `run` may be called on another thread, and
    /// what that one allocates then comes and goes with connections. The allocator keeps a page, 64 KiB or more, for each size
    /// of which one object is left to a thread; what `new` allocates would keep those that a crowd has filled.
    pub fn new(
        settings: LoopSettings,
        listener: Listener,
        mailbox: Endpoint,
        shard: Shard,
        metrics: Arc<ShardMetrics>,
        clock: Clock,
        addresses: Arc<Addresses>,
    ) -> Result<Self, RingError> {
        let shards = mailbox.shards();
        Ok(Self {
            driver: Driver::new(settings, listener)?,
            settings,
            crossings: Crossings::new(mailbox.id()),
            shard,
            mailbox,
            metrics,
            clock,
            now: clock.now(),
            sockets: Sockets::default(),
            addresses,
            address_by_slot: Vec::new(),
            receives: Vec::new(),
            receives_now: false,
            starved: VecDeque::new(),
            completions: Vec::with_capacity(REAP_BATCH),
            peers: Vec::new(),
            posted_to: Vec::with_capacity(shards),
            overflow: (0..shards).map(|_| VecDeque::new()).collect(),
            letters_waiting: 0,
            withdrawals: Vec::new(),
            sweep_at: Instant::default(),
            swept: 0,
            count_memory_at: Instant::default(),
            memory_count: MemoryCount::default(),
        })
    }

    /// The ring's descriptor, by which other shards' rings reach it.
    pub fn ring_fd(&self) -> RawFd {
        self.driver.ring.fd()
    }

    /// Runs on the calling thread until the core has drained. `peers`: the ring descriptor of every shard, this one's included,
    /// by number. `enabled`: where the loops wait for each other until every ring takes messages. A message to a ring that is not enabled
    /// fails, and one that is just being enabled must not be sent to: older kernels do so without ordering. If one loop fails before
    /// it gets there the others wait for ever: the caller ends the process.
    pub fn run(mut self, peers: Vec<RawFd>, enabled: &Barrier) -> Result<(), RingError> {
        self.peers = peers;
        self.driver.ring.enable()?;
        enabled.wait();
        self.driver.await_wake(&self.mailbox);
        let mut completions = std::mem::take(&mut self.completions);
        loop {
            let turn = self.turn(&mut completions);
            // The sends of a tick take the kernel a millisecond: what is due next must not be counted from before them.
            self.driver.ring.submit()?;
            let ended_at = self.clock.instant();
            self.metrics.loop_turn.record(ended_at.since(self.now.instant));
            let sleep_time = match turn {
                Turn::Next => self.sleep_time(ended_at),
                Turn::AtOnce => Duration::ZERO,
                Turn::Last => return Ok(()),
            };
            self.driver.ring.wait(sleep_time)?;
        }
    }

    fn turn(&mut self, completions: &mut Vec<Completion>) -> Turn {
        self.now = self.clock.now();
        self.metrics.loop_turned_at_us.set(self.now.instant.as_micros());
        self.handle_completions(completions);
        self.read_mailbox();
        self.post_overflow();
        if self.shard.poll_timeout().is_some_and(|due| due <= self.now.instant) {
            self.shard.handle_timeout(self.now);
        }
        let next = self.perform_outputs();
        if next == Turn::Last {
            self.ring_doorbells();
            return Turn::Last;
        }
        self.arm_receives();
        self.sweep();
        self.count_memory();
        self.driver.acceptor.turn(&mut self.driver.ring, &self.metrics, self.now.instant);
        self.ring_doorbells();
        next
    }

    /// The core gives its sends last. So when their number ends this, no hand-over, pause or close is left that a new receive
    /// would be in the way of.
    fn perform_outputs(&mut self) -> Turn {
        let mut sends = 0;
        while sends < limits::SENDS_PER_TURN {
            let Some(output) = self.shard.poll_output() else { return Turn::Next };
            sends += usize::from(matches!(output, Output::Send { .. }));
            if self.perform(output) == Turn::Last {
                return Turn::Last;
            }
        }
        Turn::AtOnce
    }

    fn handle_completions(&mut self, completions: &mut Vec<Completion>) {
        loop {
            let more = self.driver.ring.reap(completions);
            self.metrics.completions.add(completions.len() as u64);
            completions.iter().for_each(|completion| self.handle_completion(completion));
            self.driver.buffers.publish();
            if !more {
                break;
            }
        }
        count_up_to(&self.metrics.enters, self.driver.ring.enters());
        count_up_to(&self.metrics.completion_overflows, self.driver.ring.overflows());
    }

    fn handle_completion(&mut self, completion: &Completion) {
        let conn = completion.token.conn();
        match completion.token.operation {
            Operation::Receive => self.received(conn, completion),
            Operation::Poll => self.polled(conn),
            Operation::Send => self.sent(conn, completion),
            Operation::Shutdown => self.settle(conn),
            Operation::Close => self.descriptor_closed(conn),
            Operation::HandOver => self.departed(conn, completion.error()),
            Operation::HandedOver => self.arrived(completion),
            Operation::Accept => self.accepted(completion),
            Operation::Discard => self.driver.acceptor.given_back(),
            // "Found", "not found" or "too late": the cancelled operation answers for itself.
            Operation::Cancel => {}
            // Rung, or its ring is gone or short of memory: the other shard looks at its bell whenever it turns.
            Operation::Ring => {}
            // The mailbox is looked at every turn.
            Operation::Doorbell => {}
            Operation::Wake => self.woken(completion),
        }
    }

    /// The mailbox is looked at every turn; here it is only seen to that the next ring wakes the loop again.
    fn woken(&mut self, completion: &Completion) {
        match completion.error() {
            None | Some(Errno::INTR | Errno::AGAIN) => self.driver.await_wake(&self.mailbox),
            // Armed again it would fail again, at once. The loop turns once a second and finds its mail late.
            Some(errno) => {
                tracing::error!(%errno, "the service thread cannot wake this shard any more (a bug)");
            }
        }
    }

    fn read_mailbox(&mut self) {
        if !self.mailbox.is_rung() && !self.crossings.has_arrived() {
            return;
        }
        self.mailbox.answer();
        while let Some(letter) = self.mailbox.take() {
            match letter {
                Letter::Peer(message) => self.shard.handle_peer(message, self.now),
                Letter::Order(order) => self.shard.handle_order(order, self.now),
                Letter::Connection { ticket, state, address } => {
                    self.crossings.announce(Announced { ticket, state, address });
                }
                Letter::Withdrawn { ticket } => self.crossings.withdraw(ticket),
            }
        }
        self.take_in_arrived();
    }

    fn perform(&mut self, output: Output) -> Turn {
        match output {
            Output::Send { conn, frames } => self.send(conn, frames),
            Output::Shutdown { conn } => self.shut_down(conn),
            Output::Close { conn, reason } => self.close(conn, reason),
            Output::HandOver { conn, target, state } => self.hand_over(conn, target, state),
            Output::Forward { target, message } => self.forward(target, message),
            Output::Pause { conn } => self.pause(conn),
            Output::Resume { conn } => self.resume(conn),
            Output::Upgraded { conn } => self.upgraded(conn),
            Output::StopAccepting => self.driver.acceptor.stop(),
            Output::Drained => return Turn::Last,
        }
        Turn::Next
    }

    /// Posts a message, behind those that wait already. Too many wait: the core decides what becomes of it.
    fn forward(&mut self, target: Party, message: PeerMessage) {
        let Party::Shard(target) = target else { return };
        let has_room = self.has_room_to_wait(target) || message.must_arrive();
        if has_room && !self.mailbox.is_gone(target) {
            self.post_or_wait(target, Letter::Peer(message));
        } else {
            self.shard.handle_forward_refused(Party::Shard(target), message, self.now);
        }
    }

    fn has_room_to_wait(&self, target: ShardId) -> bool {
        self.overflow[usize::from(target.0)].len() < limits::MAILBOX_OVERFLOW_MAX
    }

    /// Posts a letter, or lets it wait behind those that wait already.
    fn post_or_wait(&mut self, target: ShardId, letter: Letter) {
        let refused = match self.overflow[usize::from(target.0)].is_empty() {
            true => self.post(target, letter),
            false => Some(letter),
        };
        if let Some(letter) = refused {
            self.overflow[usize::from(target.0)].push_back(letter);
            self.letters_waiting += 1;
            self.metrics.letters_waited.increment();
        }
    }

    /// Posts a letter, and what belongs to it follows. Returns it if the mailbox is full.
    fn post(&mut self, target: ShardId, letter: Letter) -> Option<Letter> {
        let departing = match &letter {
            Letter::Connection { ticket, .. } => Some(*ticket),
            Letter::Peer(_) | Letter::Order(_) | Letter::Withdrawn { .. } => None,
        };
        match self.mailbox.post(target, letter) {
            Posted::Queued => {
                self.must_ring(target);
                departing.into_iter().for_each(|ticket| self.send_descriptor(ticket));
                None
            }
            Posted::Refused(letter) => Some(letter),
        }
    }

    /// Posts what waits for room in a mailbox, in order.
    fn post_overflow(&mut self) {
        if self.letters_waiting == 0 {
            return;
        }
        for shard in 0..self.overflow.len() {
            let target = ShardId(shard as u16);
            if !self.overflow[shard].is_empty() && self.mailbox.is_gone(target) {
                // It ends with the process; so do its topics. Connections that were to go there are refused.
                for letter in std::mem::take(&mut self.overflow[shard]) {
                    self.letters_waiting -= 1;
                    if let Letter::Connection { ticket, .. } = letter {
                        self.give_up_hand_over(ticket);
                    }
                }
            }
            while let Some(letter) = self.overflow[shard].pop_front() {
                if let Some(letter) = self.post(target, letter) {
                    self.overflow[shard].push_front(letter);
                    break;
                }
                self.letters_waiting -= 1;
            }
        }
    }

    fn must_ring(&mut self, target: ShardId) {
        if !self.posted_to.contains(&target) {
            self.posted_to.push(target);
        }
    }

    fn ring_doorbells(&mut self) {
        for (target, ticket) in std::mem::take(&mut self.withdrawals) {
            self.withdraw(target, ticket);
        }
        while let Some(target) = self.posted_to.pop() {
            if self.mailbox.must_ring(target) {
                let token = Token::numbered(Operation::Ring, u32::from(target.0));
                self.driver.ring.ring_doorbell(self.peers[usize::from(target.0)], token);
            }
        }
    }

    /// How long the loop may sleep, seen from `now`, which is later than the begin of the turn.
    fn sleep_time(&self, now: Instant) -> Duration {
        if !self.receives.is_empty()
            || !self.starved.is_empty()
            || !self.posted_to.is_empty()
            || self.receives_now
        {
            return Duration::ZERO;
        }
        [self.shard.poll_timeout(), self.driver.acceptor.wakes_at()]
            .into_iter()
            .flatten()
            .map(|due| due.since(now))
            .fold(limits::TURN_INTERVAL_MAX, Duration::min)
            .min(if self.letters_waiting == 0 { Duration::MAX } else { OVERFLOW_RETRY })
    }
}

fn count_up_to(counter: &crate::metrics::Counter, total: u64) {
    counter.add(total - counter.value());
}
