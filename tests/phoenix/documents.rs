//! Documents: what members are told of a text that they edit at once.

use crate::world::client::ClientId;
use crate::world::documents::{ask, edit, far, join, near, operations_of, push, settings, text_now, text_of};
use crate::world::rooms::{answer, told, words};
use crate::world::tokens::{token_for, with_tokens};
use crate::world::{World, near_and_far};
use corelay::limits::{OPERATIONS_KEPT, WRITERS_MAX};
use corelay::room::document::DocumentRules;
use corelay::room::stored::{StoreAnswer, Unavailable};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

#[test]
fn a_text_is_edited_and_everybody_is_told() {
    near_and_far(settings, |mut world, name| {
        let ann = world.socket_on(0, "&name=Ann");
        let joined = join(&mut world, ann, name, &json!({}));
        assert_eq!(words(&joined)[..3], ["ok", "presence_state", "doc_state"], "{joined:?}");
        let (_, response) = joined[0].answer(&json!("1")).expect("an answer");
        assert_eq!(
            (&response["version"], &response["seq"], &response["length"], &response["read_only"]),
            (&json!(0), &json!(0), &json!(0), &json!(false))
        );
        let state = &told(&joined, "doc_state")[0];
        assert_eq!(state["epoch"], response["epoch"]);
        assert_eq!((&state["content"], &state["part"], &state["parts"]), (&json!(""), &json!(1), &json!(1)));
        let ben = far(&mut world, "&name=Ben", name);
        world.advance_ms(60);
        world.client(ann).messages();

        let payload = json!({"op": ["héllo 🦀"], "version": 0, "op_id": "a1"});
        let heard = push(&mut world, ann, name, "operation", &payload);
        assert_eq!((answer(&heard), operations_of(&heard)), ((true, json!({"version": 1})), vec![]));
        let user = response["user_id"].clone();
        let news = json!({"op": ["héllo 🦀"], "version": 1, "user_id": user, "op_id": "a1"});
        assert_eq!(operations_of(&world.client(ben).messages()), [news]);

        let insert = json!({"type": "insert", "position": 7, "content": "!"});
        assert_eq!(edit(&mut world, ben, name, &insert, 1), (true, json!({"version": 2})));
        let delete = json!({"type": "delete", "position": 0, "length": 2});
        assert_eq!(edit(&mut world, ben, name, &delete, 2), (true, json!({"version": 3})));
        let heard = operations_of(&world.client(ann).messages());
        let told: Vec<_> = heard.iter().map(|told| (told["op"].clone(), told["version"].clone())).collect();
        assert_eq!(told, [(json!([7, "!"]), json!(2)), (json!([-2]), json!(3))]);
        assert_eq!(text_now(&mut world, name), ("llo 🦀!".into(), 3));
    });
}

#[test]
fn edits_of_one_version_are_put_in_order_and_the_first_stands_left() {
    near_and_far(settings, |mut world, name| {
        let (ann, ben) = (near(&mut world, "&name=Ann", name), far(&mut world, "&name=Ben", name));
        edit(&mut world, ann, name, &json!(["abcdef"]), 0);
        world.client(ben).messages();
        assert_eq!(edit(&mut world, ben, name, &json!([3, "BEN"]), 1), (true, json!({"version": 2})));
        assert_eq!(edit(&mut world, ann, name, &json!([3, "ANN"]), 1), (true, json!({"version": 3})));
        assert_eq!(text_now(&mut world, name), ("abcBENANNdef".into(), 3));
        let told = operations_of(&world.client(ben).messages());
        assert_eq!((&told[0]["op"], &told[0]["version"]), (&json!([6, "ANN"]), &json!(3)));
        // It straddles what was inserted meanwhile.
        let straddles = json!({"type": "delete", "position": 1, "length": 4});
        assert_eq!(edit(&mut world, ann, name, &straddles, 1), (true, json!({"version": 4})));
        let told = operations_of(&world.client(ben).messages());
        assert_eq!(told[0]["op"], json!([1, -2, 6, -2]));
        assert_eq!(text_now(&mut world, name), ("aBENANNf".into(), 4));
    });
}

