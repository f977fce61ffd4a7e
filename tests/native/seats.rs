//! Seats and recovery (section 5 of the protocol), liveness (section 6) and tokens (section 2) at the sans-I/O border.

use std::time::Duration;

use crate::world::client::{ClientId, Frame, Record, event, host_moves, move_to, put_object};
use crate::world::{STARTED_AT_S, World};
use corelay::reasons::CloseReason;
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};

/// The events among a client's records, as (seq, payload).
fn events(world: &mut World, client: ClientId) -> Vec<(u64, Vec<u8>)> {
    let records = world.client(client).records();
    let event = |record| match record {
        Record::Event { seq, payload, .. } => Some((seq, payload)),
        _ => None,
    };
    records.into_iter().filter_map(event).collect()
}

fn closes(world: &World, reason: CloseReason) -> u64 {
    world.count(|metrics| metrics.closes[reason.index()].value())
}

#[test]
fn a_lost_player_comes_back_to_its_seat_and_misses_nothing() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let before = world.client(ann).upgraded();
    let bob = world.join("/play/arena?name=Bob");
    world.send(ann, &move_to(1, 7.0, 8.0));
    world.send(ann, &put_object(3, 0, 0, 1.0, 1.0));
    world.send(bob, &event(1, 1, 0, b"seen"));
    world.advance_ms(100);
    assert_eq!(events(&mut world, ann), [(1, b"seen".to_vec())]);
    world.client(bob).frames();

    world.hang_up(ann);
    assert_eq!(closes(&world, CloseReason::Lost), 1);
    world.send(bob, &event(0, 1, 0, b"missed"));
    world.send(bob, &event(2, 1, 2, b"to himself"));
    world.send(bob, &event(2, 1, 1, b"to her"));
    world.advance(Duration::from_secs(4));
    let told = world.client(bob).records();
    assert!(!told.iter().any(|record| matches!(record, Record::Roster { .. })), "her seat is held: {told:?}");

    let again = world.request(&format!("/play/arena?resume={}&seq=1", before.resume_token));
    world.client(again).response();
    let records = world.client(again).records();
    let [
        Record::Welcome(welcome),
        Record::Roster { .. },
        Record::Keyframe { positions, objects, .. },
        missed @ ..,
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((welcome.flags, welcome.player_id, welcome.epoch, welcome.seq), (7, 1, before.epoch, 4));
    assert_ne!(welcome.resume_token, before.resume_token);
    assert_eq!((positions[..].to_vec(), objects.len()), (vec![(1, 7.0, 8.0)], 1));
    let missed: Vec<_> = missed
        .iter()
        .map(|record| match record {
            Record::Event { seq, payload, .. } => (*seq, &payload[..]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(missed, [(2, &b"missed"[..]), (4, b"to her")]);

    world.send(bob, &event(0, 1, 0, b"live"));
    assert_eq!(events(&mut world, again), [(5, b"live".to_vec())]);
    world.advance_ms(100);
    assert!(!world.client(bob).records().iter().any(|record| matches!(record, Record::Roster { .. })));
    assert_eq!((world.count(|m| m.seats.value()), world.count(|m| m.seats_held.value())), (2, 0));
}

#[test]
fn a_seat_that_nobody_claims_is_freed() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let before = world.client(ann).upgraded();
    let bob = world.join("/play/arena");
    world.send(ann, &move_to(1, 7.0, 8.0));
    world.advance_ms(100);
    world.hang_up(ann);
    for _ in 0..15 {
        world.advance(Duration::from_secs(1));
        world.send(bob, &move_to(0, 0.0, 0.0));
    }
    world.advance_ms(100);
    let records = world.client(bob).records();
    assert!(
        records.contains(&Record::Roster { flags: 0, joined: vec![], left: vec![(1, 1)] }),
        "{records:?}"
    );
    let again = world.request(&format!("/play/arena?resume={}&seq=0", before.resume_token));
    let welcome = world.client(again).upgraded();
    assert_eq!((welcome.flags, welcome.epoch), (4, before.epoch), "a new seat in the same game");
    assert_ne!(welcome.player_id, 1);
}

#[test]
fn a_second_connection_replaces_the_first() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let first = world.client(ann).upgraded();
    let again = world.request(&format!("/play/arena?resume={}&seq=0", first.resume_token));
    let second = world.client(again).upgraded();
    assert_eq!((second.flags, second.player_id), (7, 1));
    assert_eq!(world.client(ann).close_frame(), Some((1001, "replaced".into())));
    world.hang_up(ann);
    assert_eq!(world.count(|metrics| metrics.seats.value()), 1, "the seat is the second connection's");
    world.send(again, &move_to(1, 1.0, 1.0));
    assert_eq!(world.count(|metrics| metrics.moves.value()), 1);
    let stale = world.request(&format!("/play/arena?resume={}&seq=0", first.resume_token));
    assert_eq!(
        world.client(stale).upgraded().flags & 1,
        0,
        "the second connection has shown its new token to be there"
    );
}

#[test]
fn a_welcome_that_is_lost_does_not_cost_the_seat() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let first = world.client(ann).upgraded();
    world.hang_up(ann);
    for _ in 0..2 {
        let again = world.request(&format!("/play/arena?resume={}&seq=0", first.resume_token));
        assert_eq!(world.client(again).upgraded().player_id, 1);
        world.hang_up(again);
    }
    assert_eq!((world.count(|m| m.seats.value()), world.count(|m| m.resumes.value())), (1, 2));
}

