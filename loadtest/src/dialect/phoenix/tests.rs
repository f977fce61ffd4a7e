//! Recorded messages of a whole connection, and what is sent.

use super::*;
use crate::frames::{Decoder, server_frame, unmasked};
use crate::tokens::Tokens;

const TOPIC: &str = "game:load-1-0";
const JOIN_REPLY: &str = r#"["1","1","game:load-1-0","phx_reply",{"status":"ok","response":{"epoch":"7","seq":0,"user_id":"guest-1","player_id":41,"tick_hz":20}}]"#;

fn phoenix() -> Phoenix {
    Phoenix::new(Members::new(1, Tokens::None, |_| TOPIC.into(), |slot| slot))
}

fn text(text: &str) -> Vec<u8> {
    server_frame(Opcode::Text, text.as_bytes())
}

/// `head`, the topic, `game_update`, and positions of the players 41, 42, … at (number in room, sequence).
fn update(head: &[u8], moves: &[(u32, u32)], objects: u32) -> Vec<u8> {
    let mut payload = [head, TOPIC.as_bytes(), b"game_update"].concat();
    payload.extend((moves.len() as u32).to_be_bytes());
    payload.extend(objects.to_be_bytes());
    for &(number, sequence) in moves {
        payload.extend((41 + number).to_be_bytes());
        payload.extend((number as f32).to_be_bytes());
        payload.extend((sequence as f32).to_be_bytes());
    }
    payload.extend(vec![0; objects as usize * 16]);
    server_frame(Opcode::Binary, &payload)
}

/// The effects of `bytes`, the counters, and what was told, a line each.
fn handled_all(bytes: &[u8]) -> (Effects, Counters, Vec<String>) {
    let (mut phoenix, mut effects, mut counters) = (phoenix(), Effects::default(), Counters::default());
    let mut told = Vec::new();
    let mut emit = |event: Event<'_>| match event {
        Event::Positions(positions) => {
            let numbers = |at: &Position| (at.player_id.get(), at.x.get() as u32, at.y.get() as u32);
            told.push(format!("{:?}", positions.iter().map(numbers).collect::<Vec<_>>()));
        }
        Event::Stream(stream) => told.push(format!("{stream:?}")),
        Event::Joined | Event::Record(_) | Event::Presence(_) => told.push(format!("{event:?}")),
    };
    let handled =
        |message: Message<'_>| phoenix.handle_message(0, &message, &mut counters, &mut effects, &mut emit);
    Decoder::default().receive(bytes, handled).unwrap();
    (effects, counters, told)
}

fn handled(bytes: &[u8]) -> (Effects, Counters) {
    let (effects, counters, _) = handled_all(bytes);
    (effects, counters)
}

