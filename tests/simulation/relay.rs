//! A relay without a kernel: shards, the letters between them, and the sockets of their clients, in virtual time. It does what
//! a rim does, in the order in which a rim does it, and lets go wrong what can go wrong there.

mod bounds;
mod letters;
mod outputs;
mod service;
mod shape;
mod store;
mod streams;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, ShardId, TopicName};
use corelay::metrics::ShardMetrics;
use corelay::shard::peer::{HandOver, Order};
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Shard};
use corelay::time::{Instant, Now};

use self::letters::Letter;
use self::service::Service;
pub use self::shape::Shape;
use self::store::Store;
use super::faults::{Branch, Counts, Fault, Plan};
use super::random::Random;
use super::socket::{Reading, Socket, SocketId, State};
use super::trace::{Trace, unmasked};

/// Unix time at which every run begins, in seconds.
const STARTED_AT_S: u64 = 1_800_000_000;
/// More guests than one process names.
const GUESTS_OF_A_PROCESS: u64 = 1_000;
/// Turns at one moment. More: the relay never comes to rest.
const TURNS_MAX: usize = 100_000;
/// How often a slow client reads.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(7);

/// What the kernel tells a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Completion {
    Accepted(SocketId),
    Received(SocketId),
    Sent(SocketId),
    SendFailed(SocketId),
    /// The descriptor of what was called `ConnId` is closed.
    Closed(SocketId, ConnId),
    /// The other shard has the descriptor of what was called `ConnId` here.
    Departed(ConnId),
    /// The kernel has refused to hand it over.
    Stayed {
        id: SocketId,
        target: usize,
    },
    /// A descriptor has come from another shard.
    Arrived(SocketId),
}

/// What happens later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    Complete {
        shard: usize,
        completion: Completion,
    },
    ReadSlowly(SocketId),
    /// A shard goes on.
    Wake,
}

/// A shard and its loop.
struct Loop {
    shard: Shard,
    completions: VecDeque<Completion>,
    orders: VecDeque<Order>,
    /// Inboxes by source.
    inboxes: Vec<VecDeque<Letter>>,
    next_inbox: usize,
    /// Letters that wait, by target.
    overflow: Vec<VecDeque<Letter>>,
    withdrawals: Vec<(usize, SocketId)>,
    announced: BTreeMap<SocketId, Box<HandOver>>,
    arrived: BTreeSet<SocketId>,
    by_conn: BTreeMap<ConnId, SocketId>,
    has_outputs: bool,
    accepts: bool,
    stands_until: Instant,
    is_gone: bool,
}

/// See the module documentation.
pub struct Relay {
    pub now: Now,
    pub settings: Arc<Settings>,
    pub metrics: Vec<Arc<ShardMetrics>>,
    pub counts: Counts,
    pub trace: Trace,
    /// When something last went wrong that delays everybody.
    pub stood_still_until: Instant,
    random: Random,
    plan: Plan,
    shape: Shape,
    loops: Vec<Loop>,
    service: Service,
    store: Store,
    /// Connections of users that were kicked.
    must_be_gone: Vec<SocketId>,
    sockets: Vec<Socket>,
    /// Not yet closed.
    live: BTreeSet<SocketId>,
    /// Numbered, so that what happens at one moment happens in order.
    later: BinaryHeap<Reverse<(Instant, u64, Later)>>,
    next_later: u64,
    generation: u8,
}

impl Relay {
    pub fn new(settings: Settings, plan: Plan, shape: Shape, random: Random) -> Self {
        let mut relay = Self {
            now: Now { instant: Instant::from_micros(1_000_000), unix_us: STARTED_AT_S * 1_000_000 },
            settings: Arc::new(settings),
            metrics: Vec::new(),
            counts: Counts::default(),
            trace: Trace::default(),
            stood_still_until: Instant::default(),
            random,
            plan,
            shape,
            loops: Vec::new(),
            service: Service::new(0),
            store: Store::default(),
            must_be_gone: Vec::new(),
            sockets: Vec::new(),
            live: BTreeSet::new(),
            later: BinaryHeap::new(),
            next_later: 0,
            generation: 0,
        };
        relay.start();
        relay
    }

