//! A turn is bounded by the work it does, whatever has come: the rest goes on in the next one, in order, with ticks in between.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use corelay::ids::RequestNumber;
use corelay::limits::{
    BYTES_RATE, ENTRIES_KEPT, INQUIRIES_MAX, PART_WORK_MAX, RECEIVE_BUFFER_BYTES, UNREAD_BYTES_MAX,
    WORK_OF_CLOSE,
};
use corelay::reasons::{CloseReason, RateClass};
use corelay::room::game::GameRules;
use corelay::shard::peer::{Answer, Order, Question};
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};
use corelay::wire::upgrade::UpgradeRules;
use world::client::{ClientId, Frame, Record, masked_frame};
use world::{STARTED_AT_S, World};

const CLIENTS: usize = 64;

fn settings() -> Settings {
    Settings {
        placement: Placement::known(1),
        connections_per_shard_max: 5_000,
        upgrade: UpgradeRules { allowed_origins: Vec::new(), development: true, echo: true },
        games: vec![GameRules { players_max: 5_000, ..GameRules::default() }],
        ..Settings::default()
    }
}

/// All that a client may send at once, of messages that are as short as they can be, in pieces that a receive brings.
fn flood() -> Vec<Vec<u8>> {
    let ping = masked_frame(0x89, b"");
    let pings = ping.repeat(BYTES_RATE.1 as usize / ping.len());
    pings.chunks(RECEIVE_BUFFER_BYTES as usize).map(<[u8]>::to_vec).collect()
}

/// Messages read so far.
fn read(world: &World) -> u64 {
    world.count(|metrics| metrics.frames_in.value())
}

/// What one rim's turn does with the bytes that have come: it reads until the work is done.
fn turn(world: &mut World, waiting: &mut Vec<(ClientId, Vec<u8>)>) {
    world.allow_work(PART_WORK_MAX);
    while world.has_work_left() && !waiting.is_empty() {
        let (client, bytes) = waiting.remove(0);
        world.send_raw(client, &bytes);
    }
    world.allow_work(PART_WORK_MAX);
    world.timeout();
}

#[test]
fn all_that_64_connections_may_send_at_once_is_read_in_turns_with_ticks_in_between() {
    let mut world = World::new(settings());
    let flooders: Vec<ClientId> = (0..CLIENTS).map(|_| world.join("/play/arena")).collect();
    let player = world.join("/play/other");
    world.advance_ms(200);
    world.client(player).frames();
    let mut waiting: Vec<(ClientId, Vec<u8>)> = Vec::new();
    for piece in flood() {
        waiting.extend(flooders.iter().map(|flooder| (*flooder, piece.clone())));
    }
    let (began, before) = (world.now.instant, read(&world));
    let expected = (waiting.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() / 6) as u64;
    let mut turns = 0;
    let mut ticks = 0;
    while read(&world) < before + expected {
        let before_turn = read(&world);
        world.send(player, &[1, 0, 0, turns as u8, 0x3F, 0x80, 0, 0, 0x40, 0, 0, turns as u8]);
        turn(&mut world, &mut waiting);
        let in_this = read(&world) - before_turn;
        // Each ping is a unit, and so is its pong; the work of the turn's parts is passed by one message at most.
        assert!(in_this <= 2 * u64::from(PART_WORK_MAX) + 1, "{in_this} messages in turn {turns}");
        assert!(turns < 1_000, "it comes to an end");
        world.advance_ms(5);
        ticks += world.client(player).frames().len();
        turns += 1;
    }
    assert!(turns > 50, "{turns} turns");
    assert!(waiting.is_empty());
    let lasted_ms = world.now.instant.since(began).as_millis() as usize;
    assert!(ticks >= lasted_ms / 50 - 1, "{ticks} ticks in {lasted_ms} ms");
    assert!(flooders.iter().all(|flooder| world.client(*flooder).ended.is_none()));
}

