//! Whoever comes to `/socket` without a token, where one is needed, must join something soon (section 6 of the protocol).

use crate::world::client::{ClientId, Message};
use crate::world::{STARTED_AT_S, World, near_and_far};
use corelay::reasons::{CloseReason, RefusalReason};
use corelay::shard::settings::{ClientRules, Settings};
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn with_tokens() -> Settings {
    let verifier = Verifier::new(Algorithm::Hs256, SECRET).expect("a good secret");
    Settings { verifier: Some(verifier.into()), ..Settings::default() }
}

fn token_for(topic: &str) -> String {
    let claims = Claims {
        user: "u-1".into(),
        expires_at_s: STARTED_AT_S + 3600,
        name: None,
        topics: [TopicPattern::new(topic)].into(),
        host: false,
        moderator: false,
    };
    token::sign(Algorithm::Hs256, SECRET, &claims).expect("claims can be signed")
}

/// Pushes, and returns the word of the answer.
fn say(world: &mut World, client: ClientId, topic: &str, event: &str, payload: &Value) -> String {
    world.say(client, &format!(r#"[null,"9","{topic}","{event}",{payload}]"#));
    let messages = world.client(client).messages();
    let answers = messages.iter().filter(|message| message.answer(&json!("9")).is_some());
    answers.map(Message::word).next().unwrap_or_default().to_owned()
}

fn join(world: &mut World, client: ClientId, topic: &str, payload: &Value) -> String {
    say(world, client, topic, "phx_join", payload)
}

/// Lets time pass in which the client sends heartbeats. `false`: it was closed meanwhile.
fn live_for(world: &mut World, client: ClientId, ms: u64) -> bool {
    for _ in 0..ms / 100 {
        world.say(client, r#"[null,"h","phoenix","heartbeat",{}]"#);
        world.advance_ms(100);
    }
    world.client(client).ended.is_none() && !world.client(client).half_closed
}

fn strangers_closed(world: &World) -> u64 {
    world.count(|metrics| metrics.closes[CloseReason::Unauthorized.index()].value())
}

#[test]
fn heartbeats_do_not_keep_who_never_joins() {
    let mut world = World::new(with_tokens());
    let ann = world.socket("");
    assert!(live_for(&mut world, ann, 9_900));
    assert!(!live_for(&mut world, ann, 300));
    assert_eq!(world.client(ann).close_frame(), Some((1008, "unauthorized".into())));
    assert_eq!(strangers_closed(&world), 1);
}

#[test]
fn a_refused_join_does_not_stop_the_clock() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket("");
        let topic = format!("room:{name}");
        assert!(live_for(&mut world, ann, 9_800));
        for payload in [json!({}), json!({"token": "nonsense"}), json!({"token": token_for("room:other-*")})]
        {
            assert_eq!(join(&mut world, ann, &topic, &payload), "error");
        }
        assert!(!live_for(&mut world, ann, 400));
        assert_eq!(world.client(ann).close_frame(), Some((1008, "unauthorized".into())));
    });
}

#[test]
fn the_clock_runs_again_when_the_last_topic_has_ended() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket("");
        let (room, game) = (format!("room:{name}"), format!("game:{name}"));
        assert!(live_for(&mut world, ann, 9_800));
        assert_eq!(join(&mut world, ann, &room, &json!({"token": token_for("room:*")})), "ok");
        assert!(live_for(&mut world, ann, 30_000));
        assert_eq!(join(&mut world, ann, &game, &json!({"token": token_for("game:*")})), "ok");
        assert_eq!(say(&mut world, ann, &room, "phx_leave", &json!({})), "ok");
        assert!(live_for(&mut world, ann, 30_000), "one topic is left");
        // A second join that is refused ends the first one.
        assert_eq!(join(&mut world, ann, &game, &json!({})), "error");
        assert!(live_for(&mut world, ann, 9_800));
        assert_eq!(join(&mut world, ann, &game, &json!({"token": token_for("game:*")})), "ok");
        assert!(live_for(&mut world, ann, 30_000));
        assert_eq!(say(&mut world, ann, &game, "phx_leave", &json!({})), "ok");
        assert!(live_for(&mut world, ann, 9_800));
        assert!(!live_for(&mut world, ann, 400));
        assert_eq!(world.client(ann).close_frame(), Some((1008, "unauthorized".into())));
    });
}

#[test]
fn who_loses_its_topics_to_the_relay_has_the_whole_time_again() {
    let mut world =
        World::new(Settings { placement: corelay::shard::placement::Placement::known(2), ..with_tokens() });
    let topic = format!("room:{}", world.name_on(1));
    let granted = json!({"token": token_for("room:*")});
    let (ann, bob) = (world.socket(""), world.socket(""));
    assert_eq!(join(&mut world, ann, &topic, &granted), "ok");
    // A join that its token grants is no stranger's, even if it is refused then.
    assert!(live_for(&mut world, bob, 9_000) && live_for(&mut world, ann, 100));
    world.full_mailbox = Some(1);
    assert_eq!(join(&mut world, bob, &topic, &granted), "error");
    world.end_shard(1);
    for client in [ann, bob] {
        world.client(client).frames();
    }
    for _ in 0..98 {
        assert!(live_for(&mut world, ann, 100) && live_for(&mut world, bob, 0));
        world.say(bob, r#"[null,"h","phoenix","heartbeat",{}]"#);
    }
    world.advance_ms(400);
    for client in [ann, bob] {
        assert_eq!(world.client(client).close_frame(), Some((1008, "unauthorized".into())));
    }
}

#[test]
fn a_token_of_the_connection_is_enough_and_so_is_a_relay_without_a_key() {
    let mut world = World::new(with_tokens());
    let ann = world.socket(&format!("&token={}", token_for("room:a")));
    assert!(live_for(&mut world, ann, 60_000));
    let mut world = World::new(Settings::default());
    let guest = world.socket("");
    assert!(live_for(&mut world, guest, 60_000));
}

#[test]
fn a_player_on_play_need_not_join_anything() {
    let mut world = World::new(with_tokens());
    let ann = world.join(&format!("/play/arena?token={}", token_for("game:*")));
    assert!(live_for(&mut world, ann, 60_000), "its token grants no topic, and it speaks Phoenix");
    assert_eq!(strangers_closed(&world), 0);
}

#[test]
fn an_operator_may_want_a_token_with_every_upgrade() {
    let clients = ClientRules { socket_token_required: true, ..ClientRules::default() };
    let mut world = World::new(Settings { clients, ..with_tokens() });
    let stranger = world.request("/socket/websocket?vsn=2.0.0");
    let (status, text) = world.client(stranger).response();
    assert!(status == 403 && text.contains("a token is required"), "{text}");
    assert_eq!(world.count(|metrics| metrics.refusals[RefusalReason::Token.index()].value()), 1);
    let ann = world.socket(&format!("&token={}", token_for("room:a")));
    assert_eq!(join(&mut world, ann, "room:a", &json!({})), "ok");
}
