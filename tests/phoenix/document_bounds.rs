//! Documents: what is wrong or too much, and what becomes of it.

use crate::world::client::{ClientId, Message};
use crate::world::documents::{ask, edit, far, join, near, push, settings, text_now, text_of};
use crate::world::rooms::{answer, told};
use crate::world::tokens::{token_for, with_tokens};
use crate::world::{World, near_and_far};
use corelay::limits::{PART_WORK_MAX, ROOM_WAITING_USER_MAX};
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::{Value, json};

#[test]
fn what_cannot_be_done_is_answered_with_what_is_wrong() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&name=Ann", name);
        let ben = far(&mut world, "&name=Ben", name);
        edit(&mut world, ann, name, &json!(["🦀bc"]), 0);
        world.client(ben).messages();
        for (payload, says) in [
            (json!({"op": [2, "x"], "version": 2}), "ahead"),
            (json!({"op": [4], "version": 1}), ""),
            (json!({"op": [4, "x"], "version": 1}), "reaches to 4; the text of its version has 3 characters"),
            (json!({"op": [-4], "version": 1}), "reaches to 4"),
            (json!({"op": [1, -1, "x"], "version": 0}), "reaches to 2; the text of its version has 0"),
            (json!({"op": ["x"], "version": -1}), "version must be"),
            (json!({"op": ["x"]}), "version must be"),
            (json!({"version": 1}), "op must be a list"),
            (json!({"op": [1, [2]], "version": 1}), "element 1 of op"),
            (
                json!({"op": {"type": "delete", "position": 0, "length": -1}, "version": 1}),
                "op must be a list",
            ),
            (json!({"op": ["x"], "version": 1, "op_id": ""}), "op_id must be a string of 1 to 64 bytes"),
            (json!({"op": ["x"], "version": 1, "op_id": "x".repeat(65)}), "op_id must be"),
            (json!({"op": ["x"], "version": 1, "op_id": 7}), "op_id must be"),
            (json!({"op": vec![json!(1); 10_000], "version": 1}), "10000 components, at most 1000"),
            (json!({"op": ["x".repeat(57_400)], "version": 1}), "57404 bytes of JSON, at most 57344"),
        ] {
            let (ok, response) = answer(&push(&mut world, ann, name, "operation", &payload));
            if says.is_empty() {
                assert!(ok, "what it keeps at the end changes nothing: {response}");
                continue;
            }
            let reason = response["reason"].as_str().expect("a reason");
            assert!(!ok && reason.contains(says), "{payload}: {reason}");
        }
        for (event, payload, says) in [
            ("operations", json!({}), "operations takes"),
            ("operations", json!({"after": 99}), "ahead"),
            ("cursor", json!({"position": 4, "version": 1}), "reaches to 4"),
            ("cursor", json!({"position": 0, "selection_end": 4, "version": 1}), "reaches to 4"),
            ("cursor", json!({"position": 0, "version": 99}), "ahead"),
            ("cursor", json!({"position": "a", "version": 1}), "cursor takes"),
            ("cursor", json!({"position": 0}), "cursor takes"),
            ("new_message", json!({"body": "hi"}), "this topic knows operation, operations, cursor"),
        ] {
            let (ok, response) = answer(&push(&mut world, ann, name, event, &payload));
            let reason = response["reason"].as_str().expect("a reason");
            assert!(!ok && reason.contains(says), "{event} {payload}: {reason}");
        }
        let lone = r#"["1","9","doc:NAME","operation",{"op":["\ud800"],"version":1}]"#.replace("NAME", name);
        world.say(ann, &lone);
        let (ok, response) = answer(&world.client(ann).messages());
        assert!(!ok && response["reason"].as_str().expect("a reason").contains("surrogate"), "{response}");
        assert_eq!(text_now(&mut world, name), ("🦀bc".into(), 2));
    });
}

