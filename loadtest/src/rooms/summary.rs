//! What a run of `rooms` measured, as figures and warnings.

use serde_json::{Map, json};

use super::arguments::Arguments;
use super::figures::FIGURES;
use crate::counters::Counters;
use crate::dialect::DialectName;
use crate::figures::{Figure, Value, fill, share};
use crate::moves::Sends;
use crate::players::{Tallies, Waited, Window, figures_of_views};
use crate::report::{Report, SATURATED};
use crate::server::Lap;

/// Share of late moves from which latencies say more about this process than about the relay.
const LATE_SHARE_MAX: f64 = 0.01;

/// What the threads and the director measured.
pub struct Measured {
    pub tallies: Tallies,
    pub window: Window,
    pub join_ns: u64,
    pub threads: u32,
}

pub fn report(arguments: &Arguments, cpu_source: &'static str, measured: Measured) -> Report {
    let (common, load, dialect) = (&arguments.common, &arguments.load, arguments.dialect);
    let complete = measured.window.waited == Waited::Done;
    let interrupted = if complete { "" } else { ", interrupted" };
    let seconds = measured.window.length_s();
    Report {
        command: "rooms",
        title: format!(
            "{}: {} rooms of {} players at {} Hz, {} dialect, {seconds:.1} s measured{interrupted}",
            common.url,
            load.rooms,
            load.players,
            load.hz,
            dialect.as_str()
        ),
        settings: json!({
            "url": common.url, "rooms": load.rooms, "players": load.players, "hz": load.hz,
            "duration_s": load.duration.as_secs_f64(), "warmup_s": load.warmup.as_secs_f64(),
            "grace_s": load.grace.as_secs_f64(), "seed": load.seed, "threads": measured.threads,
            "stalled": arguments.stalled, "ramp": load.ramp, "dialect": dialect.as_str(),
            "tokens": common.tokens_label(),
        }),
        complete,
        figures: figures(arguments, &measured),
        warnings: warnings(&measured),
        cpu_source: measured.window.lap.server_cpu_s().is_ok().then_some(cpu_source),
        endings: measured.tallies.endings,
        details: Map::new(),
    }
}

fn figures(arguments: &Arguments, measured: &Measured) -> Vec<Figure> {
    let Measured { tallies, window, join_ns, .. } = measured;
    let tally = &tallies.tally;
    let count = |number: u64| -> Value { Ok(number as f64) };
    let views_expected = tallies.moves_planned * u64::from(arguments.load.players - 1);
    let arrived = |us: f64| share(1, tally.latency_us.len().min(1)).map(|_| us);
    let values = [
        ("joined", count(tallies.joined.into())),
        ("not_joined", count(tallies.endings.failures.total())),
        ("join_time", Ok(*join_ns as f64 / 1e3)),
        ("closed", count(tallies.endings.closes.total())),
        ("stalled_closed", count(tallies.endings.stalled_closes.total())),
        ("views_fresh", count(tally.fresh)),
        ("views_delivered", count(tally.delivered)),
        ("p99.9", arrived(tally.latency_us.value_at_percentile(99.9) as f64)),
        ("mean", arrived(tally.latency_us.mean())),
        ("moves_unsent", count(tallies.moves_planned.saturating_sub(tallies.sends.moves))),
        ("positions_unknown", count(tally.unknown)),
        ("window", Ok(window.length_ns as f64 / 1e3)),
    ];
    let players = f64::from(tallies.joined.saturating_sub(arguments.stalled).max(1));
    let values = values
        .into_iter()
        .chain(figures_of_views(tally, views_expected))
        .chain(of_moves(&tallies.sends))
        .chain(of_arrivals(tallies.window, arguments.dialect, players * window.length_s()))
        .chain(of_processes(&window.lap, tallies.window.frames));
    fill(FIGURES, values)
}

