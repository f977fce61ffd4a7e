//! `corelay store`, and the export of a relay that runs, on real files.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corelay::ids::Topic;
use corelay::room::chat_record::{About, Kind, Record};
use corelay::room::stored::{Change, Cursor, Retention, StoreAction, StoreRequest, StoredRecord};
use corelay::store::file::StoreFile;
use corelay::store::settings::StoreSettings;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::member::Member;
use crate::relay::{PATIENCE, Place, Relay, corelay, exit_status};
use crate::rooms::relay;

/// A line of the store's table of records.
const RECORDS: redb::TableDefinition<'_, (u64, u64), (u64, &[u8])> = redb::TableDefinition::new("records");

/// Where `relay` has its store.
pub fn store_of(place: &Place) -> PathBuf {
    place.path().join("store")
}

pub fn tool(place: &Place, arguments: &[&str]) -> Output {
    let mut command = corelay(place, "");
    command.arg("store").args(arguments).arg("--data-dir").arg(store_of(place));
    command.output().unwrap()
}

#[track_caller]
pub fn done(output: Output) -> String {
    let log = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{log}");
    text
}

#[track_caller]
pub fn failed(output: &Output) -> String {
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    log + &String::from_utf8_lossy(&output.stdout)
}

/// An export as an HTTP/1.0 client gets it: without chunks.
pub fn export(relay: &Relay, path: &str) -> String {
    let mut stream = TcpStream::connect(relay.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}\n{body}");
    body.to_owned()
}

fn say(member: &mut Member, body: &str) -> Value {
    let reference = member.push("new_message", &json!({ "body": body }));
    let answer = member.answer(&reference).unwrap();
    assert_eq!(answer["status"], "ok", "{answer}");
    answer["response"].clone()
}

#[test]
fn a_running_relay_is_exported_and_its_rooms_go_on_elsewhere() {
    let place = Place::new();
    let first = relay(&place);
    let is_over = Arc::new(AtomicBool::new(false));
    let text = thread::scope(|scope| {
        for room in ["a", "b", "c"] {
            let (first, is_over) = (&first, is_over.clone());
            scope.spawn(move || {
                let (mut member, _) = Member::join(first, &format!("room:{room}"), &json!({}));
                while !is_over.load(Ordering::Acquire) {
                    say(&mut member, &format!("said in {room} {}", "x".repeat(500)));
                }
            });
        }
        first.await_metric("corelay_store_appends_total", &[], |appends| appends > 300);
        let text = export(&first, "/export");
        is_over.store(true, Ordering::Release);
        text
    });
    let topics: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let topic = topics.iter().find(|line| line["topic"] == "room:b").unwrap();
    let last = topic["last"].as_u64().unwrap();
    assert!(last > 30, "{topic}");
    assert_eq!(export(&first, "/export?topic=room:b").lines().nth(1).unwrap().split(',').count(), 4);

    let elsewhere = Place::new();
    let file = elsewhere.file("rooms.ndjson", &text);
    let imported = done(tool(&elsewhere, &["import", &file]));
    assert!(imported.starts_with("imported: 3 topics, "), "{imported}");
    assert!(done(tool(&elsewhere, &["check"])).contains("nothing is wrong"));
    assert_eq!(done(tool(&elsewhere, &["export"])), text, "byte for byte");
    let refused = failed(&tool(&elsewhere, &["import", &file]));
    assert!(
        refused.contains("room:b is there already") && refused.contains("imported: 0 topics"),
        "{refused}"
    );

    let second = relay(&elsewhere);
    let (mut member, told) = Member::join(&second, "room:b", &json!({}));
    let joined = &told[0][4]["response"];
    assert_eq!((&joined["epoch"], &joined["seq"]), (&topic["epoch"], &json!(last)));
    assert_eq!(say(&mut member, "on we go")["seq"], last + 1);
    let guest = joined["user_id"].as_str().unwrap();
    assert!(!text.contains(&format!("\"{guest}\"")), "{guest} is somebody else");
}

