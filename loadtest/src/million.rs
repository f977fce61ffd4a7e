//! `million`: as many real players as asked for in one relay, most of them silent; what each costs, and how it scales.

mod crew;
mod demands;
mod kernel;
mod layout;
mod machine;
mod outcome;
mod relay;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};

pub use layout::ActiveGames;
pub use outcome::Outcome;

use crate::assertions;
use crate::cli::Million;
use crate::crowd::{Frugal, Plan, Sources};
use crate::dialect::{DialectName, Members};
use crate::figures::MILLION;
use crate::handshake::Handshake;
use crate::limits::raise_descriptors;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::target::Target;
use crate::tokens::Tokens;
use crate::told::Closes;
use crew::{JOINING_MAX, Part, Phase, Shared, Tallies, play};
use demands::{Demand, Supply};
use kernel::Kernel;
use layout::Layout;
use machine::WidePorts;
use relay::{CLOSE_AFTER_MS, PING_AFTER_MS, Relay, TICK_HZ};
use watch::{Crew, Seen, Times, Watch};

/// Name of the relay's binary, beside this one.
const RELAY_BINARY: &str = "corelay";

/// What a run is.
#[derive(Clone)]
pub struct MillionSettings {
    /// Which relay.
    pub relay: RelayChoice,
    /// Connections at the top; whole games.
    pub connections: u32,
    /// Players of each game.
    pub players: u32,
    /// New connections per second.
    pub ramp_per_s: f64,
    /// Everybody is silent.
    pub quiet: Duration,
    /// Then the active games move.
    pub hold: Duration,
    /// These.
    pub active_games: ActiveGames,
    /// Moves per second of each of their players.
    pub hz: f64,
    /// Decides when they move, and the names of the games.
    pub seed: u64,
    /// Who the players say they are.
    pub tokens: Tokens,
}

/// Which relay is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayChoice {
    /// One of our own, started for the run and ended with it.
    Start(PathBuf),
    /// One that is there.
    Running {
        /// `ws://host:port`.
        url: String,
        /// Its metrics; `None`: port 4001 of the same host.
        metrics_url: Option<String>,
        /// Its process, if it is on this machine and has no metrics.
        pid: Option<u32>,
    },
}

/// The binary to start: `given`, `corelay` beside this program, or what `$CORELAY` names.
pub fn relay_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("the name of this program")?;
    let beside = own.with_file_name(RELAY_BINARY);
    let named = std::env::var_os("CORELAY").map(PathBuf::from);
    if beside.is_file() {
        return Ok(beside);
    }
    named.with_context(|| {
        format!(
            "there is no relay to start: no {}, and $CORELAY is not set. Build it (cargo build --release), name it with --relay, \
             or point to one that runs with --url",
            beside.display()
        )
    })
}

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Million, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.assertions, MILLION)?;
    let settings = arguments.settings()?;
    let (outcome, notes) = observe(&settings, interrupted, &bar(settings.connections))?;
    report(&settings, outcome, notes).finish(&assertions, arguments.json.as_deref())
}

/// Runs it for its numbers, as runs of several sizes do. An error also if it was interrupted or one of them is missing.
#[allow(dead_code, reason = "called by the scenario that compares several sizes")]
pub fn measure(
    settings: &MillionSettings,
    interrupted: &AtomicBool,
    progress: &ProgressBar,
) -> anyhow::Result<(Measurement, Outcome)> {
    let (outcome, _) = observe(settings, interrupted, progress)?;
    if !outcome.seen.complete {
        bail!("interrupted");
    }
    Ok((outcome.measurement()?, outcome))
}

/// A bar on standard error, as `measure` fills it; hidden when that is no terminal.
pub fn bar(connections: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:30} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(connections.into()).with_style(style.expect("the template is constant and valid"))
}

/// Runs it to its end or to an interruption. The texts are what was changed on this machine meanwhile.
fn observe(
    settings: &MillionSettings,
    interrupted: &AtomicBool,
    progress: &ProgressBar,
) -> anyhow::Result<(Outcome, Vec<String>)> {
    let &MillionSettings { connections, players, active_games, .. } = settings;
    let descriptors = raise_descriptors(connections.into());
    let layout = Layout::new(connections, players, active_games, descriptors)?;
    let loopback = match &settings.relay {
        RelayChoice::Start(_) => true,
        RelayChoice::Running { url, .. } => Target::parse(url)?.address.ip() == std::net::Ipv4Addr::LOCALHOST,
    };
    let (supply, wide_ports) = room(layout, loopback, descriptors)?;

    let mut own = match &settings.relay {
        RelayChoice::Start(binary) => Some(Relay::start(binary, &relay_flags(connections, descriptors))?),
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
    let per_address = demand(layout, loopback, descriptors).per_address(&supply);
    let sources = |first: u32| loopback.then_some(Sources { first, per_address });

    let shared = Shared::default();
    let mut watch =
        Watch::new(&shared, own.as_mut(), &server, layout, settings.ramp_per_s, interrupted, progress);
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
    watch.read_after(&mut seen);
    progress.finish_and_clear();
    if let Some(relay) = own {
        relay.stop()?;
    }
    let notes = wide_ports.iter().map(WidePorts::told).collect();
    Ok((Outcome { layout, tallies, seen, local: loopback }, notes))
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
        (Ok(seen), None) => Ok((seen, sum)),
        (Ok(_), Some(error)) => Err(error),
        (Err(error), None) => bail!("{error:#}{}", told(&sum)),
        (Err(error), Some(cause)) => bail!("{error:#}: {cause:#}{}", told(&sum)),
    }
}