#[test]
fn what_comes_while_the_store_writes_waits_as_it_came() {
    near_and_far(settings, |mut world, name| {
        let (ann, ben) = (near(&mut world, "&name=Ann", name), far(&mut world, "&name=Ben", name));
        edit(&mut world, ann, name, &json!(["text"]), 0);
        world.client(ben).messages();
        world.store_stands = true;
        ask(&mut world, ann, name, 11, "operation", &json!({"op": ["A"], "version": 1}));
        ask(&mut world, ben, name, 21, "operation", &json!({"op": ["B"], "version": 1}));
        ask(&mut world, ben, name, 22, "heartbeat", &json!({}));
        ask(&mut world, ben, name, 23, "operation", &json!({"op": [4, "b"], "version": 1}));
        ask(&mut world, ann, name, 12, "operations", &json!({"after": 1}));
        ask(&mut world, ben, name, 24, "phx_leave", &json!({}));
        assert!(world.client(ann).messages().is_empty() && world.client(ben).messages().is_empty());
        // What is refused leaves no trace in what waits behind it.
        world.let_store_say(StoreAnswer::Refused(Unavailable::Full));
        let heard = world.client(ann).messages();
        let (ok, refusal) = heard[0].answer(&json!("11")).expect("an answer");
        assert_eq!((ok, refusal), (false, &json!({"reason": "storage_full", "retry_after": 5000})));
        world.let_store_answer();
        let heard = world.client(ben).messages();
        let answers: Vec<_> = ["21", "22", "23", "24"]
            .map(|reference| heard.iter().position(|message| message.answer(&json!(reference)).is_some()))
            .into();
        assert!(answers.is_sorted() && answers[0].is_some(), "in the order of the pushes: {heard:?}");
        assert_eq!(
            heard.iter().find_map(|message| message.answer(&json!("23"))).expect("it").1["version"],
            3
        );
        world.store_stands = false;
        assert_eq!(text_now(&mut world, name), ("Btextb".into(), 3));
        let told = operations_of(&world.client(ann).messages());
        assert_eq!(told.iter().map(|told| told["version"].clone()).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(edit(&mut world, ann, name, &json!(["A"]), 1), (true, json!({"version": 4})));
        assert_eq!(text_now(&mut world, name), ("BAtextb".into(), 4));
    });
}

#[test]
fn an_operation_that_is_sent_again_is_done_once() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        let first = json!({"op": ["one"], "version": 0, "op_id": "id-1"});
        assert_eq!(answer(&push(&mut world, ann, name, "operation", &first)), (true, json!({"version": 1})));
        assert_eq!(edit(&mut world, ben, name, &json!([3, "two"]), 1).1, json!({"version": 2}));
        world.client(ann).messages();
        assert_eq!(answer(&push(&mut world, ann, name, "operation", &first)), (true, json!({"version": 1})));
        let (ok, refusal) = answer(&push(&mut world, ben, name, "operation", &first));
        assert_eq!((ok, refusal), (false, json!({"reason": "op_id_taken"})));

        // Twice while the store writes.
        world.store_stands = true;
        let second = json!({"op": ["two"], "version": 2, "op_id": "id-2"});
        ask(&mut world, ann, name, 11, "operation", &second);
        ask(&mut world, ann, name, 12, "operation", &second);
        world.let_store_answer();
        world.store_stands = false;
        let heard = world.client(ann).messages();
        for reference in ["11", "12"] {
            let answer = heard.iter().find_map(|message| message.answer(&json!(reference)));
            assert_eq!(answer, Some((true, &json!({"version": 3}))));
        }
        assert_eq!(operations_of(&world.client(ben).messages()).len(), 1, "the second, once");

        // Nobody is there, and what is known comes from the store.
        for client in [ann, ben] {
            world.hang_up(client);
        }
        world.advance_ms(60);
        let ann = near(&mut world, "&user=ann", name);
        for (again, version) in [(&first, 1), (&second, 3)] {
            let answered = answer(&push(&mut world, ann, name, "operation", again));
            assert_eq!(answered, (true, json!({"version": version})));
        }
        assert_eq!(text_now(&mut world, name), ("twoonetwo".into(), 3));
    });
}

/// So many versions more, one by one.
fn type_on(world: &mut World, client: ClientId, name: &str, from: u64, count: u64) {
    for version in from..from + count {
        let payload = json!({"op": ["."], "version": version, "op_id": format!("dot-{version}")});
        ask(world, client, name, 7, "operation", &payload);
    }
    world.client(client).messages();
}

