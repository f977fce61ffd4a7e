//! One thread's world: every connection and game that is pinned to it. Still no system call.
//!
//! Whoever drives it calls, in any order: `handle_*` for what happened, then `poll_output` until it is `None`, then
//! sleeps until `poll_timeout`.

mod asking;
mod channels;
mod closing;
mod connections;
mod deadlines;
mod deliveries;
mod drain;
mod hosting;
mod inquiries;
mod joining;
mod kick;
mod kind;
mod listing;
#[cfg(test)]
mod member_tests;
pub mod memory;
pub mod peer;
pub mod placement;
mod play;
pub mod questions;
mod requests;
pub mod settings;
mod siphash;
pub mod sizes;
mod subscribers;
mod ticks;
mod timers;
mod tokens;
mod topics;
mod unread;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use self::asking::Asker;
pub use self::connections::CONNECTION_BYTES;
use self::connections::Connections;
use self::deadlines::Deadlines;
use self::drain::Drain;
use self::inquiries::Inquiry;
use self::peer::{HandOver, Order, PeerMessage};
use self::questions::Questions;
use self::settings::Settings;
use self::subscribers::Subscribers;
use self::tokens::Tokens;
use self::topics::{TopicIndex, Topics};
use self::unread::Unread;
use self::work::Work;
use crate::ids::{ConnId, Party, ShardId, Topic};
use crate::impossible;
use crate::limits;
use crate::metrics::ShardMetrics;
use crate::note::Note;
use crate::reasons::CloseReason;
use crate::room::hosted::Lost;
use crate::room::seats::SeatIndex;
use crate::session::outbox::Pushed;
use crate::session::rate_limit::RateLimiter;
use crate::session::{Dialect, Lifecycle, Session};
use crate::surplus::Surplus;
use crate::time::{Instant, Now, RelayTime};
pub use crate::wire::encoded::Frames;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::Opcode;

/// What the rim must do.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Output {
    /// Send these bytes; answer with `handle_sent` when the kernel has taken all of them. Never a second one for a connection
    /// before that answer.
    Send {
        conn: ConnId,
        /// In this order.
        frames: Frames,
    },
    /// Tell the peer that nothing more will be sent (`shutdown(WR)`), and go on receiving.
    Shutdown { conn: ConnId },
    /// End the connection now, whatever is in flight; answer with `handle_closed`.
    Close {
        conn: ConnId,
        /// For the log; `None`: its upgrade was refused, or never came.
        reason: Option<CloseReason>,
    },
    /// Move the connection to another shard. Answer with `handle_closed` when the other one has it, with
    /// `handle_hand_over_refused` when it could not take it.
    HandOver {
        conn: ConnId,
        /// Where its game lives.
        target: ShardId,
        state: Box<HandOver>,
    },
    /// Give a message to another party. Those for one party arrive in order. Answer with `handle_forward_refused` if too many
    /// wait already; `PeerMessage::must_arrive` says which wait nevertheless.
    Forward { target: Party, message: PeerMessage },
    /// Stop reading from the connection. When it is read from again, it is one receive at a time, until
    /// `Shard::has_full_byte_budget`.
    Pause { conn: ConnId },
    /// Read from the connection again.
    Resume { conn: ConnId },
    /// The request head is read, and the connection stays on this shard: from here on it may have many receives at once.
    Upgraded { conn: ConnId },
    /// Tell the log. Only with `Settings::notes`.
    Note(Box<Note>),
    /// Stop accepting and close the listener: the relay drains.
    StopAccepting,
    /// Nothing is left to do after a drain: leave the loop.
    Drained,
}

/// What the rim found out about a connection before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may go on.
    Admitted,
    /// Its address has too many connections already: answer 429.
    AddressLimit,
}

