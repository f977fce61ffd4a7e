//! Seats of Phoenix players, beside native ones: held, taken again, freed; recovery; slow readers.

use std::time::Duration;

use crate::world::client::{
    ClientId, Frame, Message, PresenceList, Record, close, event, move_to, put_object, remove_object,
};
use crate::world::games::{join, native, object, player, player_of, push, refusal, told, updates, words};
use crate::world::{STARTED_AT_S, World, near_and_far};
use corelay::reasons::CloseReason;
use corelay::room::game::GameRules;
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::{Value, json};

// ── Seats ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Who is there, as a Phoenix player knows it.
fn listen(world: &mut World, client: ClientId, list: &mut PresenceList) -> Vec<Message> {
    let messages = world.client(client).messages();
    messages.iter().for_each(|message| list.hear(message));
    messages
}

#[test]
fn the_seat_of_a_lost_player_is_held_as_away_whatever_it_speaks() {
    near_and_far(Settings::default, |mut world, name| {
        let watcher = world.socket("");
        let mut list = PresenceList::default();
        let (_, messages) = join(&mut world, watcher, name, &json!({}));
        messages.iter().for_each(|message| list.hear(message));
        let (bob, bob_id, bob_token) = native(&mut world, name);
        let ann = player(&mut world, name);
        push(&mut world, ann.client, name, "move", &json!({"x": 1, "y": 2}));
        world.send(bob, &move_to(0, 3.0, 4.0));
        world.advance_ms(60);
        listen(&mut world, watcher, &mut list);
        let user_of = |list: &PresenceList, id: u32| {
            let found = list.metas.iter().find(|(_, metas)| metas[0]["player_id"] == id);
            found.map(|(user, _)| user.clone()).unwrap()
        };
        let (user_of_ann, user_of_bob) = (user_of(&list, ann.id), user_of(&list, bob_id));

        world.hang_up(ann.client);
        world.hang_up(bob);
        world.advance_ms(60);
        let heard = listen(&mut world, watcher, &mut list);
        assert_eq!(words(&heard), ["presence_diff"], "they have not left");
        assert_eq!(list.statuses(&user_of_ann), ["away"]);
        assert_eq!(list.statuses(&user_of_bob), ["away"]);
        assert_eq!(world.count(|metrics| metrics.seats_held.value()), 2);

        // They come back, each in the other's dialect.
        world.advance_ms(10_000);
        let again = world.request(&format!("/play/{name}?resume={}&seq=0", ann.token));
        let welcome = world.client(again).upgraded();
        assert_eq!((welcome.player_id, welcome.flags & 1), (ann.id, 1));
        let socket = world.socket("");
        let (response, messages) = join(&mut world, socket, name, &json!({"resume_token": bob_token}));
        assert_eq!((&response["player_id"], &response["resumed"]), (&json!(bob_id), &json!(true)));
        assert_eq!(response["user_id"], user_of_bob);
        assert_ne!(response["resume_token"], bob_token);
        assert_eq!(updates(messages)[0].positions, [(bob_id, 3.0, 4.0), (ann.id, 1.0, 2.0)]);
        world.advance_ms(60);
        let heard = listen(&mut world, watcher, &mut list);
        assert_eq!(words(&heard), ["presence_diff"]);
        assert_eq!(list.statuses(&user_of_ann), ["online"]);
        assert_eq!(list.statuses(&user_of_bob), ["online"]);
        assert_eq!(world.count(|metrics| metrics.resumes.value()), 2);
        assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
        assert_eq!(world.count(|metrics| metrics.seats.value()), 3);

        // They play on.
        push(&mut world, socket, name, "move", &json!({"x": 7, "y": 7}));
        world.send(again, &move_to(0, 8.0, 8.0));
        world.advance_ms(60);
        let seen = updates(listen(&mut world, watcher, &mut list));
        assert_eq!(seen[0].positions, [(bob_id, 7.0, 7.0), (ann.id, 8.0, 8.0)]);
    });
}

