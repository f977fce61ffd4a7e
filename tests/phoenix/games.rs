//! Games with Phoenix players and native ones: what each sees of the others' moves.

use crate::world::client::{ClientId, GameUpdate, Message, Record, game_state, move_to, put_object};
use crate::world::games::{join, native, object, player, push, refusal, told, updates, words};
use crate::world::{World, near_and_far};
use corelay::reasons::CorrectionReason;
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use corelay::wire::layout::Bounds;
use serde_json::{Value, json};

// ── Joining and moving ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_joiner_gets_its_seat_then_who_is_there_then_the_whole_state() {
    let rules = || GameRules {
        tick_hz: 10,
        max_speed: 50.0,
        bounds: Bounds { min: [-1.0, -2.0, f32::MIN], max: [100.5, 4.0, f32::MAX] },
        ..GameRules::default()
    };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let (bob, bob_id, _) = native(&mut world, name);
            world.send(bob, &move_to(0, 1.0, 2.0));
            world.send(bob, &put_object(5, 7, 1, 3.0, 2.0));
            world.advance_ms(200);
            world.client(bob).frames();
            let ann = world.socket("&name=Ann");
            let (response, messages) = join(&mut world, ann, name, &json!({}));
            assert_eq!(words(&messages), ["presence_state", "game_update"]);
            assert_eq!(
                response,
                json!({
                    "epoch": response["epoch"], "seq": 0, "user_id": response["user_id"], "player_id": bob_id + 1, "tick_hz": 10,
                    "resume_token": response["resume_token"], "resumed": false,
                    "bounds": {"min_x": -1.0, "min_y": -2.0, "max_x": 100.5, "max_y": 4.0}, "max_speed": 50.0
                })
            );
            assert_eq!(response["resume_token"].as_str().unwrap().len(), 32);
            let state = messages[0].told("presence_state").unwrap();
            let players: Vec<(&Value, &Value)> = state
                .as_object()
                .unwrap()
                .values()
                .map(|entry| (&entry["metas"][0]["player_id"], &entry["metas"][0]["name"]))
                .collect();
            assert_eq!(players.len(), 2);
            assert!(players.contains(&(&json!(bob_id + 1), &json!("Ann"))), "{players:?}");
            assert_eq!(
                updates(messages),
                [GameUpdate {
                    join_ref: Some("1".into()),
                    topic: format!("game:{name}"),
                    positions: vec![(bob_id, 1.0, 2.0)],
                    objects: vec![object(5, 3.0)],
                }]
            );
            world.advance_ms(100);
            assert_eq!(world.client(ann).frames(), [], "nobody is told twice who is here");
            let user = response["user_id"].as_str().unwrap();
            let records = world.client(bob).records();
            let [Record::Roster { joined, .. }] = &records[..] else { panic!("{records:?}") };
            assert_eq!(joined[..], [(bob_id + 1, user.into(), "Ann".into())]);
            assert_eq!(world.count(|metrics| metrics.seats.value()), 2);
        },
    );
}

#[test]
fn without_a_maximum_there_is_none_in_the_reply() {
    let mut world = World::new(Settings::default());
    let ann = world.socket("");
    let (response, messages) = join(&mut world, ann, "arena", &json!({}));
    assert_eq!(response["max_speed"], Value::Null);
    assert_eq!(
        updates(messages),
        [GameUpdate {
            join_ref: Some("1".into()),
            topic: "game:arena".into(),
            positions: vec![],
            objects: vec![]
        }],
        "an empty state is told as well"
    );
}

