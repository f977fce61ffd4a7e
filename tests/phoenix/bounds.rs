//! What would be lost, kept for ever or repeated at the edges of channels: two games on one connection, replies that do not
//! arrive, rooms that are filled, shards that end.

use crate::world::client::{ClientId, Message, Object, game_state, move_to, put_object, remove_object};
use crate::world::{World, games, near_and_far, rooms};
use corelay::reasons::CloseReason;
use corelay::room::game::GameRules;
use corelay::shard::Admission;
use corelay::shard::peer::Order;
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::json;

#[test]
fn two_games_of_one_connection_that_tick_at_once_are_both_told() {
    near_and_far(Settings::default, |mut world, name| {
        let (ann, movers) = games::in_two(&mut world, name);
        for step in 1..=20_u8 {
            for mover in &movers {
                world.send(*mover, &move_to(0, f32::from(step), 0.0));
            }
            world.oversleep(60);
            let mut told: Vec<u32> = games::updates(world.client(ann).messages())
                .iter()
                .flat_map(|update| update.positions.iter().map(|(player, x, _)| (*player, *x)))
                .filter(|(_, x)| x.to_bits() == f32::from(step).to_bits())
                .map(|(player, _)| player)
                .collect();
            told.sort_unstable();
            assert_eq!(told, [1, 1], "step {step}: the one player of each game");
        }
    });
}

#[test]
fn who_stops_reading_in_two_games_is_skipped_in_both_and_stays() {
    near_and_far(Settings::default, |mut world, name| {
        let (ann, movers) = games::in_two(&mut world, name);
        world.set_reading(ann, false);
        let waits = |world: &World| world.count(|metrics| metrics.outbox_bytes.value());
        let before = waits(&world);
        for step in 0..1_000_u16 {
            for mover in &movers {
                world.send(*mover, &move_to(0, f32::from(step), 0.0));
            }
            world.advance_ms(50);
        }
        assert_eq!(world.client(ann).ended, None);
        assert_eq!(waits(&world), before, "states wait in their places, not in the lane");
        world.set_reading(ann, true);
        world.advance_ms(200);
        let updates = games::updates(world.client(ann).messages());
        let last = updates
            .iter()
            .filter(|update| update.positions.iter().any(|(_, x, _)| x.to_bits() == 999_f32.to_bits()));
        assert!(last.count() >= 2, "of each game the newest: {updates:?}");
    });
}

#[test]
fn removals_behind_a_stuck_send_do_not_pile_up_states() {
    near_and_far(Settings::default, |mut world, name| {
        let (ann, mover, _) = games::stuck_behind_a_message(&mut world, name);
        let waits = |world: &World| world.count(|metrics| metrics.outbox_bytes.value());
        let before = waits(&world);
        for id in 0..50 {
            world.send(mover, &put_object(id, 1, 0, 1.0, 1.0));
            world.advance_ms(50);
            world.send(mover, &remove_object(id));
            world.advance_ms(50);
        }
        let removals = 50 * (64 + 2 * 96);
        assert!(waits(&world) - before < removals, "{} bytes wait", waits(&world) - before);
        world.set_reading(ann.client, true);
        world.advance_ms(200);
        let mut view = std::collections::BTreeSet::new();
        for message in world.client(ann.client).messages() {
            match message {
                Message::Update(update) => view.extend(update.objects.iter().map(|object| object.id)),
                _ => {
                    let removed =
                        message.told("objects_removed").and_then(|payload| payload["ids"].as_array());
                    for id in removed.into_iter().flatten().filter_map(serde_json::Value::as_u64) {
                        view.remove(&(id as u32));
                    }
                }
            }
        }
        assert!(view.is_empty(), "no object comes back behind its removal: {view:?}");
    });
}

