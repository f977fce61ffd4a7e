//! `scaling`: the same run at a thousand, ten thousand, … a million connections, as a page of charts and as JSON.

mod arguments;
mod charts;
mod figures;
mod page;
mod record;
mod rows;
mod summary;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json};

use crate::assertions;
use crate::endings::Endings;
use crate::measurement::Measurement;
use crate::million::{
    self, ActiveGames, CLOSE_AFTER_MS, Load, PING_AFTER_MS, RelayChoice, TICK_HZ, relay_binary,
};
use crate::report::Report;
use crate::tokens::Tokens;
use record::Record;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use figures::FIGURES;

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
        let relay = RelayChoice::Start(relay_binary(arguments.relay.as_deref())?);
        let load = arguments.load.clone();
        let settings = million::Settings { relay, connections, load, tokens: Tokens::None };
        million::measure(&settings, interrupted)
    })
}

fn run_with(arguments: &Arguments, interrupted: &AtomicBool, measure: Measure<'_>) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.assertions, FIGURES)?;
    let files = Files::of(arguments)?;
    let mut failure = None;
    let record = match &arguments.from_json {
        Some(path) => Record::read(path)?,
        None => {
            let sizes = sizes(arguments)?;
            files.check()?;
            let mut record = Record::begin(&sizes, settings(&arguments.load));
            failure = measure_all(&mut record, &arguments.load, &files, interrupted, measure)?;
            record
        }
    };
    files.write_page(&record)?;
    let holds = report(&record, &files).finish(&assertions, None)?;
    failure.map_or(Ok(holds), Err)
}

