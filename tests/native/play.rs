//! The native protocol at the sans-I/O border: what players send, and what every other player gets, record by record.

use std::time::Duration;

use crate::world::World;
use crate::world::client::{
    ClientId, Frame, Object, Record, event, host_moves, masked_frame, move_to, ping, put_object,
    remove_object,
};
use corelay::reasons::{CorrectionReason, ErrorCode, RateClass};
use corelay::room::game::GameRules;
use corelay::shard::settings::{ClientRules, Settings};
use corelay::wire::layout::Bounds;

fn world_with(rules: GameRules) -> World {
    World::new(Settings { games: vec![rules], ..Settings::default() })
}

/// Lets a tick pass, and forgets what it brought.
fn settle(world: &mut World, clients: &[ClientId]) {
    world.advance_ms(100);
    for client in clients {
        world.client(*client).frames();
    }
}

#[test]
fn two_players_see_each_other_move() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let welcome = world.client(ann).upgraded();
    assert_eq!((welcome.player_id, welcome.tick_hz, welcome.flags), (1, 20, 4));
    assert_eq!(
        (welcome.seq, welcome.bounds, welcome.max_speed),
        (0, [f32::MIN, f32::MIN, f32::MAX, f32::MAX], f32::INFINITY)
    );
    assert_eq!(welcome.server_time_us, world.now.unix_us);
    let bob = world.join("/play/arena?name=Bob");

    world.advance_ms(60);
    assert_eq!(
        world.client(ann).records(),
        [Record::Roster { flags: 0, joined: vec![(2, "guest-2".into(), "Bob".into())], left: vec![] }]
    );
    assert_eq!(world.client(bob).records(), [], "Bob knows the whole roster, himself included");

    world.send(ann, &move_to(1, 3.0, 4.0));
    world.send(ann, &move_to(2, 5.0, 6.0));
    world.advance_ms(60);
    for client in [ann, bob] {
        let records = world.client(client).records();
        let [Record::Delta { positions, .. }] = &records[..] else { panic!("{records:?}") };
        assert_eq!(positions[..], [(1, 5.0, 6.0)], "the newest position, once");
    }
    world.advance_ms(200);
    assert_eq!(world.client(bob).frames(), [], "nothing changed, nothing is sent");
    assert_eq!(world.count(|metrics| metrics.frames_encoded.value()), 1, "one frame for both");
}

#[test]
fn a_newcomer_gets_everything_in_order() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena?name=Ann");
    world.send(ann, &move_to(1, 1.0, 2.0));
    world.send(ann, &put_object(77, 3, 4, 5.0, 6.0));
    let bob = world.request("/play/arena");
    let (status, _) = world.client(bob).response();
    assert_eq!(status, 101);
    let records = world.client(bob).records();
    let [
        Record::Welcome(_),
        Record::Roster { flags: 1, joined, left },
        Record::Keyframe { positions, objects, .. },
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    let who = |id, user: &str, name: &str| (id, user.to_owned(), name.to_owned());
    assert_eq!(joined[..], [who(1, "guest-1", "Ann"), who(2, "guest-2", "guest-2")]);
    assert!(left.is_empty());
    assert_eq!(positions[..], [(1, 1.0, 2.0)], "no entry for a player that has not moved");
    assert_eq!(objects[..], [Object { id: 77, kind: 3, flags: 4, x: 5.0, y: 6.0 }]);
}

