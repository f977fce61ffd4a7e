//! What is measured of every server, and corelay's ratios to the others: each of the same round, as median, least and most.

use super::contender::{CORELAY, Contender};
use crate::figures::Unit::{self, Bytes, Count, Duration, Number};
use crate::figures::{Figure, NOT_MEASURED, Spec, Value, spec, value_of};

/// A value that every server has.
#[derive(Debug)]
pub struct Metric {
    /// After the server's name.
    key: &'static str,
    /// Name of corelay's value / the server's value, if such a ratio says something.
    ratio: Option<&'static str>,
    unit: Unit,
    about: &'static str,
}

const fn metric(key: &'static str, ratio: Option<&'static str>, unit: Unit, about: &'static str) -> Metric {
    Metric { key, ratio, unit, about }
}

/// All but the last are measured in every round.
static METRICS: [Metric; 8] = [
    metric("deliveries_per_cpu_s", Some("deliveries_ratio"), Count, "frames received per CPU second"),
    metric("positions_per_cpu_s", Some("positions_ratio"), Count, "positions in them per CPU second"),
    metric("reach", Some("reach_ratio"), Number, "views that were fresh / views expected"),
    metric("p50", Some("p50_ratio"), Duration, "latency: half of the views arrived within"),
    metric("p99", Some("p99_ratio"), Duration, "latency: 99 % of the views arrived within"),
    metric("server_cpu_cores", None, Number, "processor time of the server / window"),
    metric("client_cpu_cores", None, Number, "processor time of this load test / window"),
    metric("memory_per_connection", Some("memory_ratio"), Bytes, "resident memory per idle connection"),
];
/// Its ratios stand at the top of the report.
const HEADLINE: &str = "deliveries_per_cpu_s";
const MEMORY: usize = METRICS.len() - 1;

/// What one round says of a server: the values of `METRICS` but the memory, from the figures of `rooms`.
pub fn measured(figures: &[Figure], contender: &Contender) -> Vec<Value> {
    let value = |name| value_of(figures, name);
    let cores = contender.known_process().and_then(|()| value("server.cpu_cores"));
    let per_cpu_s = |name| -> Value {
        let cpu_s = cores.clone()? * value("window")? / 1e6;
        if cpu_s > 0.0 { Ok(value(name)? / cpu_s) } else { Err("it used no processor time".to_owned()) }
    };
    vec![
        per_cpu_s("frames_received"),
        per_cpu_s("positions_received"),
        value("reach"),
        value("p50"),
        value("p99"),
        cores.clone(),
        value("client.cpu_cores"),
    ]
}

/// What every server came to: by contender (corelay is the first), then by metric, the value of each round.
#[derive(Debug)]
pub struct Comparison(Vec<[Vec<Value>; METRICS.len()]>);

impl Comparison {
    pub fn new(contenders: usize) -> Self {
        Self(vec![[const { Vec::new() }; METRICS.len()]; contenders])
    }

    /// A complete round: what `measured` said, by contender.
    pub fn add_round(&mut self, round: Vec<Vec<Value>>) {
        for (values, measured) in self.0.iter_mut().zip(round) {
            values.iter_mut().zip(measured).for_each(|(values, value)| values.push(value));
        }
    }

    /// Memory is measured once.
    pub fn add_memory(&mut self, contender: usize, slope: Value) {
        self.0[contender][MEMORY].push(slope);
    }

