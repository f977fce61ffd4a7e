//! Text messages of clients: an array of five in V2, an object in V1.

use super::fields::string;
use super::scanner::Scanner;
use super::{Head, Malformed, Message, Payload, Ref, Unreadable};

/// `[join_ref, ref, topic, event, payload]`; what follows the fifth element must be JSON and is ignored.
pub(super) fn decode_v2(text: &str) -> Result<Message<'_>, Unreadable<'_>> {
    let mut scanner = Scanner::new(text);
    if !scanner.take(b'[') {
        return Err(Malformed::NotAnArray.into());
    }
    let mut elements = [""; 5];
    for (index, element) in elements.iter_mut().enumerate() {
        if scanner.is_at(b']') {
            return Err(Malformed::TooFewElements.into());
        }
        if index > 0 && !scanner.take(b',') {
            return Err(Malformed::Json.into());
        }
        *element = scanner.value()?;
    }
    while scanner.take(b',') {
        scanner.value()?;
    }
    if !scanner.take(b']') {
        return Err(Malformed::Json.into());
    }
    message(elements, scanner.end()?)
}

/// `{"topic": …, "event": …, "payload": …, "ref": …, "join_ref": …}` in any order, the last one optional. Of a key that
/// comes twice the last value counts; other keys are ignored.
pub(super) fn decode_v1(text: &str) -> Result<Message<'_>, Unreadable<'_>> {
    let [mut topic, mut event, mut payload, mut reference] = [None; 4];
    let mut join_ref = "null";
    let mut scanner = Scanner::new(text);
    scanner.entries(|key, value| match key {
        "topic" => topic = Some(value),
        "event" => event = Some(value),
        "payload" => payload = Some(value),
        "ref" => reference = Some(value),
        "join_ref" => join_ref = value,
        _ => {}
    })?;
    let fault = scanner.end()?;
    let (Some(topic), Some(event), Some(payload), Some(reference)) = (topic, event, payload, reference)
    else {
        return Err(Malformed::KeyMissing.into());
    };
    message([join_ref, reference, topic, event, payload], fault)
}

/// Makes a message from join_ref, ref, topic, event and payload as they were written, and what is wrong with one of them.
fn message(elements: [&str; 5], fault: Option<Malformed>) -> Result<Message<'_>, Unreadable<'_>> {
    let [join_ref, reference, topic, event, payload] = elements;
    if let Some(fault) = fault
        && [join_ref, reference].iter().any(|reference| Scanner::new(reference).fault_of_value().is_some())
    {
        return Err(fault.into());
    }
    let (join_ref, reference) = (Ref::new(join_ref)?, Ref::new(reference)?);
    let topic = string(topic).ok_or(Malformed::TopicNotAString)?;
    let event = string(event).ok_or(Malformed::EventNotAString)?;
    match fault {
        None => Ok(Message { join_ref, reference, topic, event, payload: Payload::Json(payload) }),
        Some(why) => Err(Unreadable { why, head: Some(Head { join_ref, reference, topic }) }),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::limits::REF_BYTES_MAX;

    fn fields<'a>(message: &'a Message<'a>) -> [&'a str; 5] {
        let Payload::Json(payload) = message.payload else { panic!("text carries JSON") };
        [message.join_ref.as_str(), message.reference.as_str(), &message.topic, &message.event, payload]
    }

    /// Why nothing of a message can be read.
    fn why(decoded: &Result<Message<'_>, Unreadable<'_>>) -> Malformed {
        let Err(Unreadable { why, head: None }) = decoded else { panic!("{decoded:?}") };
        *why
    }

    #[test]
    fn what_is_wrong_with_one_value_leaves_the_head_readable() {
        let deep = format!("{}1{}", "[{\"a\":".repeat(40), "}]".repeat(40));
        for (payload, expected) in [
            (r#""\ud83e""#, Malformed::LoneSurrogate),
            (r#"{"\udd80":{"a":[]}}"#, Malformed::LoneSurrogate),
            ("[NaN]", Malformed::NotANumber),
            ("-Infinity", Malformed::NotANumber),
            ("\"a\u{1}b\"", Malformed::ControlCharacter),
            (&deep, Malformed::TooDeep),
            (r#"["\ud83e",NaN]"#, Malformed::LoneSurrogate),
        ] {
            let v2 = format!(r#"["3","4","room:1","msg",{payload}]"#);
            let v1 =
                format!(r#"{{"payload":{payload},"event":"msg","topic":"room:1","ref":"4","join_ref":"3"}}"#);
            for decoded in [decode_v2(&v2), decode_v1(&v1)] {
                let Err(Unreadable { why, head: Some(head) }) = decoded else { panic!("{payload}") };
                assert_eq!((why, &*head.topic), (expected, "room:1"), "{payload}");
                assert_eq!((head.join_ref.as_str(), head.reference.as_str()), ("\"3\"", "\"4\""));
            }
            assert_eq!(
                why(&decode_v2(&v2[..v2.len() - 1])),
                Malformed::Json,
                "what does not end is no message"
            );
        }
        let Err(Unreadable { head: Some(head), .. }) =
            decode_v2(r#"["3","4","r\ud83e\n\ud83e\udd80","e",1]"#)
        else {
            panic!("the topic is shown as far as it can be")
        };
        assert_eq!(head.topic, "r\u{fffd}\n🦀");
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
            ("[null,\"\\ud83e\",\"t\",\"e\",{}]", Malformed::LoneSurrogate),
            ("[NaN,\"1\",\"t\",\"e\",{}]", Malformed::NotANumber),
            (&long_ref, Malformed::RefTooLong),
        ] {
            assert_eq!(why(&decode_v2(text)), expected, "{text}");
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
            assert_eq!(why(&decode_v1(text)), expected, "{text}");
        }
    }
}
