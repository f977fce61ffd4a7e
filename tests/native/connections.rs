//! How connections begin and end at the sans-I/O border: refusals, framing violations, handover, limits, drain.

use std::sync::Arc;
use std::time::Duration;

use crate::world::World;
use crate::world::client::{Frame, Record, event, masked_frame, move_to, request};
use corelay::ids::{ShardId, TopicName};
use corelay::reasons::{CloseReason, RefusalReason};
use corelay::shard::peer::Order;
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};

fn refusals(world: &World, reason: RefusalReason) -> u64 {
    world.count(|metrics| metrics.refusals[reason.index()].value())
}

#[test]
fn a_request_that_cannot_be_served_is_told_why_and_counted() {
    let sample = request("/play/arena");
    let without = |line: &str| sample.replace(line, "");
    let cases = [
        (request("/nowhere"), 404, RefusalReason::NotFound),
        (request("/socket/longpoll"), 404, RefusalReason::NotFound),
        (request("/echo"), 404, RefusalReason::NotFound),
        (request("/play/no%20spaces"), 400, RefusalReason::BadRequest),
        (request("/play/arena?resume=xyz"), 400, RefusalReason::BadRequest),
        (request("/play/arena?seq=-1"), 400, RefusalReason::BadRequest),
        (request("/play/arena?name=Ann%1B"), 400, RefusalReason::BadRequest),
        (sample.replace("GET", "POST"), 405, RefusalReason::Method),
        (sample.replace("HTTP/1.1", "HTTP/1.0"), 400, RefusalReason::BadRequest),
        (without("Host: relay.example:4000\r\n"), 400, RefusalReason::BadRequest),
        (without("Upgrade: websocket\r\n"), 426, RefusalReason::UpgradeRequired),
        (sample.replace("Version: 13", "Version: 8"), 426, RefusalReason::UpgradeRequired),
        (sample.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, RefusalReason::BadRequest),
        (sample.replace("Host:", "Origin: https://evil.example\r\nHost:"), 403, RefusalReason::Origin),
        (
            sample.replace("Host:", &format!("X: {}\r\nHost:", "y".repeat(9000))),
            431,
            RefusalReason::HeadTooLarge,
        ),
        ("\u{1}\u{2}random bytes\r\n\r\n".into(), 400, RefusalReason::BadRequest),
    ];
    for (head, status, reason) in cases {
        let mut world = World::new(Settings::default());
        let client = world.dial();
        world.send_raw(client, head.as_bytes());
        let (answered, text) = world.client(client).response();
        assert_eq!(answered, status, "{head}: {text}");
        assert_eq!(refusals(&world, reason), 1, "{head}");
        assert!(text.ends_with('\n') && text.contains("\r\n\r\n"), "a line of text: {text:?}");
        assert!(world.client(client).half_closed, "the connection is closed");
        world.hang_up(client);
        assert!(world.client(client).ended.is_some());
        assert_eq!(world.count(|m| m.connections_upgrading.value() + m.connections_closing.value()), 0);
    }
}

#[test]
fn a_head_may_come_byte_by_byte_but_not_for_ever() {
    let mut world = World::new(Settings::default());
    let slow = world.dial();
    let head = request("/play/arena");
    for byte in head.as_bytes() {
        world.send_raw(slow, &[*byte]);
        world.advance_ms(1);
    }
    world.client(slow).upgraded();

    let slower = world.dial();
    for byte in &head.as_bytes()[..5] {
        world.send_raw(slower, &[*byte]);
        world.advance(Duration::from_secs(1));
    }
    world.advance_ms(100);
    assert_eq!(world.client(slower).response().0, 408);
}

