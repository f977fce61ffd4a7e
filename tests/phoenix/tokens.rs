//! Tokens of Phoenix clients (PROTOCOL 2): of the connection, of a join, expired.

use crate::world::client::{GameUpdate, Message, game_state, move_to};
use crate::world::tokens::{OTHER_SECRET, SECRET, join, signed, token_for, unauthorized, with_tokens};
use crate::world::{STARTED_AT_S, World, near_and_far};
use corelay::reasons::JoinRefusal;
use corelay::room::game::GameRules;
use corelay::shard::peer::Order;
use corelay::shard::settings::Settings;
use corelay::wire::token::{Algorithm, Claims, Verifier};
use serde_json::{Value, json};

#[test]
fn the_token_of_the_connection_says_who_it_is_and_what_it_may_join() {
    near_and_far(with_tokens, |mut world, name| {
        let token =
            signed(SECRET, "u-1", &["room:*", "game:arena-*"], |claims| claims.name = Some("Ann".into()));
        let ann = world.socket(&format!("&name=Eve&token={token}"));
        let (ok, response) = join(&mut world, ann, &format!("room:{name}"), &json!({"name": "Eve"}));
        assert_eq!((ok, &response["user_id"]), (true, &json!("u-1")));
        assert!(join(&mut world, ann, "game:arena-1", &json!({})).0);
        assert_eq!(join(&mut world, ann, "game:lobby", &json!({})), unauthorized());
        world.advance_ms(60);
        let bob = world.socket(&format!("&token={}", token_for("u-2", &["room:*"])));
        world.say(bob, &format!(r#"["1","1","room:{name}","phx_join",{{}}]"#));
        world.advance_ms(60);
        let messages = world.client(bob).messages();
        let state = messages[1].told("presence_state").unwrap();
        assert_eq!(state["u-1"]["metas"][0]["name"], "Ann", "the token's name, not the client's");
        let diff = messages.last().unwrap().told("presence_diff").unwrap();
        assert_eq!(diff["joins"]["u-2"]["metas"][0]["name"], "u-2");
        let refused = JoinRefusal::Unauthorized.index();
        assert_eq!(world.count(|metrics| metrics.joins_refused[refused].value()), 1);
    });
}

#[test]
fn a_token_that_is_none_is_refused_before_the_upgrade() {
    let mut world = World::new(with_tokens());
    for token in [
        signed(OTHER_SECRET, "u-1", &["room:*"], |_| {}),
        signed(SECRET, "u-1", &["room:*"], |claims| claims.expires_at_s = STARTED_AT_S),
        "nonsense".into(),
    ] {
        let client = world.request(&format!("/socket/websocket?vsn=2.0.0&token={token}"));
        let (status, text) = world.client(client).response();
        assert!(status == 403 && !text.contains(&token), "{text}");
    }
}

#[test]
fn the_token_of_a_join_grants_its_topic_only() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket("");
        let room = format!("room:{name}");
        assert_eq!(join(&mut world, ann, &room, &json!({})), unauthorized());
        let token = token_for("u-1", &[&room]);
        assert_eq!(join(&mut world, ann, "room:other", &json!({ "token": token })), unauthorized());
        assert_eq!(
            join(&mut world, ann, "nope:1", &json!({ "token": token })).1["reason"],
            "unmatched topic"
        );
        let (ok, response) = join(&mut world, ann, &room, &json!({ "token": token }));
        assert_eq!((ok, &response["user_id"]), (true, &json!("u-1")));
        for token in [
            signed(OTHER_SECRET, "u-1", &["room:*"], |_| {}),
            signed(SECRET, "u-1", &["room:*"], |claims| claims.expires_at_s = STARTED_AT_S),
            "nonsense".into(),
        ] {
            assert_eq!(join(&mut world, ann, "room:third", &json!({ "token": token })), unauthorized());
        }
        let (ok, response) = join(&mut world, ann, "room:third", &json!({"token": 7}));
        assert!(!ok && response["reason"].as_str().unwrap().contains("token"), "{response}");
        // The one room is still joined. Its next join needs a token again, and ends it without one.
        let heartbeat = format!(r#"[null,"9","{room}","heartbeat",{{}}]"#);
        world.say(ann, &heartbeat);
        assert_eq!(world.client(ann).messages()[0].word(), "ok");
        assert_eq!(join(&mut world, ann, &room, &json!({})), unauthorized());
        world.client(ann).frames();
        world.say(ann, &heartbeat);
        assert_eq!(world.client(ann).messages()[0].word(), "error", "unmatched");
    });
}

