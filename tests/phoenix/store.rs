//! Rooms whose store is slow, or refuses: what waits, in which order it goes on, and what everybody is told.

use std::time::Duration;

use crate::world::client::{ClientId, Message};
use crate::world::rooms::{answer, far_member, join, near_member, push, told, words};
use crate::world::{World, near_and_far};
use corelay::limits::{
    ROOM_ARRIVALS_MAX, ROOM_LET_IN, ROOM_LOAD_WAIT, ROOM_READS_MAX, ROOM_WAITING_MAX, ROOM_WAITING_USER_MAX,
};
use corelay::room::chat::RoomRules;
use corelay::room::stored::{StoreAnswer, Unavailable};
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

/// Settings with which nobody is over a rate.
fn settings() -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let rules = RoomRules { messages_per_minute: 1_000_000, ..RoomRules::default() };
    let rates = Rates { events: much, bytes: Rate { per_s: 1 << 30, burst: 1 << 30 }, ..Rates::default() };
    Settings { rates, rooms: vec![rules], ..Settings::default() }
}

/// Pushes an event whose answer does not come yet.
fn ask(world: &mut World, client: ClientId, name: &str, reference: u64, event: &str, payload: &Value) {
    world.say(client, &format!(r#"["1","{reference}","room:{name}","{event}",{payload}]"#));
}

/// References of the answers, in order.
fn answered(messages: &[Message]) -> Vec<String> {
    let reference = |message: &Message| match message {
        Message::Reply { reference, .. } => reference.as_str().map(str::to_owned),
        Message::Told { .. } | Message::Update(_) => None,
    };
    messages.iter().filter_map(reference).collect()
}

fn bodies(messages: &[Message]) -> Vec<String> {
    let body = |payload: &Value| payload["body"].as_str().expect("a body").to_owned();
    told(messages, "new_message").iter().map(body).collect()
}

fn refusal(reason: &str, retry_after: u64) -> Value {
    json!({"reason": reason, "retry_after": retry_after})
}

#[test]
fn what_a_member_does_behind_its_message_is_answered_behind_it() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        let ben = far_member(&mut world, "&name=Ben", name);
        world.client(ann).messages();
        world.store_stands = true;
        ask(&mut world, ann, name, 11, "new_message", &json!({"body": "a"}));
        ask(&mut world, ann, name, 12, "heartbeat", &json!({}));
        ask(&mut world, ann, name, 13, "new_message", &json!({"body": "b"}));
        ask(&mut world, ann, name, 14, "history", &json!({}));
        ask(&mut world, ben, name, 21, "heartbeat", &json!({}));
        ask(&mut world, ben, name, 22, "new_message", &json!({"body": "c"}));
        ask(&mut world, ann, name, 15, "phx_leave", &json!({}));
        assert_eq!(answered(&world.client(ann).messages()), [""; 0]);
        assert_eq!(answered(&world.client(ben).messages()), ["21"], "it waits for nobody");
        world.let_store_answer();
        let heard = world.client(ann).messages();
        assert_eq!(answered(&heard), ["11", "12", "13", "14", "15"]);
        assert_eq!(bodies(&heard)[..2], ["a", "b"], "it hears what it said before it is gone");
        let page = heard.iter().find_map(|message| message.answer(&json!("14"))).expect("a page").1;
        assert!(page["messages"].as_array().is_some_and(|messages| messages.len() >= 2), "{page}");
        let heard = world.client(ben).messages();
        assert_eq!(
            (bodies(&heard), answered(&heard)),
            (vec!["a".into(), "b".into(), "c".into()], vec!["22".into()])
        );
        assert_eq!(world.store.end_of(&format!("room:{name}")).map(|(_, seq)| seq), Some(3));
    });
}

