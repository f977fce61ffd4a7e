//! Phoenix clients that say what they should not: heads that cannot be read, floods, payloads beyond every bound.

use crate::world::client::{
    ClientId, Frame, Message, Record, binary_push, game_state, masked_frame, move_to,
};
use crate::world::games::{self, object};
use crate::world::rooms::answer;
use crate::world::{World, near_and_far};
use corelay::reasons::{CloseReason, JoinRefusal, RateClass};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

fn member(world: &mut World, name: &str) -> ClientId {
    let client = world.socket("");
    world.say(client, &format!(r#"["1","1","room:{name}","phx_join",{{}}]"#));
    world.advance_ms(100);
    world.client(client).frames();
    client
}

fn told(messages: &[Message], event: &str) -> Vec<Value> {
    messages.iter().filter_map(|message| message.told(event)).cloned().collect()
}

fn push(world: &mut World, client: ClientId, topic: &str, event: &str, payload: &Value) -> Vec<Message> {
    world.say(client, &format!(r#"["1","9","{topic}","{event}",{payload}]"#));
    world.client(client).messages()
}

fn closes(world: &World, reason: CloseReason) -> u64 {
    world.count(|metrics| metrics.closes[reason.index()].value())
}

// ── Heads ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Text messages that are no message of Phoenix.
fn no_messages() -> Vec<String> {
    let deep = format!(r#"["1",{}{},"room:a","phx_join",{{}}]"#, "[".repeat(65), "]".repeat(65));
    let long_ref = format!(r#"["1","{}","room:a","phx_join",{{}}]"#, "x".repeat(127));
    let texts = [
        "",
        "nonsense",
        "[",
        "{}",
        "null",
        "[]",
        r#"["1","1","room:a","phx_join"]"#,
        r#"["1","1",7,"phx_join",{}]"#,
        r#"["1","1","room:a",null,{}]"#,
        r#"["1","1","room:a","phx_join",{}"#,
        r#"["1","1","room:a","phx_join",{}]]"#,
        r#"["1","1","room:a","phx_join",{},]"#,
        r#"["1","1","room:a","phx_join",{"a":01}]"#,
        r#"["1","\ud800","room:a","phx_join",{}]"#,
        r#"["1",NaN,"room:a","phx_join",{}]"#,
        r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#,
    ];
    texts.iter().map(|text| (*text).to_owned()).chain([deep, long_ref]).collect()
}

#[test]
fn a_head_that_cannot_be_read_closes_a_socket() {
    near_and_far(Settings::default, |mut world, name| {
        for (index, text) in no_messages().iter().enumerate() {
            let ann = member(&mut world, name);
            world.say(ann, text);
            assert_eq!(world.client(ann).close_frame(), Some((1003, "malformed".into())), "{text}");
            assert_eq!(world.count(|metrics| metrics.messages_malformed.value()), index as u64 + 1);
            assert_eq!(world.count(|metrics| metrics.channels.value()), 0, "its topics are left");
        }
    });
}

/// What makes a message unreadable while its head can be read, and a word of the sentence that says so.
fn bad_strings() -> Vec<(String, &'static str)> {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    vec![
        (r#"{"name":"\ud83e"}"#.to_owned(), "surrogate"),
        (r#"{"name":"\udd80 late"}"#.to_owned(), "surrogate"),
        (r#"{"a":NaN}"#.to_owned(), "NaN"),
        (r#"{"a":[Infinity,1]}"#.to_owned(), "NaN"),
        (r#"{"a":-Infinity}"#.to_owned(), "NaN"),
        (deep, "64"),
        ("{\"name\":\"a\tb\"}".to_owned(), "control"),
    ]
}

#[test]
fn one_bad_string_costs_its_message_and_not_the_connection() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        for (payload, word) in bad_strings() {
            for (topic, event, join_ref) in [
                ("room:other".to_owned(), "phx_join", "5"),
                (format!("room:{name}"), "new_message", "1"),
                ("room:nobody".to_owned(), "typing", "7"),
            ] {
                world.say(ann, &format!(r#"["{join_ref}","9","{topic}","{event}",{payload}]"#));
                let messages = world.client(ann).messages();
                let [Message::Reply { join_ref: echoed, topic: on, ok: false, response, .. }] = &messages[..]
                else {
                    panic!("{payload} {event}: {messages:?}")
                };
                assert_eq!((echoed, on), (&json!(join_ref), &topic));
                assert!(response["reason"].as_str().unwrap().contains(word), "{response}");
            }
            world.say(ann, &format!(r#"["1",null,"room:{name}","new_message",{payload}]"#));
            assert_eq!(world.client(ann).messages(), [], "whoever wants no answer gets none");
            world.say(ann, &format!(r#"["1","9","room:{name}","heartbeat",{{}}]"#));
            assert_eq!(world.client(ann).messages()[0].word(), "ok", "what is joined stays");
            world.advance_ms(2_000);
            world.client(ann).frames();
        }
        let bad_topic = r#"["1","9","room:\ud83e","new_message",{}]"#;
        world.say(ann, bad_topic);
        let messages = world.client(ann).messages();
        let [Message::Reply { topic, ok: false, .. }] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(topic, "room:\u{fffd}");
        assert_eq!(world.count(|metrics| metrics.messages_malformed.value()), 4 * 7 + 1);
    });
}

#[test]
fn bad_strings_are_answered_in_the_older_serializer_and_on_play_as_well() {
    near_and_far(Settings::default, |mut world, name| {
        for (payload, word) in bad_strings() {
            let old = world.dial();
            world.send_raw(old, crate::world::client::request("/socket/websocket").as_bytes());
            world.client(old).response();
            // The payload stands before the ref.
            let text = format!(r#"{{"payload":{payload},"topic":"room:a","event":"phx_join","ref":"1"}}"#);
            world.say(old, &text);
            let texts = world.client(old).texts();
            assert!(texts.len() == 1 && texts[0].contains(word) && texts[0].contains("error"), "{texts:?}");
        }
        let bob = world.join(&format!("/play/{name}"));
        for (payload, _) in bad_strings() {
            world.say(bob, &format!(r#"["1","9","room:a","phx_join",{payload}]"#));
            let messages = world.client(bob).messages();
            assert_eq!(messages[0].word(), "error", "{payload}");
        }
    });
}

#[test]
fn bad_strings_are_bounded_by_a_rate_and_invite_no_storm() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        let topic = |number: u32| {
            format!(r#"["{number}","{number}","room:{number}","phx_join",{{"name":"\ud83e"}}]"#)
        };
        let texts: Vec<String> = (0..100).map(topic).collect();
        world.say_at_once(ann, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let answers = world.client(ann).messages().len();
        assert_eq!(answers, 40, "as many as a burst of events, then none; and no close");
        assert_eq!(closes(&world, CloseReason::Malformed), 0);
    });
}

#[test]
fn a_binary_head_that_cannot_be_read_closes_a_socket() {
    near_and_far(Settings::default, |mut world, name| {
        let whole = binary_push(["1", "1", "room:a", "msg"], b"");
        let with_kind = |kind: u8| [&[kind], &whole[1..]].concat();
        for bytes in [
            vec![],
            vec![0],
            vec![0, 0, 0, 0],
            vec![0, 255, 255, 255, 255],
            whole[..whole.len() - 1].to_vec(),
            with_kind(1),
            with_kind(3),
            with_kind(0x81),
            binary_push(["1", "1", "room:a", "msg"], b"")
                .iter()
                .map(|byte| if *byte == b'a' { 0xFF } else { *byte })
                .collect(),
            move_to(0, 1.0, 2.0),
        ] {
            let ann = member(&mut world, name);
            world.send(ann, &bytes);
            assert_eq!(world.client(ann).close_frame(), Some((1003, "malformed".into())), "{bytes:?}");
        }
    });
}

#[test]
fn text_that_is_not_utf8_closes_1007() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        world.send_raw(ann, &masked_frame(0x81, b"[null,\"1\",\"\xFF\",\"heartbeat\",{}]"));
        assert_eq!(world.client(ann).close_frame(), Some((1007, "utf8".into())));
    });
}

#[test]
fn a_player_is_told_of_a_head_that_cannot_be_read_and_plays_on() {
    near_and_far(Settings::default, |mut world, name| {
        for text in no_messages().iter().take(9) {
            let ann = world.join(&format!("/play/{name}"));
            world.say(ann, text);
            let records = world.client(ann).records();
            let [Record::Error { code: 1, text: why }] = &records[..] else { panic!("{text}: {records:?}") };
            assert!(why.starts_with("native records are binary messages; text is Phoenix V2: "), "{why}");
            world.say(ann, r#"[null,"1","phoenix","heartbeat",{}]"#);
            assert_eq!(world.client(ann).messages()[0].word(), "ok");
        }
        let ann = world.join(&format!("/play/{name}"));
        (0..10).for_each(|_| world.say(ann, "nonsense"));
        let frames = world.client(ann).frames();
        assert_eq!(frames.len(), 11, "{frames:?}");
        assert_eq!(frames[10], Frame::Close(Some((1003, "malformed".into()))));
    });
}

#[test]
fn payloads_of_every_shape_are_answered() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        let room = format!("room:{name}");
        let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        for payload in ["null", "7", "\"text\"", "[1,2]", "true", "{}", r#"{"a":1e999}"#, &deep] {
            for event in ["new_message", "typing", "presence_update", "reconnect", "history", "nope"] {
                world.say(ann, &format!(r#"["1","9","{room}","{event}",{payload}]"#));
                let messages = world.client(ann).messages();
                let answers = messages.iter().filter(|message| message.answer(&json!("9")).is_some()).count();
                assert_eq!(answers, 1, "{event} {payload}: {messages:?}");
            }
            world.advance_ms(1_000);
        }
        let long = "x".repeat(1_017);
        for (payload, word) in [
            (r#"{"meta":7}"#.to_owned(), "object"),
            (format!(r#"{{"meta":{{"a":"{long}"}}}}"#), "1024"),
            (r#"{"name":7}"#.to_owned(), "wrong type"),
            (r#"{"resume":7.5}"#.to_owned(), "epoch"),
            (r#"{"resume_token":"00"}"#.to_owned(), "32"),
        ] {
            world.say(ann, &format!(r#"["2","9","room:other","phx_join",{payload}]"#));
            let messages = world.client(ann).messages();
            let [Message::Reply { ok: false, response, .. }] = &messages[..] else { panic!("{messages:?}") };
            assert!(response["reason"].as_str().unwrap().contains(word), "{response}");
        }
        assert_eq!(world.count(|metrics| metrics.joins_refused[JoinRefusal::Malformed.index()].value()), 5);
        for payload in ["null", "7", "[]", "\"x\""] {
            world.say(ann, &format!(r#"["2","9","room:other","phx_join",{payload}]"#));
            let messages = world.client(ann).messages();
            assert_eq!(messages[0].word(), "ok", "a join may say nothing: {payload}");
        }
        world.say(ann, &format!(r#"["1","9","{room}","heartbeat",{{}}]"#));
        assert_eq!(world.client(ann).messages()[0].word(), "ok");
    });
}

// ── Rates ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_burst_of_joins_is_taken_and_then_twenty_a_second() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let join = |world: &mut World| {
            world.say(ann, &format!(r#"["1","9","room:{name}","phx_join",{{}}]"#));
            let messages = world.client(ann).messages();
            let (ok, response) = messages.iter().find_map(|message| message.answer(&json!("9"))).unwrap();
            (ok, response.clone())
        };
        for number in 0..100 {
            assert!(join(&mut world).0, "join {number}");
        }
        let refused = (false, json!({"reason": "rate_limited", "retry_after": 50}));
        assert_eq!(join(&mut world), refused);
        world.advance_ms(49);
        assert_eq!(join(&mut world), (false, json!({"reason": "rate_limited", "retry_after": 1})));
        world.advance_ms(1);
        assert!(join(&mut world).0);
        world.advance_ms(1_000);
        world.client(ann).frames();
        for number in 0..20 {
            assert!(join(&mut world).0, "join {number}");
        }
        assert_eq!(join(&mut world), refused, "the 21st");
        assert_eq!(world.count(|metrics| metrics.joins_refused[JoinRefusal::RateLimited.index()].value()), 3);
        world.say(ann, &format!(r#"["1","9","room:{name}","heartbeat",{{}}]"#));
        assert_eq!(world.client(ann).messages()[0].word(), "ok", "the topic that is joined goes on");
    });
}

#[test]
fn whatever_is_over_a_rate_is_told_when_to_try_again() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        let room = format!("room:{name}");
        let beat = |world: &mut World| answer(&push(world, ann, &room, "heartbeat", &json!({})));
        assert!((0..40).all(|_| beat(&mut world).0));
        for _ in 0..3 {
            // Also those of which no push tells.
            assert_eq!(beat(&mut world), (false, json!({"reason": "rate_limited", "retry_after": 50})));
        }
        world.advance_ms(50);
        assert!(beat(&mut world).0);
    });
}

#[test]
fn presence_updates_have_a_rate_of_their_own() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        let room = format!("room:{name}");
        let mut warned = Vec::new();
        let update = |world: &mut World, number: u32, warned: &mut Vec<Value>| {
            let messages = push(world, ann, &room, "presence_update", &json!({ "n": number }));
            warned.extend(told(&messages, "rate_limited"));
            messages.iter().find_map(|message| message.answer(&json!("9"))).map(|(ok, _)| ok)
        };
        for number in 0..20 {
            assert_eq!(update(&mut world, number, &mut warned), Some(true), "update {number}");
        }
        for number in 20..25 {
            assert_eq!(update(&mut world, number, &mut warned), Some(false));
        }
        let [warning] = &warned[..] else { panic!("once a second: {warned:?}") };
        assert_eq!((&warning["class"], &warning["retry_after"]), (&json!("presence"), &json!(100)));
        assert!(warning["message"].is_string());
        world.advance_ms(100);
        assert_eq!(update(&mut world, 25, &mut warned), Some(true));
        assert_eq!(update(&mut world, 26, &mut warned), Some(false));
        assert_eq!(warned.len(), 1);
    });
}

#[test]
fn what_is_answered_with_a_whole_message_has_a_rate_of_its_own() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        let body = "x".repeat(4_000);
        for number in 0..14 {
            let speaker = if number % 10 == 0 { member(&mut world, name) } else { ann };
            push(&mut world, speaker, &format!("room:{name}"), "new_message", &json!({ "body": body }));
        }
        let bob = games::player(&mut world, name);
        for (client, topic, event, payload) in [
            (ann, format!("room:{name}"), "history", json!({})),
            (ann, format!("room:{name}"), "reconnect", json!({"last_seen": {"epoch": "1", "seq": 0}})),
            (bob.client, format!("game:{name}"), "reconnect", json!({"last_seen": {"epoch": "1", "seq": 0}})),
        ] {
            world.advance_ms(15_000);
            world.client(client).frames();
            let (mut answered, mut refused, mut warned) = (0, 0, Vec::new());
            // 20 a second, which events may, for 5 s.
            for _ in 0..100 {
                let messages = push(&mut world, client, &topic, event, &payload);
                warned.extend(told(&messages, "rate_limited"));
                refused += messages.iter().filter(|message| message.word() == "error").count();
                answered +=
                    messages.iter().filter(|message| ["ok", "catch_up"].contains(&message.word())).count();
                world.advance_ms(50);
            }
            assert!((29..=31).contains(&answered), "20 at once and 2 a second, not {answered} of {event}");
            assert_eq!(refused, 100 - answered);
            assert!((3..=5).contains(&warned.len()), "{warned:?}");
            assert!(warned.iter().all(|notice| notice["class"] == "page"), "{warned:?}");
        }
    });
}

#[test]
fn moves_over_the_rate_are_dropped_and_told_once_a_second() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        for number in 0..100 {
            let text = format!(r#"["1",null,"game:{name}","move",{{"x":{number},"y":0}}]"#);
            world.say(ann.client, &text);
        }
        let messages = world.client(ann.client).messages();
        let warned = told(&messages, "rate_limited");
        assert_eq!((warned.len(), messages.len()), (1, 1));
        assert_eq!(warned[0]["class"], "move");
        assert!((16..=17).contains(&warned[0]["retry_after"].as_u64().unwrap()), "{}", warned[0]);
        assert_eq!(world.count(|metrics| metrics.moves.value()), 60);
        assert_eq!(world.count(|metrics| metrics.rate_limited[RateClass::Move.index()].value()), 40);
        world.advance_ms(60);
        let updates = games::updates(world.client(ann.client).messages());
        assert_eq!(updates[0].positions, [(ann.id, 59.0, 0.0)]);
    });
}

#[test]
fn objects_are_charged_one_by_one_however_many_a_message_brings() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        let objects: Vec<_> = (0..60_u8).map(|number| object(u32::from(number), f32::from(number))).collect();
        let topic = format!("game:{name}");
        world.send(ann.client, &game_state(["1", "", &topic], &[], &objects));
        assert_eq!(world.client(ann.client).messages(), []);
        world.send(ann.client, &game_state(["1", "9", &topic], &[(ann.id, 1.0, 1.0)], &[object(1, 5.0)]));
        let messages = world.client(ann.client).messages();
        assert_eq!(told(&messages, "rate_limited")[0]["class"], "object");
        assert_eq!(world.count(|metrics| metrics.moves.value()), 0, "what came with it is dropped too");
    });
}

#[test]
fn a_state_that_is_dropped_for_its_move_has_not_paid_for_its_objects() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        let topic = format!("game:{name}");
        for _ in 0..60 {
            world.say(ann.client, &format!(r#"["1",null,"{topic}","move",{{"x":1,"y":0}}]"#));
        }
        let objects: Vec<_> = (0..60_u8).map(|number| object(u32::from(number), f32::from(number))).collect();
        world.send(ann.client, &game_state(["1", "", &topic], &[(ann.id, 2.0, 2.0)], &objects));
        let warned = told(&world.client(ann.client).messages(), "rate_limited");
        assert_eq!((warned.len(), &warned[0]["class"]), (1, &json!("move")));
        assert_eq!(world.count(|metrics| metrics.objects.value()), 0);
        world.send(ann.client, &game_state(["1", "", &topic], &[], &objects));
        assert_eq!(world.client(ann.client).messages(), []);
        assert_eq!(world.count(|metrics| metrics.objects.value()), 60);
    });
}

#[test]
fn whoever_goes_on_regardless_is_closed() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = games::player(&mut world, name);
        // 20 times 60 a second, over 10 s.
        let text = format!(r#"["1",null,"game:{name}","move",{{"x":1,"y":0}}]"#);
        let frame = masked_frame(0x81, text.as_bytes()).repeat(150);
        for _ in 0..100 {
            world.send_raw(ann.client, &frame);
            world.advance_ms(90);
            world.client(ann.client).inbox.drain(..);
            if closes(&world, CloseReason::Abuse) > 0 {
                break;
            }
        }
        assert_eq!(closes(&world, CloseReason::Abuse), 1);
        assert_eq!(world.count(|metrics| metrics.seats.value()), 0);
    });
}

#[test]
fn over_the_byte_budget_reading_stops_and_every_topic_is_told() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        world.say(ann, r#"["2","2","room:other","phx_join",{}]"#);
        world.client(ann).frames();
        let text = format!(r#"["1","9","nope:{}","msg",{{}}]"#, "x".repeat(60_000));
        for _ in 0..4 {
            world.say(ann, &text);
        }
        assert!(world.client(ann).paused);
        let messages = world.client(ann).messages();
        let warned = told(&messages, "rate_limited");
        assert_eq!(warned.len(), 2, "one a topic");
        assert_eq!(warned[0]["class"], "bytes");
        world.advance_ms(3_000);
        assert!(!world.client(ann).paused);
        world.say(ann, &format!(r#"["1","9","room:{name}","heartbeat",{{}}]"#));
        let messages = world.client(ann).messages();
        assert!(messages.iter().any(|message| message.answer(&json!("9")).is_some_and(|(ok, _)| ok)));
    });
}

#[test]
fn a_message_over_the_limit_closes_1009() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, name);
        world.say(ann, &format!(r#"[null,"1","phoenix","heartbeat","{}"]"#, "x".repeat(64 * 1024)));
        assert_eq!(world.client(ann).close_frame(), Some((1009, "too_big".into())));
    });
}