#[test]
fn the_token_of_a_join_is_for_topics_that_the_connections_does_not_grant() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket(&format!("&token={}", token_for("u-1", &["room:a*"])));
        let other = token_for("u-2", &["room:*"]);
        let (ok, response) = join(&mut world, ann, &format!("room:b-{name}"), &json!({ "token": other }));
        assert_eq!((ok, &response["user_id"]), (true, &json!("u-2")));
        // The connection's own token comes first.
        let (_, response) = join(&mut world, ann, "room:a", &json!({ "token": other }));
        assert_eq!(response["user_id"], "u-1");
        let useless = token_for("u-2", &["game:*"]);
        let (_, response) = join(&mut world, ann, "room:ab", &json!({ "token": useless }));
        assert_eq!(response["user_id"], "u-1");
        assert_eq!(join(&mut world, ann, "room:c", &json!({ "token": useless })), unauthorized());
    });
}

#[test]
fn a_connection_ends_with_the_first_of_its_tokens() {
    near_and_far(with_tokens, |mut world, name| {
        let until = |seconds: u64| move |claims: &mut Claims| claims.expires_at_s = STARTED_AT_S + seconds;
        let ann = world.socket(&format!("&token={}", signed(SECRET, "u-1", &["room:*"], until(10))));
        let bob = world.socket("");
        let payload = json!({"token": signed(SECRET, "u-2", &["room:*"], until(5))});
        assert!(join(&mut world, ann, &format!("room:{name}"), &json!({})).0);
        assert!(join(&mut world, bob, &format!("room:{name}"), &payload).0);
        world.advance_ms(4_900);
        world.client(bob).frames();
        world.advance_ms(300);
        assert_eq!(world.client(bob).close_frame(), Some((1008, "expired".into())));
        world.client(ann).frames();
        world.advance_ms(4_700);
        assert_eq!(world.client(ann).messages(), []);
        world.advance_ms(400);
        assert_eq!(world.client(ann).close_frame(), Some((1008, "expired".into())));
    });
}

