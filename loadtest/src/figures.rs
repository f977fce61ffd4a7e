//! The figures a run reports: one list from which the table, the JSON and the assertions are made.

use std::collections::BTreeMap;
use std::fmt;

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
    /// Path in the JSON: sections as in the name, durations with `_us`, no dot within a key.
    pub fn json_path(&self) -> (Option<&'static str>, String) {
        let (section, key) = match self.name.split_once('.') {
            Some((section @ ("server" | "client"), key)) => (Some(section), key),
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

/// Puts values to names: `specs` in order, each exactly once.
///
/// # Panics
/// When a name is not in `specs`, or one of them is missing: the list and the code that fills it must agree.
pub fn fill(specs: &'static [Spec], values: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<Figure> {
    let mut values: BTreeMap<_, _> = values.into_iter().collect();
    let mut take = |name| values.remove(name).unwrap_or_else(|| panic!("no value for {name}"));
    let figures = specs.iter().map(|spec| Figure { spec, value: take(spec.name) }).collect();
    assert!(values.is_empty(), "there is no figure {values:?}");
    figures
}

/// Names that have no value, by the reason.
pub fn by_reason<N>(values: impl IntoIterator<Item = (N, Value)>) -> Vec<(String, Vec<N>)> {
    let mut reasons: Vec<(String, Vec<N>)> = Vec::new();
    for (name, value) in values {
        let Err(reason) = value else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
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