#[test]
fn what_is_refused_was_not_said_and_costs_no_rate() {
    let one_a_minute = || {
        let rules = RoomRules { messages_per_minute: 1, ..RoomRules::default() };
        Settings { rooms: vec![rules], ..settings() }
    };
    near_and_far(one_a_minute, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        let ben = far_member(&mut world, "&name=Ben", name);
        world.client(ann).messages();
        for (why, reason, retry_after) in [
            (Unavailable::Full, "storage_full", 5_000),
            (Unavailable::Failed, "unavailable", 5_000),
            (Unavailable::Busy, "overload", 1_000),
        ] {
            world.store_stands = true;
            ask(&mut world, ann, name, 9, "new_message", &json!({"body": "a"}));
            world.let_store_say(StoreAnswer::Refused(why));
            let heard = world.client(ann).messages();
            assert_eq!(answer(&heard), (false, refusal(reason, retry_after)));
            assert_eq!((bodies(&heard), bodies(&world.client(ben).messages())), (vec![], vec![]));
        }
        world.store_stands = false;
        let (ok, message) = answer(&push(&mut world, ann, name, "new_message", &json!({"body": "a"})));
        assert_eq!((ok, &message["seq"]), (true, &json!(1)));
        let (ok, _) = answer(&push(&mut world, ann, name, "new_message", &json!({"body": "b"})));
        assert!(!ok, "the second within a minute");
    });
}

#[test]
fn too_much_that_waits_is_refused_with_when_to_try_again() {
    near_and_far(settings, |mut world, name| {
        let users = ROOM_WAITING_MAX / ROOM_WAITING_USER_MAX;
        let members: Vec<ClientId> =
            (0..=users).map(|number| near_member(&mut world, &format!("&name=M{number}"), name)).collect();
        let ann = members[0];
        for member in &members {
            world.client(*member).messages();
        }
        world.store_stands = true;
        let mut said = 0;
        for (place, member) in members.iter().enumerate() {
            let own = ROOM_WAITING_USER_MAX + usize::from(place == 0);
            for _ in 0..own + usize::from(place < users) {
                said += 1;
                ask(&mut world, *member, name, said, "new_message", &json!({"body": said.to_string()}));
            }
            let heard = answered(&world.client(*member).messages());
            let refused = if place < users { 1 } else { own };
            assert_eq!(
                heard.len(),
                refused,
                "one is written, and as many wait of each, and of all, as may: {heard:?}"
            );
        }
        let mut batches = 0;
        while !world.asked.is_empty() {
            batches += 1;
            let request = world.asked.front().expect("a question").2.clone();
            let answer = world.store.answer(&request);
            world.let_store_say(answer);
        }
        let heard = bodies(&world.client(ann).messages());
        assert_eq!(heard.len(), 1 + ROOM_WAITING_MAX);
        assert_eq!(batches, 1 + ROOM_WAITING_MAX.div_ceil(64), "64 in one write");
    });
}

#[test]
fn a_message_that_is_sent_again_on_its_way_is_said_once() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        world.client(ann).messages();
        world.store_stands = true;
        ask(&mut world, ann, name, 10, "new_message", &json!({"body": "x"}));
        for reference in [11, 12] {
            ask(&mut world, ann, name, reference, "new_message", &json!({"body": "a", "client_id": "1"}));
        }
        world.let_store_answer();
        let heard = world.client(ann).messages();
        assert_eq!(
            (bodies(&heard), answered(&heard)),
            (vec!["x".into(), "a".into()], ["10", "11", "12"].map(str::to_owned).to_vec())
        );
        let seq = |reference: &str| {
            heard
                .iter()
                .find_map(|message| message.answer(&json!(reference)))
                .map(|answer| answer.1["seq"].clone())
        };
        assert_eq!((seq("11"), seq("12")), (Some(json!(2)), Some(json!(2))));
    });
}

#[test]
fn a_join_waits_for_its_room_but_not_for_ever() {
    near_and_far(settings, |mut world, name| {
        world.store_stands = true;
        let ann = world.socket("&name=Ann");
        assert_eq!(join(&mut world, ann, name, &json!({})), []);
        world.advance(ROOM_LOAD_WAIT - Duration::from_millis(1));
        assert_eq!(world.client(ann).messages(), []);
        world.advance_ms(1);
        let refused = world.client(ann).messages();
        assert_eq!(refused[0].answer(&json!("1")), Some((false, &refusal("overload", 1_000))));
        // The store is still asked; whoever comes now waits for the same answer.
        let ben = world.socket("&name=Ben");
        assert_eq!(join(&mut world, ben, name, &json!({})), []);
        world.let_store_answer();
        assert_eq!(words(&world.client(ben).messages()), ["ok", "presence_state", "room_state"]);

        let other = world.name_on(world.metrics.len() - 1) + "x";
        let carl = world.socket("&name=Carl");
        assert_eq!(join(&mut world, carl, &other, &json!({})), []);
        world.let_store_say(StoreAnswer::Refused(Unavailable::Failed));
        let refused = world.client(carl).messages();
        assert_eq!(refused[0].answer(&json!("1")), Some((false, &refusal("unavailable", 5_000))));
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 1, "nobody waits for that one");
    });
}

