//! `million`: as many real players as asked for in one relay, most of them silent; what each costs, and how it scales.

mod arguments;
mod demands;
mod figures;
mod kernel;
mod layout;
mod machine;
mod outcome;
mod relay;
mod summary;
mod watch;

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::AtomicBool;

use anyhow::{anyhow, bail};
use indicatif::ProgressBar;

use crate::crowd::{Plan, Sources};
use crate::dialect::{DialectName, Members};
use crate::limits::raise_descriptors;
use crate::measurement::Measurement;
use crate::players::{self, Director, Pace, Part, Shared, Waited};
use crate::report;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::target::Target;
use demands::{Demand, Supply};
use kernel::Kernel;
use layout::Layout;
use outcome::Outcome;
use relay::Relay;
use watch::{GRACE, Liveness, Seen};

pub use arguments::{Arguments, EXAMPLE, HELP, Load, Settings};
pub use figures::FIGURES;
pub use layout::ActiveGames;
pub use relay::{CLOSE_AFTER_MS, PING_AFTER_MS, RelayChoice, TICK_HZ, relay_binary};

/// Connections between their start and their Welcome, or between their goodbye and their end, over all threads. The backlog of
/// one listener holds them, and so do the mailboxes by which two shards hand connections to each other, 16 to 1,024 letters each
/// way (the more shards, the fewer); and what they have in flight is far from `net.ipv4.tcp_mem`: a million goodbyes at once
/// would take a page each.
const IN_MOTION_MAX: u32 = 2048;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let settings = arguments.settings()?;
    let mut failure = None;
    let holds = report::run(&arguments.output, FIGURES, || {
        let (outcome, note) = observe(&settings, interrupted, &players::bar(settings.connections))?;
        failure.clone_from(&outcome.seen.failure);
        Ok(summary::report(&settings, outcome, note))
    })?;
    failure.map_or(Ok(holds), |failure| Err(anyhow::Error::msg(failure)))
}

/// Runs it for its numbers, as runs of several sizes do; beside them what failed during the goodbyes or after them. An error also
/// if it was interrupted or another number is missing.
pub fn measure(
    settings: &Settings,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Measurement, Option<anyhow::Error>)> {
    let (outcome, _) = observe(settings, interrupted, &players::bar(settings.connections))?;
    if !outcome.seen.complete {
        bail!("interrupted");
    }
    Ok((outcome.measurement()?, outcome.seen.failure.map(anyhow::Error::msg)))
}

