//! The loop of a shard: completions become calls of the core, its outputs become operations of a driver.
//!
//! One turn: sleep (submit what was asked for, and wait) → completions → mailbox → timers → outputs → what was decided on the way
//! (receives, accepts, doorbells). Each part is bounded in number and in the work that follows from it; the rest is done in the
//! next turn, which then follows without a sleep. The loop knows the kernel only as a `Driver`.

mod accepting;
mod addresses;
mod clock;
#[cfg(test)]
mod conformance;
mod connections;
pub mod driver;
pub mod epoll;
mod goodbye;
mod handover;
mod listener;
mod notes;
mod secure;
#[cfg(test)]
mod loop_tests;
mod sockets;
mod sweeper;
mod transport;
#[cfg(test)]
mod troubled;
pub mod uring;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Barrier};
use std::time::Duration;

pub use addresses::Addresses;
pub use clock::Clock;
use clock::LoopClock;
pub use listener::{BindError, ListenOptions, Listener, bind};
pub use notes::are_wanted as are_notes_wanted;
pub use sockets::SOCKET_BYTES;

use crate::ids::{ConnId, Party, RequestNumber};
use crate::limits;
use crate::mailbox::{Endpoint, Letter, New, Posted, Ticket};
use crate::metrics::ShardMetrics;
use crate::shard::memory::MemoryCount;
use crate::shard::peer::{Answer, Order, PeerMessage};
use crate::shard::{Output, Shard};
use crate::time::{Instant, Now};
use crate::tls::ServerConfig;
use accepting::Acceptor;
pub use accepting::Listeners;
use driver::{Completion, Driver};
use handover::{Announced, Handovers};
use sockets::Sockets;
use transport::Transports;

/// How soon a full mailbox is tried again.
const OVERFLOW_RETRY: Duration = Duration::from_millis(1);

/// What assembly decides about a loop.
#[derive(Clone, Debug)]
pub struct LoopSettings {
    /// Entries of the driver's descriptor table: for players, refusals, and connections that are being handed over.
    pub descriptors: u32,
    /// How connections are taken.
    pub listen_options: ListenOptions,
    /// The one table in which all loops count connections by address.
    pub addresses: Arc<Addresses>,
    /// For connections on `listen_tls`; `None`: nobody listens there.
    pub tls: Option<Arc<ServerConfig>>,
}

/// One shard, its driver, and what stands between them.
pub struct Loop<D> {
    driver: D,
    acceptor: Acceptor,
    settings: LoopSettings,
    shard: Shard,
    mailbox: Endpoint,
    metrics: Arc<ShardMetrics>,
    clock: LoopClock,
    /// How many more turns after a standstill only read what has come.
    catching_up: u8,
    /// Both clocks at the start of the turn.
    now: Now,
    sockets: Sockets,
    transports: Transports,
    handovers: Handovers,
    /// Counted addresses by slot; empty when they are not counted.
    address_by_slot: Vec<Option<IpAddr>>,
    /// Connections whose next receive or poll has to be submitted.
    receives: Vec<ConnId>,
    /// Some of the receives submitted last complete at once, so the loop must not sleep.
    receives_now: bool,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnId>,
    /// Parties that were posted to in this turn.
    posted_to: Vec<Party>,
    /// By party, what waits for room in its mailbox, in order.
    overflow: Vec<VecDeque<Letter>>,
    /// Number of letters in `overflow`.
    letters_waiting: usize,
    /// Withdrawals that did not fit into a mailbox and must not be lost.
    withdrawals: Vec<(Party, Ticket)>,
    sweep_at: Instant,
    swept: usize,
    /// When the next count of memory begins.
    count_memory_at: Instant,
    memory_count: MemoryCount,
}

/// How far a part of a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    All,
    /// Its bound was reached, or a tick is due.
    Part,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Yes, after a sleep.
    Next,
    /// Yes, without a sleep: something is left to do.
    AtOnce,
    /// No: the shard has drained.
    Last,
}

