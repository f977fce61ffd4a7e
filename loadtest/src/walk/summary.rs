//! What was measured of a world in which players walk, as figures and as a report: both games side by side.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Map, json};

use super::arguments::Arguments;
use super::game::Played;
use crate::endings::Endings;
use crate::figures::Unit::{Bytes, Count, Duration as Time, Number};
use crate::figures::{Figure, NOT_MEASURED, Rule, Value, count, figures_of, headline, latency, share, spec};
use crate::machine::Machine;
use crate::report::{Report, did_not_keep_up};
use crate::views::microseconds;

/// The games, up to the goodbyes: at least one.
#[derive(Default)]
pub struct Measured {
    pub plain: Option<Played>,
    pub views: Option<Played>,
    pub complete: bool,
}

/// If one of a hundred moves leaves so late, the machine is too busy for what is measured.
const LATE_US: u64 = 50_000;
const PLAIN: &str = "plain.";
const VIEWS: &str = "views.";

/// Figures of all games, and those of each game, once for `plain` and once for `views`.
macro_rules! figures {
    ($($rule:expr),+ $(,)?; $($name:literal, $unit:expr, $about:literal, $value:expr;)+) => {
        pub static FIGURES: &[Rule<Measured>] = &[
            $($rule,)+
            $(
                spec(concat!("plain.", $name), $unit, $about).of(|run| of(&run.plain, $value)),
                spec(concat!("views.", $name), $unit, $about).of(|run| of(&run.views, $value)),
            )+
        ];
    };
}

