//! `compare`: the same load against corelay and against other relays in turn, several rounds, each as a ratio of the same round.

mod arguments;
mod contender;
mod extra_peer;
mod metrics;

mod result;
mod running;
mod table;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, bail};

use crate::arguments::{Common, Output};
use crate::assertions;
use crate::figures::value_of;
use crate::report::Report;
use crate::{idle, rooms};
use contender::{Contender, line_up};
use result::{Comparison, Measured};
use running::{Running, make_room};

pub use arguments::{Arguments, help};

/// Nobody listens on this port: the figures come from `/proc`.
const NO_METRICS_URL: &str = "http://127.0.0.1:1/metrics";
/// Members of each room while memory is measured.
const IDLE_PLAYERS: u32 = 50;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let contenders = line_up(arguments)?;
    // The names are only known now, and live as long as the process.
    let specs = Box::leak(result::specs(&contenders).into_boxed_slice());
    let assertions = assertions::parse(&arguments.output.assertions, specs)?;
    let rising = arguments.idle.is_sorted_by(|a, b| a < b) && arguments.idle.len() >= 2;
    if !rising && !arguments.skip_memory {
        bail!("--idle: at least two rising numbers are needed, as in 1000,8000 (or --skip-memory)");
    }
    make_room(most_connections(arguments))?;

    let mut comparison = Comparison::new(&contenders);
    if cfg!(debug_assertions) {
        comparison
            .warnings
            .push("this is a debug build: its ratios say nothing about release builds".to_owned());
    }
    measure_rounds(arguments, &contenders, &mut comparison, interrupted)?;
    if comparison.rounds.is_empty() {
        bail!("interrupted before the first round was complete");
    }
    if !arguments.skip_memory {
        measure_memory(arguments, &contenders, &mut comparison, interrupted)?;
    }
    comparison.complete = !interrupted.load(Relaxed);
    table::finish(arguments, &comparison, &comparison.figures(specs), &assertions)
}

fn most_connections(arguments: &Arguments) -> u32 {
    let idle = arguments.idle.last().copied().filter(|_| !arguments.skip_memory);
    arguments.load.rooms.saturating_mul(arguments.load.players).max(idle.unwrap_or(0))
}

/// A round that is interrupted is left out.
fn measure_rounds(
    arguments: &Arguments,
    contenders: &[Contender],
    comparison: &mut Comparison,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    for round in 1..=arguments.rounds {
        let mut measured: Vec<Option<Measured>> = contenders.iter().map(|_| None).collect();
        for index in order(round, contenders.len()) {
            let contender = &contenders[index];
            let what = format!("round {round} of {}: {}", arguments.rounds, contender.name);
            let Some(report) = measure(contender, arguments.threads, interrupted, &what, |common| {
                rooms::measure(&rooms_arguments(arguments, contender, common), interrupted)
            })?
            else {
                return Ok(());
            };
            let of_it = Measured::new(&report.figures, contender);
            progress(&format!("{what}: {of_it}"));
            comparison.warnings.extend(warnings(&report, &what));
            measured[index] = Some(of_it);
        }
        comparison.rounds.push(measured.into_iter().flatten().collect());
    }
    Ok(())
}

/// Who is measured when in a round, counted from 1: each round begins with the next one, so that a machine that becomes slower or
/// faster within a round does not always favour the same.
fn order(round: u32, contenders: usize) -> impl Iterator<Item = usize> {
    let first = (round as usize - 1) % contenders.max(1);
    (0..contenders).map(move |turn| (first + turn) % contenders)
}

/// Once per server: it hardly differs from round to round.
fn measure_memory(
    arguments: &Arguments,
    contenders: &[Contender],
    comparison: &mut Comparison,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    for (index, contender) in contenders.iter().enumerate() {
        let what = format!("memory: {}", contender.name);
        if contender.has_no_pid() {
            comparison.memory[index] = Err(contender::NO_PID.to_owned());
            continue;
        }
        let Some(report) = measure(contender, arguments.threads, interrupted, &what, |common| {
            idle::measure(&idle_arguments(arguments, contender, common), interrupted)
        })?
        else {
            return Ok(());
        };
        let slope = value_of(&report.figures, "slope");
        if let Ok(slope) = &slope {
            progress(&format!("{what}: {slope:.0} bytes per connection"));
        }
        comparison.warnings.extend(warnings(&report, &what));
        comparison.memory[index] = slope;
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
    let mut running = Running::start(contender, threads, interrupted).with_context(|| what.to_owned())?;
    let common = Common {
        url: running.url.clone(),
        metrics: Some(NO_METRICS_URL.to_owned()),
        server_pid: running.pid,
        token: None,
        token_key_file: None,
        output: Output::default(),
    };
    match run(common) {
        _ if interrupted.load(Relaxed) => Ok(None),
        Ok(report) => Ok(Some(report)),
        Err(error) => Err(error.context(format!("{what}{}", running.log_excerpt()))),
    }
}

fn rooms_arguments(arguments: &Arguments, contender: &Contender, common: Common) -> rooms::Arguments {
    rooms::Arguments {
        common,
        load: arguments.load.clone(),
        dialect: contender.dialect,
        threads: arguments.client_threads,
        stalled: 0,
        hdr: None,
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
fn warnings(report: &Report, what: &str) -> Vec<String> {
    let failures =
        report.endings.failures.lines().map(|(text, count)| format!("did not join: {count} × {text}"));
    let closes =
        report.endings.closes.lines().map(|(code, why, count)| format!("closed: {count} × {code} {why}"));
    let refused = value_of(&report.figures, "rate_limited").ok().filter(|&refused| refused > 0.0);
    let refused = refused.map(|refused| format!("the server's limits refused moves ({refused} times told)"));
    let lines = report.warnings.iter().cloned().chain(failures).chain(closes).chain(refused);
    lines.map(|line| format!("{what}: {line}")).collect()
}

/// Writes to standard error how far the comparison is; it takes minutes.
fn progress(line: &str) {
    // If standard error is closed, nobody reads it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_the_next_server() {
        let orders: Vec<Vec<_>> = (1..=4).map(|round| order(round, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
