//! The native records of `/play` as zerocopy structs: big-endian, no padding, one record per binary message.
//!
//! A record is cast, not parsed: `decode` checks its length and its numbers and returns references into the received bytes.

pub mod answers;

use zerocopy::big_endian::{F32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{EVENT_PAYLOAD_BYTES_MAX, WHO_PLAYERS_MAX};

/// First byte of a record from a client.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the records")]
    pub const MOVE: u8 = 0x01;
    pub const PUT_OBJECT: u8 = 0x04;
    pub const REMOVE_OBJECT: u8 = 0x05;
    pub const EVENT: u8 = 0x06;
    pub const PING: u8 = 0x07;
    pub const HOST_MOVES: u8 = 0x08;
    pub const WHO: u8 = 0x0C;

    pub const WELCOME: u8 = 0x81;
    pub const KEYFRAME: u8 = 0x82;
    pub const DELTA: u8 = 0x83;
    pub const EVENT_OUT: u8 = 0x84;
    pub const PONG: u8 = 0x85;
    pub const ROSTER: u8 = 0x86;
    pub const RATE_LIMITED: u8 = 0x87;
    pub const CORRECTION: u8 = 0x88;
    pub const NOTICE: u8 = 0x89;
    pub const ERROR: u8 = 0x8A;
}

/// Declares fixed-size records: plain old data that can be cast from and to bytes at any address. `kind` is that of the record in
/// the module `kind`; `reserved`, and the `flags` of a Move, are 0. Fields without a comment are in PROTOCOL 3.
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident [$size:literal] { $($(#[$field_meta:meta])* $field:ident: $type:ty,)+ })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the names are those of the protocol")]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)+ }
        const _: () = assert!(size_of::<$name>() == $size);
    )+};
}

