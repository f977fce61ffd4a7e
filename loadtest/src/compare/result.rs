//! What was measured, and corelay's ratios to the others: each of the same round, as median, least and most.

use std::fmt;

use super::contender::{CORELAY, Contender, NO_PID};
use super::metrics::{MEMORY, METRICS, Metric};
use crate::figures::{Figure, NOT_MEASURED, Spec, Unit, Value, text, value_of};

/// One server in one round: values as in `METRICS`.
#[derive(Clone, Debug)]
pub struct Measured([Value; METRICS.len()]);

impl Measured {
    /// Takes what is compared from the figures of `rooms`.
    pub fn new(figures: &[Figure], contender: &Contender) -> Self {
        let value = |name| value_of(figures, name);
        let cores = if contender.has_no_pid() { Err(NO_PID.to_owned()) } else { value("server.cpu_cores") };
        let per_cpu_s = |name| -> Value {
            let cpu_s = cores.clone()? * value("window")? / 1e6;
            if cpu_s > 0.0 { Ok(value(name)? / cpu_s) } else { Err("it used no processor time".to_owned()) }
        };
        Self([
            per_cpu_s("frames_received"),
            per_cpu_s("positions_received"),
            value("reach"),
            value("p50"),
            value("p99"),
            cores.clone(),
            value("client.cpu_cores"),
        ])
    }
}

/// One line, for whoever waits.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (metric, value)) in METRICS.iter().zip(&self.0).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let value = value.as_ref().map_or_else(|_| "n/a".to_owned(), |&value| text(value, metric.unit));
            write!(f, "{comma}{} {value}", metric.key)?;
        }
        Ok(())
    }
}

/// How a value came out over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle, or the mean of the two that are.
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// Of the same value in all rounds; unknown if one of them is.
pub fn spread(values: impl Iterator<Item = Value>) -> Result<Spread, String> {
    let mut values = values.collect::<Result<Vec<f64>, String>>()?;
    values.sort_by(f64::total_cmp);
    let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
        return Err(NOT_MEASURED.to_owned());
    };
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Ok(Spread { median, min, max })
}

#[derive(Debug)]
pub struct Comparison {
    pub contenders: Vec<Contender>,
    /// By round, then by contender.
    pub rounds: Vec<Vec<Measured>>,
    /// By contender; bytes.
    pub memory: Vec<Value>,
    pub complete: bool,
    pub warnings: Vec<String>,
}

/// A metric of one contender.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub metric: &'a Metric,
    pub value: Result<Spread, String>,
    /// corelay's value / this one; `None`: the metric has no ratio, or the row is corelay's own.
    pub ratio: Option<Result<Spread, String>>,
}

impl Comparison {
    pub fn new(contenders: &[Contender]) -> Self {
        Self {
            contenders: contenders.to_vec(),
            rounds: Vec::new(),
            memory: vec![Err(NOT_MEASURED.to_owned()); contenders.len()],
            complete: false,
            warnings: Vec::new(),
        }
    }

    /// What is known of a contender: `METRICS`, then `MEMORY`.
    pub fn rows(&self, contender: usize) -> Vec<Row<'static>> {
        let is_corelay = contender == 0;
        let row = |metric: &'static Metric, values: &[(Value, Value)]| Row {
            metric,
            value: spread(values.iter().map(|(own, _)| own.clone())),
            ratio: (metric.ratio.is_some() && !is_corelay)
                .then(|| spread(values.iter().map(|(own, of_corelay)| ratio(of_corelay, own)))),
        };
        let of_rounds = METRICS.iter().enumerate().map(|(index, metric)| {
            let values = self
                .rounds
                .iter()
                .map(|round| (round[contender].0[index].clone(), round[0].0[index].clone()));
            row(metric, &values.collect::<Vec<_>>())
        });
        let memory = row(&MEMORY, &[(self.memory[contender].clone(), self.memory[0].clone())]);
        of_rounds.chain([memory]).collect()
    }

    /// The figures of `specs`, for assertions and the JSON.
    pub fn figures(&self, specs: &'static [Spec]) -> Vec<Figure> {
        let values = (0..self.contenders.len()).flat_map(|contender| {
            self.rows(contender).into_iter().flat_map(|row| {
                let ratio = row.ratio.into_iter().flat_map(|ratio| {
                    let part = |part: fn(Spread) -> f64| ratio.clone().map(part);
                    [part(|spread| spread.median), part(|spread| spread.min), part(|spread| spread.max)]
                });
                std::iter::once(row.value.map(|spread| spread.median)).chain(ratio).collect::<Vec<_>>()
            })
        });
        let figures: Vec<_> = specs.iter().zip(values).map(|(spec, value)| Figure { spec, value }).collect();
        assert_eq!(figures.len(), specs.len(), "every figure has a value");
        figures
    }
}

