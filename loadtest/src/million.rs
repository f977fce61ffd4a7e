//! `million`: as many real players as asked for in one relay, most of them silent; what each costs, and how it scales.

mod arguments;
mod crew;
mod demands;
mod figures;
mod kernel;
mod layout;
mod machine;
mod outcome;
mod relay;
mod settings;
mod summary;
mod watch;

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

pub use arguments::{Arguments, EXAMPLE, HELP, Load};
pub use figures::FIGURES;
pub use layout::ActiveGames;
pub use outcome::Outcome;
pub use relay::{CLOSE_AFTER_MS, PING_AFTER_MS, TICK_HZ};

use crate::assertions;
use crate::crowd::{Frugal, Plan, Sources};
use crate::dialect::{DialectName, Members};
use crate::handshake::Handshake;
use crate::limits::raise_descriptors;
use crate::measurement::Measurement;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::target::Target;
use crew::{MOVING_MAX, Part, Phase, Shared, Tallies, play};
use demands::{Demand, Supply};
use kernel::Kernel;
use layout::Layout;
use machine::WidePorts;
use relay::Relay;
pub use settings::{MillionSettings, RelayChoice, relay_binary};
use watch::{Crew, Seen, Times, Watch};

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.assertions, FIGURES)?;
    let settings = arguments.settings()?;
    let (outcome, notes) = observe(&settings, interrupted, &bar(settings.connections))?;
    let failure = outcome.seen.failure.clone();
    let holds = summary::report(&settings, outcome, notes).finish(&assertions, arguments.json.as_deref())?;
    failure.map_or(Ok(holds), |failure| Err(anyhow::Error::msg(failure)))
}

/// Runs it for its numbers, as runs of several sizes do; beside them what failed during the goodbyes or after them. An error also
/// if it was interrupted or another number is missing.
pub fn measure(
    settings: &MillionSettings,
    interrupted: &AtomicBool,
    progress: &ProgressBar,
) -> anyhow::Result<(Measurement, Option<anyhow::Error>)> {
    let (outcome, _) = observe(settings, interrupted, progress)?;
    if !outcome.seen.complete {
        bail!("interrupted");
    }
    Ok((outcome.measurement()?, outcome.seen.failure.map(anyhow::Error::msg)))
}

/// A bar on standard error, as `measure` fills it; hidden when that is no terminal.
pub fn bar(connections: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:30} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(connections.into()).with_style(style.expect("the template is constant and valid"))
}

/// Runs it to its end or to an interruption. The texts are what was changed on this machine meanwhile, and how a relay of our own
/// did not end.
fn observe(
    settings: &MillionSettings,
    interrupted: &AtomicBool,
    progress: &ProgressBar,
) -> anyhow::Result<(Outcome, Vec<String>)> {
    let &MillionSettings { connections, players, active_games, .. } = settings;
    // In huge pages every ring's little memory takes some MiB. A kernel that cannot switch them off is sparing otherwise.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let descriptors = raise_descriptors(connections.into());
    let layout = Layout::new(connections, players, active_games, descriptors)?;
    let site = match &settings.relay {
        RelayChoice::Start(_) => Site { loopback: true, local: true },
        RelayChoice::Running { url, .. } => Site::of(Target::parse(url)?.address.ip()),
    };
    let demand = demand(layout, site, descriptors);
    let (supply, wide_ports) = room(&demand)?;

    // What ran before may still be on its way out.
    let kernel_first = Kernel::sample_settled(None);
    let mut own = match &settings.relay {
        RelayChoice::Start(binary) => Some(Relay::start(binary, connections, interrupted)?),
        RelayChoice::Running { .. } => None,
    };
    let (target, server) = match (&own, &settings.relay) {
        (Some(relay), _) => {
            let server = Server { metrics_url: relay.metrics_url.clone(), pid: Some(relay.pid()) };
            (Target::parse(&relay.url)?, server)
        }
        (None, RelayChoice::Running { url, metrics_url, pid }) => {
            let target = Target::parse(url)?;
            let metrics_url = metrics_url.clone().unwrap_or_else(|| target.default_metrics_url());
            (target, Server { metrics_url, pid: *pid })
        }
        (None, RelayChoice::Start(binary)) => bail!("{} was not started", binary.display()),
    };
    let before = (server.sample(), Kernel::sample());
    let per_address = demand.per_address(&supply);
    let sources = |first: u32| site.loopback.then_some(Sources { first, per_address });

    let shared = Shared::default();
    let mut watch = Watch::new(&shared, own.as_mut(), &server, layout, interrupted, progress);
    let times = Times { quiet: settings.quiet, hold: settings.hold };
    let (mut seen, tallies) = std::thread::scope(|scope| {
        let parts = (0..layout.rings()).map(|ring| part(settings, layout, ring, &target, sources));
        let started: std::io::Result<Crew<'_>> = parts
            .map(|part| {
                let play = || play(part, &shared);
                std::thread::Builder::new().name("players".into()).spawn_scoped(scope, play)
            })
            .collect();
        let crew = started.inspect_err(|_| shared.enter(Phase::Abort)).context("starting a thread")?;
        let seen = watch.run(times, before, &crew);
        shared.enter(Phase::Abort);
        join(crew, seen)
    })?;
    if seen.failure.is_none() {
        watch.read_after(&mut seen);
    }
    let mut notes: Vec<String> = wide_ports.iter().map(WidePorts::told).collect();
    // After a failure there is nothing more to read, and dropping it ends it.
    if let Some(relay) = own.filter(|_| seen.failure.is_none()) {
        // What was measured is not lost by it.
        notes.extend(relay.stop().err().map(|error| format!("{error:#}")));
        seen.left = Kernel::sample_settled(Some(&kernel_first)).growth(&kernel_first);
    }
    progress.finish_and_clear();
    Ok((Outcome { layout, tallies, seen, local: site.local }, notes))
}

