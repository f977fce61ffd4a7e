//! One thread's world: every connection and game that is pinned to it. Still no system call.
//!
//! Whoever drives it calls, in any order: `handle_*` for what happened, then `poll_output` until it is `None`, then
//! sleeps until `poll_timeout`.

pub mod peer;
pub mod placement;
pub mod settings;

use std::sync::Arc;

use crate::ids::{ConnId, ShardId};
use crate::metrics::ShardMetrics;
use crate::reasons::CloseReason;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use peer::{HandOver, PeerMessage};
use settings::Settings;

/// What the rim must do.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes; answer with `handle_sent` when the kernel has taken all of them. Never a second one for a connection
    /// before that answer.
    Send {
        /// Receiver.
        conn: ConnId,
        /// In this order.
        frames: Frames,
    },
    /// Tell the peer that nothing more will be sent (`shutdown(WR)`), and go on receiving.
    Shutdown {
        /// The connection.
        conn: ConnId,
    },
    /// End the connection now, whatever is in flight; answer with `handle_closed`.
    Close {
        /// The connection.
        conn: ConnId,
        /// For the log.
        reason: CloseReason,
    },
    /// Move the connection to another shard. Answer with `handle_closed` when the other one has it, with
    /// `handle_hand_over_refused` when it could not take it.
    HandOver {
        /// The connection here.
        conn: ConnId,
        /// Where its game lives.
        target: ShardId,
        /// What the target must know.
        state: Box<HandOver>,
    },
    /// Give a message to another shard.
    Forward {
        /// Receiver.
        target: ShardId,
        /// The message.
        message: PeerMessage,
    },
    /// Stop reading from the connection.
    Pause {
        /// The connection.
        conn: ConnId,
    },
    /// Read from it again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Receive the request head one receive at a time until now; from here on many (the connection stays on this shard).
    Upgraded {
        /// The connection.
        conn: ConnId,
    },
    /// Stop accepting and close the listener: the relay drains.
    StopAccepting,
    /// Nothing is left to do after a drain: leave the loop.
    Drained,
}

/// The frames of one `Output::Send`: nearly always one.
#[derive(Debug)]
pub enum Frames {
    /// One.
    One(Encoded),
    /// Two to `limits::FRAMES_PER_SEND_MAX`.
    Many(Vec<Encoded>),
}

impl Frames {
    /// The frames in order.
    pub fn as_slice(&self) -> &[Encoded] {
        match self {
            Self::One(frame) => std::slice::from_ref(frame),
            Self::Many(frames) => frames,
        }
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.as_slice().iter().map(|frame| frame.bytes().len()).sum()
    }
}

/// What the rim found out about a connection before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may go on.
    Admitted,
    /// Its address has too many connections already: answer 429.
    AddressLimit,
}

/// See the module documentation.
pub struct Shard {}

#[allow(unused_variables, clippy::todo, reason = "skeleton")]
impl Shard {
    /// An empty world. `seed` must be unpredictable outside tests: seats' resume tokens come from it.
    pub fn new(
        id: ShardId,
        settings: Arc<Settings>,
        metrics: Arc<ShardMetrics>,
        seed: [u8; 32],
        now: Now,
    ) -> Self {
        todo!()
    }

    /// A connection was accepted here. `None`: no slot is free, close it.
    pub fn handle_accepted(&mut self, admission: Admission, now: Now) -> Option<ConnId> {
        todo!()
    }

    /// A connection has come from another shard. `None`: no slot is free, close it.
    pub fn handle_handed_over(&mut self, state: HandOver, now: Now) -> Option<ConnId> {
        todo!()
    }

    /// The target of `Output::HandOver` could not take the connection: it is still here.
    pub fn handle_hand_over_refused(&mut self, conn: ConnId, now: Now) {
        todo!()
    }

    /// Bytes came in. They are unmasked in place and not kept.
    pub fn handle_received(&mut self, conn: ConnId, bytes: &mut [u8], now: Now) {
        todo!()
    }

    /// The peer will send nothing more (end of stream, or an error of the receive). Not yet the end: see `Output::Close`.
    pub fn handle_eof(&mut self, conn: ConnId, now: Now) {
        todo!()
    }

    /// The kernel has taken the whole of the last `Output::Send`.
    pub fn handle_sent(&mut self, conn: ConnId, now: Now) {
        todo!()
    }

    /// The connection is gone and the rim holds nothing of it: the last call with this `conn`.
    pub fn handle_closed(&mut self, conn: ConnId, now: Now) {
        todo!()
    }

    /// A message from another thread.
    pub fn handle_peer(&mut self, message: PeerMessage, now: Now) {
        todo!()
    }

    /// Does what has become due: ticks, liveness, ends of seats, drain.
    pub fn handle_timeout(&mut self, now: Now) {
        todo!()
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// When `handle_timeout` is due next; `None`: when something has happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
