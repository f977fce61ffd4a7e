//! `rooms`: the threads that play, watched by one that keeps the time, reads the relay's figures and reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};

use crate::assertions;
use crate::cli::Rooms;
use crate::clock;
use crate::crowd::Plan;
use crate::figures::{self, ROOMS, Value};
use crate::handshake::Handshake;
use crate::limits::make_room;
use crate::play::{Outcome, Part, Shared, play};
use crate::report::{Report, write_percentiles};
use crate::schedule::Schedule;
use crate::server::{Sample, Server};
use crate::target::Target;

/// How often the bar moves and signals are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// From "all have joined" to the first move: every thread must have seen the time.
const START_DELAY_NS: u64 = 100_000_000;
/// An interrupted window ends this much later: every thread must have seen it.
const END_DELAY_NS: u64 = 50_000_000;
/// Share of its threads' time from which the load test is taken to be saturated.
const SATURATED: f64 = 0.85;
/// Share of late moves from which latencies say more about this process than about the relay.
const LATE_SHARE_MAX: f64 = 0.01;

/// The relay and this process, at both ends of the window.
struct Window {
    before: Sample,
    after: Sample,
    own_cpu_ns: u64,
    length_ns: u64,
    join_ns: u64,
    complete: bool,
}

type Threads<'scope> = Vec<ScopedJoinHandle<'scope, anyhow::Result<Outcome>>>;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Rooms, interrupted: &Arc<AtomicBool>) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.common.assertions, ROOMS)?;
    let target = Target::parse(&arguments.common.url)?;
    let metrics_url = arguments.common.metrics.clone().unwrap_or_else(|| target.default_metrics_url());
    let server = Server { metrics_url, pid: arguments.common.server_pid };
    let Some(players) = arguments.rooms.checked_mul(arguments.players) else {
        bail!("--rooms {} --players {}: more players than can be counted", arguments.rooms, arguments.players)
    };
    let threads = arguments.threads.min(arguments.rooms);
    make_room(players.saturating_add(arguments.stalled), threads, target.address)?;

    let shared = Shared::default();
    let (outcome, window) = std::thread::scope(|scope| {
        let threads = parts(arguments, threads, &target)
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
    report(arguments, players, threads, &server, outcome, &window)
        .finish(&assertions, arguments.common.json.as_deref())
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    part: Part,
    shared: &'scope Shared,
) -> std::io::Result<ScopedJoinHandle<'scope, anyhow::Result<Outcome>>> {
    std::thread::Builder::new().name("players".into()).spawn_scoped(scope, || play(part, shared))
}