/// Runs it to its end or to an interruption. The text is how a relay of our own did not end.
fn observe(
    settings: &Settings,
    interrupted: &AtomicBool,
    bar: &ProgressBar,
) -> anyhow::Result<(Outcome, Option<String>)> {
    let Settings { connections, load, .. } = settings;
    // In huge pages every ring's little memory takes some MiB. A kernel that cannot switch them off is sparing otherwise.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let descriptors = raise_descriptors(u64::from(*connections));
    let layout = Layout::new(*connections, load.players, load.active_games, descriptors)?;
    let site = match &settings.relay {
        RelayChoice::Start(_) => Site { loopback: true, local: true },
        RelayChoice::Running { url, .. } => Site::of(Target::parse(url)?.address.ip()),
    };
    let demand = demand(layout, site, descriptors);
    let per_address = demand.per_address(&room(&demand)?);

    // What ran before may still be on its way out.
    let kernel_first = Kernel::sample_settled(None);
    let (target, server, mut own) = relay_of(settings, interrupted)?;
    let parts = (0..layout.rings()).map(|ring| {
        let mut part = part(settings, layout, ring, &target);
        part.plan.sources = site.loopback.then_some(Sources { first: part.pace.first, per_address });
        part
    });
    let shared = Shared::default();
    let mut seen = Seen::new(server.sample(), Kernel::sample());
    let mut liveness = Liveness::new(own.as_mut());
    let (seen_closing, tallies) = players::run(parts, &shared, |crew| {
        let mut check = |shared: &Shared| liveness.check(shared);
        let mut director = Director::new(&shared, crew, bar, interrupted, &mut check);
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
    // After a failure there is nothing more to read, and dropping it ends it.
    if let Some(relay) = own.filter(|_| seen.failure.is_none()) {
        // What was measured is not lost by it.
        note = relay.stop().err().map(|error| format!("{error:#}"));
        seen.left = Kernel::sample_settled(Some(&kernel_first)).growth(&kernel_first);
    }
    bar.finish_and_clear();
    Ok((Outcome { layout, tallies, seen, local: site.local }, note))
}

/// Where the relay is and where its figures come from; and the relay, if it is our own.
fn relay_of(
    settings: &Settings,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Target, Server, Option<Relay>)> {
    match &settings.relay {
        RelayChoice::Start(binary) => {
            let relay = Relay::start(binary, settings.connections, interrupted)?;
            let server = Server { metrics_url: relay.metrics_url.clone(), pid: Some(relay.pid()) };
            Ok((Target::parse(&relay.url)?, server, Some(relay)))
        }
        RelayChoice::Running { url, metrics_url, pid } => {
            let target = Target::parse(url)?;
            let metrics_url = metrics_url.clone().unwrap_or_else(|| target.default_metrics_url());
            Ok((target, Server { metrics_url, pid: *pid }, None))
        }
    }
}

/// Where the relay is.
#[derive(Clone, Copy)]
struct Site {
    /// At an IPv4 address of the loopback network: clients may come from all of it.
    loopback: bool,
    /// On this machine: it has both ends of every connection.
    local: bool,
}

impl Site {
    fn of(address: IpAddr) -> Self {
        let loopback = matches!(address, IpAddr::V4(address) if address.is_loopback());
        // Only a machine's own addresses can be bound.
        Self { loopback, local: loopback || UdpSocket::bind((address, 0)).is_ok() }
    }
}

fn demand(layout: Layout, site: Site, descriptors: u64) -> Demand {
    let connections = u64::from(layout.connections());
    Demand {
        connections,
        players: layout.players.into(),
        busy: u64::from(IN_MOTION_MAX.min(layout.connections())) + u64::from(layout.active_players()),
        rings: layout.rings().into(),
        relay_rings: site.local.then(|| connections.div_ceil(descriptors.max(1)).max(1) * 3 / 2),
        loopback: site.loopback,
    }
}

/// What the machine has, if that is enough; an error names all of which there is too little.
fn room(demand: &Demand) -> anyhow::Result<Supply> {
    let supply = machine::supply();
    let shortages: String =
        demand.shortages(&supply).iter().map(|shortage| format!("\n  {shortage}")).collect();
    if !shortages.is_empty() {
        bail!("{} connections do not fit on this machine:{shortages}", demand.connections);
    }
    Ok(supply)
}

/// What one thread plays: whole games, of which the first ones move.
fn part(settings: &Settings, layout: Layout, ring: u32, target: &Target) -> Part {
    let &Load { players, seed, hz, ramp, .. } = &settings.load;
    let games = layout.games_of(ring);
    let first = games.start * players;
    let connections = (games.end - games.start) * players;
    let active = layout.active_of(ring) * players;
    let topic_of = |slot: u32| format!("game:million-{seed}-{}", (first + slot) / players);
    let members = Members::new(connections, settings.tokens.clone(), topic_of, |slot| first + slot);
    Part {
        plan: Plan { busy: active, ..Plan::new(target, DialectName::Native.dialect(members), connections) },
        players_per_room: players,
        // All of a game at once, so that its roster is told once.
        pace: Pace { per_s: ramp, first, batch: players, in_motion_max: IN_MOTION_MAX },
        schedule: Schedule::new(first..first + active, hz, seed),
        grace: GRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_on_this_machine_is_known_by_its_address() {
        let site = |address: &str| {
            let Site { loopback, local } = Site::of(address.parse().unwrap());
            (loopback, local)
        };
        assert_eq!((site("127.0.0.1"), site("::1")), ((true, true), (false, true)));
        assert_eq!(site("203.0.113.9"), (false, false));
    }
}
