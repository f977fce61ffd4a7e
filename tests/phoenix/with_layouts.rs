//! Games of other layouts than the plain one, as Phoenix clients see them and play in them.

use crate::layouts::{PhoenixView, RichView, Shape, step};
use crate::world::client::{ClientId, masked_frame, set_state, take_payload};
use crate::world::{World, near_and_far};
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use corelay::wire::layout::{Bounds, Layout, Number};
use serde_json::{Value, json};

const BOUNDS: Bounds = Bounds { min: [-512.0, -512.0, 0.0], max: [512.0, 512.0, 64.0] };
const RICH: Layout = Layout { number: Number::F32, axes: 3, pose_bytes: 2, keys: 4, key_bytes_max: 16 };
const SHAPE: Shape = Shape { u16: false, axes: 3, pose: 2, min: BOUNDS.min, max: BOUNDS.max };

fn settings() -> Settings {
    let games = vec![GameRules { layout: RICH, bounds: BOUNDS, ..GameRules::default() }];
    Settings { games, ..Settings::default() }
}

/// Says something on the game's topic, with the ref `"9"`, and reads what came.
fn say(
    world: &mut World,
    client: ClientId,
    name: &str,
    event: &str,
    payload: &Value,
    view: &mut PhoenixView,
) {
    world.say(client, &json!(["1", "9", format!("game:{name}"), event, payload]).to_string());
    hear(world, client, view);
}

fn hear(world: &mut World, client: ClientId, view: &mut PhoenixView) {
    while let Some((first, payload)) = take_payload(&mut world.client(client).inbox) {
        view.hear(&SHAPE, first, &payload);
    }
}

fn last_answer(view: &PhoenixView) -> &Value {
    &view.told.iter().rfind(|(event, _)| event == "phx_reply").expect("an answer").1
}

fn join(world: &mut World, name: &str, payload: &Value) -> (ClientId, PhoenixView) {
    let (client, mut view) = (world.socket(""), PhoenixView::default());
    say(world, client, name, "phx_join", payload, &mut view);
    (client, view)
}

fn native(world: &mut World, name: &str) -> (ClientId, RichView) {
    let client = world.request(&format!("/play/{name}?layout=1"));
    let (status, head) = world.client(client).response();
    assert_eq!(status, 101, "{head}");
    (client, RichView::default())
}

fn read(world: &mut World, client: ClientId, view: &mut RichView) {
    while let Some((_, payload)) = take_payload(&mut world.client(client).inbox) {
        view.apply(&SHAPE, &payload);
    }
}

#[test]
fn a_join_says_that_it_understands_layouts() {
    near_and_far(settings, |mut world, name| {
        for payload in [json!({}), json!({"layout": 2}), json!({"layout": null})] {
            let (_, view) = join(&mut world, name, &payload);
            let refused = last_answer(&view);
            let reason = refused["response"]["reason"].as_str().expect("a reason");
            assert!(refused["status"] == "error" && reason.contains("join with \"layout\": 1"), "{refused}");
        }
        let (_, view) = join(&mut world, name, &json!({"layout": 1}));
        let response = &last_answer(&view)["response"];
        let layout = &response["layout"];
        let expected = json!({"number": "f32", "axes": 3, "pose_bytes": 2, "keys": 4, "key_bytes_max": 16, "tick0_us": layout["tick0_us"]});
        assert_eq!(*layout, expected);
        let bounds = json!({"min_x": -512.0, "min_y": -512.0, "min_z": 0.0, "max_x": 512.0, "max_y": 512.0, "max_z": 64.0});
        assert_eq!(response["bounds"], bounds);
        assert!(layout["tick0_us"].as_u64().is_some() && response.get("view").is_none());
    });
}

