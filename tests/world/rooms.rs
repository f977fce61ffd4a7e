//! Members of rooms, and what they are told.

use serde_json::{Value, json};

use super::World;
use super::client::{ClientId, Message};

/// Joins `room:{name}` with `payload`, and returns the messages that came of it.
pub fn join(world: &mut World, client: ClientId, name: &str, payload: &Value) -> Vec<Message> {
    world.say(client, &format!(r#"["1","1","room:{name}","phx_join",{payload}]"#));
    world.client(client).messages()
}

/// A member that has joined, and has heard of itself.
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
    world.say(client, &format!(r#"["1","9","room:{name}","{event}",{payload}]"#));
    world.client(client).messages()
}

/// The answer to the last push.
pub fn answer(messages: &[Message]) -> (bool, Value) {
    let (ok, response) = messages.iter().find_map(|message| message.answer(&json!("9"))).expect("an answer");
    (ok, response.clone())
}

pub fn words(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::word).collect()
}

pub fn told(messages: &[Message], event: &str) -> Vec<Value> {
    messages.iter().filter_map(|message| message.told(event)).cloned().collect()
}

/// A member on the first shard.
pub fn near_member(world: &mut World, query: &str, name: &str) -> ClientId {
    member(world, 0, query, name)
}

/// A member on the last shard, where the room is.
pub fn far_member(world: &mut World, query: &str, name: &str) -> ClientId {
    member(world, world.metrics.len() - 1, query, name)
}
