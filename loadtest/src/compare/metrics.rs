//! What is measured of every server.

use crate::figures::Unit::{self, Bytes, Count, Duration, Number};

/// A figure that every server has.
#[derive(Debug)]
pub struct Metric {
    /// After the server's name.
    pub key: &'static str,
    /// Name of corelay's value / the server's value, if such a ratio says something.
    pub ratio: Option<&'static str>,
    pub unit: Unit,
    pub about: &'static str,
}

const fn metric(key: &'static str, ratio: Option<&'static str>, unit: Unit, about: &'static str) -> Metric {
    Metric { key, ratio, unit, about }
}

/// Measured in every round.
pub const METRICS: [Metric; 7] = [
    metric(
        "deliveries_per_cpu_s",
        Some("deliveries_ratio"),
        Count,
        "frames received by clients per CPU second of the server",
    ),
    metric(
        "positions_per_cpu_s",
        Some("positions_ratio"),
        Count,
        "positions in them, per CPU second of the server",
    ),
    metric("reach", Some("reach_ratio"), Number, "views that were fresh / views expected"),
    metric("p50", Some("p50_ratio"), Duration, "latency: half of the views arrived within"),
    metric("p99", Some("p99_ratio"), Duration, "latency: 99 % of the views arrived within"),
    metric("server_cpu_cores", None, Number, "processor time of the server / window"),
    metric("client_cpu_cores", None, Number, "processor time of this load test / window"),
];

/// Measured once.
pub const MEMORY: Metric = metric(
    "memory_per_connection",
    Some("memory_ratio"),
    Bytes,
    "resident memory of the server per idle connection",
);

/// What `--help` says about the figures.
pub fn help() -> String {
    let lines = METRICS.iter().chain([&MEMORY]).map(|metric| {
        let ratio = metric.ratio.map(|ratio| format!("; NAME.{ratio}")).unwrap_or_default();
        format!("  NAME.{}{ratio}\n      {}\n", metric.key, metric.about)
    });
    lines.collect()
}