records! {
    /// A player's place.
    Position [12] {
        player_id: U32,
        x: F32,
        y: F32,
    }
    /// A thing owned by a player.
    Object [16] {
        /// Unique within its game.
        object_id: U32,
        /// The game says what it means, and what `flags` means.
        kind: U16,
        flags: U16,
        x: F32,
        y: F32,
    }

    /// Client: the own position.
    Move [12] {
        kind: u8,
        flags: u8,
        /// Client's number of this input; comes back in a Correction.
        input_seq: U16,
        x: F32,
        y: F32,
    }
    /// Client: create or change an own object.
    PutObject [20] {
        kind: u8,
        reserved: [u8; 3],
        object: Object,
    }
    /// Client: remove an own object.
    RemoveObject [8] {
        kind: u8,
        reserved: [u8; 3],
        object_id: U32,
    }
    /// Client: start of an Event; the payload follows.
    EventHeader [8] {
        kind: u8,
        /// 0 everyone else, 1 everyone and the sender, 2 only `target`.
        scope: u8,
        /// Meaning is the game's.
        code: U16,
        /// Player id for scope 2.
        target: U32,
    }
    /// Client: asks for a Pong.
    Ping [16] {
        kind: u8,
        reserved: [u8; 3],
        /// Comes back in the Pong, like the time.
        nonce: U32,
        client_time_us: U64,
    }
    /// Client: start of HostMoves; `count` Positions follow.
    HostMovesHeader [8] {
        kind: u8,
        reserved: [u8; 3],
        count: U32,
    }
    /// Client: start of Who; `count` player ids follow.
    WhoHeader [4] {
        kind: u8,
        reserved: u8,
        count: U16,
    }

    /// Relay: first record of a connection.
    Welcome [72] {
        kind: u8,
        /// `Welcome::RESUMED` and its siblings.
        flags: u8,
        tick_hz: U16,
        /// The receiver's player.
        player_id: U32,
        /// Name of the event stream.
        epoch: U64,
        /// Last event before this record.
        seq: U64,
        tick: U32,
        /// Unix time in µs.
        server_time_us: U64,
        /// Gives the seat back.
        resume_token: [u8; 16],
        min_x: F32,
        min_y: F32,
        max_x: F32,
        max_y: F32,
        /// Distance per second; infinite: not checked.
        max_speed: F32,
    }
    /// Relay: start of a Keyframe; Positions, then Objects follow.
    KeyframeHeader [16] {
        kind: u8,
        reserved: [u8; 3],
        tick: U32,
        position_count: U32,
        objects_count: U32,
    }
    /// Relay: start of a Delta; Positions, Objects, ids of gone players, ids of gone objects follow.
    DeltaHeader [20] {
        kind: u8,
        reserved: u8,
        /// Number of players gone.
        gone_players: U16,
        tick: U32,
        position_count: U32,
        objects_count: U32,
        /// Number of objects gone.
        gone_objects: U32,
    }
    /// Relay: start of an Event; the payload follows.
    EventOutHeader [16] {
        kind: u8,
        /// As in the sender's Event.
        scope: u8,
        /// As in the sender's Event.
        code: U16,
        sender: U32,
        /// Place in the stream.
        seq: U64,
    }
    /// Relay: answer to a Ping.
    Pong [28] {
        kind: u8,
        reserved: [u8; 3],
        nonce: U32,
        client_time_us: U64,
        /// Unix time in µs.
        server_time_us: U64,
        tick: U32,
    }
    /// Relay: start of a Roster; who joined, then who left follow (see `write_joined`, `RosterLeft`), and in a crowd the number
    /// of players (`u32`).
    RosterHeader [6] {
        kind: u8,
        /// `RosterHeader::WHOLE` and its siblings.
        flags: u8,
        joined: U16,
        left: U16,
    }
    /// Relay: one player that left, within a Roster.
    RosterLeft [5] {
        player_id: U32,
        /// `LeaveReason::index()`.
        reason: u8,
    }
    /// Relay: records were dropped.
    RateLimited [8] {
        kind: u8,
        /// `RateClass::index()` + 1.
        class: u8,
        reserved: U16,
        /// Time until the next one will be taken.
        retry_after_ms: U32,
    }
    /// Relay: a Move was refused.
    Correction [12] {
        kind: u8,
        /// `CorrectionReason::index()` + 1.
        reason: u8,
        /// The Move's.
        input_seq: U16,
        /// The position that the relay holds, like `y`.
        x: F32,
        y: F32,
    }
    /// Relay: what will happen to the connection.
    Notice [16] {
        kind: u8,
        /// `Notice::IDLE` or `Notice::DRAIN`.
        reason: u8,
        reserved: U16,
        /// Closed within this time.
        timeout_ms: U32,
        /// The client comes back after this time, and a random part of `jitter_ms`.
        retry_after_ms: U32,
        /// Largest random part of the time before coming back.
        jitter_ms: U32,
    }
    /// Relay: start of an Error; UTF-8 text follows.
    ErrorHeader [4] {
        kind: u8,
        /// `ErrorCode::index()` + 1.
        code: u8,
        reserved: U16,
    }
}

impl Welcome {
    /// The seat is the one that the resume token names.
    pub const RESUMED: u8 = 1;
    /// All missed events follow.
    pub const CAUGHT_UP: u8 = 2;
    /// No key is configured: everybody is a guest.
    pub const DEVELOPMENT: u8 = 4;
}

impl RosterHeader {
    /// This is the whole roster (its first part, when more follows).
    pub const WHOLE: u8 = 1;
    /// Another part follows.
    pub const MORE: u8 = 2;
    /// The answer to a Who.
    pub const ANSWER: u8 = 4;
    /// Only how many players there are is told.
    pub const CROWD: u8 = 8;
}

impl Notice {
    /// Answer, or be closed after `timeout_ms`.
    pub const IDLE: u8 = 1;
    /// The relay shuts down.
    pub const DRAIN: u8 = 2;
}

/// Appends one player that joined to a Roster. Shape: `player_id u32 | user_len u8 | user | name_len u8 | name`.
pub fn write_joined(buffer: &mut Vec<u8>, player_id: u32, user: &str, name: &str) {
    debug_assert!(user.len() < 256 && name.len() < 256, "their length is one byte");
    buffer.extend_from_slice(&player_id.to_be_bytes());
    for text in [user, name] {
        buffer.push(text.len() as u8);
        buffer.extend_from_slice(text.as_bytes());
    }
}

/// Bytes that `write_joined` appends.
pub fn joined_bytes(user: &str, name: &str) -> usize {
    4 + 1 + user.len() + 1 + name.len()
}

