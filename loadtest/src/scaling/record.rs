//! The file of a scaling run: what was measured so far, where, when and by which command.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::machine::Machine;
use crate::measurement::Measurement;

#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// One for each size that was measured, rising.
    pub measurements: Vec<Measurement>,
}

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
            if record.measurements.is_empty() {
                bail!("it holds no measurement; measure at least one size first")
            }
            let sizes: Vec<_> =
                record.measurements.iter().map(|measurement| measurement.connections).collect();
            if sizes[0] == 0 || !sizes.is_sorted_by(|a, b| a < b) {
                bail!("its measurements are of {sizes:?} connections, which must rise, from at least 1")
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture;

    fn file(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("corelay-scaling-{}-{name}.json", std::process::id()))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let path = file("again");
        let mut record = fixture::record();
        record.measurements[0].shards = None;
        record.write(&path).unwrap();
        let again = Record::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // JSON may round the last bit of a number.
        let page = |record: &Record| crate::scaling::page::html(record, &[]);
        assert_eq!(page(&again), page(&record));
        assert!(!path.with_added_extension("part").exists());
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_with_its_reason() {
        let path = file("bad");
        let mut record = fixture::record();
        record.measurements.swap(0, 1);
        record.write(&path).unwrap();
        let unsorted = format!("{:#}", Record::read(&path).unwrap_err());
        record.measurements.clear();
        record.write(&path).unwrap();
        let empty = format!("{:#}", Record::read(&path).unwrap_err());
        fs::write(&path, "{}").unwrap();
        let other = format!("{:#}", Record::read(&path).unwrap_err());
        fs::remove_file(&path).unwrap();
        assert!(unsorted.contains("[10000, 1000, 100000, 1000000]"), "{unsorted}");
        assert!(empty.contains("no measurement"), "{empty}");
        assert!(other.contains("missing field"), "{other}");
        assert!(format!("{:#}", Record::read(&path).unwrap_err()).contains("bad.json"));
    }

    #[test]
    fn it_is_complete_with_the_last_planned_size() {
        let mut record = Record::begin(&[1000, 10_000], Vec::new());
        assert!(record.date.ends_with('Z') && record.date.starts_with("20"), "{}", record.date);
        record.add(fixture::measurement(1000));
        assert!(!record.complete);
        record.add(fixture::measurement(10_000));
        assert!(record.complete);
    }
}
