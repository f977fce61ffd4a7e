//! The beat of a game: ticks are counted from the game's start, so an idle game needs no timer and none drifts.

use std::time::Duration;

use crate::time::{Instant, RelayTime};

/// Games that tick at the same rate, on whichever shard, do so at moments this far apart, or a little more.
const TICK_SLOT_US: u64 = 5_000;

/// When ticks are due. Tick `n` is `n / hz` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub struct TickClock {
    /// Of tick 0.
    start: RelayTime,
    hz: u16,
}

impl TickClock {
    /// `hz` ticks per second from the part `phase` (0 to 1) of an interval before `now`, as far as slots allow: games that start
    /// together do not all tick together, but those of a slot do, and their frames go to the kernel in one submission.
    pub fn new(hz: u16, phase: f32, now: RelayTime) -> Self {
        debug_assert!(hz > 0 && (0.0..1.0).contains(&phase));
        let slots = (1_000_000 / u64::from(hz) / TICK_SLOT_US).max(1);
        let slots_per_s = u64::from(hz) * slots;
        let slots_now = now.instant.as_micros() * slots_per_s / 1_000_000;
        let slot = (slots as f32 * phase) as u64;
        let start = slots_now.saturating_sub((slots_now + slots - slot) % slots);
        Self { start: now.at(Instant::from_micros(start * 1_000_000 / slots_per_s)), hz }
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
        self.start.instant + Duration::from_micros((next * 1_000_000).div_ceil(u64::from(self.hz)))
    }

    /// When tick 0 was, on the relay's clock.
    pub fn tick0_us(&self) -> u64 {
        self.start.as_micros()
    }

    /// What the relay's clock shows at `now`.
    pub fn relay_us(&self, now: Instant) -> u64 {
        self.start.at(now).as_micros()
    }

    fn elapsed_us(&self, now: Instant) -> u64 {
        now.since(self.start.instant).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn games_of_a_rate_tick_at_few_moments_spread_over_the_interval() {
        for (hz, moments) in [(1, 200), (20, 10), (30, 6), (60, 3), (120, 1)] {
            let due_us = |game: u64| {
                let created = Instant::from_micros(3_000_000 + game * 1_237);
                let phase = (game * 7_919 % 1_000) as f32 / 1_000.0;
                let clock = TickClock::new(hz, phase, RelayTime::default().at(created));
                assert!(clock.start.instant <= created && clock.number_at(created) <= 1);
                clock.next_after(Instant::from_micros(60_000_000)).as_micros()
            };
            // Starts are rounded to microseconds, so ticks of a slot differ by one or two.
            let seen: BTreeSet<u64> = (0..2_000).map(|game| (due_us(game) + 50) / 100).collect();
            assert_eq!(seen.len(), moments, "at {hz} Hz: {seen:?}");
            let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
            let interval = 10_000 / u64::from(hz);
            assert!(last - first + interval / moments as u64 + 1 >= interval, "at {hz} Hz: {seen:?}");
        }
    }

    #[test]
    fn the_next_tick_is_the_first_one_that_is_not_yet_counted() {
        for hz in [1, 3, 20, 60, 120] {
            let clock = TickClock::new(hz, 0.4, RelayTime::default().at(Instant::from_micros(5_000_000)));
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
