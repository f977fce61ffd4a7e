//! Chat rooms as Phoenix clients see them: messages, limits, typing, history, recovery.

use crate::world::client::{ClientId, Message, PresenceList};
use crate::world::rooms::{answer, far_member, join, near_member, push, told, words};
use crate::world::{World, near_and_far};
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::{Value, json};

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn who_joins_speaks_and_leaves_at_once_hears_itself_before_the_reply() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let room = format!("room:{name}");
        world.say_at_once(
            ann,
            &[
                &format!(r#"["1","1","{room}","phx_join",{{}}]"#),
                &format!(r#"["1","2","{room}","new_message",{{"body":"a"}}]"#),
                &format!(r#"["1","3","{room}","phx_leave",{{}}]"#),
            ],
        );
        let heard = world.client(ann).messages();
        assert_eq!(
            words(&heard),
            ["ok", "presence_state", "room_state", "new_message", "ok", "ok", "phx_close"]
        );
        assert_eq!(heard[4].answer(&json!("2")), Some((true, &told(&heard, "new_message")[0])));
        // Whoever has gone is told nothing more.
        let bob = far_member(&mut world, "", name);
        push(&mut world, bob, name, "new_message", &json!({"body": "b"}));
        world.advance_ms(100);
        assert_eq!(world.client(ann).frames(), []);
    });
}

#[test]
fn a_message_is_answered_and_told_to_everybody_once() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        let bob = far_member(&mut world, "", name);
        let old = world.dial();
        world.send_raw(old, crate::world::client::request("/socket/websocket").as_bytes());
        world.client(old).response();
        world.say(old, &format!(r#"{{"topic":"room:{name}","event":"phx_join","payload":{{}},"ref":"1"}}"#));
        world.advance_ms(100);
        for client in [ann, bob, old] {
            world.client(client).frames();
        }
        let encoded = world.count(|metrics| metrics.broadcasts_encoded.value());
        let out = world.count(|metrics| metrics.broadcasts_out.value());
        let body = json!({"body": "hello \u{1F980}\n\"", "client_id": "c1"});
        let messages = push(&mut world, ann, name, "new_message", &body);
        let (ok, message) = answer(&messages);
        assert!(ok);
        assert_eq!(
            message,
            json!({
                "id": message["id"], "seq": 1, "body": "hello \u{1F980}\n\"", "user_id": message["user_id"], "name": "Ann",
                "inserted_at": world.now.unix_us / 1000
            })
        );
        assert_eq!(told(&messages, "new_message")[..], [message.clone()][..], "the sender included");
        let heard = world.client(bob).messages();
        assert_eq!(
            heard,
            [Message::Told {
                join_ref: Value::Null,
                topic: format!("room:{name}"),
                event: "new_message".into(),
                payload: message.clone()
            }]
        );
        assert_eq!(world.client(old).texts().len(), 1);
        assert_eq!(
            world.count(|metrics| metrics.broadcasts_encoded.value()) - encoded,
            2,
            "one a serializer"
        );
        assert_eq!(world.count(|metrics| metrics.broadcasts_out.value()) - out, 3);
        push(&mut world, ann, name, "typing", &json!({"typing": true}));
        let told = world.count(|metrics| metrics.broadcasts_out.value()) - out;
        assert_eq!(told, 3 + 2, "all but the one who types");
        assert_eq!((world.client(bob).frames().len(), world.client(old).frames().len()), (1, 1));

        // A message with the same client_id gets the first answer, and the others get nothing.
        let again = push(&mut world, ann, name, "new_message", &json!({"body": "other", "client_id": "c1"}));
        assert_eq!((answer(&again), again.len()), ((true, message), 1));
        assert_eq!(world.client(bob).frames(), []);
        // The same client_id of another user is another message.
        let (_, other) =
            answer(&push(&mut world, bob, name, "new_message", &json!({"body": "b", "client_id": "c1"})));
        assert_eq!(other["seq"], 2);
    });
}