#[test]
fn every_join_is_checked_with_the_keys_of_its_time() {
    near_and_far(with_tokens, |mut world, name| {
        let old = token_for("u-1", &["room:*"]);
        let ann = world.socket("");
        let room = format!("room:{name}");
        assert!(join(&mut world, ann, &room, &json!({ "token": old })).0);
        let verifier = Verifier::new(Algorithm::Hs256, OTHER_SECRET).expect("a good secret");
        world.tell_shards(&Order::Keys(verifier.into()));
        assert_eq!(join(&mut world, ann, "room:b", &json!({ "token": old })), unauthorized());
        let new = signed(OTHER_SECRET, "u-1", &["room:*"], |_| {});
        assert!(join(&mut world, ann, "room:b", &json!({ "token": new })).0);
        world.say(ann, &format!(r#"[null,"9","{room}","heartbeat",{{}}]"#));
        assert_eq!(world.client(ann).messages()[0].word(), "ok", "what is joined stays");
    });
}

#[test]
fn the_token_of_the_connection_runs_out_for_joins_too() {
    near_and_far(with_tokens, |mut world, name| {
        let token = signed(SECRET, "u-1", &["room:*"], |claims| claims.expires_at_s = STARTED_AT_S + 5);
        let ann = world.socket(&format!("&token={token}"));
        world.now.unix_us = (STARTED_AT_S + 6) * 1_000_000;
        assert_eq!(join(&mut world, ann, &format!("room:{name}"), &json!({})), unauthorized());
    });
}

#[test]
fn a_seat_is_its_users_whatever_token_of_resumption_is_shown() {
    near_and_far(with_tokens, |mut world, name| {
        let topic = format!("game:{name}");
        let ann = world.socket(&format!("&token={}", token_for("u-1", &["game:*"])));
        let (_, response) = join(&mut world, ann, &topic, &json!({}));
        let resume = json!({"resume_token": response["resume_token"]});
        world.hang_up(ann);
        let resumed = |world: &mut World, user: &str| {
            let client = world.socket(&format!("&token={}", token_for(user, &["game:*"])));
            join(world, client, &topic, &resume).1["resumed"].clone()
        };
        assert_eq!(resumed(&mut world, "u-2"), false);
        assert_eq!(resumed(&mut world, "u-1"), true);
        // A room's token does not help into a game.
        let bob = world.socket(&format!("&token={}", token_for("u-1", &["room:*"])));
        assert_eq!(join(&mut world, bob, &topic, &resume), unauthorized());
    });
}

#[test]
fn a_host_moves_others_and_nobody_else_does() {
    near_and_far(with_tokens, |mut world, name| {
        let topic = format!("game:{name}");
        let host = signed(SECRET, "host", &["game:*"], |claims| claims.host = true);
        let host = world.socket(&format!("&token={host}"));
        let id = |response: &Value| response["player_id"].as_u64().unwrap() as u32;
        let host_id = id(&join(&mut world, host, &topic, &json!({})).1);
        let ann = world.socket(&format!("&token={}", token_for("u-1", &["game:*"])));
        let ann_id = id(&join(&mut world, ann, &topic, &json!({})).1);
        let bob = world.join(&format!("/play/{name}?token={}", token_for("u-2", &["game:*"])));
        let bob_id = ann_id + 1;
        world.send(bob, &move_to(0, 9.0, 9.0));
        world.advance_ms(60);
        world.client(ann).frames();
        let positions = [(host_id, 1.0, 1.0), (ann_id, 2.0, 2.0), (bob_id, 3.0, 3.0)];
        world.send(ann, &game_state(["1", "9", &topic], &positions[1..], &[]));
        let refused = world.client(ann).messages();
        assert!(matches!(&refused[..], [Message::Reply { ok: false, response, .. }]
            if response["reason"].as_str().unwrap().contains("host")));
        world.advance_ms(60);
        world.client(ann).frames();
        world.send(host, &game_state(["1", "9", &topic], &positions, &[]));
        world.advance_ms(60);
        let heard = world.client(ann).messages();
        let [Message::Update(GameUpdate { positions: told, .. })] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(told[..], positions);
        world.client(host).frames();
        world.send(host, &game_state(["1", "9", &topic], &[(99, 0.0, 0.0)], &[]));
        let refused = world.client(host).messages();
        assert_eq!(refused[0].answer(&json!("9")).map(|(ok, _)| ok), Some(false));
    });
}

#[test]
fn a_user_is_kicked_from_every_shard_and_may_come_back() {
    near_and_far(with_tokens, |mut world, name| {
        let token = token_for("u-1", &["*"]);
        let last = world.metrics.len() - 1;
        let clients =
            [world.socket(&format!("&token={token}")), world.socket_on(last, &format!("&token={token}"))];
        for client in clients {
            assert!(join(&mut world, client, &format!("room:{name}"), &json!({})).0);
        }
        let by_join = world.socket("");
        assert!(join(&mut world, by_join, &format!("game:{name}"), &json!({ "token": token })).0);
        let player = world.join(&format!("/play/{name}?token={token}"));
        let bob = world.socket(&format!("&token={}", token_for("u-2", &["room:*"])));
        assert!(join(&mut world, bob, &format!("room:{name}"), &json!({})).0);
        world.advance_ms(100);
        world.client(bob).frames();
        assert_eq!(world.kick("u-1"), (world.metrics.len() as u32, 4));
        for client in [clients[0], clients[1], by_join, player] {
            assert_eq!(world.client(client).close_frame(), Some((1001, "kicked".into())));
        }
        world.advance_ms(100);
        let heard = world.client(bob).messages();
        let left: Vec<&Value> = heard
            .iter()
            .filter_map(|message| message.told("user_disconnected"))
            .map(|left| &left["reason"])
            .collect();
        assert_eq!(left, ["kicked", "kicked"]);
        assert_eq!(world.count(|metrics| metrics.seats.value()), 0);
        let again = world.socket(&format!("&token={token}"));
        assert!(join(&mut world, again, &format!("room:{name}"), &json!({})).0);
    });
}

#[test]
fn the_token_of_a_player_grants_its_rooms_as_well() {
    near_and_far(with_tokens, |mut world, name| {
        let token = token_for("u-1", &["game:*", "room:*"]);
        let ann = world.join(&format!("/play/arena?token={token}"));
        let (ok, response) = join(&mut world, ann, &format!("room:{name}"), &json!({}));
        assert_eq!((ok, &response["user_id"]), (true, &json!("u-1")));
    });
}

#[test]
fn a_user_on_two_devices_is_one_user_with_two_metas_and_one_limit() {
    near_and_far(with_tokens, |mut world, name| {
        let token = token_for("u-1", &["room:*"]);
        let room = format!("room:{name}");
        let last = world.metrics.len() - 1;
        let devices =
            [world.socket(&format!("&token={token}")), world.socket_on(last, &format!("&token={token}"))];
        for client in devices {
            assert!(join(&mut world, client, &room, &json!({})).0);
        }
        world.advance_ms(60);
        let bob = world.socket(&format!("&token={}", token_for("u-2", &["room:*"])));
        world.say(bob, &format!(r#"["1","1","{room}","phx_join",{{}}]"#));
        let messages = world.client(bob).messages();
        let state = messages[1].told("presence_state").unwrap();
        assert_eq!(state["u-1"]["metas"].as_array().unwrap().len(), 2);
        assert_eq!(messages[2].told("room_state").unwrap()["users"].as_array().unwrap().len(), 2);

        let mut speak = |number: usize, client_id: &str| {
            let client = devices[number % 2];
            let payload = json!({"body": "b", "client_id": client_id});
            world.say(client, &format!(r#"[null,"9","{room}","new_message",{payload}]"#));
            let messages = world.client(client).messages();
            let (ok, response) = messages.iter().find_map(|message| message.answer(&json!("9"))).unwrap();
            (ok, response.clone())
        };
        let (_, first) = speak(0, "c0");
        assert_eq!(speak(1, "c0"), (true, first), "the other device sends it again");
        for number in 1..10 {
            assert!(speak(number, &format!("c{number}")).0);
        }
        for device in 0..2 {
            assert_eq!(speak(device, "c10").1["reason"], "rate_limited");
        }
        world.hang_up(devices[0]);
        world.advance_ms(100);
        let heard = world.client(bob).messages();
        let left: Vec<&Value> = heard
            .iter()
            .filter_map(|message| message.told("user_disconnected"))
            .map(|left| &left["online_count"])
            .collect();
        assert_eq!(left, [2], "the user is still there");
    });
}

#[test]
fn a_connection_is_kicked_for_any_user_that_it_has_joined_as() {
    near_and_far(with_tokens, |mut world, name| {
        let ann = world.socket("");
        for (topic, user) in [(format!("room:{name}"), "u-1"), ("room:b".into(), "u-2")] {
            let payload = json!({"token": token_for(user, &["room:*"])});
            assert!(join(&mut world, ann, &topic, &payload).0);
        }
        assert_eq!(world.kick("u-1").1, 1, "it is u-1 in one of its topics");
    });
}

#[test]
fn a_join_that_its_topic_refuses_does_not_end_the_connection_with_its_token() {
    let one_seat = || {
        let rules = GameRules { players_max: 1, ..GameRules::default() };
        Settings { games: vec![rules], ..with_tokens() }
    };
    near_and_far(one_seat, |mut world, name| {
        let game = format!("game:{name}");
        let until = |seconds: u64| move |claims: &mut Claims| claims.expires_at_s = STARTED_AT_S + seconds;
        let ann = world.socket(&format!("&token={}", token_for("u-1", &["*"])));
        assert!(join(&mut world, ann, &game, &json!({})).0);
        let bob = world.socket(&format!("&token={}", token_for("u-2", &["room:*"])));
        let brief = signed(SECRET, "u-2", &["game:*"], until(5));
        let (ok, response) = join(&mut world, bob, &game, &json!({ "token": brief }));
        assert!(!ok && response["reason"].as_str().unwrap().contains("seats taken"), "{response}");
        world.advance_ms(6_000);
        assert!(join(&mut world, bob, "room:a", &json!({})).0, "it goes on with its own token");
        // The end of a token counts once its join is accepted.
        let brief = signed(SECRET, "u-2", &["room:b"], until(10));
        let carl = world.socket(&format!("&token={}", token_for("u-2", &["room:a"])));
        assert!(join(&mut world, carl, "room:b", &json!({ "token": brief })).0);
        world.advance_ms(4_200);
        assert_eq!(world.client(carl).close_frame(), Some((1008, "expired".into())));
        world.say(bob, r#"[null,"9","room:a","heartbeat",{}]"#);
        assert_eq!(world.client(bob).messages().last().map(Message::word), Some("ok"));
    });
}

#[test]
fn with_a_key_nobody_is_who_it_says() {
    near_and_far(with_tokens, |mut world, name| {
        let topic = format!("room:{name}");
        let stranger = world.socket("&user=ann");
        assert_eq!(join(&mut world, stranger, &topic, &json!({})), unauthorized());
        let eve = world.socket(&format!("&user=ann&token={}", token_for("eve", &["room:*"])));
        assert_eq!(join(&mut world, eve, &topic, &json!({})).1["user_id"], "eve");
        assert_eq!(world.kick("ann").1, 0, "neither of them is known as ann");
    });
}
