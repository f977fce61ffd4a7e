//! Documents: what members are told of a text that they edit at once.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use corelay::limits::{OPERATIONS_KEPT, ROOM_WAITING_USER_MAX, WRITERS_MAX};
use corelay::room::document::DocumentRules;
use corelay::room::stored::{StoreAnswer, Unavailable};
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::{ClientRules, Settings};
use serde_json::{Value, json};
use world::client::{ClientId, Message};
use world::documents::{ask, edit, join, member, push, text_of};
use world::rooms::{answer, told, words};
use world::tokens::{token_for, with_tokens};
use world::{World, near_and_far};

/// Settings with which nobody is over a rate.
fn settings() -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let bytes = Rate { per_s: 1 << 30, burst: 1 << 30 };
    let rates = Rates { events: much, operations: much, cursors: much, bytes, ..Rates::default() };
    Settings { rates, ..Settings::default() }
}

fn near(world: &mut World, query: &str, name: &str) -> ClientId {
    member(world, 0, query, name)
}

/// On the shard where the document is.
fn far(world: &mut World, query: &str, name: &str) -> ClientId {
    let last = world.metrics.len() - 1;
    member(world, last, query, name)
}

/// What somebody who joins now is told of the text.
fn text_now(world: &mut World, name: &str) -> (String, u64) {
    let reader = world.socket_on(0, "&name=Reader");
    let joined = join(world, reader, name, &json!({}));
    let text = text_of(&joined).expect("the text");
    world.say(reader, &format!(r#"["1","2","doc:{name}","phx_leave",{{}}]"#));
    world.client(reader).messages();
    text
}

fn operations_of(messages: &[Message]) -> Vec<Value> {
    told(messages, "operation")
}

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
