//! How connections ended: texts that came many times, each kept once, with a count.

use std::collections::BTreeMap;

/// Different texts that are kept; further ones are only counted.
const TEXTS_MAX: usize = 5;

/// Texts with how often each came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    counts: BTreeMap<String, u64>,
    others: u64,
}

impl Texts {
    pub fn count(&mut self, text: &str) {
        self.count_times(text, 1);
    }

    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(text, &times)| self.count_times(text, times));
        self.others += other.others;
    }

    /// All texts, those that were not kept included.
    pub fn total(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.others
    }

    /// Every text with its count; those that were not kept come last, as one.
    pub fn lines(&self) -> impl Iterator<Item = (&str, u64)> {
        let kept = self.counts.iter().map(|(text, &times)| (text.as_str(), times));
        kept.chain((self.others > 0).then_some(("(others)", self.others)))
    }

    fn count_times(&mut self, text: &str, times: u64) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += times;
        } else if self.counts.len() < TEXTS_MAX {
            self.counts.insert(text.to_owned(), times);
        } else {
            self.others += times;
        }
    }
}

/// What became of the connections that did not stay, and what the relay said of its reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    pub failures: Texts,
    /// How connections ended that had joined, before the goodbyes: code and reason word. 1006 stands for an end without a close
    /// frame.
    pub closes: Texts,
    /// How connections ended that had stopped reading.
    pub stalled_closes: Texts,
    pub errors: Texts,
}

impl Endings {
    pub fn add(&mut self, other: &Self) {
        self.failures.add(&other.failures);
        self.closes.add(&other.closes);
        self.stalled_closes.add(&other.stalled_closes);
        self.errors.add(&other.errors);
    }

    /// Why connections did not join, to be appended to an error.
    pub fn causes(&self) -> String {
        self.failures.lines().map(|(text, count)| format!("\n  did not join: {count} × {text}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_beyond_the_first_few_are_counted_together() {
        let mut told = Texts::default();
        for number in 0..8 {
            told.count(&format!("text {number}"));
            told.count("text 0");
        }
        let mut twice = told.clone();
        twice.add(&told);
        assert_eq!((told.total(), twice.total()), (16, 32));
        assert_eq!(twice.lines().next(), Some(("text 0", 18)));
        assert_eq!(twice.lines().last(), Some(("(others)", 6)));
    }
}
