//! What a run measured, as figures, as a report, and as what runs of different sizes are compared by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::arguments::Load;
use super::configuration::{CLOSE_AFTER_MS, PING_AFTER_MS, TICK_HZ};
use super::kernel::Growth;
use super::layout::Layout;
use super::watch::Seen;
use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Rule, Value, count, difference, figures_of, headline, share, spec};
use crate::machine::Machine;
use crate::players::Tallies;
use crate::report::{Report, did_not_keep_up};

/// Moves that leave so late (99 % of them sooner), in µs, say more about this machine than about the relay.
const LATE_US_MAX: u64 = 10_000;

#[derive(Debug)]
pub struct Outcome {
    pub layout: Layout,
    pub tallies: Tallies,
    pub seen: Seen,
}

/// Figures of `million`.
pub static FIGURES: &[Rule<Outcome>] = &[
    headline("joined", Count, "players that got their Welcome").of(|run| count(run.tallies.joined)),
    headline("refused", Count, "connections that did not")
        .of(|run| count(run.tallies.endings.failures.total())),
    headline("dropped", Count, "players whose connection ended before the goodbyes")
        .of(|run| count(run.tallies.endings.closes.total())),
    spec("ramp_s", Number, "seconds from the first connect to the last Welcome")
        .of(|run| run.seen.ramp_s.clone()),
    spec("ramp_per_s", Number, "joined / ramp_s")
        .of(|run| Ok(f64::from(run.tallies.joined) / run.seen.ramp_s.clone()?.max(1e-9))),
    spec("rss_start_bytes", Bytes, "resident memory of the relay before the first connection")
        .of(|run| run.seen.rss_bytes[0].clone()),
    spec("rss_top_bytes", Bytes, "with everybody in, after --quiet").of(|run| run.seen.rss_bytes[1].clone()),
    spec("rss_after_bytes", Bytes, "when everybody has gone").of(|run| run.seen.rss_bytes[2].clone()),
    spec("rss_left", Number, "rss_after_bytes / rss_start_bytes")
        .of(|run| Ok(run.seen.rss_bytes[2].clone()? / run.seen.rss_bytes[0].clone()?)),
    headline(
        "user_bytes_per_player",
        Number,
        "(rss_top_bytes - rss_start_bytes) / players that are there at the top",
    )
    .of(|run| run.per_player(difference(&run.seen.rss_bytes[1], &run.seen.rss_bytes[0])?)),
    spec(
        "kernel_bytes_per_connection",
        Number,
        "growth of slab caches per end, without what only clients have",
    )
    .of(|run| {
        let growth = run.seen.kernel_growth(1)?;
        // Both ends of every connection are on this machine.
        run.per_player((growth.bytes - growth.client_bytes.unwrap_or(0.0)) / 2.0)
    }),
    spec(
        "client_kernel_bytes",
        Number,
        "per connection, growth of caches that only clients have, marked (client)",
    )
    .of(|run| {
        let bytes = run.seen.kernel_growth(1)?.client_bytes;
        run.per_player(bytes.ok_or("only root is told each slab cache")?)
    }),
    spec("sockstat_mem_bytes", Bytes, "TCP buffers of this machine after --quiet")
        .of(|run| Ok(run.seen.kernel[1].as_ref()?.sockstat.clone()?.buffer_bytes)),
    spec("idle_cpu_cores", Number, "processor time of the relay / time, in --quiet")
        .of(|run| run.seen.relay_cores[0].clone()),
    spec("hold_cpu_cores", Number, "the same in --hold").of(|run| run.seen.relay_cores[1].clone()),
    spec("client_rss_bytes", Bytes, "resident memory of this load test with everybody in")
        .of(|run| run.seen.client_rss_bytes.clone()),
    spec("client_idle_cpu_cores", Number, "processor time of this load test / time, in --quiet")
        .of(|run| run.seen.client_cores[0].clone()),
    spec("client_cpu_cores", Number, "the same in --hold").of(|run| run.seen.client_cores[1].clone()),
    spec("active_players", Count, "players that move in --hold").of(|run| count(run.layout.active_players())),
    spec("frames", Count, "tick frames that they received in it").of(Outcome::frames),
    headline("cpu_us_per_frame", Number, "(hold_cpu_cores - idle_cpu_cores) × --hold / frames, in µs")
        .of(Outcome::cpu_us_per_frame),
    headline("reach", Number, "views that were fresh / views expected")
        .of(|run| share(run.tallies.tally.fresh, run.views_expected())),
    spec("views_expected", Count, "moves of the hold × other players of the game")
        .of(|run| count(run.views_expected())),
    spec("p50", Duration, "latency: intended send of a move to its arrival elsewhere")
        .of(|run| run.tallies.latency(50.0)),
    spec("p90", Duration, "90 % of the views arrived within").of(|run| run.tallies.latency(90.0)),
    headline("p99", Duration, "99 % of the views arrived within").of(|run| run.tallies.latency(99.0)),
    spec("max", Duration, "the slowest view").of(|run| run.tallies.latency(100.0)),
    spec("moves", Count, "moves sent that were meant for the hold").of(|run| count(run.tallies.sends.moves)),
    spec("late_share", Number, "of these, sent more than 1 ms after their time")
        .of(|run| share(run.tallies.sends.late, run.tallies.sends.moves)),
    spec("lateness_p99", Duration, "99 % of these were sent within, after their time")
        .of(|run| count(run.tallies.sends.lateness_us.value_at_percentile(99.0))),
    spec("pings", Count, "pings answered").of(|run| count(run.tallies.total.pings)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.tallies.total.malformed)),
    spec("slab_kept_bytes", Bytes, "growth of slab caches when everybody has gone and the relay runs on")
        .of(|run| Ok(run.seen.kernel_growth(2)?.bytes)),
    spec("slab_left_bytes", Bytes, "the same when the relay has ended, too (neither counts TIME_WAIT)")
        .of(|run| Ok(run.seen.left.clone()?.bytes)),
];