#[test]
fn bodies_that_are_none_are_refused_in_the_words_of_the_field() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        let long = "ä".repeat(2_049);
        for (payload, field, word) in [
            (json!({}), "body", "blank"),
            (json!({"body": null}), "body", "blank"),
            (json!({"body": ""}), "body", "blank"),
            (json!({"body": " \t\n\u{a0}\u{3000}"}), "body", "blank"),
            (json!({"body": 7}), "body", "string"),
            (json!({"body": ["a"]}), "body", "string"),
            (json!({"body": long}), "body", "4096"),
            (json!([]), "body", "blank"),
            (json!({"body": "a", "client_id": 7}), "client_id", "64"),
            (json!({"body": "a", "client_id": ""}), "client_id", "64"),
            (json!({"body": "a", "client_id": "x".repeat(65)}), "client_id", "64"),
        ] {
            let messages = push(&mut world, ann, name, "new_message", &payload);
            let (ok, response) = answer(&messages);
            assert!(!ok && messages.len() == 1, "{messages:?}");
            assert!(response["errors"][field][0].as_str().unwrap().contains(word), "{payload}: {response}");
        }
        let longest = json!({"body": "ä".repeat(2_048), "client_id": "x".repeat(64)});
        assert!(answer(&push(&mut world, ann, name, "new_message", &longest)).0);
    });
}

#[test]
fn ten_messages_in_any_minute_and_the_exact_wait_for_the_next() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        let speak = |world: &mut World| answer(&push(world, ann, name, "new_message", &json!({"body": "a"})));
        for _ in 0..10 {
            assert!(speak(&mut world).0);
            world.advance_ms(1_234);
        }
        // The first message was 12,340 ms ago.
        assert_eq!(
            speak(&mut world),
            (false, json!({"reason": "rate_limited", "retry_after": 60_000 - 12_340}))
        );
        world.advance_ms(60_000 - 12_340 - 1);
        assert_eq!(speak(&mut world), (false, json!({"reason": "rate_limited", "retry_after": 1})));
        world.advance_ms(1);
        assert!(speak(&mut world).0);
        assert_eq!(speak(&mut world).1["retry_after"], 1_234);
        // Leaving and joining does not help.
        world.say(ann, &format!(r#"["1","2","room:{name}","phx_leave",{{}}]"#));
        join(&mut world, ann, name, &json!({}));
        assert_eq!(speak(&mut world).1["retry_after"], 1_234);
    });
}

#[test]
fn typing_is_told_to_the_others_and_ends_by_itself_by_a_message_or_by_leaving() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let ann = world.socket("");
        let joined = join(&mut world, ann, name, &json!({}));
        let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
        let user = response["user_id"].clone();
        let mut list = PresenceList::default();
        joined.iter().for_each(|message| list.hear(message));
        let user_id = user.as_str().unwrap();
        world.advance_ms(60);
        world.client(ann).frames();
        world.client(bob).frames();
        let mut heard_typing = |world: &mut World| {
            let heard = world.client(bob).messages();
            heard.iter().for_each(|message| list.hear(message));
            let typing: Vec<bool> = told(&heard, "user_typing")
                .iter()
                .inspect(|payload| assert_eq!(payload["user_id"], user))
                .map(|payload| payload["typing"].as_bool().unwrap())
                .collect();
            (typing, list.statuses(user_id).first().map(|status| (*status).to_owned()))
        };
        let status = |word: &str| Some(word.to_owned());
        let type_on =
            |world: &mut World, typing: Value| push(world, ann, name, "typing", &json!({ "typing": typing }));
        assert_eq!(type_on(&mut world, json!(true)), [], "no reply, and nothing for the one who types");
        world.advance_ms(60);
        assert_eq!(heard_typing(&mut world), (vec![true], status("typing")));
        world.advance_ms(2_000);
        type_on(&mut world, json!(true));
        world.advance_ms(2_990);
        assert_eq!(heard_typing(&mut world).0, [true; 0], "it went on");
        world.advance_ms(70);
        assert_eq!(heard_typing(&mut world), (vec![false], status("online")));
        type_on(&mut world, json!(true));
        world.advance_ms(60);
        push(&mut world, ann, name, "new_message", &json!({"body": "a"}));
        world.advance_ms(60);
        assert_eq!(heard_typing(&mut world), (vec![true, false], status("online")));
        world.advance_ms(4_000);
        type_on(&mut world, json!(true));
        type_on(&mut world, json!(false));
        type_on(&mut world, json!(false));
        assert_eq!(heard_typing(&mut world).0, [true, false]);
        assert!(!answer(&type_on(&mut world, json!("yes"))).0);
        type_on(&mut world, json!(true));
        world.hang_up(ann);
        world.advance_ms(60);
        assert_eq!(heard_typing(&mut world), (vec![true, false], None));
    });
}

