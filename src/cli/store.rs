//! `corelay store`: what is done with a store while no relay has it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::{EXIT_FAILED, Failure, check_length, config_file, environment, flag};
use crate::config;
use crate::ids::Topic;
use crate::limits::{STATS_TOPICS, USER_ID_BYTES_MAX};
use crate::rim::Clock;
use crate::store::check::{self, Checked};
use crate::store::document::DocumentError;
use crate::store::erase::{self, Erased};
use crate::store::error::StoreError;
use crate::store::file::StoreFile;
use crate::store::import::{Import, Imported, Told};
use crate::store::settings::StoreSettings;
use crate::store::stats::{self, Stats};
use crate::time::Instant;

/// How often long work says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

pub(super) const AFTER_HELP: &str = "\
The data directory belongs to one process: stop the relay first. A relay that runs is exported by its admin pages:
  curl -f http://127.0.0.1:4001/export >rooms.ndjson
  curl -f 'http://127.0.0.1:4001/export?topic=room:lobby' >lobby.ndjson
  curl -f http://127.0.0.1:4001/docs/minutes >minutes.json

Examples:
  corelay store check --data-dir /var/lib/corelay
  corelay store export doc:minutes >minutes.txt
  corelay store import rooms.ndjson --data-dir /var/lib/corelay-new
  corelay store erase-user ann && corelay store compact

Exit codes: 0 done, and nothing is wrong; 1 a fault was found, or it could not be done; 2 wrong command line or configuration.";

#[derive(Debug, Args)]
pub(super) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
    /// The directory of the store [default: as the relay has it, ./corelay-data]
    #[arg(long, value_name = "DIRECTORY", global = true)]
    data_dir: Option<String>,
    /// The configuration file; also the variable CORELAY_CONFIG [default: corelay.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Say whether the file is whole, and whether what is in it fits together
    #[command(after_help = "Example: corelay store check --data-dir /var/lib/corelay")]
    Check,
    /// Say how much is kept, and in which topics most
    #[command(after_help = "Example: corelay store stats --data-dir /var/lib/corelay")]
    Stats,
    /// Write everything, or one room, to standard output, a JSON object a line; or one document, its text and nothing else
    #[command(after_help = EXPORT_AFTER_HELP)]
    Export {
        /// Such as room:lobby or doc:minutes
        topic: Option<String>,
    },
    /// Read what `export` has written; topics that are there already are refused
    #[command(after_help = "Example: corelay store import rooms.ndjson --data-dir /var/lib/corelay-new")]
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Make the file as small as what is in it
    #[command(after_help = COMPACT_AFTER_HELP)]
    Compact,
    /// Erase what a user has said in all rooms, what is kept about the user, and its name in documents
    #[command(after_help = ERASE_AFTER_HELP)]
    EraseUser {
        /// The user's id, the `sub` of its tokens
        id: String,
    },
}

const EXPORT_AFTER_HELP: &str = "\
Examples:
  corelay store export >everything.ndjson        a backup; `corelay store import` reads it
  corelay store export room:lobby >lobby.ndjson
  corelay store export doc:minutes >minutes.txt  the text alone, not for import";

const COMPACT_AFTER_HELP: &str = "\
Example: corelay store compact --data-dir /var/lib/corelay

Everything is written to a new file beside the old one, which takes its place at the end: the disk needs room for both.
If it is interrupted, the old file is as it was.";

const ERASE_AFTER_HELP: &str = "\
Example: corelay store erase-user ann && corelay store compact

Messages become tombstones, as if they had been deleted; edits, read markers, mutes and bans of the user are removed.
Operations in documents lose the user's id; the texts stay, also what the user has written there: they are everybody's.
The words may still be in free pages of the file until `corelay store compact`, and in backups and exports.
What others have written about the user stays.";

