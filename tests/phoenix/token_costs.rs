//! What tokens of Phoenix clients cost: how often one is checked, and how many forged ones are looked at.

use std::hash::{DefaultHasher, Hasher};

use crate::world::client::ClientId;
use crate::world::tokens::{OTHER_SECRET, SECRET, join, signed, token_for, unauthorized, with_tokens};
use crate::world::{STARTED_AT_S, World, near_and_far};
use corelay::limits::{TOKEN_KEPT_BYTES_MAX, TOKENS_KEPT};
use corelay::reasons::RefusalReason;
use corelay::shard::peer::Order;
use corelay::shard::settings::Settings;
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier, VerifyingKey};
use serde_json::{Value, json};

fn signatures(world: &World) -> u64 {
    world.count(|metrics| metrics.token_signatures.value())
}

/// A token of user `user` that another key has signed.
fn forged(user: u32) -> String {
    signed(OTHER_SECRET, &format!("u-{user}"), &["room:*"], |_| {})
}

/// Joins of as many rooms in one segment, with a token each; the refs are `"0"`, `"1"` and so on. Returns the answers.
fn join_at_once(world: &mut World, client: ClientId, tokens: &[String]) -> Vec<(bool, Value)> {
    let texts: Vec<String> = (0..tokens.len())
        .map(|n| format!(r#"["{n}","{n}","room:r{n}","phx_join",{{"token":"{}"}}]"#, tokens[n]))
        .collect();
    world.say_at_once(client, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let messages = world.client(client).messages();
    let answer = |n: usize| {
        let found = messages.iter().find_map(|message| message.answer(&json!(n.to_string())));
        found.map(|(ok, response)| (ok, response.clone())).expect("each join is answered")
    };
    (0..tokens.len()).map(answer).collect()
}

fn is_rate_limited((ok, response): &(bool, Value)) -> bool {
    let waits = response["retry_after"].as_u64().is_some_and(|ms| (1..=10_000).contains(&ms));
    !ok && response["reason"] == "rate_limited" && waits
}

#[test]
fn a_token_is_checked_once_however_many_joins_it_grants() {
    let es256 = || {
        let public = include_bytes!("../keys/es256.public.pem");
        let verifier = Verifier::new(Algorithm::Es256, public).expect("a good key");
        let mut settings = Settings { verifier: Some(verifier.into()), ..Settings::default() };
        settings.rates.joins.burst = 2_000;
        settings
    };
    near_and_far(es256, |mut world, name| {
        let claims = Claims {
            user: "u-1".into(),
            expires_at_s: STARTED_AT_S + 60,
            name: None,
            topics: [TopicPattern::new("room:*")].into(),
            host: false,
            moderator: false,
        };
        let private = include_bytes!("../keys/es256.private.pem");
        let token = token::sign(Algorithm::Es256, private, &claims).expect("claims can be signed");
        let room = format!("room:{name}");
        let clients = [world.socket(&format!("&token={token}")), world.socket("")];
        for _ in 0..1_000 {
            assert!(join(&mut world, clients[0], &room, &json!({})).0);
            assert!(join(&mut world, clients[1], &room, &json!({ "token": token })).0);
        }
        assert_eq!(signatures(&world), 1, "2,000 joins");
        assert!(join(&mut world, clients[1], &room, &json!({ "token": token })).0);
        world.now.unix_us += 60_000_000;
        for client in clients {
            let answer = join(&mut world, client, &room, &json!({ "token": token }));
            assert_eq!(answer, unauthorized());
        }
        assert_eq!(signatures(&world), 1, "that it has ended needs no signature");
    });
}

#[test]
fn the_token_of_a_connection_stays_checked_though_others_take_its_place_on_the_shard() {
    near_and_far(with_tokens, |mut world, name| {
        let room = format!("room:{name}");
        let ann = world.socket(&format!("&token={}", token_for("ann", &["room:*"])));
        for user in 0..2_000 {
            let client = world.socket(&format!("&token={}", token_for(&format!("u-{user}"), &["room:*"])));
            world.hang_up(client);
        }
        let before = signatures(&world);
        assert_eq!(before, 2_001, "good tokens are nobody's debt");
        assert!(join(&mut world, ann, &room, &json!({})).0);
        assert_eq!(signatures(&world), before);
    });
}

/// Two tokens that whoever does not know the key of the shard's hash would expect to replace each other.
fn neighbours() -> [String; 2] {
    let place = |token: &String| {
        let mut hasher = DefaultHasher::new();
        hasher.write(token.as_bytes());
        hasher.finish() % TOKENS_KEPT as u64
    };
    let token = |user: u32| token_for(&format!("u-{user}"), &["room:*"]);
    let first = token(0);
    let second = (1..).map(token).find(|token| place(token) == place(&first));
    [first, second.expect("one of some hundreds")]
}

#[test]
fn nobody_can_tell_which_tokens_replace_each_other() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket("");
        let tokens = neighbours();
        for token in tokens.iter().cycle().take(60) {
            assert!(join(&mut world, ann, &format!("room:{name}"), &json!({ "token": token })).0);
        }
        assert_eq!(signatures(&world), 2);
    });
}

