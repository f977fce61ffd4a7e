//! The one place that reads clocks.

use std::time::SystemTime;

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

    /// The monotonic clock alone: how long the turn took, and how long to sleep.
    pub fn instant(self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }
}