#[test]
fn fifty_joins_within_a_tick_are_one_record() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    settle(&mut world, &[ann]);
    let others: Vec<_> = (0..50).map(|_| world.join("/play/arena")).collect();
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Roster { flags: 0, joined, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(joined.len(), 50);
    let told: Vec<_> = others.iter().map(|other| world.client(*other).records()).collect();
    let counts: Vec<_> = told
        .iter()
        .map(|records| match &records[..] {
            [] => 0,
            [Record::Roster { joined, .. }] => joined.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, (0..50).rev().collect::<Vec<_>>(), "each is told of those after it, of nobody twice");
}

#[test]
fn who_joins_and_leaves_within_a_tick_was_never_there() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    settle(&mut world, &[ann]);
    let bob = world.join("/play/arena");
    let cid = world.join("/play/arena");
    world.send_raw(bob, &crate::world::client::close(1000, ""));
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Roster { joined, left, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!((joined.len(), joined[0].0, left.len()), (1, 3, 0));
    let records = world.client(cid).records();
    let [Record::Roster { joined, left, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!((joined.len(), &left[..]), (0, &[(2, 0)][..]), "Cid had been told of Bob");
}

#[test]
fn a_player_that_leaves_takes_position_and_objects_along() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let bob = world.join("/play/arena");
    world.send(bob, &move_to(1, 1.0, 1.0));
    world.send(bob, &put_object(5, 0, 0, 0.0, 0.0));
    settle(&mut world, &[ann]);
    world.send_raw(bob, &crate::world::client::close(1000, "bye"));
    assert_eq!(world.client(bob).close_frame(), Some((1000, "bye".into())));
    assert_eq!(world.client(bob).ended.map(|reason| reason.map(|reason| reason.label())), Some(Some("bye")));
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Roster { left, .. }, Record::Delta { gone_players, gone_objects, positions, objects, .. }] =
        &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((&left[..], &gone_players[..], &gone_objects[..]), (&[(2, 0)][..], &[2][..], &[5][..]));
    assert!(positions.is_empty() && objects.is_empty());
}

#[test]
fn objects_change_hands_only_by_being_removed() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let bob = world.join("/play/arena");
    settle(&mut world, &[ann, bob]);
    world.send(ann, &put_object(9, 1, 2, 3.0, 4.0));
    world.send(bob, &put_object(9, 1, 2, 9.0, 9.0));
    world.send(bob, &remove_object(9));
    let refused = world.client(bob).records();
    assert!(
        refused
            .iter()
            .all(|record| matches!(record, Record::Error { code: 3, text } if text.contains("object 9")))
            && refused.len() == 2,
        "{refused:?}"
    );
    settle(&mut world, &[bob]);
    world.send(ann, &remove_object(9));
    world.send(ann, &remove_object(1234));
    world.advance_ms(60);
    let records = world.client(bob).records();
    let [Record::Delta { gone_objects, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(gone_objects[..], [9]);
    assert_eq!(world.count(|metrics| metrics.errors[ErrorCode::NotYours.index()].value()), 2);
}

#[test]
fn a_player_owns_at_most_64_objects() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    for id in 0..65 {
        world.advance_ms(20);
        world.send(ann, &put_object(id, 0, 0, 0.0, 0.0));
    }
    let errors: Vec<_> = world
        .client(ann)
        .records()
        .into_iter()
        .filter(|record| matches!(record, Record::Error { .. }))
        .collect();
    assert!(matches!(&errors[..], [Record::Error { code: 4, text }] if text.contains("64")), "{errors:?}");
}

#[test]
fn events_reach_whom_they_are_meant_for_with_one_numbering() {
    let mut world = World::new(Settings::default());
    let [ann, bob, cid] = ["Ann", "Bob", "Cid"].map(|name| world.join(&format!("/play/arena?name={name}")));
    settle(&mut world, &[ann, bob, cid]);
    world.send(ann, &event(0, 10, 0, b"others"));
    world.send(ann, &event(1, 11, 0, b"all"));
    world.send(ann, &event(2, 12, 3, b"cid"));
    let seen = |world: &mut World, client| -> Vec<(u8, u16, u32, u64, Vec<u8>)> {
        let records = world.client(client).records();
        let seen = records.into_iter().map(|record| match record {
            Record::Event { scope, code, sender, seq, payload } => (scope, code, sender, seq, payload),
            other => panic!("{other:?}"),
        });
        seen.collect()
    };
    let all = (1, 11, 1, 2, b"all".to_vec());
    assert_eq!(seen(&mut world, ann), std::slice::from_ref(&all));
    assert_eq!(seen(&mut world, bob), [(0, 10, 1, 1, b"others".to_vec()), all.clone()]);
    assert_eq!(
        seen(&mut world, cid),
        [(0, 10, 1, 1, b"others".to_vec()), all, (2, 12, 1, 3, b"cid".to_vec())]
    );

    world.send(ann, &event(2, 12, 99, b"nobody"));
    let records = world.client(ann).records();
    assert!(matches!(&records[..], [Record::Error { code: 5, text }] if text.contains("99")), "{records:?}");
}

#[test]
fn a_ping_comes_back_with_both_times() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.send(ann, &ping(0xDEAD_BEEF, 123));
    let records = world.client(ann).records();
    let [Record::Pong { nonce: 0xDEAD_BEEF, client_time_us: 123, server_time_us, .. }] = records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(server_time_us, world.now.unix_us);
}

