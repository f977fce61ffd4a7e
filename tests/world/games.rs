//! Players of both dialects, and what they are told of a game.

use serde_json::{Value, json};

use super::World;
use super::client::{ClientId, GameUpdate, Message, Object};

/// Joins `game:{name}`: the response, and what followed.
pub fn join(world: &mut World, client: ClientId, name: &str, payload: &Value) -> (Value, Vec<Message>) {
    world.say(client, &format!(r#"["1","1","game:{name}","phx_join",{payload}]"#));
    let mut messages = world.client(client).messages();
    let answered = messages.iter().position(|message| message.answer(&json!("1")).is_some());
    let rest = messages.split_off(answered.unwrap_or_else(|| panic!("no answer: {messages:?}")) + 1);
    let Some(Message::Reply { ok: true, response, .. }) = messages.pop() else {
        panic!("refused: {messages:?}")
    };
    (response, rest)
}

/// A Phoenix player that has heard of itself; its player id and resume token.
pub struct Player {
    pub client: ClientId,
    pub id: u32,
    pub token: String,
}

pub fn player(world: &mut World, name: &str) -> Player {
    let client = world.socket("");
    let (response, _) = join(world, client, name, &json!({}));
    world.advance_ms(100);
    world.client(client).frames();
    player_of(client, &response)
}

pub fn player_of(client: ClientId, response: &Value) -> Player {
    let id = response["player_id"].as_u64().expect("a number") as u32;
    Player { client, id, token: response["resume_token"].as_str().expect("a string").into() }
}

/// A native player that has heard of itself.
pub fn native(world: &mut World, name: &str) -> (ClientId, u32, String) {
    let client = world.request(&format!("/play/{name}"));
    let welcome = world.client(client).upgraded();
    world.advance_ms(100);
    world.client(client).frames();
    (client, welcome.player_id, welcome.resume_token)
}

/// A Phoenix player in two games, and a native player in each.
pub fn in_two(world: &mut World, name: &str) -> (ClientId, [ClientId; 2]) {
    let names = [name.to_owned(), format!("{name}-b")];
    let client = world.socket("");
    let natives = names.clone().map(|name| native(world, &name).0);
    for (number, name) in names.iter().enumerate() {
        world.say(client, &format!(r#"["{number}","{number}","game:{name}","phx_join",{{}}]"#));
    }
    world.advance_ms(100);
    world.client(client).frames();
    (client, natives)
}

/// A Phoenix player to whom a message of the lane is stuck, so that a state may wait behind it; a native player and its id.
pub fn stuck_behind_a_message(world: &mut World, name: &str) -> (Player, ClientId, u32) {
    let stuck = player(world, name);
    let (native, id, _) = native(world, name);
    world.advance_ms(100);
    world.client(stuck.client).frames();
    world.set_reading(stuck.client, false);
    push(world, stuck.client, name, "heartbeat", &json!({}));
    (stuck, native, id)
}

/// Pushes an event with the ref `"9"`.
pub fn push(world: &mut World, client: ClientId, name: &str, event: &str, payload: &Value) -> Vec<Message> {
    world.say(client, &format!(r#"["1","9","game:{name}","{event}",{payload}]"#));
    world.client(client).messages()
}

pub fn refusal(messages: &[Message]) -> String {
    match messages.iter().find_map(|message| message.answer(&json!("9"))) {
        Some((false, response)) => response["reason"].as_str().expect("a string").to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn told(messages: &[Message], event: &str) -> Vec<Value> {
    messages.iter().filter_map(|message| message.told(event)).cloned().collect()
}

pub fn updates(messages: Vec<Message>) -> Vec<GameUpdate> {
    let update = |message| match message {
        Message::Update(update) => Some(update),
        _ => None,
    };
    messages.into_iter().filter_map(update).collect()
}

pub fn words(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::word).collect()
}

pub fn object(id: u32, x: f32) -> Object {
    Object { id, kind: 7, flags: 1, x, y: 2.0 }
}