/// A record from a client, checked: lengths fit, every number is finite.
#[derive(Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the records")]
pub enum Record<'a> {
    Move(&'a Move),
    PutObject(&'a Object),
    RemoveObject { object_id: u32 },
    Event { scope: Scope, code: u16, payload: &'a [u8] },
    Ping(&'a Ping),
    HostMoves(&'a [Position]),
    Who(&'a [U32]),
}

/// Who gets an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everyone but the sender.
    Others,
    /// Everyone.
    All,
    /// One player.
    Only(u32),
}

/// What is wrong with a record, as the Error record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Malformed {
    #[error("an empty message is no record; the first byte names the kind")]
    Empty,
    #[error("unknown record kind 0x{0:02x}; a client sends 0x01, 0x04, 0x05, 0x06, 0x07, 0x08 or 0x0c")]
    UnknownKind(u8),
    #[error("{name} is {expected} bytes long, not {actual}")]
    Length {
        /// Name of the record.
        name: &'static str,
        /// Length that it should have.
        expected: usize,
        actual: usize,
    },
    #[error("an Event is 8 to {max} bytes long, not {0}", max = 8 + EVENT_PAYLOAD_BYTES_MAX)]
    EventLength(usize),
    #[error(
        "a Who is 4 bytes and 4 for each of at most {WHO_PLAYERS_MAX} player ids, as many as it says, not {0}"
    )]
    WhoLength(usize),
    #[error("{0} has a coordinate that is not a finite number")]
    NotFinite(&'static str),
    #[error("an Event's scope is 0, 1 or 2, not {0}")]
    Scope(u8),
}

/// Casts the payload of a binary message to the record it is.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    match *bytes.first().ok_or(Malformed::Empty)? {
        kind::MOVE => {
            let record: &Move = fixed("Move", bytes)?;
            finite("Move", record.x, record.y)?;
            Ok(Record::Move(record))
        }
        kind::PUT_OBJECT => {
            let object = &fixed::<PutObject>("PutObject", bytes)?.object;
            finite("PutObject", object.x, object.y)?;
            Ok(Record::PutObject(object))
        }
        kind::REMOVE_OBJECT => {
            let record: &RemoveObject = fixed("RemoveObject", bytes)?;
            Ok(Record::RemoveObject { object_id: record.object_id.get() })
        }
        kind::EVENT => decode_event(bytes),
        kind::PING => Ok(Record::Ping(fixed("Ping", bytes)?)),
        kind::HOST_MOVES => decode_host_moves(bytes),
        kind::WHO => decode_who(bytes),
        unknown => Err(Malformed::UnknownKind(unknown)),
    }
}

fn decode_event(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let Ok((header, payload)) = EventHeader::ref_from_prefix(bytes) else {
        return Err(Malformed::EventLength(bytes.len()));
    };
    if payload.len() > EVENT_PAYLOAD_BYTES_MAX {
        return Err(Malformed::EventLength(bytes.len()));
    }
    let scope = match header.scope {
        0 => Scope::Others,
        1 => Scope::All,
        2 => Scope::Only(header.target.get()),
        unknown => return Err(Malformed::Scope(unknown)),
    };
    Ok(Record::Event { scope, code: header.code.get(), payload })
}

fn decode_host_moves(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let wrong_length = |expected| Malformed::Length { name: "HostMoves", expected, actual: bytes.len() };
    let Ok((header, rest)) = HostMovesHeader::ref_from_prefix(bytes) else {
        return Err(wrong_length(size_of::<HostMovesHeader>()));
    };
    let announced = header.count.get() as usize;
    let positions = <[Position]>::ref_from_bytes(rest).ok().filter(|positions| positions.len() == announced);
    let Some(positions) = positions else {
        return Err(wrong_length(
            size_of::<HostMovesHeader>() + announced.saturating_mul(size_of::<Position>()),
        ));
    };
    positions.iter().try_for_each(|position| finite("HostMoves", position.x, position.y))?;
    Ok(Record::HostMoves(positions))
}

fn decode_who(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let wrong_length = || Malformed::WhoLength(bytes.len());
    let (header, rest) = WhoHeader::ref_from_prefix(bytes).map_err(|_| wrong_length())?;
    let announced = usize::from(header.count.get());
    let players = <[U32]>::ref_from_bytes(rest).ok().filter(|players| players.len() == announced);
    players.filter(|players| players.len() <= WHO_PLAYERS_MAX).map(Record::Who).ok_or_else(wrong_length)
}

