//! `scaling`: the same run at a thousand, ten thousand, … a million connections, as JSON and as a page of charts.

mod arguments;
mod charts;
mod page;
mod record;

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use humantime::format_duration;

use crate::figures::{figures_of, specs};
use crate::million::{self, ActiveGames, CLOSE_AFTER_MS, Load, Measurement, PING_AFTER_MS, TICK_HZ};
use crate::report::{self, Report};
use record::Record;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use record::FIGURES;

/// Where the page goes if nothing is said.
const PAGE: &str = "corelay-scaling.html";
/// The smallest size below `--to`; each further one is ten times as large.
const SMALLEST: u32 = 1000;

/// Measures one size: from a number of connections to what they cost, and what failed when that was known. Ends early, with or
/// without an error, when interrupted.
type Measure<'a> = &'a mut dyn FnMut(u32) -> anyhow::Result<(Measurement, Option<anyhow::Error>)>;

/// Runs the scenario, or draws an earlier run again; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    run_with(arguments, interrupted, &mut |connections| {
        million::measure(arguments.relay.as_deref(), connections, &arguments.load, interrupted)
    })
}

fn run_with(arguments: &Arguments, interrupted: &AtomicBool, measure: Measure<'_>) -> anyhow::Result<bool> {
    let files = Files::of(arguments)?;
    let mut failure = None;
    let holds = report::run(&arguments.output(), &specs(FIGURES), || {
        let record = match &arguments.from_json {
            Some(path) => Record::read(path)?,
            None => {
                files.check()?;
                let sizes = sizes(arguments)?;
                // If standard error is closed, nobody reads it.
                let _ = writeln!(io::stderr(), "{}", plan(&sizes, &arguments.load));
                let mut record = Record::begin(&sizes, settings(&arguments.load));
                failure = measure_all(&mut record, &files, interrupted, measure)?;
                record
            }
        };
        files.write_page(&record)?;
        Ok(Report {
            command: "scaling",
            title: format!("{} connections: {}", page::sizes(&record), files.page.display()),
            complete: record.complete,
            driver: record.driver().map(str::to_owned),
            figures: figures_of(FIGURES, &record),
            warnings: record.incomplete().into_iter().collect(),
            ..Report::default()
        })
    })?;
    failure.map_or(Ok(holds), Err)
}

/// What is going to be done, and how long it takes: most of it is waiting, which is the same for small sizes.
fn plan(sizes: &[u32], load: &Load) -> String {
    let time: Duration = sizes.iter().map(|&size| million::run_time(load, size)).sum();
    let listed: Vec<_> = sizes.iter().map(u32::to_string).collect();
    format!(
        "{} connections: about {} in all. Each size has a relay of its own, is silent for {}, moves for {}, and is looked at until \
         the relay has given its memory back, some 30s",
        listed.join(", "),
        rounded(time),
        format_duration(load.quiet),
        format_duration(load.hold)
    )
}

/// In whole seconds.
fn rounded(time: Duration) -> impl Display {
    format_duration(Duration::from_secs(time.as_secs_f64().round() as u64))
}

