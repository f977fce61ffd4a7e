//! When a member's view may move, and when it must.

use std::collections::VecDeque;

use super::world::{Place, distance};

const HOLD_US: u64 = 250_000;
const SECOND_US: u64 = 1_000_000;

/// The changes of one member's view.
#[derive(Debug, Default)]
pub struct Viewpoint {
    /// Since when the member looks, where from, and when that changed last.
    at: Option<(Place, u64)>,
    /// When it changed without waiting.
    jumps: VecDeque<u64>,
}

impl Viewpoint {
    /// At time `now`, the player was in cell `home` and its member's view in cell `view`, after a tick.
    pub fn check(&mut self, view: Option<Place>, home: Option<Place>, now: u64) {
        assert_eq!(view.is_some(), home.is_some(), "who looks and has a position has a view");
        let (Some(view), Some(home)) = (view, home) else {
            *self = Self::default();
            return;
        };
        let Some((before, changed_at)) = self.at else {
            assert_eq!(view, home, "a view begins where the player is");
            self.at = Some((view, now));
            return;
        };
        let waited = now / 1000 - changed_at / 1000 >= HOLD_US / 1000;
        self.jumps.retain(|at| now - at < SECOND_US);
        if view == before {
            assert!(view == home || !waited, "the view does not follow");
            let is_far = distance(view, home) > 1;
            assert!(!is_far || self.jumps.len() >= 4, "after a teleport the view does not follow at once");
            return;
        }
        assert_eq!(view, home, "a view moves to where the player is");
        if !waited {
            assert!(distance(before, home) > 1, "the view moves too often");
            self.jumps.push_back(now);
            assert!(self.jumps.len() <= 8, "teleports move the view too often");
        }
        self.at = Some((view, now));
    }
}
