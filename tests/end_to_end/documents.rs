//! Documents on a real disk: what operators make and members edit is there after the process is killed, and comes through the tools.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::member::Member;
use crate::relay::{PATIENCE, Place, Relay, Setup};
use crate::store_tools::{done, export, failed, store_of, tool};

const TOML: &str = "[rates]\noperation_per_s = 100000\noperation_burst = 100000\n\
    event_per_s = 100000\nevent_burst = 100000\nbytes_per_s = 100000000\nbytes_burst = 100000000\n\
    [[doc]]\npattern = \"made-*\"\ncreate = false\n";

/// A relay whose store is in `place`, which outlives it.
fn relay(place: &Place) -> Relay {
    let store = store_of(place).to_string_lossy().into_owned();
    let arguments = ["--shards", "2", "--data-dir", &store].map(Into::into).to_vec();
    Relay::set_up(Setup { arguments, toml: TOML.into(), ..Setup::default() })
}

/// Makes a document by the admin page: status and body.
fn put(relay: &Relay, id: &str, text: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.admin.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = text.len();
    write!(stream, "PUT /docs/{id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(text).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

#[track_caller]
fn document(relay: &Relay, id: &str) -> Value {
    let (status, body) = relay.fetch(&format!("/docs/{id}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn join(relay: &Relay, user: &str, topic: &str, payload: &Value) -> (Member, Vec<Value>) {
    Member::try_join(relay.listen, user, topic, payload).expect("the relay lets it in")
}

#[track_caller]
fn edit(member: &mut Member, op: &Value, version: u64) -> u64 {
    let payload = json!({"op": op, "version": version, "op_id": format!("{op}{version}")});
    let reference = member.push("operation", &payload);
    let answer = member.answer(&reference).unwrap();
    assert_eq!(answer["status"], "ok", "{answer}");
    answer["response"]["version"].as_u64().unwrap()
}

#[test]
fn what_an_operator_makes_is_edited_and_survives_being_killed() {
    let place = Place::new();
    let first = relay(&place);
    assert!(Member::try_join(first.listen, "ann", "doc:made-a", &json!({})).is_none(), "it does not exist");
    assert_eq!(first.fetch("/docs/made-a").0, 404);
    let (status, body) = put(&first, "made-a", "héllo 🦀\n".as_bytes());
    let made: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &made["version"], &made["length"]), (201, &json!(1), &json!(8)));
    assert_eq!(put(&first, "made-a", b"other").0, 409);
    let (mut ann, told) = join(&first, "ann", "doc:made-a", &json!({}));
    assert_eq!(told.last().unwrap()[4]["content"], "héllo 🦀\n");
    let (mut room, _) = join(&first, "ann", "room:made-a", &json!({}));
    let reference = room.push("new_message", &json!({"body": "a room of the same name"}));
    assert_eq!(room.answer(&reference).unwrap()["response"]["seq"], 1);
    let version = (0..20).fold(1, |version, _| edit(&mut ann, &json!([7, "!"]), version));
    assert_eq!(version, 21);
    let shown = document(&first, "made-a");
    first.signal(Signal::KILL);
    first.exit_status();

    let second = relay(&place);
    let text = format!("héllo 🦀{}\n", "!".repeat(20));
    let again = document(&second, "made-a");
    assert_eq!(again, shown);
    let expected = json!({"id": "made-a", "epoch": made["epoch"], "version": 21, "length": 28, "text": text});
    assert_eq!(again, expected);
    let seen = json!({"resume": {"epoch": made["epoch"], "seq": 20}});
    let (mut ann, told) = join(&second, "ann", "doc:made-a", &seen);
    let missed = &told.last().unwrap()[4]["operations"];
    assert_eq!((&missed[0]["version"], &missed[0]["op"]), (&json!(21), &json!([7, "!"])));
    // What it has sent before its answer was lost is known.
    let payload = json!({"op": [7, "!"], "version": 20, "op_id": "[7,\"!\"]20"});
    let reference = ann.push("operation", &payload);
    assert_eq!(ann.answer(&reference).unwrap()["response"]["version"], 21);
    assert_eq!(edit(&mut ann, &json!([-28]), 21), 22);
    assert_eq!(document(&second, "made-a")["text"], "");
    let (_, told) = join(&second, "ben", "room:made-a", &json!({}));
    assert_eq!(told.last().unwrap()[4]["messages"][0]["body"], "a room of the same name");
}

#[test]
fn members_of_an_empty_document_see_what_an_operator_makes_and_one_operator_is_first() {
    let relay = Relay::set_up(Setup {
        arguments: ["--shards", "2", "--ephemeral"].map(Into::into).to_vec(),
        ..Setup::default()
    });
    for id in ["a", "b", "c", "d"] {
        let (mut ann, told) = join(&relay, "ann", &format!("doc:{id}"), &json!({}));
        assert_eq!(told.last().unwrap()[4]["version"], 0);
        assert_eq!(relay.fetch(&format!("/docs/{id}")).0, 404, "it is not saved");
        let answers = thread::scope(|scope| {
            let make = |number: u32| {
                let relay = &relay;
                scope.spawn(move || put(relay, id, format!("text {number}").as_bytes()).0)
            };
            let operators: Vec<_> = (0..4).map(make).collect();
            operators.into_iter().map(|operator| operator.join().unwrap()).collect::<Vec<_>>()
        });
        let made = answers.iter().filter(|status| **status == 201).count();
        let refused = answers.iter().filter(|status| **status == 409).count();
        assert_eq!((made, refused), (1, 3), "{answers:?}");
        let state = ann.told("doc_state").unwrap();
        let shown = document(&relay, id);
        assert_eq!((&state["content"], &state["epoch"]), (&shown["text"], &shown["epoch"]));
        assert_eq!(edit(&mut ann, &json!([6, "!"]), 1), 2);
    }
    let long = "x".repeat(262_145);
    assert_eq!(put(&relay, "long", long.as_bytes()).0, 413);
    assert_eq!(put(&relay, "long", &long.as_bytes()[1..]).0, 201);
    assert_eq!(document(&relay, "long")["length"], 262_144);
    assert_eq!(put(&relay, "odd", b"\xFF").0, 400);
    assert_eq!(put(&relay, "o%20dd", b"").0, 400);
    assert_eq!(put(&relay, "empty", b"").0, 201);
    let (_, told) = join(&relay, "ann", "doc:empty", &json!({}));
    assert_eq!(told.last().unwrap()[4]["version"], 1, "it exists");
}

#[test]
fn documents_come_through_the_tools() {
    let place = Place::new();
    let first = relay(&place);
    assert_eq!(put(&first, "a", "minutes\n".as_bytes()).0, 201);
    let (mut ann, _) = join(&first, "ann-of-all-names", "doc:a", &json!({}));
    let (mut ben, _) = join(&first, "ben", "doc:a", &json!({}));
    // So many that the text is written anew, with who wrote last.
    let mut version = 1;
    while version < 1_010 {
        for member in [&mut ann, &mut ben] {
            version = edit(member, &json!(["x"]), version);
        }
    }
    let shown = document(&first, "a");
    let running = export(&first, "/export");
    assert!(
        running.contains("\"user\":\"ann-of-all-names\"") && running.contains("\"writers\":[{"),
        "{running}"
    );
    first.signal(Signal::TERM);
    assert!(first.exit_status().success());

    let text = shown["text"].as_str().unwrap();
    assert_eq!(done(tool(&place, &["export", "doc:a"])), text, "the text and nothing else");
    assert!(failed(&tool(&place, &["export", "doc:b"])).contains("nothing is kept about doc:b"));
    assert_eq!(done(tool(&place, &["export"])), running);
    assert!(done(tool(&place, &["check"])).contains("nothing is wrong"));
    assert!(done(tool(&place, &["stats"])).contains("documents          1\n"));

    let elsewhere = Place::new();
    let file = elsewhere.file("all.ndjson", &running);
    assert!(done(tool(&elsewhere, &["import", &file])).starts_with("imported: 1 topics, "));
    assert_eq!(done(tool(&elsewhere, &["export"])), running, "byte for byte");
    assert!(done(tool(&elsewhere, &["check"])).contains("nothing is wrong"));

    let erased = done(tool(&place, &["erase-user", "ann-of-all-names"]));
    assert!(erased.contains("last operations remembered              1\n"), "{erased}");
    done(tool(&place, &["compact"]));
    let bytes = std::fs::read(store_of(&place).join("corelay.redb")).unwrap();
    let name = b"ann-of-all-names";
    assert!(!bytes.windows(name.len()).any(|window| window == name), "it is in the file still");
    assert_eq!(done(tool(&place, &["export", "doc:a"])), text, "the text is everybody's");
    assert!(done(tool(&place, &["check"])).contains("nothing is wrong"));

    for place in [&place, &elsewhere] {
        let relay = relay(place);
        assert_eq!(document(&relay, "a"), shown);
        let (mut cy, _) = join(&relay, "cy", "doc:a", &json!({}));
        assert_eq!(edit(&mut cy, &json!(["y"]), version), version + 1);
    }
}