#[test]
fn a_whole_number_may_be_written_with_a_point_or_an_exponent() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = player(&mut world, name);
        let ann = world.socket("");
        let (response, _) = join(&mut world, ann, name, &json!({}));
        let epoch = response["epoch"].as_str().unwrap().to_owned();
        let say = |world: &mut World, event: &str, payload: &str| {
            world.say(ann, &format!(r#"["1","9","game:{name}","{event}",{payload}]"#));
            world.client(ann).messages()
        };
        for payload in [
            r#"{"code":7.0}"#.to_owned(),
            r#"{"code":0.7e1}"#.to_owned(),
            r#"{"code":70E-1}"#.to_owned(),
            format!(r#"{{"code":7,"to":{}.00}}"#, bob.id),
        ] {
            let messages = say(&mut world, "game_event", &payload);
            assert_eq!(messages[0].word(), "ok", "{payload}: {messages:?}");
            let heard = told(&world.client(bob.client).messages(), "game_event");
            assert_eq!(heard[0]["code"], 7);
        }
        for payload in [r#"{"code":7.5}"#, r#"{"code":65536.0}"#, r#"{"code":-7.0}"#, r#"{"code":1e99}"#] {
            assert!(refusal(&say(&mut world, "game_event", payload)).contains("code"), "{payload}");
        }
        assert_eq!(say(&mut world, "move", r#"{"x":1,"y":2,"input_seq":3.0}"#), []);
        let messages =
            say(&mut world, "reconnect", &format!(r#"{{"last_seen":{{"epoch":"{epoch}","seq":4.0}}}}"#));
        let [caught_up] = &told(&messages, "catch_up")[..] else { panic!("{messages:?}") };
        assert_eq!((&caught_up["recovered"], &caught_up["events"]), (&json!(true), &json!([])));
        let again = world.socket("");
        let resume = format!(r#"{{"resume":{{"epoch":"{epoch}","seq":1e0}}}}"#);
        world.say(again, &format!(r#"["1","1","game:{name}","phx_join",{resume}]"#));
        let caught_up = told(&world.client(again).messages(), "catch_up");
        assert_eq!(caught_up[0]["recovered"], true);
    });
}

#[test]
fn numbers_that_may_have_a_fraction_go_out_with_one_and_no_bound_is_null() {
    let bounds = Bounds { min: [-5.0, f32::MIN, f32::MIN], max: [1e20, f32::MAX, f32::MAX] };
    let rules = || GameRules { bounds, max_speed: 20.0, ..GameRules::default() };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let ann = world.dial();
            world.send_raw(ann, crate::world::client::request("/socket/websocket").as_bytes());
            world.client(ann).response();
            let say = |world: &mut World, event: &str, payload: &str| {
                world.say(
                    ann,
                    &format!(r#"{{"topic":"game:{name}","event":"{event}","payload":{payload},"ref":"1"}}"#),
                );
                world.client(ann).texts()
            };
            let joined = say(&mut world, "phx_join", "{}").remove(0);
            let bounds = r#""bounds":{"min_x":-5.0,"min_y":null,"max_x":1e20,"max_y":null},"max_speed":20.0"#;
            assert!(joined.contains(bounds), "{joined}");
            say(&mut world, "move", r#"{"x":2,"y":0.5}"#);
            world.advance_ms(100);
            let state = world.client(ann).texts();
            assert!(state.iter().any(|text| text.contains(",2.0,0.5]]")), "{state:?}");
            let corrected = say(&mut world, "move", r#"{"x":-6,"y":0,"input_seq":1}"#).remove(0);
            assert!(corrected.contains(r#""x":2.0,"y":0.5,"input_seq":1}"#), "{corrected}");
        },
    );
}

#[test]
fn players_of_every_dialect_see_each_other_move_encoded_once_each() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        let (eve, _, _) = native(&mut world, name);
        let ann = player(&mut world, name);
        let cid = player(&mut world, name);
        let old = world.dial();
        world.send_raw(old, crate::world::client::request("/socket/websocket").as_bytes());
        world.client(old).response();
        world.say(old, &format!(r#"{{"topic":"game:{name}","event":"phx_join","payload":{{}},"ref":"1"}}"#));
        world.advance_ms(200);
        for client in [bob, eve, ann.client, cid.client, old] {
            world.client(client).frames();
        }
        let encoded = world.count(|metrics| metrics.frames_encoded.value());
        let deltas = world.count(|metrics| metrics.deltas.value());
        world.send(bob, &move_to(0, 1.0, 2.0));
        let moved = push(&mut world, ann.client, name, "move", &json!({"x": 3.5, "y": -4, "input_seq": 1}));
        assert_eq!(moved, [], "a move is not answered");
        let topic = format!("game:{name}");
        world.send(cid.client, &game_state(["1", "9", &topic], &[(cid.id, 5.0, 6.0)], &[object(9, 1.0)]));
        world.advance_ms(60);
        let positions = vec![(bob_id, 1.0, 2.0), (ann.id, 3.5, -4.0), (cid.id, 5.0, 6.0)];
        for client in [bob, eve] {
            let records = world.client(client).records();
            let [Record::Delta { positions: seen, objects, .. }] = &records[..] else {
                panic!("{records:?}")
            };
            assert_eq!((seen, &objects[..]), (&positions, &[object(9, 1.0)][..]));
        }
        let update = GameUpdate { join_ref: None, topic, positions, objects: vec![object(9, 1.0)] };
        for client in [ann.client, cid.client] {
            assert_eq!(world.client(client).messages(), [Message::Update(update.clone())]);
        }
        let payload = format!(
            r#"{{"players":[[{bob_id},1.0,2.0],[{},3.5,-4.0],[{},5.0,6.0]],"objects":[[9,7,1,1.0,2.0]]}}"#,
            ann.id, cid.id
        );
        assert_eq!(
            world.client(old).texts(),
            [format!(r#"{{"event":"game_update","payload":{payload},"ref":null,"topic":"game:{name}"}}"#)]
        );
        assert_eq!(world.count(|metrics| metrics.frames_encoded.value()) - encoded, 3, "native, V2, V1");
        assert_eq!(world.count(|metrics| metrics.deltas.value()) - deltas, 5);
        world.advance_ms(500);
        assert_eq!(world.client(ann.client).frames(), [], "nothing changed, nothing is told");
        assert_eq!(world.count(|metrics| metrics.moves.value()), 3);
    });
}

#[test]
fn who_asks_for_text_is_told_the_state_as_json_and_all_else_as_anybody() {
    near_and_far(Settings::default, |mut world, name| {
        let (bob, bob_id, _) = native(&mut world, name);
        world.send(bob, &move_to(0, 1.5, 2.5));
        world.send(bob, &put_object(5, 7, 1, 3.5, 4.5));
        world.advance_ms(100);
        let binary = player(&mut world, name);
        let ann = world.socket("");
        let (response, messages) = join(&mut world, ann, name, &json!({"binary": false}));
        assert_eq!(words(&messages), ["presence_state", "game_update"]);
        let whole = json!({"players": [[bob_id, 1.5, 2.5]], "objects": [[5, 7, 1, 3.5, 4.5]]});
        assert!(
            matches!(&messages[1], Message::Told { join_ref, payload, .. } if join_ref == "1" && *payload == whole),
            "{messages:?}"
        );
        world.advance_ms(100);
        for client in [bob, binary.client, ann] {
            world.client(client).frames();
        }

        let encoded = world.count(|metrics| metrics.frames_encoded.value());
        let texts = world.count(|metrics| metrics.broadcasts_encoded.value());
        push(&mut world, ann, name, "move", &json!({"x": 0.5, "y": 0.25}));
        push(&mut world, ann, name, "game_event", &json!({"code": 3, "to": "all"}));
        world.advance_ms(60);
        let id = response["player_id"].as_u64().unwrap() as u32;
        let messages = world.client(ann).messages();
        assert_eq!(
            messages,
            [Message::Told {
                join_ref: Value::Null,
                topic: format!("game:{name}"),
                event: "game_update".into(),
                payload: json!({"players": [[id, 0.5, 0.25]], "objects": []}),
            }]
        );
        let messages = world.client(binary.client).messages();
        assert_eq!(words(&messages), ["game_event", "game_update"]);
        assert_eq!(updates(messages)[0].positions, [(id, 0.5, 0.25)]);
        let encoded = world.count(|metrics| metrics.frames_encoded.value()) - encoded;
        let texts = world.count(|metrics| metrics.broadcasts_encoded.value()) - texts;
        assert_eq!((encoded, texts), (3, 1), "native, binary, JSON; the event's text is the same for both");

        // Its own pushes may be binary, and what it missed comes as text as well.
        world.send(ann, &game_state(["1", "9", &format!("game:{name}")], &[(id, 8.5, 0.5)], &[]));
        world.advance_ms(60);
        assert_eq!(told(&world.client(ann).messages(), "game_update").len(), 1);
        let mut lost =
            push(&mut world, ann, name, "reconnect", &json!({"last_seen": {"epoch": "1", "seq": 1}}));
        world.advance_ms(60);
        lost.extend(world.client(ann).messages());
        assert_eq!(words(&lost), ["catch_up", "game_update"]);
        assert_eq!(told(&lost, "game_update")[0]["players"].as_array().unwrap().len(), 2);
        let last = skipped_while_others_move(&mut world, ann, bob);
        assert_eq!(last["players"], json!([[bob_id, 2.5, 2.5], [id, 8.5, 0.5]]));

        world.say(ann, &format!(r#"["2","2","game:{name}","phx_join",{{"binary":"no"}}]"#));
        let messages = world.client(ann).messages();
        let (ok, response) = messages[0].answer(&json!("2")).unwrap();
        assert!(!ok && response["reason"].as_str().unwrap().contains("binary?"), "{response}");
    });
}

/// A client that asked for text does not read while another one moves. Returns the last state that it is told then, as text.
fn skipped_while_others_move(world: &mut World, client: ClientId, mover: ClientId) -> Value {
    world.set_reading(client, false);
    for step in 0..3_u8 {
        world.send(mover, &move_to(0, f32::from(step) + 0.5, 2.5));
        world.advance_ms(60);
    }
    world.set_reading(client, true);
    world.advance_ms(60);
    let messages = world.client(client).messages();
    let last = told(&messages, "game_update").pop().expect("a state");
    assert_eq!(updates(messages), []);
    last
}

#[test]
fn moves_that_are_none_are_refused_and_change_nothing() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = player(&mut world, name);
        for payload in [
            json!({}),
            json!({"x": 1}),
            json!({"x": "1", "y": 2}),
            json!({"x": 1e39, "y": 0}),
            json!({"x": 1, "y": 2, "input_seq": 65_536}),
            json!({"x": 1, "y": 2, "input_seq": -1}),
            json!([1]),
            json!(null),
        ] {
            let messages = push(&mut world, ann.client, name, "move", &payload);
            assert!(refusal(&messages).contains("move takes"), "{payload}");
        }
        assert!(refusal(&push(&mut world, ann.client, name, "game_state", &json!({}))).contains("binary"));
        let topic = format!("game:{name}");
        let whole = game_state(["1", "9", &topic], &[(ann.id, 1.0, 2.0)], &[]);
        for (bytes, word) in [
            (whole[..whole.len() - 1].to_vec(), "length"),
            (game_state(["1", "9", &topic], &[(ann.id, f32::NAN, 0.0)], &[]), "finite"),
            (game_state(["1", "9", &topic], &[], &[object(1, f32::INFINITY)]), "finite"),
            (game_state(["1", "9", &topic], &[(ann.id + 1, 0.0, 0.0)], &[]), "host"),
        ] {
            world.send(ann.client, &bytes);
            let messages = world.client(ann.client).messages();
            assert!(refusal(&messages).contains(word), "{messages:?}");
        }
        world.advance_ms(1_000);
        assert_eq!(world.client(ann.client).frames(), []);
        assert!(refusal(&push(&mut world, ann.client, name, "nope", &json!({}))).contains("nope"));
        let answered = push(&mut world, ann.client, name, "heartbeat", &json!({}));
        let now = world.now.unix_us / 1000;
        assert_eq!(answered[0].answer(&json!("9")), Some((true, &json!({ "timestamp": now }))));
    });
}

#[test]
fn who_goes_out_of_bounds_or_too_fast_is_corrected() {
    let rules = || GameRules {
        max_speed: 10.0,
        bounds: Bounds { min: [0.0, 0.0, f32::MIN], max: [100.0, 100.0, f32::MAX] },
        ..GameRules::default()
    };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let ann = player(&mut world, name);
            push(&mut world, ann.client, name, "move", &json!({"x": 5, "y": 5, "input_seq": 1}));
            let corrected = |world: &mut World, payload: Value| {
                let messages = push(world, ann.client, name, "move", &payload);
                let [Message::Told { join_ref, event, payload, .. }] = &messages[..] else {
                    panic!("{messages:?}")
                };
                assert_eq!((join_ref, &**event), (&json!("1"), "correction"));
                payload.clone()
            };
            assert_eq!(
                corrected(&mut world, json!({"x": 101, "y": 5, "input_seq": 2})),
                json!({"reason": "out_of_bounds", "x": 5.0, "y": 5.0, "input_seq": 2})
            );
            assert_eq!(
                corrected(&mut world, json!({"x": 50, "y": 5, "input_seq": 3})),
                json!({"reason": "too_fast", "x": 5.0, "y": 5.0, "input_seq": 3})
            );
            world.send(
                ann.client,
                &game_state(["1", "9", &format!("game:{name}")], &[(ann.id, -1.0, 5.0)], &[]),
            );
            assert_eq!(
                told(&world.client(ann.client).messages(), "correction")[0]["reason"],
                "out_of_bounds"
            );
        },
    );
}

#[test]
fn what_channels_do_is_counted_as_it_is_for_native_players() {
    let rules = || GameRules {
        bounds: Bounds { min: [0.0, 0.0, f32::MIN], max: [100.0, 100.0, f32::MAX] },
        ..GameRules::default()
    };
    near_and_far(
        || Settings { games: vec![rules()], ..Settings::default() },
        |mut world, name| {
            let ann = player(&mut world, name);
            push(&mut world, ann.client, name, "move", &json!({"x": 101, "y": 5}));
            let state =
                game_state(["1", "9", &format!("game:{name}")], &[(ann.id, 1.0, 1.0)], &[object(1, 2.0)]);
            world.send(ann.client, &state);
            let out_of_bounds = CorrectionReason::OutOfBounds.index();
            let corrections = world.count(|metrics| metrics.corrections[out_of_bounds].value());
            let moves = world.count(|metrics| metrics.moves.value());
            let objects = world.count(|metrics| metrics.objects.value());
            assert_eq!((corrections, moves, objects), (1, 1, 1));
        },
    );
}
