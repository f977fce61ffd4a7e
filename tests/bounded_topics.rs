//! The memory of topics and seats is bounded, however they are asked for, and what nobody can need any more goes.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use std::time::Duration;

use corelay::limits::{CHANNELS_PER_CONNECTION_MAX, EVENTS_KEPT_FOR, TOPICS_PER_SHARD_MAX};
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use serde_json::{Value, json};
use world::client::{ClientId, close, move_to};
use world::{World, games, near_and_far, rooms};

fn with_seats_held_for(seconds: u64, players_max: u32) -> Settings {
    let seat_hold = Duration::from_secs(seconds);
    Settings {
        games: vec![GameRules { seat_hold, players_max, ..GameRules::default() }],
        ..Settings::default()
    }
}

/// Whether all events from the first one on can be caught up with.
fn recovers(world: &mut World, client: ClientId, name: &str, epoch: &Value) -> bool {
    let seen = json!({"last_seen": {"epoch": epoch, "seq": 0}});
    let told = games::push(world, client, name, "reconnect", &seen);
    games::told(&told, "catch_up")[0]["recovered"] == true
}

#[test]
fn events_are_kept_for_a_minute_or_as_long_as_a_seat_and_no_longer() {
    for (hold_s, kept_s) in [(15, EVENTS_KEPT_FOR.as_secs()), (100, 100)] {
        near_and_far(
            || with_seats_held_for(hold_s, 10),
            |mut world, name| {
                let ann = world.socket("");
                let (response, _) = games::join(&mut world, ann, name, &json!({}));
                games::push(&mut world, ann, name, "game_event", &json!({"code": 1, "payload": 1}));
                for _ in 0..kept_s / 10 - 1 {
                    world.advance_ms(10_000);
                    games::push(&mut world, ann, name, "heartbeat", &json!({}));
                }
                world.advance_ms(9_900);
                assert!(recovers(&mut world, ann, name, &response["epoch"]), "before {kept_s} s");
                world.advance_ms(20_000);
                assert!(!recovers(&mut world, ann, name, &response["epoch"]), "20 s later");
            },
        );
    }
}

#[test]
fn topics_that_are_made_up_are_refused_at_the_bound_and_nobody_else_is_harmed() {
    let mut world = World::new(Settings { connections_per_shard_max: 2_000, ..Settings::default() });
    let [ann, bob] = ["", ""].map(|query| rooms::near_member(&mut world, query, "lobby"));
    let (player, _, _) = games::native(&mut world, "arena");
    let mut number = 2;
    while number < TOPICS_PER_SHARD_MAX {
        let client = world.socket("");
        let last = (number + CHANNELS_PER_CONNECTION_MAX).min(TOPICS_PER_SHARD_MAX);
        let joins: Vec<String> =
            (number..last).map(|room| format!(r#"["1","1","room:{room}","phx_join",{{}}]"#)).collect();
        world.say_at_once(client, &joins.iter().map(String::as_str).collect::<Vec<_>>());
        number = last;
    }
    assert_eq!(world.count(|metrics| metrics.rooms.value() + metrics.games.value()), 65_536);

    let refused = world.socket("");
    let messages = rooms::join(&mut world, refused, "one-more", &json!({}));
    let (ok, response) = messages[0].answer(&json!("1")).expect("an answer");
    assert!(!ok && response["reason"].as_str().is_some_and(|text| text.contains("no room")), "{response}");
    let refused = world.request("/play/one-more");
    assert_eq!(world.client(refused).response().0, 503);

    world.client(bob).frames();
    assert!(rooms::answer(&rooms::push(&mut world, ann, "lobby", "new_message", &json!({"body": "a"}))).0);
    assert_eq!(rooms::told(&world.client(bob).messages(), "new_message").len(), 1);
    world.join("/play/arena");
    world.send(player, &move_to(0, 1.0, 1.0));
    world.advance_ms(100);
    assert!(!world.client(player).frames().is_empty(), "games go on");

    // A game ends with its last player, and another topic has its place.
    world.send_raw(player, &close(1000, ""));
    world.advance_ms(20_000);
    assert_eq!(world.count(|metrics| metrics.games.value()), 1, "somebody else is in it");
}

#[test]
fn connections_in_a_loop_hold_no_more_seats_than_there_are() {
    let mut world = World::new(with_seats_held_for(15, 20));
    let mut refused = 0;
    for _ in 0..100 {
        let client = world.request("/play/arena");
        match world.client(client).response().0 {
            101 => world.hang_up(client),
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!((refused, world.count(|metrics| metrics.seats_held.value())), (80, 20));
    world.advance_ms(16_000);
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
    assert_eq!(world.count(|metrics| metrics.games.value()), 0, "nothing is left of them");
}

#[test]
fn a_seat_that_is_resumed_in_a_loop_is_one_seat() {
    let mut world = World::new(with_seats_held_for(15, 20));
    let (mut client, player, mut token) = games::native(&mut world, "arena");
    for _ in 0..200 {
        world.hang_up(client);
        client = world.request(&format!("/play/arena?resume={token}"));
        let welcome = world.client(client).upgraded();
        assert_eq!(welcome.player_id, player);
        token = welcome.resume_token;
        let seats = |world: &World| world.count(|metrics| metrics.seats.value());
        assert_eq!((seats(&world), world.count(|metrics| metrics.seats_held.value())), (1, 0));
    }
}