/// Whether more of a connection's bytes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// A shard. The module documentation says in which order to call it.
pub struct Shard {
    id: ShardId,
    settings: Arc<Settings>,
    /// `None`: development mode, nobody needs a token.
    tokens: Option<Tokens>,
    metrics: Arc<ShardMetrics>,
    random: ChaCha12Rng,
    connections: Connections,
    /// Connections that are open.
    open: u32,
    /// Request heads of which a part has come.
    heads: BTreeMap<ConnId, Vec<u8>>,
    /// Topics that live on this shard.
    topics: Topics,
    /// Who on this shard is in which topic of any shard.
    subscribers: Subscribers,
    /// Rate limits of the players of held seats: a reconnect does not fill their buckets.
    held_rates: BTreeMap<(TopicIndex, SeatIndex), RateLimiter>,
    deadlines: Deadlines,
    pool: FramePool,
    /// The answer to most pings, shared by all.
    empty_pong: Encoded,
    /// The ping, which is the same for everybody.
    ping: Encoded,
    outputs: VecDeque<Output>,
    /// The lost members that a notice is for, as long as outputs wait that were decided before the notice.
    noticed: BTreeMap<Arc<Topic>, BTreeSet<Lost>>,
    work: Work,
    unread: Unread,
    /// Connections with something to send.
    ready: VecDeque<ConnId>,
    /// Connections whose reliable lane is full; they are closed before the current call returns.
    overflowed: Vec<ConnId>,
    /// Number of the next guest of this shard.
    guests: u64,
    /// The relay's clock; `None`: there was no topic yet.
    clock: Option<RelayTime>,
    /// By how much the wall clock was ahead of the monotonic clock when it was looked at last, in µs.
    wall_clock_ahead_us: u64,
    /// Questions of other parties, in order.
    inquiries: VecDeque<Inquiry>,
    /// Questions of topics to the store.
    asked: Questions<Asker>,
    /// Askers for whose questions there was no room: they are refused.
    not_asked: VecDeque<Asker>,
    drain: Option<Drain>,
}

