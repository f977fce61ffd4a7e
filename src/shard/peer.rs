//! The vocabulary between parties, and what losing each message means.
//!
//! A `PeerMessage` is plain data: what it says means the same to whoever reads it, wherever that is. An `Order` may hold what only
//! this process knows.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::ids::{Address, RequestNumber, Topic, TopicName};
use crate::room::audience::{Copies, JoinNumber};
use crate::room::game_channel_frames::ChannelFrame;
use crate::room::hosted::Lost;
use crate::room::request::{Departure, Join, ToMember};
use crate::room::stored::{StoreAnswer, StoreRequest};
use crate::wire::push::Push;
use crate::wire::token::{CheckedToken, Verifier};
use crate::wire::upgrade::Upgrade;

/// A message from one party to another.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PeerMessage {
    /// A channel asks something of a topic of the receiver. It is not lost: refused, the sender answers the client.
    Request(Box<TopicRequest>),
    /// A topic tells its members at the receiver something. It is not lost: refused, the sender gives the members up.
    Deliver(Box<Delivery>),
    /// Something is asked of the receiver, which answers once. Refused or lost, the asker counts the receiver among those that have
    /// not answered. It may ask again: what is done already is not done twice.
    Ask {
        /// Names the question where it is asked.
        request: RequestNumber,
        question: Question,
    },
    /// The answer to a question. Refused or lost, the asker waits until its deadline, and counts the sender among those that have
    /// not answered. An answer that comes later, or twice, is passed over.
    Answer {
        /// The number of the question.
        request: RequestNumber,
        answer: Answer,
    },
}

/// What a party may ask: the store what topics need of it, shards everything else.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Question {
    /// To close every connection of a user and free its held seats. Connections that come while that goes on may be left.
    Kick { user: Arc<str> },
    /// Which games run.
    Games,
    /// To look again at a topic that was not there before: somebody else has begun its stream in the store. Lost, the topic finds out
    /// when it writes.
    LookAgain { topic: Arc<Topic> },
    /// To keep messages, or to read what was kept.
    Store(Box<StoreRequest>),
}

/// What a party answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All connections of the user are closed.
    Kicked {
        /// How many they were, without held seats.
        disconnected: u32,
    },
    /// The games with most players.
    Games(Box<GameList>),
    /// The topic looks again, if it is there.
    Looked,
    /// The keys or certificates that a loop was given are in use. The core is not asked.
    Renewed,
    /// What the store has done.
    Store(Box<StoreAnswer>),
    /// Nothing was done: too many questions wait there.
    Busy,
}

/// An order from whoever runs this process to each shard; `Drain` goes to the store, too.
#[derive(Clone, Debug)]
pub enum Order {
    /// Shut down: stop accepting, notify, close paced. Sent once; lost, the process ends at its deadline instead.
    Drain,
    /// From now on joins and resumes are checked with these keys.
    Keys(Arc<Verifier>),
}

/// Games of a shard, in the order of `RunningGame::rank`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GameList {
    /// At most `limits::GAMES_LISTED_MAX`.
    pub games: Vec<RunningGame>,
    /// The shard has more games than these.
    pub is_cut: bool,
}

/// A game with somebody in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningGame {
    /// Its name.
    pub name: TopicName,
    /// How many players there are, held seats included.
    pub players: u32,
}

impl RunningGame {
    /// The order of games: those with most players first, and then by name.
    pub fn rank(&self) -> (Reverse<u32>, &TopicName) {
        (Reverse(self.players), &self.name)
    }
}

impl PeerMessage {
    /// Whether the message waits however much waits already: there are one or two of these per channel or frame, and without it a
    /// member would stay for ever, or without a state.
    pub fn must_arrive(&self) -> bool {
        match self {
            Self::Request(request) => matches!(request.action, Action::Leave(_) | Action::WantWhole),
            Self::Deliver(delivery) => {
                let is_end = |what: &ToMember| matches!(what, ToMember::Left | ToMember::Kicked);
                match &delivery.what {
                    Delivered::GivenUp(_) => true,
                    Delivered::One { what, .. } => is_end(what),
                    Delivered::All { .. } | Delivered::Some { .. } | Delivered::Frames(_) => false,
                }
            }
            Self::Ask { .. } | Self::Answer { .. } => false,
        }
    }
}

/// A request of a channel to its topic. Those of one channel arrive in order.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct TopicRequest {
    pub topic: Arc<Topic>,
    pub from: Address,
    pub action: Action,
}

/// What a channel wants of a topic.
#[derive(Clone, Debug)]
pub enum Action {
    /// To join.
    Join(Box<Join>),
    /// To push an event.
    Push(Push),
    /// To leave.
    Leave(Departure),
    /// The whole state of a game: some member of the shard was not sent the last frame.
    WantWhole,
}

/// A message from a topic to its members on one shard. Those of one topic arrive in order.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Delivery {
    pub topic: Arc<Topic>,
    pub what: Delivered,
}

/// What a topic tells, and whom.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Delivered {
    /// One member.
    One { to: Address, what: ToMember },
    /// Every member, or all but one.
    All {
        /// The number of the member that joined last.
        joins: JoinNumber,
        copies: Copies,
        /// The member that is left out.
        except: Option<Address>,
        /// It takes back something in a state frame that may still wait: such a frame is dropped.
        after_state: bool,
    },
    /// Some members, if they are still here. What may be lost is told so.
    Some {
        /// In order.
        to: Arc<[Address]>,
        copies: Copies,
    },
    /// The frames of a tick, to every member whose socket is free.
    Frames(Box<[ChannelFrame]>),
    /// Members could not be told something, and are members no more: they may join again. It comes where the lost message would
    /// have, so those whose join is not answered yet have not missed it: they are spared.
    GivenUp(Lost),
}

/// A connection on its way to the shard that owns its game: its request head is read, nothing is answered yet. Lost, the
/// client sees its connection closed and tries again.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// What the client asked for.
    pub upgrade: Upgrade,
    /// The client's token; `None`: a guest in development mode, or a client that brings tokens with its joins.
    pub token: Option<Arc<CheckedToken>>,
    /// Bytes that followed the request head.
    pub unread: Vec<u8>,
}
