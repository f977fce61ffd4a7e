//! The horizontal axis of the charts: numbers of connections, logarithmic, with a label at each that was measured.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::text::size;

/// The part of the axis that a label needs for itself.
const LABEL_SHARE: f64 = 0.1;

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

    /// Where a size stands, between 0 and 1.
    fn share(&self, size: u32) -> f64 {
        let [first, last, at] =
            [self.0[0], self.0[self.0.len() - 1], size].map(|size| f64::from(size).log10());
        // Half a step of margin at both ends, for what stands at the first and the last size.
        let margin = if first < last { (last - first) / self.0.len() as f64 * 0.6 } else { 1.0 };
        (at - first + margin) / (last - first + 2.0 * margin)
    }
}

impl Ranged for Sizes {
    type FormatOption = NoDefaultFormatting;
    type ValueType = u32;

    fn map(&self, value: &u32, (left, right): (i32, i32)) -> i32 {
        left + (f64::from(right - left) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<u32> {
        let mut labelled: Vec<u32> = Vec::new();
        for &size in self.0.iter().rev() {
            if labelled.last().is_none_or(|&next| self.share(next) - self.share(size) >= LABEL_SHARE) {
                labelled.push(size);
            }
        }
        labelled
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
    fn labels_do_not_stand_on_each_other() {
        let labels = |sizes: &[u32]| Sizes::new(sizes.to_vec()).key_points(4);
        assert_eq!(labels(&[1000, 10_000, 100_000]), [100_000, 10_000, 1000]);
        assert_eq!(labels(&[1000, 1100, 100_000, 100_001]), [100_001, 1100]);
    }

    #[test]
    fn one_size_stands_in_the_middle() {
        assert_eq!(Sizes::new(vec![1]).map(&1, (100, 300)), 200);
    }
}
