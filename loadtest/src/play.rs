//! One thread of the rooms test: join, send on time, account for what arrives, say goodbye.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Listener, Plan, Pushed};
use crate::dialect::{MOVE_FRAME_BYTES_MAX, News};
use crate::limits::explain_ring_error;
use crate::schedule::Schedule;
use crate::told::{Closes, Told};
use crate::uring::SEND_BYTES_MAX;
use crate::views::{Tally, Timing, Views, microseconds};

/// Moves that come due within this time are sent in one batch; so arrivals are seen at most this late, too.
const BATCH_NS: u64 = 500_000;
/// A move that is sent later than this after its intended time is late.
const LATE_NS: u64 = 1_000_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
/// Pause between two signs of life of members that do not read.
const STALLED_SIGN_OF_LIFE_NS: u64 = 2_000_000_000;
/// How long the stalled members read what was kept for them, in the end.
const STALLED_READ_NS: u64 = 500_000_000;
/// How long goodbyes may take.
const GOODBYE_NS: u64 = 2_000_000_000;
/// When so many bytes of moves are written, no further one goes into the same send.
const MOVES_BYTES_ENOUGH: usize = SEND_BYTES_MAX - MOVE_FRAME_BYTES_MAX;

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
    pub failures: Told,
    /// How players were closed.
    pub closes: Closes,
    /// How stalled members were closed.
    pub stalled_closes: Closes,
    /// Texts of errors.
    pub errors: Told,
}

/// How moves left this machine. Only those meant for the window count.
#[derive(Debug)]
pub struct Sends {
    /// Sent.
    pub moves: u64,
    /// Sent more than a millisecond after their intended time.
    pub late: u64,
    /// Had to wait for their own busy socket.
    pub queued: u64,
    /// From the intended time to the send, in µs.
    pub lateness_us: Histogram<u64>,
}

impl Default for Sends {
    fn default() -> Self {
        Self { moves: 0, late: 0, queued: 0, lateness_us: microseconds() }
    }
}

impl Outcome {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.moves_planned += other.moves_planned;
        self.views_expected += other.views_expected;
        self.window = self.window.plus(other.window);
        self.sends.moves += other.sends.moves;
        self.sends.late += other.sends.late;
        self.sends.queued += other.sends.queued;
        self.sends.lateness_us.add(&other.sends.lateness_us).expect("both have the same bounds");
        self.joined += other.joined;
        self.failures.add(&other.failures);
        self.closes.add(&other.closes);
        self.stalled_closes.add(&other.stalled_closes);
        self.errors.add(&other.errors);
    }
}

impl Listener for Views {
    fn handle_news(&mut self, slot: u32, news: News<'_>, now_ns: u64) {
        match news {
            News::Positions(positions) => self.handle_positions(slot, positions, now_ns),
            News::Joined | News::Presence(_) => {}
        }
    }
}

/// Plays one part, from the first connect to the last goodbye.
pub fn play(part: Part, shared: &Shared) -> anyhow::Result<Outcome> {
    let views = Views::new(part.players_per_room, part.schedule.phases_ns());
    let connections = part.crowd.connections;
    let crowd = Crowd::new(part.crowd).map_err(explain_ring_error)?;
    let mut player = Player {
        waiting: vec![0; part.schedule.phases_ns().len()],
        frames: Vec::with_capacity(SEND_BYTES_MAX),
        crowd,
        views,
        schedule: part.schedule,
        players_per_room: part.players_per_room,
        sends: Sends::default(),
        start_ns: 0,
        window_ns: 0..0,
        connections,
        published: Published::default(),
    };
    player.join(shared)?;
    let window = player.wait_for_start(shared)?.map(|start_ns| {
        player.start_ns = start_ns;
        start_ns + part.warmup.as_nanos() as u64
    });
    let window = match window {
        Some(window_start_ns) => player.run(window_start_ns, part.grace.as_nanos() as u64, shared)?,
        None => Counters::default(),
    };
    player.say_goodbye()?;
    Ok(player.outcome(window))
}

