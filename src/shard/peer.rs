//! The vocabulary between threads, and what losing each message means.

use crate::wire::token::Claims;
use crate::wire::upgrade::Upgrade;

/// From another shard, or from the service thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Shut down: stop accepting, notify, close paced. Sent once; lost, the process ends at its deadline instead.
    Drain,
}

/// A connection on its way to the shard that owns its game: its request head is read, nothing is answered yet. Lost, the
/// client sees its connection closed and tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// What the client asked for.
    pub upgrade: Upgrade,
    /// Who it is; `None`: a guest in development mode.
    pub claims: Option<Claims>,
    /// Bytes that followed the request head.
    pub unread: Vec<u8>,
}
