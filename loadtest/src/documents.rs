//! `documents`: texts that several edit at once; whether everybody is told of all operations and ends with the same text, how
//! late, and what it costs a game on the same relay.

mod arguments;
mod game;
mod summary;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;

use crate::arguments::Site;
use crate::assembly::{TURN, WANT, assemble};
use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::edits::{Edits, Script};
use crate::figures::specs;
use crate::limits::{explain_ring_error, make_room};
use crate::players::{Phase, Shared, bar};
use crate::report::{self, Report};
use crate::server::Lap;
use game::Played;
use summary::{Measured, Spell, Turn};

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use summary::FIGURES;

/// From the last newcomer's join to the comparison: what it is told is on its way.
const NEWCOMERS_TIME: Duration = Duration::from_secs(1);
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.venue.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let script = arguments.script()?;
    let (clients, players) = (script.seating.members(), game::players(arguments));
    let connections = clients + script.seating.rooms;
    let host = arguments.venue.open(connections.saturating_add(players), interrupted)?;
    make_room(connections, 1, host.site.target.address)?;
    make_room(players.max(1), 1, host.site.target.address)?;
    let bar = bar(clients);
    let crowd = crowd(arguments, script, &host.site)?;
    let mut run =
        Run { arguments, site: &host.site, bar: &bar, interrupted, crowd, edits: Edits::new(script) };
    run.join(clients).with_context(|| arguments.venue.name())?;
    let (spells, turns) = if players > 0 { run.take_turns()? } else { (vec![run.edit_now()?], Vec::new()) };
    let open = run.crowd.open();
    run.let_newcomers_in(connections)?;
    let comparison = run.edits.compare();
    bar.finish_and_clear();
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = run.crowd.say_goodbye(GOODBYE_TIME);
    let Run { crowd, edits, .. } = run;
    let (cpu_source, disk) = (host.site.server.cpu_source(), &host.disk);
    let warnings = disk.warning().into_iter();
    let disk_percentiles = [50.0, 99.0].map(|percentile| disk.sync(percentile));
    let warnings = warnings.chain(host.close()).collect();
    let complete = !interrupted.load(Relaxed);
    let disk = disk_percentiles;
    let measured = Measured { clients, crowd, edits, comparison, open, spells, turns, disk, complete };
    Ok(summary::report(arguments, cpu_source, &measured, warnings))
}

/// The editors, document by document, and behind them a newcomer for each document.
fn crowd(arguments: &Arguments, script: Script, site: &Site) -> anyhow::Result<Crowd> {
    let &Arguments { documents, editors, seed, .. } = arguments;
    let clients = script.seating.members();
    let document_of = |slot: u32| if slot < clients { slot / editors } else { slot - clients };
    let topic_of = |slot: u32| format!("doc:load-{seed}-{}", document_of(slot));
    let members = Members::new(clients + documents, site.tokens.clone(), topic_of, |slot| slot);
    let plan = Plan::new(&site.target, DialectName::Phoenix.dialect(members), clients + documents);
    Crowd::new(plan).map_err(explain_ring_error)
}

struct Run<'a> {
    arguments: &'a Arguments,
    site: &'a Site,
    bar: &'a ProgressBar,
    interrupted: &'a AtomicBool,
    crowd: Crowd,
    edits: Edits,
}

