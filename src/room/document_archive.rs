//! What whoever looks after a store may know of what documents keep there: whether it can be read, the text that it makes, with
//! what a new document begins, and what is left of it when a user is forgotten.

use std::sync::Arc;

use ropey::Rope;

use super::document_record::{RETENTION, Record, SNAPSHOT_KEY, Snapshot};
use super::ot;
use super::stored::{Change, Cursor, StoreAction, StoreRequest, StoredRecord};
use crate::ids::Topic;
use crate::limits::{
    DOCUMENT_BYTES_MAX, OPERATION_JSON_BYTES_MAX, OPERATION_TOLD_BYTES_MAX, OPERATIONS_KEPT_BYTES,
};
use crate::wire::json::parts_of;
use crate::wire::operation::Operation;

/// What the JSON of an operation that inserts one text has besides it: `[262144,…]`.
const FRAME_BYTES: usize = "[,]".len() + 6;
/// The most that one letter takes in a JSON string, for each of its bytes.
const ESCAPED_MAX: usize = 6;
const _: () = assert!(DOCUMENT_BYTES_MAX < 1_000_000, "a position has at most six digits");
const _: () = assert!(
    ESCAPED_MAX * DOCUMENT_BYTES_MAX + OPERATION_JSON_BYTES_MAX <= OPERATIONS_KEPT_BYTES,
    "what a document begins with is read as a whole"
);

/// The text of a document as it comes about from what is kept.
#[derive(Debug)]
pub struct Replay {
    text: Rope,
    version: u64,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Fault {
    #[error("cannot be read")]
    Unreadable,
    /// It does not follow the one before.
    #[error("makes no text: the one before it is missing")]
    Gap,
    #[error("reaches to {reach}, but the text before it has {length} characters")]
    BeyondEnd { reach: u64, length: usize },
    #[error("makes a text of {bytes} bytes, at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    /// Members could not be told of it.
    #[error("has {bytes} bytes of JSON, at most {OPERATION_TOLD_BYTES_MAX} are told")]
    TooLarge { bytes: usize },
}

impl Replay {
    /// Begins with the text that was written last; `snapshot`: the value under `SNAPSHOT_KEY`. `None`: it cannot be read.
    pub fn begin(snapshot: Option<&[u8]>) -> Option<Self> {
        let Snapshot { version, text, .. } = match snapshot {
            Some(bytes) => Snapshot::decode(bytes)?,
            None => Snapshot::default(),
        };
        Some(Self { text: Rope::from_str(&text), version })
    }

