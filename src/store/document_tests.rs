//! What `corelay store` does with documents: their texts come through, faults in them are found, nobody who is forgotten is named.

use super::document::{DocumentError, StoredDocument};
use super::erase::{Erased, erase_user};
use super::file::StoreFile;
use super::lines::Counts;
use super::stats;
use super::tools_tests::{ALL, append, append_with, export_of, faults, import, said, store, values};
use crate::ids::Topic;
use crate::limits::{
    DOCUMENT_BYTES_MAX, EXPORT_PART_LINES, IMPORT_LINE_BYTES_MAX, OP_ID_BYTES_MAX, OPERATIONS_KEPT,
    USER_ID_BYTES_MAX, WRITERS_MAX,
};
use crate::room::document_archive::first_records;
use crate::room::document_record::{Record, SNAPSHOT_KEY, Snapshot, Writers};
use crate::room::stored::{Change, Retention, StoredRecord, StoredValue};
use crate::wire::operation::Operation;

fn edited(seq: u64, user: &str, op_id: Option<&str>, json: &str) -> StoredRecord {
    let operation = Operation::parse(json).unwrap();
    StoredRecord { seq, at_ms: seq * 10, bytes: Record::encode(op_id, user, &operation) }
}

fn text_of(version: u64, writers: Writers, text: &str) -> StoredValue {
    let bytes = Snapshot { version, writers, text: text.into() }.encode();
    StoredValue { key: SNAPSHOT_KEY.into(), bytes: Some(bytes) }
}

fn writers(last: &[(&str, &str, u64)]) -> Writers {
    let mut writers = Writers::default();
    last.iter().for_each(|(user, op_id, version)| writers.note(user, op_id, *version));
    writers
}

