//! The vocabulary between threads, and what losing each message means.

use crate::reasons::RefusalReason;
use crate::wire::token::Claims;
use crate::wire::upgrade::Upgrade;

/// Between shards, and from the service thread to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Shut down: stop accepting, notify, close paced. Sent once; lost, the process waits for its deadline.
    Drain,
}

/// A connection on its way to the shard that owns its game: its request head is parsed, nothing is answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// What the client asked for.
    pub upgrade: Upgrade,
    /// Who it is; `None`: a guest in development mode.
    pub claims: Option<Claims>,
    /// Bytes that followed the request head.
    pub unread: Vec<u8>,
}

#[allow(dead_code, reason = "skeleton")]
fn unused(_: RefusalReason) {}
