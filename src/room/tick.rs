//! The beat of a game: ticks are counted from the game's start, so an idle game needs no timer and none drifts.

use std::time::Duration;

use crate::time::Instant;

/// When ticks are due. Tick `n` is `n / hz` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub struct TickClock {
    start: Instant,
    hz: u16,
}

impl TickClock {
    /// `hz` ticks per second from `now`, moved back by the part `phase` (0 to 1) of an interval, so that games that start
    /// together do not tick together.
    pub fn new(hz: u16, phase: f32, now: Instant) -> Self {
        debug_assert!(hz > 0 && (0.0..1.0).contains(&phase));
        let interval_us = 1_000_000.0 / f32::from(hz);
        Self { start: now - Duration::from_micros((interval_us * phase) as u64), hz }
    }

    /// Ticks per second.
    pub fn hz(&self) -> u16 {
        self.hz
    }

    /// Number of the last tick that was due at `now`. It wraps after 2^32 ticks: 6 years at 20 Hz.
    pub fn number_at(&self, now: Instant) -> u32 {
        (self.elapsed_us(now) * u64::from(self.hz) / 1_000_000) as u32
    }

    /// When the first tick after `now` is due.
    pub fn next_after(&self, now: Instant) -> Instant {
        let next = self.elapsed_us(now) * u64::from(self.hz) / 1_000_000 + 1;
        self.start + Duration::from_micros((next * 1_000_000).div_ceil(u64::from(self.hz)))
    }

    fn elapsed_us(&self, now: Instant) -> u64 {
        now.since(self.start).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_is_the_first_one_that_is_not_yet_counted() {
        for hz in [1, 3, 20, 60, 120] {
            let clock = TickClock::new(hz, 0.4, Instant::from_micros(5_000_000));
            let mut now = Instant::from_micros(5_000_000);
            for _ in 0..500 {
                let next = clock.next_after(now);
                assert!(next > now);
                assert_eq!(clock.number_at(next), clock.number_at(now) + 1, "{hz} Hz at {now:?}");
                now = next;
            }
            let seconds = now.since(Instant::from_micros(5_000_000)).as_secs_f64();
            assert!((seconds * f64::from(hz) - 500.0).abs() < 1.0, "{hz} Hz drifts: {seconds} s");
        }
    }
}
