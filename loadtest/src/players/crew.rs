//! One thread of a run: its ring and its whole rooms, from the first connect to the last goodbye.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Plan};
use crate::endings::{Endings, Texts};
use crate::figures::{Value, latency};
use crate::limits::explain_ring_error;
use crate::moves::{Moves, Sends};
use crate::schedule::Schedule;
use crate::views::Tally;

/// Longest wait of a thread: it may learn of a new phase so much later.
const WAIT_MAX_NS: u64 = 50_000_000;
/// Longest wait of a thread of which connections are joining or leaving.
const WAIT_IN_MOTION_NS: u64 = 1_000_000;
/// Moves that come due within this time are sent in one batch; so arrivals are seen at most this late, too.
const BATCH_NS: u64 = 500_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
/// How long goodbyes may take after the last one was said.
const GOODBYE_NS: u64 = 5_000_000_000;
/// Goodbyes are said so much faster than joins: they cost less.
const CLOSES_PER_JOIN: f64 = 2.0;
/// Pause between two signs of life of members that do not read.
const STALLED_SIGN_OF_LIFE_NS: u64 = 2_000_000_000;
/// How long members that stopped reading read what was kept for them, before the goodbyes.
const STALLED_READ_NS: u64 = 500_000_000;

/// What everybody is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Rings are being made.
    Preparing,
    /// Rooms join, each at its time.
    Ramp,
    /// Nobody moves.
    Quiet,
    /// Those that have a schedule move.
    Hold,
    /// Everybody says goodbye.
    Close,
    /// Whatever is left is dropped.
    Abort,
}

/// What all threads, and the one that directs them, share.
#[derive(Debug, Default)]
pub struct Shared {
    phase: AtomicU8,
    /// When the phase began that has a pace: Ramp, Close.
    pub begun_ns: AtomicU64,
    /// When the first move is meant to be sent.
    pub start_ns: AtomicU64,
    pub window_start_ns: AtomicU64,
    /// Only ever set to a time to come.
    pub window_end_ns: AtomicU64,
    /// Threads whose ring is there.
    pub ready: AtomicU32,
    /// Threads whose connections have all joined or failed.
    pub settled: AtomicU32,
    /// Connections that are joining or leaving.
    pub in_motion: AtomicU32,
    /// Players that joined, whether or not they are still there.
    pub joined: AtomicU32,
    /// Players that joined and are still there.
    pub open: AtomicU32,
    pub last_join_ns: AtomicU64,
    /// Tick frames received.
    pub frames: AtomicU64,
}

impl Shared {
    pub fn phase(&self) -> Phase {
        let phases = [Phase::Preparing, Phase::Ramp, Phase::Quiet, Phase::Hold, Phase::Close];
        phases.get(usize::from(self.phase.load(Relaxed))).copied().unwrap_or(Phase::Abort)
    }

    /// Tells everybody what to do. The times that go with the phase must be set before.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, std::sync::atomic::Ordering::Release);
    }
}

/// The threads of a run.
pub type Crew<'scope> = Vec<ScopedJoinHandle<'scope, anyhow::Result<Tallies>>>;

/// One thread's part of a run.
pub struct Part {
    pub plan: Plan,
    pub players_per_room: u32,
    pub pace: Pace,
    /// When the first connections, the players that move, send.
    pub schedule: Schedule,
    /// How long after its intended time a move may arrive and still be fresh.
    pub grace: Duration,
    /// Players send just before their ticks from the middle of the warm-up on.
    pub align: bool,
}

/// How fast connections join and leave.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// New connections a second of the whole run.
    pub per_s: f64,
    /// Connections of the run that join before the first of this part.
    pub first: u32,
    /// Connections that join at once.
    pub batch: u32,
    /// Connections that may be joining, or leaving, at a time, over all threads.
    pub in_motion_max: u32,
}

/// What a thread, or all of them, measured.
#[derive(Debug, Default)]
pub struct Tallies {
    pub tally: Tally,
    /// Moves meant for the window.
    pub moves_planned: u64,
    pub sends: Sends,
    /// What was received in the window.
    pub window: Counters,
    /// What was received in all.
    pub total: Counters,
    pub joined: u32,
    pub endings: Endings,
    /// Why threads ended before the end of the goodbyes. What they measured before stands.
    pub goodbye_failures: Texts,
}

