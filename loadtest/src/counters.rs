//! How much of what the relay sent.

/// What the relay sent. Grows only; differences are taken between two copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Counters {
    pub fn since(self, earlier: Self) -> Self {
        self.combine(earlier, u64::wrapping_sub)
    }

    pub fn plus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    fn combine(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            frames: with(self.frames, other.frames),
            bytes: with(self.bytes, other.bytes),
            tick_frames: with(self.tick_frames, other.tick_frames),
            positions: with(self.positions, other.positions),
            keyframes: with(self.keyframes, other.keyframes),
            rate_limited: with(self.rate_limited, other.rate_limited),
            corrections: with(self.corrections, other.corrections),
            errors: with(self.errors, other.errors),
            notices: with(self.notices, other.notices),
            malformed: with(self.malformed, other.malformed),
            pings: with(self.pings, other.pings),
        }
    }
}