#[test]
fn a_relay_that_runs_keeps_its_store() {
    let place = Place::new();
    let relay = relay(&place);
    for arguments in [
        &["check"][..],
        &["stats"],
        &["export"],
        &["import", "/dev/null"],
        &["compact"],
        &["erase-user", "ann"],
    ] {
        let log = failed(&tool(&place, arguments));
        let holder = format!("is in use by another process (process {})", relay.pid());
        assert!(log.contains(&holder) && log.contains("\n  try: stop it, then"), "{log}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    for arguments in [&["check"][..], &["stats"], &["export"], &["compact"], &["erase-user", "ann"]] {
        let log = failed(&tool(&place, arguments));
        assert!(log.contains("there is no store in") && !store_of(&place).exists(), "{log}");
    }
    for arguments in [&["export", "lobby"][..], &["erase-user", ""], &["compress"], &[]] {
        assert_eq!(tool(&place, arguments).status.code(), Some(2), "{arguments:?}");
    }
    let file = place.file("rooms.ndjson", "{\"corelay_export\":1}\n{}\n");
    assert!(failed(&tool(&place, &["import", &file])).contains("line 2: it is no line of an export"));
    assert!(failed(&tool(&place, &["export", "room:a"])).contains("nothing is kept about room:a"));
    place.file("corelay.toml", "ephemeral = true\n");
    assert_eq!(tool(&place, &["check"]).status.code(), Some(2));
    let help =
        String::from_utf8(corelay(&place, "").args(["store", "--help"]).output().unwrap().stdout).unwrap();
    for part in ["check", "stats", "export", "import", "compact", "erase-user", "/export", "Exit codes"] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
}

#[test]
fn a_record_that_is_missing_is_found() {
    let place = Place::new();
    fill(&place, 20, 100);
    let sound = done(tool(&place, &["check"]));
    assert_eq!(sound, "1 topics, 20 records, 0 values: nothing is wrong\n");
    let stats = done(tool(&place, &["stats"]));
    assert!(stats.contains("records            20\n") && stats.contains("1970-01-01T00:00:20Z"), "{stats}");
    remove_records(&place, |seq| seq == 7);
    let found = failed(&tool(&place, &["check"]));
    assert!(found.contains("room:a: record 7 is missing\n") && found.contains("faults: 1"), "{found}");
}

#[test]
fn an_erased_user_is_gone_from_export_and_room() {
    let place = Place::new();
    let first = relay(&place);
    let (mut ann, told) = Member::join(&first, "room:a", &json!({}));
    let (mut ben, _) = Member::join(&first, "room:a", &json!({}));
    let id = say(&mut ann, "secret words")["id"].as_str().unwrap().to_owned();
    say(&mut ben, "other words");
    let reference = ann.push("edit_message", &json!({"id": id, "body": "secret edit"}));
    assert_eq!(ann.answer(&reference).unwrap()["status"], "ok");
    let user = told[0][4]["response"]["user_id"].as_str().unwrap().to_owned();
    first.signal(Signal::TERM);
    assert!(first.exit_status().success());

    let erased = done(tool(&place, &["erase-user", &user]));
    assert!(erased.contains("erased in 1 topics") && erased.contains("corelay store compact"), "{erased}");
    assert!(done(tool(&place, &["erase-user", &user])).contains("nothing of this user is kept"));
    let text = done(tool(&place, &["export"]));
    assert!(!text.contains("secret") && !text.contains(&format!("\"{user}\"")), "{text}");
    assert!(text.contains("other words"), "{text}");
    done(tool(&place, &["compact"]));
    let bytes = std::fs::read(store_of(&place).join("corelay.redb")).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"secret"), "it is in the file still");

    let second = relay(&place);
    let (_, told) = Member::join(&second, "room:a", &json!({}));
    let messages = &told.last().unwrap()[4]["messages"];
    assert_eq!(messages[0], json!({"id": id, "seq": 1, "deleted": true}));
    assert_eq!(messages[1]["body"], "other words");
}

/// Makes a store with one room, and so many messages in it.
fn fill(place: &Place, records: u64, bytes: usize) {
    let settings = StoreSettings { data_dir: store_of(place), ..StoreSettings::default() };
    let file = StoreFile::open(settings).unwrap();
    let record = |seq: u64| {
        let payload = format!(r#"{{"seq":{seq},"body":"{}"}}"#, "x".repeat(bytes));
        let (kind, about) = (Kind::Message, About::default());
        let record = Record { kind, about, client_id: None, user: "ann", payload: &payload };
        StoredRecord { seq, at_ms: seq * 1_000, bytes: record.encode() }
    };
    let topic = Arc::new(Topic::parse("room:a").unwrap());
    let retention = Retention { records: u64::MAX, since_ms: 0 };
    for first in (1..=records).step_by(500) {
        let records = (first..=records.min(first + 499)).map(record).collect();
        let change = Change { records, ..Change::default() };
        let action = StoreAction::Append { epoch: 7, expected: Cursor(first - 1), change };
        file.append(&[StoreRequest { topic: topic.clone(), action, retention }]).unwrap();
    }
}

fn remove_records(place: &Place, is_removed: impl Fn(u64) -> bool) {
    let database = redb::Database::open(store_of(place).join("corelay.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(RECORDS).unwrap().retain(|(_, seq), _| !is_removed(seq)).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_compaction_that_is_killed_leaves_a_store() {
    let place = Place::new();
    fill(&place, 10_000, 2_000);
    remove_records(&place, |seq| seq % 5 != 0);
    let mut interrupted = 0;
    for (signal, after_ms) in
        [(Signal::KILL, 0), (Signal::TERM, 20), (Signal::KILL, 60), (Signal::TERM, 150), (Signal::KILL, 400)]
    {
        let mut command = corelay(&place, "");
        command.args(["store", "compact", "--data-dir"]).arg(store_of(&place));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("compacting "), "{line}");
        thread::sleep(Duration::from_millis(after_ms));
        // It may be done already.
        let _ = kill_process(Pid::from_child(&child), signal);
        interrupted += u32::from(!exit_status(&mut child, PATIENCE).success());
        // The records that were removed are missing, and no other: it is no other fault.
        let found = failed(&tool(&place, &["check"]));
        assert!(found.contains("1 topics, 2000 records, 0 values: faults: 2000\n"), "{found}");
    }
    assert!(interrupted > 0, "it was always faster");
    let before = std::fs::metadata(store_of(&place).join("corelay.redb")).unwrap().len();
    let sizes = done(tool(&place, &["compact"]));
    let after = std::fs::metadata(store_of(&place).join("corelay.redb")).unwrap().len();
    assert!(sizes.starts_with(&format!("before: {before} bytes\nafter: ")), "{sizes}");
    assert!(after <= before && after < 10_000_000, "{before} {after}");
    let files = std::fs::read_dir(store_of(&place)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert_eq!(files, ["corelay.pid", "corelay.redb"]);
}
