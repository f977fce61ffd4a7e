//! Binary messages of V2: a kind, a length byte for each part of the head, the head, the data.

use std::borrow::Cow;

use super::fields::string;
use super::{Malformed, Message, Payload, Ref};
use crate::wire::json::write_string;

const PUSH: u8 = 0;
const BROADCAST: u8 = 2;

/// Reads a push from a client.
///
/// ```text
/// 0x00 | join_ref_len | ref_len | topic_len | event_len | join_ref | ref | topic | event | data…
/// ```
pub(super) fn decode(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    if let Some(&kind) = bytes.first()
        && kind != PUSH
    {
        return Err(Malformed::Kind(kind));
    }
    let Some((&[_, join_ref, reference, topic, event], mut rest)) = bytes.split_first_chunk() else {
        return Err(Malformed::HeaderTruncated);
    };
    Ok(Message {
        join_ref: reference_of(take(&mut rest, join_ref)?)?,
        reference: reference_of(take(&mut rest, reference)?)?,
        topic: Cow::Borrowed(take(&mut rest, topic)?),
        event: Cow::Borrowed(take(&mut rest, event)?),
        payload: Payload::Binary(rest),
    })
}

fn take<'a>(rest: &mut &'a [u8], length: u8) -> Result<&'a str, Malformed> {
    let (part, after) = rest.split_at_checked(usize::from(length)).ok_or(Malformed::HeadTruncated)?;
    *rest = after;
    str::from_utf8(part).map_err(|_| Malformed::HeadNotUtf8)
}

/// Clients write an empty reference for none.
fn reference_of(text: &str) -> Result<Ref<'_>, Malformed> {
    if text.is_empty() {
        return Ref::new("null");
    }
    let mut token = String::with_capacity(text.len() + 2);
    write_string(&mut token, text);
    Ref::new(token)
}

/// Appends the header of a push to one member; the data follows. `join_ref` is a JSON token: a string is written decoded, `null`
/// as nothing, and so is what is longer than a length byte can say. Topic and event are at most 255 bytes.
///
/// ```text
/// 0x00 | join_ref_len | topic_len | event_len | join_ref | topic | event | data…
/// ```
pub fn write_push_header(buffer: &mut Vec<u8>, join_ref: &str, topic: &str, event: &str) {
    let join_ref = match join_ref {
        "null" => Cow::Borrowed(""),
        token => string(token).unwrap_or(Cow::Borrowed(token)),
    };
    let join_ref = if join_ref.len() <= usize::from(u8::MAX) { &join_ref } else { "" };
    write_header(buffer, PUSH, &[join_ref, topic, event]);
}

/// Appends the header of a broadcast to every member; the data follows. Topic and event are at most 255 bytes.
///
/// ```text
/// 0x02 | topic_len | event_len | topic | event | data…
/// ```
pub fn write_broadcast_header(buffer: &mut Vec<u8>, topic: &str, event: &str) {
    write_header(buffer, BROADCAST, &[topic, event]);
}

fn write_header(buffer: &mut Vec<u8>, kind: u8, parts: &[&str]) {
    debug_assert!(parts.iter().all(|part| part.len() < 256), "their length is one byte");
    buffer.push(kind);
    buffer.extend(parts.iter().map(|part| part.len() as u8));
    parts.iter().for_each(|part| buffer.extend_from_slice(part.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_CLIENT: &[u8] = b"\x00\x01\x01\x06\x0336room:1bin\x01\x02\x03";

    #[test]
    fn a_push_of_phoenix_js_is_read() {
        let message = decode(FROM_CLIENT).unwrap();
        assert_eq!((message.join_ref.as_str(), message.reference.as_str()), ("\"3\"", "\"6\""));
        assert_eq!((&*message.topic, &*message.event), ("room:1", "bin"));
        assert_eq!(message.payload, Payload::Binary(&[1, 2, 3]));
    }

    #[test]
    fn references_become_tokens() {
        let message = decode(b"\x00\x00\x02\x00\x00\"\n").unwrap();
        assert!(message.join_ref.is_null());
        assert_eq!(message.reference.as_str(), r#""\"\n""#);
        assert_eq!((&*message.topic, &*message.event, message.payload), ("", "", Payload::Binary(&[])));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(decode(b""), Err(Malformed::HeaderTruncated));
        assert_eq!(decode(b"\x00\x01\x01\x06"), Err(Malformed::HeaderTruncated));
        for kind in [1, 2, 3, 4, 0x80, 0xFF] {
            assert_eq!(decode(&[kind]), Err(Malformed::Kind(kind)));
        }
        for end in 5..FROM_CLIENT.len() - 3 {
            assert_eq!(decode(&FROM_CLIENT[..end]), Err(Malformed::HeadTruncated), "{end} bytes");
        }
        assert_eq!(decode(b"\x00\xFF\xFF\xFF\xFFabc"), Err(Malformed::HeadTruncated));
        // Two bytes of one character: each length is right, but it cuts the character.
        assert_eq!(decode("\0\0\0\x01\x01ä".as_bytes()), Err(Malformed::HeadNotUtf8));
        assert_eq!(decode(b"\x00\x00\x00\x01\x00\xFF"), Err(Malformed::HeadNotUtf8));
        let mut long_ref = vec![0, 200, 0, 0, 0];
        long_ref.resize(5 + 200, b'7');
        assert_eq!(decode(&long_ref), Err(Malformed::RefTooLong));
    }

    #[test]
    fn headers_are_those_that_phoenix_js_reads() {
        let mut push = Vec::new();
        write_push_header(&mut push, "\"3\"", "room:1", "push");
        assert_eq!(push, b"\x00\x01\x06\x043room:1push");
        let mut broadcast = Vec::new();
        write_broadcast_header(&mut broadcast, "room:1", "bcast");
        assert_eq!(broadcast, b"\x02\x06\x05room:1bcast");
    }

    #[test]
    fn a_join_ref_of_any_type_is_written_if_it_fits() {
        let fits = format!("\"{}\"", "a".repeat(255));
        let too_long = format!("\"{}\"", "a".repeat(256));
        let too_long_decoded = format!("\"{}\"", "\\u20ac".repeat(86));
        for (token, written) in [
            ("null", ""),
            ("\"\"", ""),
            ("7", "7"),
            (r#""\"\u20ac""#, "\"€"),
            (&fits, &fits[1..256]),
            (&too_long, ""),
            (&too_long_decoded, ""),
        ] {
            let mut header = Vec::new();
            write_push_header(&mut header, token, "t", "e");
            let lengths = [0, written.len() as u8, 1, 1];
            assert_eq!(header, [&lengths[..], written.as_bytes(), b"te"].concat(), "{token}");
        }
    }
}