impl<D: Driver> Loop<D> {
    /// Allocates here all that lives as long as the loop, because `run` may be called on another thread, whose allocations then
    /// come and go with connections. The allocator frees a page of a thread, 64 KiB or more, only when no object is left in it:
    /// one that lives as long as the loop would keep a page that a crowd has filled.
    pub fn new(
        settings: LoopSettings,
        driver: D,
        listeners: Listeners,
        mailbox: Endpoint,
        shard: Shard,
        metrics: Arc<ShardMetrics>,
        clock: Clock,
    ) -> Self {
        let parties = mailbox.parties().len();
        let wants_addresses = settings.listen_options.connections_per_address.is_some();
        Self {
            driver,
            transports: Transports::new(settings.tls.clone()),
            acceptor: Acceptor::new(listeners, settings.descriptors, wants_addresses),
            settings,
            handovers: Handovers::new(shard.id()),
            shard,
            mailbox,
            metrics,
            clock: LoopClock::new(clock),
            catching_up: 0,
            now: clock.now(),
            sockets: Sockets::default(),
            address_by_slot: Vec::new(),
            receives: Vec::new(),
            receives_now: false,
            starved: VecDeque::new(),
            posted_to: Vec::with_capacity(parties),
            overflow: (0..parties).map(|_| VecDeque::new()).collect(),
            letters_waiting: 0,
            withdrawals: Vec::new(),
            sweep_at: Instant::default(),
            swept: 0,
            count_memory_at: Instant::default(),
            memory_count: MemoryCount::default(),
        }
    }

    /// By what other shards' drivers reach this one's.
    pub fn peer(&self) -> D::Peer {
        self.driver.peer()
    }

    /// Runs on the calling thread until the core has drained. `peers`: the `peer` of every shard, this one's included, by
    /// number. `enabled`: the barrier at which the loops wait until every driver can be reached. If one loop fails before it gets
    /// there the others wait for ever: the caller ends the process.
    ///
    /// # Panics
    /// When the core or the loop panics, which is a bug. Its clients have been told by then.
    pub fn run(mut self, peers: Vec<D::Peer>, enabled: &Barrier) -> Result<(), D::Error> {
        self.driver.enable(peers)?;
        enabled.wait();
        self.driver.watch(self.mailbox.eventfd());
        // A panic may leave anything half done but the table of sockets, to which no change takes two steps. Only that is used
        // below.
        match panic::catch_unwind(AssertUnwindSafe(|| self.turn_until_drained())) {
            Ok(ended) => ended,
            Err(cause) => {
                // If the goodbye panics too, the first panic is still the one to report.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| self.say_goodbye()));
                panic::resume_unwind(cause)
            }
        }
    }

    fn turn_until_drained(&mut self) -> Result<(), D::Error> {
        // However long the start took, the time since `new` is no standstill.
        self.clock.look(Duration::MAX);
        let mut sleep_time = Duration::ZERO;
        loop {
            self.look_at_clock(sleep_time);
            let began_at = self.clock.looked_at();
            self.metrics.loop_turned_at_us.set(began_at.as_micros());
            let turn = self.turn();
            // The sends of a tick take the kernel a millisecond, so the length of the sleep is computed after them.
            self.driver.submit()?;
            self.look_at_clock(Duration::ZERO);
            self.metrics.loop_turn.record(self.clock.looked_at().since(began_at));
            sleep_time = match turn {
                Turn::Next => self.sleep_time(self.now.instant),
                Turn::AtOnce => Duration::ZERO,
                Turn::Last => return Ok(()),
            };
            self.driver.wait(sleep_time)?;
        }
    }

    /// Reads the clocks. About `expected` should have passed since the last call; if it was much more, the process stood still.
    fn look_at_clock(&mut self, expected: Duration) {
        let (now, stood_still) = self.clock.look(expected);
        self.now = now;
        if let Some(duration) = stood_still {
            self.catching_up = limits::TURNS_OF_CATCHING_UP;
            self.metrics.standstills.increment();
            notes::tell_standstill(self.shard.id(), duration, self.clock.looked_at());
        }
        self.shard.handle_clocks(now);
    }

    /// Whether this turn only reads what has come. To read what clients sent during a standstill takes some turns: the
    /// completions are there only after the kernel is entered, and each poll is followed by a receive. `read_before`: completions
    /// counted before this turn.
    fn is_catching_up(&mut self, read_before: u64) -> bool {
        let Some(left) = self.catching_up.checked_sub(1) else { return false };
        let begins = left + 2 >= limits::TURNS_OF_CATCHING_UP;
        let has_read = self.metrics.completions.value() > read_before;
        self.catching_up = if begins || has_read { left } else { 0 };
        self.catching_up > 0
    }

