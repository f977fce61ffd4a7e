//! One member of a room, and which of the room's numbers it was told.

use std::ops::Range;

/// Before its first join it is at no number.
#[derive(Clone, Debug, Default)]
pub struct Member {
    joined: bool,
    /// The first number that it was not told of, nor anything later.
    next: u64,
    /// Numbers before it that were left out. As long as there are gaps, not as long as they are.
    gaps: Vec<Range<u64>>,
}

/// What a number is to a member that is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    Next,
    /// Later than the next one.
    AfterGap,
    /// One that was left out.
    Late,
    Again,
}

impl Member {
    /// It knows everything up to `seq`, and is to be told what follows.
    pub fn begin(&mut self, seq: u64) {
        *self = Self { joined: true, next: seq.saturating_add(1), gaps: Vec::new() };
    }

    pub fn has_joined(&self) -> bool {
        self.joined
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn hear(&mut self, seq: u64) -> Hearing {
        if seq >= self.next {
            let gap = self.next..seq;
            self.next = seq.saturating_add(1);
            if gap.is_empty() {
                return Hearing::Next;
            }
            self.gaps.push(gap);
            return Hearing::AfterGap;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&seq)) else { return Hearing::Again };
        let gap = self.gaps.swap_remove(at);
        let rest = [gap.start..seq, seq + 1..gap.end];
        self.gaps.extend(rest.into_iter().filter(|range| !range.is_empty()));
        Hearing::Late
    }

    pub fn is_complete_to(&self, seq: u64) -> bool {
        self.next > seq && self.gaps.is_empty()
    }

    /// The numbers before `end` that it was not told of.
    pub fn missing(&self, end: u64) -> impl Iterator<Item = Range<u64>> {
        let rest = self.next..end.max(self.next);
        self.gaps.iter().cloned().chain([rest]).filter(|range| !range.is_empty())
    }
}
