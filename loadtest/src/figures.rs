//! The figures a run reports: one list from which the table, the JSON and the assertions are made.

use std::fmt;

use hdrhistogram::Histogram;
use indicatif::HumanCount;

/// What a figure counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    /// A share of 1, or a plain number.
    Number,
    Duration,
    Bytes,
}

/// A figure's name and meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// As in the table and in `--assert`.
    pub name: &'static str,
    pub unit: Unit,
    pub about: &'static str,
    /// It stands in the line at the top of the report, too.
    pub headline: bool,
}

impl Spec {
    /// How its value is found.
    pub const fn of<M>(self, value: fn(&M) -> Value) -> Rule<M> {
        Rule { spec: self, value }
    }

    /// Path in the JSON: what stands before a dot is a section, durations end in `_us`. The dot of `p99.9` is one within a key.
    pub fn json_path(&self) -> (Option<&'static str>, String) {
        let (section, key) = match self.name.split_once('.') {
            Some((section, key)) if !key.starts_with(|letter: char| letter.is_ascii_digit()) => {
                (Some(section), key)
            }
            _ => (None, self.name),
        };
        let suffix = if self.unit == Unit::Duration { "_us" } else { "" };
        (section, key.replace('.', "_") + suffix)
    }
}

/// The value of a figure by its name.
pub fn value_of(figures: &[Figure], name: &str) -> Value {
    let found = figures.iter().find(|figure| figure.spec.name == name);
    found.map_or_else(|| Err(NOT_MEASURED.to_owned()), |figure| figure.value.clone())
}

/// Why a figure that was left out has no value.
pub const NOT_MEASURED: &str = "it was not measured";

pub type Value = Result<f64, String>;

#[derive(Clone, Debug)]
pub struct Figure {
    pub spec: &'static Spec,
    /// Durations in µs.
    pub value: Value,
}

/// A figure, and how its value follows from what a run measured.
pub struct Rule<M: 'static> {
    spec: Spec,
    value: fn(&M) -> Value,
}

pub fn specs<M>(rules: &'static [Rule<M>]) -> Vec<&'static Spec> {
    rules.iter().map(|rule| &rule.spec).collect()
}

/// The figures of one run, in the order of `rules`.
pub fn figures_of<M>(rules: &'static [Rule<M>], measured: &M) -> Vec<Figure> {
    rules.iter().map(|rule| Figure { spec: &rule.spec, value: (rule.value)(measured) }).collect()
}

/// Names of the figures that have no value, by the reason.
pub fn by_reason(figures: &[Figure]) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for figure in figures {
        let Err(reason) = &figure.value else { continue };
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(figure.spec.name),
            None => reasons.push((reason, vec![figure.spec.name])),
        }
    }
    reasons
}

/// The value as a person reads it.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, self.spec.unit) {
            (Err(_), _) => f.write_str("n/a"),
            (Ok(value), unit) => f.write_str(&text(*value, unit)),
        }
    }
}

pub fn text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => grouped(value),
        Unit::Number if value.fract() == 0.0 => format!("{value}"),
        Unit::Number if value.abs() >= 100.0 => grouped(value),
        Unit::Number if value.abs() >= 1.0 && value.abs() < 100.0 => format!("{value:.2}"),
        Unit::Number => format!("{value:.5}"),
        Unit::Duration if value < 1000.0 => format!("{value:.0} µs"),
        Unit::Duration if value < 1e6 => format!("{:.2} ms", value / 1e3),
        Unit::Duration => format!("{:.2} s", value / 1e6),
        Unit::Bytes if value.abs() < 10_240.0 => format!("{value:.0} B"),
        Unit::Bytes if value.abs() < 10_485_760.0 => format!("{:.1} KiB", value / 1024.0),
        Unit::Bytes => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

fn grouped(value: f64) -> String {
    let sign = if value.round() < 0.0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(value.abs().round() as u64))
}

/// A part of a whole, if there is anything.
pub fn share(part: u64, whole: u64) -> Value {
    if whole > 0 { Ok(part as f64 / whole as f64) } else { Err("there was nothing to count".to_owned()) }
}

/// A number that is always known.
#[allow(clippy::unnecessary_wraps, reason = "it stands where others may not be known")]
pub fn count(number: impl Into<u64>) -> Value {
    Ok(number.into() as f64)
}

/// A percentile of latencies in µs, if there are any.
pub fn latency(us: &Histogram<u64>, percentile: f64) -> Value {
    if us.is_empty() {
        Err("nothing arrived".to_owned())
    } else {
        Ok(us.value_at_percentile(percentile) as f64)
    }
}

/// How much a value has grown; unknown if one of the two is.
pub fn difference(after: &Value, before: &Value) -> Value {
    Ok(after.clone()? - before.clone()?)
}

/// A figure that stands in the table.
pub const fn spec(name: &'static str, unit: Unit, about: &'static str) -> Spec {
    Spec { name, unit, about, headline: false }
}

/// A figure that also stands at the top of the report.
pub const fn headline(name: &'static str, unit: Unit, about: &'static str) -> Spec {
    Spec { headline: true, ..spec(name, unit, about) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_in_the_json() {
        let path = |name, unit| spec(name, unit, "").json_path();
        assert_eq!(path("p99.9", Unit::Duration), (None, "p99_9_us".into()));
        assert_eq!(
            path("server.cpu_us_per_frame", Unit::Number),
            (Some("server"), "cpu_us_per_frame".into())
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(text(1_234_567.0, Unit::Count), "1,234,567");
        assert_eq!(text(999.0, Unit::Count), "999");
        assert_eq!(text(0.99973, Unit::Number), "0.99973");
        assert_eq!(text(1.0, Unit::Number), "1");
        assert_eq!(text(51_234.0, Unit::Duration), "51.23 ms");
        assert_eq!(text(-2048.0, Unit::Bytes), "-2048 B");
        assert_eq!(text(50_000_000.0, Unit::Bytes), "47.7 MiB");
    }
}
