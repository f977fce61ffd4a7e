//! The thread that keeps the time of a run: it tells the threads what to do, and takes the relay's figures at the right moments.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;

use super::crew::{Crew, Phase, Shared};
use crate::clock;
use crate::server::{Lap, Server, Stopwatch};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// From the start of the hold to the first move: every thread must have seen it.
const START_DELAY_NS: u64 = 200_000_000;
/// When nobody has said goodbye or ended for so long, those that are left are dropped.
const CLOSE_NS: u64 = 10_000_000_000;

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Waited {
    Done,
    Interrupted,
}

/// The measured window of a hold.
#[derive(Debug)]
pub struct Window {
    pub lap: Lap,
    pub length_ns: u64,
    pub waited: Waited,
}

impl Window {
    pub fn length_s(&self) -> f64 {
        self.length_ns as f64 / 1e9
    }
}

/// In this order: `ramp`, `sleep` as long as everybody is to be silent, `hold`, `close`. Any of them may be left out.
pub struct Director<'a> {
    shared: &'a Shared,
    crew: &'a Crew<'a>,
    bar: &'a ProgressBar,
    interrupted: &'a AtomicBool,
    /// An error ends the run: nothing more is to be learned.
    check: &'a mut dyn FnMut(&Shared) -> anyhow::Result<()>,
}

impl<'a> Director<'a> {
    pub fn new(
        shared: &'a Shared,
        crew: &'a Crew<'a>,
        bar: &'a ProgressBar,
        interrupted: &'a AtomicBool,
        check: &'a mut dyn FnMut(&Shared) -> anyhow::Result<()>,
    ) -> Self {
        Self { shared, crew, bar, interrupted, check }
    }

    /// Lets everybody join. Also the nanoseconds from the first connect to the last join, if somebody joined. Afterwards all
    /// are silent.
    pub fn ramp(&mut self) -> anyhow::Result<(Waited, Option<u64>)> {
        let threads = self.crew.len() as u32;
        self.bar.set_prefix("preparing");
        if self.wait(|shared| shared.ready.load(Relaxed) == threads)? == Waited::Interrupted {
            return Ok((Waited::Interrupted, None));
        }
        let begun_ns = clock::now_ns() + LOOK_INTERVAL.as_nanos() as u64;
        self.shared.begun_ns.store(begun_ns, Relaxed);
        self.shared.last_join_ns.store(begun_ns, Relaxed);
        self.enter(Phase::Ramp, "joining");
        let waited = self.wait(|shared| shared.settled.load(Relaxed) == threads)?;
        let joined = self.shared.joined.load(Relaxed) > 0;
        if waited == Waited::Done {
            if !joined {
                bail!("nobody could join");
            }
            self.enter(Phase::Quiet, "quiet");
        }
        let ramp_ns = self.shared.last_join_ns.load(Relaxed).saturating_sub(begun_ns);
        Ok((waited, joined.then_some(ramp_ns)))
    }

    /// Lets the players move: for `warm_up`, for the measured `length`, and until all that is fresh has arrived. `None`:
    /// interrupted before the window began.
    pub fn hold(
        &mut self,
        server: &Server,
        warm_up: Duration,
        length: Duration,
        grace: Duration,
    ) -> anyhow::Result<Option<Window>> {
        let start_ns = clock::now_ns() + START_DELAY_NS;
        let window_start_ns = start_ns + warm_up.as_nanos() as u64;
        let window_end_ns = window_start_ns + length.as_nanos() as u64;
        self.shared.start_ns.store(start_ns, Relaxed);
        self.shared.window_start_ns.store(window_start_ns, Relaxed);
        self.shared.window_end_ns.store(window_end_ns, Relaxed);
        self.enter(Phase::Hold, "holding");
        if self.sleep_until(window_start_ns)? == Waited::Interrupted {
            return Ok(None);
        }
        let stopwatch = Stopwatch::start(server);
        let waited = self.sleep_until(window_end_ns)?;
        let lap = stopwatch.lap(server);
        if waited == Waited::Interrupted {
            // It ends a little later: every thread must have seen it.
            let end_ns = window_end_ns.min(clock::now_ns() + START_DELAY_NS);
            self.shared.window_end_ns.store(end_ns, Relaxed);
        }
        let end_ns = self.shared.window_end_ns.load(Relaxed);
        while clock::now_ns() < end_ns + grace.as_nanos() as u64 {
            self.look()?;
        }
        Ok(Some(Window { lap, length_ns: end_ns - window_start_ns, waited }))
    }

    /// Says goodbye, and waits until the threads have ended.
    pub fn close(&mut self) -> anyhow::Result<()> {
        let begun_ns = clock::now_ns();
        self.shared.begun_ns.store(begun_ns, Relaxed);
        self.enter(Phase::Close, "closing");
        let (mut last, mut progress_ns) = ((0, 0), begun_ns);
        while self.crew.iter().any(|thread| !thread.is_finished()) && clock::now_ns() < progress_ns + CLOSE_NS
        {
            let now = (self.shared.open.load(Relaxed), self.shared.in_motion.load(Relaxed));
            if now != last {
                (last, progress_ns) = (now, clock::now_ns());
            }
            self.pause()?;
        }
        self.shared.enter(Phase::Abort);
        Ok(())
    }

    pub fn sleep(&mut self, length: Duration) -> anyhow::Result<Waited> {
        self.sleep_until(clock::now_ns() + length.as_nanos() as u64)
    }

    fn enter(&self, phase: Phase, shown_as: &'static str) {
        self.shared.enter(phase);
        self.bar.set_prefix(shown_as);
    }

    fn sleep_until(&mut self, end_ns: u64) -> anyhow::Result<Waited> {
        let waited = self.wait(|_| clock::now_ns() + LOOK_INTERVAL.as_nanos() as u64 >= end_ns)?;
        if waited == Waited::Done {
            std::thread::sleep(Duration::from_nanos(end_ns.saturating_sub(clock::now_ns())));
        }
        Ok(waited)
    }

    fn wait(&mut self, done: impl Fn(&Shared) -> bool) -> anyhow::Result<Waited> {
        while !done(self.shared) {
            if self.interrupted.load(Relaxed) {
                return Ok(Waited::Interrupted);
            }
            self.look()?;
        }
        Ok(Waited::Done)
    }

    /// Waits a little. An error: the run cannot go on.
    fn look(&mut self) -> anyhow::Result<()> {
        self.pause()?;
        if self.crew.iter().any(ScopedJoinHandle::is_finished) {
            bail!("a thread ended early");
        }
        Ok(())
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        self.show();
        std::thread::sleep(LOOK_INTERVAL);
        (self.check)(self.shared)
    }

    fn show(&self) {
        let (open, in_motion) = (self.shared.open.load(Relaxed), self.shared.in_motion.load(Relaxed));
        self.bar.set_position(u64::from(open));
        let frames = self.shared.frames.load(Relaxed);
        self.bar.set_message(format!("{in_motion} joining or leaving, {frames} frames"));
    }
}
