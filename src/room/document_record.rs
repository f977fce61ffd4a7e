//! What the store keeps of a document: the operations that made it, and now and then the text that they have made.
//!
//! The record of an operation, whose number is the version that it made:
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | layout: 1 |
//! | 1 | length of `op_id`; 0: none |
//! | 1 | length of the user id; 0: nobody is known to have made it |
//! | | `op_id`, user id, the operation as a JSON list, each UTF-8 |
//!
//! The snapshot, the value under `SNAPSHOT_KEY`:
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | layout: 1 |
//! | 8 | version of the text, big-endian |
//! | 2 | number of writers, big-endian |
//! | | each writer: length of the user id, length of `op_id` (1 byte each), version (8), user id, `op_id` |
//! | | the text, UTF-8 |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::stored::Retention;
use crate::limits::{OP_ID_BYTES_MAX, OPERATIONS_KEPT, USER_ID_BYTES_MAX, WRITERS_MAX};
use crate::memory::Allocated;
use crate::wire::operation::Operation;

/// The key of the snapshot among the values of a document.
pub const SNAPSHOT_KEY: &str = "snapshot";

/// Which operations are kept. Everything behind the last snapshot is among them.
pub const RETENTION: Retention = Retention { records: OPERATIONS_KEPT as u64, since_ms: 0 };

const LAYOUT: u8 = 1;

const _: () = assert!(OP_ID_BYTES_MAX < 256 && USER_ID_BYTES_MAX < 256, "their length is one byte");
const _: () = assert!(WRITERS_MAX < 1 << 16, "their number is two bytes");

/// What the record of an operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Record<'a> {
    pub op_id: Option<&'a str>,
    pub user: &'a str,
    pub operation: Operation,
}

impl<'a> Record<'a> {
    /// As it is kept. User id and `op_id` are not longer than `limits` allows.
    pub fn encode(op_id: Option<&str>, user: &str, operation: &Operation) -> Arc<[u8]> {
        let op_id = op_id.unwrap_or_default();
        let head = [LAYOUT, op_id.len() as u8, user.len() as u8];
        [&head[..], op_id.as_bytes(), user.as_bytes(), operation.to_json().as_bytes()].concat().into()
    }

    /// `None`: it is none, or a newer relay has written it.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let ([LAYOUT, op_id_bytes, user_bytes], texts) = bytes.split_first_chunk()? else { return None };
        let (op_id, texts) = texts.split_at_checked((*op_id_bytes).into())?;
        let (user, operation) = texts.split_at_checked((*user_bytes).into())?;
        let op_id = str::from_utf8(op_id).ok()?;
        Some(Self {
            op_id: (!op_id.is_empty()).then_some(op_id),
            user: str::from_utf8(user).ok()?,
            operation: Operation::read(str::from_utf8(operation).ok()?)?,
        })
    }
}

/// The last operation of each user that named it, so that it is known when it is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    by_user: BTreeMap<Box<str>, (Box<str>, u64)>,
}

impl Writers {
    /// A user has made a version.
    pub fn note(&mut self, user: &str, op_id: &str, version: u64) {
        self.by_user.insert(user.into(), (op_id.into(), version));
        if self.by_user.len() > WRITERS_MAX {
            let oldest = self.by_user.iter().min_by_key(|(_, (_, version))| *version);
            if let Some(user) = oldest.map(|(user, _)| user.clone()) {
                self.by_user.remove(&user);
            }
        }
    }

    /// The version that the user's operation `op_id` made, if that was its last.
    pub fn version_of(&self, user: &str, op_id: &str) -> Option<u64> {
        let (last, version) = self.by_user.get(user)?;
        (**last == *op_id).then_some(*version)
    }

    /// A user is not remembered any more. False: it was not before.
    pub fn forget(&mut self, user: &str) -> bool {
        self.by_user.remove(user).is_some()
    }