#[test]
fn behind_the_log_there_is_the_text_and_what_everybody_sent_last() {
    near_and_far(settings, |mut world, name| {
        let kept = OPERATIONS_KEPT as u64;
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        let of_ann = json!({"op": ["begin"], "version": 0, "op_id": "of-ann"});
        push(&mut world, ann, name, "operation", &of_ann);
        type_on(&mut world, ben, name, 1, kept + 10);
        world.client(ann).messages();
        let text = ".".repeat(kept as usize + 10) + "begin";
        assert_eq!(text_now(&mut world, name), (text.clone(), kept + 11));

        let heard = push(&mut world, ann, name, "operation", &json!({"op": ["late"], "version": 10}));
        assert_eq!(answer(&heard), (false, json!({"reason": "too_old", "version": kept + 11})));
        assert_eq!(text_of(&heard), Some((text.clone(), kept + 11)), "the text follows");
        let heard = push(&mut world, ann, name, "operations", &json!({"after": 0}));
        assert_eq!((answer(&heard).1["reason"].clone(), text_of(&heard)), (json!("rate_limited"), None));
        world.advance_ms(5_000);
        let heard = push(&mut world, ann, name, "operations", &json!({"after": 0}));
        assert_eq!((answer(&heard).1["reason"].clone(), text_of(&heard).is_some()), (json!("too_old"), true));
        let (ok, _) = edit(&mut world, ann, name, &json!([]), 11);
        assert!(ok, "the oldest version that is kept");
        assert_eq!(answer(&push(&mut world, ann, name, "operation", &of_ann)), (true, json!({"version": 1})));

        for client in [ann, ben] {
            world.hang_up(client);
        }
        world.advance_ms(60);
        let ann = near(&mut world, "&user=ann", name);
        assert_eq!(answer(&push(&mut world, ann, name, "operation", &of_ann)), (true, json!({"version": 1})));
        assert_eq!(text_now(&mut world, name), (text.clone(), kept + 12));
        let (ok, refusal) = edit(&mut world, ann, name, &json!(["late"]), 11);
        assert_eq!((ok, &refusal["reason"]), (false, &json!("too_old")), "the log is as long as before");
        let insert = json!({"op": [3, "|"], "version": 12, "op_id": "x"});
        assert_eq!(answer(&push(&mut world, ann, name, "operation", &insert)).1["version"], kept + 13);
        let at = 3 + kept as usize;
        assert_eq!(text_now(&mut world, name).0, format!("{}|{}", &text[..at - 1], &text[at - 1..]));
    });
}

#[test]
fn the_last_operations_of_so_many_writers_are_known() {
    near_and_far(settings, |mut world, name| {
        // A user writes by each of many connections; only the last operation of each user is known behind the log.
        let ben = far(&mut world, "&user=ben", name);
        let once = |world: &mut World, user: u64, version: u64| {
            let client = near(world, &format!("&user=user-{user}"), name);
            let payload = json!({"op": ["x"], "version": version, "op_id": format!("of-{user}")});
            let answered = answer(&push(world, client, name, "operation", &payload));
            world.hang_up(client);
            answered
        };
        for user in 0..3 {
            assert_eq!(once(&mut world, user, user), (true, json!({"version": user + 1})));
        }
        type_on(&mut world, ben, name, 3, OPERATIONS_KEPT as u64);
        for user in 0..3 {
            assert_eq!(once(&mut world, user, 0), (true, json!({"version": user + 1})), "{user}");
        }
        const { assert!(WRITERS_MAX >= 4) };
    });
}