#[test]
fn one_message_to_a_crowd_counts_for_what_follows_from_it() {
    let mut world = World::new(settings());
    let crowd: Vec<ClientId> = (0..1_000).map(|_| world.join("/play/arena")).collect();
    world.advance_ms(200);
    for member in &crowd {
        world.client(*member).frames();
    }
    let event = masked_frame(0x82, &[6, 1, 0, 1, 0, 0, 0, 0, b'!']);
    let (began, before) = (crowd[0], read(&world));
    world.allow_work(PART_WORK_MAX);
    world.send_raw(began, &event.repeat(30));
    let at_once = read(&world) - before;
    assert!((1..=6).contains(&at_once), "{at_once} events to {} members", crowd.len());
    let mut turns = 0;
    while read(&world) < before + 30 {
        world.allow_work(PART_WORK_MAX);
        world.timeout();
        turns += 1;
        assert!(turns < 30, "it goes on each turn");
    }
    assert!(turns >= 5, "{turns} turns");
    assert_eq!(world.client(crowd[999]).frames().len(), 30, "everybody has every event");
}

#[test]
fn what_comes_behind_messages_that_wait_waits_behind_them() {
    let mut world = World::new(settings());
    let echo = world.request("/echo");
    assert_eq!(world.client(echo).response().0, 101);
    let message = |number: u16| masked_frame(0x82, &number.to_be_bytes());
    let many = 3 * PART_WORK_MAX as u16;
    let bytes: Vec<u8> = (0..many).flat_map(message).collect();
    // A message is cut in two, and the end of the stream comes right behind the client's close.
    let (first, second) = bytes.split_at(bytes.len() / 2 + 3);
    world.allow_work(PART_WORK_MAX);
    world.send_raw(echo, first);
    world.send_raw(echo, &[second, &masked_frame(0x88, &1000_u16.to_be_bytes())].concat());
    world.hang_up(echo);
    assert!(read(&world) < u64::from(many));
    for _ in 0..10 {
        world.allow_work(PART_WORK_MAX);
        world.timeout();
    }
    let frames = world.client(echo).frames();
    let expected = (0..many).map(|number| Frame::Binary(number.to_be_bytes().to_vec()));
    assert_eq!(frames.len(), usize::from(many) + 1);
    assert!(frames.iter().zip(expected).all(|(frame, expected)| *frame == expected), "{:?}", frames[0]);
    assert_eq!(world.client(echo).ended, Some(Some(CloseReason::Bye)), "its close was heard before its end");
}

#[test]
fn bytes_are_charged_when_they_come_and_not_when_they_are_read() {
    let mut world = World::new(settings());
    let flooder = world.join("/play/arena");
    let pings = masked_frame(0x89, b"").repeat(600);
    world.allow_work(1);
    for _ in 0..40 {
        world.send_raw(flooder, &pings);
    }
    assert!(read(&world) < 10, "all of it waits");
    let over_budget = world.count(|metrics| metrics.rate_limited[RateClass::Bytes.index()].value());
    assert!(over_budget > 0, "144,000 bytes at once are more than the budget");
    assert!(world.client(flooder).paused);
}

#[test]
fn what_may_wait_to_be_read_is_bounded_where_no_budget_is() {
    let mut world = World::new(settings());
    let echo = world.request("/echo");
    assert_eq!(world.client(echo).response().0, 101);
    let message = masked_frame(0x82, &[0; 100]).repeat(100);
    let sent_at_most = UNREAD_BYTES_MAX + 2 * message.len();
    world.allow_work(1);
    let mut sent = 0;
    while !world.client(echo).paused {
        world.send_raw(echo, &message);
        sent += message.len();
        assert!(sent <= sent_at_most, "{sent} bytes wait");
    }
    for _ in 0..200 {
        world.allow_work(PART_WORK_MAX);
        if !world.timeout() {
            world.advance_ms(60);
        }
    }
    assert!(!world.client(echo).paused);
    let echoed = world.client(echo).frames().into_iter().filter(|frame| matches!(frame, Frame::Binary(_)));
    assert_eq!(echoed.count(), sent / 106, "all of it is read in the end");
}

