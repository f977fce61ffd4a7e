//! What every dialect does, and what it makes of the messages that it receives.

use corelay::wire::native::Position;
use corelay::wire::operation::Operation;

use crate::counters::Counters;
use crate::frames::Message;

/// One side of a conversation with the relay, for all connections of a crowd. Sans I/O.
///
/// In this order for each connection: `path`, `handle_upgrade` once it is upgraded, then `handle_message`;
/// after `Event::Joined` also `write_move` and `heartbeat`.
pub trait Dialect: Send {
    fn path(&self, slot: u32) -> String;
    /// What `Sec-WebSocket-Protocol` offers.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }
    /// What a connection waits for before it has joined, as in "no Welcome".
    fn sign_of_join(&self) -> &'static str;
    /// The upgrade is done: it is a join, or to be answered with one, or the relay speaks next.
    fn handle_upgrade(&mut self, _slot: u32, _heard: &mut Effects, _tell: &mut dyn FnMut(Event<'_>)) {}
    /// The frame that keeps a joined connection alive; `None`: answering pings is enough.
    fn heartbeat(&self, _slot: u32) -> Option<Vec<u8>> {
        None
    }
    /// Appends a move: the position carries who sent it (`x`: the number in its room) and which move it is (`y`). Both are
    /// whole numbers below 2^24, which an `f32` holds exactly.
    fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>);
    /// Appends push `number`, whose answer tells this number; `payload` is JSON. A dialect without events appends nothing.
    fn write_push(&self, _slot: u32, _number: u32, _event: &str, _payload: &str, _frames: &mut Vec<u8>) {}
    /// Connection `slot`, which has not started, is the client whose connection `gone` has ended: it goes to the same topic,
    /// and says what it has seen there. A dialect that remembers nothing joins as anybody does.
    fn come_back(&mut self, _slot: u32, _gone: u32) {}
    /// Takes a binary or text message: counts it, adds to `effects`, and emits what the scenario wants to know.
    fn handle_message(
        &mut self,
        slot: u32,
        message: &Message<'_>,
        counters: &mut Counters,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    );
}

/// Counts a tick frame with `positions`, and emits them.
pub fn handle_positions(positions: &[Position], counters: &mut Counters, emit: &mut dyn FnMut(Event<'_>)) {
    counters.tick_frames += 1;
    counters.positions += positions.len() as u64;
    emit(Event::Positions(positions));
}

/// What a scenario wants to know at once, in the order of arrival.
#[derive(Debug)]
pub enum Event<'a> {
    /// The positions of a tick frame.
    Positions(&'a [Position]),
    /// A record that says what a game is like, a tick frame of any layout, or an Ack, as it came.
    Record(&'a [u8]),
    Joined,
    Presence(Presence),
    Stream(Stream<'a>),
}

/// What a topic numbers, and what it answers to pushes (Phoenix dialect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream<'a> {
    /// The join was answered. `Event::Joined` follows.
    Opened {
        /// Number of the topic's last event so far.
        seq: u64,
        /// It has the seat that it had before.
        resumed: bool,
    },
    /// Event `seq` of a room: a message, or something else, without a body.
    Heard {
        seq: u64,
        body: &'a str,
    },
    /// The text of a document as it is in version `seq`, or part of it.
    Text {
        seq: u64,
        content: &'a str,
        /// 1 to `parts`.
        part: u32,
        parts: u32,
    },
    /// Somebody else's operation on a document made version `seq`.
    Edited {
        seq: u64,
        operation: &'a Operation,
        op_id: Option<&'a str>,
    },
    /// What was written as `number` was said, or done.
    Acknowledged {
        number: u32,
        seq: u64,
    },
    Refused {
        number: u32,
        reason: &'a str,
    },
    /// What was missed has been told, or the reason why it was not. The topic is at `seq`.
    CaughtUp {
        seq: u64,
        missed: Result<(), &'a str>,
    },
    /// The relay shuts down.
    Draining {
        retry_after_ms: u32,
        jitter_ms: u32,
    },
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

/// What one receive brought, besides event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It was refused, or put out.
    pub refusal: Option<String>,
    /// Frames to be sent: a join, pongs.
    pub answers: Vec<u8>,
    /// The relay's close frame: code and reason.
    pub close: Option<(u16, String)>,
    pub errors: Vec<String>,
}
