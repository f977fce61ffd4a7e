//! Notes for the log about players, refusals and moderators. Those about players a shard makes only if the log takes them.

use crate::ids::{PlayerId, TopicName};
use crate::reasons::{LeaveReason, RefusalReason, Restriction};

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Note {
    /// Something happened to a player of a game.
    Player {
        game: TopicName,
        player: PlayerId,
        /// User id.
        user: Box<str>,
        /// Display name.
        name: Box<str>,
        step: Step,
    },
    /// A moderator has acted in a room.
    Moderated {
        room: TopicName,
        /// User id.
        moderator: Box<str>,
        act: ModeratorAct,
    },
    /// A request was not upgraded.
    Refused {
        /// The label in `/metrics`.
        reason: RefusalReason,
        /// What the client was told: what is wrong, and what would be right.
        text: Box<str>,
    },
}

/// What a moderator has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ModeratorAct {
    /// The message with this number is deleted.
    Delete {
        seq: u64,
        author: Box<str>,
    },
    /// `seconds`: `None` until it is lifted.
    Restrict {
        what: Restriction,
        user: Box<str>,
        seconds: Option<u32>,
    },
    Lift {
        what: Restriction,
        user: Box<str>,
    },
}

/// What happens to a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has a new seat.
    Joined,
    /// It has its seat again.
    Resumed,
    /// Its connection is gone, its seat is held.
    Lost,
    /// Its seat is free.
    Left(LeaveReason),
}
