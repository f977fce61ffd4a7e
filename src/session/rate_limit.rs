//! Rate limits of one connection (PROTOCOL section 7).

use crate::limits;

/// So many per second on average, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Allowed per second; at least 1.
    pub per_s: u32,
    /// Allowed at once; at least 1.
    pub burst: u32,
}

impl From<(u32, u32)> for Rate {
    fn from((per_s, burst): (u32, u32)) -> Self {
        Self { per_s, burst }
    }
}

/// The rate of every class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Move and HostMoves.
    pub moves: Rate,
    /// PutObject and RemoveObject.
    pub objects: Rate,
    /// Event.
    pub events: Rate,
    /// Ping.
    pub pings: Rate,
    /// Bytes in.
    pub bytes: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            moves: limits::MOVE_RATE.into(),
            objects: limits::MOVE_RATE.into(),
            events: limits::EVENT_RATE.into(),
            pings: limits::PING_RATE.into(),
            bytes: limits::BYTES_RATE.into(),
        }
    }
}
