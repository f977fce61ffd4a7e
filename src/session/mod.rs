//! One client: where it is in its life, its limits, and what waits to be sent to it.

pub mod channels;
pub mod liveness;
pub mod outbox;
pub mod rate_limit;

use self::channels::Channels;
use self::liveness::Silence;
use self::outbox::Outbox;
use self::rate_limit::RateLimiter;
use crate::memory::Allocated;
use crate::reasons::CloseReason;
use crate::time::Instant;
use crate::wire::encoded::Frames;
use crate::wire::frame::Decoder;

/// A time that no connection sees: 2106.
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// A client's connection, from accept to the last completion.
#[derive(Debug)]
pub struct Session {
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// What waits to be sent.
    pub outbox: Outbox,
    /// Frames to messages.
    pub decoder: Decoder,
    /// Its rate limits.
    pub rates: RateLimiter,
    /// When it was last heard.
    pub silence: Silence,
    /// `NEVER`: none. What it is for follows from the lifecycle: see `deadline`.
    deadline: Instant,
    /// `exp` of its token, in unix seconds; `NEVER_EXPIRES`: a guest.
    pub expires_at_s: u32,
    /// Its topics; `None`: a player that has not sent any text.
    pub channels: Option<Box<Channels>>,
}

/// What a connection waits for, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Nothing.
    None,
    /// Its request head, which must be complete by then.
    Upgrade(Instant),
    /// Its byte budget: it is not read from until then.
    Budget(Instant),
    /// The end of its close, which comes without the peer then.
    Close(Instant),
}

impl Deadline {
    /// `NEVER`: there is none.
    pub fn at(self) -> Instant {
        match self {
            Self::None => Instant::NEVER,
            Self::Upgrade(at) | Self::Budget(at) | Self::Close(at) => at,
        }
    }
}

/// Where a client is in its life. It only moves down this list.
#[derive(Debug)]
pub enum Lifecycle {
    /// Its request head is not complete.
    Upgrading,
    /// On its way to another shard.
    HandingOver,
    /// The request is answered: messages of the dialect go both ways.
    Open(Dialect),
    /// The last frames are sent, then the end of stream is waited for.
    Closing(Closing),
}

/// What an open connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Records, and Phoenix Channels as text; it has a seat in a game.
    Native,
    /// Phoenix Channels.
    Phoenix,
    /// `/echo`: every message comes back.
    Echo,
}

/// A connection that ends.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Why, for the log; `None`: its upgrade was refused.
    pub reason: Option<CloseReason>,
    /// What the peer has done about it.
    pub peer: PeerEnd,
    /// Bytes that came before the peer was told, or since, and were thrown away: KiB, each receive rounded up.
    pub discarded_kib: u16,
}

impl Closing {
    /// The beginning of a close.
    pub fn begin(reason: Option<CloseReason>, peer: PeerEnd) -> Self {
        Self { reason, peer, discarded_kib: 0 }
    }
}

/// How far the peer of a connection that closes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// It has not been told: the last frame is not sent.
    Untold {
        /// Reading has stopped until then.
        paused: bool,
    },
    /// It has been told by `shutdown(WR)`; its own end is waited for.
    Told,
    /// It has sent its close and nothing behind it, or the end of its stream: it is not read from, and nothing is waited for once the last
    /// frame is sent.
    Done,
}

impl Session {
    /// A connection that was just accepted, and must have upgraded by `deadline`.
    pub fn upgrading(deadline: Instant, now: Instant) -> Self {
        Self { deadline, ..Self::new(Lifecycle::Upgrading, now) }
    }

    /// A connection that came from another shard with its request already read.
    pub fn handed_over(now: Instant) -> Self {
        Self::new(Lifecycle::HandingOver, now)
    }

    fn new(lifecycle: Lifecycle, now: Instant) -> Self {
        Self {
            lifecycle,
            outbox: Outbox::default(),
            decoder: Decoder::default(),
            rates: RateLimiter::default(),
            silence: Silence::broken(now),
            deadline: Instant::NEVER,
            expires_at_s: NEVER_EXPIRES,
            channels: None,
        }
    }

    /// What it waits for. It has one thing to wait for in each part of its life, so a time is all that is stored.
    pub fn deadline(&self) -> Deadline {
        match (self.deadline, &self.lifecycle) {
            (Instant::NEVER, _) | (_, Lifecycle::HandingOver) => Deadline::None,
            (at, Lifecycle::Upgrading) => Deadline::Upgrade(at),
            (at, Lifecycle::Open(_)) => Deadline::Budget(at),
            (at, Lifecycle::Closing(_)) => Deadline::Close(at),
        }
    }

    /// Sets what the connection waits for, which must fit the present part of its life.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline.at();
        debug_assert_eq!(self.deadline(), deadline);
    }

    /// Bytes that it has allocated, without its outbox; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let channels = self.channels.as_ref().map_or(0, |channels| channels.heap_bytes());
        self.decoder.heap_bytes() + self.rates.heap_bytes() + self.channels.allocated_bytes() + channels
    }

    /// The next frames for the kernel; `None`: nothing waits, or a send is in flight.
    pub fn take_frames(&mut self) -> Option<Frames> {
        self.outbox.take(self.channels.as_mut().map(|channels| &mut channels.states))
    }

    /// Nothing waits to be sent and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle() && self.channels.as_ref().is_none_or(|channels| channels.states.is_empty())
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Open(_))
    }
}