#[test]
fn connections_whose_messages_wait_take_turns() {
    let mut world = World::new(settings());
    let (flooder, other) = (world.join("/play/arena"), world.join("/play/other"));
    world.advance_ms(200);
    world.client(other).frames();
    world.allow_work(1);
    world.send_raw(flooder, &masked_frame(0x89, b"").repeat(20_000));
    world.send_raw(other, &masked_frame(0x89, b"me").repeat(2));
    let before = read(&world);
    world.allow_work(PART_WORK_MAX / 4);
    world.timeout();
    let pongs = world.client(other).frames();
    assert!(pongs.contains(&Frame::Pong(b"me".to_vec())), "{pongs:?}");
    assert!(read(&world) < before + 2_000, "the other one has still much to say");
}

#[test]
fn parts_of_request_heads_are_work() {
    let mut world = World::new(settings());
    let client = world.dial();
    world.allow_work(40);
    let mut pieces = 0;
    world.send_raw(client, b"GET /play/arena HTTP/1.1\r\n");
    while world.has_work_left() {
        world.send_raw(client, b"X: y\r\n");
        pieces += 1;
        assert!(pieces < 60, "a head of {pieces} pieces is no work");
    }
}

#[test]
fn a_game_that_plays_keeps_one_time_at_which_something_is_due() {
    let mut world = World::new(settings());
    let player = world.join("/play/arena");
    // The event is kept for a minute.
    world.send(player, &[6, 1, 0, 1, 0, 0, 0, 0, b'!']);
    for step in 0..600_u16 {
        let y = f32::from(step).to_be_bytes();
        world.send(player, &[&[1, 0, 0, 0, 0x3F, 0x80, 0, 0][..], &y].concat());
        world.advance_ms(50);
    }
    let due = world.sizes(0).topics_due;
    assert!(due <= 2 + ENTRIES_KEPT, "{due} times for one game");
}

#[test]
fn what_came_before_a_send_that_failed_is_read_up_to_the_clients_close() {
    let mut world = World::new(settings());
    let [ann, bob] = ["ann", "bob"].map(|name| world.join(&format!("/play/arena?name={name}")));
    world.advance_ms(200);
    world.client(bob).frames();
    let count =
        |world: &World, reason: CloseReason| world.count(|metrics| metrics.closes[reason.index()].value());
    let event = masked_frame(0x82, &[6, 1, 0, 1, 0, 0, 0, 0, b'!']);
    let close = masked_frame(0x88, &1000_u16.to_be_bytes());
    let bytes = [masked_frame(0x89, b"").repeat(2 * PART_WORK_MAX as usize), event, close].concat();
    world.set_reading(ann, false);
    world.allow_work(PART_WORK_MAX);
    world.send_raw(ann, &bytes);
    world.hang_up(ann);
    world.break_off(ann);
    assert_eq!(world.count(|metrics| metrics.seats.value()), 2, "its close is not read yet");
    let mut turns = 0;
    while count(&world, CloseReason::Bye) == 0 {
        world.allow_work(PART_WORK_MAX);
        assert!(world.timeout() && turns < 10, "it goes on each turn");
        turns += 1;
    }
    assert_eq!(count(&world, CloseReason::Lost), 0);
    assert_eq!(world.count(|metrics| (metrics.seats.value() << 8) + metrics.seats_held.value()), 1 << 8);
    let events = world.client(bob).frames().into_iter();
    assert_eq!(events.filter(|frame| matches!(frame, Frame::Record(Record::Event { .. }))).count(), 1);
    world.advance_ms(5_000);
    assert_eq!(world.client(ann).ended, Some(Some(CloseReason::Bye)));
}

