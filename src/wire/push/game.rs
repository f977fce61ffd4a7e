//! What clients push to a game (PROTOCOL 4, Games), and what native members do that play behind another party.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zerocopy::big_endian::U32;

use super::{PushClass, unknown_event};
use crate::limits::{EVENT_PAYLOAD_BYTES_MAX, WHO_PLAYERS_MAX, WHO_PLAYERS_PER_TOKEN};
use crate::wire::game_state::{self, GameState};
use crate::wire::layout::{AXES_MAX, Layout};
use crate::wire::native::{Malformed, Ping, Record, Scope, Solid, StoredSteps};
use crate::wire::phoenix::Payload;
use crate::wire::phoenix::answers::reason;
use crate::wire::phoenix::fields::{float, named, string, whole};

/// See the module documentation. Coordinates are finite.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum GamePush {
    /// `game_state`.
    State {
        positions: StoredSteps,
        /// Objects to put.
        objects: Vec<Solid>,
    },
    /// `move`.
    Step {
        /// The client's number for it.
        input_seq: u16,
        /// See `Layout`.
        state: Box<[u8]>,
    },
    /// `set_state`.
    SetState {
        key: u8,
        /// Empty: it is removed.
        value: Box<[u8]>,
    },
    /// `set_view`.
    SetView {
        /// `None`: as far as the game says.
        radius: Option<u8>,
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
    HostSteps(StoredSteps),
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
            Record::Step { input_seq, state } => Self::Step { input_seq, state: state.into() },
            Record::SetView { radius } => Self::SetView { radius },
            Record::SetState { key, value } => Self::SetState { key, value: value.into() },
            Record::PutObject(object) => {
                Self::State { positions: StoredSteps::default(), objects: vec![object] }
            }
            Record::RemoveObject { object_id } => Self::RemoveObject { object_id },
            Record::Event { scope, code, payload } => {
                Self::Event { code, scope, payload: EventPayload::Bytes(payload.into()) }
            }
            Record::HostSteps(steps) => Self::HostSteps(steps.to_stored()),
            Record::Who(players) => Self::Who(players.to_vec()),
            Record::Ping(ping) => Self::Ping(*ping),
        }
    }
}

impl GamePush {
    /// Reads a push, and which budgets it takes from. `Err`: the answer that refuses it, a JSON object.
    pub(super) fn parse(
        event: &str,
        payload: &Payload<'_>,
        layout: &Layout,
    ) -> (PushClass, Result<Self, String>) {
        let json = match payload {
            Payload::Json(text) => text,
            Payload::Binary(_) => "null",
        };
        match (event, payload) {
            ("game_state", Payload::Binary(bytes)) => state(bytes, layout),
            ("game_state", Payload::Json(_)) => {
                let text = "game_state is a binary push; move {x, y} is its JSON form";
                (PushClass::Move, Err(reason(text)))
            }
            ("move", _) => (PushClass::Move, step(json, layout)),
            ("set_state", _) => (PushClass::State { moves: false, objects: 1 }, set_state(json, layout)),
            ("who", _) => who(json),
            ("set_view", _) => (PushClass::State { moves: false, objects: 1 }, set_view(json)),
            ("game_event", _) => (PushClass::Event, game_event(json)),
            (event, _) => (
                PushClass::Event,
                Err(unknown_event(event, "game_state, move, set_state, set_view, who, game_event")),
            ),
        }
    }
}

fn state(bytes: &[u8], layout: &Layout) -> (PushClass, Result<GamePush, String>) {
    match game_state::decode(bytes, layout) {
        Ok(GameState { positions, objects }) => {
            let class = PushClass::State { moves: positions.count() > 0, objects: objects.len() as u32 };
            (class, Ok(GamePush::State { positions: positions.to_stored(), objects }))
        }
        // A state that cannot be read is charged like a move.
        Err(error) => (PushClass::Move, Err(reason(&error.to_string()))),
    }
}

fn step(json: &str, layout: &Layout) -> Result<GamePush, String> {
    let [x, y, z, pose, input_seq] = named(json, ["x", "y", "z", "pose", "input_seq"]);
    let step = || {
        let input_seq = input_seq.map_or(Some(0), whole)?;
        let mut place = [0.0; AXES_MAX];
        for (coordinate, json) in place.iter_mut().zip([x, y, z]).take(layout.axes.into()) {
            *coordinate = float(json?)?;
        }
        let mut state = layout.state_at(place);
        if let Some(pose) = pose {
            let pose = STANDARD.decode(&*string(pose)?).ok()?;
            let place = &mut state[layout.place_bytes()..];
            (place.len() == pose.len()).then(|| place.copy_from_slice(&pose))?;
        }
        Some(GamePush::Step { input_seq, state: state.into() })
    };
    step().ok_or_else(|| {
        let z = if layout.axes > 2 { ", z: number" } else { "" };
        let pose = match layout.pose_bytes {
            0 => String::new(),
            bytes => format!(", pose?: {bytes} bytes in base64"),
        };
        reason(&format!("move takes {{x: number, y: number{z}{pose}, input_seq?: 0 to 65535}}"))
    })
}

fn set_state(json: &str, layout: &Layout) -> Result<GamePush, String> {
    let [key, value] = named(json, ["key", "value"]);
    let set = || {
        let key = whole(key?).filter(|key| (1..=layout.keys).contains(key))?;
        let value = match value {
            None => Vec::new(),
            Some(value) => STANDARD.decode(&*string(value)?).ok()?,
        };
        let fits = value.len() <= layout.key_bytes_max.into();
        fits.then(|| GamePush::SetState { key, value: value.into() })
    };
    let (keys, bytes_max) = (layout.keys, layout.key_bytes_max);
    if keys == 0 {
        return Err(reason(&Malformed::NoKeys.to_string()));
    }
    set().ok_or_else(|| {
        reason(&format!(
            "set_state takes {{key: 1 to {keys}, value: at most {bytes_max} bytes in base64, or null to remove it}}"
        ))
    })
}

fn set_view(json: &str) -> Result<GamePush, String> {
    let [radius] = named(json, ["radius"]);
    let set =
        || Some(GamePush::SetView { radius: radius.map(|radius| whole(radius).ok_or(())).transpose().ok()? });
    set().ok_or_else(|| reason("set_view takes {radius?: 0 to 255, in cells}"))
}

fn who(json: &str) -> (PushClass, Result<GamePush, String>) {
    let [ids] = named(json, ["ids"]);
    let ids = ids.and_then(|ids| serde_json::from_str::<Vec<u32>>(ids).ok());
    match ids.filter(|ids| ids.len() <= WHO_PLAYERS_MAX) {
        Some(ids) => {
            let tokens = ids.len().div_ceil(WHO_PLAYERS_PER_TOKEN).max(1) as u32;
            let ids = ids.into_iter().map(U32::new).collect();
            (PushClass::Who { tokens }, Ok(GamePush::Who(ids)))
        }
        None => {
            let text = format!("who takes {{ids: at most {WHO_PLAYERS_MAX} player ids}}");
            (PushClass::Event, Err(reason(&text)))
        }
    }
}

fn game_event(json: &str) -> Result<GamePush, String> {
    let [code, to, payload] = named(json, ["code", "to", "payload"]);
    let payload = payload.unwrap_or("null");
    let event = || {
        let code = whole(code?)?;
        let scope = match to.and_then(string).as_deref() {
            Some("others") => Scope::Others,
            Some("all") => Scope::All,
            Some("near") => Scope::Near,
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
        reason("game_event takes {code: 0 to 65535, to?: \"others\", \"all\", \"near\" or a player id, payload?}")
    })
}