/// One run, as runs of different sizes are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub connections: u32,
    pub shards: Option<u32>,
    /// What the relay ran on; `None` in files of before there were two.
    #[serde(default)]
    pub driver: Option<String>,
    /// Growth of the kernel's caches from the start to the top, in bytes.
    pub kernel_by_cache: Vec<(String, f64)>,
    /// By their names in the JSON; `None`: not measured.
    #[serde(flatten)]
    figures: BTreeMap<String, Option<f64>>,
}

impl Measurement {
    /// The figure of this name in the JSON.
    pub fn value(&self, name: &str) -> Value {
        self.figures.get(name).copied().flatten().ok_or_else(|| format!("{name} was not measured"))
    }
}

impl Outcome {
    pub fn measurement(&self) -> Measurement {
        let figures = figures_of(FIGURES, self);
        Measurement {
            connections: self.layout.connections(),
            shards: self.seen.shards,
            driver: self.seen.driver.clone(),
            kernel_by_cache: self.seen.kernel_growth(1).map_or(Vec::new(), |growth| growth.by_cache),
            figures: figures
                .into_iter()
                .map(|figure| (figure.spec.json_path().1, figure.value.ok()))
                .collect(),
        }
    }

    fn views_expected(&self) -> u64 {
        self.tallies.moves_planned * u64::from(self.layout.players - 1)
    }

    fn frames(&self) -> Value {
        self.seen.window_s.clone().map(|_| self.tallies.window.tick_frames as f64)
    }

    /// Divides by the players that were there when memory was read: one that had ended by then takes none.
    fn per_player(&self, bytes: f64) -> Value {
        match self.seen.open_at_top {
            0 => Err("nobody was there when memory was read".to_owned()),
            open => Ok(bytes / f64::from(open)),
        }
    }

    /// What moving costs beyond being idle.
    fn cpu_us_per_frame(&self) -> Value {
        let cores = difference(&self.seen.relay_cores[1], &self.seen.relay_cores[0])?;
        match self.frames()? {
            0.0 => Err("no frame was received".to_owned()),
            frames => Ok(cores * self.seen.window_s.clone()? * 1e6 / frames),
        }
    }

    /// Of a run with `relay`. `note` is a warning.
    pub fn report(self, relay: &str, load: &Load, note: Option<String>) -> Report {
        let (layout, seen) = (self.layout, &self.seen);
        Report {
            command: "million",
            title: self.title(relay, load),
            settings: json!({
                "relay": relay, "connections": layout.connections(), "players": layout.players, "ramp": load.ramp,
                "quiet_s": load.quiet.as_secs_f64(), "hold_s": load.hold.as_secs_f64(),
                "active_games": layout.active_games, "games": layout.games, "hz": load.hz, "seed": load.seed,
                "rings": layout.rings(), "relay_shards": seen.shards, "tick_hz": TICK_HZ,
                "liveness_ping_after_ms": PING_AFTER_MS, "liveness_close_after_ms": CLOSE_AFTER_MS,
            }),
            complete: seen.complete && seen.failure.is_none(),
            driver: seen.driver.clone(),
            figures: figures_of(FIGURES, &self),
            warnings: self.warnings(note),
            details: Map::from_iter([
                ("kernel_by_cache".to_owned(), by_cache(seen.kernel_growth(1))),
                ("slab_kept_by_cache".to_owned(), by_cache(seen.kernel_growth(2))),
                ("slab_left_by_cache".to_owned(), by_cache(seen.left.clone())),
                ("machine".to_owned(), json!(Machine::here())),
            ]),
            endings: self.tallies.endings,
            ..Report::default()
        }
    }

