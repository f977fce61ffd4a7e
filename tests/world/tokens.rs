//! Tokens, and joins that show them.

use corelay::shard::settings::Settings;
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};
use serde_json::{Value, json};

use super::client::ClientId;
use super::{STARTED_AT_S, World};

pub const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
pub const OTHER_SECRET: &[u8] = b"another secret of thirty-two bytes, and more";

pub fn with_tokens() -> Settings {
    let verifier = Verifier::new(Algorithm::Hs256, SECRET).expect("a good secret");
    Settings { verifier: Some(verifier.into()), ..Settings::default() }
}

pub fn signed(secret: &[u8], user: &str, topics: &[&str], change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims {
        user: user.into(),
        expires_at_s: STARTED_AT_S + 3600,
        name: None,
        topics: topics.iter().map(|topic| TopicPattern::new(*topic)).collect(),
        host: false,
        moderator: false,
    };
    change(&mut claims);
    token::sign(Algorithm::Hs256, secret, &claims).expect("claims can be signed")
}

pub fn token_for(user: &str, topics: &[&str]) -> String {
    signed(SECRET, user, topics, |_| {})
}

/// Joins, and returns the answer.
pub fn join(world: &mut World, client: ClientId, topic: &str, payload: &Value) -> (bool, Value) {
    world.say(client, &format!(r#"["1","9","{topic}","phx_join",{payload}]"#));
    let messages = world.client(client).messages();
    let (ok, response) = messages.iter().find_map(|message| message.answer(&json!("9"))).expect("an answer");
    (ok, response.clone())
}

pub fn unauthorized() -> (bool, Value) {
    (false, json!({"reason": "unauthorized"}))
}