#[test]
fn a_member_that_comes_back_is_told_what_it_missed() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        let (_, epoch) = {
            edit(&mut world, ann, name, &json!(["a"]), 0);
            let reader = world.socket_on(0, "&name=Reader");
            let joined = join(&mut world, reader, name, &json!({}));
            (reader, joined[0].answer(&json!("1")).expect("an answer").1["epoch"].clone())
        };
        world.client(ben).messages();
        world.hang_up(ben);
        for version in 1..4 {
            edit(&mut world, ann, name, &json!([version, "a"]), version);
        }
        let come_back = |world: &mut World, resume: Value| {
            let client = world.socket_on(0, "&user=ben");
            let heard = join(world, client, name, &json!({"resume": resume}));
            world.hang_up(client);
            heard
        };
        let heard = come_back(&mut world, json!({"epoch": epoch, "seq": 1}));
        assert_eq!(words(&heard)[..3], ["ok", "presence_state", "operations"], "{heard:?}");
        let page = &told(&heard, "operations")[0];
        let versions: Vec<_> = page["operations"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|made| made["version"].clone())
            .collect();
        assert_eq!((versions, &page["more"]), (vec![json!(2), json!(3), json!(4)], &json!(false)));
        let heard = come_back(&mut world, json!({"epoch": epoch, "seq": 4}));
        assert_eq!(told(&heard, "operations"), [json!({"operations": [], "more": false})]);
        for resume in
            [json!({"epoch": "7", "seq": 1}), json!({"epoch": epoch, "seq": 5}), json!(1_700_000_000_000_u64)]
        {
            let heard = come_back(&mut world, resume.clone());
            assert_eq!(text_of(&heard), Some(("aaaa".into(), 4)), "{resume}");
            assert!(told(&heard, "operations").is_empty());
        }
        let reconnect = json!({"last_seen": {"epoch": epoch, "seq": 2}});
        let heard = push(&mut world, ann, name, "reconnect", &reconnect);
        assert_eq!((told(&heard, "operations").len(), told(&heard, "doc_state").len()), (1, 0));

        // More than a message holds comes in pages.
        let long = "x".repeat(20_000);
        for version in 4..10 {
            edit(&mut world, ann, name, &json!([long]), version);
        }
        let heard = come_back(&mut world, json!({"epoch": epoch, "seq": 1}));
        let mut page = told(&heard, "operations").remove(0);
        let mut seen = 1;
        loop {
            for made in page["operations"].as_array().expect("a list") {
                seen += 1;
                assert_eq!(made["version"], seen);
            }
            if page["more"] == json!(false) {
                break;
            }
            page = answer(&push(&mut world, ann, name, "operations", &json!({"after": seen}))).1;
        }
        assert_eq!(seen, 10);
    });
}

#[test]
fn cursors_are_told_where_they_are_now_and_go_with_their_members() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        edit(&mut world, ann, name, &json!(["0123456789"]), 0);
        edit(&mut world, ann, name, &json!(["AB"]), 1);
        world.client(ben).messages();
        let heard =
            push(&mut world, ben, name, "cursor", &json!({"position": 4, "selection_end": 6, "version": 1}));
        assert!(heard.is_empty(), "{heard:?}");
        let of_ben = json!({"user_id": "ben", "position": 6, "selection_end": 8, "version": 2});
        assert_eq!(told(&world.client(ann).messages(), "cursor"), [of_ben]);

        // What its own user inserts at it comes before it, what others do behind it.
        edit(&mut world, ann, name, &json!([6, "a"]), 2);
        edit(&mut world, ben, name, &json!([6, "bb"]), 3);
        let newcomer = world.socket_on(0, "&user=cy");
        let heard = join(&mut world, newcomer, name, &json!({}));
        let moved = json!({"user_id": "ben", "position": 8, "selection_end": 11, "version": 4});
        assert_eq!(told(&heard, "cursor"), [moved], "behind bb, before a");
        assert_eq!(text_now(&mut world, name).0, "AB0123bba456789");

        world.client(ann).messages();
        push(&mut world, ben, name, "cursor", &json!({"position": null, "version": 4}));
        let nowhere = json!({"user_id": "ben", "position": null, "version": 4});
        assert_eq!(told(&world.client(ann).messages(), "cursor"), std::slice::from_ref(&nowhere));
        push(&mut world, ben, name, "cursor", &json!({"position": 0, "version": 4}));
        world.hang_up(ben);
        let heard = told(&world.client(ann).messages(), "cursor");
        assert_eq!(heard.last(), Some(&nowhere), "it is gone with its member");
    });
}

#[test]
fn only_documents_that_exist_are_joined_where_that_is_set() {
    let rules = |pattern: &str, create| DocumentRules { pattern: pattern.into(), create };
    let fixed = || Settings { documents: vec![rules("made-*", true), rules("*", false)], ..settings() };
    near_and_far(fixed, |mut world, name| {
        let ann = world.socket_on(0, "&name=Ann");
        let heard = join(&mut world, ann, name, &json!({}));
        assert_eq!(heard[0].answer(&json!("1")), Some((false, &json!({"reason": "not_found"}))), "{heard:?}");
        let heard = join(&mut world, ann, "made-1", &json!({}));
        assert_eq!(heard[0].word(), "ok");
        assert!(edit(&mut world, ann, "made-1", &json!(["text"]), 0).0);
    });
}

