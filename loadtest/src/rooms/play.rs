//! One thread of the rooms test: join, send on time, account for what arrives, say goodbye.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Plan};
use crate::endings::{Closes, Texts};
use crate::limits::explain_ring_error;
use crate::moves::{Moves, Sends};
use crate::schedule::Schedule;
use crate::views::Tally;

/// Moves that come due within this time are sent in one batch; so arrivals are seen at most this late, too.
const BATCH_NS: u64 = 500_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
/// Pause between two signs of life of members that do not read.
const STALLED_SIGN_OF_LIFE_NS: u64 = 2_000_000_000;
/// How long the stalled members read what was kept for them, in the end.
const STALLED_READ_NS: u64 = 500_000_000;
/// How long goodbyes may take.
const GOODBYE_NS: u64 = 2_000_000_000;
/// What all threads of a run, and the one that watches them, share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Threads whose players have all joined or failed.
    pub threads_joined: AtomicU32,
    /// When the load begins; 0: not yet.
    pub start_ns: AtomicU64,
    /// When the measured window ends. Only ever set to a time to come.
    pub window_end_ns: AtomicU64,
    /// Say goodbye now.
    pub abort: AtomicBool,
    /// Players that have joined, so far.
    pub joined: AtomicU32,
    /// Messages received, so far.
    pub frames: AtomicU64,
}

/// One thread's part of the run.
pub struct Part {
    /// Its connections: the players, then those that stop reading.
    pub crowd: Plan,
    /// When its players send.
    pub schedule: Schedule,
    /// Players in each room.
    pub players_per_room: u32,
    /// From the start of the load to the start of the window.
    pub warmup: Duration,
    /// See `views`.
    pub grace: Duration,
}

/// What a thread, or all of them, measured.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Views: latency and reach.
    pub tally: Tally,
    /// Moves meant for the window.
    pub moves_planned: u64,
    /// Views there should have been: each of these moves at each other player of the room.
    pub views_expected: u64,
    /// What was received in the window.
    pub window: Counters,
    /// How the moves of the window left.
    pub sends: Sends,
    /// Players (and stalled members) that joined.
    pub joined: u32,
    /// Why others did not.
    pub failures: Texts,
    /// How players were closed.
    pub closes: Closes,
    /// How stalled members were closed.
    pub stalled_closes: Closes,
    /// Texts of errors.
    pub errors: Texts,
}

impl Outcome {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.moves_planned += other.moves_planned;
        self.views_expected += other.views_expected;
        self.window = self.window.plus(other.window);
        self.sends.add(&other.sends);
        self.joined += other.joined;
        self.failures.add(&other.failures);
        self.closes.add(&other.closes);
        self.stalled_closes.add(&other.stalled_closes);
        self.errors.add(&other.errors);
    }
}

/// Plays one part, from the first connect to the last goodbye.
pub fn play(part: Part, shared: &Shared) -> anyhow::Result<Outcome> {
    let connections = part.crowd.connections;
    let crowd = Crowd::new(part.crowd).map_err(explain_ring_error)?;
    let moves = Moves::new(part.schedule, part.players_per_room);
    let mut player = Player {
        crowd,
        moves,
        players_per_room: part.players_per_room,
        connections,
        published: Published::default(),
    };
    player.join(shared)?;
    let window = match player.wait_for_start(shared)? {
        Some(start_ns) => {
            let window_ns = start_ns + part.warmup.as_nanos() as u64..shared.window_end_ns.load(Relaxed);
            let grace_ns = part.grace.as_nanos() as u64;
            player.moves.begin(start_ns, window_ns, grace_ns);
            player.run(start_ns, grace_ns, shared)?
        }
        None => Counters::default(),
    };
    player.say_goodbye()?;
    Ok(player.outcome(window))
}

struct Player {
    crowd: Crowd,
    moves: Moves,
    players_per_room: u32,
    connections: u32,
    published: Published,
}

/// What this thread has added to the shared numbers.
#[derive(Default)]
struct Published {
    joined: u32,
    frames: u64,
}

