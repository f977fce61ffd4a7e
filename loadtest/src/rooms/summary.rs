//! What a run of `rooms` measured, as figures and warnings.

use serde_json::{Map, json};

use super::arguments::Arguments;
use super::figures::FIGURES;
use super::play::Outcome;
use crate::dialect::DialectName;
use crate::figures::{self, Figure, Value, difference};
use crate::report::{Report, SATURATED};
use crate::server::{Sample, Server};

/// Share of late moves from which latencies say more about this process than about the relay.
const LATE_SHARE_MAX: f64 = 0.01;

/// The relay and this process, at both ends of the window.
pub struct Window {
    /// The relay when the window began.
    pub before: Sample,
    /// The relay when it ended.
    pub after: Sample,
    /// Processor time that this process used in it.
    pub own_cpu_ns: u64,
    /// How long it was.
    pub length_ns: u64,
    /// How long joining took.
    pub join_ns: u64,
    /// Whether it was as long as asked for.
    pub complete: bool,
}

/// Puts together what the threads and the watcher measured.
pub fn report(
    arguments: &Arguments,
    threads: u32,
    server: &Server,
    outcome: Outcome,
    window: &Window,
) -> Report {
    let seconds = window.length_ns as f64 / 1e9;
    let complete = if window.complete { "" } else { ", interrupted" };
    Report {
        command: "rooms",
        title: format!(
            "{}: {} rooms of {} players at {} Hz, {} dialect, {seconds:.1} s measured{complete}",
            arguments.common.url,
            arguments.rooms,
            arguments.players,
            arguments.hz,
            arguments.dialect.as_str()
        ),
        settings: json!({
            "url": arguments.common.url, "rooms": arguments.rooms, "players": arguments.players, "hz": arguments.hz,
            "duration_s": arguments.duration.as_secs_f64(), "warmup_s": arguments.warmup.as_secs_f64(),
            "grace_s": arguments.grace.as_secs_f64(), "seed": arguments.seed, "threads": threads,
            "stalled": arguments.stalled, "ramp": arguments.ramp, "dialect": arguments.dialect.as_str(),
            "tokens": arguments.common.tokens_label(),
        }),
        complete: window.complete,
        figures: figures(arguments.dialect, arguments.stalled, &outcome, window),
        warnings: warnings(threads, &outcome, window),
        cpu_source: cpu_s(window).is_ok().then(|| server.cpu_source()),
        failures: outcome.failures,
        closes: outcome.closes,
        stalled_closes: outcome.stalled_closes,
        errors: outcome.errors,
        details: Map::new(),
    }
}

fn figures(dialect: DialectName, stalled: u32, outcome: &Outcome, window: &Window) -> Vec<Figure> {
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
    let players = f64::from(outcome.joined.saturating_sub(stalled).max(1));
    let server_cpu_s = cpu_s(window);
    let growth = |name: &str| window.after.growth(&window.before, name);
    let own_cpu_us = window.own_cpu_ns as f64 / 1e3;
    let received = outcome.window;
    let told = |tells: bool, value: Value| {
        if tells { value } else { Err(format!("not told in the {} dialect", dialect.as_str())) }
    };
    let keyframe_share = told(dialect.tells_keyframes(), share(received.keyframes, received.tick_frames));
    let refusals = |number: u64| told(dialect.tells_refusals(), count(number));

    figures::fill(
        FIGURES,
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
            ("positions_received", count(received.positions)),
            ("bytes_received", count(received.bytes)),
            ("frames_per_player_s", Ok(frames / players / seconds)),
            ("bytes_per_player_s", Ok(received.bytes as f64 / players / seconds)),
            ("keyframe_share", keyframe_share),
            ("rate_limited", refusals(received.rate_limited)),
            ("corrections", refusals(received.corrections)),
            ("errors", refusals(received.errors)),
            ("notices", refusals(received.notices)),
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
    )
}

fn warnings(threads: u32, outcome: &Outcome, window: &Window) -> Vec<String> {
    let own_share = window.own_cpu_ns as f64 / window.length_ns as f64 / f64::from(threads);
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
    warnings
}

/// Processor time that the relay used in the window.
fn cpu_s(window: &Window) -> Value {
    difference(&window.after.cpu_s, &window.before.cpu_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(own_cpu_ns: u64) -> Window {
        let nowhere = Server { metrics_url: "http://127.0.0.1:1/metrics".into(), pid: None };
        let (before, after) = (nowhere.sample(), nowhere.sample());
        Window { before, after, own_cpu_ns, length_ns: 1_000_000_000, join_ns: 1, complete: true }
    }

    #[test]
    fn every_figure_is_there_and_what_was_not_measured_says_why() {
        let figures = figures(DialectName::Native, 0, &Outcome::default(), &window(0));
        let value = |name: &str| &figures.iter().find(|figure| figure.spec.name == name).unwrap().value;
        assert_eq!(value("moves"), &Ok(0.0));
        assert!(value("reach").is_err() && value("p99.9").is_err());
        assert!(value("server.cpu_us_per_frame").as_ref().unwrap_err().contains("127.0.0.1:1"));
    }

    #[test]
    fn what_a_dialect_does_not_tell_says_so() {
        let mut outcome = Outcome::default();
        (outcome.window.tick_frames, outcome.window.keyframes) = (4, 1);
        let figure = |dialect, name| {
            let figures = figures(dialect, 0, &outcome, &window(0));
            figures.into_iter().find(|figure| figure.spec.name == name).unwrap().value
        };
        assert_eq!(figure(DialectName::Native, "keyframe_share"), Ok(0.25));
        assert_eq!(
            figure(DialectName::Phoenix, "keyframe_share"),
            Err("not told in the phoenix dialect".into())
        );
        assert_eq!(figure(DialectName::Phoenix, "rate_limited"), Ok(0.0));
        for name in ["keyframe_share", "rate_limited", "corrections", "errors", "notices"] {
            assert_eq!(figure(DialectName::Raw, name), Err("not told in the raw dialect".into()));
        }
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_told() {
        let mut outcome = Outcome::default();
        outcome.sends.moves = 1000;
        outcome.sends.late = 10;
        assert_eq!(warnings(2, &outcome, &window(1_600_000_000)).len(), 0);
        assert!(warnings(1, &outcome, &window(860_000_000))[0].contains("86 %"));
        outcome.sends.late = 11;
        assert!(warnings(2, &outcome, &window(0))[0].contains("upper bound"));
    }
}
