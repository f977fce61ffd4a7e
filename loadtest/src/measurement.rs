//! What one run with many connections measured: the numbers that runs of different sizes are compared by.

use serde::{Deserialize, Deserializer, Serialize};

/// One run: ramp, quiet, hold, close. Bytes of the relay are resident memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub connections: u32,
    pub joined: u32,
    /// Connections that did not.
    pub refused: u64,
    /// Players whose connection ended while all should have stayed.
    pub dropped: u64,
    pub shards: Option<u32>,
    /// Joins per second, from the first connect to the last Welcome.
    pub ramp_per_s: f64,
    /// Of the relay before the first connection.
    pub rss_start_bytes: f64,
    /// Of the relay with everybody in.
    pub rss_top_bytes: f64,
    /// Of the relay when everybody has gone; NaN if the goodbyes failed.
    #[serde(deserialize_with = "number_or_nan")]
    pub rss_after_bytes: f64,
    /// `(rss_top_bytes - rss_start_bytes)` / players that are there at the top.
    pub user_bytes_per_player: f64,
    /// Growth of the kernel's slab caches per end of a connection, without those that only clients have.
    pub kernel_bytes_per_connection: f64,
    /// That growth in bytes by cache, largest first, both ends together.
    pub kernel_by_cache: Vec<(String, f64)>,
    /// What the kernel counts as TCP buffers with everybody in and quiet.
    pub sockstat_mem_bytes: f64,
    /// Processor time of the relay / time while nobody moves.
    pub idle_cpu_cores: f64,
    /// Processor time of the relay / time while the active games move.
    pub hold_cpu_cores: f64,
    pub client_cpu_cores: f64,
    /// Players that move in the hold.
    pub active_players: u32,
    /// Tick frames that they received in the hold.
    pub frames: u64,
    /// What the hold took beyond being idle, in µs of the relay's processor time per such frame.
    pub cpu_us_per_frame: f64,
    /// Views that were fresh / views expected.
    pub reach: f64,
    /// Age of a move when it is seen: half of the views.
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// Growth of the slab caches over the whole run, the relay's own included, without sockets in TIME_WAIT. While the relay
    /// runs, its rings keep what their operations were made of. NaN if the goodbyes failed.
    #[serde(deserialize_with = "number_or_nan")]
    pub slab_left_bytes: f64,
}

/// NaN is written as `null`.
fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
