//! Text messages to clients: compact, V2 with exactly five elements, V1 without `join_ref`.

use super::Serializer;
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::json::write_string;

/// Complete WebSocket text frames. References are JSON tokens, `null` for none; payloads and responses are JSON values, by the
/// protocol objects; both are written as they are. Topics, events and texts are not JSON yet.
impl Serializer {
    /// `phx_reply`: the answer to one message.
    pub fn reply(
        self,
        join_ref: &str,
        reference: &str,
        topic: &str,
        status: &str,
        response: &str,
    ) -> Encoded {
        let mut payload = Vec::with_capacity(PUNCTUATION_BYTES + status.len() + response.len());
        payload.extend_from_slice(b"{\"status\":");
        write_string(&mut payload, status);
        payload.extend_from_slice(b",\"response\":");
        payload.extend_from_slice(response.as_bytes());
        payload.push(b'}');
        self.message(join_ref, reference, topic, "phx_reply", &payload)
    }

    /// To one member of a topic.
    pub fn push(self, join_ref: &str, topic: &str, event: &str, payload: &str) -> Encoded {
        self.message(join_ref, "null", topic, event, payload.as_bytes())
    }

    /// To every member of a topic: it names no join.
    pub fn broadcast(self, topic: &str, event: &str, payload: &str) -> Encoded {
        self.message("null", "null", topic, event, payload.as_bytes())
    }

    /// `phx_close`: the member has left. It does not join again by itself.
    pub fn close(self, join_ref: &str, topic: &str) -> Encoded {
        self.message(join_ref, join_ref, topic, "phx_close", b"{}")
    }

    /// `phx_error`: the membership has ended by a fault; the client joins again.
    pub fn error(self, join_ref: &str, topic: &str, reason: &str) -> Encoded {
        let mut payload = b"{\"reason\":".to_vec();
        write_string(&mut payload, reason);
        payload.push(b'}');
        self.message(join_ref, join_ref, topic, "phx_error", &payload)
    }

    fn message(self, join_ref: &str, reference: &str, topic: &str, event: &str, payload: &[u8]) -> Encoded {
        let bytes = join_ref.len() + reference.len() + topic.len() + event.len() + payload.len();
        let mut text = Vec::with_capacity(PUNCTUATION_BYTES + bytes);
        match self {
            Self::V1 => {
                text.extend_from_slice(b"{\"event\":");
                write_string(&mut text, event);
                text.extend_from_slice(b",\"payload\":");
                text.extend_from_slice(payload);
                text.extend_from_slice(b",\"ref\":");
                text.extend_from_slice(reference.as_bytes());
                text.extend_from_slice(b",\"topic\":");
                write_string(&mut text, topic);
                text.push(b'}');
            }
            Self::V2 => {
                text.push(b'[');
                text.extend_from_slice(join_ref.as_bytes());
                text.push(b',');
                text.extend_from_slice(reference.as_bytes());
                text.push(b',');
                write_string(&mut text, topic);
                text.push(b',');
                write_string(&mut text, event);
                text.push(b',');
                text.extend_from_slice(payload);
                text.push(b']');
            }
        }
        Encoded::message(Opcode::Text, &text)
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
                v2.reply("\"3\"", "7", "room:1", "ok", "{}"),
                r#"["3",7,"room:1","phx_reply",{"status":"ok","response":{}}]"#,
            ),
            (v2.push("\"3\"", "room:1", "news", r#"{"x":1}"#), r#"["3",null,"room:1","news",{"x":1}]"#),
            (v2.broadcast("room:1", "news", "{}"), r#"[null,null,"room:1","news",{}]"#),
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
                v1.reply("\"3\"", "7", "room:1", "ok", "{}"),
                r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":7,"topic":"room:1"}"#,
            ),
            (
                v1.push("\"3\"", "room:1", "news", "{}"),
                r#"{"event":"news","payload":{},"ref":null,"topic":"room:1"}"#,
            ),
            (
                v1.broadcast("room:1", "news", "{}"),
                r#"{"event":"news","payload":{},"ref":null,"topic":"room:1"}"#,
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
        let encoded = Serializer::V2.reply("null", "\"a\\\"\"", "to\"pic\n", "o\\k", "{}");
        assert_eq!(text(&encoded), r#"[null,"a\"","to\"pic\n","phx_reply",{"status":"o\\k","response":{}}]"#);
    }
}
