//! What was measured of documents, as figures and as a report.

use serde_json::{Map, Value as Json, json};

use super::arguments::Arguments;
use super::game::Played;
use crate::counters::Counters;
use crate::crowd::Crowd;
use crate::edits::{Comparison, Edits};
use crate::figures::Unit::{Bytes, Count, Duration as Time, Number};
use crate::figures::{NOT_MEASURED, Rule, Value, count, figures_of, headline, spec};
use crate::ledger::Faults;
use crate::machine::Machine;
use crate::report::{Report, did_not_keep_up};
use crate::server::Lap;

/// The run, up to the goodbyes.
pub struct Measured {
    pub clients: u32,
    pub crowd: Crowd,
    pub edits: Edits,
    pub comparison: Comparison,
    /// Editors that were there when all was quiet.
    pub open: u32,
    /// At least one.
    pub spells: Vec<Spell>,
    pub turns: Vec<Turn>,
    /// 50th and 99th percentile of `fdatasync`, in µs.
    pub disk: [Value; 2],
    pub complete: bool,
}

/// A time in which everybody edited.
pub struct Spell {
    pub lap: Lap,
    /// What was received in it.
    pub received: Counters,
    pub bytes_sent: u64,
}

/// The game alone, and then beside the edits.
pub struct Turn {
    pub alone: Played,
    pub beside: Played,
}

