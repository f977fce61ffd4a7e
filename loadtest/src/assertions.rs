//! `--assert 'reach>=0.999,p99<100ms'`: what a run must reach.

use std::fmt;

use anyhow::{Context, bail};

use crate::figures::{Figure, Spec, Unit, text, value_of};

/// One condition on a figure.
#[derive(Clone, Debug)]
pub struct Assertion {
    spec: &'static Spec,
    comparison: Comparison,
    /// In the figure's unit; durations in µs.
    bound: f64,
}

/// Its sign, and whether it holds between a value and the bound.
type Comparison = (&'static str, fn(&f64, &f64) -> bool);

/// Two characters before one: `<=` starts with `<`.
const COMPARISONS: [Comparison; 5] =
    [(">=", f64::ge), ("<=", f64::le), ("==", f64::eq), ("<", f64::lt), (">", f64::gt)];

/// Reads a comma-separated list of assertions on the figures of `specs`.
pub fn parse(list: &str, specs: &[&'static Spec]) -> anyhow::Result<Vec<Assertion>> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse_one(part, specs).with_context(|| format!("--assert '{part}'"))).collect()
}

fn parse_one(part: &str, specs: &[&'static Spec]) -> anyhow::Result<Assertion> {
    let found = COMPARISONS.iter().filter_map(|comparison| Some((part.find(comparison.0)?, *comparison)));
    // The first in the text; of those, the longer sign (it stands first in the list).
    let Some((at, comparison)) = found.min_by_key(|&(at, _)| at) else {
        bail!("there is no comparison; write name, one of >= <= < > ==, value: reach>=0.999")
    };
    let (name, value) = (part[..at].trim(), part[at + comparison.0.len()..].trim());
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
        let names: Vec<_> = specs.iter().map(|spec| spec.name).collect();
        bail!("there is no figure '{name}'; there are: {}", names.join(", "))
    };
    Ok(Assertion { spec, comparison, bound: bound(value, spec)? })
}

fn bound(value: &str, spec: &Spec) -> anyhow::Result<f64> {
    let digits = value.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: f64 = number.parse().with_context(|| format!("'{value}' is no number"))?;
    match (spec.unit, unit.trim()) {
        (Unit::Duration, "us" | "µs") => Ok(number),
        (Unit::Duration, "ms") => Ok(number * 1e3),
        (Unit::Duration, "s") => Ok(number * 1e6),
        (Unit::Duration, _) => bail!("{} is a duration: give it in us, ms or s, as in 100ms", spec.name),
        (Unit::Count | Unit::Number | Unit::Bytes, "") => Ok(number),
        (Unit::Count | Unit::Number | Unit::Bytes, unit) => {
            bail!("{} is a plain number, without '{unit}'", spec.name)
        }
    }
}

impl Assertion {
    /// `Ok`: it holds. `Err`: why it does not.
    pub fn check(&self, figures: &[Figure]) -> Result<(), String> {
        let value = value_of(figures, self.spec.name).map_err(|why| format!("it is not known: {why}"))?;
        let holds = self.comparison.1(&value, &self.bound);
        if holds { Ok(()) } else { Err(format!("it is {}", text(value, self.spec.unit))) }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.spec.name, self.comparison.0, text(self.bound, self.spec.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::spec;

    static SPECS: &[&Spec] = &[
        &spec("joined", Unit::Count, ""),
        &spec("reach", Unit::Number, ""),
        &spec("p99", Unit::Duration, ""),
        &spec("p99.9", Unit::Duration, ""),
    ];

    fn figure(name: &str, value: f64) -> Figure {
        let spec = SPECS.iter().find(|spec| spec.name == name).unwrap();
        Figure { spec, value: Ok(value) }
    }

    fn holds(assertion: &str, figure: &Figure) -> bool {
        let assertions = parse(assertion, SPECS).unwrap();
        assertions.iter().all(|assertion| assertion.check(std::slice::from_ref(figure)).is_ok())
    }

    #[test]
    fn every_comparison_is_read_and_checked() {
        let reach = figure("reach", 0.999);
        for good in ["reach>=0.999", " reach <= 0.999 ", "reach==0.999", "reach<1", "reach>0.99", ""] {
            assert!(holds(good, &reach), "{good}");
        }
        for bad in ["reach>=0.9991", "reach<=0.99", "reach==1", "reach<0.999", "reach>0.999"] {
            assert!(!holds(bad, &reach), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        let p99 = figure("p99.9", 75_000.0);
        for good in ["p99.9<=75ms", "p99.9<=0.075s", "p99.9==75000us", "p99.9==75000µs"] {
            assert!(holds(good, &p99), "{good}");
        }
        assert!(!holds("p99.9<75ms", &p99));
    }

    #[test]
    fn mistakes_are_told_with_what_is_right() {
        let error = |list: &str| format!("{:#}", parse(list, SPECS).unwrap_err());
        assert!(error("p98<1ms").contains("there are: joined"), "{}", error("p98<1ms"));
        assert!(error("p99<100").contains("100ms"));
        assert!(error("reach>=0.9ms").contains("plain number"));
        assert!(error("reach=0.9").contains(">="));
        assert!(error("reach>=high").contains("no number"));
    }
}
