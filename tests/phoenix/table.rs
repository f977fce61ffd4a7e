//! The state table of Phoenix Channels (section 4 of PHOENIX.md) on the wire, row by row, with topics of the own shard and of
//! another one.

use crate::world::client::{ClientId, Message, binary_push, masked_frame};
use crate::world::{World, near_and_far};
use corelay::shard::settings::Settings;
use serde_json::json;

/// Messages of a client that are not about presence, the room or other users: what the table is about.
fn texts(world: &mut World, client: ClientId) -> Vec<String> {
    const OF_THE_ROOM: [&str; 5] =
        ["presence_state", "presence_diff", "room_state", "user_joined", "user_disconnected"];
    let of_table = |text: &String| !OF_THE_ROOM.iter().any(|event| text.contains(&format!("\"{event}\"")));
    world.client(client).texts().into_iter().filter(of_table).collect()
}

/// A reply without the position and user of the answer to a join, which are not the table's business.
fn without_response(text: &str) -> String {
    let Some(start) = text.find(r#"{"epoch""#) else { return text.into() };
    format!("{}…{}", &text[..start], &text[text.len() - 2..])
}

fn heard(world: &mut World, client: ClientId) -> Vec<String> {
    texts(world, client).iter().map(|text| without_response(text)).collect()
}

#[test]
fn row_1_a_heartbeat_is_answered_by_the_socket() {
    near_and_far(Settings::default, |mut world, _| {
        let ann = world.socket("");
        for reference in [r#""5""#, "5", "null", "-1.50e+3", "true", r#"{"a": [1]}"#, "[]", r#""\u00e4\n""#] {
            world.say(ann, &format!(r#"[null, {reference} ,"phoenix","heartbeat",{{}}]"#));
            assert_eq!(
                heard(&mut world, ann),
                [format!(r#"[null,{reference},"phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#)]
            );
        }
        world.say(ann, r#"["9","6","phoenix","heartbeat",{}]"#);
        assert_eq!(
            heard(&mut world, ann),
            [r#"[null,"6","phoenix","phx_reply",{"status":"ok","response":{}}]"#]
        );
    });
}

#[test]
fn row_2_the_hundred_and_first_join_is_refused() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        for number in 0..100 {
            let text = format!(r#"["{number}","{number}","room:{name}-{number}","phx_join",{{}}]"#);
            world.say(ann, &text);
        }
        assert_eq!(heard(&mut world, ann).len(), 100);
        assert_eq!(world.count(|metrics| metrics.channels.value()), 100);
        world.advance_ms(1_000);
        world.say(ann, &format!(r#"["a","b","room:{name}","phx_join",{{}}]"#));
        let refused = format!(
            r#"["a","b","room:{name}","phx_reply",{{"status":"error","response":{{"reason":"too many channels joined"}}}}]"#
        );
        assert_eq!(heard(&mut world, ann), [refused]);
        // A topic that is joined already is not one more, and one that is left makes room.
        world.say(ann, &format!(r#"["c","d","room:{name}-7","phx_join",{{}}]"#));
        assert_eq!(
            heard(&mut world, ann),
            [
                format!(r#"["c","d","room:{name}-7","phx_reply",{{"status":"ok","response":…}}]"#),
                format!(r#"["7","7","room:{name}-7","phx_close",{{}}]"#),
            ]
        );
        world.say(ann, &format!(r#"["c","e","room:{name}-7","phx_leave",{{}}]"#));
        world.say(ann, &format!(r#"["f","f","room:{name}","phx_join",{{}}]"#));
        let texts = heard(&mut world, ann);
        assert!(texts[2].starts_with(&format!(r#"["f","f","room:{name}","phx_reply",{{"status":"ok""#)));
        assert_eq!(world.count(|metrics| metrics.channels.value()), 100);
    });
}

#[test]
fn row_3_a_join_is_answered_with_its_references_as_they_came() {
    near_and_far(Settings::default, |mut world, name| {
        for (join_ref, reference) in [
            (r#""3""#, r#""3""#),
            ("3", "4"),
            ("1.0", "null"),
            (r#"{"a":1}"#, "[1,2]"),
            ("true", "false"),
            (r#""\/\u0041""#, "\"€\""),
        ] {
            let ann = world.socket("");
            world.say(ann, &format!(r#"[{join_ref},{reference},"room:{name}","phx_join",{{}}]"#));
            assert_eq!(
                heard(&mut world, ann),
                [format!(
                    r#"[{join_ref},{reference},"room:{name}","phx_reply",{{"status":"ok","response":…}}]"#
                )]
            );
            // Pushes to it carry the same token.
            world.say(ann, &format!(r#"[{join_ref},"7","room:{name}","heartbeat",{{}}]"#));
            let now = world.now.unix_us / 1000;
            assert_eq!(
                heard(&mut world, ann),
                [format!(
                    r#"[{join_ref},"7","room:{name}","phx_reply",{{"status":"ok","response":{{"timestamp":{now}}}}}]"#
                )]
            );
        }
    });
}

#[test]
fn rows_4_and_11_what_is_no_topic_is_unmatched_and_the_connection_goes_on() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let long = format!("room:{}", "x".repeat(60 * 1024));
        let of_64 = format!("room:{}", "x".repeat(64));
        for topic in [
            "nope:1",
            "room:",
            "room",
            "",
            "room:a/b",
            "room:ä",
            "game:a b",
            "rooms:a",
            "phoenix",
            "doc",
            &format!("{of_64}x"),
            &long,
        ] {
            for event in ["phx_join", "msg"] {
                world.say(ann, &format!(r#"["11","12","{topic}","{event}",{{}}]"#));
                let is_known_kind = topic.starts_with("room:") || topic.starts_with("game:");
                let join_ref = if is_known_kind && event == "phx_join" { "\"11\"" } else { "null" };
                let unmatched = format!(
                    r#"[{join_ref},"12","{topic}","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
                );
                assert!(heard(&mut world, ann) == [unmatched], "{event} on {:.20}", topic);
            }
            world.advance_ms(3_000);
            texts(&mut world, ann);
        }
        world.say(ann, &format!(r#"["11","12","room:{name}","msg",{{}}]"#));
        let unmatched = format!(
            r#"[null,"12","room:{name}","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
        );
        assert_eq!(heard(&mut world, ann), [unmatched]);
        world.say(ann, &format!(r#"["1","1","{of_64}","phx_join",{{}}]"#));
        assert!(heard(&mut world, ann)[0].contains(r#""status":"ok""#));
    });
}

#[test]
fn row_5_a_second_join_is_answered_first_then_the_first_channel_is_closed() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("&name=Ann");
        let bob = world.socket("&name=Bob");
        world.say(bob, &format!(r#"["1","1","room:{name}","phx_join",{{}}]"#));
        world.say(ann, &format!(r#"["3","3","room:{name}","phx_join",{{}}]"#));
        world.advance_ms(100);
        world.client(ann).frames();
        world.client(bob).frames();
        world.say(ann, &format!(r#"["7","8","room:{name}","phx_join",{{}}]"#));
        let words = |world: &mut World, client| {
            let messages = world.client(client).messages();
            messages.iter().map(|message| message.word().to_owned()).collect::<Vec<_>>()
        };
        let of_ann = world.client(ann).texts();
        let place = |part: &str| of_ann.iter().position(|text| text.contains(part)).expect(part);
        let reply = place(&format!(r#"["7","8","room:{name}","phx_reply",{{"status":"ok""#));
        let close = place(&format!(r#"["3","3","room:{name}","phx_close",{{}}]"#));
        assert!(reply < close && close == reply + 1, "{of_ann:?}");
        assert!(place("presence_state") > reply);
        assert_eq!(words(&mut world, bob), ["user_disconnected", "user_joined"]);
        world.advance_ms(100);
        assert_eq!(words(&mut world, bob), ["presence_diff"], "another meta of hers");
        // The old join_ref is stale from now on.
        world.client(ann).frames();
        world.say(ann, &format!(r#"["3","9","room:{name}","heartbeat",{{}}]"#));
        assert_eq!(heard(&mut world, ann), [""; 0]);
        assert_eq!(world.count(|metrics| metrics.messages_stale.value()), 1);
    });
}

#[test]
fn row_5_three_joins_in_one_segment_leave_one_channel() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let joins = ["1", "2", "3"].map(|n| format!(r#"["{n}","{n}","room:{name}","phx_join",{{}}]"#));
        world.say_at_once(ann, &joins.each_ref().map(String::as_str));
        world.advance_ms(100);
        let texts = heard(&mut world, ann);
        let last = format!(r#"["3","3","room:{name}","phx_reply",{{"status":"ok","response":…}}]"#);
        assert_eq!(texts.iter().filter(|text| **text == last).count(), 1, "{texts:?}");
        assert_eq!(world.count(|metrics| metrics.channels.value()), 1);
        world.say(ann, &format!(r#"["3","4","room:{name}","new_message",{{"body":"hello"}}]"#));
        let messages = world.client(ann).messages();
        assert_eq!(
            messages.iter().filter(|message| message.told("new_message").is_some()).count(),
            1,
            "one membership is left: {messages:?}"
        );
    });
}

#[test]
fn rows_6_to_8_a_leave_is_answered_and_closed_a_stale_one_is_not_heard() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let joined = |world: &mut World, join_ref: &str| {
            world.say(ann, &format!(r#"["{join_ref}","{join_ref}","room:{name}","phx_join",{{}}]"#));
            assert_eq!(heard(world, ann).len(), 1);
        };
        let left = |join_ref: &str, reference: &str| {
            [
                format!(
                    r#"["{join_ref}","{reference}","room:{name}","phx_reply",{{"status":"ok","response":{{}}}}]"#
                ),
                format!(r#"["{join_ref}","{join_ref}","room:{name}","phx_close",{{}}]"#),
            ]
        };
        joined(&mut world, "3");
        world.say(ann, &format!(r#"["2","4","room:{name}","phx_leave",{{}}]"#));
        assert_eq!(heard(&mut world, ann), [""; 0], "row 7");
        world.say(ann, &format!(r#"["3","5","room:{name}","phx_leave",{{}}]"#));
        assert_eq!(heard(&mut world, ann), left("3", "5"), "row 6");
        for leave in [r#"["3","6","room:NAME","phx_leave",{}]"#, r#"["3","6","nope:1","phx_leave",{}]"#] {
            world.say(ann, &leave.replace("NAME", name));
            let reply = leave
                .replace("NAME", name)
                .replace("phx_leave\",{}", "phx_reply\",{\"status\":\"ok\",\"response\":{}}");
            assert_eq!(heard(&mut world, ann), [reply], "row 8");
        }
        for nothing in ["null", "\"\""] {
            joined(&mut world, "7");
            world.say(ann, &format!(r#"[{nothing},"8","room:{name}","phx_leave",{{}}]"#));
            assert_eq!(heard(&mut world, ann), left("7", "8"), "row 6 without a join_ref");
        }
        assert_eq!(world.count(|metrics| metrics.channels.value()), 0);
    });
}

#[test]
fn a_leave_and_the_next_join_in_one_segment_are_answered_in_order() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        world.say(ann, &format!(r#"["3","3","room:{name}","phx_join",{{}}]"#));
        heard(&mut world, ann);
        let leave = format!(r#"["3","20","room:{name}","phx_leave",{{}}]"#);
        let join = format!(r#"["21","21","room:{name}","phx_join",{{}}]"#);
        world.say_at_once(ann, &[&leave, &join]);
        assert_eq!(
            heard(&mut world, ann),
            [
                format!(r#"["3","20","room:{name}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
                format!(r#"["3","3","room:{name}","phx_close",{{}}]"#),
                format!(r#"["21","21","room:{name}","phx_reply",{{"status":"ok","response":…}}]"#),
            ]
        );
        world.say(ann, &format!(r#"["21","22","room:{name}","heartbeat",{{}}]"#));
        assert_eq!(heard(&mut world, ann).len(), 1);
    });
}

#[test]
fn a_join_and_its_leave_in_one_segment_are_both_answered() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let join = format!(r#"["3","3","room:{name}","phx_join",{{}}]"#);
        let leave = format!(r#"["3","4","room:{name}","phx_leave",{{}}]"#);
        world.say_at_once(ann, &[&join, &leave]);
        assert_eq!(
            heard(&mut world, ann),
            [
                format!(r#"["3","3","room:{name}","phx_reply",{{"status":"ok","response":…}}]"#),
                format!(r#"["3","4","room:{name}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
                format!(r#"["3","3","room:{name}","phx_close",{{}}]"#),
            ]
        );
        assert_eq!(world.count(|metrics| metrics.channels.value()), 0);
    });
}

#[test]
fn pushes_right_behind_a_join_are_answered_in_order() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let texts: Vec<String> = std::iter::once(format!(r#"["3","3","room:{name}","phx_join",{{}}]"#))
            .chain((4..9).map(|n| format!(r#"["3","{n}","room:{name}","heartbeat",{{}}]"#)))
            .collect();
        world.say_at_once(ann, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let messages = world.client(ann).messages();
        let answered: Vec<String> = messages
            .iter()
            .filter_map(|message| match message {
                Message::Reply { reference, ok: true, .. } => Some(reference.as_str().unwrap().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(answered, ["3", "4", "5", "6", "7", "8"]);
    });
}

#[test]
fn rows_9_and_10_a_push_is_for_the_channel_it_names() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        world.say(ann, &format!(r#"["3","3","room:{name}","phx_join",{{}}]"#));
        heard(&mut world, ann);
        for join_ref in ["null", "\"\"", "\"3\""] {
            world.say(ann, &format!(r#"[{join_ref},"4","room:{name}","history",{{}}]"#));
            assert_eq!(
                heard(&mut world, ann),
                [format!(
                    r#"["3","4","room:{name}","phx_reply",{{"status":"ok","response":{{"messages":[],"more":false}}}}]"#
                )]
            );
        }
        for join_ref in ["\"4\"", "3", "true", "[]"] {
            world.say(ann, &format!(r#"[{join_ref},"4","room:{name}","history",{{}}]"#));
            assert_eq!(heard(&mut world, ann), [""; 0], "{join_ref}");
        }
        world.say(ann, &format!(r#"["3",null,"room:{name}","history",{{}}]"#));
        assert_eq!(heard(&mut world, ann), [""; 0], "no ref, no reply");
        world.say(ann, &format!(r#"["3","5","room:{name}","crash",[1]]"#));
        let messages = world.client(ann).messages();
        let [Message::Reply { ok: false, response, .. }] = &messages[..] else { panic!("{messages:?}") };
        assert!(response["reason"].as_str().unwrap().contains("crash"), "{response}");
    });
}

#[test]
fn a_join_without_a_join_ref_is_named_by_its_ref() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        world.say(ann, &format!(r#"[null,"9","room:{name}","phx_join",{{}}]"#));
        assert_eq!(
            heard(&mut world, ann),
            [format!(r#"[null,"9","room:{name}","phx_reply",{{"status":"ok","response":…}}]"#)]
        );
        world.say(ann, &format!(r#"["9","10","room:{name}","phx_leave",{{}}]"#));
        assert_eq!(
            heard(&mut world, ann),
            [
                format!(r#"["9","10","room:{name}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
                format!(r#"["9","9","room:{name}","phx_close",{{}}]"#),
            ]
        );
    });
}

#[test]
fn serializer_v1_has_the_same_table_in_objects_without_join_ref() {
    near_and_far(Settings::default, |mut world, name| {
        for vsn in ["vsn=1.0.0", "name=Ann"] {
            let ann = world.dial();
            let request = crate::world::client::request(&format!("/socket/websocket?{vsn}"));
            world.send_raw(ann, request.as_bytes());
            assert_eq!(world.client(ann).response().0, 101);
            let say = |world: &mut World, event: &str, reference: &str| {
                let text = format!(
                    r#"{{"topic":"room:{name}","event":"{event}","payload":{{}},"ref":{reference},"join_ref":"1"}}"#
                );
                world.say(ann, &text);
                texts(world, ann)
            };
            let unmatched = format!(
                r#"{{"event":"phx_reply","payload":{{"status":"error","response":{{"reason":"unmatched topic"}}}},"ref":"0","topic":"room:{name}"}}"#
            );
            assert_eq!(say(&mut world, "msg", "\"0\""), [unmatched]);
            let joined = say(&mut world, "phx_join", "\"1\"");
            assert!(
                joined.len() == 1
                    && joined[0]
                        .starts_with(r#"{"event":"phx_reply","payload":{"status":"ok","response":{"epoch""#)
                    && joined[0].ends_with(&format!(r#"}},"ref":"1","topic":"room:{name}"}}"#)),
                "{joined:?}"
            );
            // The same text, under the opcode of binary.
            let text = format!(
                r#"{{"topic":"room:{name}","event":"new_message","payload":{{"body":"b"}},"ref":null}}"#
            );
            world.send(ann, text.as_bytes());
            let told = texts(&mut world, ann);
            assert!(
                told.len() == 1
                    && told[0].starts_with(r#"{"event":"new_message","payload":{"id":"#)
                    && told[0].ends_with(&format!(r#","ref":null,"topic":"room:{name}"}}"#)),
                "{told:?}"
            );
            let left = |reference: &str| {
                format!(
                    r#"{{"event":"phx_reply","payload":{{"status":"ok","response":{{}}}},"ref":{reference},"topic":"room:{name}"}}"#
                )
            };
            let close = format!(r#"{{"event":"phx_close","payload":{{}},"ref":"1","topic":"room:{name}"}}"#);
            assert_eq!(say(&mut world, "phx_leave", "7"), [left("7"), close]);
            assert_eq!(say(&mut world, "phx_leave", "[1, 2]"), [left("[1, 2]")]);
            world.say(ann, r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}"#);
            assert_eq!(
                heard(&mut world, ann),
                [
                    r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"5","topic":"phoenix"}"#
                ]
            );
        }
    });
}

#[test]
fn binary_frames_join_push_and_leave() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket("");
        let topic = format!("room:{name}");
        world.send(ann, &binary_push(["3", "3", &topic, "phx_join"], b""));
        assert_eq!(
            heard(&mut world, ann),
            [format!(r#"["3","3","{topic}","phx_reply",{{"status":"ok","response":…}}]"#)]
        );
        world.send(ann, &binary_push(["", "4", &topic, "new_message"], &[0xFF, 0]));
        assert_eq!(
            heard(&mut world, ann),
            [format!(
                r#"["3","4","{topic}","phx_reply",{{"status":"error","response":{{"errors":{{"body":["can't be blank"]}}}}}}]"#
            )]
        );
        world.send(ann, &binary_push(["3", "5", &topic, "phx_leave"], b""));
        assert_eq!(
            heard(&mut world, ann),
            [
                format!(r#"["3","5","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
                format!(r#"["3","3","{topic}","phx_close",{{}}]"#),
            ]
        );
        // A topic with letters beyond ASCII, as long as its length byte can say.
        let long = "ä".repeat(127);
        world.send(ann, &binary_push(["", "", &long, "phx_join"], b""));
        assert_eq!(
            heard(&mut world, ann),
            [format!(
                r#"[null,null,"{long}","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
            )]
        );
    });
}

#[test]
fn players_on_play_speak_channels_in_text() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.join("/play/arena?name=Ann");
        world.say(ann, &format!(r#"["1","1","room:{name}","phx_join",{{}}]"#));
        let messages = world.client(ann).messages();
        let [Message::Reply { ok: true, response, .. }, state, room] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((state.word(), room.word()), ("presence_state", "room_state"));
        let user = response["user_id"].as_str().unwrap();
        assert_eq!(room.told("room_state").unwrap()["users"][0]["name"], "Ann");
        assert_eq!(state.told("presence_state").unwrap()[user]["metas"][0]["name"], "Ann");
        let ask = format!(r#"["2","2","game:{name}","phx_join",{{}}]"#);
        world.say(ann, &ask);
        let messages = world.client(ann).messages();
        assert!(
            matches!(&messages[..], [Message::Reply { ok: false, response, .. }]
                if response["reason"].as_str().unwrap().contains("/socket")),
            "{messages:?}"
        );
        world.say(ann, r#"["2","3","nope:1","phx_join",{}]"#);
        let messages = world.client(ann).messages();
        assert_eq!(messages[0].answer(&json!("3")), Some((false, &json!({"reason": "unmatched topic"}))));
        // Records and texts share the connection.
        world.send_raw(
            ann,
            &[
                masked_frame(0x82, &crate::world::client::ping(1, 2)),
                masked_frame(0x81, b"[null,\"1\",\"phoenix\",\"heartbeat\",{}]"),
            ]
            .concat(),
        );
        assert_eq!(world.client(ann).frames().len(), 2);
    });
}