figures! {
    headline("closed", Count, "players whose connection ended before the goodbyes")
        .of(|run| run.sum(|game| count(game.crowd.joined() - game.open))),
    headline("missing", Count, "(look, player): not seen that had to be")
        .of(|run| run.sum(|game| game.faults(game.findings.missing))),
    headline("ghosts", Count, "(look, player): seen that had not to be")
        .of(|run| run.sum(|game| game.faults(game.findings.ghosts))),
    headline("stale", Count, "(look, player): seen where it had been too long ago")
        .of(|run| run.sum(|game| game.faults(game.findings.stale.iter().sum()))),
    headline("late", Count, "(look, player): the same, but as of the tick of the last frame all was right")
        .of(|run| run.sum(|game| game.faults(game.findings.late))),
    headline("seen_exactly", Number, "(look, player) without any of these / those that could be checked")
        .of(|run| Ok(1.0 - run.sum(|game| count(game.findings.faults()))? / run.sum(Played::checks)?)),
    headline("bytes_ratio", Number, "views.bytes_per_player_s / plain.bytes_per_player_s").of(|run| {
        Ok(of(&run.views, Played::bytes_per_player_s)? / of(&run.plain, Played::bytes_per_player_s)?)
    }),
    spec("moves", Count, "moves sent").of(|run| run.sum(|game| count(game.sends.moves))),
    spec("moving_share", Number, "of the moves that came due, those of players that did not rest")
        .of(|run| run.sum(|game| count(game.sends.moves)).and_then(|moves| {
            Ok(moves / (moves + run.sum(|game| count(game.sends.rests))?))
        })),
    spec("left_out", Count, "moves that were left out because their own socket was busy")
        .of(|run| run.sum(|game| count(game.sends.skipped))),
    spec("lateness_p99", Time, "99 % of the moves were sent within, after their time")
        .of(|run| latency(&run.lateness_us(), 99.0)),
    spec("pauses", Count, "times that a player read nothing for 4 s").of(|run| run.sum(|game| count(game.pauses))),
    spec("corrections", Count, "moves that the relay refused")
        .of(|run| run.sum(|game| count(game.crowd.counters.corrections))),
    spec("rate_limited", Count, "RateLimited records received")
        .of(|run| run.sum(|game| count(game.crowd.counters.rate_limited))),
    spec("errors", Count, "Error records received")
        .of(|run| run.sum(|game| count(game.crowd.counters.errors))),
    spec("malformed", Count, "records that are not as long as they say")
        .of(|run| run.sum(|game| count(game.crowd.counters.malformed + game.malformed)));

    "bytes_per_player_s", Bytes, "received per player and second", Played::bytes_per_player_s;
    "visible", Number, "players that a player sees, itself included", Played::visible;
    "bytes_per_visible_s", Number, "bytes per second and player that is seen",
        |game| Ok(game.bytes_per_player_s()? / game.visible()?);
    "frames_per_player_s", Number, "tick frames received per player and second",
        |game| game.per_player_s(game.window.tick_frames);
    "positions_per_frame", Number, "positions in them", |game| share(game.window.positions, game.window.tick_frames);
    "keyframe_share", Number, "of them, Keyframes", |game| share(game.window.keyframes, game.window.tick_frames);
    "encodes_per_frame", Number, "frames that the relay encoded / received",
        |game| Ok(game.lap.growth("corelay_frames_encoded_total")? / game.window.tick_frames as f64);
    "encodes_per_tick", Number, "frames that the relay encoded / ticks",
        |game| Ok(game.lap.growth("corelay_frames_encoded_total")? / game.lap.length_s() / f64::from(game.world.tick_hz));
    "skipped", Count, "frames that a player did not get because its socket was busy",
        |game| game.lap.growth("corelay_frames_skipped_total");
    "cpu_us_per_frame", Number, "µs of the relay's processor time per frame received",
        |game| Ok(game.lap.server_cpu_s()? * 1e6 / game.window.tick_frames as f64);
    "cpu_cores", Number, "processor time of the relay / window", |game| game.lap.server_cores();
    "client_cores", Number, "processor time of this load test / window", |game| Ok(game.lap.own_cores());
    "reach", Number, "(look, player) seen and not stale / had to be seen",
        |game| share(game.findings.fresh, game.findings.inside);
    "silence_p99", Time, "since the last frame of a player, when what it sees is checked",
        |game| latency(&game.findings.silence_us, 99.0);
    "silence_max", Time, "the longest of all", |game| latency(&game.findings.silence_us, 100.0);
    "looks", Count, "times that what a player sees was checked", |game| count(game.findings.looks);
    "checks", Count, "(look, player) of which could be said whether they are right", Played::checks;
    "missing", Count, "see above", |game| game.faults(game.findings.missing);
    "ghosts", Count, "see above", |game| game.faults(game.findings.ghosts);
    "stale0", Count, "stale, of the own cell", |game| game.faults(game.findings.stale[0]);
    "stale1", Count, "of the ring around it", |game| game.faults(game.findings.stale[1]);
    "stale2", Count, "of all farther ones", |game| game.faults(game.findings.stale[2]);
    "late", Count, "see above", |game| game.faults(game.findings.late);
    "age0_p50", Time, "how outdated what is seen is: of the own cell", |game| latency(&game.findings.age_us[0], 50.0);
    "age0_p99", Time, "99 % of it are at most", |game| latency(&game.findings.age_us[0], 99.0);
    "age1_p50", Time, "of the ring around it", |game| latency(&game.findings.age_us[1], 50.0);
    "age1_p99", Time, "99 % of it are at most", |game| latency(&game.findings.age_us[1], 99.0);
    "age2_p50", Time, "of all farther ones", |game| latency(&game.findings.age_us[2], 50.0);
    "age2_p99", Time, "99 % of it are at most", |game| latency(&game.findings.age_us[2], 99.0);
    "age_max", Time, "the most outdated of all",
        |game| Ok(game.findings.age_us.iter().map(Histogram::max).max().unwrap_or(0) as f64);
}

fn of(game: &Option<Played>, value: fn(&Played) -> Value) -> Value {
    value(game.as_ref().ok_or(NOT_MEASURED)?)
}

impl Played {
    fn per_player_s(&self, number: u64) -> Value {
        Ok(number as f64 / f64::from(self.crowd.joined()) / self.lap.length_s())
    }

    fn bytes_per_player_s(&self) -> Value {
        self.per_player_s(self.window.bytes)
    }

    fn visible(&self) -> Value {
        share(self.findings.visible, self.findings.looks)
    }