/// A document whose text was written with its third operation, and a room of the same name.
fn filled() -> StoreFile {
    let file = store();
    let records = vec![
        edited(1, "ann", Some("a1"), r#"["héllo"]"#),
        edited(2, "ben", None, r#"[5," \"🦀\"\n"]"#),
        edited(3, "ann", Some("a2"), "[-1]"),
    ];
    let saved = text_of(3, writers(&[("ann", "a2", 3)]), "éllo \"🦀\"\n");
    append_with(&file, "doc:a", 0, Change { records, values: vec![saved], ..Change::default() }, ALL);
    append(&file, "doc:a", 3, vec![edited(4, "ben", Some("b1"), r#"["H",-1]"#)]);
    append(&file, "doc:new", 0, first_records("made", 7));
    append(&file, "room:a", 0, vec![said(1, "ann")]);
    file
}

fn document(file: &StoreFile, topic: &str) -> Result<Option<StoredDocument>, DocumentError> {
    file.reader().document(&Topic::parse(topic).unwrap())
}

#[test]
fn a_document_is_read_as_of_its_end() {
    let file = filled();
    let (epoch, text) = (u64::MAX - 7, "Hllo \"🦀\"\n".to_owned());
    let expected = StoredDocument { epoch, version: 4, length: 9, text };
    assert_eq!(document(&file, "doc:a").unwrap(), Some(expected));
    assert_eq!(document(&file, "doc:new").unwrap().unwrap().text, "made");
    assert_eq!(document(&file, "doc:b").unwrap(), None);
    for (records, saved) in [
        (vec![edited(1, "ann", None, "[-1]")], None),
        (vec![edited(1, "ann", None, "[\"x\"]")], Some(text_of(2, Writers::default(), ""))),
        (vec![StoredRecord { seq: 1, at_ms: 1, bytes: [9].into() }], None),
    ] {
        let values = saved.into_iter().collect();
        append_with(&file, "doc:b", 0, Change { records, values, ..Change::default() }, ALL);
        let error = document(&file, "doc:b").unwrap_err().to_string();
        assert!(error.contains("doc:b makes no text") && error.contains("store check"), "{error}");
        file.write(|tables| {
            tables.streams.remove("doc:b")?;
            tables.values.remove(("doc:b", SNAPSHOT_KEY)).map(drop)?;
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_document_that_is_imported_is_exported_as_the_same() {
    let mut file = filled();
    assert_eq!(faults(&mut file), [""; 0]);
    let export = export_of(&file, None);
    for line in [
        r#"{"topic":"doc:a","epoch":"18446744073709551608","first":1,"last":4}"#,
        r#"{"key":"snapshot","version":3,"writers":[{"user":"ann","op_id":"a2","version":3}],"text":"éllo \"🦀\"\n"}"#,
        r#"{"seq":1,"at_ms":10,"user":"ann","op_id":"a1","op":["héllo"]}"#,
        r#"{"seq":3,"at_ms":30,"user":"ann","op_id":"a2","op":[-1]}"#,
        r#"{"seq":1,"at_ms":7,"user":"","op":["made"]}"#,
    ] {
        assert!(export.lines().any(|candidate| candidate == line), "{line}\n{export}");
    }
    // What no relay writes comes through as it is.
    append(&file, "doc:odd", 0, vec![edited(1, &"u".repeat(200), None, "[\"x\"]")]);
    let bytes = [&edited(2, "ann", None, "[\"x\"]").bytes[..], b" "].concat();
    append(&file, "doc:odd", 1, vec![StoredRecord { seq: 2, at_ms: 2, bytes: bytes.into() }]);
    let long = text_of(1, Writers::default(), &"x".repeat(DOCUMENT_BYTES_MAX + 1));
    let eight = StoredValue { key: "eight".into(), bytes: Some([0; 8].into()) };
    values(&file, "doc:odd", vec![long, eight]);
    let export = export_of(&file, None);
    assert!(export.contains(r#"{"key":"eight","number":0}"#), "{export}");

    let copy = store();
    let (imported, outcome, refused) = import(&copy, &export);
    assert_eq!((outcome, refused), (Ok(()), vec![]));
    assert_eq!(imported.written, Counts { topics: 4, records: 8, values: 3 });
    assert!(export_of(&copy, None) == export, "byte for byte");
    assert_eq!(document(&copy, "doc:a").unwrap(), document(&file, "doc:a").unwrap());
}

#[test]
fn the_largest_text_is_a_line_that_is_read() {
    let mut all = Writers::default();
    for number in 0..WRITERS_MAX {
        let user = format!("{number:04}{}", "\u{1}".repeat(USER_ID_BYTES_MAX - 4));
        all.note(&user, &"\u{2}".repeat(OP_ID_BYTES_MAX), u64::from(u32::MAX) + number as u64);
    }
    let text = "\u{3}".repeat(DOCUMENT_BYTES_MAX);
    let records = first_records(&text, 1);
    let version = records.len() as u64;
    let file = store();
    let values = vec![text_of(version, all, &text)];
    append_with(&file, "doc:a", 0, Change { records, values, ..Change::default() }, ALL);
    let export = export_of(&file, None);
    let longest = export.lines().map(str::len).max().unwrap();
    assert!((5 * IMPORT_LINE_BYTES_MAX / 6..IMPORT_LINE_BYTES_MAX).contains(&longest), "{longest}");
    let mut copy = store();
    assert_eq!(import(&copy, &export).1, Ok(()));
    assert!(export_of(&copy, None) == export, "byte for byte");
    assert_eq!(faults(&mut copy), [""; 0]);
    assert_eq!(document(&copy, "doc:a").unwrap().unwrap().text, text);
}

#[test]
fn a_line_of_a_document_that_is_wrong_is_named() {
    for (line, what) in [
        (r#"{"key":"snapshot","text":"x"}"#.to_owned(), "a text has a `version`"),
        (format!(r#"{{"key":"snapshot","version":1,"text":"{}"}}"#, "x".repeat(262_145)), "262144 bytes"),
        (r#"{"key":"snapshot","version":1,"text":"x","bytes":""}"#.into(), "a value has either"),
        (
            format!(
                r#"{{"key":"snapshot","version":1,"text":"","writers":[{{"user":"{}","op_id":"","version":1}}]}}"#,
                "u".repeat(129)
            ),
            "at most 128 bytes",
        ),
        (r#"{"seq":1,"at_ms":1,"user":"ann","op":{"type":"insert"}}"#.into(), "no list of components"),
        (r#"{"seq":1,"at_ms":1,"user":"ann","op":[true]}"#.into(), "no list of components"),
        (r#"{"seq":1,"at_ms":1,"kind":"message","op":[]}"#.into(), "a record has either"),
        (format!(r#"{{"seq":1,"at_ms":1,"op_id":"{}","op":[]}}"#, "i".repeat(65)), "`op_id` 64"),
        (r#"{"first":2,"last":0}"#.into(), "no line of an export"),
        (r#"{"first":1,"last":0}"#.into(), "doc:a cannot begin anew"),
    ] {
        let begin = "{\"corelay_export\":1}\n{\"topic\":\"doc:a\",\"epoch\":\"1\",\"first\":1,\"last\":1}\n";
        let error = import(&store(), &format!("{begin}{line}\n")).1.unwrap_err();
        assert!(error.starts_with("line 3: ") && error.contains(what), "{what}: {error}");
    }
}

/// A document of so many operations, of which each inserts a letter.
fn append_letters(file: &StoreFile, before: u64, count: u64, saves: bool) {
    let last = before + count;
    let records = (before + 1..=last).map(|seq| edited(seq, "ann", None, "[\"x\"]")).collect();
    let saved = saves.then(|| text_of(last, Writers::default(), &"x".repeat(last as usize)));
    let change = Change { records, values: saved.into_iter().collect(), ..Change::default() };
    append_with(file, "doc:a", before, change, Retention { records: OPERATIONS_KEPT as u64, since_ms: 0 });
}

#[test]
fn an_export_has_a_text_and_what_is_behind_it_whatever_is_written_meanwhile() {
    let file = store();
    append_letters(&file, 0, 900, false);
    append(&file, "room:z", 0, vec![said(1, "ann")]);
    let begin = |file: &StoreFile| {
        let mut export = file.reader().export(None);
        let text = export.next().unwrap().unwrap();
        (text, export)
    };
    // It goes on a little, and what was to be read is there still.
    let (mut text, export) = begin(&file);
    assert_eq!(text.lines().count(), EXPORT_PART_LINES);
    append_letters(&file, 900, 128, true);
    text += &export.map(Result::unwrap).collect::<String>();
    let mut copy = store();
    assert_eq!((import(&copy, &text).1, faults(&mut copy)), (Ok(()), vec![]), "{text}");
    assert_eq!(document(&copy, "doc:a").unwrap().unwrap().version, 900);

    // It goes on so far that it is not.
    let (mut text, export) = begin(&file);
    (0..10).for_each(|round| append_letters(&file, 1028 + round * 100, 100, false));
    append_letters(&file, 2028, 100, true);
    (0..6).for_each(|round| append_letters(&file, 2128 + round, 1, false));
    text += &export.map(Result::unwrap).collect::<String>();
    let anew = text.lines().position(|line| line == r#"{"first":2129,"last":2134}"#);
    assert!(
        anew.is_some_and(|anew| text.lines().nth(anew + 1).unwrap().contains("\"version\":2128")),
        "{text}"
    );
    let mut copy = store();
    assert_eq!((import(&copy, &text).1, faults(&mut copy)), (Ok(()), vec![]));
    let (before, after) = (document(&file, "doc:a").unwrap(), document(&copy, "doc:a").unwrap());
    assert_eq!(before.as_ref().unwrap().version, 2134);
    assert_eq!(before, after);
    let again = export_of(&copy, None);
    assert_eq!(import(&store(), &again).1, Ok(()));
    assert!(again.contains(r#""first":2129,"last":2134}"#) && again.contains("room:z"), "{again}");
}

#[test]
fn whatever_is_wrong_with_a_document_is_named() {
    let letters = |file: &StoreFile, topic: &str| {
        append(file, topic, 0, (1..=5).map(|seq| edited(seq, "ann", None, "[\"x\"]")).collect());
    };
    let mut file = filled();
    for topic in ["doc:ahead", "doc:beyond", "doc:gap", "doc:odd", "doc:torn", "doc:trimmed"] {
        letters(&file, topic);
    }
    values(&file, "doc:ahead", vec![text_of(9, Writers::default(), "x")]);
    values(&file, "doc:only-text", vec![text_of(0, Writers::default(), "x")]);
    let torn = StoredValue { key: SNAPSHOT_KEY.into(), bytes: Some([1, 2].into()) };
    let odd = StoredValue { key: "read:ann".into(), bytes: Some([0; 8].into()) };
    values(&file, "doc:torn", vec![torn, odd]);
    let number = |topic: &str| file.snapshot(|snapshot| snapshot.stream(topic)).unwrap().unwrap().number;
    let numbers = ["doc:beyond", "doc:gap", "doc:odd", "doc:trimmed"].map(number);
    file.write(|tables| {
        let [beyond, gap, odd, trimmed] = numbers;
        let record = edited(3, "ann", None, "[7,\"x\"]");
        tables.records.insert((beyond, 3), (1, &*record.bytes))?;
        tables.records.remove((gap, 3))?;
        tables.records.insert((odd, 3), (1, &b"?"[..]))?;
        tables.records.remove((trimmed, 1))?;
        tables.streams.insert("doc:trimmed", (trimmed, 7, 2, 5)).map(drop)?;
        Ok(())
    })
    .unwrap();
    let expected = [
        "doc:ahead: the text that was written last is of version 9, but there are only 5 operations",
        "doc:beyond: record 3 reaches to 7, but the text before it has 2 characters",
        "doc:gap: record 3 is missing",
        "doc:odd: record 3 cannot be read",
        "doc:trimmed: record 1 is missing: the text that was written last is of version 0",
        "doc:only-text: it has a text, but no operations that made it",
        "doc:torn: the value \"read:ann\" cannot be read",
        "doc:torn: the value \"snapshot\" cannot be read",
    ];
    assert_eq!(faults(&mut file), expected);
    // What is damaged comes to an end, and through.
    let export = export_of(&file, None);
    assert_eq!(import(&store(), &export).1, Ok(()), "{export}");
}

#[test]
fn a_user_is_forgotten_and_the_text_stays() {
    let mut file = filled();
    let erased = erase_user(&file, "ann", &mut |_| {}).unwrap();
    let expected = Erased { messages: 1, operations: 2, writers: 1, topics: 2, ..Erased::default() };
    assert_eq!(erased, expected);
    let export = export_of(&file, None);
    assert!(!export.contains("ann") && !export.contains("a1") && !export.contains("a2"), "{export}");
    assert!(export.contains(r#""user":"ben","op_id":"b1""#), "{export}");
    let document = document(&file, "doc:a").unwrap().unwrap();
    assert_eq!((document.version, &*document.text), (4, "Hllo \"🦀\"\n"));
    assert_eq!(faults(&mut file), [""; 0]);
    assert_eq!(erase_user(&file, "ann", &mut |_| {}).unwrap(), Erased::default());

    let torn = StoredValue { key: SNAPSHOT_KEY.into(), bytes: Some([1, 2].into()) };
    values(&file, "doc:a", vec![torn]);
    assert_eq!(erase_user(&file, "ann", &mut |_| {}).unwrap().unreadable, 1);
}

#[test]
fn documents_are_counted() {
    let stats = stats::count(&filled(), &mut |_| {}).unwrap();
    assert_eq!((stats.documents, stats.counts), (2, Counts { topics: 3, records: 6, values: 1 }));
    assert!(stats.value_bytes > 20, "{}", stats.value_bytes);
    let largest = &stats.largest[0];
    assert_eq!((&*largest.topic, largest.records), ("doc:a", 4));
    assert!(largest.bytes > stats.value_bytes + 4 * 8, "{}", largest.bytes);
}