#[test]
fn a_text_has_a_bound() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&name=Ann", name);
        let part = "é".repeat(25_000);
        for version in 0..5 {
            assert_eq!(
                edit(&mut world, ann, name, &json!([part]), version).1,
                json!({"version": version + 1})
            );
        }
        let rest = "x".repeat(262_144 - 250_000);
        let too_much = json!([format!("{rest}x")]);
        let (ok, refusal) = edit(&mut world, ann, name, &too_much, 5);
        assert!(!ok && refusal["reason"].as_str().expect("words").contains("262145 bytes, at most 262144"));
        assert!(edit(&mut world, ann, name, &json!([125_000, rest]), 5).0);
        let (ok, _) = edit(&mut world, ann, name, &json!(["é", -1, "é"]), 6);
        assert!(!ok, "two for one are too much");
        assert!(edit(&mut world, ann, name, &json!(["é", -1]), 6).0);
        let (text, version) = text_now(&mut world, name);
        assert_eq!((text.len(), version), (262_144, 7));
    });
}

#[test]
fn a_text_is_told_in_parts_that_fit_into_messages() {
    near_and_far(settings, |mut world, name| {
        let (ann, ben) = (near(&mut world, "&name=Ann", name), far(&mut world, "&name=Ben", name));
        // Each of these is six bytes of JSON.
        let part = "\u{1}".repeat(9_000);
        for version in 0..20 {
            assert!(edit(&mut world, ann, name, &json!([part]), version).0);
            world.client(ben).messages();
        }
        let newcomer = world.socket_on(0, "&name=Cy");
        world.say(newcomer, &format!(r#"["1","1","doc:{name}","phx_join",{{}}]"#));
        assert!(edit(&mut world, ben, name, &json!(["!"]), 20).0);
        let texts = world.client(newcomer).texts();
        assert!(
            texts.iter().all(|text| text.len() <= 60 * 1024),
            "{:?}",
            texts.iter().map(String::len).max()
        );
        let states: Vec<usize> =
            (0..texts.len()).filter(|index| texts[*index].contains("\"doc_state\"")).collect();
        assert!(states.len() > 15, "{}", states.len());
        assert!(states.windows(2).all(|two| two[1] == two[0] + 1), "nothing in between: {states:?}");
        assert_eq!(text_now(&mut world, name).0, format!("!{}", part.repeat(20)));
    });
}

#[test]
fn of_cursors_that_wait_the_last_one_counts_and_a_crowd_is_told_of_none() {
    let small =
        || Settings { clients: ClientRules { presence_list_max: 3, ..ClientRules::default() }, ..settings() };
    near_and_far(small, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        edit(&mut world, ann, name, &json!(["0123456789"]), 0);
        world.client(ben).messages();
        world.store_stands = true;
        ask(&mut world, ann, name, 11, "operation", &json!({"op": ["x"], "version": 1}));
        for position in 0..ROOM_WAITING_USER_MAX + 10 {
            let payload = json!({"position": position % 10, "version": 1});
            ask(&mut world, ann, name, 12, "cursor", &payload);
        }
        assert!(world.client(ann).messages().is_empty(), "nothing is refused");
        world.let_store_answer();
        world.store_stands = false;
        assert_eq!(told(&world.client(ben).messages(), "cursor").len(), 1);
        for user in ["cy", "dan", "eve"] {
            near(&mut world, &format!("&user={user}"), name);
        }
        world.advance_ms(60);
        world.client(ben).messages();
        push(&mut world, ann, name, "cursor", &json!({"position": 1, "version": 2}));
        assert!(told(&world.client(ben).messages(), "cursor").is_empty());
    });
}

#[test]
fn rates_bound_operations_and_cursors() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = near(&mut world, "&name=Ann", name);
        let ben = far(&mut world, "&name=Ben", name);
        for version in 0..100 {
            ask(&mut world, ann, name, 7, "operation", &json!({"op": ["x"], "version": version}));
        }
        world.client(ann).messages();
        let heard = push(&mut world, ann, name, "operation", &json!({"op": ["x"], "version": 100}));
        let (ok, refusal) = answer(&heard);
        assert_eq!((ok, &refusal["reason"]), (false, &json!("rate_limited")));
        assert!(refusal["retry_after"].as_u64().is_some_and(|ms| ms <= 20), "{refusal}");
        assert_eq!(told(&heard, "rate_limited")[0]["class"], json!("operation"));
        assert_eq!(text_now(&mut world, name).1, 100);
        world.client(ben).messages();
        for _ in 0..60 {
            ask(&mut world, ann, name, 8, "cursor", &json!({"position": 0, "version": 100}));
        }
        let heard = told(&world.client(ben).messages(), "cursor").len();
        assert_eq!(heard, 40);
        let refused = world.client(ann).messages();
        assert_eq!(told(&refused, "rate_limited")[0]["class"], json!("cursor"));
    });
}

