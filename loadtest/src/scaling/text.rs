//! Numbers as the charts and the page show them.

use crate::figures::{self, Unit};

/// A number of connections, short: `1k`, `2.5k`, `1M`; all digits where that would hide some.
pub fn size(connections: u32) -> String {
    for (unit, letter) in [(1_000_000, 'M'), (1000, 'k')] {
        if connections >= unit && connections.is_multiple_of(unit / 10) {
            return format!("{}{letter}", f64::from(connections) / f64::from(unit));
        }
    }
    count(f64::from(connections))
}

/// A whole number in groups of three digits.
pub fn count(value: f64) -> String {
    figures::text(value, Unit::Count)
}

/// Three significant digits; whole from 100 on.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => count(value),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Bytes in the largest unit of which there is at least one.
pub fn memory(bytes: f64) -> String {
    match bytes.abs() {
        size if size < 1024.0 => format!("{bytes:.0} B"),
        size if size < 1024f64.powi(2) => format!("{} KiB", short(bytes / 1024.0)),
        size if size < 1024f64.powi(3) => format!("{} MiB", short(bytes / 1024f64.powi(2))),
        _ => format!("{} GiB", short(bytes / 1024f64.powi(3))),
    }
}

/// The number at a tick of an axis: no digits that say nothing.
pub fn tick(value: f64) -> String {
    if value.abs() >= 100.0 {
        return count(value);
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_but_exact() {
        let sizes = [500, 999, 1000, 2500, 1234, 10_000, 100_000, 999_725, 1_000_000, 1_500_000, 1_250_000];
        let texts = sizes.map(size);
        assert_eq!(
            texts,
            ["500", "999", "1k", "2.5k", "1,234", "10k", "100k", "999,725", "1M", "1.5M", "1250k"]
        );
    }

    #[test]
    fn values_have_three_digits() {
        let texts = [0.0, 0.0312, 0.31, 1.234, 9.999, 10.0, 99.99, 100.2, 18_412.7].map(short);
        assert_eq!(texts, ["0.00", "0.031", "0.310", "1.23", "10.0", "10.0", "100", "100", "18,413"]);
    }

    #[test]
    fn memory_has_a_unit_of_its_size() {
        let texts = [0.0, -512.0, 1536.0, 11_534_336.0, 316_834_336.0, 4_608_000_000.0].map(memory);
        assert_eq!(texts, ["0 B", "-512 B", "1.50 KiB", "11.0 MiB", "302 MiB", "4.29 GiB"]);
    }

    #[test]
    fn ticks_have_no_zeros_at_the_end() {
        let texts = [0.0, 0.1 + 0.2, 0.05, 2.0, 50.0, 5000.0].map(tick);
        assert_eq!(texts, ["0", "0.3", "0.05", "2", "50", "5,000"]);
    }
}
