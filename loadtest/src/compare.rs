//! `compare`: the same load against corelay and against other relays in turn, several rounds, each as a ratio of the same round.

mod arguments;
mod contender;
mod figures;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json, json};

use crate::arguments::{Access, Common, Output};
use crate::figures::{Value, value_of};
use crate::limits::raise_descriptors;
use crate::report::{self, Report};
use crate::{idle, rooms};
use contender::{Contender, line_up};
use figures::Comparison;

pub use arguments::{Arguments, help};

/// Nobody listens on this port: the figures come from `/proc`.
const NO_METRICS_URL: &str = "http://127.0.0.1:1/metrics";
/// Members of each room while memory is measured.
const IDLE_PLAYERS: u32 = 50;
/// Descriptors of a server that are no clients.
const DESCRIPTORS_RESERVE: u64 = 64;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let contenders = line_up(&arguments.only, &arguments.peers)?;
    let specs = figures::specs(&contenders);
    report::run(&arguments.output, &specs, || {
        let rising = arguments.idle.is_sorted_by(|a, b| a < b) && arguments.idle.len() >= 2;
        if !rising && !arguments.skip_memory {
            bail!("--idle: at least two rising numbers are needed, as in 1000,8000 (or --skip-memory)");
        }
        let idle = arguments.idle.last().filter(|_| !arguments.skip_memory).copied().unwrap_or(0);
        let most = idle.max(arguments.load.rooms.saturating_mul(arguments.load.players));
        // The servers inherit it.
        raise_descriptors(u64::from(most) + DESCRIPTORS_RESERVE);
        let mut comparison = Comparison::new(contenders.len());
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings.push("this is a debug build: its ratios say nothing about release builds".to_owned());
        }
        let (mut rounds, mut driver) = (0, None);
        while rounds < arguments.rounds {
            let Some(round) = measure_round(arguments, &contenders, rounds, &mut warnings, interrupted)?
            else {
                break;
            };
            comparison.add_round(round.values);
            driver = driver.or(round.driver);
            rounds += 1;
        }
        if rounds == 0 {
            bail!("interrupted before the first round was complete");
        }
        if !arguments.skip_memory {
            measure_memory(arguments, &contenders, &mut comparison, &mut warnings, interrupted)?;
        }
        let figures = comparison.figures(&specs);
        Ok(Report {
            command: "compare",
            title: title(arguments, &contenders, rounds),
            settings: settings(arguments, &contenders),
            complete: !interrupted.load(Relaxed),
            driver,
            table: Some(figures::table(&contenders, &figures)),
            figures,
            warnings,
            details: Map::from_iter([("rounds".to_owned(), rounds.into())]),
            ..Report::default()
        })
    })
}

fn title(arguments: &Arguments, contenders: &[Contender], rounds: u32) -> String {
    let load = &arguments.load;
    let servers = contenders.iter().map(|contender| {
        let threads = contender.threads(arguments.threads).map_or("?".to_owned(), |count| count.to_string());
        format!("{} {threads} thread(s), {} dialect", contender.name, contender.dialect.as_str())
    });
    format!(
        "{} rooms of {} players at {} Hz, {:.1} s measured, {rounds} of {} rounds\n{}",
        load.rooms,
        load.players,
        load.hz,
        load.duration.as_secs_f64(),
        arguments.rounds,
        servers.collect::<Vec<_>>().join("; ")
    )
}

fn settings(arguments: &Arguments, contenders: &[Contender]) -> Json {
    let load = &arguments.load;
    let server = |contender: &Contender| {
        let threads = contender.threads(arguments.threads);
        json!({ "name": contender.name, "dialect": contender.dialect.as_str(), "threads": threads })
    };
    json!({
        "rooms": load.rooms, "players": load.players, "hz": load.hz, "seed": load.seed, "ramp": load.ramp,
        "duration_s": load.duration.as_secs_f64(), "warmup_s": load.warmup.as_secs_f64(),
        "grace_s": load.grace.as_secs_f64(), "rounds": arguments.rounds, "client_threads": arguments.client_threads,
        "idle": (!arguments.skip_memory).then_some(&arguments.idle), "hold_s": arguments.hold.as_secs_f64(),
        "servers": contenders.iter().map(server).collect::<Vec<_>>(),
    })
}

/// What one round says.
struct Round {
    /// Of each contender.
    values: Vec<Vec<Value>>,
    /// What corelay ran on.
    driver: Option<String>,
}

