//! How players speak: how they join, move and stay alive, and what the relay's messages mean. One dialect for a whole run.

mod native;
mod phoenix;
mod raw;

use std::sync::Arc;

use clap::ValueEnum;
use corelay::wire::native::Position;

use crate::clock;
use crate::counters::Counters;
use crate::frames::Message;
use crate::tokens::Tokens;

pub use native::Native;
pub use phoenix::Phoenix;
pub use raw::Raw;

/// Longest frame that `write_move` appends.
pub const MOVE_FRAME_BYTES_MAX: usize = 128;

/// One side of a conversation with the relay, for all connections of a crowd. Sans I/O.
///
/// In this order for each connection: `path`, `hear_upgrade` and `hello` once it is upgraded, then `hear` for every message;
/// after `Heard::joined` has become true also `write_move` and `heartbeat`.
pub trait Dialect: Send {
    /// Path and query of the upgrade.
    fn path(&self, slot: u32) -> String;
    /// What `Sec-WebSocket-Protocol` offers.
    fn subprotocol(&self) -> Option<&'static str>;
    /// What a connection waits for before it has joined, as in "no Welcome".
    fn sign_of_join(&self) -> &'static str;
    /// The upgrade is done. In most dialects that is no join yet.
    fn hear_upgrade(&mut self, _slot: u32, _heard: &mut Heard, _tell: &mut dyn FnMut(News<'_>)) {}
    /// The frames with which an upgraded connection joins.
    fn hello(&self, slot: u32) -> Vec<u8>;
    /// The frame that keeps a joined connection alive; `None`: answering pings is enough.
    fn heartbeat(&self, slot: u32) -> Option<Vec<u8>>;
    /// Appends a move: the position carries who sent it (`x`: the number in its room) and which move it is (`y`). Both are
    /// whole numbers below 2^24, which an `f32` holds exactly.
    fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>);
    /// Takes a binary or text message: counts it, adds to `heard`, hands on what the scenario wants to know.
    fn hear(
        &mut self,
        slot: u32,
        message: &Message<'_>,
        counters: &mut Counters,
        heard: &mut Heard,
        tell: &mut dyn FnMut(News<'_>),
    );
}

/// What a scenario wants to know at once, in the order of arrival.
#[derive(Debug)]
pub enum News<'a> {
    /// The positions of a tick frame.
    Positions(&'a [Position]),
    /// The connection is in its game or topic.
    Joined,
    /// A message about who is there.
    Presence(Presence),
}

/// Messages about who is there (Phoenix dialect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// `presence_state`: everybody.
    State,
    /// `presence_diff`: who came and went.
    Diff,
    /// `presence_count`: only how many.
    Count,
}

/// What one receive brought, besides news.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The upgrade is done.
    pub upgraded: bool,
    /// The connection is in its game or topic.
    pub joined: bool,
    /// It was refused there, or put out.
    pub put_out: Option<String>,
    /// Masked pongs, to be sent.
    pub pongs: Vec<u8>,
    /// The relay's close frame: code and reason.
    pub close: Option<(u16, String)>,
    /// Texts of errors.
    pub errors: Vec<String>,
}

/// `--dialect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// Binary records on /play/{game}
    Native,
    /// Phoenix Channels V2 on /socket/websocket
    Phoenix,
    /// Records of 12 bytes, relayed as they are, on /room/{number}
    Raw,
}

impl DialectName {
    /// A dialect for `members`.
    pub fn dialect(self, members: Members) -> Box<dyn Dialect> {
        match self {
            Self::Native => Box::new(Native::new(members)),
            Self::Phoenix => Box::new(Phoenix::new(members)),
            Self::Raw => Box::new(Raw::new(members)),
        }
    }

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Phoenix => "phoenix",
            Self::Raw => "raw",
        }
    }

    /// Whether a tick frame tells that it is whole.
    pub fn tells_keyframes(self) -> bool {
        self == Self::Native
    }

    /// Whether a relay tells of moves that it did not take, of errors, and of a close to come.
    pub fn tells_refusals(self) -> bool {
        self != Self::Raw
    }

    /// Where the members of room `number` of a scenario belong.
    pub fn room_topic(self, scenario: &str, seed: u64, number: u32) -> String {
        match self {
            Self::Native | Self::Phoenix => format!("game:{scenario}-{seed}-{number}"),
            // A path is all there is, and a number is all that a server must know of it.
            Self::Raw => format!("room:{number}"),
        }
    }

    /// Whether a member is sent who is there, as `presence_state`.
    pub fn tells_presence(self) -> bool {
        self == Self::Phoenix
    }
}

/// Who the connections of a crowd are: where each belongs, and its token.
pub struct Members {
    members: Vec<(Arc<str>, u32)>,
    tokens: Tokens,
}

impl Members {
    /// `topic` (such as `game:load-1-0`) and `number` (for its token; unique in the run) of each of `connections`.
    pub fn new(
        connections: u32,
        tokens: Tokens,
        topic: impl Fn(u32) -> String,
        number: impl Fn(u32) -> u32,
    ) -> Self {
        let mut members: Vec<(Arc<str>, u32)> = Vec::with_capacity(connections as usize);
        for slot in 0..connections {
            let topic = topic(slot);
            // Neighbours mostly share a room.
            let shared =
                members.last().filter(|(last, _)| **last == *topic).map(|(last, _)| Arc::clone(last));
            members.push((shared.unwrap_or_else(|| topic.into()), number(slot)));
        }
        Self { members, tokens }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Where `slot` belongs.
    pub fn topic(&self, slot: u32) -> &str {
        &self.members[slot as usize].0
    }

    /// A token for it, made now.
    pub fn token(&self, slot: u32) -> Option<String> {
        let (topic, number) = &self.members[slot as usize];
        self.tokens.token(*number, topic, clock::unix_s())
    }
}
