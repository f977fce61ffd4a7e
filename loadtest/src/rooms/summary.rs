//! What a run of `rooms` measured, as figures and warnings.

use serde_json::json;

use super::arguments::Arguments;
use crate::dialect::DialectName;
use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Rule, Value, count, figures_of, headline, share, spec};
use crate::players::{Tallies, Waited, Window};
use crate::report::{Report, did_not_keep_up};

/// Share of late moves from which latencies say more about this process than about the relay.
const LATE_SHARE_MAX: f64 = 0.01;

/// What the threads and the director measured.
pub struct Measured {
    pub tallies: Tallies,
    pub window: Window,
    pub join_ns: u64,
    pub threads: u32,
    pub dialect: DialectName,
    /// Moves of the window × other players of the room.
    pub views_expected: u64,
}

/// Figures of `rooms`.
pub static FIGURES: &[Rule<Measured>] = &[
    headline("joined", Count, "players (and stalled members) that are in their game")
        .of(|run| count(run.tallies.joined)),
    spec("not_joined", Count, "those that did not").of(|run| count(run.tallies.endings.failures.total())),
    spec("join_time", Duration, "from the first connect to the last join")
        .of(|run| Ok(run.join_ns as f64 / 1e3)),
    headline("closed", Count, "players whose connection ended during the run")
        .of(|run| count(run.tallies.endings.closes.total())),
    headline("reach", Number, "views that were fresh / views expected")
        .of(|run| share(run.tallies.tally.fresh, run.views_expected)),
    spec("views_expected", Count, "moves of the window × other players of the room")
        .of(|run| count(run.views_expected)),
    spec("views_fresh", Count, "of these, arrived (or a newer one did) within --grace")
        .of(|run| count(run.tallies.tally.fresh)),
    spec("views_delivered", Count, "of these, arrived at all").of(|run| count(run.tallies.tally.delivered)),
    headline("p50", Duration, "latency: intended send of a move to its arrival elsewhere")
        .of(|run| run.tallies.latency(50.0)),
    spec("p90", Duration, "90 % of the views arrived within").of(|run| run.tallies.latency(90.0)),
    headline("p99", Duration, "99 % of the views arrived within").of(|run| run.tallies.latency(99.0)),
    spec("p99.9", Duration, "99.9 % of the views arrived within").of(|run| run.tallies.latency(99.9)),
    spec("max", Duration, "the slowest view").of(|run| run.tallies.latency(100.0)),
    spec("mean", Duration, "mean latency")
        .of(|run| run.tallies.latency(50.0).map(|_| run.tallies.tally.latency_us.mean())),
    spec("moves", Count, "moves sent that were meant for the window")
        .of(|run| count(run.tallies.sends.moves)),
    spec("moves_unsent", Count, "moves whose player had not joined or was gone")
        .of(|run| count(run.tallies.moves_planned.saturating_sub(run.tallies.sends.moves))),
    spec("moves_queued", Count, "moves that waited for their own busy socket")
        .of(|run| count(run.tallies.sends.queued)),
    spec("late", Count, "moves sent more than 1 ms after their time").of(|run| count(run.tallies.sends.late)),
    spec("late_share", Number, "late / moves")
        .of(|run| share(run.tallies.sends.late, run.tallies.sends.moves)),
    spec("lateness_p99", Duration, "99 % of the moves were sent within, after their time")
        .of(|run| count(run.tallies.sends.lateness_us.value_at_percentile(99.0))),
    spec("lateness_max", Duration, "the latest move").of(|run| count(run.tallies.sends.lateness_us.max())),
    spec("window", Duration, "length of the measured window").of(|run| Ok(run.window.length_ns as f64 / 1e3)),
    spec("frames_received", Count, "WebSocket messages received in the window")
        .of(|run| count(run.tallies.window.frames)),
    spec("positions_received", Count, "positions in the tick frames among them")
        .of(|run| count(run.tallies.window.positions)),
    spec("bytes_received", Count, "bytes received in the window").of(|run| count(run.tallies.window.bytes)),
    spec("keyframe_share", Number, "Keyframes / tick frames").of(|run| {
        run.told(run.dialect.marks_keyframes())?;
        share(run.tallies.window.keyframes, run.tallies.window.tick_frames)
    }),
    spec("rate_limited", Count, "RateLimited records (rate_limited messages) received")
        .of(|run| run.refusals(run.tallies.window.rate_limited)),
    spec("corrections", Count, "Correction records (correction messages) received")
        .of(|run| run.refusals(run.tallies.window.corrections)),
    spec("errors", Count, "Error records (error replies) received")
        .of(|run| run.refusals(run.tallies.window.errors)),
    spec("notices", Count, "Notice records (warnings before a close) received")
        .of(|run| run.refusals(run.tallies.window.notices)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.tallies.window.malformed)),
    spec("positions_unknown", Count, "positions received that nobody sent")
        .of(|run| count(run.tallies.tally.unknown)),
    spec("stalled_closed", Count, "members that stopped reading and were closed")
        .of(|run| count(run.tallies.endings.stalled_closes.total())),
    spec("client.cpu_cores", Number, "processor time of this load test / window")
        .of(|run| Ok(run.window.lap.own_cores())),
    spec("client.cpu_us_per_frame", Number, "µs of it per frame received")
        .of(|run| run.per_frame(run.window.lap.own_cpu_ns as f64 / 1e9)),
    spec("server.cpu_cores", Number, "processor time of the relay / window")
        .of(|run| run.window.lap.server_cores()),
    headline("server.cpu_us_per_frame", Number, "µs of it per frame received")
        .of(|run| run.per_frame(run.window.lap.server_cpu_s()?)),
    spec("server.rss_bytes", Bytes, "resident memory of the relay at the end of the window")
        .of(|run| run.window.lap.after.rss_bytes.clone()),
    spec("server.rss_growth_bytes", Bytes, "and how much it grew within")
        .of(|run| run.window.lap.rss_growth_bytes()),
    spec("server.frames_out", Count, "corelay_frames_out_total, within the window")
        .of(|run| run.growth("frames_out")),
    spec("server.deltas", Count, "corelay_deltas_total, within the window").of(|run| run.growth("deltas")),
    spec("server.keyframes", Count, "corelay_keyframes_total, within the window")
        .of(|run| run.growth("keyframes")),
    spec("server.frames_skipped", Count, "corelay_frames_skipped_total, within the window")
        .of(|run| run.growth("frames_skipped")),
    spec("server.enters", Count, "corelay_enters_total, within the window").of(|run| run.growth("enters")),
    spec("server.completions", Count, "corelay_completions_total, within the window")
        .of(|run| run.growth("completions")),
];