impl Shard {
    /// An empty world. `seed` must be unpredictable outside tests: seats' resume tokens come from it.
    pub fn new(id: ShardId, settings: Arc<Settings>, metrics: Arc<ShardMetrics>, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let tokens = settings.verifier.clone().map(|keys| {
            let hash_key = [random.next_u64(), random.next_u64()];
            Tokens::new(keys, hash_key, metrics.clone())
        });
        // A table that is larger than the rim's never refuses what the rim could hold.
        let slots = settings.connections_per_shard_max + 2 * limits::CONNECTIONS_RESERVE;
        Self {
            id,
            tokens,
            settings,
            metrics,
            random,
            connections: Connections::new(slots as usize),
            heads: BTreeMap::new(),
            open: 0,
            topics: Topics::default(),
            subscribers: Subscribers::default(),
            held_rates: BTreeMap::new(),
            deadlines: Deadlines::default(),
            pool: FramePool::default(),
            empty_pong: Encoded::message(Opcode::Pong, &[]),
            ping: Encoded::message(Opcode::Ping, &[]),
            outputs: VecDeque::new(),
            noticed: BTreeMap::new(),
            work: Work::UNBOUNDED,
            unread: Unread::default(),
            ready: VecDeque::new(),
            overflowed: Vec::new(),
            guests: 0,
            clock: None,
            wall_clock_ahead_us: 0,
            inquiries: VecDeque::new(),
            asked: Questions::at_most(limits::STORE_QUESTIONS_MAX),
            not_asked: VecDeque::new(),
            drain: None,
        }
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// No token is needed: everybody is a guest.
    pub fn is_in_development(&self) -> bool {
        self.tokens.is_none()
    }

    /// A connection was accepted here. `None`: no slot is free, close it.
    pub fn handle_accepted(&mut self, admission: Admission, now: Now) -> Option<ConnId> {
        let deadline = now.instant + self.settings.clients.upgrade_timeout;
        let conn = self.connections.insert(Session::upgrading(deadline, now.instant))?;
        self.metrics.connections_upgrading.add(1);
        match admission {
            Admission::Admitted => self.schedule_check(conn, now),
            Admission::AddressLimit => self.refuse_address(conn, now),
        }
        Some(conn)
    }

    /// A connection has come from another shard. `None`: no slot is free, close it.
    pub fn handle_handed_over(&mut self, state: HandOver, now: Now) -> Option<ConnId> {
        let conn = self.connections.insert(Session::handed_over(now.instant))?;
        self.metrics.connections_upgrading.add(1);
        self.seat_player(conn, state, now);
        self.close_overflowed(now);
        Some(conn)
    }

    /// The target of `Output::HandOver` could not take the connection: it is still here.
    pub fn handle_hand_over_refused(&mut self, conn: ConnId, now: Now) {
        self.refuse_hand_over(conn, now);
    }

    /// Begins a part of a turn: what follows may do so much work, and so may each part of a `handle_timeout`. A unit is a message
    /// that is read or a frame that is queued: some 0.1 to 0.5 µs. Whoever never calls it sets no bound.
    pub fn allow_work(&mut self, units: u32) {
        self.work = Work::of_parts(units);
    }

    /// The rim has done work in this part: so many units.
    pub fn spend_work(&mut self, units: usize) {
        self.work.spend(units);
    }

    /// Whether the part that `allow_work` began may go on. If not, whatever comes is still taken, but received messages wait
    /// for the next `handle_timeout`, which is due at once.
    pub fn has_work_left(&self) -> bool {
        self.work.is_left()
    }

    /// Whether a connection that was paused has paid back all that it was over its byte budget.
    pub fn has_full_byte_budget(&self, conn: ConnId, now: Now) -> bool {
        let connection = self.connections.get(conn);
        connection.is_some_and(|connection| {
            connection.session.rates.has_full_byte_budget(&self.settings.rates, now.instant)
        })
    }

    /// Bytes came in. They are unmasked in place; what is kept is a copy.
    pub fn handle_received(&mut self, conn: ConnId, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        match &mut connection.session.lifecycle {
            Lifecycle::Upgrading => self.receive_request(conn, bytes, now),
            Lifecycle::Open(dialect) => {
                let dialect = *dialect;
                self.receive_frames(conn, dialect, bytes, now);
            }
            Lifecycle::Closing(_) => self.discard(conn, bytes.len()),
            Lifecycle::HandingOver => {}
        }
        self.close_overflowed(now);
    }

    /// The peer will send nothing more (end of stream, or an error of the receive). Not yet the end: see `Output::Close`.
    pub fn handle_eof(&mut self, conn: ConnId, now: Now) {
        if !self.unread.is_empty() && self.end_behind_unread(conn) {
            return;
        }
        self.peer_is_done(conn, now);
        self.close_overflowed(now);
    }

    /// The kernel has taken the whole of the last `Output::Send`.
    pub fn handle_sent(&mut self, conn: ConnId, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        let outbox = &mut connection.session.outbox;
        let before = outbox.reliable_bytes();
        outbox.sent();
        self.metrics.outbox_bytes.subtract(u64::from(before - outbox.reliable_bytes()));
        if connection.session.is_idle() {
            self.everything_sent(conn, now);
        } else if connection.session.outbox.enlist() {
            self.ready.push_back(conn);
        }
        self.want_whole_states(conn, now);
        self.close_overflowed(now);
    }

    /// The last `Output::Send` has failed behind the end of the peer's stream: nothing reaches it any more. What has come before
    /// is still read.
    pub fn handle_send_failed(&mut self, conn: ConnId, now: Now) {
        self.stop_sending(conn);
        self.close_overflowed(now);
    }

    /// The connection is gone and the rim holds nothing of it: the last call with this `conn`.
    pub fn handle_closed(&mut self, conn: ConnId, now: Now) {
        self.forget(conn, now);
        self.close_overflowed(now);
    }

    /// An order from whoever runs this process.
    pub fn handle_order(&mut self, order: Order, now: Now) {
        match order {
            Order::Drain => self.start_drain(now),
            Order::Keys(keys) => match &mut self.tokens {
                Some(tokens) => tokens.renew_keys(keys),
                None => impossible!("whether tokens are needed is settled at the start"),
            },
        }
        self.close_overflowed(now);
    }

    /// A message from another party.
    pub fn handle_peer(&mut self, from: Party, message: PeerMessage, now: Now) {
        self.work.spend(1);
        match message {
            PeerMessage::Request(request) => self.handle_request(*request, now),
            PeerMessage::Deliver(delivery) => self.handle_delivery(*delivery, now),
            PeerMessage::Ask { request, question } => self.inquire(from, request, question),
            PeerMessage::Answer { request, answer } => self.answered(from, request, answer, now),
        }
        self.close_overflowed(now);
    }

    /// An `Output::Forward` that could not be taken. Returns what must be given to the party in its place, before any other
    /// output.
    #[must_use]
    pub fn handle_forward_refused(
        &mut self,
        target: Party,
        message: PeerMessage,
        now: Now,
    ) -> Option<PeerMessage> {
        let in_its_place = self.forward_refused(target, message, now);
        self.close_overflowed(now);
        in_its_place
    }

    /// A party has ended: members behind it are none any more, and channels here that are in its topics end.
    pub fn handle_party_ended(&mut self, party: Party, now: Now) {
        self.party_ended(party, now);
        self.close_overflowed(now);
    }

    /// Compares the clocks, and looks at all that expires if one was set. To be called at the start of a turn.
    pub fn handle_clocks(&mut self, now: Now) {
        let ahead_us = now.unix_us.wrapping_sub(now.instant.as_micros());
        if ahead_us.abs_diff(self.wall_clock_ahead_us) > limits::WALL_CLOCK_STEP_MIN.as_micros() as u64 {
            self.wall_clock_ahead_us = ahead_us;
            self.look_at_expiries(now);
        }
    }

    /// Does what has become due: ticks, messages that wait to be read, what topics tell, ends of seats, liveness, questions, drain.
    /// Each has work of its own, so none waits for ever for another; what is left of it stays due.
    pub fn handle_timeout(&mut self, now: Now) {
        let parts = [
            Self::run_topics,
            Self::read_unread,
            Self::check_connections,
            Self::go_on_answering,
            Self::refuse_questions,
            Self::go_on_draining,
        ];
        for part in parts {
            self.work.next_part();
            part(self, now);
        }
        self.close_overflowed(now);
    }

    /// Gives back what was reserved for more connections and games than there are. To be called about once a second: it frees
    /// what was not needed since the last call.
    pub fn give_back(&mut self) {
        let connections = self.connections.len();
        if connections == 0 {
            // What is left in the buckets is of connections that have gone.
            self.deadlines = Deadlines::default();
            if let Some(tokens) = &mut self.tokens {
                tokens.give_back();
            }
        }
        self.connections.give_back();
        self.outputs.give_back(connections);
        self.ready.give_back(connections);
        self.overflowed.give_back(connections);
        self.inquiries.give_back(0);
        self.not_asked.give_back(0);
        self.topics.give_back();
        self.pool.give_back();
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if !self.noticed.is_empty() {
            self.noticed = BTreeMap::new();
        }
        while let Some(conn) = self.ready.pop_front() {
            // Whoever was ready may have gone since.
            let Some(connection) = self.connections.find(conn) else { continue };
            connection.session.outbox.delist();
            if let Some(frames) = connection.session.take_frames() {
                let messages = frames.as_slice().iter().map(|frame| u64::from(frame.frames())).sum();
                self.metrics.frames_out.add(messages);
                return Some(Output::Send { conn, frames });
            }
        }
        None
    }

    /// When `handle_timeout` is due next; `None`: when something has happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.unread.is_empty() && self.inquiries.is_empty() && self.not_asked.is_empty() {
            self.next_due()
        } else {
            Some(Instant::default())
        }
    }

    /// When something is due next by the clock, whatever waits to be read or answered: a tick among others.
    pub fn next_due(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(Drain::next);
        self.topics.next().into_iter().chain(self.deadlines.next()).chain(drain).min()
    }

    // ── What the parts share ────────────────────────────────────────────────────────────────────────────────────────

    /// Queues a frame that must arrive, or marks the connection as too slow to stay.
    fn push(&mut self, conn: ConnId, frame: Encoded) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is told something is here");
        };
        let session = &mut connection.session;
        let bytes_max = match session.lifecycle {
            Lifecycle::Open(Dialect::Native | Dialect::Phoenix) => outbox_bytes_max(session, &self.settings),
            Lifecycle::Open(Dialect::Echo) => limits::ECHO_OUTBOX_BYTES_MAX,
            Lifecycle::Upgrading | Lifecycle::HandingOver | Lifecycle::Closing(_) => return,
        };
        self.work.spend(1);
        let before = session.outbox.reliable_bytes();
        match session.outbox.push(frame, bytes_max) {
            Pushed::Queued => {
                self.metrics.outbox_bytes.add(u64::from(session.outbox.reliable_bytes() - before));
                if session.outbox.enlist() {
                    self.ready.push_back(conn);
                }
            }
            Pushed::Refused => self.overflowed.push(conn),
        }
    }

    /// Queues a frame of the answer to a join.
    fn push_greeting(&mut self, conn: ConnId, frame: Encoded) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is answered is here");
        };
        let session = &mut connection.session;
        let bytes_max = outbox_bytes_max(session, &self.settings);
        if !session.is_open() {
            return;
        }
        // Nobody shares the frame, so its bytes are work, too.
        self.work.spend(1 + frame.bytes().len() / limits::WORK_BYTES);
        let before = session.outbox.reliable_bytes();
        match session.outbox.push_greeting(frame, bytes_max) {
            Pushed::Queued => {
                self.metrics.outbox_bytes.add(u64::from(session.outbox.reliable_bytes() - before));
                if session.outbox.enlist() {
                    self.ready.push_back(conn);
                }
            }
            Pushed::Refused => self.overflowed.push(conn),
        }
    }

    /// Queues a frame that must arrive whatever waits already: of a greeting, a refusal, a close.
    fn push_exempt(&mut self, conn: ConnId, frame: Encoded) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is answered is here");
        };
        let outbox = &mut connection.session.outbox;
        let before = outbox.reliable_bytes();
        outbox.push_exempt(frame);
        self.metrics.outbox_bytes.add(u64::from(outbox.reliable_bytes() - before));
        if outbox.enlist() {
            self.ready.push_back(conn);
        }
    }

    /// Moves a connection on in its life. The gauges follow.
    fn set_lifecycle(&mut self, conn: ConnId, lifecycle: Lifecycle) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let before = std::mem::replace(&mut connection.session.lifecycle, lifecycle);
        let metrics = &self.metrics;
        let gauge = |lifecycle: &Lifecycle| match lifecycle {
            Lifecycle::Upgrading | Lifecycle::HandingOver => &metrics.connections_upgrading,
            Lifecycle::Open(_) => &metrics.connections_open,
            Lifecycle::Closing(_) => &metrics.connections_closing,
        };
        gauge(&before).subtract(1);
        gauge(&connection.session.lifecycle).add(1);
        match (matches!(before, Lifecycle::Open(_)), connection.session.is_open()) {
            (false, true) => {
                self.open += 1;
                self.settings.connections_open.increment();
            }
            (true, false) => {
                self.open -= 1;
                self.settings.connections_open.decrement();
            }
            (true, true) | (false, false) => {}
        }
    }

    fn close_overflowed(&mut self, now: Now) {
        while let Some(conn) = self.overflowed.pop() {
            self.close(conn, CloseReason::Slow, now);
        }
    }
}

/// Bound of a connection's reliable lane.
fn outbox_bytes_max(session: &Session, settings: &Settings) -> usize {
    let factor = if session.channels.is_some() { limits::OUTBOX_CHANNELS_FACTOR } else { 1 };
    factor * settings.clients.outbox_bytes_max
}
