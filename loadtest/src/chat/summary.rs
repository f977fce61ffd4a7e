//! What was measured of rooms that talk, as figures and as a report.

use std::time::Duration;

use serde_json::{Map, json};

use super::arguments::Arguments;
use crate::crowd::Crowd;
use crate::figures::Unit::{Bytes, Count, Duration as Time, Number};
use crate::figures::{Rule, Value, count, figures_of, headline, spec};
use crate::ledger::Faults;
use crate::machine::Machine;
use crate::report::{Report, did_not_keep_up};
use crate::server::Lap;
use crate::talk::Talk;

/// `ack_bound` is at least so many times what the disk needs.
const SYNCS_PER_ACK: f64 = 3.0;

/// The run, up to the goodbyes.
pub struct Measured {
    pub crowd: Crowd,
    pub talk: Talk,
    /// Connections that were there in the end.
    pub open: u32,
    /// The window.
    pub lap: Lap,
    /// 50th and 99th percentile of `fdatasync`, in µs.
    pub disk: [Value; 2],
    pub ack_bound: Duration,
    pub complete: bool,
}

/// Figures of `chat`.
pub static FIGURES: &[Rule<Measured>] = &[
    spec("joined", Count, "members").of(|run| count(run.crowd.joined())),
    headline("closed", Count, "members whose connection ended before the goodbyes")
        .of(|run| count(run.crowd.joined() - run.open)),
    spec("messages", Count, "messages that came due").of(|run| count(run.talk.planned())),
    spec("sent", Count, "messages sent").of(|run| count(run.talk.outcomes.sent)),
    headline("acknowledged", Count, "messages answered with ok: on disk")
        .of(|run| count(run.talk.outcomes.acknowledged)),
    headline("refused", Count, "messages answered with an error: see the reasons below")
        .of(|run| count(run.talk.outcomes.refusals.total())),
    spec("unanswered", Count, "messages sent that were not answered")
        .of(|run| count(run.talk.ledger.unanswered().count() as u64)),
    headline("lost", Count, "(member, acknowledged message) of which the member was never told")
        .of(|run| count(run.faults().lost)),
    headline("repeated", Count, "times that a member was told a seq again")
        .of(|run| count(run.faults().repeated)),
    spec("gaps", Count, "times that a seq was left out").of(|run| count(run.faults().gaps)),
    spec("reordered", Count, "times that a seq came after a later one")
        .of(|run| count(run.faults().reordered)),
    spec("contradictions", Count, "times that seq and message did not fit what was told before")
        .of(|run| count(run.faults().contradictions)),
    spec("heard", Count, "times that a member was told of a message")
        .of(|run| count(run.talk.outcomes.heard)),
    spec("acknowledged_per_s", Number, "acknowledged messages that were meant for the window / its length")
        .of(|run| Ok(run.talk.outcomes.acknowledged_in_window as f64 / run.lap.length_s())),
    spec("ack_p50", Time, "latency: intended send of a message to its acknowledgement")
        .of(|run| run.talk.outcomes.ack(50.0)),
    spec("ack_p90", Time, "90 % of the acknowledgements arrived within")
        .of(|run| run.talk.outcomes.ack(90.0)),
    headline("ack_p99", Time, "99 % of the acknowledgements arrived within")
        .of(|run| run.talk.outcomes.ack(99.0)),
    spec("ack_p99.9", Time, "99.9 % of the acknowledgements arrived within")
        .of(|run| run.talk.outcomes.ack(99.9)),
    spec("ack_max", Time, "the slowest acknowledgement").of(|run| run.talk.outcomes.ack(100.0)),
    spec("heard_p50", Time, "latency: intended send of a message to its arrival at a member")
        .of(|run| run.talk.outcomes.heard(50.0)),
    spec("heard_p90", Time, "90 % of the arrivals came within").of(|run| run.talk.outcomes.heard(90.0)),
    headline("heard_p99", Time, "99 % of the arrivals came within").of(|run| run.talk.outcomes.heard(99.0)),
    spec("heard_p99.9", Time, "99.9 % of the arrivals came within").of(|run| run.talk.outcomes.heard(99.9)),
    spec("heard_max", Time, "the slowest arrival").of(|run| run.talk.outcomes.heard(100.0)),
    spec("fsync_p50", Time, "write of 4 KiB and fdatasync, before the run").of(|run| run.disk[0].clone()),
    headline("fsync_p99", Time, "99 % of these took at most").of(|run| run.disk[1].clone()),
    spec("ack_bound", Time, "the larger of --ack-bound and 3 × fsync_p99").of(|run| Ok(run.ack_bound_us())),
    spec("ack_share", Number, "ack_p99 / ack_bound")
        .of(|run| Ok(run.talk.outcomes.ack(99.0)? / run.ack_bound_us())),
    spec("unsent", Count, "messages whose sender's connection had ended")
        .of(|run| count(run.talk.outcomes.unsent)),
    spec("queued", Count, "messages that waited for their own busy socket")
        .of(|run| count(run.talk.outcomes.queued)),
    spec("late_share", Number, "sent more than 1 ms after their time / messages of the window")
        .of(|run| Ok(run.talk.outcomes.late_share())),
    spec("lateness_p99", Time, "99 % of these were sent within, after their time")
        .of(|run| run.talk.outcomes.lateness(99.0)),
    spec("window", Time, "length of the measured window").of(|run| Ok(run.lap.length_ns as f64 / 1e3)),
    spec("errors", Count, "error replies received").of(|run| count(run.crowd.counters.errors)),
    spec("notices", Count, "disconnect_warning and server_draining messages received")
        .of(|run| count(run.crowd.counters.notices)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.crowd.counters.malformed)),
    spec("client.cpu_cores", Number, "processor time of this load test / window")
        .of(|run| Ok(run.lap.own_cores())),
    spec("server.cpu_cores", Number, "processor time of the relay / window").of(|run| run.lap.server_cores()),
    headline("server.cpu_us_per_message", Number, "µs of it per acknowledged message of the window")
        .of(Measured::cpu_us_per_message),
    spec("server.commits", Count, "batches that its store has put on disk")
        .of(|run| run.lap.growth("corelay_store_commits_total")),
    spec("server.rss_bytes", Bytes, "its resident memory at the end of the window")
        .of(|run| run.lap.after.rss_bytes.clone()),
    spec("server.rss_growth_bytes", Bytes, "and how much it grew").of(|run| run.lap.rss_growth_bytes()),
];