struct Player {
    crowd: Crowd,
    views: Views,
    schedule: Schedule,
    players_per_room: u32,
    sends: Sends,
    /// Last sequence that is due, for players whose socket was busy.
    waiting: Vec<u32>,
    /// Moves that are being sent.
    frames: Vec<u8>,
    start_ns: u64,
    window_ns: Range<u64>,
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
            now_ns = self.crowd.turn(32, Duration::from_millis(1), &mut self.views)?;
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
            self.crowd.turn(WANT, Duration::from_millis(5), &mut self.views)?;
        }
    }

    /// The load. Returns what was received in the window.
    fn run(&mut self, window_start_ns: u64, grace_ns: u64, shared: &Shared) -> anyhow::Result<Counters> {
        self.window_ns = window_start_ns..shared.window_end_ns.load(Relaxed);
        self.views.set_timing(Timing {
            start_ns: self.start_ns,
            interval_ns: self.schedule.interval_ns(),
            window_ns: self.window_ns.clone(),
            grace_ns,
        });
        let (mut at_start, mut at_end) = (None, None);
        let mut freed = Vec::new();
        let mut sign_of_life_ns = self.start_ns;
        loop {
            let now_ns = clock::now_ns();
            self.window_ns.end = shared.window_end_ns.load(Relaxed);
            self.views.end_window_at(self.window_ns.end);
            if now_ns >= self.window_ns.start {
                at_start.get_or_insert(self.crowd.counters);
            }
            if now_ns >= self.window_ns.end {
                at_end.get_or_insert(self.crowd.counters);
            }
            if now_ns >= self.window_ns.end + grace_ns || shared.abort.load(Relaxed) {
                break;
            }
            while let Some(due) = self.schedule.take_due(now_ns.saturating_sub(self.start_ns)) {
                self.send_moves(due.player, due.sequence, now_ns)?;
            }
            if now_ns >= sign_of_life_ns {
                self.crowd.keep_stalled_alive()?;
                sign_of_life_ns = now_ns + STALLED_SIGN_OF_LIFE_NS;
            }
            let next_ns = self.start_ns + self.schedule.next_ns().unwrap_or(0);
            let wake_ns = next_ns.max(now_ns + BATCH_NS);
            self.crowd.turn(
                WANT,
                Duration::from_nanos(wake_ns.saturating_sub(clock::now_ns())),
                &mut self.views,
            )?;
            self.crowd.take_freed(&mut freed);
            for &slot in &freed {
                // Stalled members wait for nothing.
                let Some(&sequence) = self.waiting.get(slot as usize) else { continue };
                self.send_moves(slot, sequence, clock::now_ns())?;
            }
            self.publish(shared);
        }
        Ok(match (at_start, at_end) {
            (Some(at_start), Some(at_end)) => at_end.since(at_start),
            (Some(at_start), None) => self.crowd.counters.since(at_start),
            (None, _) => Counters::default(),
        })
    }

    /// Sends what `player` has not sent of its moves up to `sequence`, now or when its socket is free.
    fn send_moves(&mut self, player: u32, sequence: u32, now_ns: u64) -> anyhow::Result<()> {
        let first = self.views.sent(player) + 1;
        let mut last = first - 1;
        let number_in_room = player % self.players_per_room;
        self.frames.clear();
        while last < sequence && self.frames.len() <= MOVES_BYTES_ENOUGH {
            last += 1;
            self.crowd.write_move(player, number_in_room, last, &mut self.frames);
        }
        match self.crowd.try_send(player, &self.frames)? {
            Pushed::Sent => {
                (first..=last).for_each(|sequence| self.count_sent(player, sequence, now_ns));
                self.views.handle_sent(player, last);
                if last < sequence {
                    // The socket is busy now; the rest goes when it no longer is.
                    return self.send_moves(player, sequence, now_ns);
                }
            }
            Pushed::Busy => {
                let intended_ns = self.intended_ns(player, sequence);
                let newly_due = self.waiting[player as usize] < sequence;
                self.sends.queued += u64::from(newly_due && self.window_ns.contains(&intended_ns));
                self.waiting[player as usize] = sequence;
            }
            Pushed::Gone => {}
        }
        Ok(())
    }

    fn count_sent(&mut self, player: u32, sequence: u32, now_ns: u64) {
        let intended_ns = self.intended_ns(player, sequence);
        if self.window_ns.contains(&intended_ns) {
            let lateness_ns = now_ns.saturating_sub(intended_ns);
            self.sends.moves += 1;
            self.sends.late += u64::from(lateness_ns > LATE_NS);
            self.sends.lateness_us.saturating_record(lateness_ns / 1000);
        }
    }

    fn intended_ns(&self, player: u32, sequence: u32) -> u64 {
        let phase_ns = self.schedule.phases_ns()[player as usize];
        self.start_ns + phase_ns + u64::from(sequence - 1) * self.schedule.interval_ns()
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
            self.crowd.turn(WANT, Duration::from_millis(10), &mut self.views)?;
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
        let within = |time_ns: u64| time_ns.saturating_sub(self.start_ns);
        let (from, to) = (within(self.window_ns.start), within(self.window_ns.end));
        let others = u64::from(self.players_per_room - 1);
        let players = 0..self.schedule.phases_ns().len() as u32;
        let moves_planned: u64 = players.map(|player| self.schedule.moves_within(player, from..to)).sum();
        Outcome {
            tally: self.views.tally,
            moves_planned,
            views_expected: moves_planned * others,
            window,
            sends: self.sends,
            joined: self.crowd.joined(),
            failures: self.crowd.failures,
            closes: self.crowd.closes,
            stalled_closes: self.crowd.stalled_closes,
            errors: self.crowd.errors,
        }
    }
}
