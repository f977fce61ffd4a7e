//! `reconnect`: everybody loses its connection at once, or the relay is restarted; who is back when, and what was lost.

mod arguments;
mod returns;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;

use crate::arguments::Site;
use crate::assembly::assemble;
use crate::clock;
use crate::crowd::{Crowd, Listener, Plan};
use crate::dialect::{DialectName, Event, Members};
use crate::figures::specs;
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::relay::{Ending, Relay};
use crate::report::{self, Report};
use crate::talk::{Script, Talk};
use returns::Returns;
use summary::Measured;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use summary::FIGURES;

/// Connections of the run for each client: the first, and so many attempts to come back, on average.
const CONNECTIONS_PER_CLIENT: u32 = 3;
/// How long answers and messages that are still on their way are waited for in the end.
const GRACE: Duration = Duration::from_secs(5);
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// Longest wait of a turn.
const TURN: Duration = Duration::from_millis(1);
/// Completions after which a wait ends before its time.
const WANT: usize = 128;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.venue.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let clients = arguments.clients;
    let script = arguments.script()?;
    // Those who come back have connections of their own, beside what is left of the ones before.
    let Some(connections) = clients.checked_mul(CONNECTIONS_PER_CLIENT) else {
        bail!("--clients {clients}: more connections than can be counted")
    };
    let mut host = arguments.venue.open(clients.saturating_mul(2), interrupted)?;
    make_room(connections, 1, host.site.target.address)?;
    let driver = host.site.server.sample().driver;
    let (bar, failed) = (bar(clients), AtomicBool::new(false));
    let (played, restarted_ns) = std::thread::scope(|scope| {
        let (outage, outages) = channel();
        let stage = Stage { arguments, interrupted, failed: &failed, bar: &bar, outage };
        let (site, script) = (&host.site, &script);
        // The relay ends with the thread that starts it, so this one restarts it, and another one plays.
        let players = scope.spawn(move || play(&stage, site, script, connections));
        let restarted_ns = match (outages.recv(), host.relay.as_mut()) {
            (Ok(ending), Some(relay)) => restart(relay, ending, interrupted),
            _ => Ok(0),
        };
        failed.store(restarted_ns.is_err(), Relaxed);
        (players.join().expect("a thread does not panic"), restarted_ns)
    });
    let restarted_ns = restarted_ns.context("the restart")?;
    let mut run = played.with_context(|| arguments.venue.name())?;
    bar.finish_and_clear();
    run.restarted_ns = arguments.ending().map(|_| restarted_ns);
    let mut warnings: Vec<_> = host.disk.warning().into_iter().collect();
    warnings.extend(host.close());
    Ok(Report { driver, ..summary::report(arguments, &run, warnings) })
}

/// How long it took, from the signal until it was ready again.
fn restart(relay: &mut Relay, ending: Ending, interrupted: &AtomicBool) -> anyhow::Result<u64> {
    let begun_ns = clock::now_ns();
    relay.restart(ending, interrupted)?;
    let took_ns = clock::now_ns() - begun_ns;
    relay.await_last()?;
    Ok(took_ns)
}

/// What the thread that plays is told, and tells.
struct Stage<'a> {
    arguments: &'a Arguments,
    interrupted: &'a AtomicBool,
    /// The relay could not be restarted: there is nothing to come back to.
    failed: &'a AtomicBool,
    bar: &'a ProgressBar,
    /// Told when the relay is to be restarted.
    outage: Sender<Ending>,
}

impl Stage<'_> {
    fn is_over(&self) -> bool {
        self.interrupted.load(Relaxed) || self.failed.load(Relaxed)
    }
}