/// Figures of `documents`.
pub static FIGURES: &[Rule<Measured>] = &[
    spec("joined", Count, "editors").of(|run| count(run.clients)),
    headline("closed", Count, "editors whose connection ended before all was quiet")
        .of(|run| count(run.clients - run.open)),
    spec("edits", Count, "edits that came due").of(|run| count(run.edits.due)),
    spec("sent", Count, "operations sent").of(|run| count(run.edits.outcomes.sent)),
    spec("merged", Count, "edits that went in one operation with the one before")
        .of(|run| count(run.edits.merged)),
    headline("acknowledged", Count, "operations answered with ok: on disk")
        .of(|run| count(run.edits.outcomes.acknowledged)),
    headline("refused", Count, "operations answered with an error: see the reasons below")
        .of(|run| count(run.edits.outcomes.refusals.total())),
    headline("unanswered", Count, "operations sent that were not answered")
        .of(|run| count(run.edits.ledger.unanswered().count() as u64)),
    headline("diverged", Count, "editors with another text or version than a newcomer is told")
        .of(|run| run.none_or(run.comparison.diverged.into(), run.comparison.unchecked)),
    spec("unchecked", Count, "editors that could not be compared with a newcomer")
        .of(|run| count(run.comparison.unchecked)),
    headline("lost", Count, "(editor, acknowledged operation) of which the editor was never told")
        .of(|run| run.none_or(run.faults().lost, run.clients - run.here())),
    headline("repeated", Count, "times that an editor was told a version again")
        .of(|run| count(run.faults().repeated)),
    spec("gaps", Count, "times that a version was left out").of(|run| count(run.faults().gaps)),
    spec("reordered", Count, "times that a version came after a later one")
        .of(|run| count(run.faults().reordered)),
    spec("contradictions", Count, "times that version and op_id did not fit what was told before")
        .of(|run| count(run.faults().contradictions)),
    spec("heard", Count, "times that an editor was told of another's operation")
        .of(|run| count(run.edits.outcomes.heard)),
    headline("acknowledged_per_s", Number, "acknowledged edits that were meant for a window / its length")
        .of(|run| Ok(run.acknowledged_per_s())),
    spec("ack_p50", Time, "latency: intended time of an edit to its acknowledgement")
        .of(|run| run.edits.outcomes.ack(50.0)),
    spec("ack_p90", Time, "90 % of the acknowledgements arrived within")
        .of(|run| run.edits.outcomes.ack(90.0)),
    headline("ack_p99", Time, "99 % of the acknowledgements arrived within")
        .of(|run| run.edits.outcomes.ack(99.0)),
    spec("ack_p99.9", Time, "99.9 % of the acknowledgements arrived within")
        .of(|run| run.edits.outcomes.ack(99.9)),
    spec("ack_max", Time, "the slowest acknowledgement").of(|run| run.edits.outcomes.ack(100.0)),
    spec("heard_p50", Time, "latency: intended time of an edit to its arrival at another editor")
        .of(|run| run.edits.outcomes.heard(50.0)),
    spec("heard_p90", Time, "90 % of the arrivals came within").of(|run| run.edits.outcomes.heard(90.0)),
    headline("heard_p99", Time, "99 % of the arrivals came within").of(|run| run.edits.outcomes.heard(99.0)),
    spec("heard_p99.9", Time, "99.9 % of the arrivals came within").of(|run| run.edits.outcomes.heard(99.9)),
    spec("heard_max", Time, "the slowest arrival").of(|run| run.edits.outcomes.heard(100.0)),
    spec("fsync_p50", Time, "write of 4 KiB and fdatasync, before the run").of(|run| run.disk[0].clone()),
    headline("fsync_p99", Time, "99 % of these took at most").of(|run| run.disk[1].clone()),
    spec("unsent", Count, "edits whose editor had no connection, or no text to edit")
        .of(|run| count(run.edits.outcomes.unsent)),
    spec("restated", Count, "times that an editor was told the whole text anew: it was too far behind")
        .of(|run| count(run.edits.restated)),
    spec("given_up", Count, "edits that it had not sent then").of(|run| count(run.edits.given_up)),
    spec("queued", Count, "times that an operation waited for its own busy socket")
        .of(|run| count(run.edits.outcomes.queued)),
    spec("late_share", Number, "made more than 1 ms after their time / edits of a window")
        .of(|run| Ok(run.edits.outcomes.late_share())),
    spec("lateness_p99", Time, "99 % of these were made within, after their time")
        .of(|run| run.edits.outcomes.lateness(99.0)),
    spec("longest_text", Count, "characters of the longest text in the end")
        .of(|run| count(run.edits.longest() as u64)),
    spec("window", Time, "length of the measured windows").of(|run| Ok(run.edits.window_s() * 1e6)),
    spec("bytes_sent", Bytes, "operations sent in the windows")
        .of(|run| count(run.spells.iter().map(|spell| spell.bytes_sent).sum::<u64>())),
    spec("bytes_received", Bytes, "everything that editors received in the windows")
        .of(|run| count(run.spells.iter().map(|spell| spell.received.bytes).sum::<u64>())),
    spec("frames_received", Count, "WebSocket messages of it")
        .of(|run| count(run.spells.iter().map(|spell| spell.received.frames).sum::<u64>())),
    spec("errors", Count, "error replies received").of(|run| count(run.crowd.counters.errors)),
    spec("notices", Count, "disconnect_warning and server_draining messages received")
        .of(|run| count(run.crowd.counters.notices)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.crowd.counters.malformed)),
    spec("client.cpu_cores", Number, "processor time of this load test / windows")
        .of(|run| Ok(run.own_cores())),
    spec("server.cpu_cores", Number, "processor time of the relay / windows").of(Measured::server_cores),
    headline("server.cpu_us_per_operation", Number, "µs of it per acknowledged edit of a window")
        .of(Measured::cpu_us_per_operation),
    spec("server.commits", Count, "batches that its store has put on disk")
        .of(|run| run.sum(|lap| lap.growth("corelay_store_commits_total"))),
    spec("server.rss_bytes", Bytes, "its resident memory at the end of the last window")
        .of(|run| run.last().after.rss_bytes.clone()),
    spec("server.rss_growth_bytes", Bytes, "and how much it grew within")
        .of(|run| run.last().rss_growth_bytes()),
    spec("game.alone_p50", Time, "latency of moves while nobody edits")
        .of(|run| run.game(|turn| &turn.alone)?.latency(50.0)),
    headline("game.alone_p99", Time, "99 % of the views arrived within then")
        .of(|run| run.game(|turn| &turn.alone)?.latency(99.0)),
    spec("game.alone_reach", Number, "views that were fresh then / views expected")
        .of(|run| run.game(|turn| &turn.alone)?.reach()),
    spec("game.beside_p50", Time, "latency of moves while everybody edits")
        .of(|run| run.game(|turn| &turn.beside)?.latency(50.0)),
    headline("game.beside_p99", Time, "99 % of the views arrived within then")
        .of(|run| run.game(|turn| &turn.beside)?.latency(99.0)),
    spec("game.beside_reach", Number, "views that were fresh then / views expected")
        .of(|run| run.game(|turn| &turn.beside)?.reach()),
    spec("game.p99_ratio", Number, "game.beside_p99 / game.alone_p99").of(|run| {
        let [alone, beside] = [run.game(|turn| &turn.alone)?, run.game(|turn| &turn.beside)?];
        Ok(beside.latency(99.0)? / alone.latency(99.0)?)
    }),
    spec("game.closed", Count, "players whose connection ended before the goodbyes").of(|run| {
        let [alone, beside] = [run.game(|turn| &turn.alone)?, run.game(|turn| &turn.beside)?];
        count(alone.closed() + beside.closed())
    }),
];

impl Measured {
    fn faults(&self) -> Faults {
        self.edits.ledger.faults(|client| self.edits.is_here(client))
    }

    /// Editors that were there to the end.
    fn here(&self) -> u32 {
        (0..self.clients).filter(|&client| self.edits.is_here(client)).count() as u32
    }