    fn checks(&self) -> Value {
        if self.findings.inside == 0 {
            Err("nobody was in sight long enough".to_owned())
        } else {
            count(self.findings.checks)
        }
    }

    /// That there are none is known only if somebody was in sight.
    fn faults(&self, found: u64) -> Value {
        self.checks().and_then(|_| count(found))
    }
}

impl Measured {
    fn games(&self) -> impl Iterator<Item = &Played> {
        self.plain.iter().chain(&self.views)
    }

    fn sum(&self, value: fn(&Played) -> Value) -> Value {
        self.games().map(value).sum()
    }

    fn lateness_us(&self) -> Histogram<u64> {
        let mut sum = microseconds();
        self.games().for_each(|game| sum.add(&game.sends.lateness_us).expect("both have the same bounds"));
        sum
    }

    fn warnings(&self) -> Vec<String> {
        let own_share = self.games().map(|game| game.lap.own_cores()).fold(0.0, f64::max);
        let interrupted = "interrupted: the figures are those of what was walked until then".to_owned();
        let late_us = self.lateness_us().value_at_percentile(99.0);
        let late =
            (late_us > LATE_US).then(|| format!("1 % of the moves sent {} ms late or later", late_us / 1000));
        let warnings = [did_not_keep_up(own_share, late.as_deref()), (!self.complete).then_some(interrupted)];
        let told = self.games().flat_map(|game| game.findings.told.iter().cloned());
        warnings.into_iter().flatten().chain(told).collect()
    }
}

/// The figures of all games, then those of each beside each other.
fn table(figures: &[Figure]) -> String {
    let mut table = String::new();
    let mut line = |name: &str, values: [&str; 2], about: &str| {
        let [left, right] = values;
        writeln!(table, "  {name:<22}{left:>14}{right:>14}  {about}").expect("a text takes everything");
    };
    let known = |figure: &Figure| if figure.value.is_ok() { figure.to_string() } else { "–".to_owned() };
    let (sides, all): (Vec<&Figure>, Vec<&Figure>) = figures
        .iter()
        .partition(|figure| [PLAIN, VIEWS].iter().any(|side| figure.spec.name.starts_with(side)));
    for figure in all {
        line(figure.spec.name, ["", &known(figure)], figure.spec.about);
    }
    line("", ["plain", "views"], "");
    for pair in sides.chunks_exact(2) {
        let name = pair[0].spec.name.trim_start_matches(PLAIN);
        line(name, [&known(pair[0]), &known(pair[1])], pair[0].spec.about);
    }
    table
}

pub fn report(arguments: &Arguments, measured: &Measured) -> Report {
    let &Arguments { players, density, cell, radius, budget, hz, speed, seconds, .. } = arguments;
    let &Arguments { crowd, skip_permille, checked, seed, .. } = arguments;
    let number = arguments.number.name();
    let mut endings = Endings::default();
    measured.games().for_each(|game| endings.add(&game.crowd.endings));
    let figures = figures_of(FIGURES, measured);
    let settings = json!({
        "players": players, "density": density, "cell": cell, "radius": radius, "budget": budget, "number": number,
        "hz": hz, "speed": speed, "seconds": seconds, "crowd": crowd, "skip_permille": skip_permille,
        "checked": checked, "network_s": arguments.network.as_secs_f64(), "seed": seed, "url": arguments.url,
        "game": arguments.game, "tokens": arguments.access.tokens_label(),
    });
    let place = arguments.url.as_deref().unwrap_or("a relay of its own");
    Report {
        command: "walk",
        title: format!(
            "{place}: {players} players walk in one game at {hz} Hz, for {seconds} s; {number}, crowd {crowd}"
        ),
        settings,
        complete: measured.complete,
        driver: measured.games().find_map(|game| game.lap.driver()),
        table: Some(table(&figures)),
        warnings: measured.warnings(),
        details: Map::from_iter([("machine".to_owned(), json!(Machine::here()))]),
        figures,
        endings,
        ..Report::default()
    }
}