    fn title(&self, relay: &str, load: &Load) -> String {
        let layout = self.layout;
        format!(
            "{relay}: {} connections, {} of {} games of {} move at {} Hz for {} s",
            layout.connections(),
            layout.active_games,
            layout.games,
            layout.players,
            load.hz,
            load.hold.as_secs_f64(),
        )
    }

    fn warnings(&self, note: Option<String>) -> Vec<String> {
        let late_us = self.tallies.sends.lateness_us.value_at_percentile(99.0);
        let late = format!("1 % of the moves more than {} ms late", late_us / 1000);
        let own_share = self.seen.client_cores[1].clone().unwrap_or(0.0) / f64::from(self.layout.rings());
        let failure = self.seen.failure.as_ref();
        let failure =
            failure.map(|failure| format!("the figures are those from before the goodbyes: {failure}"));
        let interrupted = "interrupted: the figures are those of what was done until then".to_owned();
        let interrupted = (!self.seen.complete).then_some(interrupted);
        let slow = did_not_keep_up(own_share, Some(&*late).filter(|_| late_us > LATE_US_MAX));
        [note, slow, failure, interrupted].into_iter().flatten().collect()
    }
}

fn by_cache(growth: Result<Growth, String>) -> Json {
    let caches = growth.map_or(Vec::new(), |growth| growth.by_cache);
    caches.iter().map(|(cache, bytes)| json!({ "cache": cache, "bytes": bytes })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layout::ActiveGames;
    use super::*;
    use crate::figures::value_of;

    fn outcome() -> Outcome {
        let layout = Layout::new(1_000, 50, ActiveGames::Games(2), 20_000).unwrap();
        let mut tallies = Tallies { joined: 1_000, moves_planned: 100, ..Tallies::default() };
        tallies.window.tick_frames = 20_000;
        tallies.tally.fresh = 4_851;
        let seen = Seen {
            ramp_s: Ok(0.5),
            rss_bytes: [Ok(10e6), Ok(10.225e6), Err("interrupted".into())],
            open_at_top: 750,
            client_rss_bytes: Ok(1e6),
            left: Err("interrupted".into()),
            kernel: std::array::from_fn(|_| Err("no slab".into())),
            relay_cores: [Ok(0.01), Ok(0.05)],
            client_cores: [Ok(0.0), Ok(0.1)],
            window_s: Ok(10.0),
            shards: Some(2),
            driver: None,
            complete: false,
            failure: None,
        };
        Outcome { layout, tallies, seen }
    }

    #[test]
    fn figures_are_put_together_from_both_sides() {
        let mut outcome = outcome();
        let figures = figures_of(FIGURES, &outcome);
        let value = |name| value_of(&figures, name);
        // Memory is that of the 750 who were there when it was read.
        assert_eq!((value("ramp_per_s"), value("user_bytes_per_player")), (Ok(2_000.0), Ok(300.0)));
        // (0.05 − 0.01) cores × 10 s / 20,000
        assert!((value("cpu_us_per_frame").unwrap() - 20.0).abs() < 1e-9);
        assert_eq!((value("views_expected"), value("reach")), (Ok(4_900.0), Ok(0.99)));
        assert_eq!(value("rss_after_bytes"), Err("interrupted".into()));
        assert_eq!(value("p99"), Err("nothing arrived".into()));
        let measurement = outcome.measurement();
        assert_eq!((measurement.value("reach"), measurement.connections), (Ok(0.99), 1_000));
        assert!(measurement.value("p99_us").is_err());
        outcome.seen.open_at_top = 0;
        assert_eq!(outcome.per_player(225_000.0), Err("nobody was there when memory was read".into()));
    }

    #[test]
    fn a_failure_in_the_goodbyes_leaves_what_was_measured_before() {
        let mut outcome = outcome();
        outcome.seen.rss_bytes[2] = Ok(11e6);
        outcome.seen.fail(&anyhow::anyhow!("the relay ended"));
        outcome.seen.fail(&anyhow::anyhow!("a thread, too"));
        assert_eq!(outcome.seen.failure.as_deref(), Some("the relay ended"));
        let figures = figures_of(FIGURES, &outcome);
        let value = |name| value_of(&figures, name);
        assert_eq!((value("rss_top_bytes"), value("reach")), (Ok(10.225e6), Ok(0.99)));
        for after in ["rss_after_bytes", "rss_left", "slab_kept_bytes", "slab_left_bytes"] {
            assert!(value(after).unwrap_err().starts_with("not measured: "), "{after}");
        }
    }
}