/// `None`: interrupted.
fn measure_round(
    arguments: &Arguments,
    contenders: &[Contender],
    round: u32,
    warnings: &mut Vec<String>,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Round>> {
    let mut seen = Round { values: vec![Vec::new(); contenders.len()], driver: None };
    for index in order(round, contenders.len()) {
        let contender = &contenders[index];
        let what = format!("round {} of {}: {}", round + 1, arguments.rounds, contender.name);
        let Some(report) = measure(contender, arguments.threads, interrupted, &what, |common| {
            rooms::measure(&rooms_arguments(arguments, contender, common), interrupted)
        })?
        else {
            return Ok(None);
        };
        seen.values[index] = figures::measured(&report.figures, contender);
        warnings.extend(told(&report, &what));
        // corelay is the first; `corelay-epoll` says by its name what it runs on.
        if index == 0 {
            seen.driver = report.driver;
        }
    }
    Ok(Some(seen))
}

/// Who is measured when in a round, counted from 0: each round begins with the next one, so that a machine that becomes slower or
/// faster within a round does not always favour the same.
fn order(round: u32, contenders: usize) -> impl Iterator<Item = usize> {
    let first = round as usize % contenders;
    (0..contenders).map(move |turn| (first + turn) % contenders)
}

/// Once per server: it hardly differs from round to round.
fn measure_memory(
    arguments: &Arguments,
    contenders: &[Contender],
    comparison: &mut Comparison,
    warnings: &mut Vec<String>,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    for (index, contender) in contenders.iter().enumerate() {
        let what = format!("memory: {}", contender.name);
        if let Err(why) = contender.known_process() {
            comparison.add_memory(index, Err(why));
            continue;
        }
        let Some(report) = measure(contender, arguments.threads, interrupted, &what, |common| {
            idle::measure(&idle_arguments(arguments, contender, common), interrupted)
        })?
        else {
            return Ok(());
        };
        let slope = value_of(&report.figures, "slope");
        warnings.extend(told(&report, &what));
        comparison.add_memory(index, slope);
    }
    Ok(())
}

/// One run against a server of its own. `None`: interrupted.
fn measure(
    contender: &Contender,
    threads: Option<u32>,
    interrupted: &AtomicBool,
    what: &str,
    run: impl FnOnce(Common) -> anyhow::Result<Report>,
) -> anyhow::Result<Option<Report>> {
    if interrupted.load(Relaxed) {
        return Ok(None);
    }
    // It takes minutes. If standard error is closed, nobody reads it.
    let _ = writeln!(std::io::stderr(), "{what}");
    let mut running = contender.start(threads, interrupted).with_context(|| what.to_owned())?;
    let common = Common {
        url: running.url.clone(),
        access: Access {
            metrics: Some(NO_METRICS_URL.to_owned()),
            server_pid: running.pid,
            ..Access::default()
        },
        output: Output::default(),
    };
    match run(common) {
        _ if interrupted.load(Relaxed) => Ok(None),
        Ok(report) => Ok(Some(Report { driver: running.driver.take(), ..report })),
        Err(error) => Err(error.context(format!("{what}{}", running.log_excerpt()))),
    }
}

fn rooms_arguments(arguments: &Arguments, contender: &Contender, common: Common) -> rooms::Arguments {
    rooms::Arguments {
        common,
        load: arguments.load.clone(),
        dialect: contender.dialect,
        aligned: false,
        threads: arguments.client_threads,
        stalled: 0,
    }
}

fn idle_arguments(arguments: &Arguments, contender: &Contender, common: Common) -> idle::Arguments {
    idle::Arguments {
        common,
        dialect: contender.dialect,
        ramp: arguments.load.ramp,
        topic_prefix: String::new(),
        connections: arguments.idle.clone(),
        players: IDLE_PLAYERS,
        hold: arguments.hold,
        seed: arguments.load.seed,
    }
}

/// What of a run does not show in the figures.
fn told(report: &Report, what: &str) -> Vec<String> {
    let failures =
        report.endings.failures.lines().map(|(text, count)| format!("did not join: {count} × {text}"));
    let closes = report.endings.closes.lines().map(|(text, count)| format!("closed: {count} × {text}"));
    let refused = value_of(&report.figures, "rate_limited").ok().filter(|&refused| refused > 0.0);
    let refused = refused.map(|refused| format!("the server's limits refused moves ({refused} times told)"));
    let lines = report.warnings.iter().cloned().chain(failures).chain(closes).chain(refused);
    lines.map(|line| format!("{what}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_the_next_server() {
        let orders: Vec<Vec<_>> = (0..4).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