#[test]
fn a_seat_is_held_for_fifteen_seconds() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, _, _) = native(&mut world, name);
        let watcher = player(&mut world, name);
        let ann = player(&mut world, name);
        push(&mut world, ann.client, name, "move", &json!({"x": 1, "y": 2}));
        world.advance_ms(60);
        let keep_alive =
            |world: &mut World| world.send_raw(bob, &crate::world::client::masked_frame(0x8A, b""));
        world.hang_up(ann.client);
        for _ in 0..14 {
            world.advance_ms(1_000);
            keep_alive(&mut world);
        }
        world.client(watcher.client).frames();
        world.client(bob).frames();
        world.advance_ms(900);
        assert_eq!(world.client(watcher.client).frames(), []);
        world.advance_ms(300);
        let heard = world.client(watcher.client).messages();
        assert_eq!(told(&heard, "user_disconnected")[0]["reason"], "timeout");
        assert_eq!(told(&heard, "players_removed"), [json!({"ids": [ann.id]})]);
        let records = world.client(bob).records();
        assert!(
            records
                .iter()
                .any(|record| matches!(record, Record::Roster { left, .. } if left[..] == [(ann.id, 1)])),
            "{records:?}"
        );
        let socket = world.socket("");
        let (response, _) = join(&mut world, socket, name, &json!({"resume_token": ann.token}));
        assert_eq!(response["resumed"], false, "too late: it is a new player");
        assert_ne!(response["player_id"], ann.id);
    });
}

