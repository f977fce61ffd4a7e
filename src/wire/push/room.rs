//! What clients push to a chat room (PROTOCOL 4, Rooms).

use super::unknown_event;
use crate::ids::StreamPosition;
use crate::limits::{
    CHAT_BODY_BYTES_MAX, CLIENT_ID_BYTES_MAX, HISTORY_MESSAGES_MAX, RESTRICTION_S_MAX, ROOM_STATE_MESSAGES,
    USER_ID_BYTES_MAX,
};
use crate::reasons::Restriction;
use crate::wire::json::object;
use crate::wire::message::read_id;
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
    /// `edit_message`.
    EditMessage {
        /// Which one: the stream and the number that its id names.
        message: StreamPosition,
        /// As of a new message.
        body: Box<str>,
    },
    /// `delete_message`.
    DeleteMessage(StreamPosition),
    /// `mute`, `ban`.
    Restrict {
        #[allow(missing_docs, reason = "the name says it")]
        what: Restriction,
        /// User id.
        user: Box<str>,
        /// For so long; `None`: until it is lifted.
        seconds: Option<u32>,
    },
    /// `unmute`, `unban`.
    Lift {
        #[allow(missing_docs, reason = "the name says it")]
        what: Restriction,
        /// User id.
        user: Box<str>,
    },
    /// `read_marker`: its user has seen what was said, up to this number.
    ReadMarker(u64),
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
            "edit_message" => edit_message(json),
            "delete_message" => delete_message(json),
            "mute" => restrict(Restriction::Mute, json),
            "ban" => restrict(Restriction::Ban, json),
            "unmute" => lift(Restriction::Mute, json),
            "unban" => lift(Restriction::Ban, json),
            "read_marker" => read_marker(json),
            "typing" => typing(json),
            "history" => history(json),
            event => Err(unknown_event(
                event,
                "new_message, edit_message, delete_message, typing, history, read_marker, mute, unmute, ban, unban",
            )),
        }
    }
}

fn new_message(json: &str) -> Result<RoomPush, String> {
    let [body, client_id] = named(json, ["body", "client_id"]);
    let body = read_body(body)?;
    let client_id = client_id.map(|id| {
        let id = string(id).filter(|id| (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()));
        id.map(Box::from).ok_or_else(|| {
            errors("client_id", &format!("must be a string of 1 to {CLIENT_ID_BYTES_MAX} bytes"))
        })
    });
    Ok(RoomPush::NewMessage { body, client_id: client_id.transpose()? })
}

fn read_body(body: Option<&str>) -> Result<Box<str>, String> {
    let body = body.ok_or_else(|| errors("body", "can't be blank"))?;
    let body = string(body).ok_or_else(|| errors("body", "must be a string"))?;
    if body.trim().is_empty() {
        return Err(errors("body", "can't be blank"));
    }
    if body.len() > CHAT_BODY_BYTES_MAX {
        return Err(errors("body", &format!("is longer than {CHAT_BODY_BYTES_MAX} bytes")));
    }
    Ok(body.into())
}

fn edit_message(json: &str) -> Result<RoomPush, String> {
    let [id, body] = named(json, ["id", "body"]);
    Ok(RoomPush::EditMessage { message: message_id(id)?, body: read_body(body)? })
}

fn delete_message(json: &str) -> Result<RoomPush, String> {
    let [id] = named(json, ["id"]);
    Ok(RoomPush::DeleteMessage(message_id(id)?))
}

fn message_id(id: Option<&str>) -> Result<StreamPosition, String> {
    let id = id.and_then(string).and_then(|id| read_id(&id));
    id.ok_or_else(|| errors("id", "must be the id of a message"))
}

fn restrict(what: Restriction, json: &str) -> Result<RoomPush, String> {
    let [user, seconds] = named(json, ["user_id", "seconds"]);
    let user = read_user(user)?;
    let wrong = || errors("seconds", &format!("must be a whole number from 1 to {RESTRICTION_S_MAX}"));
    let in_range = |seconds: &u32| (1..=RESTRICTION_S_MAX).contains(seconds);
    let seconds = seconds.map(|seconds| whole(seconds).filter(in_range).ok_or_else(wrong)).transpose()?;
    if seconds.is_none() && what == Restriction::Mute {
        return Err(wrong());
    }
    Ok(RoomPush::Restrict { what, user, seconds })
}

fn lift(what: Restriction, json: &str) -> Result<RoomPush, String> {
    let [user] = named(json, ["user_id"]);
    Ok(RoomPush::Lift { what, user: read_user(user)? })
}

fn read_user(user: Option<&str>) -> Result<Box<str>, String> {
    let user = user.and_then(string).filter(|user| (1..=USER_ID_BYTES_MAX).contains(&user.len()));
    user.map(Box::from)
        .ok_or_else(|| errors("user_id", &format!("must be a string of 1 to {USER_ID_BYTES_MAX} bytes")))
}

fn read_marker(json: &str) -> Result<RoomPush, String> {
    let [seq] = named(json, ["seq"]);
    let seq = seq.and_then(whole).map(RoomPush::ReadMarker);
    seq.ok_or_else(|| errors("seq", "must be the number of a message, or 0"))
}

/// What is wrong with a field, as forms show it.
pub fn errors(field: &str, text: &str) -> String {
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
