//! Presence in rooms as Phoenix clients see it: joins, changes, ends of every kind, crowds.

use crate::world::client::{ClientId, Message, PresenceList, close};
use crate::world::rooms::{answer, far_member, join, near_member, push, told, words};
use crate::world::{STARTED_AT_S, World, near_and_far};
use corelay::shard::peer::Order;
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::{Value, json};

#[test]
fn a_joiner_gets_its_reply_then_who_is_there_then_the_room() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "&name=Bob", name);
        world.advance_ms(1_000);
        let ann = world.socket("&name=Ann");
        let messages = join(&mut world, ann, name, &json!({"meta": {"status": "busy", "x": 1}}));
        assert_eq!(words(&messages), ["ok", "presence_state", "room_state"]);
        let Message::Reply { join_ref, response, .. } = &messages[0] else { panic!("{messages:?}") };
        assert_eq!(join_ref, "1");
        let user = response["user_id"].as_str().unwrap().to_owned();
        assert!(user.starts_with("guest-"), "{user}");
        assert_eq!(response["seq"], 0);
        assert!(response["epoch"].as_str().unwrap().parse::<u64>().is_ok(), "{response}");
        let Message::Told { join_ref, payload: state, .. } = &messages[1] else { panic!("{messages:?}") };
        assert_eq!(join_ref, "1", "it is a push, not a broadcast");
        let listed: Vec<&Value> =
            state.as_object().unwrap().values().map(|entry| &entry["metas"][0]["name"]).collect();
        assert_eq!(listed, ["Bob"], "the list that the others have: she comes to it with the next diff");
        let room = messages[2].told("room_state").unwrap();
        assert_eq!((&room["messages"], &room["seq"]), (&json!([]), &json!(0)));
        assert_eq!(room["epoch"], response["epoch"]);
        let users: Vec<(&Value, &Value)> =
            room["users"].as_array().unwrap().iter().map(|user| (&user["name"], &user["status"])).collect();
        assert_eq!(users, [(&json!("Bob"), &json!("online")), (&json!("Ann"), &json!("busy"))]);

        // The others are told at once who came, and in the next window what it says about itself.
        let heard = world.client(bob).messages();
        assert_eq!(words(&heard), ["user_joined"]);
        assert_eq!(
            told(&heard, "user_joined"),
            [json!({"user": {"id": user, "name": "Ann"}, "online_count": 2})]
        );
        world.advance_ms(49);
        assert_eq!((world.client(ann).frames(), world.client(bob).frames()), (vec![], vec![]));
        world.advance_ms(2);
        for client in [ann, bob] {
            let heard = world.client(client).messages();
            let [Message::Told { join_ref: Value::Null, event, payload, .. }] = &heard[..] else {
                panic!("{heard:?}")
            };
            assert_eq!(event, "presence_diff", "the newcomer is told as well");
            let meta = &payload["joins"][&user]["metas"][0];
            assert!(meta["phx_ref"].as_str().is_some_and(|reference| !reference.is_empty()));
            let told = json!({"phx_ref": meta["phx_ref"], "joined_at": STARTED_AT_S + 1, "status": "busy", "name": "Ann", "x": 1});
            assert_eq!(*payload, json!({"joins": {&user: {"metas": [told]}}, "leaves": {}}));
        }
    });
}

#[test]
fn changes_are_told_once_per_window_and_what_comes_and_goes_in_one_was_never_there() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let clients: Vec<ClientId> = (0..10).map(|_| world.socket("")).collect();
        for client in &clients {
            join(&mut world, *client, name, &json!({}));
        }
        world.advance_ms(60);
        let heard = world.client(bob).messages();
        let diffs = told(&heard, "presence_diff");
        assert_eq!(diffs.len(), 1);
        assert_eq!(diffs[0]["joins"].as_object().unwrap().len(), 10);
        assert_eq!(told(&heard, "user_joined").len(), 10);

        let ghost = world.socket("");
        join(&mut world, ghost, name, &json!({}));
        world.advance_ms(20);
        world.say(ghost, &format!(r#"["1","2","room:{name}","phx_leave",{{}}]"#));
        world.advance_ms(200);
        let heard = world.client(bob).messages();
        assert_eq!(words(&heard), ["user_joined", "user_disconnected"]);
        let encoded = world.count(|metrics| metrics.broadcasts_encoded.value());
        let out = world.count(|metrics| metrics.broadcasts_out.value());
        push(&mut world, bob, name, "presence_update", &json!({"status": "away"}));
        world.advance_ms(60);
        assert_eq!(world.count(|metrics| metrics.broadcasts_encoded.value()) - encoded, 1);
        assert_eq!(world.count(|metrics| metrics.broadcasts_out.value()) - out, 11);
    });
}