#[test]
fn bytes_behind_the_head_are_the_first_frames() {
    let mut world = World::new(Settings::default());
    let ann = world.dial();
    let mut bytes = request("/play/arena").into_bytes();
    bytes.extend(masked_frame(0x82, &move_to(1, 2.0, 3.0)));
    bytes.extend(masked_frame(0x89, b"hello"));
    world.send_raw(ann, &bytes);
    world.client(ann).upgraded();
    assert_eq!(world.client(ann).frames(), [Frame::Pong(b"hello".to_vec())]);
    let pings: Vec<u8> =
        (0..1_000_u32).flat_map(|number| masked_frame(0x89, &number.to_be_bytes())).collect();
    world.send_raw(ann, &pings);
    let newest = 999_u32.to_be_bytes().to_vec();
    assert_eq!(world.client(ann).frames(), [Frame::Pong(newest)], "of several pings of one read");
    assert_eq!(world.count(|metrics| metrics.moves.value()), 1);
}

#[test]
fn a_violation_ends_the_connection_after_what_came_before_it() {
    let unmasked = vec![0x82, 1, 0];
    let mut reserved = masked_frame(0x82, &[1]);
    reserved[0] |= 0x40;
    let huge = [&[0x82, 0xFF][..], &(1u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let cases: [(Vec<u8>, u16, &str); 8] = [
        (unmasked, 1002, "protocol"),
        (reserved, 1002, "protocol"),
        (masked_frame(0x83, &[]), 1002, "protocol"),
        (masked_frame(0x09, &[]), 1002, "protocol"),
        (masked_frame(0x89, &[0; 126]), 1002, "protocol"),
        (masked_frame(0x81, &[0xFF]), 1007, "utf8"),
        (huge, 1009, "too_big"),
        (masked_frame(0x88, &999u16.to_be_bytes()), 1002, "protocol"),
    ];
    for (violation, code, word) in cases {
        let mut world = World::new(Settings::default());
        let ann = world.join("/play/arena");
        let bytes = [masked_frame(0x89, b"before"), violation, masked_frame(0x89, b"after")].concat();
        world.send_raw(ann, &bytes);
        let frames = world.client(ann).frames();
        assert_eq!(frames, [Frame::Pong(b"before".to_vec()), Frame::Close(Some((code, word.into())))]);
        assert!(world.client(ann).half_closed);
        world.send_raw(ann, b"whatever a client says now is not heard");
        world.hang_up(ann);
        assert!(world.client(ann).ended.is_some());
        assert_eq!(world.count(|metrics| metrics.seats.value()), 0, "its seat is not held");
    }
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    for (sent, answered) in
        [(Some(1000), Some((1000, "bye"))), (Some(3001), Some((3001, "bye"))), (None, None)]
    {
        let mut world = World::new(Settings::default());
        let ann = world.join("/play/arena");
        let payload = sent.map_or(Vec::new(), |code: u16| code.to_be_bytes().to_vec());
        world.send_raw(ann, &masked_frame(0x88, &payload));
        assert_eq!(world.client(ann).close_frame(), answered.map(|(code, word)| (code, word.to_owned())));
        assert_eq!(world.client(ann).ended, Some(Some(CloseReason::Bye)));
    }
}

#[test]
fn an_echo_sends_back_what_it_gets() {
    let mut settings = Settings::default();
    settings.upgrade.echo = true;
    let mut world = World::new(settings);
    let client = world.request("/echo");
    assert_eq!(world.client(client).response().0, 101);
    world.send_raw(client, &masked_frame(0x81, "héllo".as_bytes()));
    assert_eq!(world.client(client).frames(), [Frame::Text("héllo".into())]);
    assert!(!world.client(client).paused, "no byte budget here");
}

#[test]
fn too_many_connections_are_refused_before_the_upgrade() {
    let mut world = World::new(Settings { connections_per_shard_max: 2, ..Settings::default() });
    let ann = world.join("/play/arena");
    world.join("/play/other");
    let late = world.request("/play/arena");
    assert_eq!(world.client(late).response().0, 503);
    assert_eq!(refusals(&world, RefusalReason::Full), 1);
    world.send_raw(ann, &crate::world::client::close(1000, ""));
    world.join("/play/arena");

    let same_address = world.dial_shard(0, Admission::AddressLimit);
    world.send_raw(same_address, request("/play/arena").as_bytes());
    assert_eq!(world.client(same_address).response().0, 429);
}

#[test]
fn all_shards_together_have_a_bound() {
    let settings = Settings { placement: Placement::known(2), connections_max: 2, ..Settings::default() };
    let mut world = World::new(settings);
    let clients = [world.join("/play/arena"), world.join("/play/other")];
    for game in ["arena", "third", "fourth", "fifth"] {
        let late = world.request(&format!("/play/{game}"));
        let (status, text) = world.client(late).response();
        assert!(status == 503 && text.contains("every connection of this relay"), "{status} {text}");
    }
    world.send_raw(clients[0], &crate::world::client::close(1000, ""));
    world.join("/play/third");
}

#[test]
fn a_resume_needs_no_free_place() {
    let mut world = World::new(Settings { connections_per_shard_max: 1, ..Settings::default() });
    let ann = world.request("/play/arena");
    let token = world.client(ann).upgraded().resume_token;
    let again = world.request(&format!("/play/arena?resume={token}"));
    assert_eq!(world.client(again).upgraded().flags & 1, 1);
    let stranger = world.request("/play/arena");
    assert_eq!(world.client(stranger).response().0, 503);
}

#[test]
fn a_connection_that_closes_is_not_listened_to_for_long() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.send_raw(ann, &[0x82, 1, 0]);
    assert_eq!(world.client(ann).close_frame(), Some((1002, "protocol".into())));
    for kib in 0..257 {
        assert!(world.client(ann).ended.is_none(), "after {} KiB", 4 * kib);
        world.send_raw(ann, &[0; 4096]);
    }
    assert!(world.client(ann).ended.is_some(), "1 MiB is enough");
}

/// Sends 4 KiB after 4 KiB as long as it is listened to, and 2 MiB at most. Returns how many KiB that were.
fn flood(world: &mut World, client: crate::world::client::ClientId) -> usize {
    let mut kib = 0;
    while kib < 2048 && world.client(client).ended.is_none() && !world.client(client).paused {
        world.send_raw(client, &[0; 4096]);
        kib += 4;
    }
    kib
}

#[test]
fn the_close_frame_goes_first_whatever_comes_behind_what_caused_it() {
    let causes: [(&[u8], _); 4] = [
        (&[0x82, 1, 0], (1002, "protocol")),
        (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], (1009, "too_big")),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], (1007, "utf8")),
        // The client's own goodbye, and more.
        (&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8], (1000, "bye")),
    ];
    for (cause, (code, word)) in causes {
        for target in ["/play/arena", "/socket/websocket"] {
            let mut world = World::new(Settings::default());
            let ann = world.request(target);
            world.client(ann).inbox.clear();
            world.set_reading(ann, false);
            world.send_raw(ann, &[cause, &[0; 4096]].concat());
            let kib = flood(&mut world, ann);
            assert!(world.client(ann).ended.is_none() && kib <= 1028, "{word}: {kib} KiB before its close");
            world.set_reading(ann, true);
            assert_eq!(world.client(ann).close_frame(), Some((code, word.into())), "{target}");
            let client = world.client(ann);
            assert!(client.half_closed && !client.paused && client.ended.is_none(), "its end is waited for");
            assert_eq!(flood(&mut world, ann), 1028, "{word}: read and thrown away");
            assert!(world.client(ann).ended.is_some());
        }
    }
}