/// What decides about the numbers and is the same at all sizes, for the reader.
fn settings(load: &Load) -> Vec<(String, String)> {
    let active = match load.active_games {
        ActiveGames::Share(share) => format!("{} % of the games, another load at each size", share * 100.0),
        ActiveGames::Games(games) => format!("{games} games at every size, or all that it has"),
    };
    let (ping_after_s, close_after_s) = (PING_AFTER_MS / 1000, CLOSE_AFTER_MS / 1000);
    let (quiet_s, hold_s) = (load.quiet.as_secs_f64(), load.hold.as_secs_f64());
    let lines = [
        ("Games", format!("of {} players, {TICK_HZ} ticks a second", load.players)),
        ("Active", format!("{active}; {} moves a second of each player", load.hz)),
        ("Time", format!("{} connections a second, {quiet_s} s idle, {hold_s} s active", load.ramp)),
        ("Liveness", format!("pinged after {ping_after_s} s of silence, closed after {close_after_s} s")),
    ];
    lines.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Adds the sizes to the record, which is written after each. `Some`: what ended it before its time, other than Ctrl-C.
/// An error where there is nothing to draw.
fn measure_all(
    record: &mut Record,
    files: &Files,
    interrupted: &AtomicBool,
    measure: Measure<'_>,
) -> anyhow::Result<Option<anyhow::Error>> {
    let sizes = record.planned.clone();
    let mut failure = None;
    for (number, connections) in sizes.iter().enumerate() {
        // If standard error is closed, nobody reads it.
        let _ = writeln!(io::stderr(), "{connections} connections, size {} of {}", number + 1, sizes.len());
        let measured = measure(*connections);
        // An interruption cuts the size short, so that neither its numbers nor its error mean anything.
        if interrupted.load(Relaxed) {
            record.ended_by = Some(format!("interrupted at {connections} connections"));
            break;
        }
        let (when, error) = match measured {
            Ok((measurement, error)) => {
                record.add(measurement);
                ("during the goodbyes of", error)
            }
            Err(error) => ("at", Some(error)),
        };
        if let Some(error) = error {
            record.complete = false;
            record.ended_by = Some(format!("{when} {connections} connections: {error:#}"));
            failure = Some(error.context(format!("{connections} connections")));
            break;
        }
        record.write(&files.json)?;
    }
    if record.measurements.is_empty() {
        let interrupted = || anyhow::anyhow!("interrupted before the first size was measured");
        return Err(failure.unwrap_or_else(interrupted));
    }
    record.write(&files.json)?;
    Ok(failure)
}

/// What `--to` asks for: whole games, rising.
fn sizes(arguments: &Arguments) -> anyhow::Result<Vec<u32>> {
    let decades = std::iter::successors(Some(SMALLEST), |size| size.checked_mul(10));
    let sizes: Vec<_> = decades.take_while(|&size| size < arguments.to).chain([arguments.to]).collect();
    sizes.iter().try_for_each(|&size| million::check_whole_games(size, arguments.load.players))?;
    Ok(sizes)
}

struct Files {
    page: PathBuf,
    json: PathBuf,
    charts: Option<PathBuf>,
}

impl Files {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let beside = arguments.from_json.as_ref().map(|json| json.with_extension("html"));
        let page = arguments.out.clone().or(beside).unwrap_or_else(|| PathBuf::from(PAGE));
        let json = page.with_extension("json");
        if json == page || Some(&page) == arguments.from_json.as_ref() {
            bail!("--out {}: the JSON has this name; give the page another, as in {PAGE}", page.display())
        }
        Ok(Self { page, json, charts: arguments.charts.clone() })
    }

    /// Finds out before the run whether it can be kept, without touching what an earlier one left.
    fn check(&self) -> anyhow::Result<()> {
        let part = self.page.with_added_extension("part");
        let touched = fs::write(&part, "").and_then(|()| fs::remove_file(&part));
        touched.with_context(|| format!("--out {}: it cannot be written", self.page.display()))?;
        let Some(directory) = &self.charts else { return Ok(()) };
        fs::create_dir_all(directory).with_context(|| format!("--charts {}", directory.display()))
    }

    fn write_page(&self, record: &Record) -> anyhow::Result<()> {
        let charts = charts::draw(&record.measurements)?;
        let html = page::html(record, &charts);
        fs::write(&self.page, html).with_context(|| format!("--out {}", self.page.display()))?;
        for (directory, chart) in
            self.charts.iter().flat_map(|directory| charts.iter().map(move |chart| (directory, chart)))
        {
            let path = directory.join(chart.name).with_added_extension("svg");
            let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, &chart.svg));
            written.with_context(|| format!("--charts {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
