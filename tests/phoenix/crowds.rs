//! Where much comes at once: long states, bursts of joins, full mailboxes between shards.

use std::sync::Arc;

use crate::world::client::{ClientId, Frame, Message, PresenceList, masked_frame, move_to, put_object};
use crate::world::store::StoreModel;
use crate::world::{World, games, near_and_far};
use corelay::ids::{Address, ChannelNumber, ConnId, Party, ShardId, Topic};
use corelay::reasons::CloseReason;
use corelay::room::request::{Departure, Join, Rights};
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::peer::{Action, Delivered, PeerMessage, TopicRequest};
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};
use corelay::shard::{Output, Shard};
use corelay::time::{Instant, Now};
use corelay::wire::format::Format;
use corelay::wire::push::{Push, PushEvent, RoomPush};
use serde_json::{Value, json};

fn join(world: &mut World, client: ClientId, topic: &str, payload: &Value) -> Vec<Frame> {
    world.say(client, &format!(r#"["1","1","{topic}","phx_join",{payload}]"#));
    world.client(client).frames()
}

fn closes(world: &World, reason: CloseReason) -> u64 {
    world.count(|metrics| metrics.closes[reason.index()].value())
}

// ── Long states ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_room_whose_members_say_much_can_be_joined() {
    near_and_far(Settings::default, |mut world, name| {
        let meta = json!({"meta": {"x": "y".repeat(1_000)}});
        let mut list = PresenceList::default();
        for number in 0..250 {
            let client = world.socket("");
            let frames = join(&mut world, client, &format!("room:{name}"), &meta);
            assert_eq!(
                closes(&world, CloseReason::Slow),
                0,
                "the joiner {number} is closed for its own greeting"
            );
            if number == 249 {
                let texts = frames.iter().filter_map(|frame| match frame {
                    Frame::Text(text) => Some(Message::parse(text)),
                    _ => None,
                });
                texts.for_each(|message| list.hear(&message));
            }
            world.advance_ms(60);
        }
        assert_eq!(list.users().len(), 249, "all but itself");
    });
}

#[test]
fn a_game_full_of_objects_can_be_joined() {
    let burst = Rate { per_s: 60, burst: 1_000 };
    let settings = || Settings { rates: Rates { objects: burst, ..Rates::default() }, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        for player in 0..280 {
            let client = world.request(&format!("/play/{name}"));
            let objects: Vec<u8> = (0..64)
                .flat_map(|number| masked_frame(0x82, &put_object(player * 64 + number, 1, 0, 0.0, 0.0)))
                .collect();
            world.send_raw(client, &objects);
        }
        let ann = world.socket("");
        join(&mut world, ann, &format!("game:{name}"), &json!({}));
        assert_eq!(closes(&world, CloseReason::Slow), 0, "the joiner is closed for its own greeting");
        assert!(world.client(ann).ended.is_none());
    });
}