    /// The figures of `specs`, in its order.
    pub fn figures(&self, specs: &[&'static Spec]) -> Vec<Figure> {
        let mut values = Vec::new();
        for (contender, of_contender) in self.0.iter().enumerate() {
            for (metric, (own, of_corelay)) in METRICS.iter().zip(of_contender.iter().zip(&self.0[0])) {
                values.extend(spread(own.iter().cloned()));
                if metric.ratio.is_some() && contender > 0 {
                    values.extend(spread(
                        own.iter().zip(of_corelay).map(|(own, of_corelay)| ratio(of_corelay, own)),
                    ));
                }
            }
        }
        assert_eq!(values.len(), specs.len(), "every figure has a value");
        specs.iter().zip(values).map(|(spec, value)| Figure { spec, value }).collect()
    }
}

/// Median (of two in the middle their mean), least and most of the same value in all rounds; unknown if one of them is.
fn spread(values: impl Iterator<Item = Value>) -> [Value; 3] {
    let sorted = values.collect::<Result<Vec<f64>, String>>().and_then(|mut values| {
        values.sort_by(f64::total_cmp);
        if values.is_empty() { Err(NOT_MEASURED.to_owned()) } else { Ok(values) }
    });
    let of = |part: fn(&[f64]) -> f64| sorted.as_deref().map(part).map_err(Clone::clone);
    let median = |values: &[f64]| f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    [of(median), of(|values| values[0]), of(|values| values[values.len() - 1])]
}

fn ratio(of_corelay: &Value, own: &Value) -> Value {
    let (of_corelay, own) = (of_corelay.clone()?, own.clone()?);
    if own > 0.0 && of_corelay > 0.0 {
        Ok(of_corelay / own)
    } else {
        Err(format!("{of_corelay:.1} / {own:.1} is no ratio"))
    }
}

/// Names and meanings, in the order of `Comparison::figures`: of each contender each metric and its ratio, with the least and
/// the most of the rounds.
pub fn specs(contenders: &[Contender]) -> Vec<&'static Spec> {
    let mut specs = Vec::new();
    for contender in contenders {
        for metric in &METRICS {
            let ratio = metric.ratio.filter(|_| contender.name != CORELAY).map(|ratio| (ratio, Number));
            for (key, unit) in [Some((metric.key, metric.unit)), ratio].into_iter().flatten() {
                for part in ["", "_min", "_max"] {
                    // There are a few dozen of them, and assertions keep them as long as the process lives.
                    let name = Box::leak(format!("{}.{key}{part}", contender.name).into_boxed_str());
                    let headline = metric.key == HEADLINE && unit == Number && part.is_empty();
                    specs.push(&*Box::leak(Box::new(Spec { headline, ..spec(name, unit, metric.about) })));
                }
            }
        }
    }
    specs
}

/// Every metric with a line for each contender.
pub fn table(contenders: &[Contender], figures: &[Figure]) -> String {
    let mut table = String::new();
    for metric in &METRICS {
        let ratio = if metric.ratio.is_some() { "corelay / it" } else { "" };
        let head = format!("  {:<20}{:>14}  {:<28}{ratio:>14}", "", "median", "min – max");
        table += &format!("{}: {}\n{}\n", metric.key, metric.about, head.trim_end());
        for Contender { name, .. } in contenders {
            let (value, range) = cells(figures, &format!("{name}.{}", metric.key));
            let ratio = metric.ratio.filter(|_| name != CORELAY);
            let (ratio, of_ratio) =
                ratio.map(|ratio| cells(figures, &format!("{name}.{ratio}"))).unwrap_or_default();
            let line = format!("  {name:<20}{value:>14}  {range:<28}{ratio:>14}  {of_ratio}");
            table += &format!("{}\n", line.trim_end());
        }
        table.push('\n');
    }
    table
}

/// Median and range of the figure `name`; a single value has no range.
fn cells(figures: &[Figure], name: &str) -> (String, String) {
    let figure = |part: &str| figures.iter().find(|figure| figure.spec.name == format!("{name}{part}"));
    let text = |part| figure(part).map_or_else(String::new, ToString::to_string);
    let (min, max) = (text("_min"), text("_max"));
    (text(""), if min == max { String::new() } else { format!("{min} – {max}") })
}

