//! Events and objects in games, between players of both dialects.

use crate::world::client::{
    ClientId, Message, Record, View, close, event, game_state, move_to, put_object, remove_object,
};
use crate::world::games::{Player, native, object, player, push, refusal, told, updates, words};
use crate::world::{World, near_and_far};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A native player and two Phoenix players, and how many events there have been.
struct Trio {
    native: (ClientId, u32),
    players: [Player; 2],
    seq: u64,
}

impl Trio {
    fn new(world: &mut World, name: &str) -> Self {
        let (client, id, _) = native(world, name);
        let players = [player(world, name), player(world, name)];
        for player in &players {
            world.client(player.client).frames();
        }
        world.client(client).frames();
        Self { native: (client, id), players, seq: 0 }
    }

    /// The next event, of `sender`, reached those that `is_meant` names (the native player, the first, the second), with
    /// `payload` as Phoenix players are told it, and `bytes` as native ones are.
    fn assert_heard(
        &mut self,
        world: &mut World,
        sender: u32,
        is_meant: [bool; 3],
        payload: &Value,
        bytes: &[u8],
    ) {
        self.seq += 1;
        let mut event = json!({"code": 3, "sender": sender, "seq": self.seq});
        event.as_object_mut().expect("an object").extend(payload.as_object().expect("an object").clone());
        for (player, is_meant) in self.players.iter().zip(&is_meant[1..]) {
            let messages = world.client(player.client).messages();
            let expected = if *is_meant { vec![event.clone()] } else { vec![] };
            assert_eq!(told(&messages, "game_event"), expected, "event {}", self.seq);
            if let Some(answer) = messages.iter().find_map(|message| message.answer(&json!("9"))) {
                assert_eq!(answer, (true, &json!({ "seq": self.seq })));
            }
        }
        let heard: Vec<(u16, u32, u64, Vec<u8>)> = world
            .client(self.native.0)
            .records()
            .into_iter()
            .map(|record| match record {
                Record::Event { code, sender, seq, payload, .. } => (code, sender, seq, payload),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = if is_meant[0] { vec![(3, sender, self.seq, bytes.to_vec())] } else { vec![] };
        assert_eq!(heard, expected, "event {}", self.seq);
    }
}

#[test]
fn events_of_native_players_reach_phoenix_players_in_base64() {
    near_and_far(Settings::default, |mut world, name| {
        let mut trio = Trio::new(&mut world, name);
        let (bob, bob_id) = trio.native;
        let target = trio.players[1].id;
        for (record, is_meant) in [
            (event(0, 3, 0, &[0xFF, 0, 1]), [false, true, true]),
            (event(1, 3, 0, &[0xFF, 0, 1]), [true, true, true]),
            (event(2, 3, target, &[0xFF, 0, 1]), [false, false, true]),
            (event(2, 3, bob_id, &[0xFF, 0, 1]), [true, false, false]),
        ] {
            world.send(bob, &record);
            trio.assert_heard(&mut world, bob_id, is_meant, &json!({"payload_b64": "/wAB"}), &[0xFF, 0, 1]);
        }
    });
}

#[test]
fn events_of_phoenix_players_reach_native_players_as_json() {
    near_and_far(Settings::default, |mut world, name| {
        let mut trio = Trio::new(&mut world, name);
        let [ann, cid] = [trio.players[0].id, trio.players[1].id];
        let client = trio.players[0].client;
        let payload = r#"{"a":[1.50,"\u00e4"]}"#;
        for (to, is_meant) in [
            (Value::Null, [true, false, true]),
            (json!("others"), [true, false, true]),
            (json!("all"), [true, true, true]),
            (json!(trio.native.1), [true, false, false]),
            (json!(cid), [false, false, true]),
            (json!(ann), [false, true, false]),
        ] {
            let event = format!(r#"{{"code":3,"to":{to},"payload":{payload}}}"#);
            world.say(client, &format!(r#"["1","9","game:{name}","game_event",{event}]"#));
            let told = json!({"payload": {"a": [1.5, "ä"]}});
            // The payload goes out as the sender wrote it.
            for client in trio.players.iter().map(|player| player.client) {
                let inbox = String::from_utf8_lossy(&world.client(client).inbox).into_owned();
                assert!(!inbox.contains("game_event") || inbox.contains(payload), "{inbox}");
            }
            trio.assert_heard(&mut world, ann, is_meant, &told, payload.as_bytes());
        }
    });
}

#[test]
fn who_joins_sends_an_event_and_leaves_at_once_hears_it_after_the_reply() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let game = format!("game:{name}");
        world.say_at_once(
            ann,
            &[
                &format!(r#"["1","1","{game}","phx_join",{{}}]"#),
                &format!(r#"["1","2","{game}","game_event",{{"code":3,"to":"all"}}]"#),
                &format!(r#"["1","3","{game}","phx_leave",{{}}]"#),
            ],
        );
        let heard = world.client(ann).messages();
        assert_eq!(
            words(&heard),
            ["ok", "presence_state", "game_update", "ok", "game_event", "ok", "phx_close"]
        );
        let (bob, _, _) = native(&mut world, name);
        world.send(bob, &event(1, 3, 0, b"x"));
        world.send(bob, &move_to(0, 1.5, 2.5));
        world.advance_ms(200);
        assert_eq!(world.client(ann).frames(), [], "whoever has gone is told nothing more");
    });
}

#[test]
fn events_that_are_none_are_refused() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = player(&mut world, name);
        for (payload, word) in [
            (json!({}), "code"),
            (json!({"code": 65_536}), "code"),
            (json!({"code": 1, "to": "nobody"}), "others"),
            (json!({"code": 1, "to": 99}), "99"),
            (json!({"code": 1, "payload": "x".repeat(1_023)}), "1024"),
            (json!([]), "code"),
        ] {
            let messages = push(&mut world, ann.client, name, "game_event", &payload);
            assert!(refusal(&messages).contains(word), "{messages:?}");
        }
        let longest = json!({"code": 1, "payload": "x".repeat(1_022)});
        let messages = push(&mut world, ann.client, name, "game_event", &longest);
        assert_eq!(messages[0].answer(&json!("9")), Some((true, &json!({"seq": 1}))));
        let nothing = push(&mut world, ann.client, name, "game_event", &json!({"code": 1, "to": "all"}));
        assert_eq!(told(&nothing, "game_event")[0]["payload"], Value::Null);
    });
}

// ── Objects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn objects_are_put_by_everybody_and_their_ends_are_told() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, _, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        let cid = player(&mut world, name);
        world.client(ann.client).frames();
        world.client(bob).frames();
        let topic = format!("game:{name}");
        world.send(bob, &put_object(1, 7, 1, 1.0, 2.0));
        world.send(bob, &move_to(0, 1.0, 2.0));
        world.send(
            cid.client,
            &game_state(["1", "9", &topic], &[(cid.id, 0.0, 0.0)], &[object(2, 5.0), object(3, 6.0)]),
        );
        world.advance_ms(60);
        let seen = updates(world.client(ann.client).messages());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].objects, [object(1, 1.0), object(2, 5.0), object(3, 6.0)]);
        world.send(cid.client, &game_state(["1", "9", &topic], &[], &[object(1, 9.0)]));
        let messages = world.client(cid.client).messages();
        assert!(refusal(&messages).contains('1'), "another player's object: {messages:?}");
        world.send(bob, &remove_object(1));
        world.advance_ms(60);
        let heard = world.client(ann.client).messages();
        assert_eq!(told(&heard, "objects_removed"), [json!({"ids": [1]})]);
        assert_eq!(heard.len(), 1, "{heard:?}");
        // With its player every object goes.
        world.say(cid.client, &format!(r#"["1","2","{topic}","phx_leave",{{}}]"#));
        world.client(bob).frames();
        world.advance_ms(60);
        let heard = world.client(ann.client).messages();
        assert_eq!(told(&heard, "objects_removed"), [json!({"ids": [2, 3]})]);
        assert_eq!(told(&heard, "players_removed"), [json!({"ids": [cid.id]})]);
        let user = told(&heard, "user_disconnected");
        assert_eq!((&user[0]["reason"], &user[0]["online_count"]), (&json!("left"), &json!(2)));
        let records = world.client(bob).records();
        assert!(
            records
                .iter()
                .any(|record| matches!(record, Record::Roster { left, .. } if left[..] == [(cid.id, 0)])),
            "{records:?}"
        );
        assert!(
            records.iter().any(|record| matches!(
                record,
                Record::Delta { gone_players, gone_objects, .. } if gone_players[..] == [cid.id] && gone_objects[..] == [2, 3]
            )),
            "{records:?}"
        );
    });
}