#[test]
fn steps_out_of_bounds_are_corrected() {
    let bounds = Bounds { min: [-10.0, 0.0, f32::MIN], max: [10.0, 5.0, f32::MAX] };
    let mut world = world_with(GameRules { bounds, ..GameRules::default() });
    let ann = world.join("/play/arena");
    let correction = |world: &mut World, seq, x, y| {
        world.send(ann, &move_to(seq, x, y));
        let records = world.client(ann).records();
        let [Record::Correction { reason: 1, input_seq, x, y }] = records[..] else { panic!("{records:?}") };
        assert_eq!(input_seq, seq);
        (x, y)
    };
    assert_eq!(
        correction(&mut world, 1, 99.0, -1.0),
        (10.0, 0.0),
        "before the first step: the nearest place"
    );
    world.send(ann, &move_to(2, 10.0, 5.0));
    assert_eq!(correction(&mut world, 3, 10.5, 5.0), (10.0, 5.0));
    assert_eq!(world.count(|metrics| metrics.moves.value()), 1);
    assert_eq!(world.count(|metrics| metrics.corrections[CorrectionReason::OutOfBounds.index()].value()), 2);
}

#[test]
fn speed_is_an_allowance_that_grows_with_time() {
    let mut world = world_with(GameRules { max_speed: 10.0, ..GameRules::default() });
    let ann = world.join("/play/arena");
    world.send(ann, &move_to(0, 500.0, 0.0));
    for step in 1..=12 {
        world.send(ann, &move_to(step, 500.0 + f32::from(step), 0.0));
    }
    assert_eq!(world.client(ann).records(), [], "a bunch within the allowance of 1.25 s");
    world.send(ann, &move_to(13, 513.0, 0.0));
    let records = world.client(ann).records();
    assert_eq!(records, [Record::Correction { reason: 2, input_seq: 13, x: 512.0, y: 0.0 }]);
    world.advance_ms(1300);
    world.client(ann).frames();
    world.send(ann, &move_to(14, 524.0, 0.0));
    assert_eq!(world.client(ann).records(), []);
}

#[test]
fn moves_that_the_network_holds_back_for_a_second_are_not_corrected() {
    for tick_hz in [1, 4, 20, 50] {
        let mut world = world_with(GameRules { max_speed: 10.0, tick_hz, ..GameRules::default() });
        let ann = world.join("/play/arena");
        let (interval_ms, mut held_back) = (1000 / u64::from(tick_hz), Vec::new());
        let mut sent = 0;
        world.send(ann, &move_to(0, 0.0, 0.0));
        for ms in (0..12_000).step_by(10) {
            world.advance_ms(10);
            world.client(ann).frames();
            while sent * interval_ms < ms {
                sent += 1;
                held_back.push(move_to(sent as u16, (10 * sent * interval_ms) as f32 / 1e3, 0.0));
            }
            // Three times, for a second each.
            if !(3_000..4_000).contains(&ms) && !(5_000..6_000).contains(&ms) && !(7_000..8_000).contains(&ms)
            {
                for record in held_back.drain(..) {
                    world.send(ann, &record);
                }
            }
            assert_eq!(world.client(ann).records(), [], "at {ms} ms of {tick_hz} Hz");
        }
        let corrected = world.count(|metrics| metrics.corrections[CorrectionReason::TooFast.index()].value());
        assert!(corrected == 0 && sent >= 11_900 / interval_ms);
    }
}