    /// Takes the next record. What is in the text already changes nothing.
    ///
    /// # Errors
    /// What is wrong with it. The text stays as it was.
    pub fn add(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Fault> {
        let Record { operation, .. } = Record::decode(bytes).ok_or(Fault::Unreadable)?;
        if operation.json_bytes() > OPERATION_TOLD_BYTES_MAX {
            return Err(Fault::TooLarge { bytes: operation.json_bytes() });
        }
        if seq <= self.version {
            return Ok(());
        }
        if seq != self.version + 1 {
            return Err(Fault::Gap);
        }
        let (reach, length) = (operation.reach(), self.text.len_chars());
        if reach > length as u64 {
            return Err(Fault::BeyondEnd { reach, length });
        }
        let mut text = self.text.clone();
        ot::apply(&operation, &mut text);
        if text.len_bytes() > DOCUMENT_BYTES_MAX {
            return Err(Fault::TooLong { bytes: text.len_bytes() });
        }
        (self.text, self.version) = (text, seq);
        Ok(())
    }

    /// Number of operations that have made it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In characters.
    pub fn length(&self) -> usize {
        self.text.len_chars()
    }

    /// The text.
    pub fn text(&self) -> String {
        self.text.to_string()
    }
}

/// Whether a document can read what it keeps under a key.
pub fn is_value(key: &str, bytes: &[u8]) -> bool {
    key == SNAPSHOT_KEY && Snapshot::decode(bytes).is_some()
}

/// Makes a document with this text, unless there is one: then the answer is `Conflict`. `epoch` must never have been used.
pub fn begin(topic: Arc<Topic>, epoch: u64, text: &str, at_ms: u64) -> StoreRequest {
    let change = Change { records: first_records(text, at_ms), ..Change::default() };
    let action = StoreAction::Append { epoch, expected: Cursor::default(), change };
    StoreRequest { topic, action, retention: RETENTION }
}

/// The version that `begin` makes of this text.
pub fn first_version(text: &str) -> u64 {
    first_parts(text).len() as u64
}

fn first_parts(text: &str) -> Vec<&str> {
    parts_of(text, OPERATION_JSON_BYTES_MAX - FRAME_BYTES)
}

/// The records with which a document begins that is made with this text, of which nobody is known to be the author. Each is told
/// to members in one message; of an empty text there is one that does nothing, since a document exists by its records.
pub fn first_records(text: &str, at_ms: u64) -> Vec<StoredRecord> {
    let mut position = 0;
    let parts = first_parts(text);
    let insert = |(part, seq): (&str, u64)| {
        let characters = part.chars().count() as u32;
        let operation = Operation::default().keep(position).insert(part, characters).end();
        position += characters;
        StoredRecord { seq, at_ms, bytes: Record::encode(None, "", &operation) }
    };
    parts.into_iter().zip(1..).map(insert).collect()
}

/// What is left of an operation when its user is forgotten: the text is everybody's.
pub fn without_user(record: &Record<'_>) -> Arc<[u8]> {
    Record::encode(None, "", &record.operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::document_record::Writers;

    fn replay(snapshot: Option<&[u8]>, records: &[StoredRecord]) -> Result<(u64, String), Fault> {
        let mut replay = Replay::begin(snapshot).expect("a snapshot");
        for StoredRecord { seq, bytes, .. } in records {
            replay.add(*seq, bytes)?;
        }
        assert_eq!(replay.length(), replay.text().chars().count());
        Ok((replay.version(), replay.text()))
    }

    fn record(seq: u64, json: &str) -> StoredRecord {
        let operation = Operation::parse(json).expect("an operation");
        StoredRecord { seq, at_ms: 1, bytes: Record::encode(Some("id"), "ann", &operation) }
    }

    #[test]
    fn a_document_begins_with_its_text_in_parts_that_can_be_told() {
        let long = DOCUMENT_BYTES_MAX;
        for (text, parts) in [
            ("", 1),
            ("words\n", 1),
            (&*"\u{1}".repeat(long), 28),
            (&*"🦀".repeat(long / 4), 5),
            (&*"\"".repeat(long), 10),
        ] {
            let records = first_records(text, 7);
            assert_eq!(records.len(), parts, "{:?}", text.chars().next());
            for StoredRecord { bytes, at_ms, .. } in &records {
                let Record { op_id, user, operation } = Record::decode(bytes).expect("a record");
                assert_eq!((op_id, user, *at_ms), (None, "", 7));
                assert!(operation.json_bytes() <= OPERATION_JSON_BYTES_MAX);
            }
            assert_eq!(replay(None, &records), Ok((parts as u64, text.into())));
        }
    }

    #[test]
    fn a_text_comes_about_from_the_last_one_and_what_came_since() {
        let snapshot = Snapshot { version: 2, writers: Writers::default(), text: "hé🦀".into() }.encode();
        let behind = [record(2, r#"[9,"in it already"]"#), record(3, r#"[2,"!",-1]"#), record(4, "[-1]")];
        assert_eq!(replay(Some(&snapshot), &behind), Ok((4, "é!".into())));
        assert_eq!(replay(Some(&snapshot), &behind[2..]), Err(Fault::Gap));
        let beyond = Fault::BeyondEnd { reach: 4, length: 3 };
        assert_eq!(replay(Some(&snapshot), &[record(3, r#"[4,"x"]"#)]), Err(beyond));
        let full = Snapshot { version: 2, writers: Writers::default(), text: "x".repeat(DOCUMENT_BYTES_MAX) }
            .encode();
        let too_long = Fault::TooLong { bytes: DOCUMENT_BYTES_MAX + 1 };
        assert_eq!(replay(Some(&full), &[record(3, r#"["x"]"#)]), Err(too_long));
        let text = "x".repeat(OPERATION_TOLD_BYTES_MAX);
        let large = Operation::default().insert(&text, text.len() as u32).end();
        let large = StoredRecord { seq: 3, at_ms: 1, bytes: Record::encode(None, "", &large) };
        let too_large = Fault::TooLarge { bytes: OPERATION_TOLD_BYTES_MAX + 4 };
        assert_eq!(replay(Some(&snapshot), &[large]), Err(too_large));
        let odd = StoredRecord { seq: 1, at_ms: 1, bytes: [0xFF; 3].into() };
        assert_eq!(replay(Some(&snapshot), &[odd]), Err(Fault::Unreadable));
        assert!(Replay::begin(Some(&[9])).is_none());
        assert!(is_value(SNAPSHOT_KEY, &snapshot) && !is_value(SNAPSHOT_KEY, b"x"));
        assert!(!is_value("read:ann", &snapshot));
    }

    #[test]
    fn nothing_of_a_user_is_left_but_the_text() {
        let of_ann = record(1, r#"["words"]"#);
        let left = without_user(&Record::decode(&of_ann.bytes).expect("a record"));
        let Record { op_id, user, operation } = Record::decode(&left).expect("a record");
        assert_eq!((op_id, user, &*operation.to_json()), (None, "", r#"["words"]"#));
    }
}
