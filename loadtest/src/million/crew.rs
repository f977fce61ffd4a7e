//! One thread of the run: its ring, its whole games, from the first connect to the last goodbye.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Frugal, Plan};
use crate::endings::{Closes, Texts};
use crate::limits::explain_ring_error;
use crate::moves::{Moves, Sends};
use crate::schedule::Schedule;
use crate::views::Tally;

/// Connections between their start and their Welcome, or between their goodbye and their end, over all threads. The backlog of
/// one listener holds them, and the mailboxes by which two shards hand connections to each other, 16 to 1,024 letters each way
/// (the more shards, the fewer); and
/// what they have in flight is far from `net.ipv4.tcp_mem`: a million goodbyes at once would take a page each.
pub const MOVING_MAX: u32 = 2048;
/// Longest wait of a thread: so late it sees what the others were told.
const WAIT_MAX_NS: u64 = 50_000_000;
/// Longest wait of a thread of which connections are joining or leaving.
const WAIT_IN_MOTION_NS: u64 = 1_000_000;
/// Moves that come due within this time are sent in one batch; so arrivals are seen at most this late, too.
const BATCH_NS: u64 = 500_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 64;
/// How long goodbyes may take after the last one was said.
const GOODBYE_NS: u64 = 5_000_000_000;
/// Goodbyes are said so much faster than joins: they cost less.
const CLOSES_PER_JOIN: f64 = 2.0;
/// How long after its intended time a move may arrive and still be fresh.
pub const GRACE_NS: u64 = 1_000_000_000;

/// What everybody is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Phase {
    /// Rings are being made.
    Preparing,
    /// Games join, each at its time.
    Ramp,
    /// Nobody moves.
    Quiet,
    /// The active games move.
    Hold,
    /// Everybody says goodbye.
    Close,
    /// Whatever is left is dropped.
    Abort,
}

/// What all threads, and the one that watches them, share.
#[derive(Debug, Default)]
pub struct Shared {
    phase: AtomicU8,
    /// When the phase began that has a pace: Ramp, Close.
    pub begun_ns: AtomicU64,
    /// When the active games begin to move, and their window.
    pub start_ns: AtomicU64,
    /// See `start_ns`.
    pub window_start_ns: AtomicU64,
    /// See `start_ns`.
    pub window_end_ns: AtomicU64,
    /// Threads whose ring is there.
    pub ready: AtomicU32,
    /// Threads whose connections have all joined or failed.
    pub settled: AtomicU32,
    /// Connections that are joining or leaving.
    pub in_motion: AtomicU32,
    /// Players that joined.
    pub joined: AtomicU32,
    /// Of these, those that are there.
    pub open: AtomicU32,
    /// When the last one joined.
    pub last_join_ns: AtomicU64,
    /// Tick frames received.
    pub frames: AtomicU64,
    /// A thread could not go on.
    pub failed: AtomicBool,
}

impl Shared {
    /// What everybody is to do.
    pub fn phase(&self) -> Phase {
        let phases = [Phase::Preparing, Phase::Ramp, Phase::Quiet, Phase::Hold, Phase::Close];
        phases.get(usize::from(self.phase.load(Relaxed))).copied().unwrap_or(Phase::Abort)
    }

    /// Tells everybody. What goes with the phase must be set before.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, std::sync::atomic::Ordering::Release);
    }
}

/// One thread's part.
pub struct Part {
    /// Its connections; whole games.
    pub plan: Plan,
    /// Where they come from, and that only the active ones are busy.
    pub frugal: Frugal,
    /// Players of each game.
    pub players: u32,
    /// Number of its first game in the run: games join in this order.
    pub first_game: u32,
    /// When the players of its active games, the first ones, send.
    pub schedule: Schedule,
    /// Connections per second of the whole run, joining and leaving.
    pub ramp_per_s: f64,
}

/// What a thread, or all of them, measured.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Views of the active players.
    pub tally: Tally,
    /// Moves meant for the window.
    pub moves_planned: u64,
    /// How they left.
    pub sends: Sends,
    /// What was received in the window.
    pub window: Counters,
    /// What was received in all.
    pub total: Counters,
    /// Players that joined.
    pub joined: u32,
    /// Why others did not.
    pub failures: Texts,
    /// How players ended before the goodbyes.
    pub closes: Closes,
    /// Texts of errors.
    pub errors: Texts,
    /// Why threads ended before the end of the goodbyes. What they measured before stands.
    pub goodbye_failures: Texts,
}

impl Tallies {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.moves_planned += other.moves_planned;
        self.sends.add(&other.sends);
        self.window = self.window.plus(other.window);
        self.total = self.total.plus(other.total);
        self.joined += other.joined;
        self.failures.add(&other.failures);
        self.closes.add(&other.closes);
        self.errors.add(&other.errors);
        self.goodbye_failures.add(&other.goodbye_failures);
    }
}

