//! The vocabulary between threads, and what losing each message means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wire::token::{Claims, Verifier};
use crate::wire::upgrade::Upgrade;

/// From another shard, or from the service thread.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// Shut down: stop accepting, notify, close paced. Sent once; lost, the process ends at its deadline instead.
    Drain,
    /// From now on joins and resumes are checked with these keys. Lost, the shard goes on with the old ones, and the log says so.
    Keys(Arc<Verifier>),
    /// Close every connection of a user and free its held seats. Lost, the shard's answer is missing in the tally.
    Kick {
        /// Whose.
        user: Arc<str>,
        /// Where each shard answers.
        tally: Arc<KickTally>,
    },
}

/// What the shards answer to a kick: the shards write, whoever asked reads, nobody waits.
#[derive(Debug, Default)]
pub struct KickTally {
    disconnected: AtomicU32,
    answers: AtomicU32,
}

impl KickTally {
    /// One shard has closed this many connections.
    pub fn answer(&self, disconnected: u32) {
        self.disconnected.fetch_add(disconnected, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Release);
    }

    /// How many shards have answered.
    pub fn answers(&self) -> u32 {
        self.answers.load(Ordering::Acquire)
    }

    /// How many connections they have closed; of all shards, once all have answered.
    pub fn disconnected(&self) -> u32 {
        self.disconnected.load(Ordering::Relaxed)
    }
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
