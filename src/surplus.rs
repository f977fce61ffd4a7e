//! Shrinks containers that were large for a crowd that is gone. Their owners look at them once a second, so that no message pays
//! for it.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use crate::limits::ENTRIES_KEPT;
use crate::memory::Allocated;

/// Whether `reserved` places are far too many for `wanted` entries: more than four times as many, or any at all for none. A
/// container that has shrunk to twice what is wanted is far from both shrinking again and growing again.
pub fn is_surplus(reserved: usize, wanted: usize) -> bool {
    match wanted {
        0 => reserved > 0,
        _ => reserved > 4 * wanted.max(ENTRIES_KEPT),
    }
}

/// A container of the standard library.
pub trait Surplus {
    /// If what is reserved `is_surplus`, shrinks to twice what `wanted` entries take, or what is in it, if that is more; and to
    /// nothing, if nothing is in it and nothing is wanted, because even a few bytes keep the allocator from returning the page
    /// that they are in, which is 64 KiB or more.
    ///
    /// `wanted` is what may come again at any time: a queue that is empty once a second may have been full in between.
    fn give_back(&mut self, wanted: usize);
}

impl<T> Surplus for Vec<T> {
    fn give_back(&mut self, wanted: usize) {
        if let Some(capacity) = smaller(self.capacity(), wanted.max(self.len())) {
            self.shrink_to(capacity);
        }
    }
}

impl<T> Surplus for VecDeque<T> {
    fn give_back(&mut self, wanted: usize) {
        if let Some(capacity) = smaller(self.capacity(), wanted.max(self.len())) {
            self.shrink_to(capacity);
        }
    }
}

impl<T: Ord> Surplus for BinaryHeap<T> {
    fn give_back(&mut self, wanted: usize) {
        if let Some(capacity) = smaller(self.capacity(), wanted.max(self.len())) {
            self.shrink_to(capacity);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Surplus for HashMap<K, V, S> {
    fn give_back(&mut self, wanted: usize) {
        if let Some(capacity) = smaller(self.capacity(), wanted.max(self.len())) {
            self.shrink_to(capacity);
        }
    }
}

fn smaller(capacity: usize, wanted: usize) -> Option<usize> {
    let kept = if wanted == 0 { 0 } else { 2 * wanted.max(ENTRIES_KEPT) };
    is_surplus(capacity, wanted).then_some(kept)
}

/// Things that are kept for the next use; the one that came back last is taken first.
///
/// Invariant: the first `idle` of them have not been taken since the last `give_back`.
#[derive(Debug)]
pub struct Spares<T> {
    things: Vec<T>,
    idle: usize,
}

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self { things: Vec::new(), idle: 0 }
    }
}

impl<T> Spares<T> {
    /// Takes one.
    pub fn take(&mut self) -> Option<T> {
        let thing = self.things.pop();
        self.idle = self.idle.min(self.things.len());
        thing
    }

    /// Keeps one.
    pub fn keep(&mut self, thing: T) {
        self.things.push(thing);
    }

    /// Number of things.
    pub fn count(&self) -> usize {
        self.things.len()
    }

    /// The things that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }

    /// Drops the things that nobody has needed since the last call.
    pub fn give_back(&mut self) {
        self.things.drain(..self.idle);
        self.idle = self.things.len();
        self.things.give_back(0);
    }
}

impl<T> Allocated for Spares<T> {
    fn allocated_bytes(&self) -> usize {
        self.things.allocated_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_shrinks_only_when_it_is_far_too_large_and_then_rests() {
        let mut queue: VecDeque<u8> = VecDeque::with_capacity(100_000);
        queue.give_back(25_000);
        assert!(queue.capacity() >= 100_000, "four times what is wanted");
        queue.give_back(20_000);
        let shrunk = queue.capacity();
        assert!((40_000..50_000).contains(&shrunk), "{shrunk}");
        queue.give_back(20_000);
        assert_eq!(queue.capacity(), shrunk);
        queue.give_back(1);
        assert!((ENTRIES_KEPT..=4 * ENTRIES_KEPT).contains(&queue.capacity()), "{}", queue.capacity());
        queue.give_back(0);
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn what_is_in_a_container_stays() {
        let mut list = Vec::with_capacity(100_000);
        list.extend(0..10_000);
        list.give_back(0);
        assert!(list.capacity() < 40_000 && list.iter().copied().eq(0..10_000));
    }

    #[test]
    fn spares_that_nobody_needs_are_dropped_at_the_second_look() {
        let mut spares = Spares::default();
        (0..10).for_each(|thing| spares.keep(thing));
        spares.give_back();
        assert_eq!(spares.count(), 10, "they have just come");
        let taken = [(); 3].map(|()| spares.take().unwrap());
        taken.into_iter().rev().for_each(|thing| spares.keep(thing));
        spares.give_back();
        assert!(spares.iter().copied().eq([7, 8, 9]), "three at once were needed");
        spares.give_back();
        assert_eq!((spares.count(), spares.take()), (0, None));
    }
}
