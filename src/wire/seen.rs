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
        let epoch = whole(epoch).or_else(|| string(epoch)?.parse().ok())?;
        Some(Self::Position(StreamPosition { epoch, seq: whole(seq)? }))
    }
}