/// What decides about the numbers and is the same at all sizes, for the reader.
fn settings(load: &Load) -> Vec<(String, String)> {
    let active = match load.active_games {
        ActiveGames::Share(share) => {
            format!("{} % of the games, at least one: another load at each size", text::tick(share * 100.0))
        }
        ActiveGames::Games(games) => format!("{games} games at every size, or all that it has"),
    };
    let lines = [
        ("Games", format!("of {} players, {TICK_HZ} ticks a second", load.players)),
        ("Active", format!("{active}; {} moves a second of each player", text::tick(load.hz))),
        ("Ramp", format!("{} connections a second are begun", text::count(load.ramp))),
        ("Idle for", format!("{} s", load.quiet.as_secs_f64())),
        ("Active for", format!("{} s", load.hold.as_secs_f64())),
        (
            "Liveness",
            format!(
                "pinged after {} s of silence, closed after {} s",
                PING_AFTER_MS / 1000,
                CLOSE_AFTER_MS / 1000
            ),
        ),
    ];
    lines.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Adds the sizes to the record, which is written after each. `Some`: what ended it before its time, other than Ctrl-C.
/// An error where there is nothing to draw.
fn measure_all(
    record: &mut Record,
    load: &Load,
    files: &Files,
    interrupted: &AtomicBool,
    measure: Measure<'_>,
) -> anyhow::Result<Option<anyhow::Error>> {
    let sizes = record.planned.clone();
    progress(&plan(&sizes, load));
    let mut failure = None;
    for (number, &connections) in sizes.iter().enumerate() {
        let size = text::count(f64::from(connections));
        progress(&format!("{size} connections, size {} of {}", number + 1, sizes.len()));
        let measured = measure(connections);
        // An interruption cuts the size short, so that neither its numbers nor its error mean anything.
        if interrupted.load(Relaxed) {
            record.ended_by = Some(format!("interrupted at {size} connections"));
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
            record.ended_by = Some(format!("{when} {size} connections: {error:#}"));
            failure = Some(error.context(format!("{size} connections")));
            break;
        }
        record.write(&files.json)?;
        progress(&format!("{size} connections measured: {}", files.json.display()));
    }
    if record.measurements.is_empty() {
        return Err(
            failure.unwrap_or_else(|| anyhow::anyhow!("interrupted before the first size was measured"))
        );
    }
    record.write(&files.json)?;
    Ok(failure)
}

/// What `--sizes`, or `--to`, asks for: whole games, rising.
fn sizes(arguments: &Arguments) -> anyhow::Result<Vec<u32>> {
    let sizes = if arguments.sizes.is_empty() {
        let decades = std::iter::successors(Some(SMALLEST), |size| size.checked_mul(10));
        decades.take_while(|&size| size < arguments.to).chain([arguments.to]).collect()
    } else {
        arguments.sizes.clone()
    };
    if !sizes.is_sorted_by(|a, b| a < b) {
        bail!("--sizes {sizes:?}: the numbers must rise, as in 1000,10000")
    }
    let players = arguments.load.players;
    if let Some(size) = sizes.iter().find(|size| !size.is_multiple_of(players)) {
        let below = (size / players).max(1) * players;
        bail!("{size} connections are not a number of whole games of --players {players}: use {below}")
    }
    Ok(sizes)
}

fn report(record: &Record, files: &Files) -> Report {
    let mut warnings = Vec::new();
    if let Some(why) = summary::incomplete(record) {
        warnings.push(why);
    }
    Report {
        command: "scaling",
        title: format!("{}\n{}", summary::sentence(record), files.page.display()),
        settings: Json::Null,
        complete: record.complete,
        figures: summary::figures(record),
        cpu_source: None,
        endings: Endings::default(),
        warnings,
        details: Map::new(),
    }
}

/// What will be done, and how long it takes: of the same length for a small size as for a large one, but for the joining.
fn plan(sizes: &[u32], load: &Load) -> String {
    let (count, connections) = (sizes.len(), sizes.iter().map(|size| f64::from(*size)).sum::<f64>());
    let seconds = count as f64 * (load.quiet + load.hold).as_secs_f64() + 2.0 * connections / load.ramp;
    let (quiet, hold) = (load.quiet.as_secs_f64(), load.hold.as_secs_f64());
    format!(
        "{count} sizes, at least {:.0} s: at each, everybody joins, {quiet} s of silence (--quiet) and {hold} s of moves \
         (--hold) are measured, and everybody leaves",
        seconds.ceil()
    )
}

fn progress(line: &str) {
    #[allow(clippy::print_stderr, reason = "the run takes minutes; standard output is for its result")]
    {
        eprintln!("scaling: {line}");
    }
}

struct Files {
    page: PathBuf,
    json: PathBuf,
    charts: Option<PathBuf>,
}

impl Files {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let page = match (&arguments.out, &arguments.from_json) {
            (Some(out), _) => out.clone(),
            (None, Some(json)) => json.with_extension("html"),
            (None, None) => PathBuf::from(PAGE),
        };
        let json = page.with_extension("json");
        if json == page || Some(&page) == arguments.from_json.as_ref() {
            bail!("--out {}: the JSON has this name; give the page another, as in {PAGE}", page.display())
        }
        Ok(Self { page, json, charts: arguments.charts.clone() })
    }

    /// Finds out before the run whether it can be kept, without touching what an earlier one left.
    fn check(&self) -> anyhow::Result<()> {
        for file in [&self.page, &self.json] {
            let part = file.with_added_extension("part");
            let touched = fs::write(&part, "").and_then(|()| fs::remove_file(&part));
            touched.with_context(|| format!("--out {}: it cannot be written", file.display()))?;
        }
        self.charts.as_deref().map_or(Ok(()), make_directory)
    }

    fn write_page(&self, record: &Record) -> anyhow::Result<()> {
        let charts = charts::draw(&record.measurements)?;
        let html = page::html(record, &charts);
        fs::write(&self.page, html).with_context(|| format!("--out {}", self.page.display()))?;
        let Some(directory) = &self.charts else { return Ok(()) };
        make_directory(directory)?;
        for chart in charts {
            let path = directory.join(chart.name).with_added_extension("svg");
            fs::write(&path, chart.svg).with_context(|| format!("--charts {}", path.display()))?;
        }
        Ok(())
    }
}

fn make_directory(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("--charts {}", directory.display()))
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