#[test]
fn an_update_is_a_leave_and_a_join_that_names_the_meta_before() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let ann = world.socket("");
        let joined = join(&mut world, ann, name, &json!({}));
        let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
        let user = response["user_id"].as_str().unwrap();
        world.advance_ms(60);
        let heard = world.client(bob).messages();
        let before = told(&heard, "presence_diff")[0]["joins"][user]["metas"][0].clone();
        assert_eq!(before["status"], "online");
        world.client(ann).frames();
        let messages = push(&mut world, ann, name, "presence_update", &json!({"status": "busy", "hp": 7}));
        assert_eq!(answer(&messages), (true, json!({})));
        world.advance_ms(60);
        let heard = world.client(bob).messages();
        let diff = &told(&heard, "presence_diff")[0];
        assert_eq!(diff["leaves"], json!({user: {"metas": [before]}}));
        let after = &diff["joins"][user]["metas"][0];
        assert_eq!(after["phx_ref_prev"], before["phx_ref"]);
        assert_ne!(after["phx_ref"], before["phx_ref"]);
        assert_eq!((&after["status"], &after["hp"]), (&json!("busy"), &json!(7)));
        for (payload, word) in [
            (json!([]), "object"),
            (json!({"status": ""}), "status"),
            (json!({"a": "x".repeat(1024)}), "1024"),
        ] {
            let (ok, response) = answer(&push(&mut world, ann, name, "presence_update", &payload));
            assert!(!ok && response["reason"].as_str().unwrap().contains(word), "{response}");
        }
        world.advance_ms(100);
        assert_eq!(world.client(bob).frames(), [], "what is refused changes nothing");
    });
}

