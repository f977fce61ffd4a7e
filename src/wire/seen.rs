//! How far a client that comes back has followed a topic (PROTOCOL 5).

use serde_json::Value;

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
    pub fn read(value: &Value) -> Option<Self> {
        if let Some(ms) = value.as_u64() {
            return Some(Self::UnixMs(ms));
        }
        let epoch = value.get("epoch")?;
        let epoch = epoch.as_u64().or_else(|| epoch.as_str()?.parse().ok())?;
        Some(Self::Position(StreamPosition { epoch, seq: value.get("seq")?.as_u64()? }))
    }
}