    fn turn(&mut self) -> Turn {
        let completions = self.metrics.completions.value();
        let read = [self.handle_completions(), self.read_mailbox(), self.step_handshakes()];
        self.post_overflow();
        // Timers that became due while this turn was reading run in it, too.
        self.look_at_clock(Duration::ZERO);
        let is_catching_up = self.is_catching_up(completions);
        if !is_catching_up && self.shard.poll_timeout().is_some_and(|due| due <= self.now.instant) {
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
        let takes_secure = self.transports.takes_more();
        self.acceptor.turn(&mut self.driver, &self.metrics, self.now.instant, takes_secure);
        self.ring_doorbells();
        if read == [Done::All; 3] && !is_catching_up { next } else { Turn::AtOnce }
    }

    /// The core gives its sends last. So when their number ends the loop, no handover, pause or close is left over that a new
    /// receive would get in the way of.
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

    fn handle_completions(&mut self) -> Done {
        self.shard.allow_work(limits::PART_WORK_MAX);
        let mut done = Done::All;
        for number in 1.. {
            let Some(completion) = self.driver.next_completion() else { break };
            self.handle_completion(completion);
            if self.must_stop_reading(number, limits::COMPLETIONS_READ_MAX) {
                done = Done::Part;
                break;
            }
        }
        let counts = self.driver.counts();
        count_up_to(&self.metrics.completions, counts.completions);
        count_up_to(&self.metrics.enters, counts.enters);
        count_up_to(&self.metrics.completion_overflows, counts.overflows);
        done
    }

    /// Whether reading ends for this turn, after `number` completions or letters.
    fn must_stop_reading(&self, number: usize, bound: usize) -> bool {
        let is_due = || self.shard.next_due().is_some_and(|due| due <= self.clock.instant());
        number >= bound
            || !self.shard.has_work_left()
            || number.is_multiple_of(limits::READS_PER_LOOK) && is_due()
    }

    fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Received { conn, what, left_some, more } => {
                self.received(conn, what, left_some, more);
            }
            Completion::Polled { conn } => self.polled(conn),
            Completion::Sent { conn, bytes, failed } => self.sent(conn, bytes, failed),
            Completion::ShutDown { conn } => self.settle(conn),
            Completion::Closed { conn } => self.descriptor_closed(conn),
            Completion::HandedOver { conn, outcome } => self.departed(conn, outcome),
            Completion::Arrived { ticket, descriptor } => self.arrived(ticket, descriptor),
            Completion::Accepted { accept, more, client } => self.accepted(accept, more, client),
            Completion::Discarded => self.acceptor.given_back(),
        }
    }

    fn read_mailbox(&mut self) -> Done {
        if !self.mailbox.has_mail() {
            return Done::All;
        }
        self.shard.allow_work(limits::PART_WORK_MAX);
        for number in 1.. {
            let Some((source, letter)) = self.mailbox.take() else { break };
            match letter {
                Letter::Peer(message) => self.shard.handle_peer(source, message, self.now),
                Letter::Order(order) => self.shard.handle_order(order, self.now),
                Letter::Connection { ticket, conn: _, state, address, tls } => {
                    self.announced(ticket, Announced { state, address, tls });
                }
                Letter::Renewal { request, new } => self.renew(source, request, new),
                Letter::Withdrawn { ticket } => self.handovers.withdraw(ticket),
            }
            if self.must_stop_reading(number, limits::LETTERS_READ_MAX) {
                return Done::Part;
            }
        }
        Done::All
    }

    /// Uses what is new from now on, and tells whoever has brought it.
    fn renew(&mut self, source: Party, request: RequestNumber, new: New) {
        match new {
            New::Keys(keys) => self.shard.handle_order(Order::Keys(keys), self.now),
            New::Certificates(config) => self.transports.renew(config),
        }
        self.forward(source, PeerMessage::Answer { request, answer: Answer::Renewed });
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
            Output::Note(note) => {
                notes::write(&note, self.shard.is_in_development(), self.now.instant);
            }
            Output::StopAccepting => self.acceptor.stop(),
            Output::Drained => return Turn::Last,
        }
        Turn::Next
    }

    /// Posts a message behind those that wait already. If too many wait, the core decides what becomes of it.
    fn forward(&mut self, target: Party, message: PeerMessage) {
        let has_room = self.has_room_to_wait(target) || message.must_arrive();
        if has_room && !self.mailbox.is_gone(target) {
            self.post_or_wait(target, Letter::Peer(message));
        } else {
            let instead = self.shard.handle_forward_refused(target, message, self.now);
            if let Some(instead) = instead.filter(|_| !self.mailbox.is_gone(target)) {
                self.post_or_wait(target, Letter::Peer(instead));
            }
        }
    }

    fn has_room_to_wait(&self, target: Party) -> bool {
        self.overflow[self.mailbox.index_of(target)].len() < limits::MAILBOX_OVERFLOW_MAX
    }

    fn waits_for_nothing(&self, target: Party) -> bool {
        self.overflow[self.mailbox.index_of(target)].is_empty()
    }

    /// Posts a letter, or lets it wait behind those that wait already.
    fn post_or_wait(&mut self, target: Party, letter: Letter) {
        let index = self.mailbox.index_of(target);
        let refused = match self.overflow[index].is_empty() {
            true => self.post(target, letter),
            false => Some(letter),
        };
        if let Some(letter) = refused {
            self.overflow[index].push_back(letter);
            self.letters_waiting += 1;
            self.metrics.letters_waited.increment();
        }
    }

    /// Posts a letter, and then sends the descriptor that follows it, if one does. Returns the letter if the mailbox is full.
    fn post(&mut self, target: Party, letter: Letter) -> Option<Letter> {
        let departing = match &letter {
            Letter::Connection { conn, .. } => Some(*conn),
            Letter::Peer(_) | Letter::Order(_) | Letter::Renewal { .. } | Letter::Withdrawn { .. } => None,
        };
        match self.mailbox.post(target, letter) {
            Posted::Queued => {
                self.must_ring(target);
                departing.into_iter().for_each(|conn| self.send_descriptor(conn));
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
        for index in 0..self.overflow.len() {
            let target = self.mailbox.parties()[index];
            if !self.overflow[index].is_empty() && self.mailbox.is_gone(target) {
                // The target has ended, and its topics with it. Connections that were to be handed over to it are refused.
                for letter in std::mem::take(&mut self.overflow[index]) {
                    self.letters_waiting -= 1;
                    if let Letter::Connection { conn, address, .. } = letter {
                        self.give_up_hand_over(conn, address);
                    }
                }
            }
            while let Some(letter) = self.overflow[index].pop_front() {
                if let Some(letter) = self.post(target, letter) {
                    self.overflow[index].push_front(letter);
                    break;
                }
                self.letters_waiting -= 1;
            }
        }
    }

    fn must_ring(&mut self, target: Party) {
        if !self.posted_to.contains(&target) {
            self.posted_to.push(target);
        }
    }

    fn ring_doorbells(&mut self) {
        for (target, ticket) in std::mem::take(&mut self.withdrawals) {
            self.withdraw(target, ticket);
        }
        while let Some(target) = self.posted_to.pop() {
            if !self.mailbox.must_ring(target) {
                continue;
            }
            if let Party::Shard(shard) = target {
                self.driver.ring(shard);
            } else {
                self.mailbox.wake(target);
            }
        }
    }

    fn has_letters_waiting(&self) -> bool {
        self.letters_waiting > 0 || !self.withdrawals.is_empty()
    }

    /// How long the loop may sleep, seen from `now`, which is later than the start of the turn.
    fn sleep_time(&self, now: Instant) -> Duration {
        if !self.receives.is_empty()
            || !self.starved.is_empty()
            || !self.posted_to.is_empty()
            || self.receives_now
        {
            return Duration::ZERO;
        }
        [self.shard.poll_timeout(), self.acceptor.wakes_at()]
            .into_iter()
            .flatten()
            .map(|due| due.since(now))
            .fold(limits::TURN_INTERVAL_MAX, Duration::min)
            .min(if self.has_letters_waiting() { OVERFLOW_RETRY } else { Duration::MAX })
    }
}

fn count_up_to(counter: &crate::metrics::Counter, total: u64) {
    counter.add(total - counter.value());
}
