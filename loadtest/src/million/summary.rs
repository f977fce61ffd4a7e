//! What a run says: title, settings, warnings, figures, and the kernel's caches one by one.

use serde_json::{Map, json};

use super::kernel::Growth;
use super::outcome::Outcome;
use super::relay::{CLOSE_AFTER_MS, PING_AFTER_MS, TICK_HZ};
use super::settings::{MillionSettings, RelayChoice};
use crate::endings::Closes;
use crate::machine::Machine;
use crate::report::Report;

/// Moves that leave so late (99 % of them sooner), in µs, say more about this machine than about the relay.
const LATE_US_MAX: u64 = 10_000;

/// Puts together what was measured. `notes` are warnings.
pub fn report(settings: &MillionSettings, outcome: Outcome, notes: Vec<String>) -> Report {
    let layout = outcome.layout;
    let figures = outcome.figures();
    let by_cache = |growth: Result<Growth, String>| growth.map_or(Vec::new(), |growth| growth.by_cache);
    let kernel_by_cache = by_cache(outcome.seen.kernel_growth(1));
    let kept_by_cache = by_cache(outcome.seen.kernel_growth(2));
    let left_by_cache = by_cache(outcome.seen.left.clone());
    let own = matches!(settings.relay, RelayChoice::Start(_));
    let liveness_ms = own.then_some([PING_AFTER_MS, CLOSE_AFTER_MS]);
    let url = match &settings.relay {
        RelayChoice::Start(binary) => binary.display().to_string(),
        RelayChoice::Running { url, .. } => url.clone(),
    };
    let mut warnings = notes;
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
    let mut details = Map::new();
    let cache = |(cache, bytes): &(String, f64)| json!({ "cache": cache, "bytes": bytes });
    details.insert("kernel_by_cache".into(), kernel_by_cache.iter().map(cache).collect());
    details.insert("slab_kept_by_cache".into(), kept_by_cache.iter().map(cache).collect());
    details.insert("slab_left_by_cache".into(), left_by_cache.iter().map(cache).collect());
    details.insert("machine".into(), json!(Machine::here()));
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
        complete: outcome.seen.complete && outcome.seen.failure.is_none(),
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
