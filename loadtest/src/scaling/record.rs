//! The file of a scaling run: what was measured so far, where, when and by which command; and the figures of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::figures::Unit::{Count, Duration, Number};
use crate::figures::{Rule, Value, count, headline, spec};
use crate::machine::Machine;
use crate::million::Measurement;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The command line, as a shell would take it.
    pub command: String,
    pub version: String,
    /// When the run began: RFC 3339, UTC.
    pub date: String,
    pub machine: Machine,
    /// Name and value of what was the same at all sizes and decides what they cost.
    pub settings: Vec<(String, String)>,
    /// The sizes that were asked for, rising.
    pub planned: Vec<u32>,
    /// Whether all of them were measured.
    pub complete: bool,
    /// Why they were not, if that is known.
    pub ended_by: Option<String>,
    /// One for each size that was measured, rising; at least one when it is written.
    pub measurements: Vec<Measurement>,
}

/// Figures of `scaling`; what is not said to be of all sizes is of the largest.
pub static FIGURES: &[Rule<Record>] = &[
    headline("connections", Count, "connections asked for").of(|run| count(run.largest().connections)),
    spec("joined", Count, "players that got their Welcome").of(|run| run.largest().value("joined")),
    headline("refused", Count, "connections that did not, over all sizes")
        .of(|run| run.of_all("refused", |sum, size| sum + size)),
    headline("dropped", Count, "players whose connection ended before its time, over all sizes")
        .of(|run| run.of_all("dropped", |sum, size| sum + size)),
    headline("user", Number, "bytes of the relay's resident memory per player")
        .of(|run| run.largest().value("user_bytes_per_player")),
    headline("kernel", Number, "bytes of kernel memory per connection, one end")
        .of(|run| run.largest().value("kernel_bytes_per_connection")),
    spec("rss_left", Number, "resident memory when everybody has gone / before the first")
        .of(|run| Ok(run.largest().value("rss_after_bytes")? / run.largest().value("rss_start_bytes")?)),
    spec("idle_cpu_cores", Number, "processor time of the relay / time while nobody moves")
        .of(|run| run.largest().value("idle_cpu_cores")),
    spec("frame_cpu_us", Number, "µs of the relay's processor time per delivered frame")
        .of(|run| run.largest().value("cpu_us_per_frame")),
    spec("flat", Number, "frame_cpu_us / that at the smallest size with as many active players")
        .of(Record::flat),
    headline("reach", Number, "fresh / expected views of moves, the lowest of all sizes")
        .of(|run| run.of_all("reach", f64::min)),
    headline("p99", Duration, "age of a move when it is seen: 99 % of the views")
        .of(|run| run.largest().value("p99_us")),
];

impl Record {
    /// A run that begins now, by this process.
    pub fn begin(planned: &[u32], settings: Vec<(String, String)>) -> Self {
        let now = OffsetDateTime::from_unix_timestamp(clock::unix_s().cast_signed());
        let arguments: Vec<_> = std::env::args().collect();
        let date = now.ok().and_then(|now| now.format(&Rfc3339).ok());
        Self {
            command: shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            date: date.unwrap_or_else(|| "unknown".to_owned()),
            machine: Machine::here(),
            settings,
            planned: planned.to_vec(),
            complete: false,
            ended_by: None,
            measurements: Vec::new(),
        }
    }

    /// Adds what was measured at the next of the planned sizes.
    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
        self.complete = self.measurements.len() == self.planned.len();
    }

    /// Reads what [`Record::write`] wrote.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let record: Self = serde_json::from_slice(&fs::read(path)?)?;
            let sizes: Vec<_> = record.measurements.iter().map(|at| at.connections).collect();
            if sizes.first().is_none_or(|&first| first == 0) || !sizes.is_sorted_by(|a, b| a < b) {
                bail!(
                    "its measurements are of {sizes:?} connections: there must be one, and they must rise from at least 1"
                )
            }
            Ok(record)
        };
        read().with_context(|| format!("--from-json {}", path.display()))
    }

    /// Replaces the file at once or not at all: a run that is killed keeps what it has.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let part = path.with_added_extension("part");
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, path))
            .with_context(|| path.display().to_string())
    }

    /// Why it is not all that was planned; `None` if it is.
    pub fn incomplete(&self) -> Option<String> {
        let (measured, planned) = (self.measurements.len(), self.planned.len());
        let why = self.ended_by.as_deref().unwrap_or("ended before its time");
        (!self.complete).then(|| format!("incomplete, {measured} of {planned} sizes measured: {why}"))
    }

    /// What the relay ran on, if it told.
    pub fn driver(&self) -> Option<&str> {
        self.measurements.iter().find_map(|at| at.driver.as_deref())
    }

    fn largest(&self) -> &Measurement {
        &self.measurements[self.measurements.len() - 1]
    }

    fn of_all(&self, name: &str, both: fn(f64, f64) -> f64) -> Value {
        let mut values = self.measurements.iter().map(|at| at.value(name));
        let first = values.next().expect("there is a largest size");
        values.try_fold(first?, |sum, value| Ok(both(sum, value?)))
    }

    /// Processor time per frame at the largest size as a multiple of that at the smallest size with the same active players.
    /// With fewer of them a frame would differ for what they do, not for how many are silent.
    fn flat(&self) -> Value {
        let last = self.largest();
        let active = last.value("active_players")?;
        let base = self.measurements.iter().find(|at| at.value("active_players") == Ok(active));
        let Some(base) = base.filter(|base| base.connections < last.connections) else {
            return Err(format!("no smaller size has the {active} active players of the largest one"));
        };
        Ok(last.value("cpu_us_per_frame")? / base.value("cpu_us_per_frame")?)
    }
}