impl Tallies {
    /// A percentile of the latencies of views, in µs.
    pub fn latency(&self, percentile: f64) -> Value {
        latency(&self.tally.latency_us, percentile)
    }

    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.moves_planned += other.moves_planned;
        self.sends.add(&other.sends);
        self.window = self.window + other.window;
        self.total = self.total + other.total;
        self.joined += other.joined;
        self.endings.add(&other.endings);
        self.goodbye_failures.add(&other.goodbye_failures);
    }
}

/// Plays one part until the director ends it.
pub fn play(part: Part, shared: &Shared) -> anyhow::Result<Tallies> {
    let mut member = Member::new(part, shared)?;
    let ended = member.run();
    let closing = member.closing;
    let mut tallies = member.tallies();
    match ended {
        Err(error) if closing => tallies.goodbye_failures.count(&format!("{error:#}")),
        ended => ended?,
    }
    Ok(tallies)
}

struct Member<'a> {
    crowd: Crowd,
    moves: Moves,
    shared: &'a Shared,
    batches: u32,
    pace: Pace,
    grace_ns: u64,
    align: bool,
    /// Batches that have been started, or have said goodbye.
    next_batch: u32,
    settled: bool,
    moving: bool,
    closing: bool,
    sign_of_life_ns: u64,
    /// When the first goodbye is said.
    leave_ns: u64,
    /// When it stops waiting for the answers to its goodbyes.
    goodbye_ns: Option<u64>,
    at_start: Option<Counters>,
    at_end: Option<Counters>,
    published: Published,
}

/// What this thread has added to the shared numbers.
#[derive(Default)]
struct Published {
    in_motion: u32,
    joined: u32,
    open: u32,
    frames: u64,
}