#[test]
fn toggling_is_told_four_times_at_once_then_once_a_second_and_ends_right() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let ann = near_member(&mut world, "", name);
        world.client(bob).frames();
        let heard = |world: &mut World| -> Vec<bool> {
            let messages = world.client(bob).messages();
            told(&messages, "user_typing").iter().map(|news| news["typing"].as_bool().unwrap()).collect()
        };
        let toggle = |world: &mut World, typing: bool| {
            push(world, ann, name, "typing", &json!({ "typing": typing }));
        };
        for number in 0..10 {
            toggle(&mut world, number % 2 == 0);
        }
        assert_eq!(heard(&mut world), [true, false, true, false], "the fifth must wait");
        toggle(&mut world, true);
        world.advance_ms(900);
        assert_eq!(heard(&mut world), [false; 0]);
        world.advance_ms(200);
        assert_eq!(heard(&mut world), [true], "what holds when the time has come");
        toggle(&mut world, false);
        toggle(&mut world, true);
        toggle(&mut world, false);
        world.advance_ms(1_100);
        assert_eq!(heard(&mut world), [false]);
        let mut told = 0;
        for number in 0..200 {
            toggle(&mut world, number % 2 == 0);
            world.advance_ms(50);
            told += heard(&mut world).len();
        }
        assert!((9..=11).contains(&told), "{told} in 10 s, of 200");
        world.advance_ms(5_000);
        heard(&mut world);
        toggle(&mut world, true);
        push(&mut world, ann, name, "new_message", &json!({"body": "a"}));
        assert_eq!(heard(&mut world), [true, false], "a message ends it at once");
    });
}

#[test]
fn a_crowd_is_not_told_who_types() {
    let clients = ClientRules { presence_list_max: 3, ..ClientRules::default() };
    let settings = || Settings { clients, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let ann = near_member(&mut world, "", name);
        push(&mut world, ann, name, "typing", &json!({"typing": true}));
        assert_eq!(told(&world.client(bob).messages(), "user_typing").len(), 1);
        for _ in 0..2 {
            near_member(&mut world, "", name);
        }
        world.advance_ms(1_000);
        world.client(bob).frames();
        let encoded = world.count(|metrics| metrics.broadcasts_encoded.value());
        for number in 0..40 {
            push(&mut world, ann, name, "typing", &json!({"typing": number % 2 == 0}));
        }
        assert_eq!(world.client(bob).messages(), []);
        assert_eq!(world.count(|metrics| metrics.broadcasts_encoded.value()), encoded);
    });
}