impl Measured {
    fn faults(&self) -> Faults {
        self.talk.ledger.faults(|client| self.talk.is_here(client))
    }

    fn ack_bound_us(&self) -> f64 {
        let disk_us = self.disk[1].as_ref().map_or(0.0, |us| us * SYNCS_PER_ACK);
        disk_us.max(self.ack_bound.as_secs_f64() * 1e6)
    }

    fn cpu_us_per_message(&self) -> Value {
        match self.talk.outcomes.acknowledged_in_window {
            0 => Err("nothing was acknowledged".to_owned()),
            messages => Ok(self.lap.server_cpu_s()? * 1e6 / messages as f64),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let late = self.talk.outcomes.much_late("messages");
        let interrupted = "interrupted: the figures are those of what was said until then".to_owned();
        let interrupted = (!self.complete).then_some(interrupted);
        did_not_keep_up(self.lap.own_cores(), late.as_deref()).into_iter().chain(interrupted).collect()
    }
}

/// `warnings` that the figures do not tell come first.
pub fn report(
    arguments: &Arguments,
    cpu_source: &'static str,
    measured: &Measured,
    mut warnings: Vec<String>,
) -> Report {
    let &Arguments { rooms, members, rate, seconds, body_bytes, seed, ramp, .. } = arguments;
    warnings.extend(measured.warnings());
    let refusals = measured.talk.outcomes.refusals.lines();
    let refusals = refusals.map(|(text, count)| json!({ "text": text, "count": count }));
    let settings = json!({
        "rooms": rooms, "members": members, "rate": rate, "warmup_s": arguments.warmup.as_secs_f64(),
        "seconds": seconds, "body_bytes": body_bytes, "grace_s": arguments.grace.as_secs_f64(),
        "ack_bound_s": arguments.ack_bound.as_secs_f64(), "seed": seed, "ramp": ramp,
        "venue": arguments.venue.settings(),
    });
    Report {
        command: "chat",
        title: format!(
            "{}: {rooms} rooms of {members}, {rate} messages a second for {seconds} s",
            arguments.venue.name()
        ),
        settings,
        complete: measured.complete,
        driver: measured.lap.driver(),
        cpu_source: measured.lap.server_cpu_s().is_ok().then_some(cpu_source),
        figures: figures_of(FIGURES, measured),
        warnings,
        details: Map::from_iter([
            ("refusals".to_owned(), refusals.collect()),
            ("machine".to_owned(), json!(Machine::here())),
        ]),
        endings: measured.crowd.endings.clone(),
        ..Report::default()
    }
}