/// How the moves left.
fn of_moves(sends: &Sends) -> [(&'static str, Value); 6] {
    [
        ("moves", Ok(sends.moves as f64)),
        ("moves_queued", Ok(sends.queued as f64)),
        ("late", Ok(sends.late as f64)),
        ("late_share", share(sends.late, sends.moves)),
        ("lateness_p99", Ok(sends.lateness_us.value_at_percentile(99.0) as f64)),
        ("lateness_max", Ok(sends.lateness_us.max() as f64)),
    ]
}

/// What was received. `player_seconds`: players × length of the window.
fn of_arrivals(received: Counters, dialect: DialectName, player_seconds: f64) -> [(&'static str, Value); 11] {
    let told = |tells: bool, value: Value| {
        if tells { value } else { Err(format!("not told in the {} dialect", dialect.as_str())) }
    };
    let refusals = |number: u64| told(dialect.reports_refusals(), Ok(number as f64));
    let keyframe_share = share(received.keyframes, received.tick_frames);
    [
        ("frames_received", Ok(received.frames as f64)),
        ("positions_received", Ok(received.positions as f64)),
        ("bytes_received", Ok(received.bytes as f64)),
        ("frames_per_player_s", Ok(received.frames as f64 / player_seconds)),
        ("bytes_per_player_s", Ok(received.bytes as f64 / player_seconds)),
        ("keyframe_share", told(dialect.marks_keyframes(), keyframe_share)),
        ("rate_limited", refusals(received.rate_limited)),
        ("corrections", refusals(received.corrections)),
        ("errors", refusals(received.errors)),
        ("notices", refusals(received.notices)),
        ("malformed", Ok(received.malformed as f64)),
    ]
}

/// What the relay and this process used.
fn of_processes(lap: &Lap, frames: u64) -> [(&'static str, Value); 12] {
    let per_frame = |cpu_s: f64| match frames {
        0 => Err("no frame was received".to_owned()),
        frames => Ok(cpu_s * 1e6 / frames as f64),
    };
    [
        ("client.cpu_cores", Ok(lap.own_cores())),
        ("client.cpu_us_per_frame", per_frame(lap.own_cpu_ns as f64 / 1e9)),
        ("server.cpu_cores", lap.server_cores()),
        ("server.cpu_us_per_frame", lap.server_cpu_s().and_then(per_frame)),
        ("server.rss_bytes", lap.after.rss_bytes.clone()),
        ("server.rss_growth_bytes", lap.rss_growth_bytes()),
        ("server.frames_out", lap.growth("corelay_frames_out_total")),
        ("server.deltas", lap.growth("corelay_deltas_total")),
        ("server.keyframes", lap.growth("corelay_keyframes_total")),
        ("server.frames_skipped", lap.growth("corelay_frames_skipped_total")),
        ("server.enters", lap.growth("corelay_enters_total")),
        ("server.completions", lap.growth("corelay_completions_total")),
    ]
}

fn warnings(measured: &Measured) -> Vec<String> {
    let own_share = measured.window.lap.own_cores() / f64::from(measured.threads);
    let sends = &measured.tallies.sends;
    let late_share = sends.late as f64 / sends.moves.max(1) as f64;
    let mut warnings = Vec::new();
    if own_share > SATURATED || late_share > LATE_SHARE_MAX {
        warnings.push(format!(
            "this machine did not keep up ({:.0} % of the client's threads used, {:.1} % of the moves late): read the latencies \
             as an upper bound",
            own_share * 100.0,
            late_share * 100.0
        ));
    }
    if measured.window.waited == Waited::Interrupted {
        warnings.push("interrupted: the figures are those of a shorter window".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::value_of;

    fn measured(own_cpu_ns: u64, threads: u32) -> Measured {
        let lap = Lap::unread(own_cpu_ns, 1_000_000_000);
        let window = Window { lap, length_ns: 1_000_000_000, waited: Waited::Done };
        Measured { tallies: Tallies::default(), window, join_ns: 1, threads }
    }

    fn figure(dialect: &str, measured: &Measured, name: &str) -> Value {
        let arguments = crate::arguments::parsed::<Arguments>(&["--dialect", dialect]);
        value_of(&figures(&arguments, measured), name)
    }

    #[test]
    fn every_figure_is_there_and_what_was_not_measured_says_why() {
        let value = |name| figure("native", &measured(0, 1), name);
        assert_eq!(value("moves"), Ok(0.0));
        assert!(value("reach").is_err() && value("p99.9").is_err());
        assert!(value("server.cpu_us_per_frame").unwrap_err().contains("127.0.0.1:1"));
    }

    #[test]
    fn what_a_dialect_does_not_tell_says_so() {
        let mut measured = measured(0, 1);
        (measured.tallies.window.tick_frames, measured.tallies.window.keyframes) = (4, 1);
        let figure = |dialect, name| figure(dialect, &measured, name);
        assert_eq!(figure("native", "keyframe_share"), Ok(0.25));
        assert_eq!(figure("phoenix", "keyframe_share"), Err("not told in the phoenix dialect".into()));
        assert_eq!(figure("phoenix", "rate_limited"), Ok(0.0));
        for name in ["keyframe_share", "rate_limited", "corrections", "errors", "notices"] {
            assert_eq!(figure("raw", name), Err("not told in the raw dialect".into()));
        }
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_told() {
        let warned = |own_cpu_ns, threads, late| {
            let mut measured = measured(own_cpu_ns, threads);
            (measured.tallies.sends.moves, measured.tallies.sends.late) = (1000, late);
            warnings(&measured)
        };
        assert_eq!(warned(1_600_000_000, 2, 10).len(), 0);
        assert!(warned(860_000_000, 1, 10)[0].contains("86 %"));
        assert!(warned(0, 2, 11)[0].contains("upper bound"));
    }
}
