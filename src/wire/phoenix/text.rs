//! Text messages of clients: an array of five in V2, an object in V1.

use std::borrow::Cow;

use super::scanner::Scanner;
use super::{Malformed, Message, Payload, Ref};

/// `[join_ref, ref, topic, event, payload]`; what follows the fifth element must be JSON and is ignored.
pub(super) fn decode_v2(text: &str) -> Result<Message<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    if !scanner.take(b'[') {
        return Err(Malformed::NotAnArray);
    }
    let mut elements = [""; 5];
    for (index, element) in elements.iter_mut().enumerate() {
        if scanner.is_at(b']') {
            return Err(Malformed::TooFewElements);
        }
        if index > 0 && !scanner.take(b',') {
            return Err(Malformed::Json);
        }
        *element = scanner.value()?;
    }
    while scanner.take(b',') {
        scanner.value()?;
    }
    scanner.end(b']')?;
    let [join_ref, reference, topic, event, payload] = elements;
    message(join_ref, reference, topic, event, payload)
}

/// `{"topic": …, "event": …, "payload": …, "ref": …, "join_ref": …}` in any order, the last one optional. Of a key that
/// comes twice the last value counts; other keys are ignored.
pub(super) fn decode_v1(text: &str) -> Result<Message<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    if !scanner.take(b'{') {
        return Err(Malformed::NotAnObject);
    }
    let [mut topic, mut event, mut payload, mut reference] = [None; 4];
    let mut join_ref = "null";
    let mut is_first = true;
    while !scanner.is_at(b'}') {
        if !is_first && !scanner.take(b',') {
            return Err(Malformed::Json);
        }
        is_first = false;
        let key = string(scanner.value()?).ok_or(Malformed::Json)?;
        if !scanner.take(b':') {
            return Err(Malformed::Json);
        }
        let value = scanner.value()?;
        match &*key {
            "topic" => topic = Some(value),
            "event" => event = Some(value),
            "payload" => payload = Some(value),
            "ref" => reference = Some(value),
            "join_ref" => join_ref = value,
            _ => {}
        }
    }
    scanner.end(b'}')?;
    let (Some(topic), Some(event), Some(payload), Some(reference)) = (topic, event, payload, reference)
    else {
        return Err(Malformed::KeyMissing);
    };
    message(join_ref, reference, topic, event, payload)
}

/// From five JSON values as they were written.
fn message<'a>(
    join_ref: &'a str,
    reference: &'a str,
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
) -> Result<Message<'a>, Malformed> {
    Ok(Message {
        join_ref: Ref::new(join_ref)?,
        reference: Ref::new(reference)?,
        topic: string(topic).ok_or(Malformed::TopicNotAString)?,
        event: string(event).ok_or(Malformed::EventNotAString)?,
        payload: Payload::Json(payload),
    })
}

