//! A relay without a kernel: shards, the letters between them, and the sockets of their clients, in virtual time. It does what
//! a rim does, in the order in which a rim does it, and lets go wrong what can go wrong there.

mod letters;
mod service;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, ShardId, TopicName};
use corelay::limits::{GREETINGS_BYTES_MAX, PART_WORK_MAX};
use corelay::metrics::ShardMetrics;
use corelay::shard::peer::{HandOver, Order};
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Frames, Output, Shard};
use corelay::time::{Instant, Now};

use self::letters::Letter;
use self::service::Service;
use super::faults::{Branch, Counts, Fault, Plan};
use super::random::Random;
use super::socket::{Reading, Socket, SocketId, State};
use super::trace::Trace;

/// Unix time at which every run begins, in seconds.
const STARTED_AT_S: u64 = 1_800_000_000;
/// Turns at one moment. More: the relay never comes to rest.
const TURNS_MAX: usize = 100_000;
/// How often a slow client reads.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(7);
/// State frames of one topic in one send: the one of its place, and behind a join in V1, which does not say which is which, the
/// whole that answers it. More: state has become a queue.
const STATE_FRAMES_PER_SEND_MAX: usize = 2;

/// The bounds of a rim, which a run draws small.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Letters in one inbox.
    pub letters_max: usize,
    /// Letters that wait behind it.
    pub overflow_max: usize,
    pub completions_per_turn: usize,
    pub letters_per_turn: usize,
    pub outputs_per_turn: usize,
    /// What the core may do in each part of a turn.
    pub work_per_part: u32,
    /// What the kernel takes for a client that does not read.
    pub down_bytes_max: usize,
}

impl Shape {
    pub fn draw(plan: &Plan, random: &mut Random) -> Self {
        let roomy = Self::roomy();
        let full = plan.is_on(Fault::FullMailbox) || plan.is_on(Fault::RefusedForward);
        let short = plan.is_on(Fault::ShortTurn);
        let mut bound = |is_on: bool, choices: &[usize], otherwise: usize| match is_on {
            true => random.one_of(choices),
            false => otherwise,
        };
        Self {
            letters_max: bound(full, &[1, 2, 5], roomy.letters_max),
            overflow_max: bound(plan.is_on(Fault::RefusedForward), &[0, 1, 4], roomy.overflow_max),
            completions_per_turn: bound(short, &[1, 2, 5], roomy.completions_per_turn),
            letters_per_turn: bound(short, &[1, 2, 5], roomy.letters_per_turn),
            outputs_per_turn: bound(short, &[1, 3, 10], roomy.outputs_per_turn),
            work_per_part: bound(short, &[1, 5, 30], roomy.work_per_part as usize) as u32,
            down_bytes_max: bound(true, &[50, 500, 4096, 64 * 1024], 0),
        }
    }