    /// That there are none is known only if nobody is `missing`.
    fn none_or(&self, found: u64, missing: u32) -> Value {
        if found == 0 && missing > 0 {
            return Err(format!("{missing} of {} editors could not be checked", self.clients));
        }
        count(found)
    }

    fn last(&self) -> &Lap {
        &self.spells.last().expect("there is at least one").lap
    }

    /// Of all windows.
    fn sum(&self, value: impl Fn(&Lap) -> Value) -> Value {
        self.spells.iter().map(|spell| value(&spell.lap)).sum()
    }

    fn acknowledged_per_s(&self) -> f64 {
        self.edits.outcomes.acknowledged_in_window as f64 / self.edits.window_s()
    }

    /// The laps are a little shorter than the windows: the relay's figures are read first.
    fn laps_s(&self) -> f64 {
        self.spells.iter().map(|spell| spell.lap.length_s()).sum()
    }

    fn own_cores(&self) -> f64 {
        let own_ns: u64 = self.spells.iter().map(|spell| spell.lap.own_cpu_ns).sum();
        own_ns as f64 / 1e9 / self.laps_s()
    }

    fn server_cores(&self) -> Value {
        Ok(self.sum(Lap::server_cpu_s)? / self.laps_s())
    }

    fn cpu_us_per_operation(&self) -> Value {
        match self.edits.outcomes.acknowledged_in_window {
            _ if !self.turns.is_empty() => Err("the game's is in it".to_owned()),
            0 => Err("nothing was acknowledged".to_owned()),
            _ => Ok(self.server_cores()? * 1e6 / self.acknowledged_per_s()),
        }
    }

    /// One half of all turns.
    fn game(&self, half: fn(&Turn) -> &Played) -> Result<Played, String> {
        if self.turns.is_empty() {
            return Err(NOT_MEASURED.to_owned());
        }
        let mut sum = Played::default();
        self.turns.iter().for_each(|turn| sum.add(half(turn)));
        Ok(sum)
    }

    fn warnings(&self) -> Vec<String> {
        let late = self.edits.outcomes.much_late("edits");
        let threads = if self.turns.is_empty() { 1.0 } else { 2.0 };
        let unchecked = format!(
            "{} of {} editors could not be compared with a newcomer: whether their texts are the same is not known",
            self.comparison.unchecked, self.clients
        );
        let interrupted = "interrupted: the figures are those of what was edited until then".to_owned();
        let warnings = [
            did_not_keep_up(self.own_cores() / threads, late.as_deref()),
            (self.comparison.unchecked > 0).then_some(unchecked),
            (!self.complete).then_some(interrupted),
        ];
        warnings.into_iter().flatten().collect()
    }
}

fn turn_json(turn: &Turn) -> Json {
    let half = |played: &Played| {
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|percentile| played.latency(percentile).ok());
        json!({ "p50_us": p50, "p99_us": p99, "max_us": max, "reach": played.reach().ok() })
    };
    json!({ "alone": half(&turn.alone), "beside": half(&turn.beside) })
}

/// `warnings` that the figures do not tell come first.
pub fn report(
    arguments: &Arguments,
    cpu_source: &'static str,
    measured: &Measured,
    mut warnings: Vec<String>,
) -> Report {
    let &Arguments { documents, editors, rate, seconds, characters, seed, ramp, .. } = arguments;
    warnings.extend(measured.warnings());
    let refusals = measured.edits.outcomes.refusals.lines();
    let refusals = refusals.map(|(text, count)| json!({ "text": text, "count": count }));
    let settings = json!({
        "documents": documents, "editors": editors, "rate": rate, "warmup_s": arguments.warmup.as_secs_f64(),
        "seconds": seconds, "characters": characters, "grace_s": arguments.grace.as_secs_f64(),
        "beside_players": arguments.beside_players, "turns": arguments.spells(), "seed": seed, "ramp": ramp,
        "venue": arguments.venue.settings(),
    });
    Report {
        command: "documents",
        title: format!(
            "{}: {documents} documents of {editors} editors at {rate} edits a second each, for {seconds} s",
            arguments.venue.name()
        ),
        settings,
        complete: measured.complete,
        driver: measured.last().driver(),
        cpu_source: measured.sum(Lap::server_cpu_s).is_ok().then_some(cpu_source),
        figures: figures_of(FIGURES, measured),
        warnings,
        details: Map::from_iter([
            ("refusals".to_owned(), refusals.collect()),
            ("turns".to_owned(), measured.turns.iter().map(turn_json).collect()),
            ("machine".to_owned(), json!(Machine::here())),
        ]),
        endings: measured.crowd.endings.clone(),
        ..Report::default()
    }
}