/// What a Phoenix client knows of objects and positions.
#[derive(Debug, Default)]
struct State {
    view: View,
}

impl State {
    fn hear(&mut self, message: &Message) {
        if let Message::Update(update) = message {
            self.view.positions.extend(update.positions.iter().map(|(id, x, y)| (*id, (*x, *y))));
            let objects = update.objects.iter().map(|object| (object.id, (object.kind, object.x, object.y)));
            self.view.objects.extend(objects);
        }
        let ids = |payload: &Value| -> Vec<u32> {
            payload["ids"]
                .as_array()
                .expect("an array")
                .iter()
                .map(|id| id.as_u64().expect("a number") as u32)
                .collect()
        };
        if let Some(gone) = message.told("players_removed") {
            let gone = ids(gone);
            self.view.positions.retain(|id, _| !gone.contains(id));
        }
        if let Some(gone) = message.told("objects_removed") {
            let gone = ids(gone);
            self.view.objects.retain(|id, _| !gone.contains(id));
        }
    }
}

#[test]
fn what_is_gone_does_not_come_back_with_an_older_frame() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        world.send(bob, &put_object(1, 7, 1, 1.0, 2.0));
        world.advance_ms(60);
        let mut state = State::default();
        world.client(ann.client).messages().iter().for_each(|message| state.hear(message));
        assert_eq!(state.view.objects.len(), 1);
        // Something small is in flight while the socket is busy; then come a frame and the end of what it tells.
        world.set_reading(ann.client, false);
        world.say(ann.client, r#"[null,"1","phoenix","heartbeat",{}]"#);
        world.send(bob, &put_object(1, 7, 1, 8.0, 2.0));
        world.send(bob, &move_to(0, 8.0, 2.0));
        world.advance_ms(60);
        world.send(bob, &remove_object(1));
        world.send_raw(bob, &close(1000, ""));
        world.advance_ms(60);
        world.set_reading(ann.client, true);
        world.advance_ms(1_000);
        world.client(ann.client).messages().iter().for_each(|message| state.hear(message));
        assert_eq!(state.view.objects.len(), 0, "the object was removed");
        assert!(!state.view.positions.contains_key(&bob_id), "its player has left");
    });
}
