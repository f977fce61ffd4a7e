//! The one place that reads clocks.

use std::time::{Duration, SystemTime};

use crate::limits::STANDSTILL_MIN;
use crate::time::{Instant, Now};

/// Both clocks, the monotonic one counted from the start of the process. All shards share one start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

#[allow(clippy::disallowed_methods, reason = "the rim reads the clocks so that the core need not")]
impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Both clocks: once a turn.
    pub fn now(self) -> Now {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { instant: self.instant(), unix_us: since_epoch.as_micros() as u64 }
    }

    /// The monotonic clock alone.
    pub fn instant(self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }
}

/// The clock of one loop. Its monotonic part leaves out the time that the process, or its machine, stood still, because no client
/// could be heard then. The wall clock goes on, because tokens expire by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoopClock {
    clock: Clock,
    /// What `clock` said at the last `look`.
    looked_at: Instant,
    left_out: Duration,
}

impl LoopClock {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, looked_at: clock.instant(), left_out: Duration::ZERO }
    }

    /// Reads both clocks. About `expected` should have passed since the last call. If it was much more, the process stood still,
    /// and the second value says for how long.
    pub(super) fn look(&mut self, expected: Duration) -> (Now, Option<Duration>) {
        let now = self.clock.now();
        let late = now.instant.since(self.looked_at).saturating_sub(expected);
        self.looked_at = now.instant;
        let stood_still = (late > STANDSTILL_MIN).then_some(late);
        self.left_out += stood_still.unwrap_or_default();
        (Now { instant: now.instant - self.left_out, ..now }, stood_still)
    }

    /// The monotonic time, standstills left out.
    pub(super) fn instant(&self) -> Instant {
        self.clock.instant() - self.left_out
    }

    /// The time of the last `look`, standstills included: `/livez` checks by it that the loop turns.
    pub(super) fn looked_at(&self) -> Instant {
        self.looked_at
    }
}
