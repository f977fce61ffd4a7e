//! Phoenix messages against `serde_json`, valid and damaged, and against what phoenix.js 1.8.16 sends and understands.
//!
//! Where the scanner and `serde_json`'s `RawValue` differ, the scanner is the stricter one: it refuses escapes that are half of
//! a surrogate pair, references over `REF_BYTES_MAX`, and nesting over `JSON_DEPTH_MAX`, which is not generated here.

use std::collections::BTreeMap;

use corelay::limits::REF_BYTES_MAX;
use corelay::wire::encoded::Encoded;
use corelay::wire::phoenix::{Event, Malformed, Message, Payload, Serializer, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

/// `join_ref`, `ref`, topic, event, payload.
type Fields = [String; 5];

fn decode(serializer: Serializer, text: &str) -> Result<Fields, Malformed> {
    serializer.decode_text(text).map(|message| fields(&message)).map_err(|unreadable| unreadable.why)
}

fn fields(message: &Message<'_>) -> Fields {
    let Payload::Json(payload) = message.payload else { panic!("text carries JSON") };
    [message.join_ref.as_str(), message.reference.as_str(), &message.topic, &message.event, payload]
        .map(str::to_owned)
}

fn oracle(serializer: Serializer, text: &str) -> Option<Fields> {
    let [join_ref, reference, topic, event, payload] = match serializer {
        Serializer::V2 => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            elements.first_chunk::<5>()?.map(RawValue::get)
        }
        Serializer::V1 => {
            let object: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let value = |key: &str| object.get(key).map(|value| value.get());
            let join_ref = value("join_ref").unwrap_or("null");
            [join_ref, value("ref")?, value("topic")?, value("event")?, value("payload")?]
        }
    };
    if join_ref.len().max(reference.len()) > REF_BYTES_MAX || has_lone_surrogate(text) {
        return None;
    }
    let topic = serde_json::from_str(topic).ok()?;
    let event = serde_json::from_str(event).ok()?;
    Some([join_ref.to_owned(), reference.to_owned(), topic, event, payload.to_owned()])
}

/// `text` is valid JSON but for surrogates: backslashes are in strings only.
fn has_lone_surrogate(text: &str) -> bool {
    let mut units = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(digits) = rest.strip_prefix("\\u") {
            units.push(u16::from_str_radix(&digits[..4], 16).expect("serde has checked them"));
            rest = &digits[4..];
        } else if rest.starts_with('\\') {
            units.push(0);
            rest = &rest[2..];
        } else {
            units.push(0);
            rest = &rest[letter.len_utf8()..];
        }
    }
    char::decode_utf16(units).any(|letter| letter.is_err())
}

fn assert_agrees_with_oracle(serializer: Serializer, text: &str) {
    assert_eq!(decode(serializer, text).ok(), oracle(serializer, text), "{serializer:?}: {text}");
}

fn blank() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z:0-9 {}\\[\\],/\u{7f}ß€\u{10000}-\u{10FFFF}]{0,8}",
        1 => r#"\\["\\/bfnrt]"#,
        1 => r"\\u(00[0-9a-fA-F]{2}|[eE]00[0-9]|d83e\\udd80|D[89aAbB]00\\uD[c-fC-F]ff)",
        1 => prop_oneof![30 => Just(String::new()), 1 => r"\\ud[89a-f]00"],
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec!["null", "true", "false", "0", "1e999", "-0.0"]).prop_map(str::to_owned),
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        string(),
    ]
}

fn container(elements: &[(String, String, String, String)], is_object: bool) -> String {
    let written = |(before, key, value, after): &(String, String, String, String)| {
        if is_object {
            format!("{before}{key}{after}:{before}{value}{after}")
        } else {
            format!("{before}{value}{after}")
        }
    };
    let elements: Vec<_> = elements.iter().map(written).collect();
    let elements = elements.join(",");
    if is_object { format!("{{{elements}}}") } else { format!("[{elements}]") }
}

fn value() -> impl Strategy<Value = String> {
    let nested = scalar().prop_recursive(4, 24, 4, |inner| {
        (vec((blank(), string(), inner, blank()), 0..4), any::<bool>())
            .prop_map(|(elements, is_object)| container(&elements, is_object))
    });
    // Some values are deep inside others.
    let around = prop_oneof![9 => Just(vec![]), 1 => vec(any::<bool>(), 1..50)];
    (nested, around).prop_map(|(value, around)| {
        around.into_iter().fold(value, |value, is_object| {
            container(&[(String::new(), "\"a\"".into(), value, " ".into())], is_object)
        })
    })
}

fn reference() -> impl Strategy<Value = String> {
    prop_oneof![6 => "\"[0-9]{0,4}\"", 2 => Just("null".to_owned()), 1 => value(), 1 => "\"[0-9]{124,130}\""]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![20 => string(), 1 => value()]
}