#[test]
fn players_of_both_dialects_see_each_others_places_poses_and_values() {
    near_and_far(settings, |mut world, name| {
        for payload in [json!({"layout": 1}), json!({"layout": 1, "binary": false})] {
            let (ann, mut view) = join(&mut world, name, &payload);
            let ann_id = last_answer(&view)["response"]["player_id"].as_u64().expect("a number") as u32;
            let (bob, mut bob_view) = native(&mut world, name);
            read(&mut world, bob, &mut bob_view);
            let bob_id = bob_view.welcome.0;
            world.send(bob, &step(1, &[1.5, 2.5, 3.5], &[0x40, 0x80]));
            world.send(bob, &set_state(2, b"red"));
            let move_to = json!({"x": 4.0, "y": 5.0, "z": 6.0, "pose": "AQI="});
            say(&mut world, ann, name, "move", &move_to, &mut view);
            say(&mut world, ann, name, "set_state", &json!({"key": 1, "value": "Ymx1ZQ=="}), &mut view);
            assert_eq!(last_answer(&view)["status"], "ok");
            world.advance_ms(120);
            hear(&mut world, ann, &mut view);
            read(&mut world, bob, &mut bob_view);
            assert_eq!(bob_view.players[&ann_id], (vec![4.0, 5.0, 6.0], vec![1, 2]));
            assert_eq!(bob_view.values[&(ann_id, 1)], b"blue");
            let (place, pose) = &view.players[&bob_id];
            assert_eq!(place[..], [1.5, 2.5, 3.5]);
            // In text a pose is base64.
            assert!(pose[..] == [0x40, 0x80] || pose[..] == b"QIA="[..], "{pose:?}");
            assert_eq!(view.values[&(bob_id, 2)], "cmVk");
            // A newcomer is told all of it, and then of what is removed.
            let (_, newcomer) = join(&mut world, name, &payload);
            assert_eq!((&newcomer.players, &newcomer.values), (&view.players, &view.values));
            say(&mut world, ann, name, "set_state", &json!({"key": 1}), &mut view);
            world.advance_ms(120);
            hear(&mut world, ann, &mut view);
            assert!(!view.values.contains_key(&(ann_id, 1)));
            world.hang_up(bob);
            world.advance_ms(20_000);
            hear(&mut world, ann, &mut view);
            assert!(!view.values.contains_key(&(bob_id, 2)) && !view.players.contains_key(&bob_id));
            world.hang_up(ann);
            world.advance_ms(20_000);
        }
    });
}

#[test]
fn a_state_in_binary_has_the_layouts_stride() {
    near_and_far(settings, |mut world, name| {
        let (ann, mut view) = join(&mut world, name, &json!({"layout": 1}));
        let id = last_answer(&view)["response"]["player_id"].as_u64().expect("a number") as u32;
        let place = |z: f32| [1.0_f32, 2.0, z].iter().flat_map(|at| at.to_be_bytes()).collect::<Vec<u8>>();
        let state = |position: &[u8], object: &[u8]| {
            let topic = format!("game:{name}");
            let head =
                [&[0, 1, 1, topic.len() as u8, 10][..], b"19", topic.as_bytes(), b"game_state"].concat();
            let counts = [1_u32, u32::from(!object.is_empty())].into_iter().flat_map(u32::to_be_bytes);
            masked_frame(0x82, &[head, counts.collect(), position.to_vec(), object.to_vec()].concat())
        };
        let position = [&id.to_be_bytes()[..], &place(3.0), &[7, 8]].concat();
        let object = [&9_u32.to_be_bytes()[..], &[0, 1, 0, 0], &place(4.0)].concat();
        world.send_raw(ann, &state(&position, &object));
        world.advance_ms(120);
        hear(&mut world, ann, &mut view);
        assert_eq!(view.players[&id], (vec![1.0, 2.0, 3.0], vec![7, 8]));
        assert_eq!(view.objects[&9], [1.0, 2.0, 4.0]);
        world.send_raw(ann, &state(&position[..12], &[]));
        hear(&mut world, ann, &mut view);
        let reason = last_answer(&view)["response"]["reason"].clone();
        assert!(
            reason.as_str().expect("a reason").contains("n positions of 18 bytes and m objects of 20"),
            "{reason}"
        );
    });
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    near_and_far(settings, |mut world, name| {
        let (ann, mut view) = join(&mut world, name, &json!({"layout": 1}));
        for (event, payload, says) in [
            ("move", json!({"x": 1.0, "y": 2.0}), "z: number, pose?: 2 bytes in base64"),
            ("move", json!({"x": 1.0, "y": 2.0, "z": 3.0, "pose": "AQ=="}), "pose?: 2 bytes"),
            ("move", json!({"x": 1.0, "y": 2.0, "z": 3.0, "pose": 7}), "pose?: 2 bytes"),
            ("set_state", json!({"key": 0, "value": ""}), "key: 1 to 4"),
            ("set_state", json!({"key": 5, "value": ""}), "key: 1 to 4"),
            ("set_state", json!({"key": 1, "value": "not base64!"}), "in base64"),
            ("set_state", json!({"key": 1, "value": "AAAAAAAAAAAAAAAAAAAAAAA="}), "at most 16 bytes"),
            ("set_view", json!({"radius": 2}), "has no views"),
            ("set_view", json!({"radius": 256}), "radius?: 0 to 255"),
        ] {
            say(&mut world, ann, name, event, &payload, &mut view);
            let answer = last_answer(&view);
            let reason = answer["response"]["reason"].as_str().unwrap_or_default();
            assert!(answer["status"] == "error" && reason.contains(says), "{event} {payload}: {answer}");
        }
    });
}