#[test]
fn every_message_of_the_relay_is_understood() {
    let mut bytes = text(JOIN_REPLY);
    bytes.extend(text(
        r#"["1",null,"game:load-1-0","presence_state",{"guest-1":{"metas":[{"phx_ref":"F1"}]}}]"#,
    ));
    // Push: kind, lengths of join_ref, topic, event, then join_ref.
    bytes.extend(update(b"\x00\x01\x0d\x0b1", &[(0, 1), (1, 2)], 1));
    bytes.extend(text(
        r#"[null,null,"game:load-1-0","presence_diff",{"joins":{"guest-2":{"metas":[]}},"leaves":{}}]"#,
    ));
    bytes.extend(text(
        r#"[null,null,"game:load-1-0","user_joined",{"user":{"id":"guest-2"},"online_count":2}]"#,
    ));
    bytes.extend(text(r#"[null,null,"game:load-1-0","presence_count",{"online":300}]"#));
    // Broadcast: kind, lengths of topic and event.
    bytes.extend(update(b"\x02\x0d\x0b", &(0..40).map(|number| (number, 9)).collect::<Vec<_>>(), 0));
    bytes.extend(text(r#"[null,"0","phoenix","phx_reply",{"status":"ok","response":{}}]"#));
    bytes.extend(text(
        r#"["1",null,"game:load-1-0","rate_limited",{"class":"move","message":"slower","retry_after":900}]"#,
    ));
    bytes.extend(text(
        r#"["1",null,"game:load-1-0","correction",{"reason":1,"x":1.0,"y":2.0,"input_seq":0}]"#,
    ));
    bytes.extend(text(r#"["1",null,"game:load-1-0","server_draining",{"timeout":30000}]"#));
    bytes.extend(text(
        r#"["1","7","game:load-1-0","phx_reply",{"status":"error","response":{"reason":"malformed"}}]"#,
    ));

    let (effects, counters, lines) = handled_all(&bytes);
    assert_eq!(lines[..2], ["Opened { seq: 0, resumed: false }", "Joined"]);
    assert_eq!(lines[2..4], ["Presence(State)", "[(41, 0, 1), (42, 1, 2)]"]);
    assert_eq!(lines[4..6], ["Presence(Diff)", "Presence(Count)"]);
    assert!(lines[6].ends_with("(80, 39, 9)]"), "{}", lines[6]);
    assert_eq!(lines.len(), 7);
    assert_eq!(effects, Effects { errors: vec!["malformed".into()], ..Effects::default() });
    let expected = Counters {
        tick_frames: 2,
        positions: 42,
        rate_limited: 1,
        corrections: 1,
        errors: 1,
        notices: 1,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
}

#[test]
fn what_is_no_update_of_the_own_game_is_malformed() {
    let good = update(b"\x02\x0d\x0b", &[(0, 1)], 0);
    assert_eq!(handled(&good).1.malformed, 0);
    let topic_at = 2 + 3;
    for (at, byte) in
        [(2, 1), (3, 0x0c), (topic_at, b'G'), (topic_at + 13, b'G'), (topic_at + 27, 2), (topic_at + 31, 1)]
    {
        let mut bad = good.clone();
        bad[at] = byte;
        let (_, counters) = handled(&bad);
        assert_eq!((counters.malformed, counters.tick_frames), (1, 0), "byte {at}");
    }
    for bad in [
        "",
        "[]",
        r#"[null,null,"game:load-1-0","x"]"#,
        r#"[null,null,"game:other","x",{}]"#,
        r#"["2",null,"game:load-1-0","x",{}]"#,
    ] {
        assert_eq!(handled(&text(bad)).1.malformed, 1, "{bad}");
    }
    let bad_reply = text(r#"["1","1","game:load-1-0","phx_reply",{}]"#);
    let (_, counters, told) = handled_all(&bad_reply);
    assert_eq!((told.len(), counters.malformed), (0, 1));
}

#[test]
fn who_is_refused_or_put_out_is_told_why() {
    let refusal = |message: &str| handled(&text(message)).0.refusal.unwrap();
    let refused =
        r#"["1","1","game:load-1-0","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#;
    assert_eq!(refusal(refused), "join refused: unauthorized");
    let unmatched = r#"[null,"1","game:load-1-0","phx_reply",{"status":"error","response":{"errors":1}}]"#;
    assert_eq!(refusal(unmatched), r#"join refused: {"errors":1}"#);
    let no_id = r#"["1","1","game:load-1-0","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(refusal(no_id), "the join reply has no player_id");
    assert_eq!(refusal(r#"["1","1","game:load-1-0","phx_close",{}]"#), "phx_close {}");
    let crash = r#"["1","1","game:load-1-0","phx_error",{"reason":"channel_crash"}]"#;
    assert_eq!(refusal(crash), "phx_error channel_crash");
}

#[test]
fn a_move_is_the_binary_push_of_the_protocol_page() {
    let mut phoenix = phoenix();
    let (mut effects, mut counters) = (Effects::default(), Counters::default());
    phoenix.handle_message(
        0,
        &Message::Text(JOIN_REPLY.as_bytes()),
        &mut counters,
        &mut effects,
        &mut |_| {},
    );
    let mut frames = Vec::new();
    phoenix.write_move(0, 3, 1234, &mut frames);
    let expected = [
        &b"\x00\x01\x04\x0d\x0a1\x31\x32\x33\x35game:load-1-0game_state"[..],
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 41],
        &3.0_f32.to_be_bytes(),
        &1234.0_f32.to_be_bytes(),
    ];
    assert_eq!(frames[0], 0x82);
    assert_eq!(unmasked(&frames), expected.concat());
}

#[test]
fn join_and_heartbeat_are_those_of_phoenix_js() {
    let (mut phoenix, mut effects) = (phoenix(), Effects::default());
    assert_eq!(phoenix.path(0), "/socket/websocket?vsn=2.0.0");
    phoenix.handle_upgrade(0, &mut effects, &mut |_| {});
    assert_eq!(unmasked(&effects.answers), br#"["1","1","game:load-1-0","phx_join",{}]"#);
    assert_eq!(unmasked(&phoenix.heartbeat(0).unwrap()), br#"[null,"0","phoenix","heartbeat",{}]"#);
    let members = Members::new(1, Tokens::Same("e.y.J".into()), |_| TOPIC.into(), |slot| slot);
    assert_eq!(Phoenix::new(members).path(0), "/socket/websocket?vsn=2.0.0&token=e.y.J");
}

const ROOM: &str = "room:chat-1-0";

fn in_room() -> Phoenix {
    Phoenix::new(Members::new(2, Tokens::None, |_| ROOM.into(), |slot| slot))
}

/// What `phoenix` tells of messages to `slot`, and how many of them were malformed.
fn told_by(phoenix: &mut Phoenix, slot: u32, messages: &[&str]) -> (Vec<String>, u64) {
    let (mut told, mut counters, mut effects) = (Vec::new(), Counters::default(), Effects::default());
    let mut emit = |event: Event<'_>| match event {
        Event::Stream(stream) => told.push(format!("{stream:?}")),
        Event::Positions(_) | Event::Joined | Event::Record(_) | Event::Presence(_) => {}
    };
    for message in messages {
        let message = Message::Text(message.as_bytes());
        phoenix.handle_message(slot, &message, &mut counters, &mut effects, &mut emit);
    }
    (told, counters.malformed)
}

#[test]
fn messages_of_rooms_are_written_answered_heard_and_caught_up_with() {
    let mut phoenix = in_room();
    let mut frames = Vec::new();
    phoenix.write_push(0, 7, "new_message", r#"{"body":"7 ...."}"#, &mut frames);
    assert_eq!(unmasked(&frames), br#"["1","9","room:chat-1-0","new_message",{"body":"7 ...."}]"#);
    let (told, malformed) = told_by(
        &mut phoenix,
        0,
        &[
            r#"["1","1","room:chat-1-0","phx_reply",{"status":"ok","response":{"epoch":"3","seq":4,"user_id":"a"}}]"#,
            r#"[null,null,"room:chat-1-0","new_message",{"id":"x","seq":5,"body":"7 ....","user_id":"a"}]"#,
            r#"["1","9","room:chat-1-0","phx_reply",{"status":"ok","response":{"id":"x","seq":5,"body":"7 ...."}}]"#,
            r#"["1","10","room:chat-1-0","phx_reply",{"status":"error","response":{"reason":"rate_limited","retry_after":9}}]"#,
            r#"["1",null,"room:chat-1-0","server_draining",{"timeout":30000,"retry_after":1000,"jitter":5000}]"#,
            r#"[null,null,"room:chat-1-0","message_edited",{"id":"x","seq":6,"body":"7","edited_at":1}]"#,
            r#"[null,null,"room:chat-1-0","new_message",{"body":"without a number"}]"#,
        ],
    );
    let expected = [
        "Opened { seq: 4, resumed: false }",
        r#"Heard { seq: 5, body: "7 ...." }"#,
        "Acknowledged { number: 7, seq: 5 }",
        r#"Refused { number: 8, reason: "rate_limited" }"#,
        "Draining { retry_after_ms: 1000, jitter_ms: 5000 }",
        r#"Heard { seq: 6, body: "" }"#,
    ];
    assert_eq!((&told[..], malformed), (&expected.map(str::to_owned)[..], 1));

    phoenix.come_back(1, 0);
    let mut effects = Effects::default();
    phoenix.handle_upgrade(1, &mut effects, &mut |_| {});
    let join = br#"["1","1","room:chat-1-0","phx_join",{"resume":{"epoch":"3","seq":6}}]"#;
    assert_eq!(unmasked(&effects.answers), join);
    let (told, _) = told_by(
        &mut phoenix,
        1,
        &[
            r#"["1",null,"room:chat-1-0","catch_up",{"events":[{"event":"new_message","seq":7,"payload":{"seq":7,"body":"8"}},{"event":"new_message","seq":8,"payload":{"id":"y","seq":8,"deleted":true}}],"recovered":true,"epoch":"3","seq":8}]"#,
            r#"["1",null,"room:chat-1-0","catch_up",{"events":[],"recovered":false,"reason":"too_old","epoch":"3","seq":400}]"#,
        ],
    );
    let expected = [
        r#"Heard { seq: 7, body: "8" }"#,
        r#"Heard { seq: 8, body: "" }"#,
        "CaughtUp { seq: 8, missed: Ok(()) }",
        r#"CaughtUp { seq: 400, missed: Err("too_old") }"#,
    ];
    assert_eq!(told, expected);
}

#[test]
fn operations_of_documents_are_answered_and_told() {
    let mut phoenix = Phoenix::new(Members::new(1, Tokens::None, |_| "doc:a".into(), |slot| slot));
    let (told, malformed) = told_by(
        &mut phoenix,
        0,
        &[
            r#"["1","1","doc:a","phx_reply",{"status":"ok","response":{"epoch":"3","seq":4,"version":4,"length":2}}]"#,
            r#"["1",null,"doc:a","doc_state",{"version":4,"epoch":"3","content":"\n\"","part":1,"parts":1}]"#,
            r#"[null,null,"doc:a","operation",{"op":[1,"\n",-1],"version":5,"user_id":"b","op_id":"x\\y"}]"#,
            r#"["1","9","doc:a","phx_reply",{"status":"ok","response":{"version":6}}]"#,
            r#"["1",null,"doc:a","operations",{"operations":[{"op":[],"version":7,"user_id":"b"}],"more":false}]"#,
            r#"["1","10","doc:a","phx_reply",{"status":"error","response":{"reason":"too_old","version":9}}]"#,
            r#"[null,null,"doc:a","operation",{"op":{},"version":8,"user_id":"b"}]"#,
        ],
    );
    let edited = |json: &str, seq, op_id| {
        let operation = &Operation::read(json).unwrap();
        format!("{:?}", Stream::Edited { seq, operation, op_id })
    };
    let expected = [
        "Opened { seq: 4, resumed: false }".to_owned(),
        r#"Text { seq: 4, content: "\n\"", part: 1, parts: 1 }"#.to_owned(),
        edited(r#"[1,"\n",-1]"#, 5, Some("x\\y")),
        "Acknowledged { number: 7, seq: 6 }".to_owned(),
        edited("[]", 7, None),
        r#"Refused { number: 8, reason: "too_old" }"#.to_owned(),
    ];
    assert_eq!((&told[..], malformed), (&expected[..], 1));
}
