//! Durations that a shard has recorded between two looks at `/metrics`.

use std::collections::BTreeMap;

use crate::relay::Relay;

/// How late ticks ran.
pub const TICKS: &str = "corelay_tick_lateness_seconds";
/// How long turns of the loop took.
pub const TURNS: &str = "corelay_loop_turn_seconds";

/// Counts by upper bound in µs, cumulated.
pub struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// The histogram as it is now, over all shards.
    pub fn of(relay: &Relay, name: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in relay.fetch("/metrics").1.lines() {
            let Some(sample) = line.strip_prefix(name).and_then(|line| line.strip_prefix("_bucket{le=\""))
            else {
                continue;
            };
            let (bound, rest) = sample.split_once('"').unwrap();
            let bound_us =
                if bound == "+Inf" { u64::MAX } else { (bound.parse::<f64>().unwrap() * 1e6) as u64 };
            *counts.entry(bound_us).or_insert(0) += rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        }
        assert!(!counts.is_empty(), "{name} is no histogram");
        Self(counts)
    }

    /// The durations that were recorded since `before`.
    pub fn since(self, before: &Self) -> Self {
        Self(self.0.into_iter().map(|(bound, count)| (bound, count - before.0[&bound])).collect())
    }

    pub fn count(&self) -> u64 {
        *self.0.values().next_back().unwrap()
    }

    /// An upper bound of so many of a thousand, in µs.
    pub fn per_mille_us(&self, per_mille: u64) -> u64 {
        let rank = (self.count() * per_mille).div_ceil(1000);
        *self.0.iter().find(|(_, count)| **count >= rank).unwrap().0
    }

    /// The percentiles, for a report.
    pub fn text(&self) -> String {
        let [p50, p99, max] = [500, 990, 1000].map(|per_mille| self.per_mille_us(per_mille));
        format!("{} recorded, 50 % within {p50} µs, 99 % within {p99} µs, all within {max} µs", self.count())
    }
}