/// Plays one part.
pub fn play(part: Part, shared: &Shared) -> anyhow::Result<Tallies> {
    let outcome = Member::new(part, shared).and_then(|mut member| {
        let ended = member.run();
        let closing = member.closing;
        let mut tallies = member.tallies();
        match ended {
            Err(error) if closing => tallies.goodbye_failures.tell(&format!("{error:#}")),
            ended => ended?,
        }
        Ok(tallies)
    });
    shared.failed.fetch_or(outcome.is_err(), Relaxed);
    outcome
}

struct Member<'a> {
    crowd: Crowd,
    moves: Moves,
    shared: &'a Shared,
    players: u32,
    games: u32,
    first_game: u32,
    ramp_per_s: f64,
    /// Games that have been started, or have said goodbye.
    next_game: u32,
    settled: bool,
    moving: bool,
    closing: bool,
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
        let Part { plan, frugal, players, first_game, schedule, ramp_per_s } = part;
        let games = plan.connections / players;
        let crowd = Crowd::frugal(plan, frugal).map_err(explain_ring_error)?;
        shared.ready.fetch_add(1, Relaxed);
        Ok(Self {
            crowd,
            moves: Moves::new(schedule, players),
            shared,
            players,
            games,
            first_game,
            ramp_per_s,
            next_game: 0,
            settled: false,
            moving: false,
            closing: false,
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

    /// Starts the games whose time has come, if not too many are joining. Returns when it is to be called again.
    fn join(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        self.crowd.give_up_if_stuck(now_ns)?;
        while self.next_game < self.games && now_ns >= self.due_ns() {
            if !self.is_room_for_a_game() {
                return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
            }
            self.crowd.start(self.players)?;
            self.next_game += 1;
            self.publish(now_ns);
        }
        let joining = self.crowd.joining() > 0;
        if self.next_game == self.games && !joining && !self.settled {
            self.settled = true;
            self.shared.settled.fetch_add(1, Relaxed);
        }
        let due_ns = (self.next_game < self.games).then(|| self.due_ns());
        let soon_ns = joining.then_some(now_ns + WAIT_IN_MOTION_NS);
        Ok([due_ns, soon_ns].into_iter().flatten().min())
    }

    fn hold(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        if self.moves.next_ns().is_none() {
            return Ok(None);
        }
        let time = |time: &AtomicU64| time.load(Relaxed);
        let window_ns = time(&self.shared.window_start_ns)..time(&self.shared.window_end_ns);
        if !self.moving {
            self.moving = true;
            self.moves.begin(time(&self.shared.start_ns), window_ns.clone(), GRACE_NS);
        }
        self.moves.end_window_at(window_ns.end);
        if now_ns >= window_ns.start {
            self.at_start.get_or_insert(self.crowd.counters);
        }
        if now_ns >= window_ns.end {
            self.at_end.get_or_insert(self.crowd.counters);
        }
        self.moves.send_due(&mut self.crowd, now_ns)?;
        Ok(self.moves.next_ns().map(|next_ns| next_ns.max(now_ns + BATCH_NS)))
    }

    /// Says goodbye game by game, if not too many are leaving. Returns when it is to be called again.
    fn leave(&mut self, now_ns: u64) -> anyhow::Result<Option<u64>> {
        if !self.closing {
            self.closing = true;
            // Whoever has nobody to take leave of need not wait for its turn.
            self.next_game = if self.crowd.open() == 0 { self.games } else { 0 };
            self.at_end.get_or_insert(self.crowd.counters);
        }
        while self.next_game < self.games && now_ns >= self.due_ns() {
            if !self.is_room_for_a_game() {
                return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
            }
            self.next_game += 1;
            if self.crowd.close_next(self.players)? {
                self.next_game = self.games;
            }
            self.publish(now_ns);
        }
        if self.next_game == self.games {
            self.goodbye_ns.get_or_insert(now_ns + GOODBYE_NS);
            return Ok(Some(now_ns + WAIT_IN_MOTION_NS));
        }
        let soon_ns = if self.crowd.leaving() > 0 { now_ns + WAIT_IN_MOTION_NS } else { u64::MAX };
        Ok(Some(self.due_ns().min(soon_ns)))
    }

    fn is_room_for_a_game(&self) -> bool {
        let in_motion = self.shared.in_motion.load(Relaxed);
        in_motion == 0 || in_motion + self.players <= MOVING_MAX
    }

    /// When the next game is meant to join or to leave.
    fn due_ns(&self) -> u64 {
        let before = u64::from(self.first_game + self.next_game) * u64::from(self.players);
        let pace_per_s = if self.closing { self.ramp_per_s * CLOSES_PER_JOIN } else { self.ramp_per_s };
        self.shared.begun_ns.load(Relaxed) + (before as f64 / pace_per_s * 1e9) as u64
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
        let window = self.at_start.map(|at_start| self.at_end.unwrap_or(total).since(at_start));
        Tallies {
            moves_planned: if self.moving { self.moves.planned() } else { 0 },
            tally: self.moves.views.tally,
            sends: self.moves.sends,
            window: window.unwrap_or_default(),
            total,
            joined: self.crowd.joined(),
            failures: self.crowd.failures,
            closes: self.crowd.closes,
            errors: self.crowd.errors,
            goodbye_failures: Texts::default(),
        }
    }
}