    /// A process that knows nothing of the one before.
    fn start(&mut self) {
        let shards = usize::from(self.settings.placement.shards);
        let parties = self.all_parties().count();
        self.generation += 1;
        self.metrics = (0..shards).map(|_| Arc::default()).collect();
        let (settings, metrics, generation) = (&self.settings, &self.metrics, self.generation);
        let start = |number: usize| Loop {
            shard: Shard::new(
                ShardId(number as u16),
                settings.clone(),
                metrics[number].clone(),
                [number as u8 * 16 + generation; 32],
            ),
            completions: VecDeque::new(),
            orders: VecDeque::new(),
            inboxes: (0..parties).map(|_| VecDeque::new()).collect(),
            next_inbox: 0,
            overflow: (0..parties).map(|_| VecDeque::new()).collect(),
            withdrawals: Vec::new(),
            announced: BTreeMap::new(),
            arrived: BTreeSet::new(),
            by_conn: BTreeMap::new(),
            has_outputs: false,
            accepts: true,
            stands_until: Instant::default(),
            is_gone: false,
        };
        self.loops = (0..shards).map(start).collect();
        self.service = Service::new(parties);
        let disk = std::mem::take(&mut self.store.disk);
        self.store = Store::new(parties, disk);
    }

    /// All parties, in the order of everything that is by party.
    fn all_parties(&self) -> impl Iterator<Item = Party> + use<> {
        Party::all(self.settings.placement.shards)
    }

    fn index_of(&self, party: Party) -> usize {
        party.index(self.settings.placement.shards)
    }

    /// Where letters of `source` wait for `target`.
    fn inbox(&mut self, source: usize, target: usize) -> &mut VecDeque<Letter> {
        let shards = self.loops.len();
        match target.checked_sub(shards) {
            None => &mut self.loops[target].inboxes[source],
            Some(0) => &mut self.service.inboxes[source],
            Some(_) => &mut self.store.inboxes[source],
        }
    }

    fn is_gone(&self, party: usize) -> bool {
        self.loops.get(party).is_some_and(|shard| shard.is_gone)
    }

    pub fn shards(&self) -> usize {
        self.loops.len()
    }

    /// The sum of a number over all shards that run.
    pub fn sum(&self, value: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.running().into_iter().map(|number| value(&self.metrics[number])).sum()
    }

    pub fn shard(&self, number: usize) -> &Shard {
        &self.loops[number].shard
    }

    /// Frees what is no longer needed, as a rim does once a second.
    pub fn give_back(&mut self) {
        self.loops.iter_mut().for_each(|shard| shard.shard.give_back());
    }

    /// From here on nothing new goes wrong, and what was held back goes on.
    pub fn calm(&mut self) {
        self.plan = Plan::calm();
        self.shape = Shape::roomy();
        for number in 0..self.loops.len() {
            self.loops[number].stands_until = self.now.instant;
        }
        for id in self.live.clone() {
            self.set_reading(id, Reading::Everything);
        }
    }

    /// Things may go wrong again.
    pub fn trouble(&mut self, plan: Plan, shape: Shape) {
        self.plan = plan;
        self.shape = shape;
    }

    /// Takes over what the shards have counted.
    pub fn count_branches(&mut self) {
        for metrics in &self.metrics {
            self.counts.branches(Branch::StaleFrame, metrics.frames_skipped.value());
            self.counts.branches(Branch::StaleMessage, metrics.messages_stale.value());
        }
    }

    // ── What clients do ─────────────────────────────────────────────────────────────────────────────────────────────

