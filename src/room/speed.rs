//! Maximum speed, as the distance covered within a sliding second: packets that arrive bunched are not punished, and small
//! steps do not add up to more than a large one.

use crate::time::Instant;

const SLICES: usize = 16;
const SLICE_US: u64 = 1_000_000 / SLICES as u64;

/// Rounding of f32 sums must not refuse a player that moves at exactly the maximum.
const TOLERANCE: f32 = 1.001;

/// The distances that one player covered in the last second, in slices of 1/16 s. The oldest slice falls out as a whole, so
/// the window is up to a slice shorter than a second, never longer: it errs in the player's favour.
#[derive(Clone, Debug, Default)]
pub struct SpeedWindow {
    distances: [f32; SLICES],
    /// Slices since the process started, of the newest distance.
    newest: u64,
}

impl SpeedWindow {
    /// Counts a step of `distance` if it fits `max_speed` (distance per second); `false`: it does not, nothing is counted.
    pub fn admit(&mut self, distance: f32, max_speed: f32, now: Instant) -> bool {
        self.forget(now);
        let covered: f32 = self.distances.iter().sum();
        let fits = covered + distance <= max_speed * TOLERANCE;
        if fits {
            self.distances[self.newest as usize % SLICES] += distance;
        }
        fits
    }

    fn forget(&mut self, now: Instant) {
        let slice = now.as_micros() / SLICE_US;
        let passed = slice.saturating_sub(self.newest).min(SLICES as u64);
        for step in 1..=passed {
            self.distances[(slice - passed + step) as usize % SLICES] = 0.0;
        }
        self.newest = self.newest.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(100_000_000 + ms * 1000)
    }

    #[test]
    fn steady_motion_at_the_maximum_is_never_refused() {
        let mut window = SpeedWindow::default();
        for step in 0..200 {
            assert!(window.admit(0.5, 10.0, ms(step * 50)), "step {step}");
        }
    }

    #[test]
    fn a_bunch_within_the_second_is_taken_and_more_is_not() {
        let mut window = SpeedWindow::default();
        for _ in 0..10 {
            assert!(window.admit(1.0, 10.0, ms(0)));
        }
        assert!(!window.admit(1.0, 10.0, ms(0)));
        assert!(!window.admit(1.0, 10.0, ms(900)));
        assert!(window.admit(1.0, 10.0, ms(1001)));
    }

    #[test]
    fn small_steps_add_up() {
        let mut window = SpeedWindow::default();
        let taken = (0..1000).filter(|step| window.admit(0.1, 10.0, ms(*step))).count();
        assert!((95..=110).contains(&taken), "{taken} steps of 0.1 within a second");
    }
}