fn demand(layout: Layout, loopback: bool, descriptors: u64) -> Demand {
    let connections = u64::from(layout.connections());
    Demand {
        connections,
        busy: u64::from(JOINING_MAX.min(layout.connections())) + u64::from(layout.active_players()),
        rings: layout.rings().into(),
        relay_rings: loopback.then(|| connections.div_ceil(descriptors.max(1)).max(1) * 3 / 2),
        loopback,
    }
}

/// Raises what may be raised, and refuses what does not fit, all of it at once.
fn room(layout: Layout, loopback: bool, descriptors: u64) -> anyhow::Result<(Supply, Option<WidePorts>)> {
    let demand = demand(layout, loopback, descriptors);
    let mut supply = machine::supply();
    let ports = supply.ports.map_or(u64::MAX, |(low, high)| (high + 1).saturating_sub(low));
    let wide_ports = if !loopback && demand.connections > ports { WidePorts::open() } else { None };
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

/// What the relay is told about its size. With `--connections-max` alone it would need as many shards as CPUs to hold all; games
/// are spread by hash, so that every shard needs room beyond its share.
fn relay_flags(connections: u32, descriptors: u64) -> Vec<String> {
    const RESERVE: u64 = 64;
    let per_shard = descriptors.saturating_sub(RESERVE).max(1);
    let with_room = u64::from(connections) * 5 / 4 + 4_096;
    let shards = with_room.div_ceil(per_shard).max(2);
    let connections_max = with_room.min(shards * per_shard);
    ["--shards", &shards.to_string(), "--connections-max", &connections_max.to_string()]
        .map(str::to_owned)
        .into()
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

fn report(settings: &MillionSettings, outcome: Outcome, notes: Vec<String>) -> Report {
    let layout = outcome.layout;
    let figures = outcome.figures();
    let kernel_by_cache = outcome.kernel_growth(1).map_or(Vec::new(), |growth| growth.by_cache);
    let own = matches!(settings.relay, RelayChoice::Start(_));
    let liveness_ms = own.then_some([PING_AFTER_MS, CLOSE_AFTER_MS]);
    let url = match &settings.relay {
        RelayChoice::Start(binary) => binary.display().to_string(),
        RelayChoice::Running { url, .. } => url.clone(),
    };
    let mut warnings = notes;
    if !outcome.seen.complete {
        warnings.push("interrupted: the figures are those of what was done until then".to_owned());
    }
    let mut details = Map::new();
    let cache = |(cache, bytes): &(String, f64)| json!({ "cache": cache, "bytes": bytes });
    details.insert("kernel_by_cache".into(), kernel_by_cache.iter().map(cache).collect());
    details.insert("machine".into(), machine::describe());
    let shards = outcome.seen.shards.map_or(String::new(), |shards| format!(" of {shards} shards"));
    let caches: Vec<_> = kernel_by_cache
        .iter()
        .map(|(name, bytes)| format!("\n  {name:<40}{:>10.1} MiB", bytes / 1_048_576.0))
        .collect();
    Report {
        command: "million",
        title: format!(
            "{url}{shards}: {} connections, {} of {} games of {} move at {} Hz for {} s{}\nkernel memory at the top, by slab \
             cache{}:{}",
            layout.connections(),
            layout.active_games,
            layout.games,
            layout.players,
            settings.hz,
            settings.hold.as_secs_f64(),
            liveness_ms.map_or(String::new(), |[ping, close]| format!(
                "; pinged after {} s of silence, closed after {} s",
                ping / 1000,
                close / 1000
            )),
            if outcome.local { ", both ends of each connection" } else { "" },
            if caches.is_empty() { " not available".to_owned() } else { caches.concat() }
        ),
        settings: json!({
            "relay": url, "connections": layout.connections(), "players": layout.players, "ramp": settings.ramp_per_s,
            "quiet_s": settings.quiet.as_secs_f64(), "hold_s": settings.hold.as_secs_f64(),
            "active_games": layout.active_games, "games": layout.games, "hz": settings.hz, "seed": settings.seed,
            "rings": layout.rings(), "relay_shards": outcome.seen.shards,
            "liveness_ping_after_ms": liveness_ms.map(|[ping, _]| ping),
            "liveness_close_after_ms": liveness_ms.map(|[_, close]| close),
            "tick_hz": own.then_some(TICK_HZ), "ends_on_this_machine": if outcome.local { 2 } else { 1 },
        }),
        complete: outcome.seen.complete,
        figures,
        cpu_source: None,
        failures: outcome.tallies.failures,
        closes: outcome.tallies.closes,
        stalled_closes: Closes::default(),
        errors: outcome.tallies.errors,
        warnings,
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_has_room_for_more_than_its_share_in_every_shard() {
        let flags = relay_flags(1_000_000, 20_000).join(" ");
        assert_eq!(flags, "--shards 63 --connections-max 1254096");
        assert_eq!(relay_flags(1_000, 20_000).join(" "), "--shards 2 --connections-max 5346");
    }

    #[test]
    fn a_relay_that_is_given_is_taken() {
        let given = relay_binary(Some(Path::new("/x/corelay"))).unwrap();
        assert_eq!(given, Path::new("/x/corelay"));
    }
}