#[test]
fn too_much_that_waits_is_refused_and_too_much_work_is_too_old() {
    near_and_far(settings, |mut world, name| {
        let (ann, ben) = (near(&mut world, "&user=ann", name), far(&mut world, "&user=ben", name));
        world.store_stands = true;
        for reference in 0..ROOM_WAITING_USER_MAX as u64 + 2 {
            ask(&mut world, ann, name, 100 + reference, "operation", &json!({"op": ["x"], "version": 0}));
        }
        let mut heard = world.client(ann).messages();
        heard.retain(|message| matches!(message, Message::Reply { .. }));
        let refused = (false, &json!({"reason": "overload", "retry_after": 1000}));
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].answer(&json!((100 + ROOM_WAITING_USER_MAX + 1).to_string())), Some(refused));
        world.let_store_answer();
        world.store_stands = false;
        let version = ROOM_WAITING_USER_MAX as u64 + 1;
        assert_eq!(text_now(&mut world, name).1, version);

        // Each of these has 1,000 components.
        let text = "x".repeat(1_000);
        edit(&mut world, ann, name, &json!([text]), version);
        let many: Vec<Value> = (0..500).flat_map(|_| [json!(1), json!("y")]).collect();
        for next in version + 1..version + 51 {
            assert!(edit(&mut world, ann, name, &json!(many), next).0);
        }
        world.client(ben).messages();
        let heard = push(&mut world, ben, name, "operation", &json!({"op": ["z"], "version": version + 1}));
        assert_eq!(answer(&heard).1["reason"], json!("too_old"));
        assert_eq!(text_of(&heard).expect("the text").1, version + 51);
        assert!(edit(&mut world, ben, name, &json!(["z"]), version + 10).0);
    });
}

#[test]
fn long_operations_over_many_others_are_too_old() {
    near_and_far(settings, |mut world, name| {
        let (ann, ben) = (near(&mut world, "&user=ann", name), far(&mut world, "&user=ben", name));
        edit(&mut world, ann, name, &json!(["x".repeat(1_000)]), 0);
        for version in 1..61 {
            edit(&mut world, ann, name, &json!([version, "b"]), version);
        }
        world.client(ben).messages();
        let many: Vec<Value> = (0..500).flat_map(|_| [json!(1), json!("y")]).collect();
        let heard = push(&mut world, ben, name, "operation", &json!({"op": many, "version": 1}));
        assert_eq!(answer(&heard).1["reason"], json!("too_old"));
        // Forty of them are not too many.
        assert_eq!(edit(&mut world, ben, name, &json!(many), 21), (true, json!({"version": 62})));
        // What makes nothing costs nothing.
        for version in 62..162 {
            edit(&mut world, ann, name, &json!([]), version);
        }
        world.client(ben).messages();
        assert!(edit(&mut world, ben, name, &json!(many), 62).0);
    });
}

/// The text, and so many operations of 1,000 components, each made against the version before it.
fn with_long_operations(world: &mut World, writer: ClientId, name: &str, count: u64) {
    edit(world, writer, name, &json!(["x".repeat(1_000)]), 0);
    for version in 1..=count {
        assert!(edit(world, writer, name, &long(), version).0);
    }
}

