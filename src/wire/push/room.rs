//! What clients push to a chat room (PROTOCOL 4, Rooms).

use super::unknown_event;
use crate::limits::{CHAT_BODY_BYTES_MAX, CLIENT_ID_BYTES_MAX, HISTORY_MESSAGES_MAX, ROOM_STATE_MESSAGES};
use crate::wire::json::object;
use crate::wire::phoenix::answers::reason;
use crate::wire::phoenix::fields::{boolean, named, string, whole};

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomPush {
    /// `new_message`.
    NewMessage {
        /// Text that is not blank, at most `limits::CHAT_BODY_BYTES_MAX` long.
        body: Box<str>,
        /// Names the message, so that the client can send it again.
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
    let [body, client_id] = named(json, ["body", "client_id"]);
    let body = body.ok_or_else(|| errors("body", "can't be blank"))?;
    let body = string(body).ok_or_else(|| errors("body", "must be a string"))?;
    if body.trim().is_empty() {
        return Err(errors("body", "can't be blank"));
    }
    if body.len() > CHAT_BODY_BYTES_MAX {
        return Err(errors("body", &format!("is longer than {CHAT_BODY_BYTES_MAX} bytes")));
    }
    let client_id = client_id.map(|id| {
        let id = string(id).filter(|id| (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()));
        id.map(Box::from).ok_or_else(|| {
            errors("client_id", &format!("must be a string of 1 to {CLIENT_ID_BYTES_MAX} bytes"))
        })
    });
    Ok(RoomPush::NewMessage { body: body.into(), client_id: client_id.transpose()? })
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
    let [typing] = named(json, ["typing"]);
    let typing = typing.and_then(boolean).map(RoomPush::Typing);
    typing.ok_or_else(|| reason("typing must be true or false"))
}

fn history(json: &str) -> Result<RoomPush, String> {
    let wrong = || reason("history takes {before: seq, limit: 1 to 100}");
    let [before, limit] = named(json, ["before", "limit"]);
    let before = before.map(|before| whole(before).ok_or_else(wrong)).transpose()?;
    let limit = limit.map_or(Some(ROOM_STATE_MESSAGES), whole);
    let limit = limit.filter(|limit| (1..=HISTORY_MESSAGES_MAX).contains(limit)).ok_or_else(wrong)?;
    Ok(RoomPush::History { before, limit })
}