#[test]
fn a_goodbye_with_nothing_behind_it_is_not_waited_for() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.set_reading(ann, false);
    world.send_raw(ann, &crate::world::client::close(1000, ""));
    assert!(world.client(ann).paused);
    world.set_reading(ann, true);
    let client = world.client(ann);
    assert!(client.ended.is_some() && !client.half_closed, "nothing is in the way of its end");
    // A client that has sent something behind its goodbye is waited for.
    let bob = world.join("/play/arena");
    world.set_reading(bob, false);
    world.send_raw(bob, &crate::world::client::close(1000, ""));
    world.send_raw(bob, &[0; 100]);
    world.set_reading(bob, true);
    let client = world.client(bob);
    assert!(client.half_closed && client.ended.is_none() && !client.paused);
    world.hang_up(bob);
    assert!(world.client(bob).ended.is_some());
}

#[test]
fn a_refusal_can_be_read_by_who_sends_a_body() {
    let mut world = World::new(Settings::default());
    let posted = "POST /play/arena HTTP/1.1\r\nHost: relay\r\nContent-Length: 900000\r\n\r\n";
    let ann = world.dial();
    world.set_reading(ann, false);
    world.send_raw(ann, posted.as_bytes());
    let kib = flood(&mut world, ann);
    assert!(world.client(ann).ended.is_none() && kib > 900, "{kib} KiB");
    world.set_reading(ann, true);
    assert_eq!(world.client(ann).response().0, 400);
    let client = world.client(ann);
    assert!(client.half_closed && !client.paused && client.ended.is_none());
    world.hang_up(ann);
    assert!(world.client(ann).ended.is_some());
}