/// Does what was asked for.
pub(super) fn run(arguments: StoreArguments) -> Result<ExitCode, Failure> {
    let StoreArguments { command, data_dir, config } = arguments;
    let flags = flag(("data_dir", data_dir)).into_iter().collect();
    let settings = config::load(config_file(config).as_deref(), environment(), flags)?.draft.store;
    if settings.ephemeral {
        let text =
            "the configuration says `ephemeral`: there is no file; leave `ephemeral` out to use `data_dir`";
        return Err(Failure::usage(text.into()));
    }
    match command {
        StoreCommand::Check => check(settings),
        StoreCommand::Stats => show_stats(settings),
        StoreCommand::Export { topic } => export(settings, topic.as_deref()),
        StoreCommand::Import { file } => import(settings, &file),
        StoreCommand::Compact => compact(settings),
        StoreCommand::EraseUser { id } => erase_user(settings, &id),
    }
}

fn open(settings: StoreSettings) -> Result<StoreFile, Failure> {
    StoreFile::open_existing(settings).map_err(failure)
}

fn failure(error: StoreError) -> Failure {
    let in_use = matches!(error, StoreError::InUse { .. });
    let remedy = in_use.then(|| {
        "stop it, then call this again (a relay that runs is exported by its admin page /export)".to_owned()
    });
    Failure { code: EXIT_FAILED, error: error.into(), remedy }
}

