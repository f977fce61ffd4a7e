//! What clients push to a game (PROTOCOL 4, Games), and what native members do that play behind another party.

use serde_json::Value;
use zerocopy::big_endian::U32;

use super::{PushClass, unknown_event};
use crate::limits::EVENT_PAYLOAD_BYTES_MAX;
use crate::wire::game_state;
use crate::wire::native::{Object, Ping, Position, Record, Scope};
use crate::wire::phoenix::Payload;
use crate::wire::phoenix::answers::reason;
use crate::wire::phoenix::fields::{float, named, string, whole};

/// See the module documentation. Coordinates are finite.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum GamePush {
    /// `game_state`.
    State {
        positions: Vec<Position>,
        /// Objects to put.
        objects: Vec<Object>,
    },
    /// `move`.
    Move {
        x: f32,
        y: f32,
        /// The client's number for it.
        input_seq: u16,
    },
    /// `game_event`.
    Event {
        /// Its meaning is the game's.
        code: u16,
        /// Who gets it.
        scope: Scope,
        /// At most `limits::EVENT_PAYLOAD_BYTES_MAX` bytes.
        payload: EventPayload,
    },
    RemoveObject {
        object_id: u32,
    },
    HostMoves(Vec<Position>),
    Who(Vec<U32>),
    Ping(Ping),
}

/// Payload of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPayload {
    /// JSON that every parser can read, from a Phoenix client.
    Json(Box<str>),
    /// Bytes that only the players understand.
    Bytes(Box<[u8]>),
}

impl From<&Record<'_>> for GamePush {
    fn from(record: &Record<'_>) -> Self {
        match *record {
            Record::Move(step) => {
                Self::Move { x: step.x.get(), y: step.y.get(), input_seq: step.input_seq.get() }
            }
            Record::PutObject(object) => Self::State { positions: Vec::new(), objects: vec![*object] },
            Record::RemoveObject { object_id } => Self::RemoveObject { object_id },
            Record::Event { scope, code, payload } => {
                Self::Event { code, scope, payload: EventPayload::Bytes(payload.into()) }
            }
            Record::HostMoves(positions) => Self::HostMoves(positions.to_vec()),
            Record::Who(players) => Self::Who(players.to_vec()),
            Record::Ping(ping) => Self::Ping(*ping),
        }
    }
}

impl GamePush {
    /// Reads a push, and which budgets it takes from. `Err`: the answer that refuses it, a JSON object.
    pub(super) fn parse(event: &str, payload: &Payload<'_>) -> (PushClass, Result<Self, String>) {
        let json = match payload {
            Payload::Json(text) => text,
            Payload::Binary(_) => "null",
        };
        match (event, payload) {
            ("game_state", Payload::Binary(bytes)) => state(bytes),
            ("game_state", Payload::Json(_)) => {
                let text = "game_state is a binary push; move {x, y} is its JSON form";
                (PushClass::Move, Err(reason(text)))
            }
            ("move", _) => (PushClass::Move, step(json)),
            ("game_event", _) => (PushClass::Event, game_event(json)),
            (event, _) => (PushClass::Event, Err(unknown_event(event, "game_state, move, game_event"))),
        }
    }
}

fn state(bytes: &[u8]) -> (PushClass, Result<GamePush, String>) {
    match game_state::decode(bytes) {
        Ok(state) => {
            let class =
                PushClass::State { moves: !state.positions.is_empty(), objects: state.objects.len() as u32 };
            let (positions, objects) = (state.positions.to_vec(), state.objects.to_vec());
            (class, Ok(GamePush::State { positions, objects }))
        }
        // A state that cannot be read is charged like a move.
        Err(error) => (PushClass::Move, Err(reason(&error.to_string()))),
    }
}

fn step(json: &str) -> Result<GamePush, String> {
    let [x, y, input_seq] = named(json, ["x", "y", "input_seq"]);
    let step = || {
        let input_seq = input_seq.map_or(Some(0), whole)?;
        Some(GamePush::Move { x: float(x?)?, y: float(y?)?, input_seq })
    };
    step().ok_or_else(|| reason("move takes {x: number, y: number, input_seq?: 0 to 65535}"))
}

fn game_event(json: &str) -> Result<GamePush, String> {
    let [code, to, payload] = named(json, ["code", "to", "payload"]);
    let payload = payload.unwrap_or("null");
    let event = || {
        let code = whole(code?)?;
        let scope = match to.and_then(string).as_deref() {
            Some("others") => Scope::Others,
            Some("all") => Scope::All,
            Some(_) => return None,
            None => to.map_or(Some(Scope::Others), |player| whole(player).map(Scope::Only))?,
        };
        // The payload is passed on as it is: what some parsers cannot read, such as 1e999, must not reach them.
        serde_json::from_str::<Value>(payload).ok()?;
        Some(GamePush::Event { code, scope, payload: EventPayload::Json(payload.into()) })
    };
    if payload.len() > EVENT_PAYLOAD_BYTES_MAX {
        let (bytes, most) = (payload.len(), EVENT_PAYLOAD_BYTES_MAX);
        return Err(reason(&format!("the payload has {bytes} bytes of JSON, at most {most} are allowed")));
    }
    event().ok_or_else(|| {
        reason("game_event takes {code: 0 to 65535, to?: \"others\", \"all\" or a player id, payload?}")
    })
}
