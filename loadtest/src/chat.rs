//! `chat`: rooms in which messages are said at a steady rate; whether everybody is told of all of them, how late, and at what cost.

mod arguments;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::assembly::{TURN, WANT, assemble};
use crate::clock;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::figures::specs;
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::report::{self, Report};
use crate::server::Lap;
use crate::talk::Talk;
use summary::Measured;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use summary::FIGURES;

const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.venue.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let &Arguments { seed, members, ramp, .. } = arguments;
    let (script, messages) = arguments.script()?;
    let clients = script.seating.members();
    let host = arguments.venue.open(clients, interrupted)?;
    make_room(clients, 1, host.site.target.address)?;
    let topic_of = |slot: u32| format!("room:chat-{seed}-{}", slot / members);
    let members = Members::new(clients, host.site.tokens.clone(), topic_of, |slot| slot);
    let plan = Plan::new(&host.site.target, DialectName::Phoenix.dialect(members), clients);
    let crowd = Crowd::new(plan).map_err(explain_ring_error)?;
    let mut run = Run { crowd, talk: Talk::new(&script, clients), interrupted };

    let bar = bar(clients);
    // Nobody speaks in a room before its members are there.
    let assembled = assemble(&mut run.crowd, clients, ramp, &mut run.talk, &bar, interrupted);
    assembled.with_context(|| arguments.venue.name())?;
    bar.set_prefix("talking");
    let start_ns = clock::now_ns();
    let window_start_ns = start_ns + arguments.warmup.as_nanos() as u64;
    let window_ns = window_start_ns..window_start_ns + arguments.window().as_nanos() as u64;
    run.talk.begin(start_ns, window_ns.clone(), messages);
    let (lap, said) = std::thread::scope(|scope| {
        let lap = scope.spawn(|| Lap::of(&host.site.server, &window_ns, interrupted));
        let said = run.say_all(arguments.grace);
        (lap.join().expect("a thread does not panic"), said)
    });
    said?;
    bar.finish_and_clear();
    let Some(lap) = lap else { bail!("interrupted before the measured window began") };
    let open = run.crowd.open();
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = run.crowd.say_goodbye(GOODBYE_TIME);
    let (cpu_source, disk) = (host.site.server.cpu_source(), &host.disk);
    let warnings = disk.warning().into_iter();
    let disk_percentiles = [50.0, 99.0].map(|percentile| disk.sync(percentile));
    let warnings = warnings.chain(host.close()).collect();
    let complete = !interrupted.load(Relaxed);
    let Run { crowd, talk, .. } = run;
    let ack_bound = arguments.ack_bound;
    let measured = Measured { crowd, talk, open, lap, disk: disk_percentiles, ack_bound, complete };
    Ok(summary::report(arguments, cpu_source, &measured, warnings))
}

struct Run<'a> {
    crowd: Crowd,
    talk: Talk,
    interrupted: &'a AtomicBool,
}

impl Run<'_> {
    fn turn(&mut self) -> anyhow::Result<u64> {
        let now_ns = self.crowd.turn(WANT, TURN, &mut self.talk)?;
        self.talk.send_freed(&mut self.crowd)?;
        self.crowd.take_gone().into_iter().for_each(|slot| self.talk.handle_gone(slot));
        Ok(now_ns)
    }

    /// Says what is to be said, each message at its time, and waits for what is on its way, for `grace` at most.
    fn say_all(&mut self, grace: Duration) -> anyhow::Result<()> {
        while self.talk.next_ns().is_some() {
            if self.interrupted.load(Relaxed) {
                self.talk.stop();
            }
            self.talk.send_due(&mut self.crowd, clock::now_ns())?;
            self.turn()?;
        }
        let end_ns = clock::now_ns() + grace.as_nanos() as u64;
        while self.turn()? < end_ns && !self.talk.is_settled() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
