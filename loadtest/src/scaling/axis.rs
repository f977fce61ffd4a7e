//! The horizontal axis of the charts: numbers of connections, logarithmic, with a label at each that was measured.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::text::size;

/// Invariant: at least one size, rising, from 1.
pub struct Sizes(Vec<u32>);

impl Sizes {
    /// The axis for these numbers of connections.
    ///
    /// # Panics
    /// When there is none, one is 0, or they do not rise: a record that was read has been checked for it.
    pub fn new(sizes: Vec<u32>) -> Self {
        assert!(
            sizes.first().is_some_and(|&first| first > 0) && sizes.is_sorted_by(|a, b| a < b),
            "{sizes:?}"
        );
        Self(sizes)
    }
}

impl Ranged for Sizes {
    type FormatOption = NoDefaultFormatting;
    type ValueType = u32;

    fn map(&self, value: &u32, (left, right): (i32, i32)) -> i32 {
        let [first, last, at] =
            [self.0[0], self.0[self.0.len() - 1], *value].map(|size| f64::from(size).log10());
        // Half a step of margin at both ends, for what stands at the first and the last size.
        let margin = if first < last { (last - first) / self.0.len() as f64 * 0.6 } else { 1.0 };
        let share = (at - first + margin) / (last - first + 2.0 * margin);
        left + (f64::from(right - left) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<u32> {
        self.0.clone()
    }

    fn range(&self) -> Range<u32> {
        self.0[0]..self.0[self.0.len() - 1]
    }
}

impl ValueFormatter<u32> for Sizes {
    fn format_ext(&self, value: &u32) -> String {
        size(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_are_equally_far_apart() {
        let axis = Sizes::new(vec![1000, 10_000, 100_000, 1_000_000]);
        let at = |size| axis.map(&size, (0, 3900));
        assert_eq!([1000, 10_000, 100_000, 1_000_000].map(at), [450, 1450, 2450, 3450]);
        assert_eq!(at(31_623), 1950);
        assert_eq!(axis.format_ext(&100_000), "100k");
    }

    #[test]
    fn one_size_stands_in_the_middle() {
        assert_eq!(Sizes::new(vec![1]).map(&1, (100, 300)), 200);
    }
}