/// Sums up the threads. What they say explains an error of the watcher.
fn join(crew: Crew<'_>, seen: anyhow::Result<Seen>) -> anyhow::Result<(Seen, Tallies)> {
    let mut sum = Tallies::default();
    let mut first_error = None;
    for thread in crew {
        match thread.join().expect("a thread does not panic") {
            Ok(tallies) => sum.add(&tallies),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let told = |sum: &Tallies| -> String {
        sum.failures.lines().map(|(text, count)| format!("\n  did not join: {count} × {text}")).collect()
    };
    match (seen, first_error) {
        (Ok(mut seen), None) => {
            if sum.goodbye_failures.total() > 0 {
                let texts: Vec<_> = sum.goodbye_failures.lines().map(|(text, _)| text).collect();
                seen.fail(&anyhow!("during the goodbyes: {}", texts.join("; ")));
            }
            Ok((seen, sum))
        }
        (Ok(_), Some(error)) => Err(error),
        (Err(error), None) => bail!("{error:#}{}", told(&sum)),
        (Err(error), Some(cause)) => bail!("{error:#}: {cause:#}{}", told(&sum)),
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
        busy: u64::from(MOVING_MAX.min(layout.connections())) + u64::from(layout.active_players()),
        rings: layout.rings().into(),
        relay_rings: site.local.then(|| connections.div_ceil(descriptors.max(1)).max(1) * 3 / 2),
        loopback: site.loopback,
    }
}

/// Raises what may be raised, and refuses what does not fit, all of it at once.
fn room(demand: &Demand) -> anyhow::Result<(Supply, Option<WidePorts>)> {
    let mut supply = machine::supply();
    let ports = supply.ports.map_or(u64::MAX, |(low, high)| (high + 1).saturating_sub(low));
    let wide_ports = if !demand.loopback && demand.connections > ports { WidePorts::open() } else { None };
    if wide_ports.is_some() {
        supply = machine::supply();
    }
    let shortages = demand.shortages(&supply);
    if shortages.is_empty() {
        return Ok((supply, wide_ports));
    }
    let lines: String = shortages.iter().map(|shortage| format!("\n  {shortage}")).collect();
    bail!("{} connections do not fit on this machine:{lines}", demand.connections)
}

fn part(
    settings: &MillionSettings,
    layout: Layout,
    ring: u32,
    target: &Target,
    sources: impl Fn(u32) -> Option<Sources>,
) -> Part {
    let &MillionSettings { players, seed, hz, ramp_per_s, .. } = settings;
    let games = layout.games_of(ring);
    let first = games.start * players;
    let connections = (games.end - games.start) * players;
    let active = layout.active_of(ring) * players;
    let topic_of = |slot: u32| format!("game:million-{seed}-{}", (first + slot) / players);
    let members = Members::new(connections, settings.tokens.clone(), topic_of, |slot| first + slot);
    Part {
        plan: Plan {
            target: target.address,
            handshake: Handshake::new(target.authority.clone()),
            dialect: DialectName::Native.dialect(members),
            connections,
            stalled_from: connections,
            ramp_per_s,
        },
        frugal: Frugal { busy: Some(active), sources: sources(first) },
        players,
        first_game: games.start,
        schedule: Schedule::new(first..first + active, hz, seed),
        ramp_per_s,
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
