//! What is seen of a run from outside of its threads: the relay's figures and the kernel's at the right moments, and whether the
//! relay is still there.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::bail;

use super::arguments::Load;
use super::kernel::{Growth, Kernel};
use crate::figures::Value;
use crate::players::{Director, Shared, Waited};
use crate::relay::Relay;
use crate::server::{Sample, Server, Stopwatch, process_rss_bytes};

/// From "all have joined" to the quiet: the last rosters are on their way.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// From the first move to the window.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long after its intended time a move may arrive and still be fresh.
pub const GRACE: Duration = Duration::from_secs(1);
/// How long the relay may take to give memory back in the end …
const RSS_GIVE_BACK_S: u32 = 120;
/// … and when it has not shrunk by a hundredth for so long, it has.
const RSS_STILL_S: u32 = 25;

/// What was read outside of the threads. What an interruption prevented says so.
#[derive(Clone, Debug)]
pub struct Seen {
    /// From the first connect to the last Welcome, in seconds.
    pub ramp_s: Value,
    /// Memory of the relay before, with everybody in, and after.
    pub rss_bytes: [Value; 3],
    /// Players that were there when memory was read at the top.
    pub open_at_top: u32,
    pub client_rss_bytes: Value,
    /// Slab caches at the moments of `rss_bytes`.
    pub kernel: [Result<Kernel, String>; 3],
    /// How much the slab caches have grown from before the relay was started until after it has ended.
    pub left: Result<Growth, String>,
    /// Processor time of the relay / time, in the quiet and in the hold.
    pub relay_cores: [Value; 2],
    /// Processor time of this process / time, in the quiet and in the hold.
    pub client_cores: [Value; 2],
    pub window_s: Value,
    /// The relay's, if it tells.
    pub shards: Option<u32>,
    /// What the relay runs on, if it tells.
    pub driver: Option<String>,
    /// Whether it was not interrupted.
    pub complete: bool,
    /// What went wrong during the goodbyes or after them. What was measured before stands.
    pub failure: Option<String>,
}

/// What a run waits for beside its windows: the longest is for the relay's allocator, which gives memory back late.
pub const BESIDE_WINDOWS: Duration =
    Duration::from_secs(SETTLE_TIME.as_secs() + WARM_UP.as_secs() + GRACE.as_secs() + RSS_STILL_S as u64);

impl Seen {
    /// Nothing but what was read before the first connection.
    pub fn new(relay: Sample, kernel: Kernel) -> Self {
        let missing = || "interrupted before it was read".to_owned();
        Self {
            ramp_s: Err(missing()),
            rss_bytes: [relay.rss_bytes, Err(missing()), Err(missing())],
            open_at_top: 0,
            client_rss_bytes: Err(missing()),
            kernel: [Ok(kernel), Err(missing()), Err(missing())],
            left: Err(missing()),
            relay_cores: [Err(missing()), Err(missing())],
            client_cores: [Err(missing()), Err(missing())],
            window_s: Err(missing()),
            shards: relay.shards,
            driver: relay.driver,
            complete: false,
            failure: None,
        }
    }

    /// Reads everything up to the goodbyes. An error: nothing can be said.
    pub fn watch(
        &mut self,
        director: &mut Director<'_>,
        load: &Load,
        server: &Server,
        shared: &Shared,
    ) -> anyhow::Result<Waited> {
        let (waited, ramp_ns) = director.ramp()?;
        if let Some(ramp_ns) = ramp_ns {
            self.ramp_s = Ok(ramp_ns as f64 / 1e9);
        }
        if waited == Waited::Interrupted {
            // As high as it came.
            self.read_top(server, shared);
            return Ok(waited);
        }
        let _: Waited = director.sleep(SETTLE_TIME)?;
        let stopwatch = Stopwatch::start(server);
        let waited = director.sleep(load.quiet)?;
        let lap = stopwatch.lap(server);
        (self.relay_cores[0], self.client_cores[0]) = (lap.server_cores(), Ok(lap.own_cores()));
        self.read_top(server, shared);
        if waited == Waited::Interrupted {
            return Ok(waited);
        }
        let Some(window) = director.hold(server, WARM_UP, load.hold, GRACE)? else {
            return Ok(Waited::Interrupted);
        };
        let lap = &window.lap;
        (self.relay_cores[1], self.client_cores[1]) = (lap.server_cores(), Ok(lap.own_cores()));
        self.window_s = Ok(window.length_s());
        Ok(window.waited)
    }

    fn read_top(&mut self, server: &Server, shared: &Shared) {
        let sample = server.sample();
        self.shards = self.shards.or(sample.shards);
        self.rss_bytes[1] = sample.rss_bytes;
        self.open_at_top = shared.open.load(Relaxed);
        self.client_rss_bytes = process_rss_bytes(std::process::id());
        self.kernel[1] = Ok(Kernel::sample());
    }

    /// Reads memory when the kernel has given back what it had for the connections. All threads have ended.
    pub fn read_after(&mut self, server: &Server) {
        self.kernel[2] = Ok(Kernel::sample_settled(self.kernel[0].as_ref().ok()));
        self.rss_bytes[2] = settled_rss(server);
    }

    /// Keeps what was measured before the goodbyes, and says of what should have been read afterwards that it was not.
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

/// The relay's memory when it has stopped shrinking; or after a while. Its allocator gives pages back every ten seconds.
fn settled_rss(server: &Server) -> Value {
    let mut least = server.sample().rss_bytes?;
    let mut seconds_still = 0;
    for _ in 0..RSS_GIVE_BACK_S {
        std::thread::sleep(Duration::from_secs(1));
        let now = server.sample().rss_bytes?;
        seconds_still = if now < 0.99 * least { 0 } else { seconds_still + 1 };
        least = least.min(now);
        if seconds_still == RSS_STILL_S {
            break;
        }
    }
    Ok(least)
}

/// Notices when the relay dies.
pub struct Liveness<'a> {
    relay: &'a mut Relay,
    /// Connections that were open when they were counted last.
    held: u32,
}

impl<'a> Liveness<'a> {
    pub fn new(relay: &'a mut Relay) -> Self {
        Self { relay, held: 0 }
    }

    /// An error: the relay has died.
    pub fn check(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let open = shared.open.load(Relaxed);
        // Connections may have been counted out before the end of the process is seen.
        self.fail_if_ended(self.held.max(open))?;
        self.held = open;
        Ok(())
    }

    /// An error: the relay, which holds `connections`, has ended.
    pub fn fail_if_ended(&mut self, connections: u32) -> anyhow::Result<()> {
        let Some(status) = self.relay.process.exit() else { return Ok(()) };
        bail!(
            "the relay ended ({status}) while it held {connections} connections; {}",
            self.relay.process.log_excerpt()
        );
    }
}
