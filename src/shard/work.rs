//! How much of a turn's work is done. A turn that is bounded in what it reads is not bounded in what follows from it: one event to
//! a thousand members is one message. So what is read and what is queued are counted alike.

use crate::planted;

/// The work of one part of a turn: reading, ticks, what rooms tell …; each has as much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    part: i64,
    /// Below zero: what was begun led to more than there was left.
    left: i64,
}

impl Work {
    /// Without a bound.
    pub(super) const UNBOUNDED: Self = Self { part: i64::MAX, left: i64::MAX };

    /// Each part may do this much.
    pub(super) fn of_parts(part: u32) -> Self {
        Self { part: part.into(), left: part.into() }
    }

    /// The next part begins.
    pub(super) fn next_part(&mut self) {
        self.left = self.part;
    }

    /// So much is done. What has begun is done to its end: the bound is passed by what one message or one tick leads to.
    pub(super) fn spend(&mut self, units: usize) {
        if self.part != i64::MAX {
            self.left = self.left.saturating_sub_unsigned(units as u64);
        }
    }

    /// Leaves at most `units` for what follows, and returns the others, for `take_back`.
    pub(super) fn set_aside(&mut self, units: u32) -> i64 {
        let aside = (self.left - i64::from(units)).max(0);
        self.left -= aside;
        aside
    }

    /// Goes on with what `set_aside` returned.
    pub(super) fn take_back(&mut self, aside: i64) {
        self.left += aside;
    }

    /// Whether the part may go on.
    pub(super) fn is_left(self) -> bool {
        self.left > 0 || planted!(UnboundedTurn)
    }
}