/// Messages of both kinds, nearly all of them valid.
fn message() -> impl Strategy<Value = (Serializer, String)> {
    let five = (reference(), reference(), name(), name(), value());
    let more = prop_oneof![4 => Just(vec![]), 1 => vec((string(), value()), 1..4)];
    let blanks = vec(blank(), 20);
    let order = Just([0, 1, 2, 3, 4]).prop_shuffle();
    (any::<bool>(), five, more, blanks, order).prop_map(|(is_v1, five, more, blanks, order)| {
        let keys = ["join_ref", "ref", "topic", "event", "payload"].map(|key| format!("\"{key}\""));
        let five = [five.0, five.1, five.2, five.3, five.4];
        let mut members: Vec<_> = keys.into_iter().zip(five).collect();
        if is_v1 {
            members = order.iter().map(|index| members[*index].clone()).collect();
        }
        members.extend(more);
        let elements: Vec<_> = members
            .into_iter()
            .zip(blanks.chunks(2))
            .map(|((key, value), blanks)| (blanks[0].clone(), key, value, blanks[1].clone()))
            .collect();
        let text = format!("{}{}{}", blanks[18], container(&elements, is_v1), blanks[19]);
        (if is_v1 { Serializer::V1 } else { Serializer::V2 }, text)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn reads_what_serde_reads((serializer, text) in message()) {
        assert_agrees_with_oracle(serializer, &text);
    }

    #[test]
    fn damage_is_judged_as_serde_judges_it(
        (serializer, text) in message(),
        damage in vec(
            (any::<Index>(), 0_usize..3, prop_oneof![
                4 => r#"["\\\[\]{},:0-9.eE+\-u/ntf \n\u{0}\u{1f}ä]{0,2}"#,
                1 => "[\u{0}-\u{7f}]",
            ]),
            1..3,
        ),
    ) {
        let mut bytes = text.into_bytes();
        for (place, removed, inserted) in damage {
            let start = place.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted.into_bytes());
        }
        assert_agrees_with_oracle(serializer, &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_part_of_a_message_is_none((serializer, text) in message()) {
        for (end, _) in text.trim_end().char_indices() {
            prop_assert!(serializer.decode_text(&text[..end]).is_err(), "{end} bytes of {text}");
        }
    }

    #[test]
    fn any_bytes_are_a_push_or_malformed(bytes in vec(prop_oneof![0_u8..8, any::<u8>()], 0..60)) {
        if let Ok(message) = Serializer::V2.decode_binary(&bytes) {
            let reference_bytes = [bytes[1], bytes[2]].map(usize::from);
            let Payload::Binary(data) = message.payload else { panic!("a push carries bytes") };
            let head_bytes = 5 + reference_bytes[0] + reference_bytes[1] + message.topic.len() + message.event.len();
            prop_assert_eq!(&bytes[head_bytes..], data);
            for (token, bytes) in [message.join_ref, message.reference].iter().zip(reference_bytes) {
                let text: Option<String> = serde_json::from_str(token.as_str()).unwrap();
                prop_assert_eq!(text.map_or(0, |text| text.len()), bytes);
            }
        }
        let text = str::from_utf8(&bytes).map_err(|_| Malformed::NotText.into());
        let as_text = text.and_then(|text| Serializer::V1.decode_text(text));
        prop_assert_eq!(Serializer::V1.decode_binary(&bytes), as_text);
    }
}

/// The text of a frame.
fn text(encoded: &Encoded) -> &str {
    let bytes = encoded.bytes();
    let header_bytes = if bytes[1] < 126 { 2 } else { 4 };
    assert_eq!(bytes[0], 0x81, "one whole text message");
    str::from_utf8(&bytes[header_bytes..]).expect("text is UTF-8")
}

#[test]
fn a_reference_of_any_type_comes_back_as_it_was() {
    for token in [
        "\"3\"",
        "3",
        "3.0",
        "-0",
        "1e2",
        "null",
        "true",
        "false",
        "\"\"",
        "\"\\u0033\"",
        "[ 1,2 ]",
        "{\"a\" :1}",
    ] {
        for (serializer, received, sent) in [
            (
                Serializer::V2,
                format!("[{token}, {token} ,\"t\",\"e\",{{}}]"),
                format!("[{token},{token},\"t\",\"phx_reply\",{{\"status\":\"ok\",\"response\":{{}}}}]"),
            ),
            (
                Serializer::V1,
                format!(
                    "{{\"ref\": {token} ,\"join_ref\":{token},\"topic\":\"t\",\"event\":\"e\",\"payload\":{{}}}}"
                ),
                format!(
                    "{{\"event\":\"phx_reply\",\"payload\":{{\"status\":\"ok\",\"response\":{{}}}},\"ref\":{token},\"topic\":\"t\"}}"
                ),
            ),
        ] {
            let message = serializer.decode_text(&received).unwrap();
            let (join_ref, reference) = (message.join_ref.as_str(), message.reference.as_str());
            assert_eq!((join_ref, reference), (token, token));
            let reply = serializer.reply(join_ref, reference, &message.topic, Status::Ok, "{}");
            assert_eq!(text(&reply), sent);
        }
    }
}

/// What phoenix.js 1.8.16 sent in one session.
#[test]
fn what_phoenix_js_sends_is_read() {
    for (line, expected) in [
        (
            r#"["3","3","room:1","phx_join",{"user":"ann"}]"#,
            ["\"3\"", "\"3\"", "room:1", "phx_join", r#"{"user":"ann"}"#],
        ),
        (r#"["3","4","room:1","msg",{"x":1}]"#, ["\"3\"", "\"4\"", "room:1", "msg", r#"{"x":1}"#]),
        (r#"[null,"5","phoenix","heartbeat",{}]"#, ["null", "\"5\"", "phoenix", "heartbeat", "{}"]),
        (r#"["11","11","nope:1","phx_join",{}]"#, ["\"11\"", "\"11\"", "nope:1", "phx_join", "{}"]),
        (r#"["11","12","nope:1","phx_leave",{}]"#, ["\"11\"", "\"12\"", "nope:1", "phx_leave", "{}"]),
        (
            r#"["15","15","room:d","phx_join",{"deny":true}]"#,
            ["\"15\"", "\"15\"", "room:d", "phx_join", r#"{"deny":true}"#],
        ),
        (r#"["3","20","room:1","phx_leave",{}]"#, ["\"3\"", "\"20\"", "room:1", "phx_leave", "{}"]),
        (
            r#"["21","21","room:1","phx_join",{"user":"ann"}]"#,
            ["\"21\"", "\"21\"", "room:1", "phx_join", r#"{"user":"ann"}"#],
        ),
        (r#"["21","22","room:1","crash",{}]"#, ["\"21\"", "\"22\"", "room:1", "crash", "{}"]),
        (
            r#"["30","30","room:1","phx_join",{"user":"ann"}]"#,
            ["\"30\"", "\"30\"", "room:1", "phx_join", r#"{"user":"ann"}"#],
        ),
    ] {
        assert_eq!(decode(Serializer::V2, line), Ok(expected.map(str::to_owned)));
    }
}

/// What phoenix.js was answered in that session.
#[test]
fn what_phoenix_js_understands_is_written() {
    let v2 = Serializer::V2;
    let ann = r#"{"ann":{"metas":[{"phx_ref":"F1","online_at":1}]}}"#;
    for (frame, line) in [
        (
            v2.reply("\"3\"", "\"3\"", "room:1", Status::Ok, "{}"),
            r#"["3","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        ),
        (
            v2.push("\"3\"", "room:1", Event::PresenceState, ann),
            r#"["3",null,"room:1","presence_state",{"ann":{"metas":[{"phx_ref":"F1","online_at":1}]}}]"#,
        ),
        (
            v2.broadcast("room:1", Event::PresenceDiff, &format!("{{\"joins\":{ann},\"leaves\":{{}}}}")),
            r#"[null,null,"room:1","presence_diff",{"joins":{"ann":{"metas":[{"phx_ref":"F1","online_at":1}]}},"leaves":{}}]"#,
        ),
        (
            v2.broadcast("room:1", Event::NewMessage, r#"{"x":1}"#),
            r#"[null,null,"room:1","new_message",{"x":1}]"#,
        ),
        (
            v2.reply("\"3\"", "\"4\"", "room:1", Status::Ok, r#"{"x":1}"#),
            r#"["3","4","room:1","phx_reply",{"status":"ok","response":{"x":1}}]"#,
        ),
        (
            v2.reply("null", "\"5\"", "phoenix", Status::Ok, "{}"),
            r#"[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        ),
        (
            v2.reply("null", "\"11\"", "nope:1", Status::Error, r#"{"reason":"unmatched topic"}"#),
            r#"[null,"11","nope:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ),
        (
            v2.reply("\"11\"", "\"12\"", "nope:1", Status::Ok, "{}"),
            r#"["11","12","nope:1","phx_reply",{"status":"ok","response":{}}]"#,
        ),
        (
            v2.reply("\"15\"", "\"15\"", "room:d", Status::Error, r#"{"reason":"unauthorized"}"#),
            r#"["15","15","room:d","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
        ),
        (v2.close("\"3\"", "room:1"), r#"["3","3","room:1","phx_close",{}]"#),
        (
            v2.error("\"21\"", "room:1", "channel_crash"),
            r#"["21","21","room:1","phx_error",{"reason":"channel_crash"}]"#,
        ),
    ] {
        assert_eq!((text(&frame), frame.frames()), (line, 1));
    }
}
