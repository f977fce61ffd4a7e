//! `rooms`: the threads that play, watched by one that keeps the time, reads the relay's figures and reports.

mod arguments;
mod figures;
mod play;
mod summary;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use crate::assertions;
use crate::clock;
use crate::crowd::Plan;
use crate::dialect::Members;
use crate::handshake::Handshake;
use crate::limits::make_room;
use crate::report::{Report, write_percentiles};
use crate::schedule::Schedule;
use crate::server::Server;
use crate::target::Target;
use crate::tokens::Tokens;
use play::{Outcome, Part, Shared, play};
use summary::Window;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use figures::FIGURES;

/// How often the bar moves and signals are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// From "all have joined" to the first move: every thread must have seen the time.
const START_DELAY_NS: u64 = 100_000_000;
/// An interrupted window ends this much later: every thread must have seen it.
const END_DELAY_NS: u64 = 50_000_000;
type Threads<'scope> = Vec<ScopedJoinHandle<'scope, anyhow::Result<Outcome>>>;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &Arc<AtomicBool>) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.common.assertions, FIGURES)?;
    measure(arguments, interrupted)?.finish(&assertions, arguments.common.json.as_deref())
}

/// Runs the scenario, and writes nothing but `--hdr`.
pub fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let target = Target::parse(&arguments.common.url)?;
    let metrics_url = arguments.common.metrics.clone().unwrap_or_else(|| target.default_metrics_url());
    let server = Server { metrics_url, pid: arguments.common.server_pid };
    let Some(players) = arguments.rooms.checked_mul(arguments.players) else {
        bail!("--rooms {} --players {}: more players than can be counted", arguments.rooms, arguments.players)
    };
    let tokens = arguments.common.tokens()?;
    let threads = arguments.threads.min(arguments.rooms);
    make_room(players.saturating_add(arguments.stalled), threads, target.address)?;

    let shared = Shared::default();
    let (outcome, window) = std::thread::scope(|scope| {
        let threads = parts(arguments, threads, &target, &tokens)
            .into_iter()
            .map(|part| spawn(scope, part, &shared))
            .collect::<std::io::Result<Threads<'_>>>()?;
        let watched = watch(arguments, &shared, &threads, &server, interrupted);
        shared.abort.store(watched.is_err(), Relaxed);
        let mut outcomes = threads.into_iter().map(|thread| thread.join().expect("a thread does not panic"));
        let Some(first) = outcomes.next() else { bail!("no thread") };
        let outcome = outcomes.try_fold(first?, |mut sum, outcome| {
            sum.add(&outcome?);
            anyhow::Ok(sum)
        })?;
        Ok((outcome, watched))
    })?;
    let window = match window {
        Ok(window) => window,
        Err(error) => {
            let causes = outcome.failures.lines().map(|(text, count)| format!("\n  {count} × {text}"));
            bail!("{error:#}{}", causes.collect::<String>());
        }
    };
    if let Some(path) = &arguments.hdr {
        write_percentiles(&outcome.tally.latency_us, path)?;
    }
    Ok(summary::report(arguments, threads, &server, outcome, &window))
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    part: Part,
    shared: &'scope Shared,
) -> std::io::Result<ScopedJoinHandle<'scope, anyhow::Result<Outcome>>> {
    std::thread::Builder::new().name("players".into()).spawn_scoped(scope, || play(part, shared))
}

/// Shares the rooms out among the threads.
fn parts(arguments: &Arguments, threads: u32, target: &Target, tokens: &Tokens) -> Vec<Part> {
    let &Arguments { rooms, players, hz, seed, warmup, grace, .. } = arguments;
    let part = |thread: u32| {
        let first_room = rooms * thread / threads;
        let end_room = rooms * (thread + 1) / threads;
        let own_players = (end_room - first_room) * players;
        let stalled = if thread == 0 { arguments.stalled } else { 0 };
        let room_of = |slot: u32| if slot < own_players { first_room + slot / players } else { first_room };
        // The stalled members are numbered after all players.
        let number_of = |slot: u32| {
            if slot < own_players {
                first_room * players + slot
            } else {
                rooms * players + slot - own_players
            }
        };
        let topic_of = |slot: u32| arguments.dialect.room_topic("load", seed, room_of(slot));
        let members = Members::new(own_players + stalled, tokens.clone(), topic_of, number_of);
        Part {
            crowd: Plan {
                target: target.address,
                handshake: Handshake::new(target.authority.clone()),
                connections: own_players + stalled,
                stalled_from: own_players,
                dialect: arguments.dialect.dialect(members),
                ramp_per_s: arguments.ramp / f64::from(threads),
            },
            schedule: Schedule::new(first_room * players..end_room * players, hz, seed),
            players_per_room: players,
            warmup,
            grace,
        }
    };
    (0..threads).map(part).collect()
}