#[test]
fn a_crowd_that_waits_comes_in_a_few_at_a_time() {
    near_and_far(settings, |mut world, name| {
        world.store_stands = true;
        let members = 3 * ROOM_LET_IN + 1;
        assert!(members < ROOM_ARRIVALS_MAX);
        let clients: Vec<ClientId> = (0..members).map(|_| world.socket("")).collect();
        for client in &clients {
            assert_eq!(join(&mut world, *client, name, &json!({})), []);
            ask(&mut world, *client, name, 2, "heartbeat", &json!({}));
        }
        world.store_stands = false;
        world.let_store_answer();
        let count = |world: &mut World| world.count(|metrics| metrics.joins.value());
        assert_eq!(count(&mut world), ROOM_LET_IN as u64 / 2, "a heartbeat waits behind each join");
        assert!(world.timeout(), "the others are due at once");
        assert_eq!(count(&mut world), members as u64);
        for client in clients {
            assert_eq!(answered(&world.client(client).messages()), ["1", "2"]);
        }
    });
}

#[test]
fn whoever_gives_up_while_its_room_is_read_is_let_go() {
    near_and_far(settings, |mut world, name| {
        world.store_stands = true;
        let ann = world.socket("&name=Ann");
        join(&mut world, ann, name, &json!({}));
        ask(&mut world, ann, name, 2, "phx_leave", &json!({}));
        let ben = world.socket("&name=Ben");
        join(&mut world, ben, name, &json!({}));
        world.hang_up(ben);
        world.let_store_answer();
        assert_eq!(answered(&world.client(ann).messages()), ["1", "2"]);
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
    });
}

#[test]
fn a_stream_that_somebody_else_has_written_to_is_read_anew() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        push(&mut world, ann, name, "new_message", &json!({"body": "a"}));
        world.store_stands = true;
        ask(&mut world, ann, name, 9, "new_message", &json!({"body": "b"}));
        ask(&mut world, ann, name, 10, "new_message", &json!({"body": "c"}));
        world.let_store_say(StoreAnswer::Conflict);
        assert_eq!(answer(&world.client(ann).messages()), (false, refusal("unavailable", 5_000)));
        world.store_stands = false;
        world.let_store_answer();
        let heard = world.client(ann).messages();
        assert_eq!(words(&heard), ["room_state", "new_message", "ok"], "{heard:?}");
        assert_eq!(told(&heard, "new_message")[0]["seq"], 2);
    });
}

#[test]
fn whoever_waits_for_a_room_that_is_read_anew_goes_on_waiting() {
    near_and_far(settings, |mut world, name| {
        world.store_stands = true;
        let ann = world.socket("&name=Ann");
        join(&mut world, ann, name, &json!({}));
        ask(&mut world, ann, name, 2, "new_message", &json!({"body": "a"}));
        let others: Vec<ClientId> = (0..2 * ROOM_LET_IN).map(|_| world.socket("")).collect();
        for other in &others {
            join(&mut world, *other, name, &json!({}));
        }
        world.let_store_say(StoreAnswer::Loaded { stream: None, records: vec![], values: vec![] });
        // Some are in, and Ann's message is on its way; the others are still before the door.
        world.let_store_say(StoreAnswer::Conflict);
        world.store_stands = false;
        world.let_store_answer();
        while world.timeout() {}
        for client in others {
            assert_eq!(answered(&world.client(client).messages()), ["1"]);
        }
    });
}

