//! How much of what the relay sent.

use derive_more::{Add, Sub};

/// What the relay sent. Grows only; differences are taken between two copies.
#[derive(Add, Clone, Copy, Debug, Default, PartialEq, Eq, Sub)]
pub struct Counters {
    /// WebSocket messages, control frames included.
    pub frames: u64,
    pub bytes: u64,
    /// Delta and Keyframe records; in the Phoenix dialect `game_update` messages, in the raw one all binary messages.
    pub tick_frames: u64,
    pub positions: u64,
    /// Keyframe records among them. The Phoenix dialect does not tell which of its updates are whole.
    pub keyframes: u64,
    /// RateLimited records, `rate_limited` messages.
    pub rate_limited: u64,
    /// Correction records, `correction` messages.
    pub corrections: u64,
    /// Error records, replies with status `error`.
    pub errors: u64,
    /// Notice records; `disconnect_warning` and `server_draining` messages.
    pub notices: u64,
    /// Messages that are none of the protocol.
    pub malformed: u64,
    pub pings: u64,
}
