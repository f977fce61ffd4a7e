//! What a run says: title, settings, warnings, figures, and the kernel's caches one by one.

use serde_json::{Map, Value as Json, json};

use super::arguments::Settings;
use super::kernel::Growth;
use super::outcome::Outcome;
use super::relay::{CLOSE_AFTER_MS, PING_AFTER_MS, RelayChoice, TICK_HZ};
use crate::machine::Machine;
use crate::report::Report;

/// Moves that leave so late (99 % of them sooner), in µs, say more about this machine than about the relay.
const LATE_US_MAX: u64 = 10_000;

/// Puts together what was measured. `note` is a warning.
pub fn report(settings: &Settings, outcome: Outcome, note: Option<String>) -> Report {
    let (layout, seen, load) = (outcome.layout, &outcome.seen, &settings.load);
    let url = match &settings.relay {
        RelayChoice::Start(binary) => binary.display().to_string(),
        RelayChoice::Running { url, .. } => url.clone(),
    };
    let own = matches!(settings.relay, RelayChoice::Start(_));
    Report {
        command: "million",
        title: title(settings, &outcome, &url),
        settings: json!({
            "relay": url, "connections": layout.connections(), "players": layout.players, "ramp": load.ramp,
            "quiet_s": load.quiet.as_secs_f64(), "hold_s": load.hold.as_secs_f64(),
            "active_games": layout.active_games, "games": layout.games, "hz": load.hz, "seed": load.seed,
            "rings": layout.rings(), "relay_shards": seen.shards,
            "liveness_ping_after_ms": own.then_some(PING_AFTER_MS),
            "liveness_close_after_ms": own.then_some(CLOSE_AFTER_MS),
            "tick_hz": own.then_some(TICK_HZ), "ends_on_this_machine": if outcome.local { 2 } else { 1 },
        }),
        complete: seen.complete && seen.failure.is_none(),
        figures: outcome.figures(),
        cpu_source: None,
        warnings: warnings(&outcome, note),
        details: Map::from_iter([
            ("kernel_by_cache".to_owned(), by_cache(seen.kernel_growth(1))),
            ("slab_kept_by_cache".to_owned(), by_cache(seen.kernel_growth(2))),
            ("slab_left_by_cache".to_owned(), by_cache(seen.left.clone())),
            ("machine".to_owned(), json!(Machine::here())),
        ]),
        endings: outcome.tallies.endings,
    }
}

/// What was done, and the kernel's memory by slab cache.
fn title(settings: &Settings, outcome: &Outcome, url: &str) -> String {
    let (layout, load) = (outcome.layout, &settings.load);
    let shards = outcome.seen.shards.map_or(String::new(), |shards| format!(" of {shards} shards"));
    let liveness = match settings.relay {
        RelayChoice::Start(_) => format!(
            "; pinged after {} s of silence, closed after {} s",
            PING_AFTER_MS / 1000,
            CLOSE_AFTER_MS / 1000
        ),
        RelayChoice::Running { .. } => String::new(),
    };
    let line = |(name, bytes): &(String, f64)| format!("\n  {name:<40}{:>10.1} MiB", bytes / 1_048_576.0);
    let caches = match outcome.seen.kernel_growth(1) {
        Ok(Growth { by_cache, .. }) if !by_cache.is_empty() => by_cache.iter().map(line).collect(),
        _ => " not available".to_owned(),
    };
    format!(
        "{url}{shards}: {} connections, {} of {} games of {} move at {} Hz for {} s{liveness}\nkernel memory at the top, by slab \
         cache{}:{caches}",
        layout.connections(),
        layout.active_games,
        layout.games,
        layout.players,
        load.hz,
        load.hold.as_secs_f64(),
        if outcome.local { ", both ends of each connection" } else { "" },
    )
}

fn warnings(outcome: &Outcome, note: Option<String>) -> Vec<String> {
    let mut warnings = Vec::from_iter(note);
    let late_us = outcome.tallies.sends.lateness_us.value_at_percentile(99.0);
    if late_us > LATE_US_MAX {
        warnings.push(format!(
            "this machine did not keep up (1 % of the moves left more than {} ms late): read the latencies as an upper bound",
            late_us / 1000
        ));
    }
    if let Some(failure) = &outcome.seen.failure {
        warnings.push(format!("the figures are those from before the goodbyes: {failure}"));
    }
    if !outcome.seen.complete {
        warnings.push("interrupted: the figures are those of what was done until then".to_owned());
    }
    warnings
}

fn by_cache(growth: Result<Growth, String>) -> Json {
    let caches = growth.map_or(Vec::new(), |growth| growth.by_cache);
    caches.iter().map(|(cache, bytes)| json!({ "cache": cache, "bytes": bytes })).collect()
}