fn check(settings: StoreSettings) -> Result<ExitCode, Failure> {
    let mut file = open(settings)?;
    let mut progress = Progress::new("records checked");
    let checked = check::check(&mut file, &mut |records| progress.at(records));
    let Checked { counts, faults, fault_count } = checked.map_err(|error| failure(file.explain(error)))?;
    let mut text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    let unnamed = fault_count - faults.len() as u64;
    if unnamed > 0 {
        text += &format!("… and {unnamed} more\n");
    }
    let verdict = if fault_count == 0 { "nothing is wrong".into() } else { format!("faults: {fault_count}") };
    text += &format!("{counts}: {verdict}\n");
    print(&text)?;
    Ok(if fault_count == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn show_stats(settings: StoreSettings) -> Result<ExitCode, Failure> {
    let file = open(settings)?;
    let mut progress = Progress::new("records counted");
    let counted = stats::count(&file, &mut |records| progress.at(records));
    let Stats { counts, documents, bytes, value_bytes, largest, oldest_ms, newest_ms } =
        counted.map_err(|error| failure(file.explain(error)))?;
    let time = |ms: Option<u64>| ms.map_or("none".into(), utc);
    let rows = [
        ("topics", counts.topics.to_string()),
        ("documents", documents.to_string()),
        ("records", counts.records.to_string()),
        ("values", counts.values.to_string()),
        ("bytes of records", bytes.to_string()),
        ("bytes of values", value_bytes.to_string()),
        ("bytes of the file", file.bytes().map_err(failure)?.to_string()),
        ("oldest record", time(oldest_ms)),
        ("newest record", time(newest_ms)),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<18} {value}\n")).collect();
    if !largest.is_empty() {
        let title = if counts.topics > STATS_TOPICS as u64 { "largest topics" } else { "topic" };
        text += &format!("\n{title:<40} {:>12} {:>14}\n", "records", "bytes");
    }
    for topic in largest {
        text += &format!("{:<40} {:>12} {:>14}\n", topic.topic, topic.records, topic.bytes);
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn export(settings: StoreSettings, topic: Option<&str>) -> Result<ExitCode, Failure> {
    if let Some(topic) = topic.filter(|topic| Topic::parse(topic).is_none()) {
        return Err(Failure::usage(format!("{topic:?} is no topic: topics are like room:lobby")));
    }
    let file = open(settings)?;
    let reader = file.reader();
    if let Some(topic @ Topic::Document(_)) = topic.and_then(Topic::parse) {
        return export_text(&file, &topic);
    }
    if let Some(topic) = topic
        && !reader.has(topic).map_err(|error| failure(file.explain(error)))?
    {
        return Err(anyhow!("nothing is kept about {topic}").into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut progress = Progress::new("records exported");
    let mut export = reader.export(topic);
    while let Some(part) = export.next() {
        let part = part.map_err(|error| failure(file.explain(error)))?;
        out.write_all(part.as_bytes()).context("cannot write the export")?;
        progress.at(export.counts().records);
    }
    out.flush().context("cannot write the export")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the text of a document as it is, without so much as a line feed behind it.
fn export_text(file: &StoreFile, topic: &Topic) -> Result<ExitCode, Failure> {
    let document = file.reader().document(topic).map_err(|error| match error {
        DocumentError::Store(error) => failure(file.explain(error)),
        error @ DocumentError::NoText { .. } => Failure::from(anyhow::Error::new(error)),
    })?;
    let Some(document) = document else { return Err(anyhow!("nothing is kept about {topic}").into()) };
    print(&document.text)?;
    Ok(ExitCode::SUCCESS)
}

fn import(settings: StoreSettings, from: &PathBuf) -> Result<ExitCode, Failure> {
    let mut export: Box<dyn BufRead> = if from.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        Box::new(BufReader::new(file))
    };
    let file = StoreFile::open_alone(settings).map_err(failure)?;
    let mut progress = Progress::new("records imported");
    let mut tell = |told: Told<'_>| match told {
        Told::Records(records) => progress.at(records),
        Told::Refused(topic) => say(&format!("{topic} is there already: nothing of it was imported")),
    };
    let (Imported { written, refused }, outcome) = Import::run(&file, &mut *export, &mut tell);
    print(&format!("imported: {written}\n"))?;
    if let Err(error) = outcome {
        let remedy = "what was imported before stays; correct the file and import it again for the rest";
        return Err(Failure { code: EXIT_FAILED, error: error.into(), remedy: Some(remedy.into()) });
    }
    if refused > 0 {
        return Err(anyhow!("{refused} topics were there already").into());
    }
    Ok(ExitCode::SUCCESS)
}

fn compact(settings: StoreSettings) -> Result<ExitCode, Failure> {
    let mut file = open(settings)?;
    let before = file.bytes().map_err(failure)?;
    say(&format!("compacting {before} bytes"));
    let mut progress = Progress::new("rows written");
    file.compact(&mut |rows| progress.at(rows)).map_err(|error| failure(file.explain(error)))?;
    let after = file.bytes().map_err(failure)?;
    print(&format!("before: {before} bytes\nafter: {after} bytes\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn erase_user(settings: StoreSettings, user: &str) -> Result<ExitCode, Failure> {
    check_length("ID", user, 1, USER_ID_BYTES_MAX)?;
    let file = open(settings)?;
    let mut progress = Progress::new("records looked at");
    let erased = erase::erase_user(&file, user, &mut |records| progress.at(records));
    let erased = erased.map_err(|error| failure(file.explain(error)))?;
    let Erased { messages, deleted, edits, deletions, values, operations, writers, topics, unreadable } =
        erased;
    let rows = [
        ("messages", messages),
        ("deleted messages", deleted),
        ("edits", edits),
        ("deletions by the user", deletions),
        ("read markers, mutes and bans", values),
        ("operations in documents", operations),
        ("last operations remembered", writers),
    ];
    let mut text: String = rows.iter().map(|(name, count)| format!("{name:<30} {count:>10}\n")).collect();
    text += &match topics {
        0 => "nothing of this user is kept\n".to_owned(),
        _ => format!(
            "erased in {topics} topics. Free pages of the file may still hold the words: \
             `corelay store compact` removes them\n"
        ),
    };
    print(&text)?;
    if unreadable > 0 {
        return Err(anyhow!(
            "{unreadable} records or texts cannot be read, so nobody knows whose they are: `corelay store check` names them"
        )
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?)
}

/// Standard error may be closed: the work goes on nevertheless.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says how far long work is.
struct Progress {
    what: &'static str,
    clock: Clock,
    said_at: Instant,
    looked_at: u64,
}

impl Progress {
    /// Reading the clock for each record would take longer than the record.
    const LOOK_EACH: u64 = 1_000;

    fn new(what: &'static str) -> Self {
        let clock = Clock::start();
        Self { what, said_at: clock.instant(), clock, looked_at: 0 }
    }

    fn at(&mut self, count: u64) {
        if count < self.looked_at + Self::LOOK_EACH {
            return;
        }
        self.looked_at = count;
        let now = self.clock.instant();
        if now.since(self.said_at) >= PROGRESS_INTERVAL {
            self.said_at = now;
            say(&format!("{count} {}", self.what));
        }
    }
}

/// A time in unix ms as RFC 3339 has it. The date is counted in eras of 400 years that begin on the first of March.
fn utc(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1_000 % 86_400);
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march / 146_097, since_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_write_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