/// The text that a valid JSON string stands for; `None` for every other value.
pub(super) fn string(token: &str) -> Option<Cow<'_, str>> {
    let text = token.strip_prefix('"')?.strip_suffix('"')?;
    if text.as_bytes().contains(&b'\\') {
        serde_json::from_str(token).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REF_BYTES_MAX;

    fn fields<'a>(message: &'a Message<'a>) -> [&'a str; 5] {
        let Payload::Json(payload) = message.payload else { panic!("text carries JSON") };
        [message.join_ref.as_str(), message.reference.as_str(), &message.topic, &message.event, payload]
    }

    #[test]
    fn v2_takes_whitespace_and_more_than_five_elements() {
        let text = " [ \"3\" ,\t4.0e+1,\r\n\"room:1\", \"msg\" , { \"x\" : [ ] } , 6, [7] ] ";
        let message = decode_v2(text).unwrap();
        assert_eq!(fields(&message), ["\"3\"", "4.0e+1", "room:1", "msg", "{ \"x\" : [ ] }"]);
        assert!(matches!((&message.topic, &message.event), (Cow::Borrowed(_), Cow::Borrowed(_))));
    }

    #[test]
    fn v2_decodes_topic_and_event_and_leaves_the_rest_as_it_is() {
        let text = r#"["\u0033","\"","ro\u006fm:\ud83e\udd80","a\/b","\u0041"]"#;
        let message = decode_v2(text).unwrap();
        assert_eq!(fields(&message), [r#""\u0033""#, r#""\"""#, "room:🦀", "a/b", r#""\u0041""#]);
    }

    #[test]
    fn v2_names_what_is_wrong() {
        let long_ref = format!("[null,\"{}\",\"t\",\"e\",{{}}]", "1".repeat(REF_BYTES_MAX - 1));
        for (text, expected) in [
            ("", Malformed::NotAnArray),
            ("{}", Malformed::NotAnArray),
            ("\"[1]\"", Malformed::NotAnArray),
            ("[]", Malformed::TooFewElements),
            ("[null,\"1\",\"t\",\"e\"]", Malformed::TooFewElements),
            ("[null,\"1\",\"t\",\"e\",]", Malformed::Json),
            ("[null,\"1\",\"t\",\"e\",{},]", Malformed::Json),
            ("[null,\"1\",\"t\",\"e\",{}] []", Malformed::Json),
            ("[null,\"1\",\"t\",\"e\",{}", Malformed::Json),
            ("[null \"1\",\"t\",\"e\",{}]", Malformed::Json),
            ("[null,\"1\",7,\"e\",{}]", Malformed::TopicNotAString),
            ("[null,\"1\",\"t\",null,{}]", Malformed::EventNotAString),
            ("[null,\"1\",\"\\ud83e\",\"e\",{}]", Malformed::LoneSurrogate),
            (&long_ref, Malformed::RefTooLong),
        ] {
            assert_eq!(decode_v2(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_ref_as_long_as_allowed_is_echoed() {
        let token = format!("\"{}\"", "1".repeat(REF_BYTES_MAX - 2));
        let text = format!("[{token},{token},\"t\",\"e\",{{}}]");
        assert_eq!(fields(&decode_v2(&text).unwrap())[..2], [&token, &token]);
    }

    #[test]
    fn v1_takes_its_keys_in_any_order_and_the_last_of_each() {
        let text = r#" { "event" : "old", "extra": [{}], "payload": {"x":1}, "ref": 7, "topic":1,
            "top\u0069c": "room:1", "event":"msg" } "#;
        assert_eq!(fields(&decode_v1(text).unwrap()), ["null", "7", "room:1", "msg", "{\"x\":1}"]);
        let text = r#"{"topic":"t","event":"e","payload":null,"ref":"2","join_ref":"1"}"#;
        assert_eq!(fields(&decode_v1(text).unwrap()), ["\"1\"", "\"2\"", "t", "e", "null"]);
    }

    #[test]
    fn v1_names_what_is_wrong() {
        for (text, expected) in [
            ("[]", Malformed::NotAnObject),
            ("{}", Malformed::KeyMissing),
            (r#"{"topic":"t","event":"e","payload":{}}"#, Malformed::KeyMissing),
            (r#"{"topic":1,"event":"e","payload":{},"ref":"1"}"#, Malformed::TopicNotAString),
            (r#"{"topic":"t","event":{},"payload":{},"ref":"1"}"#, Malformed::EventNotAString),
            (r#"{"topic":"t","event":"e","payload":{},"ref":"1",}"#, Malformed::Json),
            (r#"{,"topic":"t","event":"e","payload":{},"ref":"1"}"#, Malformed::Json),
            (r#"{"topic":"t" "event":"e","payload":{},"ref":"1"}"#, Malformed::Json),
            (r#"{"topic" "t","event":"e","payload":{},"ref":"1"}"#, Malformed::Json),
            (r#"{topic:"t","event":"e","payload":{},"ref":"1"}"#, Malformed::Json),
            (r#"{"topic":"t","event":"e","payload":{},"ref":"1",5:6}"#, Malformed::Json),
            (r#"{"topic":"t","event":"e","payload":{},"ref":"1"}}"#, Malformed::Json),
        ] {
            assert_eq!(decode_v1(text), Err(expected), "{text}");
        }
    }
}