fn long() -> Value {
    (0..500).flat_map(|_| [json!(1), json!("y")]).collect()
}

#[test]
fn operations_that_take_much_memory_are_kept_for_a_shorter_time() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        with_long_operations(&mut world, ann, name, 100);
        let kept = |world: &mut World, after: u64| {
            world.advance_ms(5_000);
            let heard = push(world, ann, name, "operations", &json!({"after": after}));
            answer(&heard).0
        };
        assert!(!kept(&mut world, 1) && kept(&mut world, 95), "a hundred of them take more than 2 MiB");
        assert!(world.count(|metrics| metrics.memory_documents.value()) < 8 << 20);
    });
}

#[test]
fn what_is_refused_costs_a_turn_no_more_than_what_is_done() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        with_long_operations(&mut world, ann, name, 30);
        let doomed: Vec<ClientId> =
            (0..5).map(|number| near(&mut world, &format!("&user=u{number}"), name)).collect();
        for client in &doomed {
            world.client(*client).messages();
        }
        world.store_stands = true;
        world.allow_work(PART_WORK_MAX);
        ask(&mut world, ann, name, 1, "operation", &json!({"op": ["a"], "version": 31}));
        for client in &doomed {
            ask(&mut world, *client, name, 2, "operation", &json!({"op": long(), "version": 5}));
        }
        ask(&mut world, ann, name, 3, "operation", &json!({"op": ["b"], "version": 31}));
        let (source, number, request) = world.asked.pop_front().expect("the first is written");
        let answer = world.store.answer(&request);
        world.asked.push_front((source, number, request));
        world.let_store_say(answer);
        let mut refused = [false; 5];
        let mut turns = 0;
        while refused.contains(&false) {
            let before = refused;
            for (client, refused) in doomed.iter().zip(&mut refused) {
                let heard = world.client(*client).messages();
                *refused |= heard.iter().any(|message| message.answer(&json!("2")).is_some());
            }
            let newly = refused.iter().zip(before).filter(|(now, before)| **now && !before).count();
            assert!(newly <= 1, "{newly} in one turn");
            turns += 1;
            assert!(turns < 20 && world.timeout(), "something is due as long as something waits");
        }
        world.let_store_answer();
        world.store_stands = false;
        assert_eq!(text_now(&mut world, name).0[..2], *"ab");
    });
}

#[test]
fn what_waits_for_a_document_to_be_read_is_bounded_in_bytes() {
    near_and_far(settings, |mut world, name| {
        world.store_stands = true;
        let ann = world.socket_on(0, "&user=ann");
        assert!(join(&mut world, ann, name, &json!({})).is_empty());
        for reference in 0..30 {
            let payload = json!({"op": ["x".repeat(50_000)], "version": 0});
            ask(&mut world, ann, name, 100 + reference, "operation", &payload);
        }
        let heard = world.client(ann).messages();
        let refused = (false, &json!({"reason": "overload", "retry_after": 1000}));
        let first = heard.first().and_then(|message| message.answer(&json!("120")));
        assert_eq!((heard.len(), first), (10, Some(refused)), "20 of them are a MiB: {heard:?}");
    });
}

#[test]
fn who_may_only_read_is_refused_at_once() {
    near_and_far(with_tokens, |mut world, name| {
        let topic = format!("doc:{name}");
        let writer = world.socket_on(0, &format!("&token={}", token_for("ann", &[&topic])));
        let reader = world.socket_on(0, &format!("&token={}", token_for("ben", &[&format!("{topic}:read")])));
        for client in [writer, reader] {
            join(&mut world, client, name, &json!({}));
        }
        world.store_stands = true;
        ask(&mut world, writer, name, 1, "operation", &json!({"op": ["a"], "version": 0}));
        let heard = push(&mut world, reader, name, "operation", &json!({"op": ["b"], "version": 0}));
        assert_eq!(answer(&heard), (false, json!({"reason": "read_only"})), "nothing waits for the store");
    });
}
