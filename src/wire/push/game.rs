//! What clients push to a game (PROTOCOL 4, Games).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{PushClass, unknown_event};
use crate::limits::EVENT_PAYLOAD_BYTES_MAX;
use crate::wire::game_state;
use crate::wire::native::{Object, Position, Scope};
use crate::wire::phoenix::Payload;
use crate::wire::phoenix::answers::reason;

/// See the module documentation. Coordinates are finite.
#[derive(Clone, Debug, PartialEq)]
pub enum GamePush {
    /// `game_state`.
    State {
        /// Where players are.
        positions: Vec<Position>,
        /// Objects to put.
        objects: Vec<Object>,
    },
    /// `move`.
    Move {
        /// Where to.
        x: f32,
        /// Where to.
        y: f32,
        /// The client's number for it.
        input_seq: u16,
    },
    /// `game_event`.
    Event {
        /// The game's meaning.
        code: u16,
        /// Who gets it.
        scope: Scope,
        /// JSON that every parser can read, at most `limits::EVENT_PAYLOAD_BYTES_MAX` long.
        payload: Box<str>,
    },
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
            ("game_event", _) => (PushClass::Event, game_event(json).map_err(|text| reason(&text))),
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
        // It would have moved somebody.
        Err(error) => (PushClass::Move, Err(reason(&error.to_string()))),
    }
}

fn step(json: &str) -> Result<GamePush, String> {
    #[derive(Deserialize)]
    struct Step {
        x: f32,
        y: f32,
        input_seq: Option<u16>,
    }
    match serde_json::from_str(json) {
        Ok(Step { x, y, input_seq }) if x.is_finite() && y.is_finite() => {
            Ok(GamePush::Move { x, y, input_seq: input_seq.unwrap_or_default() })
        }
        Ok(_) | Err(_) => Err(reason("move takes {x: number, y: number, input_seq?: 0 to 65535}")),
    }
}

fn game_event(json: &str) -> Result<GamePush, String> {
    #[derive(Deserialize)]
    struct GameEvent<'a> {
        code: u16,
        to: Option<Target>,
        #[serde(borrow)]
        payload: Option<&'a RawValue>,
    }
    let wrong = |_| {
        "game_event takes {code: 0 to 65535, to?: \"others\", \"all\" or a player id, payload?}".to_owned()
    };
    let event: GameEvent<'_> = serde_json::from_str(json).map_err(wrong)?;
    // It is passed on as it is: what some parsers cannot read, such as 1e999, must not reach them.
    serde_json::from_str::<Value>(json).map_err(wrong)?;
    let scope = match event.to {
        None | Some(Target::Word(Word::Others)) => Scope::Others,
        Some(Target::Word(Word::All)) => Scope::All,
        Some(Target::Player(player)) => Scope::Only(player),
    };
    let payload = event.payload.map_or("null", RawValue::get);
    if payload.len() > EVENT_PAYLOAD_BYTES_MAX {
        return Err(format!(
            "the payload has {} bytes of JSON, at most {EVENT_PAYLOAD_BYTES_MAX} are allowed",
            payload.len()
        ));
    }
    Ok(GamePush::Event { code: event.code, scope, payload: payload.into() })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Word(Word),
    Player(u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Others,
    All,
}