#[test]
fn a_reconnect_does_not_fill_the_buckets() {
    let mut world = World::new(Settings::default());
    let bob = world.join("/play/arena");
    let ann = world.request("/play/arena");
    let mut token = world.client(ann).upgraded().resume_token;
    let mut player = ann;
    for round in 0..6 {
        for _ in 0..40 {
            world.send(player, &event(0, 1, 0, b""));
        }
        if round % 2 == 0 {
            world.hang_up(player);
        }
        player = world.request(&format!("/play/arena?resume={token}"));
        token = world.client(player).upgraded().resume_token;
    }
    assert_eq!(events(&mut world, bob).len(), 40, "a burst, whatever the number of connections");
}

#[test]
fn events_that_are_not_kept_are_never_caught_up_with_in_part() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena");
    let welcome = world.client(ann).upgraded();
    let bob = world.join("/play/arena");
    world.hang_up(ann);
    for _ in 0..301 {
        world.send(bob, &event(0, 1, 0, b""));
        world.advance_ms(45);
    }
    let resume = |world: &mut World, token: &str, seq: u64| {
        let again = world.request(&format!("/play/arena?resume={token}&seq={seq}"));
        let welcome = world.client(again).upgraded();
        (welcome.flags & 3, welcome.resume_token, events(world, again).len())
    };
    let (flags, token, missed) = resume(&mut world, &welcome.resume_token, 0);
    assert_eq!((flags, missed), (1, 0), "301 missed, 300 kept");
    let (flags, token, missed) = resume(&mut world, &token, 1);
    assert_eq!((flags, missed), (3, 300));
    let (flags, _, missed) = resume(&mut world, &token, 302);
    assert_eq!((flags, missed), (1, 0), "ahead of the stream");
}

#[test]
fn an_empty_game_is_forgotten_with_its_epoch() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena");
    let first = world.client(ann).upgraded();
    world.send_raw(ann, &crate::world::client::close(1000, ""));
    assert_eq!(world.count(|metrics| metrics.games.value()), 0);
    let again = world.request("/play/arena");
    assert_ne!(world.client(again).upgraded().epoch, first.epoch);
}

#[test]
fn where_seats_are_not_held_a_lost_player_is_gone_at_once() {
    let rules = GameRules { seat_hold: Duration::ZERO, ..GameRules::default() };
    let mut world = World::new(Settings { games: vec![rules], ..Settings::default() });
    let ann = world.join("/play/arena");
    let bob = world.join("/play/arena");
    world.advance_ms(60);
    world.client(bob).frames();
    world.hang_up(ann);
    world.advance_ms(60);
    assert_eq!(
        world.client(bob).records(),
        [Record::Roster { flags: 0, joined: vec![], left: vec![(1, 1)] }]
    );
}

#[test]
fn silence_is_pinged_warned_about_and_ended() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.advance_ms(4_900);
    assert_eq!(world.client(ann).frames(), []);
    world.advance_ms(200);
    assert_eq!(world.client(ann).frames(), [Frame::Ping(vec![])]);
    world.send_raw(ann, &crate::world::client::masked_frame(0x8A, b""));
    world.advance_ms(4_800);
    assert_eq!(world.client(ann).frames(), [], "the pong proved life");
    world.advance_ms(5_300);
    assert_eq!(
        world.client(ann).frames(),
        [
            Frame::Ping(vec![]),
            Frame::Record(Record::Notice { reason: 1, timeout_ms: 5_000, retry_after_ms: 0, jitter_ms: 0 })
        ]
    );
    world.advance_ms(5_000);
    assert_eq!(world.client(ann).close_frame(), Some((1001, "idle".into())));
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1, "its seat is held");
    world.advance_ms(3_000);
    assert!(
        world.client(ann).ended.is_some(),
        "a close that the client does not answer is finished without it"
    );
}

// ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn world_with_tokens() -> World {
    let verifier = Verifier::new(Algorithm::Hs256, SECRET).expect("a good secret");
    World::new(Settings { verifier: Some(verifier.into()), ..Settings::default() })
}

fn token_for(user: &str, change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims {
        user: user.into(),
        expires_at_s: STARTED_AT_S + 3600,
        name: None,
        topics: [TopicPattern::new("game:arena-*")].into(),
        host: false,
        moderator: false,
    };
    change(&mut claims);
    token::sign(Algorithm::Hs256, SECRET, &claims).expect("claims can be signed")
}

fn refusal(world: &mut World, target: &str) -> (u16, String) {
    let client = world.request(target);
    world.client(client).response()
}

#[test]
fn a_token_says_who_plays() {
    let mut world = world_with_tokens();
    let token = token_for("u-1", |claims| claims.name = Some("Ann".into()));
    let ann = world.request(&format!("/play/arena-1?name=Eve&token={token}"));
    world.client(ann).response();
    let records = world.client(ann).records();
    let [Record::Welcome(welcome), Record::Roster { joined, .. }, ..] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(welcome.flags, 0, "not development mode");
    assert_eq!(joined[..], [(1, "u-1".into(), "Ann".into())]);
}

#[test]
fn without_a_fitting_token_nobody_plays() {
    let mut world = world_with_tokens();
    let fine = token_for("u-1", |_| {});
    let expired = token_for("u-1", |claims| claims.expires_at_s = STARTED_AT_S - 1);
    let mut forged = fine.clone().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    // {"alg":"none","typ":"JWT"} with the payload of a good token.
    let none =
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", fine.split('.').nth(1).expect("three parts"));
    let cases = [
        ("/play/arena-1".to_owned(), "token is required"),
        (format!("/play/arena-1?token={expired}"), "expired"),
        (format!("/play/arena-1?token={forged}"), "signature"),
        (format!("/play/arena-1?token={none}"), "not signed with HS256"),
        (format!("/play/lobby?token={fine}"), "game:lobby"),
    ];
    for (target, named) in &cases {
        let (status, text) = refusal(&mut world, target);
        assert!(status == 403 && text.contains(named), "{target}: {text}");
        assert!(!text.contains(&fine), "the token is not repeated");
    }
    let refused = corelay::reasons::RefusalReason::Token.index();
    assert_eq!(world.count(|metrics| metrics.refusals[refused].value()), cases.len() as u64);
}

#[test]
fn a_connection_ends_with_its_token_and_its_seat_waits_for_the_next() {
    let mut world = world_with_tokens();
    let token = token_for("u-1", |claims| claims.expires_at_s = STARTED_AT_S + 3);
    let ann = world.request(&format!("/play/arena-1?token={token}"));
    let welcome = world.client(ann).upgraded();
    world.advance_ms(2_900);
    assert_eq!(world.client(ann).frames(), []);
    world.advance_ms(200);
    assert_eq!(world.client(ann).close_frame(), Some((1008, "expired".into())));
    let resume = |world: &mut World, user| {
        let token = token_for(user, |_| {});
        let again = world.request(&format!("/play/arena-1?token={token}&resume={}", welcome.resume_token));
        world.client(again).upgraded().flags & 1
    };
    assert_eq!(resume(&mut world, "u-2"), 0, "another user does not get the seat");
    assert_eq!(resume(&mut world, "u-1"), 1);
}

#[test]
fn a_host_sets_all_positions_or_none() {
    let mut world = world_with_tokens();
    let host = token_for("host", |claims| claims.host = true);
    let host = world.join(&format!("/play/arena-1?token={host}"));
    let ann = world.join(&format!("/play/arena-1?token={}", token_for("u-1", |_| {})));
    world.advance_ms(60);
    world.client(ann).frames();
    world.send(host, &host_moves(&[(1, 1.0, 1.0), (2, 2.0, 2.0)]));
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Delta { positions, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(positions[..], [(1, 1.0, 1.0), (2, 2.0, 2.0)]);
    world.client(host).frames();
    world.send(host, &host_moves(&[(1, 5.0, 5.0), (99, 2.0, 2.0)]));
    world.advance_ms(60);
    let records = world.client(host).records();
    assert!(matches!(&records[..], [Record::Error { code: 5, text }] if text.contains("99")), "{records:?}");
    assert_eq!(world.client(ann).records(), [], "nobody was moved");
}