#[test]
fn only_a_host_moves_others() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.send(ann, &host_moves(&[(1, 0.0, 0.0)]));
    let records = world.client(ann).records();
    assert!(
        matches!(&records[..], [Record::Error { code: 2, text }] if text.contains("host")),
        "{records:?}"
    );
}

#[test]
fn malformed_records_are_named_and_the_tenth_ends_it() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let cases: [(&[u8], &str); 9] = [
        (&[], "empty"),
        (&[0x99], "0x99"),
        (&[0x02; 12], "0x02"),
        (&[1; 11], "12 bytes"),
        (&[1; 13], "12 bytes"),
        (&[4; 19], "20 bytes"),
        (&[6, 4, 0, 0, 0, 0, 0, 0], "scope"),
        (&[8, 0, 0, 0, 0, 0, 0, 2, 0], "HostMoves"),
        (&[7; 15], "16 bytes"),
    ];
    for (record, named) in cases {
        world.send(ann, record);
        let records = world.client(ann).records();
        assert!(
            matches!(&records[..], [Record::Error { code: 1, text }] if text.contains(named)),
            "{records:?}"
        );
    }
    world.send(ann, &move_to(1, f32::NAN, 0.0));
    let frames = world.client(ann).frames();
    let [Frame::Record(Record::Error { code: 1, text }), Frame::Close(Some((1003, word)))] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert!(text.contains("finite") && word == "malformed");
    assert_eq!(world.count(|metrics| metrics.moves.value()), 0);
}

#[test]
fn over_a_rate_records_are_dropped_and_the_client_is_told_once_a_second() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    for seq in 0..100 {
        world.send(ann, &move_to(seq, f32::from(seq), 0.0));
    }
    let records = world.client(ann).records();
    let [Record::RateLimited { class: 1, retry_after_ms }] = records[..] else { panic!("{records:?}") };
    assert!((16..=17).contains(&retry_after_ms), "{retry_after_ms} ms");
    assert_eq!(world.count(|metrics| metrics.moves.value()), 60);
    assert_eq!(world.count(|metrics| metrics.rate_limited[RateClass::Move.index()].value()), 40);
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Delta { positions, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(positions[..], [(1, 59.0, 0.0)]);
    world.send(ann, &event(0, 1, 0, b""));
    for nonce in 0..21 {
        world.send(ann, &ping(nonce, 0));
    }
    let records = world.client(ann).records();
    assert_eq!(records.len(), 21, "20 pongs");
    assert!(matches!(records[20], Record::RateLimited { class: 4, .. }), "{:?}", records[20]);
}

#[test]
fn twenty_times_a_rate_for_ten_seconds_is_abuse() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let mut sent = 0;
    while world.client(ann).ended.is_none() && !world.client(ann).half_closed {
        assert!(sent < 20_000, "never closed");
        // Many records per message would be needed to reach this rate within the byte budget; the rim would pause.
        world.send(ann, &move_to(0, 0.0, 0.0));
        sent += 1;
        if sent % 13 == 0 {
            world.advance_ms(10);
        }
    }
    assert_eq!(world.client(ann).close_frame(), Some((1008, "abuse".into())));
    assert!(sent > 12_000, "after {sent}");
}

#[test]
fn over_the_byte_budget_reading_stops_until_it_is_back() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let big = event(0, 1, 0, &[7; 1024]);
    let mut sent = 0;
    while !world.client(ann).paused {
        sent += big.len() + 8;
        assert!(sent < 200_000, "never paused");
        world.send(ann, &big);
    }
    assert!((128 * 1024..136 * 1024).contains(&sent), "{sent} bytes");
    let told = world.client(ann).records();
    assert!(told.iter().any(|record| matches!(record, Record::RateLimited { class: 5, .. })), "{told:?}");
    world.advance_ms(200);
    assert!(!world.client(ann).paused);
    assert!(world.client(ann).ended.is_none());
}

