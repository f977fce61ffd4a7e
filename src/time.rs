//! Time as the core sees it: two numbers, handed in by whoever drives it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds on the monotonic clock since the process started. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Later than every other.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `us` microseconds after the process started.
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the process started.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the process started, in the four bytes that a connection or seat spends on a time
    /// (they last 49 days; differences are taken with `wrapping_sub`).
    pub const fn as_millis_u32(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_micros() as u64))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_micros() as u64))
    }
}

/// Lets one line of the log through per interval and counts the others: for lines that strangers can cause.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    /// When the next line may pass.
    open_at: Instant,
    held_back: u64,
}

impl Throttle {
    /// The first line passes.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, open_at: Instant(0), held_back: 0 }
    }

    /// `Some`: the line passes, and so many were held back since the last one that did.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if now < self.open_at {
            self.held_back += 1;
            return None;
        }
        self.open_at = now + self.interval;
        Some(std::mem::take(&mut self.held_back))
    }
}

/// One reading of both clocks; the loop takes one a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For everything that waits or measures.
    pub instant: Instant,
    /// Microseconds since 1970 (UTC): token expiry, and the times shown to clients.
    pub unix_us: u64,
}

impl Now {
    /// Whole seconds since 1970, as in a token's `exp`.
    pub const fn unix_s(self) -> u64 {
        self.unix_us / 1_000_000
    }
}

/// The relay's clock: microseconds since 1970 (UTC) at its start, and the monotonic clock from there on, so that nobody's ticks jump
/// when the wall clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTime {
    /// What it was when the monotonic clock began.
    start_us: u64,
    /// The moment that it stands for.
    pub instant: Instant,
}

impl RelayTime {
    /// A clock that shows the wall clock's time at `now`.
    pub fn set_to(now: Now) -> Self {
        Self { start_us: now.unix_us.saturating_sub(now.instant.as_micros()), instant: now.instant }
    }

    /// The same clock at another moment.
    pub fn at(self, instant: Instant) -> Self {
        Self { instant, ..self }
    }

    /// What it shows.
    pub fn as_micros(self) -> u64 {
        self.start_us.saturating_add(self.instant.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_passes_one_per_interval_and_counts_the_others() {
        let mut throttle = Throttle::new(Duration::from_secs(60));
        let passes = [0, 1, 59, 60, 61, 500].map(|s| throttle.admit(Instant::from_micros(s * 1_000_000)));
        assert_eq!(passes, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
