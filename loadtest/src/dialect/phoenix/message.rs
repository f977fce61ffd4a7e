//! Messages of a Phoenix server, serializer V2 (`PHOENIX.md` sections 2 and 3): text is a JSON array of five, binary has a head
//! of lengths.

use serde::Deserialize;
use serde_json::value::RawValue;

/// `[join_ref, ref, topic, event, payload]`. The strings are borrowed: what is compared here was chosen by this client, and
/// needs no escapes.
#[derive(Debug, Deserialize)]
pub struct Text<'a>(
    #[serde(borrow)] pub Option<&'a str>,
    #[serde(borrow)] pub Option<&'a str>,
    pub &'a str,
    pub &'a str,
    #[serde(borrow)] pub &'a RawValue,
);

impl<'a> Text<'a> {
    /// `None`: it is none, or has other than five elements.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Payload of `phx_reply`.
#[derive(Debug, Deserialize)]
pub struct Reply<'a> {
    /// `ok`, or something else.
    pub status: &'a str,
    /// What depends on what was asked for.
    #[serde(borrow)]
    pub response: &'a RawValue,
}

/// Of the reply to a join, what matters here.
#[derive(Debug, Default, Deserialize)]
pub struct JoinResponse {
    /// In a game: the id under which the player moves.
    pub player_id: Option<u32>,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// A push (kind 0) or a broadcast (kind 2).
#[derive(Debug, PartialEq, Eq)]
pub struct Binary<'a> {
    pub topic: &'a [u8],
    pub event: &'a [u8],
    pub data: &'a [u8],
}

impl<'a> Binary<'a> {
    /// `None`: another kind, or shorter than its lengths say.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (join_ref_bytes, topic_bytes, event_bytes, rest) = match bytes {
            [0, join_ref, topic, event, rest @ ..] => (*join_ref, *topic, *event, rest),
            [2, topic, event, rest @ ..] => (0, *topic, *event, rest),
            _ => return None,
        };
        let (_, rest) = rest.split_at_checked(join_ref_bytes.into())?;
        let (topic, rest) = rest.split_at_checked(topic_bytes.into())?;
        let (event, data) = rest.split_at_checked(event_bytes.into())?;
        Some(Self { topic, event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_messages_are_those_of_the_protocol_page() {
        let push = b"\x00\x01\x06\x043room:1push\x01\x02\x03";
        let expected = Binary { topic: b"room:1", event: b"push", data: &[1, 2, 3] };
        assert_eq!(Binary::parse(push), Some(expected));
        let broadcast = b"\x02\x06\x05room:1bcast\x01\x02\x03";
        let expected = Binary { topic: b"room:1", event: b"bcast", data: &[1, 2, 3] };
        assert_eq!(Binary::parse(broadcast), Some(expected));
        // A head that is cut, anywhere.
        (0..push.len() - 3).for_each(|end| assert_eq!(Binary::parse(&push[..end]), None, "{end}"));
        assert_eq!(Binary::parse(b"\x01\x01\x01\x06\x0236room:1ok\x01"), None, "a reply is no event");
        assert_eq!(Binary::parse(b""), None);
    }

    #[test]
    fn text_has_exactly_five_elements() {
        let text =
            Text::parse(br#"["3","6","room:1","phx_reply",{"status":"ok","response":{"player_id":7}}]"#);
        let Text(join_ref, reference, topic, event, payload) = text.unwrap();
        assert_eq!((join_ref, reference, topic, event), (Some("3"), Some("6"), "room:1", "phx_reply"));
        let reply: Reply<'_> = serde_json::from_str(payload.get()).unwrap();
        assert_eq!((reply.status, reply.response.get()), ("ok", r#"{"player_id":7}"#));
        assert!(Text::parse(br#"[null, null, "a", "b", {}]"#).is_some());
        for bad in [r#"[null,null,"a","b"]"#, r#"[null,null,"a","b",{},1]"#, "[1,2,3,4,5]", "{}", "", "[null"]
        {
            assert!(Text::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
