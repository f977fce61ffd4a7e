//! `million`: as many real players as asked for in one relay, most of them silent; what each costs, and how it scales.

mod arguments;
mod configuration;
mod demands;
mod kernel;
mod layout;
mod machine;
mod outcome;
mod watch;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::crowd::{Plan, Sources};
use crate::dialect::{DialectName, Members};
use crate::figures::specs;
use crate::limits::raise_descriptors;
use crate::players::{self, Director, Pace, Part, Shared, Waited, bar};
use crate::relay::{Relay, Settings, relay_binary};
use crate::report;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::tokens::Tokens;
use configuration::configuration;
use demands::Demand;
use kernel::Kernel;
use layout::Layout;
use outcome::Outcome;
use watch::{BESIDE_WINDOWS, GRACE, Liveness, Seen};

pub use arguments::{Arguments, EXAMPLE, HELP, Load};
pub use configuration::{CLOSE_AFTER_MS, PING_AFTER_MS, TICK_HZ};
pub use layout::{ActiveGames, check_whole_games};
pub use outcome::{FIGURES, Measurement};

/// Connections between their start and their Welcome, or between their goodbye and their end, over all threads. The backlog of
/// one listener holds them, and so do the mailboxes by which two shards hand connections to each other, 16 to 1,024 letters each
/// way (the more shards, the fewer); and what they have in flight is far from `net.ipv4.tcp_mem`: a million goodbyes at once
/// would take a page each.
const IN_MOTION_MAX: u32 = 2048;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let relay = relay_binary(arguments.relay.as_deref())?;
    let mut failure = None;
    let holds = report::run(&arguments.output, &specs(FIGURES), || {
        let (outcome, note) = observe(&relay, arguments.connections, &arguments.load, interrupted)?;
        failure.clone_from(&outcome.seen.failure);
        Ok(outcome.report(&relay.display().to_string(), &arguments.load, note))
    })?;
    failure.map_or(Ok(holds), |failure| Err(anyhow::Error::msg(failure)))
}

/// How long a run takes, about: everybody comes and goes at `--ramp`, and the kernel's memory is read three times, a second each.
pub fn run_time(load: &Load, connections: u32) -> Duration {
    let coming_and_going = Duration::from_secs_f64(2.0 * f64::from(connections) / load.ramp);
    coming_and_going + load.quiet + load.hold + BESIDE_WINDOWS + Duration::from_secs(3)
}

/// Runs it for its numbers, as runs of several sizes do; beside them what failed during the goodbyes or after them. An error also
/// if it was interrupted.
pub fn measure(
    relay: Option<&Path>,
    connections: u32,
    load: &Load,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Measurement, Option<anyhow::Error>)> {
    let (outcome, _) = observe(&relay_binary(relay)?, connections, load, interrupted)?;
    if !outcome.seen.complete {
        bail!("interrupted");
    }
    Ok((outcome.measurement(), outcome.seen.failure.map(anyhow::Error::msg)))
}

/// Runs it to its end or to an interruption. The text is how the relay did not end.
fn observe(
    binary: &Path,
    connections: u32,
    load: &Load,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Outcome, Option<String>)> {
    // In huge pages every ring's little memory takes some MiB. A kernel that cannot switch them off is sparing otherwise.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let descriptors = raise_descriptors(u64::from(connections));
    let layout = Layout::new(connections, load.players, load.active_games, descriptors)?;
    let per_address = room(layout, descriptors)?;

    // What ran before may still be on its way out.
    let kernel_first = Kernel::sample_settled(None);
    let settings = Settings { connections, configuration: &configuration(), data_dir: None };
    let mut relay = Relay::start(binary, settings, interrupted)?;
    let (target, server) = (Target::parse(&relay.url, None)?, relay.server());
    let parts = (0..layout.rings()).map(|ring| part(load, layout, ring, &target, per_address));
    let (shared, bar) = (Shared::default(), bar(connections));
    let mut seen = Seen::new(server.sample(), Kernel::sample());
    let mut liveness = Liveness::new(&mut relay);
    let (seen_closing, tallies) = players::run(parts, &shared, |crew| {
        let mut check = |shared: &Shared| liveness.check(shared);
        let mut director = Director::new(&shared, crew, &bar, interrupted, &mut check);
        seen.complete = seen.watch(&mut director, load, &server, &shared)? == Waited::Done;
        Ok(director.close())
    })?;
    let goodbyes: Vec<_> = tallies.goodbye_failures.lines().map(|(text, _)| text).collect();
    let goodbyes = (!goodbyes.is_empty()).then(|| anyhow!("during the goodbyes: {}", goodbyes.join("; ")));
    if let Some(error) = seen_closing.err().or(goodbyes) {
        seen.fail(&error);
    } else {
        bar.set_prefix("after");
        seen.read_after(&server);
        liveness.fail_if_ended(0).unwrap_or_else(|error| seen.fail(&error));
    }
    let mut note = None;
    // After a failure there is nothing more to read, and dropping the relay ends it.
    if seen.failure.is_none() {
        // What was measured is not lost by it.
        note = relay.stop().err().map(|error| format!("{error:#}"));
        seen.left = Kernel::sample_settled(Some(&kernel_first)).growth(&kernel_first);
    }
    bar.finish_and_clear();
    Ok((Outcome { layout, tallies, seen }, note))
}

/// How many connections may come from one address, if this machine has enough of everything; an error names all of which there
/// is too little.
fn room(layout: Layout, descriptors: u64) -> anyhow::Result<u32> {
    let connections = u64::from(layout.connections());
    let demand = Demand {
        connections,
        players: layout.players.into(),
        busy: u64::from(IN_MOTION_MAX.min(layout.connections())) + u64::from(layout.active_players()),
        rings: layout.rings().into(),
        relay_rings: connections.div_ceil(descriptors.max(1)).max(1) * 3 / 2,
    };
    let supply = machine::supply();
    let shortages: String =
        demand.shortages(&supply).iter().map(|shortage| format!("\n  {shortage}")).collect();
    if !shortages.is_empty() {
        bail!("{connections} connections do not fit on this machine:{shortages}");
    }
    Ok(supply.per_address())
}

/// What one thread plays: whole games, of which the first ones move.
fn part(load: &Load, layout: Layout, ring: u32, target: &Target, per_address: u32) -> Part {
    let &Load { players, seed, hz, ramp, .. } = load;
    let games = layout.games_of(ring);
    let first = games.start * players;
    let connections = (games.end - games.start) * players;
    let active = layout.active_of(ring) * players;
    let topic_of = |slot: u32| format!("game:million-{seed}-{}", (first + slot) / players);
    let members = Members::new(connections, Tokens::None, topic_of, |slot| first + slot);
    let plan = Plan::new(target, DialectName::Native.dialect(members), connections);
    Part {
        plan: Plan { busy: active, sources: Some(Sources { first, per_address }), ..plan },
        players_per_room: players,
        // All of a game at once, so that its roster is told once.
        pace: Pace { per_s: ramp, first, batch: players, in_motion_max: IN_MOTION_MAX },
        schedule: Schedule::new(first..first + active, hz, seed),
        grace: GRACE,
        align: false,
    }
}