#[test]
fn who_does_not_read_its_close_frame_is_ended_all_the_same() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.set_reading(ann, false);
    world.send_raw(ann, &[0x82, 1, 0]);
    flood(&mut world, ann);
    world.advance_ms(1_900);
    assert!(world.client(ann).ended.is_none());
    world.advance_ms(200);
    assert!(world.client(ann).ended.is_some());
}

#[test]
fn a_paused_connection_is_read_again_when_it_closes() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.send_raw(ann, &masked_frame(0x8A, b"").repeat(100_000));
    world.tell_shards(&Order::Drain);
    world.advance_ms(900);
    assert!(world.client(ann).paused, "600 KB stop the reading for 2 s");
    world.advance_ms(200);
    assert_eq!(world.client(ann).close_frame(), Some((1012, "drain".into())));
    assert!(!world.client(ann).paused, "or the end of the client would not be seen");
}

#[test]
fn players_of_one_game_meet_on_its_shard() {
    let mut world = World::new(Settings { placement: Placement::known(4), ..Settings::default() });
    let mut players = Vec::new();
    for shard in 0..4 {
        let player = world.dial_shard(shard, Admission::Admitted);
        let mut bytes = request("/play/arena").into_bytes();
        bytes.extend(masked_frame(0x82, &move_to(1, shard as f32, 0.0)));
        world.send_raw(player, &bytes);
        world.client(player).upgraded();
        players.push(player);
    }
    let homes: Vec<_> = players.iter().map(|player| world.client(*player).shard).collect();
    assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
    assert_eq!(players.iter().filter(|player| world.clients[player].handed_over).count(), 3);
    world.advance_ms(60);
    let records = world.client(players[0]).records();
    let positions = records.iter().find_map(|record| match record {
        Record::Delta { positions, .. } => Some(positions.len()),
        _ => None,
    });
    assert_eq!(positions, Some(4), "the frame behind each request head came along: {records:?}");
    world.send(players[1], &event(0, 1, 0, b"hi"));
    assert!(world.client(players[3]).records().iter().any(|record| matches!(record, Record::Event { .. })));
    assert_eq!(world.count(|metrics| metrics.connections_upgrading.value()), 0);
}