#[test]
fn the_token_that_grants_a_channel_stays_checked_though_others_take_its_place_on_the_shard() {
    near_and_far(with_tokens, |mut world, name| {
        let room = format!("room:{name}");
        let ann = world.socket("");
        let token = json!({ "token": token_for("ann", &["room:*"]) });
        assert!(join(&mut world, ann, &room, &token).0);
        for user in 0..2_000 {
            let client = world.socket(&format!("&token={}", token_for(&format!("u-{user}"), &["room:*"])));
            world.hang_up(client);
        }
        let before = signatures(&world);
        assert!(join(&mut world, ann, &room, &token).0 && join(&mut world, ann, "room:other", &token).0);
        assert_eq!(signatures(&world), before);
    });
}

#[test]
fn a_hundred_good_tokens_are_looked_at_at_once_and_then_ten_a_second() {
    let many_joins = || {
        let mut settings = with_tokens();
        settings.rates.joins.burst = 2_000;
        settings
    };
    near_and_far(many_joins, |mut world, _| {
        let (ann, ben) = (world.socket(""), world.socket(""));
        let tokens: Vec<String> = (0..150).map(|n| token_for(&format!("u-{n}"), &["room:*"])).collect();
        let answers = join_at_once(&mut world, ann, &tokens);
        assert!(answers[..100].iter().all(|(ok, _)| *ok), "as many as one connection joins topics");
        assert!(answers[100..].iter().all(is_rate_limited), "{:?}", answers.last());
        assert_eq!(signatures(&world), 100);
        world.advance_ms(1_000);
        let answers = join_at_once(&mut world, ann, &tokens[100..]);
        assert_eq!(answers.iter().filter(|(ok, _)| *ok).count(), 10);
        // A token that is too long to be kept is checked each time.
        let long = token_for("ben", &["room:*", &"x".repeat(TOKEN_KEPT_BYTES_MAX)]);
        let answers = join_at_once(&mut world, ben, &vec![long; 150]);
        assert!(answers[..100].iter().all(|(ok, _)| *ok) && answers[100..].iter().all(is_rate_limited));
        assert_eq!(signatures(&world), 210);
    });
}

#[test]
fn other_keys_check_each_token_anew_and_once() {
    near_and_far(with_tokens, |mut world, name| {
        let room = format!("room:{name}");
        let old = token_for("u-1", &["room:*"]);
        let ann = world.socket(&format!("&token={old}"));
        assert!(join(&mut world, ann, &room, &json!({})).0);
        let keys = |secret| Verifier::new(Algorithm::Hs256, secret).expect("a good secret").into();
        world.tell_shards(&Order::Keys(keys(OTHER_SECRET)));
        for _ in 0..50 {
            assert_eq!(join(&mut world, ann, &room, &json!({})), unauthorized());
        }
        assert_eq!(signatures(&world), 2, "what the connection's token is to the new keys is remembered");
        let again = world.request(&format!("/socket/websocket?vsn=2.0.0&token={old}"));
        assert_eq!(
            (world.client(again).response().0, signatures(&world)),
            (403, 3),
            "nothing is kept of the old keys"
        );
        world.tell_shards(&Order::Keys(keys(SECRET)));
        world.advance_ms(3_000);
        world.client(ann).frames();
        assert!(join(&mut world, ann, &room, &json!({})).0, "the old key is back");
    });
}