#[test]
fn a_seat_taken_again_replaces_whoever_still_has_it() {
    near_and_far(Settings::default, |mut world, name| {
        let watcher = player(&mut world, name);
        let ann = player(&mut world, name);
        // The seat is taken by another socket: the first has no other topic, so its connection goes as well.
        let socket = world.socket("");
        let (response, _) = join(&mut world, socket, name, &json!({"resume_token": ann.token}));
        assert_eq!((&response["resumed"], &response["player_id"]), (&json!(true), &json!(ann.id)));
        let mut frames = world.client(ann.client).frames();
        assert_eq!(frames.pop(), Some(Frame::Close(Some((1001, "replaced".into())))));
        let closed = Message::Told {
            join_ref: json!("1"),
            topic: format!("game:{name}"),
            event: "phx_close".into(),
            payload: json!({}),
        };
        let Some(Frame::Text(text)) = frames.pop() else { panic!("{frames:?}") };
        assert_eq!(Message::parse(&text), closed);

        // The seat is taken by a native player; the socket is in a room as well, and stays there.
        world.say(socket, r#"["2","2","room:other","phx_join",{}]"#);
        world.client(socket).frames();
        let token = response["resume_token"].as_str().unwrap();
        let bob = world.request(&format!("/play/{name}?resume={token}"));
        let welcome = world.client(bob).upgraded();
        assert_eq!((welcome.player_id, welcome.flags & 1), (ann.id, 1));
        let heard = world.client(socket).messages();
        assert_eq!(heard, [closed]);
        world.say(socket, r#"["2","3","room:other","heartbeat",{}]"#);
        assert_eq!(world.client(socket).messages()[0].word(), "ok");

        // The seat is taken from the native player by a socket.
        let last = world.socket("");
        let (response, _) = join(&mut world, last, name, &json!({"resume_token": welcome.resume_token}));
        assert_eq!((&response["resumed"], &response["player_id"]), (&json!(true), &json!(ann.id)));
        assert_eq!(world.client(bob).close_frame(), Some((1001, "replaced".into())));
        world.advance_ms(200);
        let heard = world.client(watcher.client).messages();
        assert_eq!(told(&heard, "user_disconnected"), [Value::Null; 0], "nobody has left");
        assert_eq!(world.count(|metrics| metrics.seats.value()), 2);
        // Its end frees the seat that it has, not the one that others have had.
        world.hang_up(ann.client);
        world.hang_up(bob);
        world.advance_ms(20_000);
        assert_eq!(world.count(|metrics| metrics.seats.value()), 2);
    });
}

#[test]
fn every_deliberate_end_frees_the_seat() {
    near_and_far(Settings::default, |mut world, name| {
        for end in 0..4 {
            let ann = player(&mut world, name);
            assert_eq!(world.count(|metrics| metrics.seats.value()), 1);
            match end {
                0 => world.say(ann.client, &format!(r#"["1","2","game:{name}","phx_leave",{{}}]"#)),
                1 => world.send_raw(ann.client, &close(1001, "")),
                2 => world.send_raw(ann.client, &[0xFF, 0x80, 0, 0, 0, 0]),
                _ => world.say(ann.client, "nonsense"),
            }
            assert_eq!(world.count(|metrics| metrics.seats.value()), 0, "end {end}");
            assert_eq!(world.count(|metrics| metrics.games.value()), 0);
        }
    });
}

#[test]
fn a_game_joined_twice_by_one_connection_has_one_seat() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = player(&mut world, name);
        world.say(ann.client, &format!(r#"["5","6","game:{name}","phx_join",{{}}]"#));
        let messages = world.client(ann.client).messages();
        assert_eq!(words(&messages)[..2], ["ok", "phx_close"]);
        assert_eq!(world.count(|metrics| metrics.seats.value()), 1);
        world.advance_ms(200);
        world.client(ann.client).frames();
        world.say(ann.client, &format!(r#"["5","7","game:{name}","move",{{"x":1,"y":1}}]"#));
        world.advance_ms(60);
        assert_eq!(updates(world.client(ann.client).messages()).len(), 1);
    });
}

#[test]
fn a_second_join_that_does_not_take_its_seat_again_frees_it() {
    let rules = || GameRules { players_max: 2, ..GameRules::default() };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let watcher = player(&mut world, name);
            let ann = player(&mut world, name);
            world.client(watcher.client).frames();
            let strange = "0".repeat(32);
            for number in 0..30 {
                let payload = json!({ "resume_token": strange });
                world.say(ann.client, &format!(r#"["{number}","9","game:{name}","phx_join",{payload}]"#));
                let messages = world.client(ann.client).messages();
                let (ok, response) = messages[0].answer(&json!("9")).expect("an answer");
                assert!(ok && response["resumed"] == false, "join {number}: {response}");
                assert_eq!(world.count(|metrics| metrics.seats.value()), 2, "join {number}");
                assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
            }
            let left = told(&world.client(watcher.client).messages(), "user_disconnected");
            assert_eq!((left.len(), &left[0]["reason"]), (30, &json!("left")));
            // Two in one segment: the first is not answered when the second comes.
            let join = |number: u32| {
                format!(r#"["{number}","9","game:{name}","phx_join",{{"resume_token":"{strange}"}}]"#)
            };
            world.say_at_once(ann.client, &[&join(40), &join(41)]);
            assert_eq!(words(&world.client(ann.client).messages())[0], "ok");
            assert_eq!(world.count(|metrics| metrics.seats.value()), 2);
            world.hang_up(ann.client);
            assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1, "of who is lost");
        },
    );
}

#[test]
fn a_second_join_with_the_token_of_its_seat_keeps_it_even_where_none_is_held() {
    let rules = || GameRules { seat_hold: Duration::ZERO, ..GameRules::default() };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let watcher = player(&mut world, name);
            let ann = player(&mut world, name);
            push(&mut world, ann.client, name, "move", &json!({"x": 1, "y": 2}));
            world.advance_ms(100);
            world.client(watcher.client).frames();
            world.client(ann.client).frames();
            let payload = json!({ "resume_token": ann.token });
            world.say(ann.client, &format!(r#"["2","9","game:{name}","phx_join",{payload}]"#));
            let messages = world.client(ann.client).messages();
            let (_, response) = messages[0].answer(&json!("9")).expect("an answer");
            assert_eq!((&response["resumed"], &response["player_id"]), (&json!(true), &json!(ann.id)));
            assert_eq!(words(&messages)[..2], ["ok", "phx_close"]);
            assert_eq!(messages.iter().filter(|message| message.word() == "phx_close").count(), 1);
            world.advance_ms(100);
            let heard = world.client(watcher.client).messages();
            assert_eq!(told(&heard, "user_disconnected").len() + told(&heard, "players_removed").len(), 0);
            assert_eq!(world.count(|metrics| metrics.seats.value()), 2);
            world.say(ann.client, &format!(r#"["2","9","game:{name}","phx_leave",{{}}]"#));
            assert_eq!(world.count(|metrics| metrics.seats.value()), 1);
        },
    );
}

#[test]
fn a_full_game_refuses_and_a_resume_needs_no_place() {
    let rules = || GameRules { players_max: 2, ..GameRules::default() };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let ann = player(&mut world, name);
            let _bob = native(&mut world, name);
            let cid = world.socket("");
            world.say(cid, &format!(r#"["1","9","game:{name}","phx_join",{{}}]"#));
            assert!(refusal(&world.client(cid).messages()).contains("2 seats"));
            assert_eq!(world.count(|metrics| metrics.channels.value()), 1);
            let (response, _) = join(&mut world, cid, name, &json!({"resume_token": ann.token}));
            assert_eq!(response["resumed"], true);
            let eve = world.request(&format!("/play/{name}"));
            assert_eq!(world.client(eve).response().0, 503);
        },
    );
}

#[test]
fn one_connection_plays_several_games() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = player(&mut world, name);
        let topics = [name, "other", "third"];
        for (index, other) in topics.iter().enumerate().skip(1) {
            world.say(ann.client, &format!(r#"["{index}g","{index}","game:{other}","phx_join",{{}}]"#));
        }
        world.advance_ms(200);
        world.client(ann.client).frames();
        for step in 0..10 {
            for other in topics {
                world.say(ann.client, &format!(r#"[null,null,"game:{other}","move",{{"x":{step},"y":1}}]"#));
            }
            world.advance_ms(100);
        }
        let seen = updates(world.client(ann.client).messages());
        for other in topics {
            let of_game: Vec<f32> = seen
                .iter()
                .filter(|update| update.topic == format!("game:{other}"))
                .map(|update| update.positions[0].1)
                .collect();
            assert_eq!(of_game, (0..10_u8).map(f32::from).collect::<Vec<_>>(), "{other}");
        }
    });
}

#[test]
fn what_went_while_a_client_was_away_is_named_to_nobody_and_in_no_state() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        let (eve, eve_id, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        for number in [1, 2] {
            world.send(bob, &put_object(number, 7, 1, 1.5, 2.5));
        }
        world.send(bob, &move_to(0, 1.5, 2.5));
        world.send(eve, &move_to(0, 3.5, 4.5));
        world.advance_ms(100);
        let seen = updates(world.client(ann.client).messages());
        assert_eq!((seen[0].positions.len(), seen[0].objects.len()), (2, 2));
        world.hang_up(ann.client);
        world.send(bob, &remove_object(1));
        world.send_raw(eve, &close(1000, ""));
        world.advance_ms(200);

        // Whoever forgets at the ok knows what a newcomer knows; whoever does not would keep the two that went.
        let socket = world.socket("");
        let (response, mut messages) = join(&mut world, socket, name, &json!({"resume_token": ann.token}));
        assert_eq!((&response["resumed"], &response["player_id"]), (&json!(true), &json!(ann.id)));
        world.advance_ms(500);
        messages.extend(world.client(socket).messages());
        assert_eq!(told(&messages, "objects_removed").len() + told(&messages, "players_removed").len(), 0);
        let states = updates(messages);
        assert_eq!(states.len(), 1, "one whole state");
        let ids: Vec<u32> = states[0].positions.iter().map(|(id, _, _)| *id).collect();
        assert!(ids == [bob_id] && !ids.contains(&eve_id), "{ids:?}");
        let objects: Vec<u32> = states[0].objects.iter().map(|object| object.id).collect();
        assert_eq!(objects, [2]);
    });
}

// ── Recovery and slow readers ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn who_comes_back_catches_up_with_the_events_meant_for_it() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, _, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        let socket = world.socket("");
        let (cid, _) = join(&mut world, socket, name, &json!({}));
        let cid = player_of(socket, &cid);
        world.hang_up(ann.client);
        world.send(bob, &event(0, 1, 0, b"\x01"));
        world.send(bob, &event(2, 2, cid.id, b"\x02"));
        world.send(bob, &event(2, 3, ann.id, b"\x03"));
        push(&mut world, cid.client, name, "game_event", &json!({"code": 4, "payload": 4}));
        let socket = world.socket("");
        let (response, messages) = {
            let peek = world.socket("");
            let (response, _) = join(&mut world, peek, name, &json!({}));
            let epoch = &response["epoch"];
            let payload = json!({"resume_token": ann.token, "resume": {"epoch": epoch, "seq": 0}});
            join(&mut world, socket, name, &payload)
        };
        assert_eq!(response["seq"], 4);
        assert_eq!(words(&messages), ["presence_state", "catch_up", "game_update"]);
        let caught = &told(&messages, "catch_up")[0];
        let events: Vec<(&Value, &Value, &Value)> = caught["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| (&event["event"], &event["seq"], &event["payload"]["code"]))
            .collect();
        let expected =
            [(1, 1), (3, 3), (4, 4)].map(|(seq, code)| (json!("game_event"), json!(seq), json!(code)));
        assert_eq!(events, expected.each_ref().map(|(event, seq, code)| (event, seq, code)));
        assert_eq!((&caught["recovered"], &caught["seq"]), (&json!(true), &json!(4)));
        world.advance_ms(100);
        world.client(socket).frames();

        for (last_seen, why) in [
            (json!({"epoch": response["epoch"], "seq": 5}), "ahead"),
            (json!({"epoch": "1", "seq": 1}), "epoch"),
            (json!(STARTED_AT_S * 1000), "epoch"),
        ] {
            let mut messages =
                push(&mut world, socket, name, "reconnect", &json!({ "last_seen": last_seen }));
            assert_eq!(words(&messages), ["catch_up"]);
            world.advance_ms(60);
            messages.extend(world.client(socket).messages());
            assert_eq!(words(&messages), ["catch_up", "game_update"], "the whole state follows");
            let caught = &told(&messages, "catch_up")[0];
            assert_eq!((&caught["recovered"], &caught["reason"]), (&json!(false), &json!(why)));
        }
        let seen = json!({"last_seen": {"epoch": response["epoch"], "seq": 4}});
        assert_eq!(words(&push(&mut world, socket, name, "reconnect", &seen)), ["catch_up"]);
    });
}

#[test]
fn a_slow_reader_misses_frames_and_then_gets_the_whole_state() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        let cid = player(&mut world, name);
        world.send(bob, &put_object(1, 7, 1, 1.0, 2.0));
        world.advance_ms(60);
        world.client(ann.client).frames();
        world.set_reading(ann.client, false);
        for step in 1..=20_u8 {
            world.send(bob, &move_to(0, f32::from(step), 0.0));
            world.advance_ms(50);
        }
        assert!(world.count(|metrics| metrics.frames_skipped.value()) >= 15);
        world.client(cid.client).frames();
        world.set_reading(ann.client, true);
        world.advance_ms(110);
        let seen = updates(world.client(ann.client).messages());
        assert!(seen.len() <= 3, "{seen:?}");
        let last = seen.last().unwrap();
        assert_eq!(last.positions, [(bob_id, 20.0, 0.0)]);
        assert_eq!(last.objects, [object(1, 1.0)], "the whole state");
        assert_eq!(world.client(cid.client).frames(), [], "who has followed is not told again");
        world.send(bob, &move_to(0, 30.0, 0.0));
        world.advance_ms(60);
        let seen = updates(world.client(ann.client).messages());
        assert_eq!((&seen[0].positions[..], &seen[0].objects[..]), (&[(bob_id, 30.0, 0.0)][..], &[][..]));
    });
}

#[test]
fn a_reader_that_is_stuck_costs_no_frames() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, _, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        world.set_reading(ann.client, false);
        world.send(bob, &move_to(0, 1.0, 0.0));
        world.advance_ms(60);
        world.send(bob, &move_to(0, 2.0, 0.0));
        world.advance_ms(60);
        let encoded = world.count(|metrics| metrics.frames_encoded.value());
        for _ in 0..5 {
            world.advance_ms(1_000);
            world.send_raw(bob, &crate::world::client::masked_frame(0x8A, b""));
        }
        let idle = world.count(|metrics| metrics.frames_encoded.value()) - encoded;
        assert!(idle <= 1, "nothing changed and nobody could take it, but {idle} whole states were encoded");
    });
}