/// Between the order to hand over and its answer the time for the upgrade may run out.
#[test]
fn a_hand_over_under_way_when_the_upgrade_times_out_harms_nobody() {
    let settings = Arc::new(Settings { placement: Placement::known(2), ..Settings::default() });
    let mut shard = Shard::new(ShardId(0), settings, Arc::default(), [1; 32]);
    let at = |ms: u64| Now {
        instant: Instant::from_micros(1_000_000 + ms * 1_000),
        unix_us: 1_800_000_000_000_000,
    };
    let elsewhere = |name: &String| {
        TopicName::parse(name).is_some_and(|name| Placement::known(2).shard_of(&name) == ShardId(1))
    };
    let game = (0..100).map(|n| format!("game-{n}")).find(elsewhere).expect("one of a hundred");
    let conn = shard.handle_accepted(Admission::Admitted, at(0)).expect("the table has room");
    shard.handle_received(conn, &mut request(&format!("/play/{game}")).into_bytes(), at(4_990));
    assert!(matches!(shard.poll_output(), Some(Output::HandOver { .. })));
    shard.handle_timeout(at(5_100));
    assert!(shard.poll_output().is_none(), "it is neither refused nor closed: the other shard will answer");
    shard.handle_hand_over_refused(conn, at(5_200));
    assert!(matches!(shard.poll_output(), Some(Output::Send { .. })), "now it is refused");
}

#[test]
fn a_drain_tells_then_closes_in_steps_then_ends() {
    // 10 closes per 100 ms.
    let clients = ClientRules { drain_batch: 200, ..ClientRules::default() };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    let players: Vec<_> = (0..50).map(|_| world.join("/play/arena")).collect();
    let upgrading = world.dial();
    world.advance_ms(100);
    players.iter().for_each(|player| drop(world.client(*player).frames()));
    world.tell_shards(&Order::Drain);
    world.tell_shards(&Order::Drain);
    assert_eq!(world.stopped_accepting, [0]);
    for player in &players {
        let records = world.client(*player).records();
        let [Record::Notice { reason: 2, timeout_ms, retry_after_ms, jitter_ms }] = records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((timeout_ms, retry_after_ms, jitter_ms), (30_000, 1_000, 5_000));
    }
    world.send_raw(upgrading, request("/play/arena").as_bytes());
    assert_eq!(world.client(upgrading).response().0, 503);

    world.advance_ms(1_250);
    let closing = |world: &World| world.count(|metrics| metrics.closes[CloseReason::Drain.index()].value());
    assert_eq!(closing(&world), 30, "three steps of ten");
    for player in &players[..10] {
        let frames = world.client(*player).frames();
        assert_eq!(frames.last(), Some(&Frame::Close(Some((1012, "drain".into())))));
        world.hang_up(*player);
    }
    assert!(world.drained.is_empty());
    world.advance_ms(5_000);
    assert_eq!((closing(&world), world.drained.len()), (50, 1), "who does not answer is not waited for");
}

#[test]
fn a_drain_closes_those_in_rooms_first() {
    let clients = ClientRules { drain_batch: 200, ..ClientRules::default() };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    // 10 closes per 100 ms, and 25 of 100 connections are in rooms.
    let connections: Vec<_> = (0..100)
        .map(|number| {
            if number % 4 != 3 {
                return (world.join("/play/arena"), false);
            }
            let member = world.socket("");
            let topic = if number % 8 == 3 { "room:a" } else { "room:b" };
            world.say(member, &format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
            (member, true)
        })
        .collect();
    world.advance_ms(100);
    world.tell_shards(&Order::Drain);
    let closed = |world: &mut World, in_room: bool| {
        let of_kind = connections.iter().filter(|(_, is_member)| *is_member == in_room);
        let is_close = |frame: &Frame| matches!(frame, Frame::Close(_));
        of_kind.filter(|(client, _)| world.client(*client).frames().iter().any(is_close)).count()
    };
    world.advance_ms(1_150);
    assert_eq!((closed(&mut world, true), closed(&mut world, false)), (20, 0));
    world.advance_ms(100);
    assert_eq!(
        (closed(&mut world, true), closed(&mut world, false)),
        (5, 5),
        "and then, in the same step, the others"
    );
    world.advance_ms(5_000);
    assert_eq!(world.drained.len(), 1);
}

#[test]
fn a_drain_of_an_empty_relay_is_over_at_once() {
    let mut world = World::new(Settings { placement: Placement::known(2), ..Settings::default() });
    world.tell_shards(&Order::Drain);
    assert_eq!(world.drained.len(), 2);
}