#[test]
fn history_is_scrolled_up_and_the_room_shows_its_last_fifty() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        for number in 1..=120 {
            if number % 10 == 1 {
                world.advance_ms(60_000);
                world.say(ann, r#"[null,"1","phoenix","heartbeat",{}]"#);
            }
            let (ok, _) =
                answer(&push(&mut world, ann, name, "new_message", &json!({"body": number.to_string()})));
            assert!(ok, "{number}");
        }
        let seqs = |messages: &Value| -> Vec<u64> {
            messages.as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
        };
        let history = |world: &mut World, payload: &Value| {
            let (ok, response) = answer(&push(world, ann, name, "history", payload));
            assert!(ok, "{response}");
            (seqs(&response["messages"]), response["more"].as_bool().unwrap())
        };
        assert_eq!(history(&mut world, &json!({})), ((71..=120).collect(), true));
        assert_eq!(history(&mut world, &json!({"before": 71, "limit": 100})), ((1..=70).collect(), false));
        assert_eq!(history(&mut world, &json!({"before": 3, "limit": 1})), (vec![2], true));
        assert_eq!(history(&mut world, &json!({"before": 1})), (vec![], false));
        assert_eq!(history(&mut world, &json!({"before": 2, "limit": 1})), (vec![1], false));
        for nothing in [json!([]), json!(null)] {
            assert_eq!(history(&mut world, &nothing).0.len(), 50, "it counts as an empty object");
        }
        for wrong in [json!({"limit": 0}), json!({"limit": 101}), json!({"before": -1})] {
            assert!(!answer(&push(&mut world, ann, name, "history", &wrong)).0, "{wrong}");
        }
        let bob = world.socket("");
        let room = told(&join(&mut world, bob, name, &json!({})), "room_state");
        assert_eq!(seqs(&room[0]["messages"]), (71..=120).collect::<Vec<_>>());
        assert_eq!(room[0]["seq"], 120);
    });
}

// ── Recovery ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The seqs of a `catch_up`, and the rest of it.
fn caught_up(messages: &[Message]) -> (Vec<u64>, Value) {
    let answers = told(messages, "catch_up");
    let [answer] = &answers[..] else { panic!("one catch_up: {messages:?}") };
    let mut rest = answer.clone();
    let events = rest.as_object_mut().expect("an object").remove("events").expect("events");
    let seq = |event: &Value| {
        assert_eq!((&event["event"], &event["payload"]["seq"]), (&json!("new_message"), &event["seq"]));
        event["seq"].as_u64().expect("a number")
    };
    (events.as_array().expect("an array").iter().map(seq).collect(), rest)
}

#[test]
fn who_comes_back_gets_all_that_it_missed_or_everything_anew() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let ann = world.socket("");
        let joined = join(&mut world, ann, name, &json!({}));
        let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
        let epoch = response["epoch"].clone();
        world.hang_up(ann);
        let mut times = Vec::new();
        for number in 1..=5 {
            world.advance_ms(1_000);
            times.push(world.now.unix_us / 1000);
            push(&mut world, bob, name, "new_message", &json!({"body": number.to_string()}));
        }
        let recovered = json!({"recovered": true, "epoch": epoch, "seq": 5});
        let lost = |why: &str| json!({"recovered": false, "reason": why, "epoch": epoch, "seq": 5});
        let cases: Vec<(Value, Vec<u64>, Value)> = vec![
            (json!({"resume": {"epoch": epoch, "seq": 2}}), vec![3, 4, 5], recovered.clone()),
            (json!({"resume": {"epoch": epoch, "seq": 5}}), vec![], recovered.clone()),
            (json!({"last_seen": {"epoch": epoch, "seq": 0}}), vec![1, 2, 3, 4, 5], recovered.clone()),
            (json!({"resume": {"epoch": epoch, "seq": 6}}), vec![], lost("ahead")),
            (json!({"resume": {"epoch": "7", "seq": 2}}), vec![], lost("epoch")),
            (json!({"last_seen": times[1]}), vec![3, 4, 5], recovered.clone()),
            (json!({"last_seen": times[1] - 1}), vec![2, 3, 4, 5], recovered.clone()),
            (json!({"last_seen": times[4] + 10}), vec![], recovered.clone()),
        ];
        for (payload, seqs, rest) in cases {
            let ann = world.socket("");
            let messages = join(&mut world, ann, name, &payload);
            assert_eq!(caught_up(&messages), (seqs.clone(), rest.clone()), "{payload}");
            let whole = if rest["recovered"] == true { 0 } else { 1 };
            assert_eq!(told(&messages, "room_state").len(), whole, "{payload}");
            world.advance_ms(100);
            world.client(ann).frames();
            // What was missed, asked for after the join.
            let last_seen = payload.get("resume").or(payload.get("last_seen")).unwrap();
            let messages = push(&mut world, ann, name, "reconnect", &json!({"last_seen": last_seen}));
            assert_eq!(caught_up(&messages), (seqs, rest), "{payload}");
            assert_eq!(told(&messages, "room_state").len(), whole, "{payload}");
            world.hang_up(ann);
        }
        for wrong in [json!({}), json!({"last_seen": "x"}), json!({"last_seen": {"epoch": 7}}), json!(null)] {
            assert!(!answer(&push(&mut world, bob, name, "reconnect", &wrong)).0, "{wrong}");
        }
        let ann = world.socket("");
        let messages = join(&mut world, ann, name, &json!({"resume": {"epoch": "x", "seq": 1}}));
        assert_eq!(words(&messages), ["error"]);
    });
}