#[test]
fn whoever_goes_is_gone_from_every_list_and_the_others_learn_why() {
    type End = fn(&mut World, ClientId, [&str; 2]);
    const ENDS: [(&str, End); 6] = [
        ("left", |world, client, [name, _]| {
            world.say(client, &format!(r#"["1","2","room:{name}","phx_leave",{{}}]"#));
        }),
        ("left", |world, client, _| world.send_raw(client, &close(1000, ""))),
        ("timeout", |world, client, _| world.hang_up(client)),
        ("kicked", |world, _, [_, user]| {
            assert_eq!(world.kick(user).1, 1);
        }),
        // A frame that breaks RFC 6455.
        ("kicked", |world, client, _| world.send_raw(client, &[0xFF, 0x80, 0, 0, 0, 0])),
        ("timeout", |world, client, [name, _]| {
            // The client does not read, and is sent more than it may leave waiting.
            world.set_reading(client, false);
            let body = "x".repeat(4_000);
            for index in 0..300 {
                if index % 10 == 0 {
                    world.advance_ms(60_000);
                    world.say(client, r#"[null,"1","phoenix","heartbeat",{}]"#);
                }
                push(world, ClientId(0), name, "new_message", &json!({"body": body}));
            }
        }),
    ];
    near_and_far(Settings::default, |mut world, name| {
        let bob = world.socket_on(world.metrics.len() - 1, "");
        let mut list = PresenceList::default();
        for message in join(&mut world, bob, name, &json!({})) {
            list.hear(&message);
        }
        for (index, (reason, end)) in ENDS.into_iter().enumerate() {
            let ann = world.socket("");
            let joined = join(&mut world, ann, name, &json!({}));
            let Message::Reply { response, .. } = &joined[0] else { panic!("{joined:?}") };
            let user = response["user_id"].as_str().unwrap().to_owned();
            world.advance_ms(100);
            for message in world.client(bob).messages() {
                list.hear(&message);
            }
            assert_eq!(list.statuses(&user), ["online"]);
            end(&mut world, ann, [name, &user]);
            world.advance_ms(100);
            let heard = world.client(bob).messages();
            if index < 5 {
                let left = json!({"user_id": user, "reason": reason, "online_count": 1});
                assert_eq!(told(&heard, "user_disconnected"), [left]);
                heard.iter().for_each(|message| list.hear(message));
                assert_eq!(list.statuses(&user), [""; 0], "{reason}");
            }
        }
        // The last one went while the messages were read by the test's own push.
        let newcomer = world.socket("");
        let joined = join(&mut world, newcomer, name, &json!({}));
        assert_eq!(joined[1].told("presence_state").unwrap().as_object().unwrap().len(), 1, "bob");
    });
}

#[test]
fn silence_is_warned_about_on_every_topic_and_then_ended() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        let bob = far_member(&mut world, "", name);
        world.say(ann, r#"["2","2","room:other","phx_join",{}]"#);
        world.advance_ms(100);
        world.client(ann).frames();
        for _ in 0..59 {
            world.advance_ms(1_000);
            world.say(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
        }
        world.advance_ms(850);
        assert_eq!(world.client(ann).frames(), []);
        world.advance_ms(100);
        let heard = world.client(ann).messages();
        let warned: Vec<(&str, &Value, &Value)> = heard
            .iter()
            .map(|message| match message {
                Message::Told { join_ref, topic, event, payload } if event == "disconnect_warning" => {
                    (topic.as_str(), join_ref, &payload["timeout"])
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let topic = format!("room:{name}");
        assert_eq!(
            warned,
            [(&*topic, &json!("1"), &json!(30_000)), ("room:other", &json!("2"), &json!(30_000))]
        );
        world.say(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
        world.client(bob).frames();
        world.advance_ms(29_000);
        assert_eq!(world.client(ann).frames(), []);
        world.advance_ms(1_200);
        assert_eq!(world.client(ann).close_frame(), Some((1001, "idle".into())));
        let heard = world.client(bob).messages();
        assert_eq!(told(&heard, "user_disconnected")[0]["reason"], "timeout");
        // A heartbeat is enough to stay, warned or not.
        world.say(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
        for _ in 0..4 {
            world.advance_ms(70_000);
            world.say(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
        }
        let heard = world.client(bob).messages();
        assert_eq!(told(&heard, "disconnect_warning").len(), 4);
        assert!(world.client(bob).ended.is_none());
    });
}

#[test]
fn a_drain_is_announced_on_every_topic() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "", name);
        world.say(ann, r#"["2","2","room:other","phx_join",{}]"#);
        world.client(ann).frames();
        world.tell_shards(&Order::Drain);
        let heard = world.client(ann).messages();
        let notice = json!({"timeout": 30_000, "retry_after": 1_000, "jitter": 5_000});
        assert_eq!(told(&heard, "server_draining"), [notice.clone(), notice]);
        world.advance_ms(1_100);
        assert_eq!(world.client(ann).close_frame(), Some((1012, "drain".into())));
        world.hang_up(ann);
        world.advance_ms(3_000);
        assert_eq!(world.drained.len(), world.metrics.len(), "every shard is done");
    });
}

#[test]
fn a_crowd_is_told_how_many_it_is_and_the_list_comes_back() {
    let clients = ClientRules { presence_list_max: 4, ..ClientRules::default() };
    let settings = || Settings { clients, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        let bob = far_member(&mut world, "", name);
        let mut list = PresenceList::default();
        let mut others: Vec<ClientId> = Vec::new();
        for _ in 0..3 {
            others.push(near_member(&mut world, "", name));
        }
        world.client(bob).frames();
        let fifth = world.socket("");
        let messages = join(&mut world, fifth, name, &json!({}));
        assert_eq!(words(&messages), ["ok", "presence_state", "presence_count", "room_state"]);
        assert_eq!(messages[1].told("presence_state").unwrap().as_object().unwrap().len(), 1, "itself");
        assert_eq!(told(&messages, "presence_count"), [json!({"online": 5})]);
        assert_eq!(told(&messages, "room_state")[0]["users"], json!([]));
        world.advance_ms(60);
        let heard = world.client(bob).messages();
        assert_eq!(words(&heard), ["presence_count"], "no user_joined, no diff");
        assert_eq!(told(&heard, "presence_count"), [json!({"online": 5})]);

        // Ten more within a second are one count.
        let more: Vec<ClientId> = (0..10)
            .map(|_| {
                let client = world.socket("");
                join(&mut world, client, name, &json!({}));
                world.advance_ms(50);
                client
            })
            .collect();
        world.advance_ms(300);
        assert_eq!(world.client(bob).frames(), []);
        world.advance_ms(200);
        let heard = world.client(bob).messages();
        assert_eq!(told(&heard, "presence_count"), [json!({"online": 15})]);
        assert_eq!(heard.len(), 1);
        push(&mut world, fifth, name, "presence_update", &json!({"status": "busy"}));
        world.advance_ms(2_000);
        assert_eq!(world.client(bob).frames(), [], "what a crowd's members say is not told");

        for client in more.into_iter().chain([fifth, others[0]]) {
            world.hang_up(client);
        }
        world.advance_ms(100);
        let heard = world.client(bob).messages();
        heard.iter().for_each(|message| list.hear(message));
        assert!(heard.iter().any(|message| message.told("presence_state").is_some()), "{heard:?}");
        assert_eq!(list.users().len(), 3);
        let sixth = world.socket("");
        join(&mut world, sixth, name, &json!({}));
        world.advance_ms(100);
        for message in world.client(bob).messages() {
            list.hear(&message);
        }
        assert_eq!(list.users().len(), 4);
    });
}

#[test]
fn a_state_too_large_for_one_message_is_split() {
    near_and_far(Settings::default, |mut world, name| {
        let meta = json!({"meta": {"x": "y".repeat(1_000)}});
        let mut last = Vec::new();
        for _ in 0..100 {
            let client = world.socket("");
            world.say(client, &format!(r#"["1","1","room:{name}","phx_join",{meta}]"#));
            last = world.client(client).texts();
            world.advance_ms(60);
            world.client(client).frames();
        }
        assert!(last.iter().all(|text| text.len() <= 60 * 1024), "Godot's inbound buffer");
        let messages: Vec<Message> = last.iter().map(|text| Message::parse(text)).collect();
        assert_eq!(words(&messages), ["ok", "presence_state", "presence_diff", "room_state"]);
        let mut list = PresenceList::default();
        messages.iter().for_each(|message| list.hear(message));
        assert_eq!(list.users().len(), 99, "all but itself");
    });
}
