//! Who keeps the time: tells the threads what to do, reads the relay's figures and the kernel's at the right moments, and sees
//! whether the relay is still there.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;

use super::crew::{GRACE_NS, Phase, Shared, Tallies};
use super::kernel::{Growth, Kernel};
use super::layout::Layout;
use super::relay::Relay;
use crate::clock;
use crate::figures::{Value, difference};
use crate::server::{Sample, Server, process_rss_bytes};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// From "all have joined" to the quiet: the last rosters are on their way.
const SETTLE_NS: u64 = 1_000_000_000;
/// From the start of the hold to the first move: every thread must have seen it.
const START_DELAY_NS: u64 = 200_000_000;
/// From the first move to the window.
const WARM_UP_NS: u64 = 1_000_000_000;
/// When nobody has said goodbye or ended for so long, those that are left are dropped.
const CLOSE_NS: u64 = 10_000_000_000;
/// How long the relay may take to give memory back in the end …
const RSS_GIVE_BACK_NS: u64 = 120_000_000_000;
/// … and when it has not shrunk by a hundredth for so long, it has.
const RSS_STILL_S: u32 = 25;
/// Of a relay that is not our own: when so few of those that were there are left, it has died.
const LEFT_SHARE_MIN: f64 = 0.5;

/// Its threads.
pub type Crew<'scope> = Vec<ScopedJoinHandle<'scope, anyhow::Result<Tallies>>>;

/// How long the phases are.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Everybody is silent.
    pub quiet: Duration,
    /// The active games move.
    pub hold: Duration,
}

/// What was read outside of the threads. What an interruption prevented says so.
#[derive(Clone, Debug)]
pub struct Seen {
    /// From the first connect to the last Welcome, in seconds.
    pub ramp_s: Value,
    /// Memory of the relay before, with everybody in, and after.
    pub rss_bytes: [Value; 3],
    /// Players that were there when memory was read at the top.
    pub open_at_top: u32,
    /// Memory of this process with everybody in.
    pub client_rss_bytes: Value,
    /// Slab caches at the same moments.
    pub kernel: [Result<Kernel, String>; 3],
    /// How much the slab caches have grown from before the relay was started until after it has ended. One that goes on: as at
    /// the end.
    pub left: Result<Growth, String>,
    /// Processor time of the relay / time, quiet and in the hold.
    pub relay_cores: [Value; 2],
    /// The same of this process.
    pub client_cores: [Value; 2],
    /// Length of the measured window, in seconds.
    pub window_s: Value,
    /// The relay's, if it tells.
    pub shards: Option<u32>,
    /// Whether it was not interrupted.
    pub complete: bool,
    /// What went wrong during the goodbyes or after them. What was measured before stands.
    pub failure: Option<String>,
}

impl Seen {
    /// Keeps what was measured before the goodbyes, and tells of what should have been read afterwards that it was not.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.failure.get_or_insert(format!("{error:#}"));
        let missing = "not measured: the run failed during the goodbyes".to_owned();
        self.rss_bytes[2] = Err(missing.clone());
        self.kernel[2] = Err(missing.clone());
        self.left = Err(missing);
    }

    /// Growth of the slab caches from the start to the top (1) or to the end (2).
    pub fn kernel_growth(&self, moment: usize) -> Result<Growth, String> {
        self.kernel[moment].as_ref().map_err(Clone::clone)?.growth(self.kernel[0].as_ref()?)
    }
}

/// See the module documentation.
pub struct Watch<'a> {
    /// What the threads are told.
    pub shared: &'a Shared,
    /// The relay, if it is our own.
    pub relay: Option<&'a mut Relay>,
    /// Where its figures come from.
    pub server: &'a Server,
    /// Who is where.
    pub layout: Layout,
    /// Set by a signal.
    pub interrupted: &'a AtomicBool,
    /// Phase, connections, rate.
    pub bar: &'a ProgressBar,
    /// Connections that were open when they were counted last, and most of them so far.
    held: u32,
    held_max: u32,
}

/// What a wait ended with.
enum Waited {
    Done,
    Interrupted,
}

impl<'a> Watch<'a> {
    /// Nothing has begun.
    pub fn new(
        shared: &'a Shared,
        relay: Option<&'a mut Relay>,
        server: &'a Server,
        layout: Layout,
        interrupted: &'a AtomicBool,
        bar: &'a ProgressBar,
    ) -> Self {
        Self { shared, relay, server, layout, interrupted, bar, held: 0, held_max: 0 }
    }