    /// Who is remembered, in the order of user ids: user, `op_id`, version.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.by_user.iter().map(|(user, (op_id, version))| (&**user, &**op_id, *version))
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let texts =
            self.by_user.iter().map(|(user, (op_id, _))| user.allocated_bytes() + op_id.allocated_bytes());
        self.by_user.allocated_bytes() + texts.sum::<usize>()
    }
}

/// A document as it was at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Snapshot {
    pub version: u64,
    pub writers: Writers,
    pub text: String,
}

impl Snapshot {
    /// As it is kept.
    pub fn encode(&self) -> Arc<[u8]> {
        let mut bytes = vec![LAYOUT];
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&(self.writers.by_user.len() as u16).to_be_bytes());
        for (user, (op_id, version)) in &self.writers.by_user {
            bytes.extend_from_slice(&[user.len() as u8, op_id.len() as u8]);
            bytes.extend_from_slice(&version.to_be_bytes());
            bytes.extend_from_slice(user.as_bytes());
            bytes.extend_from_slice(op_id.as_bytes());
        }
        bytes.extend_from_slice(self.text.as_bytes());
        bytes.into()
    }

    /// `None`: it is none, or a newer relay has written it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([LAYOUT], rest) = bytes.split_first_chunk()? else { return None };
        let (version, rest) = rest.split_first_chunk()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let mut writers = Writers::default();
        for _ in 0..u16::from_be_bytes(*count) {
            let ([user_bytes, op_id_bytes], behind) = rest.split_first_chunk()?;
            let (version, behind) = behind.split_first_chunk()?;
            let (user, behind) = behind.split_at_checked((*user_bytes).into())?;
            let (op_id, behind) = behind.split_at_checked((*op_id_bytes).into())?;
            let (user, op_id) = (str::from_utf8(user).ok()?, str::from_utf8(op_id).ok()?);
            writers.by_user.insert(user.into(), (op_id.into(), u64::from_be_bytes(*version)));
            rest = behind;
        }
        let text = str::from_utf8(rest).ok()?.into();
        Some(Self { version: u64::from_be_bytes(*version), writers, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let operation = Operation::parse(r#"[2,"hé",-1]"#).unwrap();
        for (op_id, user) in [(None, "ann"), (Some("id-1"), ""), (Some("ü"), "bø")] {
            let bytes = Record::encode(op_id, user, &operation);
            let record = Record { op_id, user, operation: operation.clone() };
            assert_eq!(Record::decode(&bytes), Some(record));
            for end in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..end]), None, "cut at {end}");
            }
        }
        let mut newer = Record::encode(None, "ann", &operation).to_vec();
        newer[0] = 2;
        assert_eq!(Record::decode(&newer), None);
    }

    #[test]
    fn a_snapshot_is_the_text_and_who_wrote_last() {
        let mut writers = Writers::default();
        writers.note("ann", "a1", 3);
        writers.note("bø", "b1", 7);
        writers.note("ann", "a2", 9);
        let snapshot = Snapshot { version: 9, writers, text: "hé🦀".into() };
        let bytes = snapshot.encode();
        let read = Snapshot::decode(&bytes).unwrap();
        assert_eq!(read, snapshot);
        assert_eq!(read.writers.version_of("ann", "a2"), Some(9));
        assert_eq!(read.writers.version_of("ann", "a1"), None, "it was not the last");
        assert_eq!(read.writers.version_of("cy", "a2"), None);
        for end in 0..bytes.len() - "hé🦀".len() {
            assert_eq!(Snapshot::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Snapshot::decode(&bytes[..bytes.len() - 1]), None, "half a letter");
    }

    #[test]
    fn of_too_many_writers_the_oldest_is_forgotten() {
        let mut writers = Writers::default();
        for version in 1..=WRITERS_MAX as u64 + 1 {
            writers.note(&format!("user-{version}"), "id", version);
        }
        assert_eq!(writers.by_user.len(), WRITERS_MAX);
        assert_eq!((writers.version_of("user-1", "id"), writers.version_of("user-2", "id")), (None, Some(2)));
    }
}