#[test]
fn a_frame_from_before_a_second_join_is_not_sent_behind_its_answer() {
    near_and_far(Settings::default, |mut world, name| {
        let (ann, mover, id) = games::stuck_behind_a_message(&mut world, name);
        world.send(mover, &move_to(0, 1.0, 0.0));
        world.advance_ms(60);
        world.send(mover, &move_to(0, 2.0, 0.0));
        let again = json!({ "resume_token": ann.token });
        world.say(ann.client, &format!(r#"["7","7","game:{name}","phx_join",{again}]"#));
        world.set_reading(ann.client, true);
        world.advance_ms(200);
        let updates = games::updates(world.client(ann.client).messages());
        let told: Vec<f32> = updates
            .iter()
            .flat_map(|update| &update.positions)
            .filter(|at| at.0 == id)
            .map(|at| at.1)
            .collect();
        assert_eq!(told.first(), Some(&2.0), "{told:?}");
        assert!(told.iter().all(|x| x.to_bits() == 2_f32.to_bits()), "nothing older follows: {told:?}");
    });
}

#[test]
fn a_reply_that_is_lost_does_not_cost_the_seat() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        let first = json!({ "resume_token": ann.token });
        world.hang_up(ann.client);
        // The replies to both do not arrive: the client still has its first token.
        for _ in 0..2 {
            let again = world.socket("");
            assert_eq!(games::join(&mut world, again, name, &first).0["resumed"], true);
            world.hang_up(again);
        }
        let again = world.socket("");
        let (response, _) = games::join(&mut world, again, name, &first);
        assert_eq!((&response["resumed"], &response["player_id"]), (&json!(true), &json!(ann.id)));
        games::push(&mut world, again, name, "heartbeat", &json!({}));
        world.hang_up(again);
        let thief = world.socket("");
        assert_eq!(games::join(&mut world, thief, name, &first).0["resumed"], false, "it was heard");
        let second = json!({ "resume_token": response["resume_token"] });
        let owner = world.socket("");
        assert_eq!(games::join(&mut world, owner, name, &second).0["resumed"], true);
    });
}

#[test]
fn an_event_that_parsers_of_others_cannot_read_is_refused() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        let ben = games::player(&mut world, name);
        let event = format!(r#"["1","9","game:{name}","game_event",{{"code":1,"payload":[1e999]}}]"#);
        world.say(ann.client, &event);
        assert!(games::refusal(&world.client(ann.client).messages()).contains("game_event takes"));
        assert!(games::told(&world.client(ben.client).messages(), "game_event").is_empty());
    });
}

#[test]
fn a_room_has_a_megabyte_in_memory_and_the_rest_on_disk() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        rooms::join(&mut world, ann, name, &json!({}));
        // Six letters each as JSON: 24 KiB a message.
        let body = "\u{1}".repeat(4_096);
        for _ in 0..60 {
            world.advance_ms(7_000);
            let messages = rooms::push(&mut world, ann, name, "new_message", &json!({ "body": body }));
            assert!(rooms::answer(&messages).0);
        }
        let mut history = |before: u64| {
            let messages =
                rooms::push(&mut world, ann, name, "history", &json!({"before": before, "limit": 1}));
            rooms::answer(&messages).1["messages"][0]["seq"].clone()
        };
        assert_eq!(history(60), 59);
        assert_eq!(history(25), 24, "43 times 24 KiB are in memory");
        assert_eq!(history(10), 9, "the first ones are read");
    });
}

#[test]
fn members_are_given_up_once_however_much_cannot_be_told() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let name = world.name_on(2);
    let ann = rooms::near_member(&mut world, "", &name);
    let ben = rooms::far_member(&mut world, "", &name);
    world.client(ann).frames();
    world.full_mailbox = Some(0);
    let message = format!(r#"["1",null,"room:{name}","new_message",{{"body":"a"}}]"#);
    world.say_at_once(ben, &[message.as_str(); 5]);
    assert_eq!(rooms::words(&world.client(ann).messages()), ["phx_error"]);
    assert_eq!(world.given_up, 1);
}

