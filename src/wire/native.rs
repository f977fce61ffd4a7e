//! The native records of `/play` as zerocopy structs: big-endian, no padding, one record per binary message.
//!
//! A record is cast, not parsed: `decode` checks its length and its numbers and returns references into the received bytes.

pub mod answers;
mod decode;

use zerocopy::big_endian::{F32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use self::decode::{HostStep, HostSteps, Malformed, Record, Scope, StoredSteps, decode};
use super::layout::Place;

/// First byte of a record from a client.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the records")]
    pub const MOVE: u8 = 0x01;
    pub const PUT_OBJECT: u8 = 0x04;
    pub const REMOVE_OBJECT: u8 = 0x05;
    pub const EVENT: u8 = 0x06;
    pub const PING: u8 = 0x07;
    pub const HOST_MOVES: u8 = 0x08;
    pub const STEP: u8 = 0x09;
    pub const SET_STATE: u8 = 0x0A;
    pub const SET_VIEW: u8 = 0x0B;
    pub const WHO: u8 = 0x0C;
    pub const HOST_STEPS: u8 = 0x0D;

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
    pub const LAYOUT: u8 = 0x8B;
    pub const ACK: u8 = 0x8C;
    pub const OVERVIEW: u8 = 0x8D;
    pub const STATES: u8 = 0x8E;
    pub const NEAR: u8 = 0x8F;
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
    /// A player's place, in the plain layout.
    Position [12] {
        player_id: U32,
        x: F32,
        y: F32,
    }
    /// A thing owned by a player, in a layout of `f32` and two axes.
    Object [16] {
        /// Unique within its game.
        object_id: U32,
        /// The game says what it means, and what `flags` means.
        kind: U16,
        flags: U16,
        x: F32,
        y: F32,
    }

    /// An Object with a third axis. One of two axes is its first 16 bytes.
    Solid [20] {
        object: Object,
        z: F32,
    }

    /// Client: the own state, in a layout of two axes without pose.
    Move [12] {
        kind: u8,
        flags: u8,
        /// Client's number of this input; comes back in a Correction.
        input_seq: U16,
        x: F32,
        y: F32,
    }
    /// Client: start of a Step; the state of its player follows.
    StepHeader [4] {
        kind: u8,
        reserved: u8,
        /// As in a Move.
        input_seq: U16,
    }
    /// Client: start of SetState; the value follows.
    SetStateHeader [4] {
        kind: u8,
        /// 1 to the layout's `keys`.
        key: u8,
        /// Bytes of the value; 0: it is removed.
        length: U16,
    }
    /// Client: how far to look.
    SetView [4] {
        kind: u8,
        /// In cells; `SetView::DEFAULT`: as far as the game says.
        radius: u8,
        reserved: U16,
    }
    /// Client: start of a PutObject; the Object follows.
    PutObjectHeader [4] {
        kind: u8,
        reserved: [u8; 3],
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
        /// 0 everyone else, 1 everyone and the sender, 2 only `target`, 3 everyone else who sees the sender.
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
    /// Client: start of HostSteps; `count` times a HostStepHeader and a state follow.
    HostStepsHeader [8] {
        kind: u8,
        reserved: [u8; 3],
        count: U32,
    }
    /// Client: start of one player's step within HostSteps.
    HostStepHeader [8] {
        player_id: U32,
        /// The last input of that player that the host has used.
        input_seq: U16,
        reserved: U16,
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
        /// The relay's clock.
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
        /// How crowded the view is; 0 in a game without views.
        level: u8,
        reserved: U16,
        tick: U32,
        position_count: U32,
        objects_count: U32,
    }
    /// Relay: start of a Delta; Positions, Objects, ids of gone players, ids of gone objects follow.
    DeltaHeader [20] {
        kind: u8,
        /// As in a Keyframe.
        level: u8,
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
        /// The relay's clock.
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
    /// Relay: start of a Correction: a Move or Step was refused. The coordinates that the relay holds follow.
    CorrectionHeader [4] {
        kind: u8,
        /// `CorrectionReason::index()` + 1.
        reason: u8,
        /// The Move's or Step's.
        input_seq: U16,
    }
    /// Relay: of what the game's records consist, right behind a Welcome.
    LayoutRecord [48] {
        kind: u8,
        /// 0: `f32`; 1: `u16`.
        number: u8,
        axes: u8,
        pose_bytes: u8,
        keys: u8,
        key_bytes_max: u8,
        /// `LayoutRecord::COUNTS_ONLY` and its sibling.
        flags: u8,
        /// In cells; 0, like all up to `overview_ms`: the game has no views.
        radius: u8,
        radius_max: u8,
        rings: u8,
        reserved: U16,
        cell: F32,
        overview_ms: U32,
        /// When tick 0 was, on the relay's clock.
        tick0_us: U64,
        min_z: F32,
        max_z: F32,
        /// Players in the game.
        players: U32,
        reserved_2: U64,
    }
    /// Relay: which input the tick has used, behind its frame.
    Ack [12] {
        kind: u8,
        reserved: u8,
        input_seq: U16,
        tick: U32,
        /// How long before its tick the input had come, in 0.1 ms.
        slack: U16,
        reserved_2: U16,
    }
    /// Relay: start of an Overview; `count` times an OverviewSeat follow.
    OverviewHeader [8] {
        kind: u8,
        /// `OverviewHeader::BEGINS`.
        flags: u8,
        count: U16,
        tick: U32,
    }
    /// Relay: where a player is, roughly, in 255ths of the bounds from their minimum.
    OverviewSeat [4] {
        seat: U16,
        x: u8,
        y: u8,
    }
    /// Relay: start of a Near, an Event of scope 3; the payload follows.
    NearHeader [8] {
        kind: u8,
        reserved: u8,
        /// As in the sender's Event.
        code: U16,
        sender: U32,
    }
    /// Relay: start of States; `count` times a StateHeader and a value follow.
    StatesHeader [8] {
        kind: u8,
        /// `StatesHeader::WHOLE`.
        flags: u8,
        count: U16,
        tick: U32,
    }
    /// Relay: start of one value within States.
    StateHeader [6] {
        player_id: U32,
        key: u8,
        /// Bytes of the value; 0: it was removed.
        length: u8,
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

impl LayoutRecord {
    /// The roster tells only how many players there are.
    pub const COUNTS_ONLY: u8 = 1;
    /// Members are told only of what is near them.
    pub const VIEWS: u8 = 2;
}

impl SetView {
    /// As far as the game says.
    pub const DEFAULT: u8 = 255;
}

impl OverviewHeader {
    /// A round over all players begins with this record.
    pub const BEGINS: u8 = 1;
}

impl Ack {
    /// The input did not come by itself: the host has set the state.
    pub const BY_HOST: u16 = u16::MAX;
}

impl StatesHeader {
    /// Every value that was told before is to be forgotten.
    pub const WHOLE: u8 = 1;
}

impl Solid {
    /// Bytes before the coordinates.
    pub const HEAD_BYTES: usize = 8;

    /// Where it is.
    pub fn place(&self) -> Place {
        [self.object.x.get(), self.object.y.get(), self.z.get()]
    }
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