    /// From the first connect to the last goodbye. An error: nothing can be said, or the relay has died before
    /// the goodbyes.
    pub fn run(&mut self, times: Times, before: (Sample, Kernel), crew: &Crew<'_>) -> anyhow::Result<Seen> {
        let (relay_before, kernel_before) = before;
        let not_yet = |what: &str| Err(format!("interrupted before {what}"));
        let mut seen = Seen {
            ramp_s: not_yet("anybody had joined"),
            rss_bytes: [relay_before.rss_bytes, not_yet("the top"), not_yet("the end")],
            open_at_top: 0,
            client_rss_bytes: not_yet("the top"),
            kernel: [
                Ok(kernel_before),
                Err("interrupted before the top".into()),
                Err("interrupted before the end".into()),
            ],
            left: Err("interrupted before the end".into()),
            relay_cores: [not_yet("the end of the quiet"), not_yet("the hold")],
            client_cores: [not_yet("the end of the quiet"), not_yet("the hold")],
            window_s: not_yet("the hold"),
            shards: relay_before.shards,
            complete: false,
            failure: None,
        };
        seen.complete = matches!(self.measure(times, &mut seen, crew)?, Waited::Done);
        if let Err(error) = self.close(crew) {
            seen.fail(&error);
        }
        Ok(seen)
    }

    fn measure(&mut self, times: Times, seen: &mut Seen, crew: &Crew<'_>) -> anyhow::Result<Waited> {
        let rings = self.layout.rings();
        self.bar.set_prefix("preparing");
        if let Waited::Interrupted = self.wait(crew, |shared| shared.ready.load(Relaxed) == rings)? {
            return Ok(Waited::Interrupted);
        }
        let begun_ns = clock::now_ns() + LOOK_INTERVAL.as_nanos() as u64;
        self.shared.begun_ns.store(begun_ns, Relaxed);
        self.shared.last_join_ns.store(begun_ns, Relaxed);
        self.shared.enter(Phase::Ramp);
        self.bar.set_prefix("joining");
        let waited = self.wait(crew, |shared| shared.settled.load(Relaxed) == rings)?;
        if self.shared.joined.load(Relaxed) > 0 {
            let ramp_ns = self.shared.last_join_ns.load(Relaxed).saturating_sub(begun_ns);
            seen.ramp_s = Ok(ramp_ns as f64 / 1e9);
        }
        if let Waited::Interrupted = waited {
            // As high as it came.
            self.read_top(seen);
            return Ok(Waited::Interrupted);
        }
        if self.shared.joined.load(Relaxed) == 0 {
            bail!("nobody could join");
        }

        self.shared.enter(Phase::Quiet);
        self.bar.set_prefix("quiet");
        self.sleep(crew, SETTLE_NS)?;
        let quiet = Stopwatch::start(self.server);
        let waited = self.sleep(crew, times.quiet.as_nanos() as u64)?;
        (seen.relay_cores[0], seen.client_cores[0]) = quiet.cores(self.server);
        self.read_top(seen);
        if let Waited::Interrupted = waited {
            return Ok(Waited::Interrupted);
        }
        self.hold(times.hold, seen, crew)
    }

    fn hold(&mut self, hold: Duration, seen: &mut Seen, crew: &Crew<'_>) -> anyhow::Result<Waited> {
        let start_ns = clock::now_ns() + START_DELAY_NS;
        let window_start_ns = start_ns + WARM_UP_NS;
        let window_end_ns = window_start_ns + hold.as_nanos() as u64;
        self.shared.start_ns.store(start_ns, Relaxed);
        self.shared.window_start_ns.store(window_start_ns, Relaxed);
        self.shared.window_end_ns.store(window_end_ns, Relaxed);
        self.shared.enter(Phase::Hold);
        self.bar.set_prefix("holding");
        if let Waited::Interrupted = self.sleep_until(crew, window_start_ns)? {
            return Ok(Waited::Interrupted);
        }
        let window = Stopwatch::start(self.server);
        let waited = self.sleep_until(crew, window_end_ns)?;
        (seen.relay_cores[1], seen.client_cores[1]) = window.cores(self.server);
        if let Waited::Interrupted = waited {
            // It ends a little later: every thread must have seen it.
            let end_ns = window_end_ns.min(clock::now_ns() + START_DELAY_NS);
            self.shared.window_end_ns.store(end_ns, Relaxed);
        }
        let end_ns = self.shared.window_end_ns.load(Relaxed);
        seen.window_s = Ok((end_ns - window_start_ns) as f64 / 1e9);
        while clock::now_ns() < end_ns + GRACE_NS {
            self.look(crew)?;
        }
        Ok(waited)
    }

    fn read_top(&self, seen: &mut Seen) {
        let sample = self.server.sample();
        seen.shards = seen.shards.or(sample.shards);
        seen.rss_bytes[1] = sample.rss_bytes;
        seen.open_at_top = self.shared.open.load(Relaxed);
        seen.client_rss_bytes = process_rss_bytes(std::process::id());
        seen.kernel[1] = Ok(Kernel::sample());
    }

    /// Says goodbye, and waits until the threads have ended.
    fn close(&mut self, crew: &Crew<'_>) -> anyhow::Result<()> {
        self.bar.set_prefix("closing");
        let begun_ns = clock::now_ns();
        self.shared.begun_ns.store(begun_ns, Relaxed);
        self.shared.enter(Phase::Close);
        let (mut last, mut progress_ns) = ((0, 0), begun_ns);
        while crew.iter().any(|thread| !thread.is_finished()) && clock::now_ns() < progress_ns + CLOSE_NS {
            let now = (self.shared.open.load(Relaxed), self.shared.in_motion.load(Relaxed));
            if now != last {
                (last, progress_ns) = (now, clock::now_ns());
            }
            self.held = now.0;
            self.show();
            std::thread::sleep(LOOK_INTERVAL);
            self.fail_if_dead()?;
        }
        self.shared.enter(Phase::Abort);
        Ok(())
    }

