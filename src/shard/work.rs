//! How much of a turn's work is done. A turn that is bounded in what it reads is not bounded in what follows from it: one event to
//! a thousand members is one message. So what is read and what is queued are counted alike.

/// The work of one part of a turn: reading, ticks, what rooms tell …; each has as much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    part: u32,
    left: u32,
}

impl Work {
    /// Without a bound.
    pub(super) const UNBOUNDED: Self = Self { part: u32::MAX, left: u32::MAX };

    /// Each part may do this much.
    pub(super) fn of_parts(part: u32) -> Self {
        Self { part, left: part }
    }

    /// The next part begins.
    pub(super) fn next_part(&mut self) {
        self.left = self.part;
    }

    /// So much is done. What has begun is done to its end: the bound is passed by what one message or one tick leads to.
    pub(super) fn spend(&mut self, units: usize) {
        if self.part != u32::MAX {
            self.left = self.left.saturating_sub(u32::try_from(units).unwrap_or(u32::MAX));
        }
    }

    /// Whether the part may go on.
    pub(super) fn is_left(self) -> bool {
        self.left > 0
    }
}