    /// Nothing is ever full, but for a socket.
    pub fn roomy() -> Self {
        Self {
            letters_max: 1024,
            overflow_max: 16 * 1024,
            completions_per_turn: usize::MAX,
            letters_per_turn: usize::MAX,
            outputs_per_turn: usize::MAX,
            work_per_part: PART_WORK_MAX,
            down_bytes_max: 4096,
        }
    }
}

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
    /// By source.
    inboxes: Vec<VecDeque<Letter>>,
    next_inbox: usize,
    /// By target.
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
            service: Service::default(),
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
    }

    /// In the order of everything that is by party.
    fn all_parties(&self) -> impl Iterator<Item = Party> + use<> {
        Party::all(self.settings.placement.shards)
    }

    fn index_of(&self, party: Party) -> usize {
        party.index(self.settings.placement.shards)
    }

    /// Where letters of `source` wait for `target`.
    fn inbox(&mut self, source: usize, target: usize) -> &mut VecDeque<Letter> {
        match self.loops.get_mut(target) {
            Some(shard) => &mut shard.inboxes[source],
            None => &mut self.service.inboxes[source],
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

    /// Whether every shard has drained.
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
        self.start();
    }

    // ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// What waits for anybody is within its bounds.
    pub fn check_bounds(&self) {
        for number in self.running() {
            let sizes = self.loops[number].shard.sizes();
            let over = [sizes.lanes_over_bound, sizes.lanes_miscounted, sizes.states_over_bound];
            assert_eq!(over, [0; 3], "shard {number}: {sizes:?}");
            let seats_held = self.metrics[number].seats_held.value();
            assert!(sizes.held_rates as u64 <= seats_held, "shard {number} of {seats_held} seats: {sizes:?}");
            assert!(sizes.exempt_bytes_max <= GREETINGS_BYTES_MAX, "shard {number}: {sizes:?}");
        }
    }

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

    /// Lets shards turn, in any order, until none has anything to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn_of_service();
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
        let inboxes = self.loops.get(target).map_or(&self.service.inboxes, |shard| &shard.inboxes);
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
        if self.loops[number].shard.sizes().unread > 0 {
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

    /// The same, perhaps later.
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

    // ── Receiving ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Lets a receive complete, if one would.
    fn receive(&mut self, id: SocketId) {
        let socket = self.socket(id);
        if socket.is_readable() {
            socket.receives = true;
            let shard = socket.shard;
            self.complete_at_times(shard, Completion::Received(id), Fault::LateBytes, 40);
        }
    }

    fn received(&mut self, number: usize, id: SocketId) {
        let cut = self.random.chance(self.plan.of(Fault::CutSegment));
        let waiting = self.socket(id).up.len().min(4096);
        let count = if cut && waiting > 1 { 1 + self.random.below(waiting - 1) } else { waiting };
        if count < waiting {
            self.counts.fault(Fault::CutSegment);
        }
        let socket = self.socket(id);
        socket.receives = false;
        // What has come before a pause takes effect is given to the core all the same.
        let Some(conn) = socket.conn.filter(|_| socket.state == State::Open && !socket.end_told) else {
            return;
        };
        let mut bytes: Vec<u8> = socket.up.drain(..count).collect();
        let ends = socket.up.is_empty() && socket.up_ended;
        let shard = &mut self.loops[number].shard;
        if !bytes.is_empty() {
            shard.handle_received(conn, &mut bytes, self.now);
        }
        if ends {
            self.sockets[id.0 as usize].end_told = true;
            shard.handle_eof(conn, self.now);
        }
    }

    // ── Sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Moves what a socket has to send, and answers a send that the kernel has taken.
    fn flow(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let shard = socket.shard;
        if socket.flow() {
            self.complete_at_times(shard, Completion::Sent(id), Fault::LateSent, 1500);
        }
    }

    fn send(&mut self, id: SocketId, frames: &Frames) {
        let frames = frames.as_slice();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes()).copied().collect();
        self.trace.bytes(&bytes);
        let updates = frames.iter().filter_map(|frame| topic_of_state(frame.bytes()));
        let mut by_topic: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        updates.for_each(|topic| *by_topic.entry(topic.to_vec()).or_default() += 1);
        let most = by_topic.values().max().copied().unwrap_or(0);
        assert!(most <= STATE_FRAMES_PER_SEND_MAX, "{most} state frames of one topic wait for {id:?}");
        let socket = self.socket(id);
        if socket.state != State::Open || socket.broken {
            return;
        }
        socket.send(bytes);
        if socket.is_reset {
            let shard = socket.shard;
            self.complete(shard, Completion::SendFailed(id));
        } else {
            self.flow(id);
        }
    }

    /// A send failed, perhaps in the middle of a frame: the core hears of an end of stream.
    fn break_off(&mut self, number: usize, id: SocketId) {
        let socket = self.socket(id);
        let Some(conn) = socket.conn.filter(|_| socket.state == State::Open) else { return };
        socket.sending = None;
        socket.broken = true;
        if socket.end_told {
            // The core waits for this send, and there is nothing left to wait for.
            socket.state = State::Closing;
            self.complete(number, Completion::Closed(id, conn));
        } else {
            socket.end_told = true;
            self.loops[number].shard.handle_eof(conn, self.now);
        }
    }

    // ── Outputs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn perform_outputs(&mut self, number: usize) {
        for _ in 0..self.shape.outputs_per_turn {
            let Some(output) = self.loops[number].shard.poll_output() else {
                self.loops[number].has_outputs = false;
                return;
            };
            self.trace.note("output", || format!("{number} {}", summary(&output)));
            self.perform(number, output);
        }
    }

    fn perform(&mut self, number: usize, output: Output) {
        let by_conn = |relay: &Self, conn: ConnId| relay.loops[number].by_conn.get(&conn).copied();
        match output {
            Output::Send { conn, frames } => {
                if let Some(id) = by_conn(self, conn) {
                    self.send(id, &frames);
                }
            }
            Output::Shutdown { conn } => {
                let Some(id) = by_conn(self, conn) else { return };
                let socket = self.socket(id);
                if socket.state == State::Open {
                    match &socket.sending {
                        Some(_) => socket.shuts_down_after_send = true,
                        None => socket.end_down(),
                    }
                }
            }
            Output::Close { conn, .. } => self.close(number, conn),
            Output::HandOver { conn, target, state } => {
                self.hand_over(number, conn, usize::from(target.0), state);
            }
            Output::Forward { target, message } => self.forward(number, target, message),
            Output::Pause { conn } => {
                self.counts.branch(Branch::Paused);
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).paused = true;
                }
            }
            Output::Resume { conn } => {
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).paused = false;
                    self.receive(id);
                }
            }
            Output::Upgraded { conn } => {
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).upgraded = true;
                }
            }
            Output::Note(_) => {}
            Output::StopAccepting => self.loops[number].accepts = false,
            Output::Drained => {
                self.counts.branch(Branch::Drained);
                let open = &self.loops[number].by_conn;
                assert!(open.is_empty(), "shard {number} has drained, and {open:?} are there");
                self.end_loop(number);
            }
        }
    }

    fn close(&mut self, number: usize, conn: ConnId) {
        let Some(id) = self.loops[number].by_conn.get(&conn).copied() else { return };
        let socket = self.socket(id);
        if socket.conn != Some(conn) || socket.shard != number {
            // It is at another shard already.
            return;
        }
        match socket.state {
            State::Open => {
                socket.state = State::Closing;
                socket.sending = None;
                socket.end_down();
                self.complete(number, Completion::Closed(id, conn));
            }
            State::HandingOver => socket.state = State::GivenUp,
            State::Dialled | State::GivenUp | State::Closing | State::Closed => {}
        }
    }

    /// A shard's ring and its mailbox go, and what was on the way to it.
    fn end_loop(&mut self, number: usize) {
        let own = &mut self.loops[number];
        own.is_gone = true;
        own.accepts = false;
        own.has_outputs = false;
        let mut lost: Vec<SocketId> = std::mem::take(&mut own.announced).into_keys().collect();
        lost.append(&mut std::mem::take(&mut own.arrived).into_iter().collect());
        let inboxes = std::mem::take(&mut own.inboxes);
        own.inboxes = inboxes.iter().map(|_| VecDeque::new()).collect();
        let overflow = std::mem::take(&mut own.overflow);
        own.overflow = inboxes.iter().map(|_| VecDeque::new()).collect();
        for letter in inboxes.into_iter().chain(overflow).flatten() {
            if let Letter::Connection(id, _) = letter {
                lost.push(id);
            }
        }
        for completion in std::mem::take(&mut own.completions) {
            if let Completion::Accepted(id) | Completion::Arrived(id) | Completion::Stayed { id, .. } =
                completion
            {
                lost.push(id);
            }
        }
        for id in std::mem::take(&mut own.by_conn).into_values() {
            // What has left already is another shard's.
            if self.socket(id).state != State::HandingOver && self.socket(id).shard == number {
                lost.push(id);
            }
        }
        lost.into_iter().for_each(|id| self.let_go(id));
        self.service.inboxes[number].push_back(Letter::Ended);
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

/// The topic of a frame that is the state of a game for every member; `None`: it is something else.
fn topic_of_state(frame: &[u8]) -> Option<&[u8]> {
    let header = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = frame.get(header..)?;
    match frame[0] {
        0x82 if payload.first() == Some(&2) => payload.get(3..3 + usize::from(*payload.get(1)?)),
        0x81 if payload.starts_with(br#"{"event":"game_update""#) => {
            let start = payload.windows(9).rposition(|bytes| bytes == br#""topic":""#)?;
            Some(&payload[start..])
        }
        _ => None,
    }
}

/// What a client has written, for somebody to read.
fn unmasked(bytes: &[u8]) -> String {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(start) = rest.windows(4).position(|window| window == MASK) {
        let end = rest[start + 4..].windows(4).position(|window| window == MASK);
        let frame = &rest[start + 4..end.map_or(rest.len(), |end| start + 4 + end)];
        let payload: Vec<u8> =
            frame.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        text.push_str(&String::from_utf8_lossy(&payload));
        rest = &rest[start + 4..];
    }
    text
}

/// An output without the bytes that it carries.
fn summary(output: &Output) -> String {
    match output {
        Output::Send { conn, frames } => {
            format!("send {conn:?}, {} frames", frames.as_slice().len())
        }
        other => format!("{other:?}"),
    }
}