#[test]
fn pages_that_are_not_in_memory_are_read_in_order_and_a_few_at_a_time() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        for number in 1..=350 {
            push(&mut world, ann, name, "new_message", &json!({"body": number.to_string()}));
        }
        let readers: Vec<ClientId> = (0..=ROOM_READS_MAX)
            .map(|number| near_member(&mut world, &format!("&name=R{number}"), name))
            .collect();
        world.client(ann).messages();
        world.store_stands = true;
        for reader in &readers {
            world.client(*reader).messages();
            ask(&mut world, *reader, name, 9, "history", &json!({"before": 40, "limit": 20}));
            ask(&mut world, *reader, name, 10, "heartbeat", &json!({}));
        }
        ask(&mut world, ann, name, 9, "new_message", &json!({"body": "351"}));
        let (last, first) = readers.split_last().expect("readers");
        let heard = world.client(*last).messages();
        assert_eq!((answer(&heard), answered(&heard).len()), ((false, refusal("overload", 1_000)), 2));
        world.store_stands = false;
        world.let_store_answer();
        for reader in first {
            let heard = world.client(*reader).messages();
            assert_eq!(answered(&heard), ["9", "10"]);
            let (_, page) = answer(&heard);
            let seqs: Vec<u64> = page["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .filter_map(|message| message["seq"].as_u64())
                .collect();
            assert_eq!((seqs, &page["more"]), ((20..40).collect(), &json!(true)));
        }
        assert_eq!(answered(&world.client(ann).messages()), ["9"]);
    });
}

#[test]
fn no_more_is_shown_than_is_kept() {
    let few = || {
        let rules = RoomRules { messages_kept: 3, ..RoomRules::default() };
        Settings { rooms: vec![rules], ..settings() }
    };
    near_and_far(few, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        for number in 1..=5 {
            push(&mut world, ann, name, "new_message", &json!({"body": number.to_string()}));
        }
        let (_, page) = answer(&push(&mut world, ann, name, "history", &json!({})));
        let seqs: Vec<&Value> =
            page["messages"].as_array().expect("messages").iter().map(|m| &m["seq"]).collect();
        assert_eq!((seqs, &page["more"]), (vec![&json!(3), &json!(4), &json!(5)], &json!(false)));
        let ben = far_member(&mut world, "&name=Ben", name);
        let (_, page) = answer(&push(&mut world, ben, name, "history", &json!({"before": 4})));
        assert_eq!((page["messages"].as_array().map(Vec::len), &page["more"]), (Some(1), &json!(false)));
    });
}

#[test]
fn a_rate_is_not_renewed_by_leaving_the_room_empty() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near_member(&mut world, "&name=Ann", name);
        for _ in 0..10 {
            push(&mut world, ann, name, "new_message", &json!({"body": "a"}));
        }
        world.say(ann, &format!(r#"["1","8","room:{name}","phx_leave",{{}}]"#));
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
        world.advance_ms(20_000);
        join(&mut world, ann, name, &json!({}));
        let (ok, refused) = answer(&push(&mut world, ann, name, "new_message", &json!({"body": "b"})));
        assert_eq!((ok, &refused["reason"]), (false, &json!("rate_limited")));
        let left = refused["retry_after"].as_u64().expect("a time");
        assert!((39_000..=40_000).contains(&left), "{left} ms");
        world.advance_ms(left);
        assert!(answer(&push(&mut world, ann, name, "new_message", &json!({"body": "b"}))).0);
    });
}

/// It is told that it has left at once; so must the others be.
#[test]
fn a_member_that_leaves_while_its_topic_is_read_again_is_gone_though_it_cannot_be_read() {
    let message = r#""new_message",{"body":"a"}"#;
    let operation = r#""operation",{"op":["a"],"version":0}"#;
    for (kind, push) in [("room", message), ("doc", operation)] {
        near_and_far(settings, |mut world, name| {
            let [ann, ben] = ["Ann", "Ben"].map(|user| {
                let client = world.socket(&format!("&user={user}"));
                world.say(client, &format!(r#"["1","1","{kind}:{name}","phx_join",{{}}]"#));
                world.advance_ms(60);
                client
            });
            world.client(ben).messages();
            world.store_stands = true;
            world.say(ann, &format!(r#"["1","2","{kind}:{name}",{push}]"#));
            world.let_store_say(StoreAnswer::Conflict);
            world.say(ann, &format!(r#"["1","3","{kind}:{name}","phx_leave",{{}}]"#));
            world.let_store_say(StoreAnswer::Refused(Unavailable::Failed));
            assert_eq!(words(&world.client(ann).messages()).last(), Some(&"phx_close"));
            world.advance_ms(60);
            let heard = world.client(ben).messages();
            let left = json!({"user_id": "Ann", "reason": "left", "online_count": 1});
            assert_eq!(told(&heard, "user_disconnected"), [left]);
            assert_eq!(world.count(|metrics| metrics.channels.value()), 1);
        });
    }
}