/// 31 members speak ten times each: the room keeps 300 of 310 messages. Returns one of the members.
fn speak_beyond_what_is_kept(world: &mut World, name: &str) -> ClientId {
    let members: Vec<ClientId> = (0..31).map(|_| near_member(world, "", name)).collect();
    for client in &members {
        for _ in 0..10 {
            assert!(answer(&push(world, *client, name, "new_message", &json!({"body": "a"}))).0);
        }
        world.advance_ms(100);
        for client in &members {
            world.client(*client).frames();
        }
    }
    members[0]
}

#[test]
fn what_is_no_longer_kept_cannot_be_caught_up_with() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = speak_beyond_what_is_kept(&mut world, name);
        let joined = join(&mut world, ann, name, &json!({}));
        let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
        let epoch = &response["epoch"];
        world.client(ann).frames();
        let reconnect = |world: &mut World, seq: u64| {
            let payload = json!({"last_seen": {"epoch": epoch, "seq": seq}});
            caught_up(&push(world, ann, name, "reconnect", &payload))
        };
        let (seqs, rest) = reconnect(&mut world, 10);
        assert_eq!((seqs, &rest["recovered"]), ((11..=310).collect(), &json!(true)));
        let (seqs, rest) = reconnect(&mut world, 9);
        assert_eq!((seqs, &rest["reason"]), (vec![], &json!("too_old")));
    });
}

#[test]
fn a_time_before_what_is_kept_cannot_be_caught_up_with() {
    near_and_far(Settings::default, |mut world, name| {
        let before = world.now.unix_us / 1000;
        world.advance_ms(10);
        let ann = speak_beyond_what_is_kept(&mut world, name);
        let (seqs, rest) =
            caught_up(&push(&mut world, ann, name, "reconnect", &json!({"last_seen": before})));
        assert_eq!((seqs, &rest["recovered"], &rest["reason"]), (vec![], &json!(false), &json!("too_old")));
    });
}

#[test]
fn a_stream_keeps_its_name_and_an_empty_room_costs_nothing() {
    near_and_far(Settings::default, |mut world, name| {
        let epoch_and_seq = |world: &mut World| {
            let client = world.socket("");
            let joined = join(world, client, name, &json!({}));
            let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
            (client, response["epoch"].clone(), response["seq"].clone())
        };
        let (ann, silent, _) = epoch_and_seq(&mut world);
        world.hang_up(ann);
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
        let (ann, first, _) = epoch_and_seq(&mut world);
        assert_ne!(first, silent, "nothing was said in it");
        push(&mut world, ann, name, "new_message", &json!({"body": "a"}));
        world.hang_up(ann);
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0, "it is on disk");
        world.advance_ms(1_000_000);
        let (_, again, seq) = epoch_and_seq(&mut world);
        assert_eq!((again, seq), (first, json!(1)));
    });
}