#[test]
fn a_client_of_many_busy_rooms_joins_them_all_in_one_burst() {
    near_and_far(Settings::default, |mut world, name| {
        // Ten rooms with 40 KB of messages each.
        for room in 0..10 {
            let client = world.socket("");
            join(&mut world, client, &format!("room:{name}-{room}"), &json!({}));
            for _ in 0..10 {
                let body = "x".repeat(4_000);
                let topic = format!("room:{name}-{room}");
                world.say(client, &format!(r#"["1","1","{topic}","new_message",{{"body":"{body}"}}]"#));
                world.client(client).frames();
            }
            world.advance_ms(1_000);
        }
        // What phoenix.js sends when it has reconnected.
        let ann = world.socket("");
        let joins: Vec<String> = (0..10)
            .map(|room| format!(r#"["{room}","{room}","room:{name}-{room}","phx_join",{{}}]"#))
            .collect();
        world.say_at_once(ann, &joins.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(closes(&world, CloseReason::Slow), 0, "the client is closed for answers it asked for");
        let joined = world.client(ann).messages().iter().filter(|message| message.word() == "ok").count();
        assert_eq!(joined, 10);
    });
}

#[test]
fn a_storm_of_joins_reaches_everybody_in_few_frames() {
    near_and_far(Settings::default, |mut world, name| {
        let bob = world.socket("");
        join(&mut world, bob, &format!("room:{name}"), &json!({}));
        let encoded = world.count(|metrics| metrics.broadcasts_encoded.value());
        for _ in 0..1_000 {
            let client = world.socket("");
            let frames = join(&mut world, client, &format!("room:{name}"), &json!({}));
            assert!((3..=5).contains(&frames.len()), "{}", frames.len());
            world.advance_ms(5);
        }
        world.advance_ms(2_000);
        let heard = world.client(bob).messages();
        let presence = heard.iter().filter(|message| message.word().starts_with("presence_")).count();
        assert!(presence <= 20 * 5, "{presence} in 7 s");
        let counted = heard.iter().rev().find_map(|message| message.told("presence_count")).unwrap();
        assert_eq!(*counted, json!({"online": 1_001}));
        let encoded = world.count(|metrics| metrics.broadcasts_encoded.value()) - encoded;
        assert!(encoded < 400, "{encoded} broadcasts for 1,000 joins");
        assert_eq!(closes(&world, CloseReason::Slow), 0);
    });
}

// ── Full mailboxes ──────────────────────────────────────────────────────────────────────────────────────────────────

/// A room on the last of three shards, and two clients that may join it: one on the first shard, one on the room's.
fn far_room() -> (World, String, [ClientId; 2]) {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let room = format!("room:{}", world.name_on(2));
    let clients = [world.socket_on(0, ""), world.socket_on(2, "")];
    (world, room, clients)
}

#[test]
fn what_cannot_reach_a_topic_is_answered() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let name = world.name_on(2);
    let room = format!("room:{name}");
    let ann = world.socket("");
    join(&mut world, ann, &room, &json!({}));
    world.advance_ms(100);
    world.client(ann).frames();
    world.full_mailbox = Some(2);
    world.say(ann, &format!(r#"["1","2","{room}","new_message",{{"body":"a"}}]"#));
    world.say(ann, &format!(r#"["1",null,"{room}","new_message",{{"body":"a"}}]"#));
    world.say(ann, &format!(r#"["3","3","game:{name}","phx_join",{{}}]"#));
    let messages = world.client(ann).messages();
    let overload = json!({"reason": "overload"});
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0].answer(&json!("2")), Some((false, &overload)));
    assert_eq!(messages[1].answer(&json!("3")), Some((false, &overload)));
    assert_eq!(world.count(|metrics| metrics.channels.value()), 1);
    assert_eq!(world.count(|metrics| metrics.forwards_refused.value()), 3);
    // A leave arrives whatever waits.
    world.say(ann, &format!(r#"["1","4","{room}","phx_leave",{{}}]"#));
    assert_eq!(world.client(ann).messages().len(), 2);
    assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
    world.full_mailbox = None;
    let joined = join(&mut world, ann, &format!("game:{name}"), &json!({}));
    assert_eq!(joined.len(), 3, "{joined:?}");
}

#[test]
fn members_that_cannot_be_told_something_get_an_error_and_catch_up_later() {
    let (mut world, room, [ann, bob]) = far_room();
    for client in [ann, bob] {
        join(&mut world, client, &room, &json!({}));
    }
    world.advance_ms(100);
    world.client(ann).frames();
    world.client(bob).frames();
    world.full_mailbox = Some(0);
    world.say(bob, &format!(r#"["1","2","{room}","new_message",{{"body":"a"}}]"#));
    let told: Vec<String> =
        world.client(ann).messages().iter().map(|message| message.word().to_owned()).collect();
    assert_eq!(told, ["phx_error"], "its other topics go on");
    world.advance_ms(100);
    let words: Vec<String> =
        world.client(bob).messages().iter().map(|message| message.word().to_owned()).collect();
    assert_eq!(words, ["new_message", "ok", "user_disconnected", "presence_diff"]);
    assert_eq!(world.count(|metrics| metrics.channels.value()), 1);
}

/// What a client was told, in words.
fn words(world: &mut World, client: ClientId) -> Vec<String> {
    world.client(client).messages().iter().map(|message| message.word().to_owned()).collect()
}

#[test]
fn whoever_joins_again_in_an_overload_is_given_up_again_when_something_is_lost_again() {
    let (mut world, room, [ann, bob]) = far_room();
    for client in [ann, bob] {
        join(&mut world, client, &room, &json!({}));
    }
    for n in 0..4 {
        world.advance_ms(100);
        words(&mut world, ann);
        world.full_mailbox = Some(0);
        world.say(bob, &format!(r#"["1","2","{room}","new_message",{{"body":"{n}"}}]"#));
        assert_eq!(words(&mut world, ann), ["phx_error"], "loss {n}");
        world.full_mailbox = None;
        join(&mut world, ann, &room, &json!({}));
        world.say(bob, &format!(r#"["1","3","{room}","new_message",{{"body":"{n} again"}}]"#));
        let told = words(&mut world, ann);
        assert!(told.iter().any(|word| word == "new_message"), "a member is told what comes: {told:?}");
    }
}

/// Adds the room's messages that a client is told, live or by `catch_up`, to `bodies`, and returns all that it is told.
fn heard(world: &mut World, client: ClientId, bodies: &mut Vec<String>) -> Vec<Message> {
    let messages = world.client(client).messages();
    let body = |payload: &Value| payload["body"].as_str().expect("a string").to_owned();
    for message in &messages {
        bodies.extend(message.told("new_message").map(body));
        let missed = message.told("catch_up").and_then(|payload| payload["events"].as_array());
        bodies.extend(missed.into_iter().flatten().map(|event| body(&event["payload"])));
    }
    messages
}

#[test]
fn a_join_in_any_state_of_an_overload_is_answered_and_nothing_is_missed_in_the_end() {
    let (member, owner) = (Some(0), Some(2));
    // Which shard's mailbox is full when a message is said, when ann joins again, and when the next one is said.
    let states = [
        [None, owner, None],
        [None, member, None],
        [member, member, None],
        [member, owner, None],
        [member, None, None],
        [member, None, member],
        [None, None, member],
        [member, member, member],
    ];
    for state in states {
        let (mut world, room, [ann, bob]) = far_room();
        join(&mut world, bob, &room, &json!({}));
        world.say(ann, &format!(r#"["1","1","{room}","phx_join",{{}}]"#));
        let mut bodies = Vec::new();
        let joined = heard(&mut world, ann, &mut bodies);
        let epoch = joined[0].answer(&json!("1")).expect("an answer").1["epoch"].clone();
        let say = |world: &mut World, body: &str| {
            world.say(bob, &format!(r#"["1",null,"{room}","new_message",{{"body":"{body}"}}]"#));
        };
        let join_again = |world: &mut World, bodies: &mut Vec<String>, reference: u32| {
            let resume = json!({"resume": {"epoch": epoch, "seq": bodies.len()}});
            world.say(ann, &format!(r#"["{reference}","{reference}","{room}","phx_join",{resume}]"#));
            let messages = heard(world, ann, bodies);
            let answer = |message: &Message| Some(message.answer(&json!(reference.to_string()))?.0);
            messages.iter().find_map(answer)
        };
        world.full_mailbox = state[0];
        say(&mut world, "a");
        heard(&mut world, ann, &mut bodies);
        world.full_mailbox = state[1];
        let answer = join_again(&mut world, &mut bodies, 2);
        assert_eq!(answer, Some(state[1].is_none()), "{state:?}");
        world.full_mailbox = state[2];
        say(&mut world, "b");
        heard(&mut world, ann, &mut bodies);
        world.full_mailbox = None;
        assert_eq!(join_again(&mut world, &mut bodies, 3), Some(true), "{state:?}");
        say(&mut world, "c");
        heard(&mut world, ann, &mut bodies);
        assert_eq!(bodies, ["a", "b", "c"], "{state:?}");
    }
}

#[test]
fn the_end_of_a_party_ends_its_members_and_the_channels_of_its_topics() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let names = [0, 1, 2].map(|shard| world.name_on(shard));
    let [ann, bob] = [world.socket_on(0, ""), world.socket_on(2, "")];
    for name in &names {
        for client in [ann, bob] {
            join(&mut world, client, &format!("room:{name}"), &json!({}));
            join(&mut world, client, &format!("game:{name}"), &json!({}));
        }
    }
    world.advance_ms(100);
    words(&mut world, ann);
    world.end_shard(2);
    world.advance_ms(100);
    let messages = world.client(ann).messages();
    let ended: Vec<&str> = messages
        .iter()
        .filter(|message| message.word() == "phx_error")
        .map(|message| message.topic())
        .collect();
    assert_eq!(ended, [format!("room:{}", names[2]), format!("game:{}", names[2])], "{messages:?}");
    for name in &names[..2] {
        let diffs = messages
            .iter()
            .filter(|message| message.word() == "presence_diff" && message.topic() == format!("room:{name}"));
        assert_eq!(diffs.count(), 1, "one for all members behind the party: {messages:?}");
    }
    assert_eq!(
        world.count(|metrics| metrics.seats_held.value()),
        2,
        "bob may come back to the games that are left"
    );
    world.advance_ms(20_000);
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
    world.client(ann).messages();
    world.say(ann, &format!(r#"["1","1","room:{}","phx_join",{{}}]"#, names[2]));
    let messages = world.client(ann).messages();
    assert_eq!(messages[0].answer(&json!("1")), Some((false, &json!({"reason": "overload"}))));
}

#[test]
fn frames_that_cannot_be_told_are_made_good_by_a_whole_state() {
    let mut world = World::new(Settings { placement: Placement::known(3), ..Settings::default() });
    let name = world.name_on(2);
    let (bob, bob_id, _) = games::native(&mut world, &name);
    let ann = games::player(&mut world, &name);
    world.send(bob, &put_object(1, 1, 0, 5.0, 5.0));
    world.advance_ms(60);
    world.client(ann.client).frames();
    world.full_mailbox = Some(0);
    world.send(bob, &move_to(0, 1.0, 1.0));
    world.advance_ms(60);
    assert_eq!(world.client(ann.client).frames(), []);
    world.full_mailbox = None;
    world.advance_ms(110);
    let updates = games::updates(world.client(ann.client).messages());
    let last = updates.last().expect("the state that was not told");
    assert_eq!(last.positions, [(bob_id, 1.0, 1.0)]);
}

#[test]
fn who_is_overflowed_by_the_end_of_another_is_closed_at_once() {
    let clients = ClientRules { outbox_bytes_max: 10 * 1024, ..ClientRules::default() };
    let settings = || Settings { clients, ..Settings::default() };
    near_and_far(settings, |mut world, name| {
        let room = format!("room:{name}");
        let clients: Vec<ClientId> = (0..102).map(|_| world.socket("")).collect();
        for client in &clients {
            join(&mut world, *client, &room, &json!({}));
        }
        world.advance_ms(100);
        let [ann, bob, others @ ..] = &clients[..] else { panic!("there are 102") };
        world.set_reading(*ann, false);
        for _ in 0..10 {
            let body = "x".repeat(2_200);
            world.say(*bob, &format!(r#"["1",null,"{room}","new_message",{{"body":"{body}"}}]"#));
        }
        assert_eq!(closes(&world, CloseReason::Slow), 0);
        for client in others {
            world.hang_up(*client);
        }
        let at_once = closes(&world, CloseReason::Slow);
        world.advance_ms(1_000);
        assert_eq!((at_once, closes(&world, CloseReason::Slow)), (1, 1));
    });
}

/// The owner of a room and a member of another shard that leaves while what it should be told is lost.
#[test]
fn whoever_leaves_is_told_nothing_behind_what_was_lost_on_it() {
    let settings = Settings { placement: Placement::known(1), ..Settings::default() };
    let mut owner = Shard::new(ShardId(0), settings.into(), Arc::default(), [0; 32]);
    let topic = Arc::new(Topic::parse("room:lobby").expect("a topic"));
    let from =
        Address { shard: ShardId(1), channel: ChannelNumber(0), conn: ConnId { slot: 0, generation: 0 } };
    let now = Now { instant: Instant::from_micros(1), unix_us: 1 };
    let join = Join {
        user: "ann".into(),
        name: "ann".into(),
        rights: Rights::Play,
        is_moderator: false,
        format: Format::V2,
        layout: false,
        ack: false,
        meta: None,
        resume_token: None,
        seen: None,
        supersedes: None,
    };
    let body = RoomPush::NewMessage { body: "a".into(), client_id: None };
    let push = Push { reference: None, event: PushEvent::Room(body) };
    let ask = |action: Action, owner: &mut Shard| {
        let request = TopicRequest { topic: topic.clone(), from, action };
        owner.handle_peer(from.party(), PeerMessage::Request(Box::new(request)), now);
    };
    let mut store = StoreModel::default();
    let mut let_store_answer = |owner: &mut Shard| {
        let Some(Output::Forward { target: Party::Store, message }) = owner.poll_output() else {
            panic!("a question")
        };
        owner.handle_peer(Party::Store, store.reply(message), now);
    };
    ask(Action::Join(Box::new(join)), &mut owner);
    let_store_answer(&mut owner);
    while owner.poll_output().is_some() {}
    ask(Action::Push(push), &mut owner);
    ask(Action::Leave(Departure::Asked), &mut owner);
    let_store_answer(&mut owner);
    let Some(Output::Forward { target, message }) = owner.poll_output() else { panic!("a broadcast") };
    let in_its_place = owner.handle_forward_refused(target, message, now);
    let Some(PeerMessage::Deliver(notice)) = in_its_place else { panic!("{in_its_place:?}") };
    assert!(matches!(notice.what, Delivered::GivenUp(_)), "{notice:?}");
}
