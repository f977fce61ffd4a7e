//! Text messages to clients: compact, V2 with exactly five elements, V1 without `join_ref`.

use super::answers::reason;
use super::{Event, Serializer, Status};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::json::{array_of, object_of};

/// Complete WebSocket text frames. References are JSON tokens (`null`: none), payloads and responses are JSON objects; they are
/// written as they are. Topics and texts become JSON here.
impl Serializer {
    /// `phx_reply`: the answer to one message.
    pub fn reply(
        self,
        join_ref: &str,
        reference: &str,
        topic: &str,
        status: Status,
        response: &str,
    ) -> Encoded {
        let payload = object_of(PUNCTUATION_BYTES + response.len(), |payload| {
            payload.text("status", status.as_str()).raw("response", response);
        });
        self.message(join_ref, reference, topic, "phx_reply", &payload)
    }

    /// To one member of a topic.
    pub fn push(self, join_ref: &str, topic: &str, event: Event, payload: &str) -> Encoded {
        self.message(join_ref, "null", topic, event.as_str(), payload)
    }

    /// To every member of a topic: it names no join.
    pub fn broadcast(self, topic: &str, event: Event, payload: &str) -> Encoded {
        self.message("null", "null", topic, event.as_str(), payload)
    }

    /// `phx_close`: the member has left. It does not join again by itself.
    pub fn close(self, join_ref: &str, topic: &str) -> Encoded {
        self.message(join_ref, join_ref, topic, "phx_close", "{}")
    }

    /// `phx_error`: the membership has ended by a fault; the client joins again.
    pub fn error(self, join_ref: &str, topic: &str, text: &str) -> Encoded {
        self.message(join_ref, join_ref, topic, "phx_error", &reason(text))
    }

    fn message(self, join_ref: &str, reference: &str, topic: &str, event: &str, payload: &str) -> Encoded {
        let bytes = join_ref.len() + reference.len() + topic.len() + event.len() + payload.len();
        let bytes = PUNCTUATION_BYTES + bytes;
        let text = match self {
            Self::V1 => object_of(bytes, |message| {
                message.text("event", event).raw("payload", payload).raw("ref", reference);
                message.text("topic", topic);
            }),
            Self::V2 => array_of(bytes, |message| {
                message.raw(join_ref).raw(reference).text(topic).text(event).raw(payload);
            }),
        };
        Encoded::message(Opcode::Text, text.as_bytes())
    }
}

/// Room for the keys, quotes and commas of either serializer; escapes in strings may need more.
const PUNCTUATION_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(encoded: &Encoded) -> &str {
        let (header, text) = encoded.bytes().split_at(2);
        assert_eq!((header, encoded.frames()), (&[0x81, text.len() as u8][..], 1));
        str::from_utf8(text).unwrap()
    }

    #[test]
    fn v2_is_an_array_of_five() {
        let v2 = Serializer::V2;
        for (encoded, expected) in [
            (
                v2.reply("\"3\"", "7", "room:1", Status::Ok, "{}"),
                r#"["3",7,"room:1","phx_reply",{"status":"ok","response":{}}]"#,
            ),
            (
                v2.push("\"3\"", "room:1", Event::NewMessage, r#"{"x":1}"#),
                r#"["3",null,"room:1","new_message",{"x":1}]"#,
            ),
            (v2.broadcast("room:1", Event::NewMessage, "{}"), r#"[null,null,"room:1","new_message",{}]"#),
            (v2.close("3", "room:1"), r#"[3,3,"room:1","phx_close",{}]"#),
            (
                v2.error("\"3\"", "room:1", "channel_crash"),
                r#"["3","3","room:1","phx_error",{"reason":"channel_crash"}]"#,
            ),
        ] {
            assert_eq!(text(&encoded), expected);
        }
    }

    #[test]
    fn v1_is_an_object_without_join_ref() {
        let v1 = Serializer::V1;
        for (encoded, expected) in [
            (
                v1.reply("\"3\"", "7", "room:1", Status::Ok, "{}"),
                r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":7,"topic":"room:1"}"#,
            ),
            (
                v1.push("\"3\"", "room:1", Event::NewMessage, "{}"),
                r#"{"event":"new_message","payload":{},"ref":null,"topic":"room:1"}"#,
            ),
            (
                v1.broadcast("room:1", Event::NewMessage, "{}"),
                r#"{"event":"new_message","payload":{},"ref":null,"topic":"room:1"}"#,
            ),
            (v1.close("\"3\"", "room:1"), r#"{"event":"phx_close","payload":{},"ref":"3","topic":"room:1"}"#),
            (
                v1.error("\"3\"", "room:1", "gone"),
                r#"{"event":"phx_error","payload":{"reason":"gone"},"ref":"3","topic":"room:1"}"#,
            ),
        ] {
            assert_eq!(text(&encoded), expected);
        }
    }

    #[test]
    fn what_a_client_named_is_escaped() {
        let encoded = Serializer::V2.reply("null", "\"a\\\"\"", "to\"pic\n", Status::Error, "{}");
        assert_eq!(
            text(&encoded),
            r#"[null,"a\"","to\"pic\n","phx_reply",{"status":"error","response":{}}]"#
        );
    }
}
