//! A chat message as members get it, and what becomes of it: JSON objects (PROTOCOL 4, Rooms).

use super::json::{Object, object, object_of};
use super::phoenix::fields::entries;
use crate::ids::StreamPosition;

/// A message that was just said. `id`: its stream and its number there.
pub fn new_message(
    id: StreamPosition,
    (user, name): (&str, &str),
    body: &str,
    inserted_at_ms: u64,
) -> String {
    object_of(FRAME_BYTES + body.len() + user.len() + name.len(), |message| {
        write_id(message, id).number("seq", id.seq).text("body", body);
        message.text("user_id", user).text("name", name).number("inserted_at", inserted_at_ms);
    })
}

/// The message `message`, as it reads from now on.
pub fn with_body(message: &str, body: &str, edited_at_ms: u64) -> String {
    object_of(FRAME_BYTES + message.len() + body.len(), |edited| {
        entries(message, |key, value| match key {
            "edited_at" => {}
            "body" => {
                edited.text("body", body);
            }
            key => {
                edited.raw(key, value);
            }
        });
        edited.number("edited_at", edited_at_ms);
    })
}

/// What is left of a message that was deleted.
pub fn tombstone(id: StreamPosition) -> String {
    object(|message| {
        write_id(message, id).number("seq", id.seq).boolean("deleted", true);
    })
}

/// The event `seq`: a message reads otherwise.
pub fn message_edited(id: StreamPosition, seq: u64, body: &str, edited_at_ms: u64) -> String {
    object_of(FRAME_BYTES + body.len(), |event| {
        write_id(event, id).number("seq", seq).text("body", body).number("edited_at", edited_at_ms);
    })
}

/// The event `seq`: a message is no more.
pub fn message_deleted(id: StreamPosition, seq: u64) -> String {
    object(|event| {
        write_id(event, id).number("seq", seq);
    })
}

/// By which name clients call a message. It is unique among all messages of all rooms.
fn write_id<'a, 'b>(json: &'b mut Object<'a>, id: StreamPosition) -> &'b mut Object<'a> {
    json.plain("id", format_args!("{:x}-{}", id.epoch, id.seq))
}

/// The message that a client calls by this name.
pub fn read_id(id: &str) -> Option<StreamPosition> {
    let (epoch, seq) = id.split_once('-')?;
    Some(StreamPosition { epoch: u64::from_str_radix(epoch, 16).ok()?, seq: seq.parse().ok()? })
}

/// What a message has besides its texts.
const FRAME_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_edited_and_keeps_what_it_was() {
        let id = StreamPosition { epoch: 0xAB, seq: 7 };
        let first = new_message(id, ("ann", "Ä\"nn"), "hi", 5);
        let text = r#"{"id":"ab-7","seq":7,"body":"hi","user_id":"ann","name":"Ä\"nn","inserted_at":5}"#;
        assert_eq!(first, text);
        let second = with_body(&with_body(&first, "b", 8), "c\n", 9);
        let text = r#"{"id":"ab-7","seq":7,"body":"c\n","user_id":"ann","name":"Ä\"nn","inserted_at":5,"edited_at":9}"#;
        assert_eq!(second, text);
        assert_eq!(tombstone(id), r#"{"id":"ab-7","seq":7,"deleted":true}"#);
        assert_eq!(message_edited(id, 9, "x", 4), r#"{"id":"ab-7","seq":9,"body":"x","edited_at":4}"#);
        assert_eq!(message_deleted(id, 9), r#"{"id":"ab-7","seq":9}"#);
    }

    #[test]
    fn only_names_of_messages_are_read() {
        assert_eq!(read_id("ab-7"), Some(StreamPosition { epoch: 0xAB, seq: 7 }));
        assert_eq!(read_id(&format!("{:x}-{}", u64::MAX, u64::MAX)).map(|id| id.seq), Some(u64::MAX));
        for wrong in ["", "-", "ab", "ab-", "-7", "xy-7", "ab-x", "10000000000000000-1", "ab-7-8", "ab- 7"] {
            assert_eq!(read_id(wrong), None, "{wrong}");
        }
    }
}