#[test]
fn whoever_is_told_nothing_more_has_one_notice_however_much_was_lost() {
    let rules = GameRules { players_max: 1, ..GameRules::default() };
    let placement = Placement::known(3);
    let mut world = World::new(Settings { placement, games: vec![rules], ..Settings::default() });
    let name = world.name_on(2);
    let [ann, ben] = [world.socket(""), world.socket("")];
    let overload = (false, json!({"reason": "overload"}));
    world.full_mailbox = Some(0);
    // The answer to a join is several letters.
    let join = |client: ClientId, world: &mut World| {
        world.say(client, &format!(r#"["1","9","game:{name}","phx_join",{{}}]"#));
        rooms::answer(&world.client(client).messages())
    };
    assert_eq!(join(ann, &mut world), overload);
    assert_eq!(world.given_up, 2, "of five letters that were lost, one was for all members");
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1);
    // Nobody is given up with the refusal of a full game; but it must be answered.
    assert_eq!(join(ben, &mut world), overload);
    assert_eq!(world.given_up, 3);
    world.advance_ms(20_000);
    // Nor with the answer to a join that has been overtaken by the next.
    let twice = [1, 2].map(|number| format!(r#"["{number}","{number}","game:{name}","phx_join",{{}}]"#));
    world.say_at_once(ben, &[&twice[0], &twice[1]]);
    let answers = world.client(ben).messages();
    for number in ["1", "2"] {
        let answer = answers.iter().find_map(|message| message.answer(&json!(number)));
        assert_eq!(answer, Some((false, &overload.1)), "{answers:?}");
    }
    assert_eq!(world.given_up, 7, "two answers, and what was told to all before and after");
    world.advance_ms(20_000);
    // Nor with the news that a seat is another's.
    world.full_mailbox = None;
    let ann = games::player(&mut world, &name);
    world.full_mailbox = Some(0);
    let cid = world.dial_shard(2, Admission::Admitted);
    let target = format!("/play/{name}?resume={}", ann.token);
    world.send_raw(cid, crate::world::client::request(&target).as_bytes());
    assert_eq!(world.client(cid).upgraded().player_id, ann.id);
    assert_eq!(rooms::words(&world.client(ann.client).messages()), ["phx_error"]);
    assert_eq!(world.given_up, 8);
    assert_eq!(world.count(|metrics| metrics.channels.value()), 0);
}

#[test]
fn a_second_join_that_cannot_reach_its_topic_ends_the_first_and_its_seat_waits() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let name = world.name_on(2);
    let ann = games::player(&mut world, &name);
    let join = |world: &mut World, number: u32| {
        let payload = json!({ "resume_token": ann.token });
        world.say(ann.client, &format!(r#"["{number}","9","game:{name}","phx_join",{payload}]"#));
        rooms::answer(&world.client(ann.client).messages())
    };
    world.full_mailbox = Some(2);
    assert_eq!(join(&mut world, 2), (false, json!({"reason": "overload"})));
    assert_eq!(world.count(|metrics| metrics.channels.value()), 0);
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1);
    world.full_mailbox = None;
    let (ok, response) = join(&mut world, 3);
    assert_eq!((ok, &response["resumed"], &response["player_id"]), (true, &json!(true), &json!(ann.id)));
    assert_eq!(world.count(|metrics| metrics.seats.value()), 1);
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
}

#[test]
fn a_large_state_that_a_member_asks_for_again_fills_no_queue() {
    // Four times as much may wait for a client with topics.
    let clients = ClientRules { outbox_bytes_max: 16 * 1024, ..ClientRules::default() };
    let settings = || Settings { clients, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        let topic = format!("game:{name}");
        let players: Vec<games::Player> = (0..80).map(|_| games::player(&mut world, name)).collect();
        let objects: Vec<_> = (0..64_u8).map(|n| games::object(n.into(), 1e6 + f32::from(n))).collect();
        for player in &players {
            let own = objects.iter().map(|object| Object { id: player.id << 6 | object.id, ..*object });
            world.send(player.client, &game_state(["1", "", &topic], &[], &own.collect::<Vec<_>>()));
        }
        let ann = world.socket("");
        let (_, messages) = games::join(&mut world, ann, name, &json!({"binary": false}));
        let whole: usize = rooms::told(&messages, "game_update").iter().map(objects_in).sum();
        assert_eq!(whole, 80 * 64);
        world.advance_ms(100);
        world.client(ann).frames();
        world.set_reading(ann, false);
        world.say(ann, &format!(r#"["1","2","{topic}","heartbeat",{{}}]"#));
        world
            .say(ann, &format!(r#"["1","3","{topic}","reconnect",{{"last_seen":{{"epoch":"1","seq":0}}}}]"#));
        world.advance_ms(200);
        assert_eq!(world.count(|metrics| metrics.closes[CloseReason::Slow.index()].value()), 0);
        world.set_reading(ann, true);
        world.advance_ms(200);
        let messages = world.client(ann).messages();
        assert_eq!(rooms::told(&messages, "catch_up")[0]["recovered"], false);
        assert_eq!(rooms::told(&messages, "game_update").iter().map(objects_in).sum::<usize>(), whole);
    });
}

fn objects_in(update: &serde_json::Value) -> usize {
    update["objects"].as_array().expect("a list").len()
}

#[test]
fn a_draining_shard_serves_its_topics_until_their_members_are_gone() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let name = world.name_on(2);
    let ann = rooms::near_member(&mut world, "", &name);
    world.tell_shards(&Order::Drain);
    assert_eq!(world.drained, [1], "nothing is left on this one");
    assert_eq!(rooms::words(&world.client(ann).messages()), ["server_draining"]);
    let messages = rooms::push(&mut world, ann, &name, "heartbeat", &json!({}));
    assert!(rooms::answer(&messages).0);
    world.advance_ms(4_000);
    assert_eq!(world.client(ann).close_frame(), Some((1012, "drain".into())));
    let mut drained = world.drained.clone();
    drained.sort_unstable();
    assert_eq!(drained, [0, 1, 2]);
}
