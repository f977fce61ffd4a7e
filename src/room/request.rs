//! What a channel asks of a topic, and what the topic answers: the same vocabulary for every kind of topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::audience::{Copies, Receivers};
use super::game_acks::Ack;
use super::seats::SeatIndex;
use super::stored::StoreRequest;
use crate::ids::{Address, ConnId, FrameNumber, Party, ResumeToken, Ticket};
use crate::note::Note;
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::meta::Meta;
use crate::wire::native::Scope;
use crate::wire::phoenix::{Event, Status};
use crate::wire::seen::Seen;

/// A `phx_join`, checked as far as the topic need not be known for it.
#[derive(Clone, Debug)]
pub struct Join {
    /// User id.
    pub user: Box<str>,
    /// Display name.
    pub name: Box<str>,
    /// What it may do in a game.
    pub rights: Rights,
    /// It may delete others' messages in a room, and mute and ban.
    pub is_moderator: bool,
    /// In which form it wants what it is told.
    pub format: Format,
    /// It understands layouts other than the plain one.
    pub layout: bool,
    /// It wants to be told which of its inputs were used.
    pub ack: bool,
    /// What it says about itself.
    pub meta: Option<Meta>,
    /// The seat to take again.
    pub resume_token: Option<ResumeToken>,
    /// What it has seen of the topic's events.
    pub seen: Option<Seen>,
    /// The channel of the same connection whose place it takes. That one is a member no more; the seat that it has is freed, unless
    /// `resume_token` takes it.
    pub supersedes: Option<Address>,
}

/// What a member may do besides being told what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing. In a game it has no seat.
    Watch,
    /// Play, on a seat of its own.
    Play,
    /// Play, and set other players' positions.
    Host,
}

impl Rights {
    /// The rights of a player.
    pub fn of_player(host: bool) -> Self {
        if host { Self::Host } else { Self::Play }
    }
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
#[allow(missing_docs, reason = "the names say it")]
pub enum Effect {
    /// One member is told something.
    Member {
        to: Address,
        /// What it is told.
        what: ToMember,
    },
    /// Every member is told something, or all but one.
    Broadcast {
        copies: Copies,
        to: Receivers,
        /// Who is left out.
        except: Option<Address>,
        /// It takes back what an earlier state frame said, and must not overtake it.
        after_state: bool,
    },
    /// The native players on the topic's own shard are told of an event.
    Event {
        /// Whose event it is.
        sender: SeatIndex,
        /// Which players it is meant for.
        scope: Scope,
        record: Encoded,
    },
    /// Some members are told something that may be lost, those of each party in order.
    Some { copies: Copies, to: BTreeMap<Party, Vec<Address>> },
    /// Some of the native players on the topic's own shard are told something.
    Near { to: Vec<ConnId>, record: Encoded },
    /// Another connection has taken the seat of a native player on the topic's own shard.
    Unseated {
        /// The connection that had it.
        conn: ConnId,
        seat: SeatIndex,
    },
    /// A seat is not held any more, so nobody needs what was kept of its player's rate limits.
    HoldEnded { seat: SeatIndex },
    /// The store is asked; `Hosted::answered` is called once, with the same ticket. Until then the topic must be needed.
    Ask { ticket: Ticket, request: Box<StoreRequest> },
    /// The log is told.
    Note(Box<Note>),
}

/// What one member is told. Responses and payloads are JSON objects.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ToMember {
    /// Its join is answered `ok`; from here on it gets broadcasts.
    Joined {
        /// A native member is answered by the records that follow instead.
        response: String,
    },
    /// Its join is answered `error`.
    Refused {
        /// Label for the metrics.
        reason: JoinRefusal,
        response: String,
    },
    /// A push is answered.
    Reply { reference: Box<str>, status: Status, response: String },
    /// An event.
    Push {
        event: Event,
        payload: Arc<str>,
        /// It is part of the answer to a join.
        greeting: bool,
    },
    /// The join of a native member is answered.
    Greeted {
        /// Welcome, Roster, Keyframe, and the events that it missed.
        records: Vec<Encoded>,
        /// The frame behind which the Keyframe is everything.
        frame: FrameNumber,
    },
    /// A record, for a native member.
    Record(Encoded),
    /// Which of its inputs a tick has used: with the frame of the tick, or, if its socket is busy, with a later one. May be lost.
    Ack(Ack),
    /// The whole state of its game, with which the answer to its join ends.
    Whole {
        /// As its format wants it.
        state: WholeState,
        /// The frame behind which this is everything.
        frame: FrameNumber,
    },
    /// Nothing can build on the state of its game that it was sent: the next frame that it is sent must be whole.
    Stale,
    /// `phx_leave` is answered.
    Left,
    /// An operator removes the member: its connection ends.
    Kicked,
    /// Another connection has taken the member's seat.
    Replaced,
}

/// The state of a game as one member gets it.
#[derive(Clone, Debug)]
pub struct WholeState {
    /// Payloads of `game_update`.
    pub state: StateForm,
    /// Payloads of `player_states`: JSON objects.
    pub player_states: Vec<Arc<str>>,
}

/// As the member's format wants it.
#[derive(Clone, Debug)]
pub enum StateForm {
    /// JSON objects.
    Text(Vec<Arc<str>>),
    /// Bytes of each message.
    Binary(Vec<Arc<[u8]>>),
}