impl Measured {
    /// An error where the dialect does not tell.
    fn told(&self, tells: bool) -> Result<(), String> {
        if tells { Ok(()) } else { Err(format!("not told in the {} dialect", self.dialect.as_str())) }
    }

    fn refusals(&self, number: u64) -> Value {
        self.told(self.dialect.reports_refusals())?;
        count(number)
    }

    /// How much a counter of the relay has grown within the window.
    fn growth(&self, name: &str) -> Value {
        self.window.lap.growth(&format!("corelay_{name}_total"))
    }

    fn per_frame(&self, cpu_s: f64) -> Value {
        match self.tallies.window.frames {
            0 => Err("no frame was received".to_owned()),
            frames => Ok(cpu_s * 1e6 / frames as f64),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let own_share = self.window.lap.own_cores() / f64::from(self.threads);
        let sends = &self.tallies.sends;
        let late_share = sends.late as f64 / sends.moves.max(1) as f64;
        let late = format!("{:.1} % of the moves late", late_share * 100.0);
        let late = Some(&*late).filter(|_| late_share > LATE_SHARE_MAX);
        let interrupted = "interrupted: the figures are those of a shorter window".to_owned();
        let interrupted = (self.window.waited == Waited::Interrupted).then_some(interrupted);
        let other = of_another_relay(&self.growth("frames_out"), self.tallies.window.frames);
        did_not_keep_up(own_share, late).into_iter().chain(interrupted).chain(other).collect()
    }
}

/// The warning that whoever was asked for metrics has not sent these frames.
fn of_another_relay(frames_out: &Value, received: u64) -> Option<String> {
    let sent = *frames_out.as_ref().ok()?;
    (sent < received as f64 / 2.0).then(|| {
        format!(
            "the metrics are those of another relay, and so is every server.… (it sent {sent:.0} frames, {received} came): \
             give --metrics"
        )
    })
}

pub fn report(arguments: &Arguments, cpu_source: &'static str, measured: Measured) -> Report {
    let (common, load, dialect) = (&arguments.common, &arguments.load, arguments.dialect.as_str());
    let complete = measured.window.waited == Waited::Done;
    Report {
        command: "rooms",
        title: format!(
            "{}: {} rooms of {} players at {} Hz{}, {dialect} dialect, {:.1} s measured",
            common.url,
            load.rooms,
            load.players,
            load.hz,
            if arguments.aligned { ", aligned" } else { "" },
            measured.window.length_s()
        ),
        settings: json!({
            "url": common.url, "rooms": load.rooms, "players": load.players, "hz": load.hz,
            "duration_s": load.duration.as_secs_f64(), "warmup_s": load.warmup.as_secs_f64(),
            "grace_s": load.grace.as_secs_f64(), "seed": load.seed, "threads": measured.threads,
            "stalled": arguments.stalled, "aligned": arguments.aligned, "ramp": load.ramp, "dialect": dialect,
            "tokens": common.tokens_label(),
        }),
        complete,
        figures: figures_of(FIGURES, &measured),
        warnings: measured.warnings(),
        driver: measured.window.lap.driver(),
        cpu_source: measured.window.lap.server_cpu_s().is_ok().then_some(cpu_source),
        endings: measured.tallies.endings,
        ..Report::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::value_of;
    use crate::server::Lap;

    fn measured(dialect: DialectName, own_cpu_ns: u64, threads: u32) -> Measured {
        let lap = Lap::unread(own_cpu_ns, 1_000_000_000);
        let window = Window { lap, length_ns: 1_000_000_000, waited: Waited::Done };
        let tallies = Tallies::default();
        Measured { tallies, window, join_ns: 1, threads, dialect, views_expected: 0 }
    }

    #[test]
    fn what_was_not_measured_or_is_not_told_says_why() {
        let figure = |dialect, name| {
            let mut measured = measured(dialect, 0, 1);
            (measured.tallies.window.tick_frames, measured.tallies.window.keyframes) = (4, 1);
            value_of(&figures_of(FIGURES, &measured), name)
        };
        let native = |name| figure(DialectName::Native, name);
        assert_eq!((native("moves"), native("keyframe_share")), (Ok(0.0), Ok(0.25)));
        assert!(native("reach").is_err() && native("p99.9").is_err() && native("mean").is_err());
        assert!(native("server.cpu_us_per_frame").unwrap_err().contains("127.0.0.1:1"));
        let phoenix = |name| figure(DialectName::Phoenix, name);
        assert_eq!(phoenix("keyframe_share"), Err("not told in the phoenix dialect".into()));
        assert_eq!(phoenix("rate_limited"), Ok(0.0));
        for name in ["keyframe_share", "rate_limited", "corrections", "errors", "notices"] {
            assert_eq!(figure(DialectName::Raw, name), Err("not told in the raw dialect".into()));
        }
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_told() {
        let warned = |own_cpu_ns, threads, late| {
            let mut measured = measured(DialectName::Native, own_cpu_ns, threads);
            (measured.tallies.sends.moves, measured.tallies.sends.late) = (1000, late);
            measured.warnings()
        };
        assert_eq!(warned(1_600_000_000, 2, 10).len(), 0);
        assert!(warned(860_000_000, 1, 10)[0].contains("86 %"));
        assert!(warned(0, 2, 11)[0].contains("upper bound"));
    }

    #[test]
    fn metrics_of_another_relay_are_told() {
        assert!(of_another_relay(&Ok(0.0), 1000).unwrap().contains("another relay"));
        // What is under way at the ends of the window is counted on one side only.
        assert_eq!(of_another_relay(&Ok(990.0), 1000), None);
        assert_eq!(of_another_relay(&Err("connection refused".into()), 1000), None);
        assert_eq!(of_another_relay(&Ok(0.0), 0), None);
    }
}
