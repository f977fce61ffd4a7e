//! Rooms with tokens: members and moderators, and what they push.

use corelay::room::chat::RoomRules;
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

use super::World;
use super::client::{ClientId, Message};
use super::rooms::{answer, push};
use super::tokens::{SECRET, signed, token_for, with_tokens};

/// Nobody is over a rate.
pub fn settings() -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let rules = RoomRules { messages_per_minute: 1_000_000, ..RoomRules::default() };
    let rates = Rates {
        events: much,
        joins: much,
        bytes: Rate { per_s: 1 << 30, burst: 1 << 30 },
        ..Rates::default()
    };
    Settings { rates, rooms: vec![rules], ..with_tokens() }
}

pub fn user(name: &str) -> String {
    format!("&token={}", token_for(name, &["room:*"]))
}

pub fn moderator(name: &str) -> String {
    format!("&token={}", signed(SECRET, name, &["room:*"], |claims| claims.moderator = true))
}

pub fn say(world: &mut World, client: ClientId, name: &str, body: &str) -> Value {
    let (ok, message) = answer(&push(world, client, name, "new_message", &json!({"body": body})));
    assert!(ok, "{message}");
    message
}

/// The answer to a push, which must be refused.
pub fn refusal(world: &mut World, client: ClientId, name: &str, event: &str, payload: &Value) -> Value {
    let (ok, response) = answer(&push(world, client, name, event, payload));
    assert!(!ok, "{event} {payload} was done: {response}");
    response
}

pub fn done(world: &mut World, client: ClientId, name: &str, event: &str, payload: &Value) -> Value {
    let (ok, response) = answer(&push(world, client, name, event, payload));
    assert!(ok, "{event} {payload}: {response}");
    response
}

pub fn reason(word: &str) -> Value {
    json!({"reason": word})
}

/// Pushes without an answer yet.
pub fn ask(world: &mut World, client: ClientId, name: &str, reference: u64, event: &str, payload: &Value) {
    world.say(client, &format!(r#"["1","{reference}","room:{name}","{event}",{payload}]"#));
}

pub fn reply(messages: &[Message], reference: &str) -> Option<(bool, Value)> {
    let found = messages.iter().find_map(|message| message.answer(&json!(reference)));
    found.map(|(ok, response)| (ok, response.clone()))
}