impl<'a> Member<'a> {
    fn new(part: Part, shared: &'a Shared) -> anyhow::Result<Self> {
        let Part { plan, players_per_room, pace, schedule, grace, align } = part;
        let batches = plan.connections.div_ceil(pace.batch);
        let crowd = Crowd::new(plan).map_err(explain_ring_error)?;
        shared.ready.fetch_add(1, Relaxed);
        Ok(Self {
            crowd,
            moves: Moves::new(schedule, players_per_room),
            shared,
            batches,
            pace,
            grace_ns: grace.as_nanos() as u64,
            align,
            next_batch: 0,
            settled: false,
            moving: false,
            closing: false,
            sign_of_life_ns: 0,
            leave_ns: 0,
            goodbye_ns: None,
            at_start: None,
            at_end: None,
            published: Published::default(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let now_ns = clock::now_ns();
            let wake_ns = match self.shared.phase() {
                Phase::Preparing | Phase::Quiet => None,
                Phase::Ramp => self.join(now_ns)?,
                Phase::Hold => self.hold(now_ns)?,
                Phase::Close => {
                    let wake_ns = self.leave(now_ns)?;
                    if self.goodbye_ns.is_some_and(|at| now_ns >= at || self.crowd.is_over()) {
                        return Ok(());
                    }
                    wake_ns
                }
                Phase::Abort => return Ok(()),
            };
            let wake_ns = wake_ns.unwrap_or(u64::MAX).min(now_ns + WAIT_MAX_NS);
            let timeout = Duration::from_nanos(wake_ns.saturating_sub(clock::now_ns()));
            let now_ns = self.crowd.turn(WANT, timeout, &mut self.moves.views)?;
            self.moves.send_freed(&mut self.crowd)?;
            self.publish(now_ns);
        }
    }

    /// Starts the batches whose time has come, if not too many are joining. Returns when it is to be called again.
    fn join(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        self.crowd.give_up_if_stuck(now_ns)?;
        while self.next_batch < self.batches && now_ns >= self.due_ns() {
            if !self.is_room_for_a_batch() {
                return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
            }
            self.crowd.start(self.pace.batch)?;
            self.next_batch += 1;
            self.publish(now_ns);
        }
        let joining = self.crowd.joining() > 0;
        if self.next_batch == self.batches && !joining && !self.settled {
            self.settled = true;
            self.shared.settled.fetch_add(1, Relaxed);
        }
        let due_ns = (self.next_batch < self.batches).then(|| self.due_ns());
        let soon_ns = joining.then_some(now_ns + WAIT_IN_MOTION_NS);
        Ok([due_ns, soon_ns].into_iter().flatten().min())
    }

    fn hold(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        if self.crowd.has_stalled() && now_ns >= self.sign_of_life_ns {
            self.crowd.keep_stalled_alive()?;
            self.sign_of_life_ns = now_ns + STALLED_SIGN_OF_LIFE_NS;
        }
        if self.moves.next_ns().is_none() {
            return Ok(None);
        }
        let time = |time: &AtomicU64| time.load(Relaxed);
        let window_ns = time(&self.shared.window_start_ns)..time(&self.shared.window_end_ns);
        if !self.moving {
            self.moving = true;
            let start_ns = time(&self.shared.start_ns);
            self.moves.begin(start_ns, window_ns.clone(), self.grace_ns);
            if self.align {
                self.moves.align_at(start_ns.midpoint(window_ns.start));
            }
        }
        self.moves.views.end_window_at(window_ns.end);
        if now_ns >= window_ns.start {
            self.at_start.get_or_insert(self.crowd.counters);
        }
        if now_ns >= window_ns.end {
            self.at_end.get_or_insert(self.crowd.counters);
        }
        self.moves.send_due(&mut self.crowd, now_ns)?;
        Ok(self.moves.next_ns().map(|next_ns| next_ns.max(now_ns + BATCH_NS)))
    }

    /// Says goodbye batch by batch, if not too many are leaving. Returns when it is to be called again.
    fn leave(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        if !self.closing {
            self.closing = true;
            // A thread without open connections has no goodbyes to pace.
            self.next_batch = if self.crowd.open() == 0 { self.batches } else { 0 };
            self.at_end.get_or_insert(self.crowd.counters);
            if self.crowd.has_stalled() {
                self.crowd.resume_stalled()?;
                self.leave_ns = now_ns + STALLED_READ_NS;
            }
        }
        if now_ns < self.leave_ns {
            return Ok(Some(self.leave_ns));
        }
        while self.next_batch < self.batches && now_ns >= self.due_ns() {
            if !self.is_room_for_a_batch() {
                return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
            }
            self.next_batch += 1;
            if self.crowd.close_next(self.pace.batch)? {
                self.next_batch = self.batches;
            }
            self.publish(now_ns);
        }
        if self.next_batch == self.batches {
            self.goodbye_ns.get_or_insert(now_ns + GOODBYE_NS);
            return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
        }
        let soon_ns = if self.crowd.leaving() > 0 { now_ns + WAIT_IN_MOTION_NS } else { u64::MAX };
        Ok(Some(self.due_ns().min(soon_ns)))
    }

    fn is_room_for_a_batch(&self) -> bool {
        let in_motion = self.shared.in_motion.load(Relaxed);
        in_motion == 0 || in_motion + self.pace.batch <= self.pace.in_motion_max
    }

    /// When the next batch is meant to join or to leave.
    fn due_ns(&self) -> u64 {
        let before = u64::from(self.pace.first) + u64::from(self.next_batch) * u64::from(self.pace.batch);
        let per_s = if self.closing { self.pace.per_s * CLOSES_PER_JOIN } else { self.pace.per_s };
        self.shared.begun_ns.load(Relaxed) + (before as f64 / per_s * 1e9) as u64
    }

    fn publish(&mut self, now_ns: u64) {
        let now = Published {
            in_motion: self.crowd.joining() + self.crowd.leaving(),
            joined: self.crowd.joined(),
            open: self.crowd.open(),
            frames: self.crowd.counters.tick_frames,
        };
        let Published { in_motion, joined, open, frames } = &self.published;
        if now.joined != *joined {
            self.shared.last_join_ns.fetch_max(now_ns, Relaxed);
        }
        self.shared.in_motion.fetch_add(now.in_motion.wrapping_sub(*in_motion), Relaxed);
        self.shared.joined.fetch_add(now.joined.wrapping_sub(*joined), Relaxed);
        self.shared.open.fetch_add(now.open.wrapping_sub(*open), Relaxed);
        self.shared.frames.fetch_add(now.frames - frames, Relaxed);
        self.published = now;
    }

    fn tallies(self) -> Tallies {
        let total = self.crowd.counters;
        let window = self.at_start.map(|at_start| self.at_end.unwrap_or(total) - at_start);
        Tallies {
            moves_planned: if self.moving { self.moves.planned() } else { 0 },
            tally: self.moves.views.tally,
            sends: self.moves.sends,
            window: window.unwrap_or_default(),
            total,
            joined: self.crowd.joined(),
            endings: self.crowd.endings,
            goodbye_failures: Texts::default(),
        }
    }
}
