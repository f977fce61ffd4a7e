//! Pairs in order, changed once a tick: what belongs to a range of keys is one slice.

use std::ops::RangeInclusive;

use crate::impossible;
use crate::memory::Allocated;
use crate::surplus::Surplus;

/// A set of pairs. What is added and removed shows with `apply`, whose cost is that of one pass over all pairs, however many
/// have changed.
#[derive(Debug)]
pub struct SortedPairs<K, V> {
    pairs: Vec<(K, V)>,
    added: Vec<(K, V)>,
    removed: Vec<(K, V)>,
    /// Room for the next `pairs`.
    spare: Vec<(K, V)>,
}

impl<K, V> Default for SortedPairs<K, V> {
    fn default() -> Self {
        Self { pairs: Vec::new(), added: Vec::new(), removed: Vec::new(), spare: Vec::new() }
    }
}

impl<K: Ord + Copy, V: Ord + Copy> SortedPairs<K, V> {
    /// Adds a pair that will not be there otherwise.
    pub fn add(&mut self, key: K, value: V) {
        self.added.push((key, value));
    }

    /// Removes a pair that is there. It may be added again before `apply`.
    pub fn remove(&mut self, key: K, value: V) {
        self.removed.push((key, value));
    }

    /// Brings the changes since the last call into effect.
    pub fn apply(&mut self) {
        if self.added.is_empty() && self.removed.is_empty() {
            return;
        }
        self.added.sort_unstable();
        self.removed.sort_unstable();
        let mut removed = self.removed.iter().peekable();
        let mut added = self.added.iter().peekable();
        self.spare.clear();
        self.spare.reserve(self.pairs.len() + self.added.len() - self.removed.len().min(self.pairs.len()));
        for pair in &self.pairs {
            while removed.next_if(|gone| *gone < pair).is_some() {
                impossible!("what is removed is there");
            }
            if removed.next_if_eq(&pair).is_some() {
                continue;
            }
            while let Some(new) = added.next_if(|new| *new < pair) {
                self.spare.push(*new);
            }
            self.spare.push(*pair);
        }
        self.spare.extend(added);
        std::mem::swap(&mut self.pairs, &mut self.spare);
        self.added.clear();
        self.removed.clear();
    }

    /// All pairs, in order.
    pub fn all(&self) -> &[(K, V)] {
        &self.pairs
    }

    /// The pairs whose keys are in `keys`, in order.
    pub fn range(&self, keys: RangeInclusive<K>) -> &[(K, V)] {
        slice_of(&self.pairs, keys)
    }

    /// Shrinks what was large for a crowd that is gone.
    pub fn give_back(&mut self) {
        let wanted = self.pairs.len();
        self.spare.clear();
        self.pairs.give_back(wanted);
        self.spare.give_back(wanted);
        self.added.give_back(wanted);
        self.removed.give_back(wanted);
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        [&self.pairs, &self.added, &self.removed, &self.spare].map(Allocated::allocated_bytes).iter().sum()
    }
}

/// The part of `pairs`, which are in order, whose keys are in `keys`.
pub fn slice_of<K: Ord, V>(pairs: &[(K, V)], keys: RangeInclusive<K>) -> &[(K, V)] {
    let start = pairs.partition_point(|(key, _)| key < keys.start());
    let rest = &pairs[start..];
    &rest[..rest.partition_point(|(key, _)| key <= keys.end())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_that_it_should_be() {
        let mut sorted = SortedPairs::default();
        let mut model = BTreeSet::new();
        for round in 0..200_u32 {
            for step in 0..round % 7 {
                let pair = (round * 31 % 11, (round * 17 + step) % 13);
                if model.remove(&pair) {
                    sorted.remove(pair.0, pair.1);
                }
                if step % 3 > 0 && model.insert(pair) {
                    sorted.add(pair.0, pair.1);
                }
            }
            sorted.apply();
            assert!(sorted.all().iter().eq(&model));
            let of_range: Vec<_> = model.range((3, 0)..=(5, u32::MAX)).copied().collect();
            assert_eq!(sorted.range(3..=5), of_range);
        }
    }
}