    /// A connection to whichever shard the kernel likes.
    pub fn dial(&mut self) -> SocketId {
        let accepting: Vec<usize> =
            (0..self.loops.len()).filter(|shard| self.loops[*shard].accepts).collect();
        let shard = if accepting.is_empty() { 0 } else { self.random.one_of(&accepting) };
        let id = SocketId(self.sockets.len() as u32);
        self.sockets.push(Socket::new(shard, self.shape.down_bytes_max));
        if accepting.is_empty() {
            self.let_go(id);
        } else {
            self.live.insert(id);
            self.complete(shard, Completion::Accepted(id));
        }
        id
    }

    pub fn write(&mut self, id: SocketId, bytes: &[u8]) {
        self.trace.note("written", || format!("{id:?} {}", unmasked(bytes)));
        let socket = self.socket(id);
        if !socket.up_ended {
            socket.up.extend(bytes);
            self.receive(id);
        }
    }

    /// The client's end of stream.
    pub fn finish(&mut self, id: SocketId) {
        self.socket(id).up_ended = true;
        self.receive(id);
    }

    /// What a client has read since it was last asked.
    pub fn take(&mut self, id: SocketId) -> Vec<u8> {
        self.socket(id).take_inbox()
    }

    /// Whether a client sees the end of the stream.
    pub fn is_over(&mut self, id: SocketId) -> bool {
        self.socket(id).is_over()
    }

    /// Whether the relay has sent something on this connection.
    pub fn has_answered(&mut self, id: SocketId) -> bool {
        self.socket(id).answered
    }

    pub fn set_reading(&mut self, id: SocketId, reading: Reading) {
        self.socket(id).reading = reading;
        if matches!(reading, Reading::Slowly(_)) {
            self.later(SLOW_READ_INTERVAL, Later::ReadSlowly(id));
        }
        self.flow(id);
    }

    /// The connection breaks, with whatever is on the way.
    pub fn reset(&mut self, id: SocketId) {
        let (up, down) = self.socket(id).bytes_on_the_way();
        let (up, down) = (self.random.below(up + 1), self.random.below(down + 1));
        self.trace.note("reset", || format!("{id:?} {up} {down}"));
        let socket = self.socket(id);
        socket.reset(up, down);
        let (state, shard) = (socket.state, socket.shard);
        let fails = socket.sending.as_ref().is_some_and(|sending| !sending.completes);
        if fails && state == State::Open {
            self.complete(shard, Completion::SendFailed(id));
        }
        self.receive(id);
    }

    fn socket(&mut self, id: SocketId) -> &mut Socket {
        &mut self.sockets[id.0 as usize]
    }

    // ── What operators and machines do ──────────────────────────────────────────────────────────────────────────────

    pub fn order(&mut self, shard: usize, order: Order) {
        self.loops[shard].orders.push_back(order);
    }

    /// A shard does not turn for a while.
    pub fn stand_still(&mut self, shard: usize, duration: Duration) {
        let until = self.now.instant + duration;
        self.loops[shard].stands_until = until;
        self.stood_still_until = self.stood_still_until.max(until);
        self.later(duration, Later::Wake);
    }

    pub fn has_drained(&self) -> bool {
        self.loops.iter().all(|shard| shard.is_gone)
    }

    /// The process ends, with whatever is open; another one starts.
    pub fn restart(&mut self) {
        self.trace.note("restart", String::new);
        self.count_branches();
        for id in std::mem::take(&mut self.live) {
            self.let_go(id);
        }
        self.later.clear();
        self.cut_off_store();
        self.loops.clear();
        let settings = Arc::get_mut(&mut self.settings).expect("only shards share them");
        settings.guests_before += GUESTS_OF_A_PROCESS;
        self.start();
    }

    // ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Lets time pass, with everything that happens in it at its moment.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        loop {
            self.settle();
            let due = self.later.peek().map(|Reverse((at, ..))| *at);
            let running = self.loops.iter().filter(|shard| !shard.is_gone);
            let timeouts =
                running.filter_map(|shard| Some(shard.shard.poll_timeout()?.max(shard.stands_until)));
            let next = timeouts.chain(due).min().filter(|next| *next <= end);
            let moment = next.unwrap_or(end).max(self.now.instant);
            self.now.unix_us += moment.since(self.now.instant).as_micros() as u64;
            self.now.instant = moment;
            if next.is_none() {
                return;
            }
            while let Some(Reverse((_, _, later))) =
                self.later.peek().filter(|Reverse((at, ..))| *at <= moment)
            {
                let later = *later;
                self.later.pop();
                self.happens(later);
            }
        }
    }

    fn later(&mut self, after: Duration, later: Later) {
        self.next_later += 1;
        self.later.push(Reverse((self.now.instant + after, self.next_later, later)));
    }

    fn happens(&mut self, later: Later) {
        match later {
            Later::Complete { shard, completion } => self.complete(shard, completion),
            Later::ReadSlowly(id) => {
                if matches!(self.socket(id).reading, Reading::Slowly(_)) && self.live.contains(&id) {
                    self.socket(id).read_slowly();
                    self.flow(id);
                    self.later(SLOW_READ_INTERVAL, Later::ReadSlowly(id));
                }
            }
            Later::Wake => {}
        }
    }

    /// Lets shards turn, in any order, until none has anything to do, and the parties that are no shards between them.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn_of_service();
            self.turn_of_store();
            let busy: Vec<usize> = (0..self.loops.len()).filter(|number| self.is_busy(*number)).collect();
            if busy.is_empty() {
                return;
            }
            let number = self.random.one_of(&busy);
            self.turn(number);
        }
        panic!("the relay never comes to rest");
    }

    fn is_busy(&self, number: usize) -> bool {
        let own = &self.loops[number];
        if own.is_gone || own.stands_until > self.now.instant {
            return false;
        }
        let is_due = own.shard.poll_timeout().is_some_and(|due| due <= self.now.instant);
        let can_post = |(target, letters): (usize, &VecDeque<Letter>)| {
            !letters.is_empty() && (self.is_gone(target) || self.has_room(number, target))
        };
        is_due
            || own.has_outputs
            || !own.completions.is_empty()
            || !own.orders.is_empty()
            || own.inboxes.iter().any(|inbox| !inbox.is_empty())
            || own.overflow.iter().enumerate().any(can_post)
            || own.withdrawals.iter().any(|(target, _)| self.has_room(number, *target))
    }

    fn has_room(&self, source: usize, target: usize) -> bool {
        let inboxes = match self.loops.get(target) {
            Some(shard) => &shard.inboxes,
            None if target == self.loops.len() => &self.service.inboxes,
            None => &self.store.inboxes,
        };
        inboxes[source].len() < self.shape.letters_max
    }

    // ── A turn ──────────────────────────────────────────────────────────────────────────────────────────────────────

    fn turn(&mut self, number: usize) {
        self.trace.note("turn", || format!("{number} at {}", self.now.instant.as_micros()));
        self.loops[number].has_outputs = true;
        let work = self.shape.work_per_part;
        self.loops[number].shard.allow_work(work);
        let read_before = self.metrics[number].frames_in.value();
        let mut readable = Vec::new();
        for _ in 0..self.shape.completions_per_turn {
            let Some(completion) = self.loops[number].completions.pop_front() else { break };
            self.completed(number, completion, &mut readable);
        }
        self.read_mail(number);
        self.post_overflow(number);
        let due = self.loops[number].shard.poll_timeout();
        if due.is_some_and(|due| due <= self.now.instant) {
            self.loops[number].shard.handle_timeout(self.now);
        }
        let read = self.metrics[number].frames_in.value() - read_before;
        assert!(read <= 2 * u64::from(work), "a turn of two parts with {work} of work reads {read} messages");
        // What waits to be read is due at once.
        if self.loops[number].shard.poll_timeout() == Some(Instant::default()) {
            self.counts.branch(Branch::Unread);
        }
        self.perform_outputs(number);
        readable.into_iter().for_each(|id| self.receive(id));
        let left = !self.loops[number].completions.is_empty()
            || self.loops[number].inboxes.iter().any(|inbox| !inbox.is_empty())
            || self.loops[number].has_outputs;
        if left && self.plan.is_on(Fault::ShortTurn) {
            self.counts.fault(Fault::ShortTurn);
        }
    }

    fn complete(&mut self, shard: usize, completion: Completion) {
        match completion {
            // The ring that it went to is gone.
            Completion::Accepted(id) | Completion::Arrived(id) if self.loops[shard].is_gone => {
                self.let_go(id);
            }
            completion => self.loops[shard].completions.push_back(completion),
        }
    }

    /// Completes something as `complete` does, perhaps later.
    fn complete_at_times(&mut self, shard: usize, completion: Completion, fault: Fault, ms_max: usize) {
        if self.random.chance(self.plan.of(fault)) {
            self.counts.fault(fault);
            let after = Duration::from_millis(self.random.below(ms_max) as u64 + 1);
            self.later(after, Later::Complete { shard, completion });
        } else {
            self.complete(shard, completion);
        }
    }

    /// Something completes for a shard. `readable`: what is read from again when the turn's outputs are carried out.
    fn completed(&mut self, number: usize, completion: Completion, readable: &mut Vec<SocketId>) {
        self.trace.note("completion", || format!("{number} {completion:?}"));
        let now = self.now;
        match completion {
            Completion::Accepted(id) => {
                let conn = self.loops[number].shard.handle_accepted(Admission::Admitted, now);
                self.open(number, id, conn);
            }
            Completion::Received(id) => {
                self.received(number, id);
                if self.socket(id).upgraded {
                    self.receive(id);
                } else {
                    readable.push(id);
                }
            }
            Completion::Sent(id) => {
                let socket = self.socket(id);
                socket.sending = None;
                let Some(conn) = socket.conn.filter(|_| socket.state == State::Open && !socket.broken) else {
                    return;
                };
                if std::mem::take(&mut socket.shuts_down_after_send) {
                    socket.end_down();
                }
                self.loops[number].shard.handle_sent(conn, now);
            }
            Completion::SendFailed(id) => self.break_off(number, id),
            Completion::Closed(id, conn) => {
                self.loops[number].by_conn.remove(&conn);
                self.let_go(id);
                self.loops[number].shard.handle_closed(conn, now);
            }
            Completion::Departed(conn) => {
                self.loops[number].by_conn.remove(&conn);
                self.loops[number].shard.handle_closed(conn, now);
            }
            Completion::Stayed { id, target } => {
                self.withdraw(number, target, id);
                self.stay(number, id);
            }
            Completion::Arrived(id) => {
                self.loops[number].arrived.insert(id);
                self.take_in_arrived(number);
            }
        }
    }

    fn open(&mut self, number: usize, id: SocketId, conn: Option<ConnId>) {
        let Some(conn) = conn else {
            return self.let_go(id);
        };
        let socket = self.socket(id);
        (socket.shard, socket.conn, socket.state) = (number, Some(conn), State::Open);
        self.loops[number].by_conn.insert(conn, id);
        self.receive(id);
    }

    fn let_go(&mut self, id: SocketId) {
        self.live.remove(&id);
        let socket = self.socket(id);
        socket.state = State::Closed;
        socket.sending = None;
        socket.up.clear();
        socket.up_ended = true;
        socket.end_down();
    }

    /// A shard ends without having drained, and the others hear of it.
    pub fn end_shard(&mut self, number: usize) {
        self.trace.note("a shard ends", || number.to_string());
        self.end_loop(number);
        for other in &mut self.loops {
            other.inboxes[number].push_back(Letter::Ended);
        }
    }

    /// Whether the shard that owns a topic is no more.
    pub fn has_lost(&self, topic: &str) -> bool {
        let name = topic.split_once(':').and_then(|(_, name)| TopicName::parse(name)).expect("a topic");
        self.loops[usize::from(self.settings.placement.shard_of(&name).0)].is_gone
    }

    /// Numbers of the shards that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.loops.len()).filter(|number| !self.loops[*number].is_gone).collect()
    }
}
