//! What was measured of an outage, as figures and as a report.

use serde_json::{Map, json};

use super::arguments::Arguments;
use super::returns::{Found, Returns};
use crate::counters::Counters;
use crate::endings::Endings;
use crate::figures::Unit::{Count, Duration, Number};
use crate::figures::{Rule, count, figures_of, headline, latency, spec};
use crate::ledger::Faults;
use crate::machine::Machine;
use crate::relay::Ending;
use crate::report::Report;
use crate::talk::Talk;

/// The run, up to the goodbyes.
pub struct Measured {
    pub clients: u32,
    pub talk: Talk,
    pub returns: Returns,
    pub received: Counters,
    pub endings: Endings,
    /// Connections that did not join, from the outage on.
    pub refused: u64,
    /// Connections that were there in the end.
    pub open: u32,
    /// From its signal until the relay was ready again, if it was restarted.
    pub restarted_ns: Option<u64>,
    pub complete: bool,
}

/// Figures of `reconnect`.
pub static FIGURES: &[Rule<Measured>] = &[
    spec("joined", Count, "clients").of(|run| count(run.clients)),
    spec("in_rooms", Count, "of them in rooms; the others in games").of(|run| count(run.talkers())),
    headline("back", Count, "clients that came back").of(|run| count(run.returns.back())),
    spec("not_back", Count, "clients that did not")
        .of(|run| count(u64::from(run.clients) - run.returns.back())),
    headline("recovered", Count, "clients that were told all that they had missed")
        .of(|run| count(run.returns.found(Found::Recovered))),
    spec("unrecovered_epoch", Count, "clients that were not: their room or game is another one")
        .of(|run| count(run.returns.found(Found::Epoch))),
    spec("unrecovered_too_old", Count, "clients that were not: it was too much")
        .of(|run| count(run.returns.found(Found::TooOld))),
    spec("unrecovered_ahead", Count, "clients that were not: they had seen more than there is")
        .of(|run| count(run.returns.found(Found::Ahead))),
    spec("unrecovered_other", Count, "clients that were not, for a reason that is none of the protocol")
        .of(|run| count(run.returns.found(Found::Other))),
    spec("seats_resumed", Count, "players that have the seat that they had")
        .of(|run| count(run.returns.seats(run.talkers(), true))),
    spec("seats_new", Count, "players that have another one")
        .of(|run| count(run.returns.seats(run.talkers(), false))),
    headline("refused", Count, "attempts to come back that were refused: see \"did not join\" below")
        .of(|run| count(run.refused)),
    spec("gone_again", Count, "clients whose connection ended again").of(|run| count(run.returns.gone_again)),
    spec("back_p50", Duration, "from a client's first attempt to its catch_up")
        .of(|run| latency(&run.returns.back_us, 50.0)),
    headline("back_p99", Duration, "99 % of the clients were back within")
        .of(|run| latency(&run.returns.back_us, 99.0)),
    spec("back_max", Duration, "the slowest client").of(|run| latency(&run.returns.back_us, 100.0)),
    headline("all_back", Duration, "from the outage's begin to the last return, with jitter")
        .of(|run| Ok(run.returns.length_ns() as f64 / 1e3)),
    spec("jitter", Duration, "over which time clients meant to come back")
        .of(|run| Ok(run.returns.jitter_ns() as f64 / 1e3)),
    spec("restart", Duration, "from its signal until the relay was ready again").of(|run| {
        run.restarted_ns.map(|ns| ns as f64 / 1e3).ok_or_else(|| "the relay was not restarted".to_owned())
    }),
    headline("lost", Count, "(member, acknowledged message) of which the member was never told")
        .of(|run| count(run.faults().lost)),
    headline("repeated", Count, "times that a member was told a seq again")
        .of(|run| count(run.faults().repeated)),
    spec("gaps", Count, "times that a seq was left out").of(|run| count(run.faults().gaps)),
    spec("reordered", Count, "times that a seq came after a later one")
        .of(|run| count(run.faults().reordered)),
    spec("contradictions", Count, "times that seq and message did not fit what was told before")
        .of(|run| count(run.faults().contradictions)),
    spec("not_recovered", Count, "(member, acknowledged message) that came up in no catch_up")
        .of(|run| count(run.talk.not_recovered)),
    spec("sent", Count, "messages sent").of(|run| count(run.talk.outcomes.sent)),
    spec("acknowledged", Count, "messages answered with ok: on disk")
        .of(|run| count(run.talk.outcomes.acknowledged)),
    spec("messages_refused", Count, "messages answered with an error: see the reasons below")
        .of(|run| count(run.talk.outcomes.refusals.total())),
    spec("unanswered", Count, "messages whose answer the outage has cut off, or that have none")
        .of(|run| count(run.talk.ledger.unanswered().count() as u64)),
    spec("unanswered_said", Count, "of these, messages that members were told of all the same").of(|run| {
        let ledger = &run.talk.ledger;
        count(ledger.unanswered().filter(|&number| ledger.was_said(number)).count() as u64)
    }),
    spec("unsent", Count, "messages whose sender was away").of(|run| count(run.talk.outcomes.unsent)),
    spec("heard", Count, "times that a member was told of a message")
        .of(|run| count(run.talk.outcomes.heard)),
    spec("open", Count, "connections in the end").of(|run| count(run.open)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.received.malformed)),
    spec("attempts_per_return", Number, "attempts to come back / clients that came back").of(|run| match run
        .returns
        .back()
    {
        0 => Err("nobody came back".to_owned()),
        back => Ok((back + run.returns.failed_attempts) as f64 / back as f64),
    }),
];

impl Measured {
    fn talkers(&self) -> u32 {
        self.talk.ledger.seating().members()
    }

    fn faults(&self) -> Faults {
        self.talk.ledger.faults(|client| self.talk.is_here(client))
    }
}

/// `warnings` that the figures do not tell come first.
pub fn report(arguments: &Arguments, measured: &Measured, mut warnings: Vec<String>) -> Report {
    let &Arguments { clients, in_rooms, members, rate, seed, ramp, .. } = arguments;
    if !measured.complete {
        warnings.push("interrupted: the figures are those of what was done until then".to_owned());
    }
    let refusals = measured.talk.outcomes.refusals.lines();
    let refusals = refusals.map(|(text, count)| json!({ "text": text, "count": count }));
    let seconds = |time: std::time::Duration| time.as_secs_f64();
    let (outage, what) = match arguments.ending() {
        Some(Ending::Drain) => ("restart", "the relay is restarted"),
        Some(Ending::Deploy) => ("deploy", "the next relay takes over from the one that drains"),
        Some(Ending::Kill) => ("kill", "the relay is killed and started again"),
        None => ("cut", "all connections are cut"),
    };
    Report {
        command: "reconnect",
        title: format!(
            "{}: {clients} clients, {} in rooms, {rate} messages a second; {what}",
            arguments.venue.name(),
            measured.talkers(),
        ),
        settings: json!({
            "clients": clients, "in_rooms": in_rooms, "members": members, "rate": rate, "outage": outage,
            "jitter_s": arguments.jitter.map(seconds), "before_s": seconds(arguments.before),
            "after_s": seconds(arguments.after), "limit_s": seconds(arguments.limit), "seed": seed, "ramp": ramp,
            "venue": arguments.venue.settings(),
        }),
        complete: measured.complete,
        figures: figures_of(FIGURES, measured),
        warnings,
        details: Map::from_iter([
            ("refusals".to_owned(), refusals.collect()),
            ("machine".to_owned(), json!(Machine::here())),
        ]),
        endings: measured.endings.clone(),
        ..Report::default()
    }
}
