//! The last reliable events of a topic, for members that come back: all that they missed, or the news that it is gone.

use std::collections::VecDeque;

use crate::memory::Allocated;
use crate::planted;

/// What a history keeps.
pub trait Kept {
    /// The same as long as it is kept; see `memory`.
    fn heap_bytes(&self) -> usize;
}

/// A bounded log of numbered events.
///
/// Invariant: the kept events are `seq - kept.len() + 1 ..= seq`, without a gap.
#[derive(Debug)]
pub struct History<T> {
    kept: VecDeque<T>,
    kept_max: usize,
    seq: u64,
    /// What the kept events own: a walk over all of them would take long.
    kept_heap_bytes: usize,
}

/// What a member missed.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed<I> {
    /// All of it, oldest first.
    Replay(I),
    /// The oldest missed event is no longer kept.
    TooOld,
    /// The member claims to have seen events that do not exist yet.
    Ahead,
}

impl<T: Kept> History<T> {
    /// Keeps the last `kept_max` events.
    pub fn new(kept_max: usize) -> Self {
        Self::after(kept_max, 0)
    }

    /// The same, of a log that has come to the number `seq`.
    pub fn after(kept_max: usize, seq: u64) -> Self {
        Self { kept: VecDeque::new(), kept_max, seq, kept_heap_bytes: 0 }
    }

    /// Number of the last event; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes the next event; `number_it` is given its number. Returns it, and the one that is forgotten for it.
    pub fn push(&mut self, number_it: impl FnOnce(u64) -> T) -> (&T, Option<T>) {
        let forgotten = if self.kept.len() == self.kept_max { self.forget_oldest() } else { None };
        self.seq += 1;
        let event = number_it(self.seq);
        self.kept_heap_bytes += event.heap_bytes();
        self.kept.push_back(event);
        (self.kept.back().expect("it was just pushed"), forgotten)
    }

    /// Forgets the oldest kept event.
    pub fn forget_oldest(&mut self) -> Option<T> {
        let oldest = self.kept.pop_front()?;
        if self.kept.is_empty() {
            // A topic in which nothing happens any more keeps no room for it.
            self.kept = VecDeque::new();
        }
        self.kept_heap_bytes -= oldest.heap_bytes();
        Some(oldest)
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.kept.allocated_bytes() + self.kept_heap_bytes
    }

    /// The kept events, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.kept.iter()
    }

    /// The event of a number, if it is kept.
    pub fn get(&self, seq: u64) -> Option<&T> {
        self.kept.get(self.index_of(seq)?)
    }

    /// Puts an event in the place of the one with the number `seq`, which is returned, if that one is kept.
    pub fn replace(&mut self, seq: u64, event: T) -> Option<T> {
        let index = self.index_of(seq)?;
        let place = self.kept.get_mut(index)?;
        self.kept_heap_bytes += event.heap_bytes();
        let before = std::mem::replace(place, event);
        self.kept_heap_bytes -= before.heap_bytes();
        Some(before)
    }

    fn index_of(&self, seq: u64) -> Option<usize> {
        let before_kept = self.seq - self.kept.len() as u64;
        seq.checked_sub(before_kept + 1).map(|index| index as usize)
    }

    /// What came after `seen`.
    pub fn since(&self, seen: u64) -> Missed<impl Iterator<Item = &T>> {
        if seen > self.seq {
            return Missed::Ahead;
        }
        let missed = self.seq - seen;
        if missed > self.kept.len() as u64 && !planted!(ReplaysPart) {
            return Missed::TooOld;
        }
        Missed::Replay(self.kept.iter().skip(self.kept.len().saturating_sub(missed as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for u64 {
        fn heap_bytes(&self) -> usize {
            10
        }
    }

    fn since(history: &History<u64>, seen: u64) -> Missed<Vec<u64>> {
        match history.since(seen) {
            Missed::Replay(events) => Missed::Replay(events.copied().collect()),
            Missed::TooOld => Missed::TooOld,
            Missed::Ahead => Missed::Ahead,
        }
    }

    #[test]
    fn everything_missed_comes_back_or_nothing_does() {
        let mut history = History::new(3);
        assert_eq!(since(&history, 0), Missed::Replay(vec![]));
        for _ in 0..5 {
            history.push(|seq| seq);
        }
        assert_eq!(since(&history, 5), Missed::Replay(vec![]));
        assert_eq!(since(&history, 2), Missed::Replay(vec![3, 4, 5]));
        assert_eq!(since(&history, 1), Missed::TooOld);
        assert_eq!(since(&history, 6), Missed::Ahead);
        assert_eq!(history.heap_bytes(), history.kept.capacity() * 8 + 30, "of those that are kept");
        assert_eq!([2, 3, 5, 6].map(|seq| history.get(seq).copied()), [None, Some(3), Some(5), None]);
        assert_eq!(
            (history.replace(2, 9), history.replace(4, 9), history.replace(6, 9)),
            (None, Some(4), None)
        );
        assert_eq!(since(&history, 2), Missed::Replay(vec![3, 9, 5]));
    }
}