impl Player {
    fn join(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let mut now_ns = clock::now_ns();
        while !self.crowd.ramp(self.connections, now_ns)? && !shared.abort.load(Relaxed) {
            now_ns = self.crowd.turn(32, Duration::from_millis(1), &mut self.moves.views)?;
            self.publish(shared);
        }
        shared.threads_joined.fetch_add(1, Relaxed);
        Ok(())
    }

    fn wait_for_start(&mut self, shared: &Shared) -> anyhow::Result<Option<u64>> {
        loop {
            if shared.abort.load(Relaxed) {
                return Ok(None);
            }
            let start_ns = shared.start_ns.load(Relaxed);
            if start_ns != 0 {
                return Ok(Some(start_ns));
            }
            self.crowd.turn(WANT, Duration::from_millis(5), &mut self.moves.views)?;
        }
    }

    /// The load. Returns what was received in the window.
    fn run(&mut self, start_ns: u64, grace_ns: u64, shared: &Shared) -> anyhow::Result<Counters> {
        let (mut at_start, mut at_end) = (None, None);
        let mut sign_of_life_ns = start_ns;
        loop {
            let now_ns = clock::now_ns();
            self.moves.end_window_at(shared.window_end_ns.load(Relaxed));
            let window_ns = self.moves.window_ns();
            if now_ns >= window_ns.start {
                at_start.get_or_insert(self.crowd.counters);
            }
            if now_ns >= window_ns.end {
                at_end.get_or_insert(self.crowd.counters);
            }
            if now_ns >= window_ns.end + grace_ns || shared.abort.load(Relaxed) {
                break;
            }
            self.moves.send_due(&mut self.crowd, now_ns)?;
            if now_ns >= sign_of_life_ns {
                self.crowd.keep_stalled_alive()?;
                sign_of_life_ns = now_ns + STALLED_SIGN_OF_LIFE_NS;
            }
            let wake_ns = self.moves.next_ns().unwrap_or(0).max(now_ns + BATCH_NS);
            let timeout = Duration::from_nanos(wake_ns.saturating_sub(clock::now_ns()));
            self.crowd.turn(WANT, timeout, &mut self.moves.views)?;
            self.moves.send_freed(&mut self.crowd)?;
            self.publish(shared);
        }
        Ok(match (at_start, at_end) {
            (Some(at_start), Some(at_end)) => at_end.since(at_start),
            (Some(at_start), None) => self.crowd.counters.since(at_start),
            (None, _) => Counters::default(),
        })
    }

    fn say_goodbye(&mut self) -> anyhow::Result<()> {
        if self.crowd.has_stalled() {
            self.crowd.resume_stalled()?;
            self.turn_until(clock::now_ns() + STALLED_READ_NS, |_| false)?;
        }
        self.crowd.close()?;
        self.turn_until(clock::now_ns() + GOODBYE_NS, Crowd::is_over)
    }

    fn turn_until(&mut self, deadline_ns: u64, done: impl Fn(&Crowd) -> bool) -> anyhow::Result<()> {
        while clock::now_ns() < deadline_ns && !done(&self.crowd) {
            self.crowd.turn(WANT, Duration::from_millis(10), &mut self.moves.views)?;
        }
        Ok(())
    }

    fn publish(&mut self, shared: &Shared) {
        let Published { joined, frames } = &mut self.published;
        shared.joined.fetch_add(self.crowd.joined() - *joined, Relaxed);
        shared.frames.fetch_add(self.crowd.counters.frames - *frames, Relaxed);
        (*joined, *frames) = (self.crowd.joined(), self.crowd.counters.frames);
    }

    fn outcome(self, window: Counters) -> Outcome {
        let others = u64::from(self.players_per_room - 1);
        let moves_planned = self.moves.planned();
        Outcome {
            tally: self.moves.views.tally,
            moves_planned,
            views_expected: moves_planned * others,
            window,
            sends: self.moves.sends,
            joined: self.crowd.joined(),
            failures: self.crowd.failures,
            closes: self.crowd.closes,
            stalled_closes: self.crowd.stalled_closes,
            errors: self.crowd.errors,
        }
    }
}
