//! Silence: after a while a ping, after a longer while a close (PROTOCOL section 6). Only inbound bytes prove life.

use std::time::Duration;

use crate::limits;

/// How long a `/play` connection may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Then the relay pings.
    pub ping_after: Duration,
    /// Then it closes with 1001 `idle`.
    pub close_after: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { ping_after: limits::PLAY_PING_AFTER, close_after: limits::PLAY_CLOSE_AFTER }
    }
}