    /// Reads memory when the kernel has given back what it had for the connections. All threads have ended.
    pub fn read_after(&mut self, seen: &mut Seen) {
        self.bar.set_prefix("after");
        let before = seen.kernel[0].as_ref().ok();
        seen.kernel[2] = Ok(Kernel::sample_settled(before));
        seen.rss_bytes[2] = self.settled_rss();
        seen.left = seen.kernel_growth(2);
        if let Err(error) = self.fail_if_dead() {
            seen.fail(&error);
        }
    }

    /// The relay's memory when it has stopped shrinking; or after a while. Its allocator gives pages back every ten seconds.
    fn settled_rss(&self) -> Value {
        let deadline_ns = clock::now_ns() + RSS_GIVE_BACK_NS;
        let mut least = self.server.sample().rss_bytes?;
        let mut seconds_still = 0;
        while seconds_still < RSS_STILL_S && clock::now_ns() < deadline_ns {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.server.sample().rss_bytes?;
            seconds_still = if now < 0.99 * least { 0 } else { seconds_still + 1 };
            least = least.min(now);
        }
        Ok(least)
    }

    fn sleep(&mut self, crew: &Crew<'_>, length_ns: u64) -> anyhow::Result<Waited> {
        self.sleep_until(crew, clock::now_ns() + length_ns)
    }

    fn sleep_until(&mut self, crew: &Crew<'_>, end_ns: u64) -> anyhow::Result<Waited> {
        self.wait(crew, |_| clock::now_ns() >= end_ns)
    }

    fn wait(&mut self, crew: &Crew<'_>, done: impl Fn(&Shared) -> bool) -> anyhow::Result<Waited> {
        while !done(self.shared) {
            if self.interrupted.load(Relaxed) {
                return Ok(Waited::Interrupted);
            }
            self.look(crew)?;
        }
        Ok(Waited::Done)
    }

    /// Waits a little. An error: the relay has died, or a thread cannot go on.
    fn look(&mut self, crew: &Crew<'_>) -> anyhow::Result<()> {
        self.show();
        std::thread::sleep(LOOK_INTERVAL);
        self.fail_if_dead()?;
        if crew.iter().any(ScopedJoinHandle::is_finished) {
            bail!("a thread ended early");
        }
        let open = self.shared.open.load(Relaxed);
        self.held_max = self.held_max.max(open);
        if f64::from(open) < f64::from(self.held_max) * LEFT_SHARE_MIN {
            bail!(
                "the relay has died, or dropped most of its players: it held {} connections, and {open} are left",
                self.held_max
            );
        }
        self.held = open;
        Ok(())
    }

    fn fail_if_dead(&mut self) -> anyhow::Result<()> {
        // Connections may have been counted out before the end of the process is seen.
        let held = self.held.max(self.shared.open.load(Relaxed));
        let Some(relay) = self.relay.as_deref_mut() else { return Ok(()) };
        let Some(status) = relay.exit() else { return Ok(()) };
        bail!("the relay ended ({status}) while it held {held} connections; {}", relay.log_excerpt());
    }

    fn show(&self) {
        let (open, in_motion) = (self.shared.open.load(Relaxed), self.shared.in_motion.load(Relaxed));
        self.bar.set_position(u64::from(open));
        let elapsed_s = clock::now_ns().saturating_sub(self.shared.begun_ns.load(Relaxed)) as f64 / 1e9;
        self.bar.set_message(match self.shared.phase() {
            Phase::Ramp if elapsed_s > 0.0 && elapsed_s < 1e6 => {
                format!("{in_motion} joining, {:.0}/s", f64::from(open) / elapsed_s)
            }
            Phase::Hold => format!("{} frames", self.shared.frames.load(Relaxed)),
            Phase::Ramp | Phase::Preparing | Phase::Quiet | Phase::Close | Phase::Abort => String::new(),
        });
    }
}

/// Processor time from a moment on.
struct Stopwatch {
    begun_ns: u64,
    relay_s: Value,
    own_ns: u64,
}

impl Stopwatch {
    fn start(server: &Server) -> Self {
        let relay_s = server.sample().cpu_s;
        Self { begun_ns: clock::now_ns(), relay_s, own_ns: clock::own_cpu_ns() }
    }

    /// Of the relay, and of this process.
    fn cores(&self, server: &Server) -> (Value, Value) {
        let own_ns = clock::own_cpu_ns() - self.own_ns;
        let elapsed_s = (clock::now_ns() - self.begun_ns) as f64 / 1e9;
        let relay_s = difference(&server.sample().cpu_s, &self.relay_s);
        (relay_s.map(|relay_s| relay_s / elapsed_s), Ok(own_ns as f64 / 1e9 / elapsed_s))
    }
}
