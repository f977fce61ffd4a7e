//! Maximum speed, as an allowance of time: a step takes from it what it lasts at the maximum, and time gives it back, up to a
//! bound. So packets that a network held back and delivers bunched are not punished, and small steps do not add up to more
//! than a large one.

use std::time::Duration;

use crate::time::Instant;

/// Rounding of coordinates to f32 must not refuse a player that moves at exactly the maximum.
const TOLERANCE: f64 = 1.001;

/// What one player may still cover. Over any length of time it is at most the maximum times the sum of that time and the
/// bound.
#[derive(Clone, Debug, Default)]
pub struct SpeedAllowance {
    /// What steps have taken and time has not given back, in seconds.
    taken_s: f64,
    counted_at: Instant,
}

impl SpeedAllowance {
    /// Counts a step of `distance` if it fits `max_speed` (distance per second) and `bound`; `false`: it does not, nothing is
    /// counted.
    pub fn admit(&mut self, distance: f32, max_speed: f32, bound: Duration, now: Instant) -> bool {
        let given_back_s = now.since(self.counted_at).as_secs_f64();
        self.taken_s = (self.taken_s - given_back_s).max(0.0);
        self.counted_at = now;
        let taken_s = self.taken_s + f64::from(distance) / (f64::from(max_speed) * TOLERANCE);
        let fits = taken_s <= bound.as_secs_f64();
        if fits {
            self.taken_s = taken_s;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{MOVE_DELAY_MAX, MOVE_INTERVAL_MAX};

    const BOUND: Duration = MOVE_DELAY_MAX.saturating_add(MOVE_INTERVAL_MAX);
    const MAX_SPEED: f32 = 10.0;

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(100_000_000 + ms * 1000)
    }

    #[test]
    fn steady_motion_at_the_maximum_is_never_refused() {
        let mut allowance = SpeedAllowance::default();
        for step in 0..100_000 {
            assert!(allowance.admit(0.5, MAX_SPEED, BOUND, ms(step * 50)), "step {step}");
        }
    }

    #[test]
    fn a_bunch_within_the_bound_is_taken_and_more_is_not() {
        let mut allowance = SpeedAllowance::default();
        let mut admit = |distance, at| allowance.admit(distance, MAX_SPEED, BOUND, ms(at));
        assert!((0..5).all(|_| admit(2.5, 0)), "12.5 is the whole of it");
        assert!(!admit(1.0, 0) && !admit(1.0, 90) && admit(1.0, 101));
        assert!(!admit(12.6, 60_000) && admit(12.5, 60_000), "rest gives it back, and no more");
    }

    #[test]
    fn small_steps_add_up() {
        let mut allowance = SpeedAllowance::default();
        let taken = (0..1000).filter(|step| allowance.admit(0.1, MAX_SPEED, BOUND, ms(*step))).count();
        assert!((220..=226).contains(&taken), "{taken} steps of 0.1 within a second");
    }

    proptest! {
        /// Steps as far apart as a client may send them, each as long as the maximum allows, each held back by up to a second.
        #[test]
        fn an_honest_player_is_never_refused_whatever_the_network_does(
            steps in prop::collection::vec(
                (1..=MOVE_INTERVAL_MAX.as_micros() as u64, 0..=MOVE_DELAY_MAX.as_micros() as u64, 0.0..std::f32::consts::TAU),
                1..400,
            ),
            // Most of the time nothing is held back, and then everything for a while.
            calm in 1..20_u64,
        ) {
            let mut allowance = SpeedAllowance::default();
            let (mut sent_us, mut arrived_us) = (10_000_000_u64, 0);
            let (mut x, mut y) = (0.0_f32, 0.0_f32);
            for (number, (interval_us, delay_us, direction)) in (0_u64..).zip(steps) {
                sent_us += interval_us;
                let held_back_us = if number / calm % 2 == 0 { delay_us } else { 0 };
                arrived_us = (sent_us + held_back_us).max(arrived_us);
                let length = MAX_SPEED * interval_us as f32 / 1e6;
                let (next_x, next_y) = (x + length * direction.cos(), y + length * direction.sin());
                let distance = (next_x - x).hypot(next_y - y);
                (x, y) = (next_x, next_y);
                let at = Instant::from_micros(arrived_us);
                prop_assert!(allowance.admit(distance, MAX_SPEED, BOUND, at), "step {number} of {distance}");
            }
        }

        /// Whatever is tried, and however often.
        #[test]
        fn nobody_gets_further_than_the_maximum_and_the_bound_allow(
            steps in prop::collection::vec((0..400_000_u64, 0.0..15.0_f32), 1..200),
        ) {
            let mut allowance = SpeedAllowance::default();
            let mut at_us = 5_000_000;
            let mut covered: Vec<(u64, f64)> = Vec::new();
            for (wait_us, distance) in steps {
                at_us += wait_us;
                let now = Instant::from_micros(at_us);
                // First as far as it can get, then what it tried.
                for distance in [15.0, 12.0, 5.0, 1.0, 0.1, distance] {
                    if allowance.admit(distance, MAX_SPEED, BOUND, now) {
                        covered.push((at_us, distance.into()));
                    }
                }
            }
            for first in 0..covered.len() {
                let mut sum = 0.0;
                for (until_us, distance) in &covered[first..] {
                    sum += distance;
                    let window_s = (until_us - covered[first].0) as f64 / 1e6;
                    let most = f64::from(MAX_SPEED) * TOLERANCE * (window_s + BOUND.as_secs_f64());
                    prop_assert!(sum <= most + 1e-6, "{sum} within {window_s} s, at most {most}");
                }
            }
        }
    }
}
