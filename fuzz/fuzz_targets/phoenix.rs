//! Phoenix messages: never a panic; text is a message if `serde_json` says so, and what answers it is JSON.
#![no_main]

use std::collections::BTreeMap;

use corelay::limits::REF_BYTES_MAX;
use corelay::wire::phoenix::{Malformed, Message, Payload, Ref, Serializer, Status, Unreadable};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    for serializer in [Serializer::V1, Serializer::V2] {
        if let Ok(message) = serializer.decode_binary(bytes) {
            check_reply(&message);
        }
        let Ok(text) = str::from_utf8(bytes) else { continue };
        let decoded = serializer.decode_text(text);
        if let Err(Unreadable { head: Some(head), .. }) = &decoded {
            check_answer(&head.join_ref, &head.reference, &head.topic);
        }
        match &decoded {
            // Stricter than serde, which passes over what it does not decode.
            Err(Unreadable { why: Malformed::LoneSurrogate | Malformed::TooDeep, .. }) => {}
            Err(_) => assert_eq!(oracle(serializer, text), None),
            Ok(message) => {
                let Payload::Json(payload) = message.payload else { panic!("text carries JSON") };
                let fields = [
                    message.join_ref.as_str(),
                    message.reference.as_str(),
                    &message.topic,
                    &message.event,
                    payload,
                ];
                assert_eq!(oracle(serializer, text), Some(fields.map(str::to_owned)));
                check_reply(message);
            }
        }
    }
});

/// `join_ref`, `ref`, topic, event, payload.
fn oracle(serializer: Serializer, text: &str) -> Option<[String; 5]> {
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
    if join_ref.len().max(reference.len()) > REF_BYTES_MAX {
        return None;
    }
    let topic = serde_json::from_str(topic).ok()?;
    let event = serde_json::from_str(event).ok()?;
    Some([join_ref.to_owned(), reference.to_owned(), topic, event, payload.to_owned()])
}

fn check_reply(message: &Message<'_>) {
    check_answer(&message.join_ref, &message.reference, &message.topic);
}

fn check_answer(join_ref: &Ref<'_>, reference: &Ref<'_>, topic: &str) {
    let (join_ref, reference) = (join_ref.as_str(), reference.as_str());
    let reply = Serializer::V2.reply(join_ref, reference, topic, Status::Error, "{}");
    let header_bytes = match reply.bytes()[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    let elements: [&RawValue; 5] = serde_json::from_slice(&reply.bytes()[header_bytes..]).unwrap();
    assert_eq!((elements[0].get(), elements[1].get()), (join_ref, reference));
    assert_eq!(serde_json::from_str::<String>(elements[2].get()).unwrap(), topic);
}
