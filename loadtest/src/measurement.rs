//! What one run with many connections measured: the numbers that runs of different sizes are compared by.

use serde::{Deserialize, Deserializer, Serialize};

/// One run: ramp, quiet, hold, close. `scaling/rows.rs` says what each number is. After a failure during the goodbyes those that
/// are read after them are NaN, which is written as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub connections: u32,
    pub joined: u32,
    pub refused: u64,
    pub dropped: u64,
    pub shards: Option<u32>,
    pub ramp_per_s: f64,
    pub rss_start_bytes: f64,
    pub rss_top_bytes: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub rss_after_bytes: f64,
    pub user_bytes_per_player: f64,
    pub kernel_bytes_per_connection: f64,
    pub kernel_by_cache: Vec<(String, f64)>,
    pub sockstat_mem_bytes: f64,
    pub idle_cpu_cores: f64,
    pub hold_cpu_cores: f64,
    pub client_cpu_cores: f64,
    pub active_players: u32,
    pub frames: u64,
    pub cpu_us_per_frame: f64,
    pub reach: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    #[serde(deserialize_with = "number_or_nan")]
    pub slab_left_bytes: f64,
}

fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