/// The clients in rooms come first, then those in games.
fn play(stage: &Stage<'_>, site: &Site, script: &Script, connections: u32) -> anyhow::Result<Measured> {
    let &Arguments { clients, members, seed, .. } = stage.arguments;
    let talkers = script.seating.members();
    let topic_of = |slot: u32| match slot {
        slot if slot < talkers => format!("room:reconnect-{seed}-{}", slot / members),
        slot if slot < clients => format!("game:reconnect-{seed}-{}", (slot - talkers) / members),
        // It has the topic of who comes back on it.
        _ => String::new(),
    };
    let names = Members::new(connections, site.tokens.clone(), topic_of, |slot| slot);
    let plan = Plan::new(&site.target, DialectName::Phoenix.dialect(names), connections);
    let crowd = Crowd::new(plan).map_err(explain_ring_error)?;
    let returns = Returns::new(clients, stage.arguments.jitter, seed);
    let players = Players { talk: Talk::new(script, clients), returns };
    let mut run = Run { stage, crowd, players };
    run.join()?;
    let failures_before = run.crowd.endings.failures.total();
    run.talk_for(stage.arguments.before)?;
    run.come_back()?;
    run.talk_for(stage.arguments.after)?;
    run.settle()?;
    let Run { mut crowd, players: Players { talk, returns }, .. } = run;
    let (open, refused) = (crowd.open(), crowd.endings.failures.total() - failures_before);
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = crowd.say_goodbye(GOODBYE_TIME);
    let (received, endings) = (crowd.counters, crowd.endings.clone());
    let complete = !stage.is_over();
    Ok(Measured { clients, talk, returns, received, endings, refused, open, restarted_ns: None, complete })
}

/// All clients, whatever connection they have.
struct Players {
    talk: Talk,
    returns: Returns,
}

impl Listener for Players {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        if let Event::Stream(stream) = event {
            self.returns.handle_stream(self.talk.client_of(slot), stream, now_ns);
        }
        self.talk.handle_event(slot, event, now_ns);
    }
}

struct Run<'a> {
    stage: &'a Stage<'a>,
    crowd: Crowd,
    players: Players,
}

impl Run<'_> {
    fn turn(&mut self) -> anyhow::Result<u64> {
        self.players.talk.send_due(&mut self.crowd, clock::now_ns())?;
        let now_ns = self.crowd.turn(WANT, TURN, &mut self.players)?;
        self.players.talk.send_freed(&mut self.crowd)?;
        for slot in self.crowd.take_gone() {
            self.players.talk.handle_gone(slot);
            self.players.returns.handle_gone(self.players.talk.client_of(slot), slot, now_ns);
        }
        self.stage.bar.set_position(u64::from(self.crowd.open()));
        Ok(now_ns)
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let &Arguments { clients, ramp, .. } = self.stage.arguments;
        let (bar, interrupted) = (self.stage.bar, self.stage.interrupted);
        assemble(&mut self.crowd, clients, ramp, &mut self.players, bar, interrupted)?;
        self.players.talk.begin(clock::now_ns(), 0..0, u32::MAX);
        Ok(())
    }

    fn talk_for(&mut self, length: Duration) -> anyhow::Result<()> {
        self.stage.bar.set_prefix("talking");
        let end_ns = clock::now_ns() + length.as_nanos() as u64;
        while self.turn()? < end_ns && !self.stage.is_over() {}
        Ok(())
    }

    /// The outage, and everybody's return.
    fn come_back(&mut self) -> anyhow::Result<()> {
        self.stage.bar.set_prefix("returning");
        let begun_ns = clock::now_ns();
        self.players.returns.begin(begun_ns);
        match self.stage.arguments.ending() {
            Some(ending) => self.stage.outage.send(ending).context("nobody restarts the relay")?,
            None => self.crowd.drop_all()?,
        }
        let end_ns = begun_ns + self.stage.arguments.limit.as_nanos() as u64;
        let mut now_ns = begun_ns;
        while now_ns < end_ns && !self.stage.is_over() {
            self.start_due(now_ns)?;
            now_ns = self.turn()?;
            if self.players.returns.are_over() {
                break;
            }
        }
        Ok(())
    }

    fn start_due(&mut self, now_ns: u64) -> anyhow::Result<()> {
        self.crowd.give_up_if_stuck(now_ns)?;
        while self.crowd.may_join() {
            let Some((client, gone)) = self.players.returns.take_due(now_ns) else { break };
            match self.crowd.come_back(gone)? {
                Some(slot) => self.players.talk.handle_come_back(slot, client),
                None => self.players.returns.give_up(client),
            }
        }
        Ok(())
    }

    /// Nothing more is said; what is on its way is waited for.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.players.talk.stop();
        let end_ns = clock::now_ns() + GRACE.as_nanos() as u64;
        while self.turn()? < end_ns && !self.players.talk.is_settled() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
