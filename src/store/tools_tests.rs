//! What `corelay store` does with a file: an export that is imported is the same, a fault is found, nothing of a user is left.

use std::sync::Arc;

use super::check::check;
use super::erase::{Erased, erase_user};
use super::file::StoreFile;
use super::import::{IMPORTING, Import, Imported, Told};
use super::lines::Counts;
use super::settings::StoreSettings;
use super::stats;
use crate::ids::Topic;
use crate::limits::{EXPORT_PART_LINES, IMPORT_LINE_BYTES_MAX, TOOL_BATCH_RECORDS};
use crate::room::chat_record::{About, Kind, Record};
use crate::room::stored::{
    Change, Cursor, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StoredValue,
};

pub(super) const ALL: Retention = Retention { records: u64::MAX, since_ms: 0 };

pub(super) fn store() -> StoreFile {
    let settings = StoreSettings { ephemeral: true, cache_bytes: 1024 * 1024, ..StoreSettings::default() };
    StoreFile::open(settings).unwrap()
}

fn stored(seq: u64, kind: Kind, about: u64, (user, payload): (&str, &str)) -> StoredRecord {
    let about = About { seq: about, at_ms: about * 10 };
    let client_id = (kind == Kind::Message).then_some("c-1");
    let bytes = Record { kind, about, client_id, user, payload }.encode();
    StoredRecord { seq, at_ms: seq * 10, bytes }
}