#[test]
fn a_busy_socket_is_skipped_and_gets_a_keyframe_next() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let bob = world.join("/play/arena");
    settle(&mut world, &[ann, bob]);
    world.set_reading(bob, false);
    for step in 0..5 {
        world.send(ann, &move_to(step, f32::from(step), 0.0));
        world.advance_ms(50);
    }
    assert_eq!(world.client(bob).frames(), []);
    let seen = world.client(ann).records();
    assert!(seen.iter().all(|record| matches!(record, Record::Delta { .. })) && seen.len() == 5, "{seen:?}");
    assert_eq!(world.count(|metrics| metrics.frames_skipped.value()), 4, "the first frame is in flight");

    world.set_reading(bob, true);
    world.advance_ms(60);
    let records = world.client(bob).records();
    let [Record::Delta { .. }, Record::Keyframe { positions, .. }] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(positions[..], [(1, 4.0, 0.0)], "the newest state, though nothing changed meanwhile");
    world.send(ann, &move_to(9, 9.0, 0.0));
    world.advance_ms(60);
    assert!(matches!(world.client(bob).records()[..], [Record::Delta { .. }]));
}

#[test]
fn a_reader_that_stops_costs_only_itself() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    let bob = world.join("/play/arena");
    settle(&mut world, &[ann, bob]);
    world.set_reading(bob, false);
    let mut events = 0;
    while world.count(|metrics| metrics.closes[corelay::reasons::CloseReason::Slow.index()].value()) == 0 {
        world.send(ann, &event(1, 1, 0, &[0; 1024]));
        world.send(bob, &move_to(0, 0.0, 0.0));
        world.advance_ms(60);
        events += 1;
        assert!(events < 400, "never closed");
    }
    assert!((220..=240).contains(&events), "256 KiB of events of 1 KiB, not {events}");
    let seen = world.client(ann).records();
    assert_eq!(seen.iter().filter(|record| matches!(record, Record::Event { .. })).count(), events);
    world.advance(Duration::from_secs(3));
    assert!(world.client(bob).ended.is_some(), "it was given time for the close, then ended");
    assert!(world.count(|metrics| metrics.outbox_bytes.value()) == 0);
}

#[test]
fn pongs_that_nobody_reads_are_not_kept_by_the_hundred_thousand() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.set_reading(ann, false);
    let ping = masked_frame(0x89, b"");
    let mut sent = 0;
    while world.count(|metrics| metrics.closes[corelay::reasons::CloseReason::Slow.index()].value()) == 0 {
        world.send_raw(ann, &ping);
        world.advance_ms(1);
        sent += 1;
        assert!(sent < 10_000, "never closed");
    }
    assert!(sent <= 3_000, "{sent} pongs");
}

#[test]
fn a_whole_roster_that_is_too_long_comes_in_parts() {
    let rules = GameRules { players_max: 1_000, ..GameRules::default() };
    let clients = ClientRules { presence_list_max: 1_000, ..ClientRules::default() };
    let mut world = World::new(Settings { games: vec![rules], clients, ..Settings::default() });
    let name = "n".repeat(64);
    for _ in 0..999 {
        world.join(&format!("/play/arena?name={name}"));
    }
    let last = world.request(&format!("/play/arena?name={name}"));
    world.client(last).response();
    let records = world.client(last).records();
    let rosters: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Roster { flags, joined, .. } => Some((*flags, joined.len())),
            _ => None,
        })
        .collect();
    assert_eq!(rosters.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [3, 0]);
    assert_eq!(rosters.iter().map(|(_, joined)| joined).sum::<usize>(), 1_000);
    let refused = world.request("/play/arena");
    let (status, text) = world.client(refused).response();
    assert!(status == 503 && text.contains("1000 seats"), "{text}");
}

#[test]
fn rules_come_from_the_first_pattern_that_fits() {
    let rules =
        |pattern: &str, tick_hz| GameRules { pattern: pattern.into(), tick_hz, ..GameRules::default() };
    let games = vec![rules("arena-*", 60), rules("*", 5)];
    let mut world = World::new(Settings { games, ..Settings::default() });
    for (game, tick_hz) in [("arena-1", 60), ("lobby", 5)] {
        let client = world.request(&format!("/play/{game}"));
        assert_eq!(world.client(client).upgraded().tick_hz, tick_hz);
    }
}