#[test]
fn whoever_asks_is_told_which_moves_were_used() {
    near_and_far(settings, |mut world, name| {
        let (ann, mut view) = join(&mut world, name, &json!({"layout": 1, "ack": true}));
        let (_, mut quiet) = join(&mut world, name, &json!({"layout": 1}));
        let step = |seq: u16, z: f32| json!({"x": 1.0, "y": 1.0, "z": z, "input_seq": seq});
        say(&mut world, ann, name, "move", &step(6, 1.0), &mut view);
        say(&mut world, ann, name, "move", &step(7, 2.0), &mut view);
        world.advance_ms(120);
        hear(&mut world, ann, &mut view);
        say(&mut world, ann, name, "move", &step(8, 99.0), &mut view);
        world.advance_ms(120);
        hear(&mut world, ann, &mut view);
        let acks: Vec<&Value> =
            view.told.iter().filter(|(event, _)| event == "ack").map(|(_, ack)| ack).collect();
        let seqs: Vec<u64> = acks.iter().filter_map(|ack| ack["input_seq"].as_u64()).collect();
        assert_eq!(seqs, [7, 8], "the last one of each tick, also one that is corrected");
        let slack = acks[0]["slack_ms"].as_f64().expect("a number");
        assert!((0.0..=50.0).contains(&slack) && acks[0]["tick"].as_u64().is_some(), "{acks:?}");
        quiet.told.retain(|(event, _)| event == "ack");
        assert!(quiet.told.is_empty());
    });
}

#[test]
fn of_a_busy_channel_the_latest_ack_waits_and_costs_no_lane() {
    near_and_far(settings, |mut world, name| {
        let (ann, mut view) = join(&mut world, name, &json!({"layout": 1, "ack": true}));
        world.advance_ms(120);
        hear(&mut world, ann, &mut view);
        world.set_reading(ann, false);
        for seq in 1..=30 {
            let step = json!({"x": f64::from(seq), "y": 1.0, "z": 1.0, "input_seq": seq});
            // Unanswered: a push without a reference.
            world.say(ann, &json!([null, null, format!("game:{name}"), "move", step]).to_string());
            world.advance_ms(50);
        }
        view.told.clear();
        world.set_reading(ann, true);
        world.advance_ms(120);
        hear(&mut world, ann, &mut view);
        let acks = view.told.iter().filter(|(event, _)| event == "ack");
        let seqs: Vec<u64> = acks.filter_map(|(_, ack)| ack["input_seq"].as_u64()).collect();
        assert_eq!(seqs.last(), Some(&30));
        assert!(seqs.len() <= 3, "{seqs:?}");
    });
}