#[test]
fn a_hundred_forged_tokens_in_one_segment_cost_ten_signatures() {
    near_and_far(with_tokens, |mut world, name| {
        let room = format!("room:{name}");
        let ann = world.socket("");
        assert!(join(&mut world, ann, &room, &json!({"token": token_for("u-1", &["room:*"])})).0);
        let before = signatures(&world);
        let answers = join_at_once(&mut world, ann, &(0..90).map(forged).collect::<Vec<_>>());
        assert!(answers[..10].iter().all(|answer| *answer == unauthorized()), "{:?}", answers[..10].last());
        assert!(answers[10..].iter().all(is_rate_limited), "{:?}", answers[10..].last());
        assert_eq!(signatures(&world) - before, 10);
        // The connection keeps the topics that it has, also one that it could not join anew.
        assert!(is_rate_limited(&join(&mut world, ann, &room, &json!({"token": forged(100)}))));
        world.say(ann, &format!(r#"[null,"9","{room}","heartbeat",{{}}]"#));
        assert_eq!(world.client(ann).messages()[0].word(), "ok");
        // A token that is known needs no signature, and as time passes one signature after the other may be checked again.
        assert!(join(&mut world, ann, &room, &json!({"token": token_for("u-1", &["room:*"])})).0);
        world.advance_ms(201);
        assert!(join(&mut world, ann, &room, &json!({"token": token_for("u-3", &["room:*"])})).0);
        assert_eq!(join(&mut world, ann, &room, &json!({"token": forged(101)})), unauthorized());
        assert!(is_rate_limited(&join(&mut world, ann, &room, &json!({"token": forged(102)}))));
    });
}

#[test]
fn keys_without_names_cost_a_forger_each_of_their_signatures() {
    let keys = || {
        let key = |n: usize| VerifyingKey::new(None, Algorithm::Hs256, format!("{n:040}").as_bytes());
        let verifier = Verifier::of((0..16).map(|n| key(n).expect("a good secret")).collect());
        Settings { verifier: Some(verifier.expect("16 keys").into()), ..Settings::default() }
    };
    near_and_far(keys, |mut world, _| {
        let ann = world.socket("");
        let answers = join_at_once(&mut world, ann, &(0..100).map(forged).collect::<Vec<_>>());
        assert!(answers[0] == unauthorized() && answers[1..].iter().all(is_rate_limited));
        assert_eq!(signatures(&world), 16);
    });
}

#[test]
fn strangers_together_cost_a_shard_little_and_known_users_nothing() {
    near_and_far(with_tokens, |mut world, _| {
        let ann = world.socket(&format!("&token={}", token_for("ann", &["room:a*"])));
        let strangers: Vec<ClientId> = (0..20).map(|_| world.socket("")).collect();
        let before = signatures(&world);
        for (number, stranger) in strangers.iter().enumerate() {
            let tokens: Vec<String> = (0..20).map(|n| forged(n + 20 * number as u32)).collect();
            join_at_once(&mut world, *stranger, &tokens);
        }
        assert_eq!(signatures(&world) - before, 50);
        let fresh = token_for("u-2", &["room:*"]);
        for token in [&fresh, &forged(1)] {
            let client = world.request(&format!("/socket/websocket?vsn=2.0.0&token={token}"));
            let (status, text) = world.client(client).response();
            assert!(status == 503 && text.contains("Retry-After: 5") && text.contains("try again"), "{text}");
        }
        let refused = RefusalReason::TokenRate.index();
        assert_eq!(world.count(|metrics| metrics.refusals[refused].value()), 2);
        // Whoever has shown a good token is no stranger, and what was checked before is good.
        assert!(join(&mut world, ann, "room:b", &json!({ "token": fresh })).0);
        world.socket(&format!("&token={}", token_for("ann", &["room:a*"])));
        world.advance_ms(2);
        world.socket(&format!("&token={}", token_for("u-3", &["room:*"])));
    });
}