fn fixed<'a, R: FromBytes + KnownLayout + Immutable + Unaligned>(
    name: &'static str,
    bytes: &'a [u8],
) -> Result<&'a R, Malformed> {
    R::ref_from_bytes(bytes).map_err(|_| Malformed::Length {
        name,
        expected: size_of::<R>(),
        actual: bytes.len(),
    })
}

fn finite(name: &'static str, x: F32, y: F32) -> Result<(), Malformed> {
    if x.get().is_finite() && y.get().is_finite() { Ok(()) } else { Err(Malformed::NotFinite(name)) }
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]
mod tests {
    use super::*;

    fn move_record(x: f32, y: f32) -> Vec<u8> {
        let record = Move { kind: kind::MOVE, flags: 0, input_seq: 7.into(), x: x.into(), y: y.into() };
        record.as_bytes().to_vec()
    }

    #[test]
    fn a_move_is_laid_out_as_the_protocol_draws_it() {
        let bytes = move_record(1.5, -2.0);
        assert_eq!(bytes, [1, 0, 0, 7, 0x3F, 0xC0, 0, 0, 0xC0, 0, 0, 0]);
        let Ok(Record::Move(record)) = decode(&bytes) else { panic!("not a move") };
        assert_eq!((record.input_seq.get(), record.x.get(), record.y.get()), (7, 1.5, -2.0));
    }

    #[test]
    fn numbers_must_be_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(decode(&move_record(bad, 0.0)), Err(Malformed::NotFinite("Move")));
            assert_eq!(decode(&move_record(0.0, bad)), Err(Malformed::NotFinite("Move")));
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_named() {
        assert_eq!(decode(&[]), Err(Malformed::Empty));
        assert_eq!(decode(&[9]), Err(Malformed::UnknownKind(9)));
        assert_eq!(decode(&[1; 11]), Err(Malformed::Length { name: "Move", expected: 12, actual: 11 }));
        assert_eq!(decode(&[6, 0, 0, 0]), Err(Malformed::EventLength(4)));
        let mut long_event = vec![6, 0, 0, 1, 0, 0, 0, 0];
        long_event.resize(8 + EVENT_PAYLOAD_BYTES_MAX, 1);
        assert!(decode(&long_event).is_ok());
        long_event.push(1);
        assert_eq!(decode(&long_event), Err(Malformed::EventLength(8 + EVENT_PAYLOAD_BYTES_MAX + 1)));
        let lying = [8, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(matches!(decode(&lying), Err(Malformed::Length { name: "HostMoves", .. })));
    }

    #[test]
    fn a_who_names_as_many_players_as_it_says() {
        let who = |announced: u16, ids: usize| {
            let mut bytes = vec![0x0C, 0];
            bytes.extend(announced.to_be_bytes());
            bytes.extend([0, 1, 0, 2].repeat(ids));
            bytes
        };
        let bytes = who(2, 2);
        let Ok(Record::Who([first, _])) = decode(&bytes) else { panic!("not a Who") };
        assert_eq!(first.get(), 0x1_0002);
        assert!(decode(&who(0, 0)).is_ok());
        assert!(decode(&who(256, 256)).is_ok());
        assert_eq!(decode(&who(257, 257)), Err(Malformed::WhoLength(4 + 4 * 257)));
        assert_eq!(decode(&who(3, 2)), Err(Malformed::WhoLength(12)));
        assert_eq!(decode(&[0x0C, 0, 0]), Err(Malformed::WhoLength(3)));
        assert_eq!(decode(&[0x0C, 0, 0, 1, 0, 0]), Err(Malformed::WhoLength(6)));
    }

    #[test]
    fn an_event_names_its_receivers() {
        let decode_scope = |scope| {
            decode(&[6, scope, 0, 1, 0, 0, 0, 9, 42]).map(|record| match record {
                Record::Event { scope, code: 1, payload: [42] } => scope,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(decode_scope(0), Ok(Scope::Others));
        assert_eq!(decode_scope(1), Ok(Scope::All));
        assert_eq!(decode_scope(2), Ok(Scope::Only(9)));
        assert_eq!(decode_scope(3), Err(Malformed::Scope(3)));
    }
}
