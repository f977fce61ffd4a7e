//! Members of documents, and what they are told.

use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

use super::World;
use super::client::{ClientId, Message};

/// Joins `doc:{name}` with `payload`, and returns the messages that came of it.
pub fn join(world: &mut World, client: ClientId, name: &str, payload: &Value) -> Vec<Message> {
    world.say(client, &format!(r#"["1","1","doc:{name}","phx_join",{payload}]"#));
    world.client(client).messages()
}

/// A member that has joined, and has heard of itself. Shard 0 is the first, where the document may not be.
pub fn member(world: &mut World, shard: usize, query: &str, name: &str) -> ClientId {
    let client = world.socket_on(shard, query);
    let joined = join(world, client, name, &json!({}));
    assert_eq!(joined[0].word(), "ok", "{joined:?}");
    world.advance_ms(60);
    world.client(client).frames();
    client
}

/// Pushes an event with the ref `"9"` and returns the messages that came of it.
pub fn push(world: &mut World, client: ClientId, name: &str, event: &str, payload: &Value) -> Vec<Message> {
    ask(world, client, name, 9, event, payload);
    world.client(client).messages()
}

/// Pushes an event whose answer may not come yet.
pub fn ask(world: &mut World, client: ClientId, name: &str, reference: u64, event: &str, payload: &Value) {
    world.say(client, &format!(r#"["1","{reference}","doc:{name}","{event}",{payload}]"#));
}

/// Edits, and returns the answer.
pub fn edit(world: &mut World, client: ClientId, name: &str, op: &Value, version: u64) -> (bool, Value) {
    super::rooms::answer(&push(world, client, name, "operation", &json!({"op": op, "version": version})))
}

/// The text of the last `doc_state` among the messages, put together from its parts, and its version.
pub fn text_of(messages: &[Message]) -> Option<(String, u64)> {
    let parts = super::rooms::told(messages, "doc_state");
    let last = parts.last()?;
    let count = last["parts"].as_u64().expect("a number") as usize;
    let parts = &parts[parts.len() - count..];
    for (part, number) in parts.iter().zip(1_u64..) {
        assert_eq!((&part["part"], &part["version"]), (&json!(number), &last["version"]));
    }
    let text = parts.iter().map(|part| part["content"].as_str().expect("a text")).collect();
    Some((text, last["version"].as_u64().expect("a number")))
}

/// Settings with which nobody is over a rate.
pub fn settings() -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let bytes = Rate { per_s: 1 << 30, burst: 1 << 30 };
    let rates = Rates { events: much, operations: much, cursors: much, bytes, ..Rates::default() };
    Settings { rates, ..Settings::default() }
}

/// On the first shard, where the document may not be.
pub fn near(world: &mut World, query: &str, name: &str) -> ClientId {
    member(world, 0, query, name)
}

/// On the shard where the document is.
pub fn far(world: &mut World, query: &str, name: &str) -> ClientId {
    let last = world.metrics.len() - 1;
    member(world, last, query, name)
}

/// What somebody who joins now is told of the text.
pub fn text_now(world: &mut World, name: &str) -> (String, u64) {
    let reader = world.socket_on(0, "&name=Reader");
    let joined = join(world, reader, name, &json!({}));
    let text = text_of(&joined).expect("the text");
    world.say(reader, &format!(r#"["1","2","doc:{name}","phx_leave",{{}}]"#));
    world.client(reader).messages();
    text
}

pub fn operations_of(messages: &[Message]) -> Vec<Value> {
    super::rooms::told(messages, "operation")
}