impl Run<'_> {
    fn turn(&mut self) -> anyhow::Result<u64> {
        let now_ns = self.crowd.turn(WANT, TURN, &mut self.edits)?;
        self.edits.send_ready(&mut self.crowd)?;
        self.crowd.take_gone().into_iter().for_each(|slot| self.edits.handle_gone(slot));
        Ok(now_ns)
    }

    fn join(&mut self, clients: u32) -> anyhow::Result<()> {
        let (ramp, interrupted) = (self.arguments.ramp, self.interrupted);
        assemble(&mut self.crowd, clients, ramp, &mut self.edits, self.bar, interrupted)?;
        let following = self.edits.following();
        if following < clients as usize {
            bail!("only {following} of {clients} editors were told the text of their document");
        }
        Ok(())
    }

    fn edit_now(&mut self) -> anyhow::Result<Spell> {
        self.bar.set_prefix("editing");
        let spell = self.edit(clock::now_ns())?;
        spell.context("interrupted before the measured window began")
    }

    /// Edits from `start_ns` on, and waits for what is on its way. `None`: interrupted before the window.
    fn edit(&mut self, start_ns: u64) -> anyhow::Result<Option<Spell>> {
        let window_start_ns = start_ns + self.arguments.warmup.as_nanos() as u64;
        let window_ns = window_start_ns..window_start_ns + self.arguments.window().as_nanos() as u64;
        self.edits.begin(start_ns, window_ns.clone());
        let (site, interrupted) = (self.site, self.interrupted);
        std::thread::scope(|scope| {
            let lap = scope.spawn(|| Lap::of(&site.server, &window_ns, interrupted));
            let edited = self.edit_all(&window_ns);
            let lap = lap.join().expect("a thread does not panic");
            let (received, bytes_sent) = edited?;
            Ok(lap.map(|lap| Spell { lap, received, bytes_sent }))
        })
    }

    /// What was received in the window, and how many bytes of operations were sent.
    fn edit_all(&mut self, window_ns: &Range<u64>) -> anyhow::Result<(Counters, u64)> {
        let mut before = None;
        while self.edits.next_ns().is_some() {
            if self.interrupted.load(Relaxed) {
                self.edits.stop();
            }
            if clock::now_ns() >= window_ns.start {
                before.get_or_insert((self.crowd.counters, self.edits.bytes_sent));
            }
            self.edits.send_due(&mut self.crowd, clock::now_ns())?;
            self.turn()?;
        }
        let (received, bytes_sent) = (self.crowd.counters, self.edits.bytes_sent);
        let (received_before, bytes_sent_before) = before.unwrap_or((received, bytes_sent));
        let end_ns = clock::now_ns() + self.arguments.grace.as_nanos() as u64;
        while self.turn()? < end_ns && !self.edits.is_settled() {}
        Ok((received - received_before, bytes_sent - bytes_sent_before))
    }

    fn take_turns(&mut self) -> anyhow::Result<(Vec<Spell>, Vec<Turn>)> {
        let (mut spells, mut turns) = (Vec::new(), Vec::new());
        for _ in 0..self.arguments.turns {
            let (alone, _) = self.play(false)?;
            let (beside, spell) = self.play(true)?;
            spells.push(spell.context("the game ended before the measured window began")?);
            turns.push(Turn { alone, beside });
        }
        Ok((spells, turns))
    }

    /// Lets the game be played once, with edits beside it, or with silent editors.
    fn play(&mut self, with_edits: bool) -> anyhow::Result<(Played, Option<Spell>)> {
        self.bar.set_prefix(if with_edits { "both" } else { "game alone" });
        let (arguments, site, interrupted) = (self.arguments, self.site, self.interrupted);
        let shared = Shared::default();
        std::thread::scope(|scope| {
            let game = scope.spawn(|| game::play(arguments, site, &shared, interrupted));
            let mut spell = None;
            while !game.is_finished() {
                if with_edits && spell.is_none() && shared.phase() == Phase::Hold {
                    spell = self.edit(shared.start_ns.load(Relaxed))?;
                }
                self.turn()?;
            }
            let played = game.join().expect("a thread does not panic").context("the game")?;
            Ok((played, spell))
        })
    }

    /// Lets somebody into each document who was not there before, and is told the text.
    fn let_newcomers_in(&mut self, connections: u32) -> anyhow::Result<()> {
        self.bar.set_prefix("comparing");
        let mut now_ns = clock::now_ns();
        while !self.crowd.ramp(connections, self.arguments.ramp, now_ns)? {
            now_ns = self.turn()?;
        }
        let end_ns = now_ns + NEWCOMERS_TIME.as_nanos() as u64;
        while self.turn()? < end_ns {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
