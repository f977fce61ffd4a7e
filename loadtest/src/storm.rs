//! `storm`: thousands of clients join one topic within seconds; how late each gets its presence, and how much of it.

mod arguments;
mod presence;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::bail;

use crate::clock;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::figures::specs;
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::report;
use crate::server::{Server, Stopwatch};
use presence::Accounts;
use summary::Measured;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use summary::FIGURES;

/// Longest wait for arrivals; so much later a client may begin than it was meant to.
const TURN: Duration = Duration::from_micros(500);
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.common.output, &specs(FIGURES), || {
        let site = arguments.common.site()?;
        make_room(arguments.clients, 1, site.target.address)?;
        let members = Members::new(arguments.clients, site.tokens, |_| arguments.topic.clone(), |slot| slot);
        let plan = Plan::new(&site.target, DialectName::Phoenix.dialect(members), arguments.clients);
        let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
        let measured = measure(arguments, &mut crowd, &site.server, interrupted)?;
        // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
        let _ = crowd.say_goodbye(GOODBYE_TIME);
        if measured.accounts.joined() == 0 {
            bail!("nobody could join {}{}", arguments.topic, measured.endings.causes());
        }
        Ok(summary::report(arguments, site.server.cpu_source(), measured))
    })
}

fn measure(
    arguments: &Arguments,
    crowd: &mut Crowd,
    server: &Server,
    interrupted: &AtomicBool,
) -> anyhow::Result<Measured> {
    let interval_ns = (arguments.over.as_nanos() as f64 / f64::from(arguments.clients)).max(1.0);
    let bar = bar(arguments.clients);
    bar.set_prefix("joining");
    let stopwatch = Stopwatch::start(server);
    let begun_ns = clock::now_ns();
    let mut accounts = Accounts::new(arguments.clients, begun_ns, interval_ns);
    let mut now_ns = begun_ns;
    let mut joining = true;
    let mut hold_end_ns = u64::MAX;
    while now_ns < hold_end_ns && !interrupted.load(Relaxed) {
        if joining && crowd.ramp(arguments.clients, 1e9 / interval_ns, now_ns)? {
            joining = false;
            hold_end_ns = now_ns + arguments.hold.as_nanos() as u64;
        }
        now_ns = crowd.turn(WANT, TURN, &mut accounts)?;
        bar.set_position(accounts.joined());
    }
    bar.finish_and_clear();
    Ok(Measured {
        accounts,
        clients: arguments.clients,
        received: crowd.counters,
        endings: crowd.endings.clone(),
        start_lateness_ns_max: crowd.start_lateness_ns_max,
        lap: stopwatch.lap(server),
        begun_ns,
        complete: now_ns >= hold_end_ns,
    })
}