/// Names and meanings, in the order of `Comparison::figures`: of each contender each metric, and its ratio with the least and
/// the most of the rounds.
pub fn specs(contenders: &[Contender]) -> Vec<Spec> {
    let mut specs = Vec::new();
    for contender in contenders {
        for metric in METRICS.iter().chain([&MEMORY]) {
            let mut add = |key: String, unit| {
                // There are a few dozen of them, and assertions keep them as long as the process lives.
                let name = Box::leak(format!("{}.{key}", contender.name).into_boxed_str());
                specs.push(Spec { name, unit, about: metric.about, headline: false });
            };
            add(metric.key.to_owned(), metric.unit);
            if let Some(ratio) = metric.ratio.filter(|_| contender.name != CORELAY) {
                ["", "_min", "_max"].iter().for_each(|part| add(format!("{ratio}{part}"), Unit::Number));
            }
        }
    }
    specs
}

fn ratio(of_corelay: &Value, own: &Value) -> Value {
    let (of_corelay, own) = (of_corelay.clone()?, own.clone()?);
    if own > 0.0 && of_corelay > 0.0 {
        Ok(of_corelay / own)
    } else {
        Err(format!("{of_corelay:.1} / {own:.1} is no ratio"))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::compare::contender::Origin;
    use crate::compare::extra_peer::ExtraPeer;
    use crate::dialect::DialectName;

    /// corelay and a peer `go`, two rounds, the second of which is twice as slow for both.
    pub fn comparison() -> Comparison {
        let contender = |name: &str| Contender {
            name: name.to_owned(),
            dialect: DialectName::Raw,
            origin: Origin::Elsewhere(format!("{name}=ws://a:1@7").parse::<ExtraPeer>().unwrap()),
        };
        let mut comparison = Comparison::new(&[contender(CORELAY), contender("go")]);
        let measured = |deliveries: f64, p99_us: f64| {
            Measured([
                Ok(deliveries),
                Ok(deliveries * 50.0),
                Ok(1.0),
                Ok(20_000.0),
                Ok(p99_us),
                Ok(0.5),
                Ok(0.25),
            ])
        };
        comparison.rounds = vec![
            vec![measured(120_000.0, 50_000.0), measured(60_000.0, 60_000.0)],
            vec![measured(60_000.0, 70_000.0), measured(20_000.0, 70_000.0)],
        ];
        comparison.memory = vec![Ok(300.0), Ok(1200.0)];
        comparison.complete = true;
        comparison
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let rows = comparison().rows(1);
        assert_eq!(rows[0].value, Ok(Spread { median: 40_000.0, min: 20_000.0, max: 60_000.0 }));
        assert_eq!(rows[0].ratio, Some(Ok(Spread { median: 2.5, min: 2.0, max: 3.0 })));
        assert_eq!(rows[5].ratio, None);
        assert_eq!(rows[7].ratio, Some(Ok(Spread { median: 0.25, min: 0.25, max: 0.25 })));
        assert!(comparison().rows(0).iter().all(|row| row.ratio.is_none()));
    }

    #[test]
    fn figures_have_the_names_of_their_servers_and_can_be_asserted() {
        let comparison = comparison();
        let specs = Box::leak(specs(&comparison.contenders).into_boxed_slice());
        let figures = comparison.figures(specs);
        let holds = |list| {
            let assertions = crate::assertions::parse(list, specs).unwrap();
            assertions.iter().all(|assertion| assertion.check(&figures).is_ok())
        };
        assert!(holds(
            "go.deliveries_ratio>=2.5,go.deliveries_ratio_min==2,go.p99_ratio_max<=1,go.memory_ratio<=0.25,\
             corelay.memory_per_connection<=320,corelay.p99<=60ms,go.deliveries_per_cpu_s==40000"
        ));
        assert!(!holds("go.deliveries_ratio>2.5"));
        assert!(crate::assertions::parse("corelay.deliveries_ratio>1", specs).is_err());
        let paths: std::collections::BTreeSet<_> = specs.iter().map(Spec::json_path).collect();
        assert_eq!(paths.len(), specs.len());
    }

    #[test]
    fn what_is_not_known_in_one_round_is_not_known() {
        let mut comparison = comparison();
        comparison.rounds[1][1].0[0] = Err("no PID".into());
        comparison.memory[1] = Ok(-3.0);
        let rows = comparison.rows(1);
        assert_eq!(
            (rows[0].value.clone(), rows[0].ratio.clone()),
            (Err("no PID".into()), Some(Err("no PID".into())))
        );
        assert_eq!(rows[7].ratio, Some(Err("300.0 / -3.0 is no ratio".into())));
        assert_eq!(spread(std::iter::empty()), Err(NOT_MEASURED.into()));
    }

    #[test]
    fn what_is_compared_is_per_second_of_processor_time() {
        use crate::rooms::FIGURES;
        let figure = |name: &str, value: f64| Figure {
            spec: FIGURES.iter().find(|spec| spec.name == name).unwrap(),
            value: Ok(value),
        };
        let figures = [
            figure("frames_received", 80_000.0),
            figure("positions_received", 4_000_000.0),
            figure("window", 2_000_000.0),
            figure("server.cpu_cores", 0.5),
        ];
        let measured = Measured::new(&figures, &comparison().contenders[1]).0;
        assert_eq!(measured[..2], [Ok(80_000.0), Ok(4_000_000.0)]);
        assert_eq!(measured[2], Err(NOT_MEASURED.into()));
    }
}