#[test]
fn a_drain_tells_and_closes_a_crowd_in_steps() {
    let clients = ClientRules { drain_batch: 1_000_000, ..ClientRules::default() };
    let mut world = World::new(Settings { clients, ..settings() });
    let crowd: Vec<ClientId> = (0..4_000).map(|_| world.request("/echo")).collect();
    let players: Vec<ClientId> = (0..500).map(|_| world.join("/play/arena")).collect();
    for member in crowd.iter().chain(&players) {
        world.client(*member).inbox.clear();
    }
    let closed = |world: &World| world.count(|metrics| metrics.closes[CloseReason::Drain.index()].value());
    world.allow_work(1_000);
    world.tell_shards(&Order::Drain);
    assert!(world.client(players[499]).frames().is_empty(), "the last ones are told in a later turn");
    let (mut steps, mut last) = (Vec::new(), 0);
    while closed(&world) < 4_500 {
        world.allow_work(1_000);
        if !world.timeout() {
            world.pass_ms(1);
        }
        if closed(&world) > last {
            steps.push(closed(&world) - last);
            last = closed(&world);
        }
        assert!(steps.len() < 100);
    }
    assert!(steps.iter().all(|step| *step <= 1_000 / WORK_OF_CLOSE as u64 + 64), "{steps:?}");
    let told = world.client(players[499]).frames();
    assert!(told.len() >= 2, "a notice, and then the close: {told:?}");
}

#[test]
fn a_user_with_a_crowd_of_connections_is_kicked_in_steps_and_the_answer_comes_last() {
    let secret = b"a secret of at least thirty-two bytes";
    let claims = Claims {
        user: "ann".into(),
        expires_at_s: STARTED_AT_S + 3600,
        name: None,
        topics: [TopicPattern::new("*")].into(),
        host: false,
        moderator: false,
    };
    let token = token::sign(Algorithm::Hs256, secret, &claims).expect("claims can be signed");
    let verifier = Verifier::new(Algorithm::Hs256, secret).expect("a good secret");
    let mut world = World::new(Settings { verifier: Some(verifier.into()), ..settings() });
    let players: Vec<ClientId> =
        (0..1_500).map(|_| world.request(&format!("/play/arena?token={token}"))).collect();
    let sockets: Vec<ClientId> = (0..500).map(|_| world.socket(&format!("&token={token}"))).collect();
    world.advance_ms(200);
    let (held, open) = players.split_at(200);
    held.iter().for_each(|player| world.hang_up(*player));
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 200);

    let closed = |world: &World| world.count(|metrics| metrics.closes[CloseReason::Kicked.index()].value());
    world.allow_work(1_000);
    world.ask_shards(RequestNumber(1), &Question::Kick { user: "ann".into() });
    let (mut steps, mut last) = (Vec::new(), 0);
    while world.answers.is_empty() {
        world.allow_work(1_000);
        assert!(world.timeout(), "it goes on each turn");
        steps.push(closed(&world) - last);
        last = closed(&world);
        assert!(steps.len() < 100);
    }
    assert!(steps.iter().all(|step| *step <= 1_000 / WORK_OF_CLOSE as u64 + 64), "{steps:?}");
    let disconnected = (open.len() + sockets.len()) as u32;
    assert_eq!(world.answers, [(0, RequestNumber(1), Answer::Kicked { disconnected })]);
    assert_eq!(last, u64::from(disconnected), "all are closed when the answer comes");
    assert_eq!(world.count(|metrics| metrics.seats.value()), 0, "held seats are free as well");
}

#[test]
fn a_shard_that_is_asked_too_much_says_so() {
    let mut world = World::new(settings());
    for number in 0..=INQUIRIES_MAX as u32 {
        world.ask_shards(RequestNumber(number), &Question::Kick { user: "ann".into() });
    }
    assert_eq!(world.answers, [(0, RequestNumber(INQUIRIES_MAX as u32), Answer::Busy)]);
    world.answers.clear();
    world.timeout();
    let answered: Vec<u32> = world.answers.iter().map(|(_, request, _)| request.0).collect();
    assert_eq!(answered, (0..INQUIRIES_MAX as u32).collect::<Vec<_>>(), "in the order of the questions");
}