/// Keeps the time: joining, the load, the window. An error: nothing was measured.
fn watch(
    arguments: &Arguments,
    shared: &Shared,
    threads: &Threads<'_>,
    server: &Server,
    interrupted: &AtomicBool,
) -> anyhow::Result<Window> {
    let begun_ns = clock::now_ns();
    let connections = u64::from(arguments.rooms * arguments.players + arguments.stalled);
    let bar = bar(connections, "joining    {bar:30} {pos}/{len} {elapsed}");
    while shared.threads_joined.load(Relaxed) < threads.len() as u32 {
        bar.set_position(u64::from(shared.joined.load(Relaxed)));
        pause(threads)?;
        if interrupted.load(Relaxed) {
            bail!("interrupted before everybody had joined");
        }
    }
    bar.finish_and_clear();
    let joined_ns = clock::now_ns();
    if shared.joined.load(Relaxed) == 0 {
        bail!("nobody could join {}", arguments.common.url);
    }

    let start_ns = joined_ns + START_DELAY_NS;
    let window_start_ns = start_ns + arguments.warmup.as_nanos() as u64;
    let window_end_ns = window_start_ns + arguments.duration.as_nanos() as u64;
    shared.window_end_ns.store(window_end_ns, Relaxed);
    shared.start_ns.store(start_ns, Relaxed);

    let bar = self::bar(window_end_ns - start_ns, "{prefix}{bar:30} {msg}");
    bar.set_prefix("warming up ");
    if !wait_until(window_start_ns, start_ns, shared, threads, interrupted, &bar)? {
        bail!("interrupted before the measured window began");
    }
    bar.set_prefix("measuring  ");
    let (before, own_cpu_ns) = (server.sample(), clock::own_cpu_ns());
    let complete = wait_until(window_end_ns, start_ns, shared, threads, interrupted, &bar)?;
    if !complete {
        shared.window_end_ns.store(window_end_ns.min(clock::now_ns() + END_DELAY_NS), Relaxed);
    }
    let (after, own_cpu_ns) = (server.sample(), clock::own_cpu_ns() - own_cpu_ns);
    bar.finish_and_clear();
    Ok(Window {
        before,
        after,
        own_cpu_ns,
        length_ns: shared.window_end_ns.load(Relaxed) - window_start_ns,
        join_ns: joined_ns - begun_ns,
        complete,
    })
}

/// `false`: interrupted.
fn wait_until(
    end_ns: u64,
    start_ns: u64,
    shared: &Shared,
    threads: &Threads<'_>,
    interrupted: &AtomicBool,
    bar: &ProgressBar,
) -> anyhow::Result<bool> {
    loop {
        let now_ns = clock::now_ns();
        if now_ns >= end_ns {
            return Ok(true);
        }
        if interrupted.load(Relaxed) {
            return Ok(false);
        }
        bar.set_position(now_ns.saturating_sub(start_ns));
        bar.set_message(format!("{} frames received", shared.frames.load(Relaxed)));
        pause(threads).map(drop)?;
        let left = Duration::from_nanos(end_ns.saturating_sub(clock::now_ns()));
        if left < WATCH_INTERVAL {
            std::thread::sleep(left);
        }
    }
}

/// Waits a little. An error: a thread has ended, and will say why.
fn pause(threads: &Threads<'_>) -> anyhow::Result<()> {
    if threads.iter().any(ScopedJoinHandle::is_finished) {
        bail!("a thread ended early");
    }
    std::thread::sleep(WATCH_INTERVAL);
    Ok(())
}

/// A bar on standard error; hidden when that is no terminal.
fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are constant and valid");
    ProgressBar::new(length).with_style(style)
}