#[test]
fn numbers_of_rooms_may_be_written_with_a_point_or_an_exponent() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        for body in ["a", "b", "c"] {
            push(&mut world, ann, name, "new_message", &json!({ "body": body }));
        }
        let say = |world: &mut World, event: &str, payload: &str| {
            world.say(ann, &format!(r#"["1","9","room:{name}","{event}",{payload}]"#));
            world.client(ann).messages()
        };
        for (payload, count) in [
            (r#"{"limit":2.0}"#, 2),
            (r#"{"limit":1e1}"#, 3),
            (r#"{"before":3.0,"limit":0.2e1}"#, 2),
            ("7", 3),
            ("[]", 3),
        ] {
            let (ok, page) = answer(&say(&mut world, "history", payload));
            assert!(ok, "{payload}: {page}");
            assert_eq!(page["messages"].as_array().unwrap().len(), count, "{payload}");
        }
        for payload in [r#"{"limit":2.5}"#, r#"{"limit":1e3}"#, r#"{"before":-1.0}"#, r#"{"limit":"2"}"#] {
            assert!(!answer(&say(&mut world, "history", payload)).0, "{payload}");
        }
        let messages = say(&mut world, "reconnect", r#"{"last_seen":1.7e12}"#);
        let caught_up = told(&messages, "catch_up");
        assert_eq!(caught_up[0]["events"].as_array().unwrap().len(), 3);
        let late = world.socket("");
        world.say(late, &format!(r#"["1","1","room:{name}","phx_join",{{"last_seen":1700000000000.0}}]"#));
        assert_eq!(words(&world.client(late).messages())[0], "ok");
    });
}

// ── Guests ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_guest_that_says_who_it_is_comes_back_as_the_same() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "&user=ann&name=Ann", name);
        let said = json!({"body": "a", "client_id": "1"});
        let (_, message) = answer(&push(&mut world, ann, name, "new_message", &said));
        assert_eq!((&message["user_id"], &message["name"]), (&json!("ann"), &json!("Ann")));
        world.break_off(ann);
        let again = far_member(&mut world, "&user=ann", name);
        assert_eq!(answer(&push(&mut world, again, name, "new_message", &said)), (true, message.clone()));
        let edit = json!({"id": message["id"], "body": "b"});
        assert!(answer(&push(&mut world, again, name, "edit_message", &edit)).0);
        let other = near_member(&mut world, "", name);
        let (_, said) = answer(&push(&mut world, other, name, "new_message", &said));
        assert!(said["user_id"].as_str().is_some_and(|user| user.starts_with("guest-")), "{said}");
    });
}

// ── What people send ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_body_is_kept_as_it_is() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        for body in
            ["\u{202E}right to left\u{2066}", "a\u{0}b\u{7}\u{1B}[31m", "</script><b>", "\u{FFFD}\u{10FFFF}"]
        {
            let (ok, message) = answer(&push(&mut world, ann, name, "new_message", &json!({"body": body})));
            assert_eq!((ok, message["body"].as_str()), (true, Some(body)));
        }
        let (_, page) = answer(&push(&mut world, ann, name, "history", &json!({})));
        assert_eq!(page["messages"][1]["body"], "a\u{0}b\u{7}\u{1B}[31m");
    });
}

#[test]
fn rooms_in_which_nobody_speaks_leave_nothing_behind() {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let rates = Rates { joins: much, events: much, ..Rates::default() };
    let mut world = World::new(Settings { rates, ..Settings::default() });
    let ann = world.socket("");
    let before = world.sizes(0);
    for number in 0..10_000 {
        world.say(ann, &format!(r#"["1","1","room:r{number}","phx_join",{{}}]"#));
        world.say(ann, &format!(r#"["1","2","room:r{number}","phx_leave",{{}}]"#));
        world.client(ann).frames();
    }
    assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
    // What was to be done about them is looked at when its time comes.
    world.advance_ms(6_000);
    assert_eq!(world.sizes(0), before);
    assert_eq!(world.store.end_of("room:r7"), None, "a stream begins with its first message");
}
