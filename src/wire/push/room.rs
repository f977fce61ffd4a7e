//! What clients push to a chat room (PROTOCOL 4, Rooms).

use serde::Deserialize;
use serde_json::Value;

use super::unknown_event;
use crate::limits::{CHAT_BODY_BYTES_MAX, CLIENT_ID_BYTES_MAX, HISTORY_MESSAGES_MAX, ROOM_STATE_MESSAGES};
use crate::wire::json::object;
use crate::wire::phoenix::answers::reason;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomPush {
    /// `new_message`.
    NewMessage {
        /// Text that is not blank, at most `limits::CHAT_BODY_BYTES_MAX` long.
        body: Box<str>,
        /// By which the client can send it again.
        client_id: Option<Box<str>>,
    },
    /// `typing`.
    Typing(bool),
    /// `history`.
    History {
        /// Messages before this number; `None`: the newest.
        before: Option<u64>,
        /// At most so many: 1 to `limits::HISTORY_MESSAGES_MAX`.
        limit: usize,
    },
}

impl RoomPush {
    /// Reads a push.
    ///
    /// # Errors
    /// The answer that refuses it, a JSON object.
    pub(super) fn parse(event: &str, json: &str) -> Result<Self, String> {
        match event {
            "new_message" => new_message(json),
            "typing" => typing(json),
            "history" => history(json),
            event => Err(unknown_event(event, "new_message, typing, history")),
        }
    }
}

fn new_message(json: &str) -> Result<RoomPush, String> {
    let payload: Value = serde_json::from_str(json).unwrap_or_default();
    let body = match payload.get("body") {
        Some(Value::String(body)) => body,
        None | Some(Value::Null) => return Err(errors("body", "can't be blank")),
        Some(_) => return Err(errors("body", "must be a string")),
    };
    if body.trim().is_empty() {
        return Err(errors("body", "can't be blank"));
    }
    if body.len() > CHAT_BODY_BYTES_MAX {
        return Err(errors("body", &format!("is longer than {CHAT_BODY_BYTES_MAX} bytes")));
    }
    let client_id = match payload.get("client_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) => Some(Box::from(&**id)),
        Some(_) => {
            return Err(errors(
                "client_id",
                &format!("must be a string of 1 to {CLIENT_ID_BYTES_MAX} bytes"),
            ));
        }
    };
    Ok(RoomPush::NewMessage { body: Box::from(&**body), client_id })
}

fn errors(field: &str, text: &str) -> String {
    object(|refusal| {
        refusal.object("errors", |errors| {
            errors.array(field, |texts| {
                texts.text(text);
            });
        });
    })
}

fn typing(json: &str) -> Result<RoomPush, String> {
    let payload: Option<Value> = serde_json::from_str(json).ok();
    let typing = payload.as_ref().and_then(|payload| payload.get("typing")?.as_bool());
    typing.map(RoomPush::Typing).ok_or_else(|| reason("typing must be true or false"))
}

fn history(json: &str) -> Result<RoomPush, String> {
    #[derive(Deserialize)]
    struct History {
        before: Option<u64>,
        limit: Option<usize>,
    }
    let wrong = || reason("history takes {before: seq, limit: 1 to 100}");
    let History { before, limit } = serde_json::from_str(json).map_err(|_| wrong())?;
    let limit = limit.unwrap_or(ROOM_STATE_MESSAGES);
    if !(1..=HISTORY_MESSAGES_MAX).contains(&limit) {
        return Err(wrong());
    }
    Ok(RoomPush::History { before, limit })
}