/// Shares the rooms out among the threads.
fn parts(arguments: &Rooms, threads: u32, target: &Target) -> Vec<Part> {
    let &Rooms { rooms, players, hz, seed, warmup, grace, .. } = arguments;
    let part = |thread: u32| {
        let first_room = rooms * thread / threads;
        let end_room = rooms * (thread + 1) / threads;
        let own_players = (end_room - first_room) * players;
        let stalled = if thread == 0 { arguments.stalled } else { 0 };
        let room_of =
            move |slot: u32| if slot < own_players { first_room + slot / players } else { first_room };
        Part {
            crowd: Plan {
                target: target.address,
                handshake: Handshake::new(target.authority.clone()),
                connections: own_players + stalled,
                stalled_from: own_players,
                game: Box::new(move |slot| format!("load-{seed}-{}", room_of(slot))),
                ramp_per_s: arguments.common.ramp / f64::from(threads),
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
    arguments: &Rooms,
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

fn report(
    arguments: &Rooms,
    players: u32,
    threads: u32,
    server: &Server,
    outcome: Outcome,
    window: &Window,
) -> Report {
    let seconds = window.length_ns as f64 / 1e9;
    let frames = outcome.window.frames as f64;
    let per_frame =
        |us: f64| if frames > 0.0 { Ok(us / frames) } else { Err("no frame was received".to_owned()) };
    let share = |part: u64, whole: u64| {
        if whole > 0 { Ok(part as f64 / whole as f64) } else { Err("there was nothing to count".to_owned()) }
    };
    let latency = &outcome.tally.latency_us;
    let arrived = |value: f64| if latency.is_empty() { Err("no view arrived".to_owned()) } else { Ok(value) };
    let percentile = |percentile| arrived(latency.value_at_percentile(percentile) as f64);
    let lateness = &outcome.sends.lateness_us;
    let count = |number: u64| -> Value { Ok(number as f64) };
    let joined_players = outcome.joined.saturating_sub(arguments.stalled).min(players);
    let server_cpu_s = difference(&window.after.cpu_s, &window.before.cpu_s);
    let growth = |name: &str| window.after.growth(&window.before, name);
    let own_cpu_us = window.own_cpu_ns as f64 / 1e3;
    let received = outcome.window;

    let figures = figures::fill(
        ROOMS,
        &[
            ("joined", count(outcome.joined.into())),
            ("not_joined", count(outcome.failures.total())),
            ("join_time", Ok(window.join_ns as f64 / 1e3)),
            ("closed", count(outcome.closes.total())),
            ("reach", share(outcome.tally.fresh, outcome.views_expected)),
            ("views_expected", count(outcome.views_expected)),
            ("views_fresh", count(outcome.tally.fresh)),
            ("views_delivered", count(outcome.tally.delivered)),
            ("p50", percentile(50.0)),
            ("p90", percentile(90.0)),
            ("p99", percentile(99.0)),
            ("p99.9", percentile(99.9)),
            ("max", arrived(latency.max() as f64)),
            ("mean", arrived(latency.mean())),
            ("moves", count(outcome.sends.moves)),
            ("moves_unsent", count(outcome.moves_planned.saturating_sub(outcome.sends.moves))),
            ("moves_queued", count(outcome.sends.queued)),
            ("late", count(outcome.sends.late)),
            ("late_share", share(outcome.sends.late, outcome.sends.moves)),
            ("lateness_p99", Ok(lateness.value_at_percentile(99.0) as f64)),
            ("lateness_max", Ok(lateness.max() as f64)),
            ("window", Ok(window.length_ns as f64 / 1e3)),
            ("frames_received", count(received.frames)),
            ("bytes_received", count(received.bytes)),
            ("frames_per_player_s", Ok(frames / f64::from(joined_players.max(1)) / seconds)),
            ("bytes_per_player_s", Ok(received.bytes as f64 / f64::from(joined_players.max(1)) / seconds)),
            ("keyframe_share", share(received.keyframes, received.keyframes + received.deltas)),
            ("rate_limited", count(received.rate_limited)),
            ("corrections", count(received.corrections)),
            ("errors", count(received.errors)),
            ("notices", count(received.notices)),
            ("malformed", count(received.malformed)),
            ("positions_unknown", count(outcome.tally.unknown)),
            ("stalled_closed", count(outcome.stalled_closes.total())),
            ("client.cpu_cores", Ok(own_cpu_us / 1e6 / seconds)),
            ("client.cpu_us_per_frame", per_frame(own_cpu_us)),
            ("server.cpu_cores", server_cpu_s.clone().map(|cpu_s| cpu_s / seconds)),
            ("server.cpu_us_per_frame", server_cpu_s.clone().and_then(|cpu_s| per_frame(cpu_s * 1e6))),
            ("server.rss_bytes", window.after.rss_bytes.clone()),
            ("server.rss_growth_bytes", difference(&window.after.rss_bytes, &window.before.rss_bytes)),
            ("server.frames_out", growth("corelay_frames_out_total")),
            ("server.deltas", growth("corelay_deltas_total")),
            ("server.keyframes", growth("corelay_keyframes_total")),
            ("server.frames_skipped", growth("corelay_frames_skipped_total")),
            ("server.enters", growth("corelay_enters_total")),
            ("server.completions", growth("corelay_completions_total")),
        ],
    );

    let own_share = own_cpu_us / 1e6 / seconds / f64::from(threads);
    let late_share = outcome.sends.late as f64 / outcome.sends.moves.max(1) as f64;
    let mut warnings = Vec::new();
    if own_share > SATURATED || late_share > LATE_SHARE_MAX {
        warnings.push(format!(
            "this machine did not keep up ({:.0} % of the client's threads used, {:.1} % of the moves late): read the latencies \
             as an upper bound",
            own_share * 100.0,
            late_share * 100.0
        ));
    }
    if !window.complete {
        warnings.push("interrupted: the figures are those of a shorter window".to_owned());
    }
    let complete = if window.complete { "" } else { ", interrupted" };
    Report {
        command: "rooms",
        title: format!(
            "{}: {} rooms of {} players at {} Hz, {seconds:.1} s measured{complete}",
            arguments.common.url, arguments.rooms, arguments.players, arguments.hz
        ),
        settings: json!({
            "url": arguments.common.url, "rooms": arguments.rooms, "players": arguments.players, "hz": arguments.hz,
            "duration_s": arguments.duration.as_secs_f64(), "warmup_s": arguments.warmup.as_secs_f64(),
            "grace_s": arguments.grace.as_secs_f64(), "seed": arguments.seed, "threads": threads,
            "stalled": arguments.stalled, "ramp": arguments.common.ramp,
        }),
        complete: window.complete,
        figures,
        cpu_source: server_cpu_s.is_ok().then(|| server.cpu_source()),
        failures: outcome.failures,
        closes: outcome.closes,
        stalled_closes: outcome.stalled_closes,
        errors: outcome.errors,
        warnings,
        details: Map::new(),
    }
}

fn difference(after: &Value, before: &Value) -> Value {
    Ok(after.clone()? - before.clone()?)
}