pub(super) fn said(seq: u64, user: &str) -> StoredRecord {
    let payload = format!(r#"{{"id":"7-{seq}","seq":{seq},"body":"words \"{seq}\" of {user}"}}"#);
    stored(seq, Kind::Message, 0, (user, &payload))
}

pub(super) fn append_with(
    file: &StoreFile,
    topic: &str,
    expected: u64,
    change: Change,
    retention: Retention,
) {
    let topic = Arc::new(Topic::parse(topic).unwrap());
    let action = StoreAction::Append { epoch: u64::MAX - 7, expected: Cursor(expected), change };
    let answers = file.append(&[StoreRequest { topic, action, retention }]).unwrap();
    assert!(matches!(answers[..], [StoreAnswer::Appended(_)]), "{answers:?}");
}

pub(super) fn append(file: &StoreFile, topic: &str, expected: u64, records: Vec<StoredRecord>) {
    append_with(file, topic, expected, Change { records, ..Change::default() }, ALL);
}

fn value(key: &str, number: u64) -> StoredValue {
    StoredValue { key: key.into(), bytes: Some(number.to_be_bytes().into()) }
}

pub(super) fn values(file: &StoreFile, topic: &str, values: Vec<StoredValue>) {
    let last = file.snapshot(|snapshot| snapshot.stream(topic)).unwrap().map_or(0, |stream| stream.last);
    append_with(file, topic, last, Change { values, ..Change::default() }, ALL);
}

/// Several topics, with all that there may be in one.
fn filled() -> StoreFile {
    let file = store();
    file.take_guests(100).unwrap();
    append(&file, "room:b", 0, (1..=200).map(|seq| said(seq, "ann")).collect());
    let edited = stored(4, Kind::Edited, 1, ("ben", r#"{"id":"7-1","seq":4,"body":"new"}"#));
    let records = vec![
        stored(1, Kind::Message, 4, ("ben", r#"{"id":"7-1","seq":1,"body":"new","edited_at":4}"#)),
        stored(2, Kind::Erased, 5, ("ann", r#"{"id":"7-2","seq":2,"deleted":true}"#)),
        stored(3, Kind::Replaced, 1, ("ben", "")),
        edited,
        stored(5, Kind::Deleted, 2, ("ben", r#"{"id":"7-2","seq":5}"#)),
        // No JSON, no line, and nothing that a room can read: they come through as they are.
        stored(6, Kind::Message, 0, ("ann", "words")),
        stored(7, Kind::Message, 0, ("ä\"\n", "{\n}")),
        StoredRecord { seq: 8, at_ms: 80, bytes: [0xFF; 3].into() },
    ];
    append(&file, "room:a", 0, records);
    let read = StoredValue { key: "odd".into(), bytes: Some([1, 2].into()) };
    values(&file, "room:a", vec![value("read:ann", 7), value("ban:ben", u64::MAX), read]);
    values(&file, "room:only-values", vec![value("mute:ann", 5)]);
    file
}

pub(super) fn export_of(file: &StoreFile, topic: Option<&str>) -> String {
    file.reader().export(topic).collect::<Result<Vec<_>, _>>().unwrap().concat()
}

pub(super) fn import(file: &StoreFile, export: &str) -> (Imported, Result<(), String>, Vec<String>) {
    let mut refused = Vec::new();
    let mut tell = |told: Told<'_>| {
        if let Told::Refused(topic) = told {
            refused.push(topic.to_owned());
        }
    };
    let (imported, outcome) = Import::run(file, &mut export.as_bytes(), &mut tell);
    (imported, outcome.map_err(|error| error.to_string()), refused)
}

pub(super) fn faults(file: &mut StoreFile) -> Vec<String> {
    check(file, &mut |_| {}).unwrap().faults
}

#[test]
fn an_export_that_is_imported_is_exported_as_the_same() {
    let file = filled();
    let export = export_of(&file, None);
    let lines: Vec<&str> = export.lines().collect();
    assert_eq!(lines[0], r#"{"corelay_export":1,"guests":100}"#);
    assert_eq!(lines[1], r#"{"topic":"room:a","epoch":"18446744073709551608","first":1,"last":8}"#);
    assert_eq!(lines[2], r#"{"key":"ban:ben","bytes":"//////////8="}"#, "JavaScript has no such number");
    assert_eq!(lines[4], r#"{"key":"read:ann","number":7}"#);
    let record = r#"{"seq":1,"at_ms":10,"kind":"message","user":"ben","client_id":"c-1","about":{"seq":4,"at_ms":40},"payload":{"id":"7-1","seq":1,"body":"new","edited_at":4}}"#;
    assert_eq!(lines[5], record);
    assert_eq!(lines[12], r#"{"seq":8,"at_ms":80,"bytes":"////"}"#);
    assert_eq!(*lines.last().unwrap(), r#"{"topics":3,"records":208,"values":4}"#);

    let copy = store();
    let (imported, outcome, refused) = import(&copy, &export);
    assert_eq!((outcome, refused), (Ok(()), vec![]));
    assert_eq!(imported.written, Counts { topics: 3, records: 208, values: 4 });
    assert_eq!(export_of(&copy, None), export);
    assert_eq!(copy.take_guests(1).unwrap(), 100, "no guest is named twice");
    append(&copy, "room:b", 200, vec![said(201, "ann")]);

    let one = export_of(&file, Some("room:b"));
    assert!(one.lines().count() == 203 && !one.contains("room:a"));
    assert!(file.reader().has("room:only-values").unwrap() && !file.reader().has("room:").unwrap());
}

#[test]
fn topics_that_are_there_are_refused_and_the_others_imported() {
    let export = export_of(&filled(), None);
    let file = store();
    append(&file, "room:b", 0, vec![said(1, "cat")]);
    values(&file, "room:only-values", vec![value("read:cat", 1)]);
    let before = export_of(&file, Some("room:b"));
    let (imported, outcome, refused) = import(&file, &export);
    assert_eq!((imported.written.topics, outcome), (1, Ok(())));
    assert_eq!((refused, imported.refused), (vec!["room:b".to_owned(), "room:only-values".into()], 2));
    assert_eq!(export_of(&file, Some("room:b")).lines().nth(2), before.lines().nth(2));
}

#[test]
fn a_line_that_is_wrong_is_named_and_its_topic_is_not_there() {
    let many = TOOL_BATCH_RECORDS as u64 + 100;
    let file = store();
    append(&file, "room:a", 0, vec![said(1, "ann")]);
    append(&file, "room:b", 0, (1..=many).map(|seq| said(seq, "ann")).collect());
    let export = export_of(&file, None);
    let lines: Vec<&str> = export.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        lines.join("\n")
    };
    let last_record = lines.len() - 1;
    let cut = lines[..last_record].join("\n");
    for (export, what) in [
        (with(last_record, "{\"seq\":4196,"), format!("line {last_record}: EOF while parsing")),
        (
            with(last_record, "{\"seq\":9,\"at_ms\":1,\"bytes\":\"\"}"),
            format!("line {last_record}: record 9 of room:b comes"),
        ),
        (with(last_record, r#"{"seq":4196,"at_ms":1,"kind":"shouted"}"#), "\"shouted\" is no kind".into()),
        (with(last_record, r#"{"sec":4196}"#), "unknown field `sec`".into()),
        (with(last_record, r#"{"key":"read:ann","number":1}"#), "room:b ends before its record 4196".into()),
        (with(last_record, &"x".repeat(IMPORT_LINE_BYTES_MAX)), "longer than".into()),
        (cut.clone(), format!("cut off: it ends behind line {last_record}")),
        (
            with(last_record + 1, r#"{"topics":3,"records":1,"values":0}"#),
            "it says 3 topics, 1 records".into(),
        ),
    ] {
        let mut file = store();
        let (imported, outcome, _) = import(&file, &export);
        let error = outcome.unwrap_err();
        assert!(error.contains(&what), "{what}: {error}");
        let is_whole = error.contains("it says");
        assert_eq!(imported.written.topics, 1 + u64::from(is_whole), "{error}");
        assert_eq!(faults(&mut file), [""; 0], "{error}");
        let (imported, outcome, refused) = import(&file, &lines.join("\n"));
        assert_eq!((outcome, refused.len() as u64 + imported.written.topics), (Ok(()), 2), "{error}");
    }
    for (export, what) in [
        ("{\"topic\":\"room:a\"}", "line 1: an export begins with"),
        ("{\"corelay_export\":2}", "line 1: the export is of version 2"),
        ("", "ends behind line 0"),
        ("{\"corelay_export\":1}\n{\"topic\":\"lobby\"}", "line 2: \"lobby\" is no topic"),
        ("{\"corelay_export\":1}\n{\"topic\":\"room:a\",\"epoch\":\"1\"}", "line 2: a topic has"),
        ("{\"corelay_export\":1}\n{\"topics\":0,\"records\":0,\"values\":0}\n{}", "line 3: it is no line"),
    ] {
        let error = import(&store(), export).1.unwrap_err();
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn what_an_import_that_was_killed_has_left_is_found_and_removed() {
    let mut file = store();
    file.write(|tables| {
        let number = tables.next_number()?;
        tables.meta.insert(IMPORTING, number)?;
        tables.records.insert((number, 1), (1, &b"x"[..])).map(drop)?;
        Ok(())
    })
    .unwrap();
    let found = faults(&mut file);
    assert!(found.len() == 2 && found[0].contains("an import was cut off"), "{found:?}");
    import(&file, &export_of(&filled(), Some("room:b"))).1.unwrap();
    assert_eq!(faults(&mut file), [""; 0]);
}

#[test]
fn an_export_ends_where_it_ended_whatever_is_written_meanwhile() {
    let file = store();
    append(&file, "room:a", 0, (1..=303).map(|seq| said(seq, "ann")).collect());
    let mut export = file.reader().export(None);
    let mut text = export.next().unwrap().unwrap();
    assert_eq!(text.lines().count(), EXPORT_PART_LINES);
    // A message is edited, and the oldest are removed.
    let edited = r#"{"id":"7-299","seq":299,"body":"edited"}"#;
    let change = Change {
        records: vec![stored(304, Kind::Edited, 299, ("ann", edited))],
        amended: vec![stored(299, Kind::Message, 304, ("ann", edited))],
        ..Change::default()
    };
    append_with(&file, "room:a", 303, change, Retention { records: 200, since_ms: 0 });
    text += &export.map(Result::unwrap).collect::<String>();
    assert!(text.contains("{\"first\":105}\n"), "{text}");
    let copy = store();
    let (imported, outcome, _) = import(&copy, &text);
    assert_eq!((imported.written.records, outcome), (199, Ok(())));
    let copied = export_of(&copy, None);
    assert!(copied.contains(r#""first":105,"last":303}"#), "{copied}");
    let line = copied.lines().find(|line| line.contains("\"seq\":299")).unwrap();
    assert!(line.contains("edited") && !line.contains("about"), "{line}");
}

#[test]
fn whatever_is_wrong_in_a_file_is_named() {
    let mut file = filled();
    let odd = ["room:a: record 8 cannot be read", "room:a: the value \"odd\" cannot be read"];
    assert_eq!(faults(&mut file), odd);

    let mut file = store();
    append(&file, "room:a", 0, (1..=9).map(|seq| said(seq, "ann")).collect());
    append(&file, "room:b", 0, vec![stored(1, Kind::Message, 5, ("ann", "{}"))]);
    append(&file, "room:c", 0, vec![said(1, "ann")]);
    assert_eq!(faults(&mut file).len(), 1, "what is about a later record");
    file.write(|tables| {
        for seq in [3, 4, 9] {
            tables.records.remove((1, seq))?;
        }
        tables.records.insert((1, 12), (1, &b""[..]))?;
        tables.records.insert((77, 1), (1, &b""[..]))?;
        tables.streams.insert("room:c", (2, 1, 1, 1))?;
        tables.streams.insert("cellar", (9, 5, 7, 1))?;
        tables.meta.insert("streams", 8)?;
        Ok(())
    })
    .unwrap();
    let expected = [
        "\"cellar\" is no topic",
        "cellar: its first record is 7 and its last 1",
        "room:a: records 3 to 4 are missing",
        "room:a: record 12 is not within 1 to 9",
        "room:a: record 9 is missing",
        "room:b: record 1 is about 5, which is behind the last one",
        "room:c: its records are also those of another topic",
        "a stream has the number 9, but only 8 were given",
        "records of stream 3 belong to no topic",
        "records of stream 77 belong to no topic",
    ];
    assert_eq!(faults(&mut file), expected);
}

#[test]
fn nothing_of_an_erased_user_is_left_and_the_rest_is_as_it_was() {
    let mut file = filled();
    let erased = erase_user(&file, "ben", &mut |_| {}).unwrap();
    let expected = Erased {
        messages: 1,
        edits: 2,
        deletions: 1,
        values: 1,
        topics: 1,
        unreadable: 1,
        ..Erased::default()
    };
    assert_eq!(erased, expected);
    let export = export_of(&file, None);
    assert!(!export.contains("ben") && !export.contains("new"), "{export}");
    let tombstone = r#"{"seq":1,"at_ms":10,"kind":"erased","user":"","payload":{"id":"fffffffffffffff8-1","seq":1,"deleted":true}}"#;
    let edit = r#"{"seq":4,"at_ms":40,"kind":"replaced","user":"","about":{"seq":1,"at_ms":10}}"#;
    let deletion = r#"{"seq":5,"at_ms":50,"kind":"deleted","user":"","about":{"seq":2,"at_ms":20},"payload":{"id":"7-2","seq":5}}"#;
    for line in [tombstone, edit, deletion] {
        assert!(export.lines().any(|candidate| candidate == line), "{line}\n{export}");
    }
    let again = erase_user(&file, "ben", &mut |_| {}).unwrap();
    assert_eq!(again, Erased { unreadable: 1, ..Erased::default() });
    let erased = erase_user(&file, "ann", &mut |_| {}).unwrap();
    assert_eq!((erased.messages, erased.deleted, erased.values, erased.topics), (201, 1, 2, 3));
    assert_eq!(faults(&mut file).len(), 2, "none is new");
}

#[test]
fn stats_count_what_is_there() {
    let file = filled();
    let stats = stats::count(&file, &mut |_| {}).unwrap();
    assert_eq!(stats.counts, Counts { topics: 2, records: 208, values: 4 });
    assert_eq!((stats.oldest_ms, stats.newest_ms), (Some(10), Some(2_000)));
    let topics: Vec<&str> = stats.largest.iter().map(|topic| &*topic.topic).collect();
    assert_eq!(topics, ["room:b", "room:a"]);
    let of_topics = stats.largest.iter().map(|topic| topic.bytes).sum::<u64>();
    assert_eq!(of_topics, stats.bytes + stats.value_bytes - 8, "one room has nothing but a value");
    assert_eq!(stats.documents, 0);
}
