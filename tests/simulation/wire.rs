//! What clients write: Phoenix messages in either serializer, and the numbers in events.

use serde_json::{Value, json};

use super::phoenix::Message;
use super::records::{GameUpdate, Object, masked_frame};

/// How a Phoenix client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serializer {
    V1,
    V2,
    /// V2, and nothing in binary.
    V2Text,
}

impl Serializer {
    /// A text message, as it travels.
    pub fn text(
        self,
        join_ref: &Value,
        reference: &Value,
        topic: &str,
        event: &str,
        payload: &Value,
    ) -> Vec<u8> {
        let text = match self {
            Self::V2 | Self::V2Text => json!([join_ref, reference, topic, event, payload]).to_string(),
            Self::V1 => {
                let message = json!({"topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref});
                message.to_string()
            }
        };
        masked_frame(0x81, text.as_bytes())
    }

    /// Reads a text message from the relay.
    pub fn read(self, text: &str) -> Message {
        match self {
            Self::V2 => Message::parse(text),
            Self::V2Text => match Message::parse(text) {
                Message::Told { join_ref, topic, event, payload } if event == "game_update" => {
                    let join_ref = join_ref.as_str().map(str::to_owned);
                    Message::Update(GameUpdate { join_ref, ..update_in_text(topic, &payload) })
                }
                message => message,
            },
            Self::V1 => read_v1(text),
        }
    }
}

fn read_v1(text: &str) -> Message {
    let mut value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let reference = value["ref"].take();
    let topic = value["topic"].as_str().expect("a topic").to_owned();
    let event = value["event"].as_str().expect("an event").to_owned();
    let mut payload = value["payload"].take();
    match &*event {
        "phx_reply" => {
            let ok = payload["status"] == "ok";
            Message::Reply {
                join_ref: Value::Null,
                reference,
                topic,
                ok,
                response: payload["response"].take(),
            }
        }
        // The serializer has no `join_ref`: these two carry it as `ref`.
        "phx_close" | "phx_error" => Message::Told { join_ref: reference, topic, event, payload },
        "game_update" => Message::Update(update_in_text(topic, &payload)),
        _ => Message::Told { join_ref: Value::Null, topic, event, payload },
    }
}

fn update_in_text(topic: String, payload: &Value) -> GameUpdate {
    let number = |value: &Value| value.as_u64().expect("a number") as u32;
    let float = |value: &Value| value.as_f64().expect("a number") as f32;
    // In layouts other than the plain one the fields have names.
    let row = |row: &Value| match row.as_object() {
        Some(fields) => {
            let names = ["id", "kind", "flags", "x", "y"];
            names.iter().filter_map(|name| fields.get(*name).cloned()).collect()
        }
        None => row.clone(),
    };
    let rows =
        |name: &str| payload[name].as_array().expect("an array").iter().map(row).collect::<Vec<Value>>();
    let positions =
        rows("players").iter().map(|row| (number(&row[0]), float(&row[1]), float(&row[2]))).collect();
    let object = |row: &Value| Object {
        id: number(&row[0]),
        kind: number(&row[1]) as u16,
        flags: number(&row[2]) as u16,
        x: float(&row[3]),
        y: float(&row[4]),
    };
    GameUpdate { join_ref: None, topic, positions, objects: rows("objects").iter().map(object).collect() }
}

/// The number that an event's payload begins with: `7`, `7,aaaa`, or `[7,"aaaa"]`.
pub fn number_of(payload: &[u8]) -> usize {
    let digits: String = payload
        .iter()
        .map(|byte| char::from(*byte))
        .skip_while(|letter| *letter == '[')
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("an event of this run")
}

/// The number of an event as a Phoenix client is told it.
pub fn number_of_event(payload: &Value) -> usize {
    use base64::Engine;
    match payload["payload_b64"].as_str() {
        Some(text) => number_of(&base64::engine::general_purpose::STANDARD.decode(text).expect("base64")),
        None => number_of(payload["payload"].to_string().as_bytes()),
    }
}
