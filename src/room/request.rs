//! What a channel asks of a topic, and what the topic answers: the same vocabulary for every kind of topic.

use std::sync::Arc;

use super::audience::Copies;
use crate::ids::{Address, ResumeToken};
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::wire::format::Format;
use crate::wire::meta::Meta;
use crate::wire::phoenix::{Event, Status};
use crate::wire::seen::Seen;

/// A `phx_join`, checked as far as the topic need not be known for it.
#[derive(Clone, Debug)]
pub struct Join {
    /// User id.
    pub user: Box<str>,
    /// Display name.
    pub name: Box<str>,
    /// May set other players' positions.
    pub host: bool,
    /// In which form it wants what it is told.
    pub format: Format,
    /// What it says about itself.
    pub meta: Option<Meta>,
    /// The seat to take again.
    pub resume_token: Option<ResumeToken>,
    /// What it has seen of the topic's events.
    pub seen: Option<Seen>,
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// By `phx_leave`, which is answered.
    Asked,
    /// With its connection, or because the same connection joined anew.
    Left(LeaveReason),
    /// With its connection, and may come back: a game holds its seat.
    Lost,
}

/// What a topic wants done. Effects of one topic are carried out in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A join is answered `ok`; from here on the member gets broadcasts.
    Joined {
        /// Who.
        to: Address,
        /// JSON object.
        response: String,
    },
    /// A join is answered `error`.
    Refused {
        /// Who.
        to: Address,
        /// Label for the metrics.
        reason: JoinRefusal,
        /// JSON object.
        response: String,
    },
    /// A push is answered.
    Reply {
        /// Who.
        to: Address,
        /// The push's.
        reference: Box<str>,
        /// How it ended.
        status: Status,
        /// JSON object.
        response: String,
    },
    /// One member is told something.
    Push {
        /// Who.
        to: Address,
        /// What about.
        event: Event,
        /// JSON object.
        payload: Arc<str>,
        /// It is part of the answer to a join.
        greeting: bool,
    },
    /// One member is told the whole state of its game.
    Whole {
        /// Who.
        to: Address,
        /// As its format wants it.
        state: WholeState,
        /// It is part of the answer to a join.
        greeting: bool,
    },
    /// Every member is told something, or all but one.
    Broadcast {
        /// Encoded.
        copies: Copies,
        /// Who is left out.
        except: Option<Address>,
        /// It takes back what an earlier state frame said, and must not overtake it.
        after_state: bool,
    },
    /// `phx_leave` is answered.
    Left {
        /// Who.
        to: Address,
    },
    /// An operator removes the member: its connection ends.
    Kicked {
        /// Who.
        to: Address,
    },
    /// Another connection has taken the member's seat.
    Replaced {
        /// Who.
        to: Address,
    },
}

impl Effect {
    /// The one member that it is for; `None`: all.
    pub fn to(&self) -> Option<Address> {
        match self {
            Self::Joined { to, .. }
            | Self::Refused { to, .. }
            | Self::Reply { to, .. }
            | Self::Push { to, .. }
            | Self::Whole { to, .. }
            | Self::Left { to }
            | Self::Kicked { to }
            | Self::Replaced { to } => Some(*to),
            Self::Broadcast { .. } => None,
        }
    }
}

/// The state of a game as one member gets it: `game_update`.
#[derive(Clone, Debug)]
pub enum WholeState {
    /// JSON object.
    Text(Vec<Arc<str>>),
    /// Bytes of each message.
    Binary(Vec<Arc<[u8]>>),
}