#[test]
fn who_reads_too_slowly_to_stay_is_closed_and_its_seat_is_held() {
    // Four times as much may wait for a client with topics.
    let clients = ClientRules { outbox_bytes_max: 64 * 1024, ..ClientRules::default() };
    let settings = || Settings { clients, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        let (bob, _, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        world.set_reading(ann.client, false);
        for _ in 0..30 {
            for _ in 0..10 {
                world.send(bob, &event(0, 1, 0, &[7; 1024]));
            }
            world.advance(Duration::from_millis(500));
        }
        let slow = CloseReason::Slow.index();
        assert_eq!(world.count(|metrics| metrics.closes[slow].value()), 1);
        assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1);
        assert_eq!(world.count(|metrics| metrics.channels.value()), 0);
    });
}

#[test]
fn native_players_that_come_and_go_are_told_as_users_and_metas() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        world.hang_up(bob);
        let watcher = world.socket("");
        let mut list = PresenceList::default();
        let (_, messages) = join(&mut world, watcher, name, &json!({}));
        messages.iter().for_each(|message| list.hear(message));
        let metas: Vec<&Value> = list.metas.values().flatten().collect();
        let of_bob = metas.iter().find(|meta| meta["player_id"] == bob_id).expect("a held seat is listed");
        assert_eq!(of_bob["status"], "away");
        world.advance_ms(100);
        listen(&mut world, watcher, &mut list);

        let eve = world.join(&format!("/play/{name}?name=Eve"));
        world.advance_ms(50);
        let heard = listen(&mut world, watcher, &mut list);
        let joined = told(&heard, "user_joined");
        assert_eq!((&joined[0]["user"]["name"], &joined[0]["online_count"]), (&json!("Eve"), &json!(3)));
        world.advance_ms(100);
        listen(&mut world, watcher, &mut list);
        let user = joined[0]["user"]["id"].as_str().unwrap();
        assert_eq!(list.statuses(user), ["online"]);
        world.send_raw(eve, &close(1000, ""));
        let heard = listen(&mut world, watcher, &mut list);
        assert_eq!(
            told(&heard, "user_disconnected"),
            [json!({"user_id": user, "reason": "left", "online_count": 2})]
        );
        world.advance_ms(100);
        listen(&mut world, watcher, &mut list);
        assert_eq!(list.statuses(user), [""; 0]);
    });
}