#[test]
fn a_token_for_reading_reads() {
    near_and_far(with_tokens, |mut world, name| {
        let topic = format!("doc:{name}");
        let read = format!("{topic}:read");
        let write = token_for("ann", &[&topic]);
        let ann = world.socket_on(0, &format!("&token={write}"));
        let ben = world.socket_on(0, &format!("&token={}", token_for("ben", &[&read])));
        let joined = join(&mut world, ann, name, &json!({}));
        assert_eq!(joined[0].answer(&json!("1")).expect("an answer").1["read_only"], json!(false));
        let joined = join(&mut world, ben, name, &json!({}));
        assert_eq!(joined[0].answer(&json!("1")).expect("an answer").1["read_only"], json!(true));
        assert_eq!(edit(&mut world, ben, name, &json!(["x"]), 0), (false, json!({"reason": "read_only"})));
        assert!(edit(&mut world, ann, name, &json!(["x"]), 0).0);
        assert_eq!(operations_of(&world.client(ben).messages()).len(), 1);
        assert!(push(&mut world, ben, name, "cursor", &json!({"position": 1, "version": 1})).is_empty());
        // A join that brings a token for more is let in by that.
        let joined = join(&mut world, ben, name, &json!({"token": write}));
        let answer = joined.iter().find_map(|message| message.answer(&json!("1"))).expect("an answer").1;
        assert_eq!((&answer["read_only"], &answer["user_id"]), (&json!(false), &json!("ann")));
        for wrong in [format!("room:{name}:read"), format!("{topic}x"), format!("{topic}:write")] {
            let cy = world.socket_on(0, &format!("&token={}", token_for("cy", &[&wrong])));
            let joined = join(&mut world, cy, name, &json!({}));
            assert_eq!(
                joined[0].answer(&json!("1")),
                Some((false, &json!({"reason": "unauthorized"}))),
                "{wrong}"
            );
        }
    });
}

#[test]
fn a_document_and_a_room_of_one_name_are_two() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&name=Ann", name);
        assert!(edit(&mut world, ann, name, &json!(["text"]), 0).0);
        world.say(ann, &format!(r#"["2","5","room:{name}","phx_join",{{}}]"#));
        world.say(ann, &format!(r#"["2","6","room:{name}","new_message",{{"body":"hi"}}]"#));
        let heard = world.client(ann).messages();
        assert_eq!(
            heard.iter().find_map(|message| message.answer(&json!("6"))).expect("an answer").1["seq"],
            1
        );
        assert_eq!(text_now(&mut world, name), ("text".into(), 1));
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 1);
        assert_eq!(world.count(|metrics| metrics.documents.value()), 1);
    });
}

#[test]
fn what_was_made_for_another_text_is_too_old() {
    near_and_far(settings, |mut world, name| {
        let ann = world.socket_on(0, "&name=Ann");
        let joined = join(&mut world, ann, name, &json!({}));
        let epoch = joined[0].answer(&json!("1")).expect("an answer").1["epoch"].clone();
        for (epoch, done) in [(json!("7"), false), (epoch, true)] {
            let heard =
                push(&mut world, ann, name, "operation", &json!({"op": ["x"], "version": 0, "epoch": epoch}));
            assert_eq!(answer(&heard).0, done, "{heard:?}");
            assert_eq!(text_of(&heard).is_some(), !done);
        }
        let wrong = json!({"op": ["x"], "version": 1, "epoch": "seven"});
        let (ok, refusal) = answer(&push(&mut world, ann, name, "operation", &wrong));
        assert!(!ok && refusal["reason"].as_str().expect("words").contains("epoch must be"), "{refusal}");
    });
}

#[test]
fn what_another_relay_has_written_is_read() {
    near_and_far(settings, |mut world, name| {
        let ann = near(&mut world, "&user=ann", name);
        let ben = far(&mut world, "&user=ben", name);
        edit(&mut world, ann, name, &json!(["text"]), 0);
        world.client(ben).messages();
        world.store_stands = true;
        ask(&mut world, ann, name, 11, "operation", &json!({"op": ["lost"], "version": 1}));
        world.let_store_say(StoreAnswer::Conflict);
        world.let_store_answer();
        world.store_stands = false;
        let heard = world.client(ann).messages();
        let (ok, refusal) = heard[0].answer(&json!("11")).expect("an answer");
        assert_eq!((ok, &refusal["reason"]), (false, &json!("unavailable")));
        assert_eq!(text_of(&heard), Some(("text".into(), 1)));
        assert_eq!(text_of(&world.client(ben).messages()), Some(("text".into(), 1)));
        assert!(edit(&mut world, ann, name, &json!(["on"]), 1).0);
    });
}
