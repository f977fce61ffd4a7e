//! How far a client that comes back has followed a topic (PROTOCOL 5).

use super::phoenix::fields::{named, string, whole};
use crate::ids::StreamPosition;

/// See the module documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// `{epoch, seq}`.
    Position(StreamPosition),
    /// A time in unix milliseconds; `room:` topics only.
    UnixMs(u64),
}

impl Seen {
    /// Reads `{epoch, seq}`, whose epoch is a decimal string, or a time in unix milliseconds.
    pub(super) fn read(json: &str) -> Option<Self> {
        if let Some(ms) = whole(json) {
            return Some(Self::UnixMs(ms));
        }
        let [Some(epoch), Some(seq)] = named(json, ["epoch", "seq"]) else { return None };
        Some(Self::Position(StreamPosition { epoch: read_epoch(epoch)?, seq: whole(seq)? }))
    }
}

/// Reads the name of a stream: a decimal string, because it may be too large for a number in JavaScript.
pub(super) fn read_epoch(json: &str) -> Option<u64> {
    whole(json).or_else(|| string(json)?.parse().ok())
}