/// What `--help` says about the figures.
pub fn help() -> String {
    let lines = METRICS.iter().map(|metric| {
        let ratio = metric.ratio.map(|ratio| format!("; NAME.{ratio}")).unwrap_or_default();
        format!("  NAME.{}{ratio}\n      {}\n", metric.key, metric.about)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions;
    use crate::rooms::FIGURES;

    /// corelay and a peer `go`, two rounds, the second of which is twice as slow for both.
    fn compared() -> (Vec<Contender>, Comparison) {
        let contenders =
            ["corelay", "go"].map(|name| format!("{name}=ws://a:1@7").parse::<Contender>().unwrap());
        let measured = |deliveries: f64, p99_us: f64| {
            [deliveries, deliveries * 50.0, 1.0, 20_000.0, p99_us, 0.5, 0.25].map(Ok).to_vec()
        };
        let mut comparison = Comparison::new(2);
        comparison.add_round(vec![measured(120_000.0, 50_000.0), measured(60_000.0, 60_000.0)]);
        comparison.add_round(vec![measured(60_000.0, 70_000.0), measured(20_000.0, 70_000.0)]);
        comparison.add_memory(0, Ok(300.0));
        (contenders.to_vec(), comparison)
    }

    #[test]
    fn ratios_are_of_the_same_round_and_can_be_asserted() {
        let (contenders, mut comparison) = compared();
        comparison.add_memory(1, Ok(1200.0));
        let specs = specs(&contenders);
        let figures = comparison.figures(&specs);
        let holds = |list| {
            let assertions = assertions::parse(list, &specs).unwrap();
            assertions.iter().all(|assertion| assertion.check(&figures).is_ok())
        };
        assert!(holds(
            "go.deliveries_ratio==2.5,go.deliveries_ratio_min==2,go.deliveries_ratio_max==3,go.p99_ratio_max<=1,\
             go.memory_ratio==0.25,corelay.memory_per_connection<=320,corelay.p99<=60ms,go.deliveries_per_cpu_s==40000"
        ));
        assert!(assertions::parse("corelay.deliveries_ratio>1", &specs).is_err());
        let paths: std::collections::BTreeSet<_> = specs.iter().map(|spec| spec.json_path()).collect();
        assert_eq!(paths.len(), specs.len());

        let table = table(&contenders, &figures);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table.lines().map(words).collect();
        for line in [
            "corelay 90,000 60,000 – 120,000",
            "go 40,000 20,000 – 60,000 2.50 2 – 3",
            "go 65.00 ms 60.00 ms – 70.00 ms 0.91667 0.83333 – 1",
            "go 1200 B 0.25000",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line} is not in\n{table}");
        }
    }

    #[test]
    fn what_is_not_known_in_one_round_is_not_known() {
        let (contenders, mut comparison) = compared();
        comparison.0[1][0][1] = Err("no PID".into());
        let specs = specs(&contenders);
        let value = |comparison: &Comparison, name| value_of(&comparison.figures(&specs), name);
        assert_eq!(value(&comparison, "go.deliveries_ratio_min"), Err("no PID".into()));
        assert_eq!(value(&comparison, "go.memory_ratio"), Err(NOT_MEASURED.into()));
        comparison.add_memory(1, Ok(-3.0));
        assert_eq!(value(&comparison, "go.memory_ratio"), Err("300.0 / -3.0 is no ratio".into()));
    }

    #[test]
    fn what_is_compared_is_per_second_of_processor_time() {
        let known = [
            ("frames_received", 80_000.0),
            ("positions_received", 4e6),
            ("window", 2e6),
            ("server.cpu_cores", 0.5),
        ];
        let figure = |(name, value)| {
            let spec = crate::figures::specs(FIGURES).into_iter().find(|spec| spec.name == name).unwrap();
            Figure { spec, value: Ok(value) }
        };
        let measured = measured(&known.map(figure), &compared().0[1]);
        assert_eq!(measured[..2], [Ok(80_000.0), Ok(4_000_000.0)]);
        assert_eq!(measured[2], Err(NOT_MEASURED.into()));
    }
}
