//! The text of a document, and the operations that made it, as far as they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use ropey::Rope;

use super::document_record::{Record, SNAPSHOT_KEY, Snapshot, Writers};
use super::history::{History, Kept, Missed};
use super::ot::{self, Tie};
use super::stored::{Cursor, StoredRecord, StoredValue, StreamEnd};
use crate::limits::{
    DOCUMENT_BYTES_MAX, OPERATION_TOLD_BYTES_MAX, OPERATIONS_KEPT, OPERATIONS_KEPT_BYTES,
    PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX, SNAPSHOT_BYTES, SNAPSHOT_OPERATIONS, TRANSFORM_COMPONENTS_MAX,
};
use crate::memory::Allocated;
use crate::wire::json::{object_of, parts_of};
use crate::wire::operation::{Operation, told};
use crate::wire::push::CursorPlace;
use crate::{impossible, planted};

/// See the module documentation. All of it is on disk.
#[derive(Debug)]
pub(super) struct DocumentText {
    /// Names the stream of operations.
    pub(super) epoch: u64,
    /// Where the store says that the stream ends.
    pub(super) cursor: Cursor,
    text: Rope,
    text_memory: TextMemory,
    /// The last operations: their numbers are the versions that they made.
    log: History<Made>,
    log_bytes: usize,
    by_op_id: BTreeMap<Box<str>, u64>,
    writers: Writers,
    /// What came since the last snapshot.
    unsaved: Unsaved,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unsaved {
    operations: u64,
    bytes: usize,
}

/// An operation that made a version.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) version: u64,
    pub(super) user: Box<str>,
    pub(super) op_id: Option<Box<str>>,
    pub(super) operation: Operation,
    /// Of the text before it, in characters.
    length_before: u32,
    /// Of its record.
    bytes: usize,
}

impl Made {
    /// The payload by which members are told of it.
    pub(super) fn told(&self) -> String {
        told(&self.operation, self.version, &self.user, self.op_id.as_deref())
    }

    pub(super) fn to_record(&self, at_ms: u64) -> StoredRecord {
        let bytes = Record::encode(self.op_id.as_deref(), &self.user, &self.operation);
        StoredRecord { seq: self.version, at_ms, bytes }
    }
}

impl Kept for Made {
    fn heap_bytes(&self) -> usize {
        // The id once more, as a key.
        self.user.allocated_bytes() + 2 * self.op_id.allocated_bytes() + self.operation.heap_bytes()
    }
}

/// What is to be written next: operations behind each other, and the text that they make.
#[derive(Debug)]
pub(super) struct Draft {
    text: Rope,
    pub(super) made: Vec<Made>,
    /// Components that were looked at for it.
    pub(super) components: usize,
    pub(super) bytes: usize,
}

/// Why an operation is not done, or a cursor is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TooOld,
    Ahead,
    /// It reaches so far, and the text of its version has so many characters.
    OutOfRange {
        reach: u64,
        length: u32,
    },
    /// The text would have so many bytes.
    TooLong {
        bytes: usize,
    },
}

/// What has become of an operation that was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentBefore {
    /// It made this version.
    Made(u64),
    /// Another user's has this `op_id`.
    ByAnother,
}

impl DocumentText {
    /// Nothing was ever written. `epoch` must never have been used.
    pub(super) fn new(epoch: u64) -> Self {
        let text = Rope::new();
        Self {
            epoch,
            cursor: Cursor::default(),
            text_memory: TextMemory::of(&text),
            text,
            log: History::new(OPERATIONS_KEPT),
            log_bytes: 0,
            by_op_id: BTreeMap::new(),
            writers: Writers::default(),
            unsaved: Unsaved::default(),
        }
    }

    /// As the store knows it. `None`: what is there makes no text.
    pub(super) fn load(end: StreamEnd, records: &[StoredRecord], values: &[StoredValue]) -> Option<Self> {
        let StreamEnd { epoch, seq, cursor } = end;
        let snapshot = read_snapshot(values).filter(|snapshot| snapshot.version <= seq)?;
        let mut text = Self { epoch, cursor, ..Self::new(epoch) };
        text.text = Rope::from_str(&snapshot.text);
        text.writers = snapshot.writers;
        let first_unsaved = records.partition_point(|record| record.seq <= snapshot.version);
        let (before, unsaved) = records.split_at(first_unsaved);
        let before = text.made_before(before);
        let behind = snapshot.version - before.len() as u64;
        text.log = History::after(OPERATIONS_KEPT, behind);
        before.into_iter().for_each(|made| text.keep(made));
        for record in unsaved {
            let Record { op_id, user, operation } = Record::decode(&record.bytes)?;
            let length_before = text.length();
            if record.seq != text.version() + 1 || operation.reach() > length_before.into() {
                return None;
            }
            ot::apply(&operation, &mut text.text);
            let (version, bytes) = (record.seq, record.bytes.len());
            let (user, op_id) = (user.into(), op_id.map(Into::into));
            text.take(Made { version, user, op_id, operation, length_before, bytes });
        }
        text.text_memory = TextMemory::of(&text.text);
        (text.version() == seq).then_some(text)
    }

    /// The operations before a snapshot, as far as they can be read: the text before each is known by its length only.
    fn made_before(&self, records: &[StoredRecord]) -> Vec<Made> {
        let mut length = i64::from(self.length());
        let mut made = Vec::new();
        for record in records.iter().rev() {
            let Some(Record { op_id, user, operation }) = Record::decode(&record.bytes) else { break };
            let (inserted, deleted) = operation.changes();
            length += deleted as i64 - inserted as i64;
            let Ok(length_before) = u32::try_from(length) else { break };
            let (version, bytes) = (record.seq, record.bytes.len());
            let (user, op_id) = (user.into(), op_id.map(Into::into));
            made.push(Made { version, user, op_id, operation, length_before, bytes });
        }
        made.reverse();
        made
    }

    /// Number of operations that made it.
    pub(super) fn version(&self) -> u64 {
        self.log.seq()
    }

    /// In characters.
    pub(super) fn length(&self) -> u32 {
        self.text.len_chars() as u32
    }

    /// The parts of `doc_state`: payloads.
    pub(super) fn parts(&self) -> Vec<Arc<str>> {
        let text = self.text.to_string();
        let contents = parts_of(&text, TEXT_BYTES_MAX - STATE_FRAME_BYTES);
        let parts = contents.len() as u64;
        let part = |(content, part): (&str, u64)| {
            let payload = object_of(content.len() + STATE_FRAME_BYTES, |state| {
                state.number("version", self.version()).plain("epoch", self.epoch).text("content", content);
                state.number("part", part).number("parts", parts);
            });
            payload.into()
        };
        contents.into_iter().zip(1..).map(part).collect()
    }

    /// A page of the operations behind a version: a JSON array, and whether there are more.
    pub(super) fn page(&self, after: u64) -> Result<(String, bool), Unfit> {
        let mut operations = String::from("[");
        for made in self.since(after)? {
            let told = made.told();
            if operations.len() + told.len() + STATE_FRAME_BYTES > TEXT_BYTES_MAX && operations.len() > 1 {
                return Ok((operations + "]", !planted!(EndsPages)));
            }
            if operations.len() > 1 {
                operations.push(',');
            }
            operations.push_str(&told);
        }
        Ok((operations + "]", false))
    }

    fn since(&self, version: u64) -> Result<impl Iterator<Item = &Made>, Unfit> {
        match self.log.since(version) {
            Missed::Replay(made) => Ok(made),
            Missed::TooOld => Err(Unfit::TooOld),
            Missed::Ahead => Err(Unfit::Ahead),
        }
    }

    /// Length of the text at a version behind which everything is kept.
    fn length_at(&self, version: u64) -> u32 {
        self.log.get(version + 1).map_or(self.length(), |next| next.length_before)
    }

    /// What a user has sent under this id.
    pub(super) fn sent_before(&self, user: &str, op_id: &str) -> Option<SentBefore> {
        if planted!(ForgetsOpIds) {
            return None;
        }
        if let Some(made) = self.by_op_id.get(op_id).and_then(|version| self.log.get(*version)) {
            let is_own = *made.user == *user;
            return Some(if is_own { SentBefore::Made(made.version) } else { SentBefore::ByAnother });
        }
        self.writers.version_of(user, op_id).map(SentBefore::Made)
    }

    /// Where a cursor of `version` is now.
    pub(super) fn place_now(
        &self,
        place: CursorPlace,
        user: &str,
        version: u64,
    ) -> Result<CursorPlace, Unfit> {
        let made = self.since(version)?;
        let (length, reach) = (self.length_at(version), place.selection_end.max(Some(place.position)));
        if let Some(reach) = reach.filter(|reach| *reach > length) {
            return Err(Unfit::OutOfRange { reach: reach.into(), length });
        }
        let (mut place, mut components) = (place, 0);
        for made in made {
            components += made.operation.components().len();
            if components > TRANSFORM_COMPONENTS_MAX {
                return Err(Unfit::TooOld);
            }
            place = made.moves(place, user);
        }
        Ok(place)
    }

    pub(super) fn draft(&self) -> Draft {
        Draft { text: self.text.clone(), made: Vec::new(), components: 0, bytes: 0 }
    }

    /// Puts an operation that was made against `version` behind what is in the draft. What that costs is in the draft, whether it
    /// can be done or not.
    pub(super) fn add(
        &self,
        draft: &mut Draft,
        whose: (&str, Option<&str>),
        operation: &Operation,
        version: u64,
    ) -> Result<(), Unfit> {
        let mut looked_at = operation.components().len();
        let added = self.transform_and_add(&mut looked_at, draft, whose, operation, version);
        draft.components += looked_at;
        added
    }

    fn transform_and_add(
        &self,
        looked_at: &mut usize,
        draft: &mut Draft,
        (user, op_id): (&str, Option<&str>),
        operation: &Operation,
        version: u64,
    ) -> Result<(), Unfit> {
        let made = self.since(version)?;
        let (length, reach) = (self.length_at(version), operation.reach());
        if reach > length.into() {
            return Err(Unfit::OutOfRange { reach, length });
        }
        let mut operation = operation.clone();
        for other in made.skip(usize::from(planted!(TransformsOverTooFew))).chain(&draft.made) {
            if other.operation.components().is_empty() {
                continue;
            }
            *looked_at += operation.components().len() + other.operation.components().len();
            if *looked_at > TRANSFORM_COMPONENTS_MAX {
                return Err(Unfit::TooOld);
            }
            let tie = if planted!(LaterStandsLeft) { Tie::Left } else { Tie::Right };
            operation = ot::transform(&operation, &other.operation, tie);
        }
        if operation.json_bytes() > OPERATION_TOLD_BYTES_MAX {
            return Err(Unfit::TooOld);
        }
        let mut text = draft.text.clone();
        let length_before = text.len_chars() as u32;
        if operation.reach() > length_before.into() {
            impossible!("what reaches no further than its text does not after it is transformed");
            return Err(Unfit::TooOld);
        }
        ot::apply(&operation, &mut text);
        if text.len_bytes() > DOCUMENT_BYTES_MAX {
            return Err(Unfit::TooLong { bytes: text.len_bytes() });
        }
        let version = self.version() + draft.made.len() as u64 + 1;
        let (user, op_id) = (user.into(), op_id.map(Into::into));
        let mut made = Made { version, user, op_id, operation, length_before, bytes: 0 };
        made.bytes = made.to_record(0).bytes.len();
        draft.text = text;
        draft.bytes += made.bytes;
        draft.made.push(made);
        Ok(())
    }

    /// The text that a draft makes, if it is time to write it anew.
    pub(super) fn snapshot_with(&self, draft: &Draft) -> Option<StoredValue> {
        let operations = self.unsaved.operations + draft.made.len() as u64;
        if operations < SNAPSHOT_OPERATIONS && self.unsaved.bytes + draft.bytes < SNAPSHOT_BYTES {
            return None;
        }
        let mut writers = self.writers.clone();
        draft.made.iter().for_each(|made| note(&mut writers, made));
        if planted!(SavesNoWriters) {
            writers = Writers::default();
        }
        let text = if planted!(SavesTextOfBefore) { &self.text } else { &draft.text };
        let version = self.version() + draft.made.len() as u64;
        let snapshot = Snapshot { version, writers, text: text.to_string() };
        Some(StoredValue { key: SNAPSHOT_KEY.into(), bytes: Some(snapshot.encode()) })
    }

    /// A draft is on disk. `saved`: its text, too.
    pub(super) fn commit(&mut self, draft: Draft, saved: bool) {
        self.text = draft.text;
        if self.text.len_bytes().abs_diff(self.text_memory.text_bytes) >= TEXT_GROWTH_COUNTED {
            self.text_memory = TextMemory::of(&self.text);
        }
        draft.made.into_iter().for_each(|made| self.take(made));
        if saved {
            self.unsaved = Unsaved::default();
        }
    }

    /// An operation made the next version.
    fn take(&mut self, made: Made) {
        note(&mut self.writers, &made);
        self.unsaved.operations += 1;
        self.unsaved.bytes += made.bytes;
        self.keep(made);
    }

    fn keep(&mut self, made: Made) {
        self.log_bytes += made.bytes;
        if let Some(op_id) = &made.op_id {
            self.by_op_id.insert(op_id.clone(), made.version);
        }
        let (_, forgotten) = self.log.push(|_| made);
        self.forget(forgotten);
        while self.log_bytes.max(self.log.heap_bytes()) > OPERATIONS_KEPT_BYTES {
            let oldest = self.log.forget_oldest();
            self.forget(oldest);
        }
    }

    fn forget(&mut self, forgotten: Option<Made>) {
        let Some(made) = forgotten else { return };
        self.log_bytes -= made.bytes;
        if let Some(op_id) = made.op_id
            && self.by_op_id.get(&op_id) == Some(&made.version)
        {
            self.by_op_id.remove(&op_id);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.text_memory.bytes
            + self.log.heap_bytes()
            + self.by_op_id.allocated_bytes()
            + self.writers.heap_bytes()
    }
}

impl Made {
    /// Where the cursor of a user is behind it.
    pub(super) fn moves(&self, place: CursorPlace, user: &str) -> CursorPlace {
        let moved = |position| ot::move_cursor(position, &self.operation, *self.user == *user);
        CursorPlace { position: moved(place.position), selection_end: place.selection_end.map(moved) }
    }
}

fn note(writers: &mut Writers, made: &Made) {
    if let Some(op_id) = &made.op_id {
        writers.note(&made.user, op_id, made.version);
    }
}

/// The text that was written last; nothing, if none was. `None`: it cannot be read.
fn read_snapshot(values: &[StoredValue]) -> Option<Snapshot> {
    let value =
        values.iter().find(|value| *value.key == *SNAPSHOT_KEY).and_then(|value| value.bytes.as_ref());
    value.map_or(Some(Snapshot::default()), |bytes| Snapshot::decode(bytes))
}

/// What a rope takes: a tree of nodes that are all of one size. They are counted when the text has grown or shrunk by so much,
/// because a count walks over all of them.
#[derive(Clone, Copy, Debug)]
struct TextMemory {
    /// Of the text that was counted.
    text_bytes: usize,
    bytes: usize,
}

const TEXT_GROWTH_COUNTED: usize = 4 * 1024;

impl TextMemory {
    fn of(text: &Rope) -> Self {
        const NODE_BYTES: usize = 1024;
        const CHILDREN: usize = 16;
        let leaves = text.chunks().count().max(1);
        let inner = if leaves > 1 { leaves.div_ceil(CHILDREN) } else { 0 };
        Self { text_bytes: text.len_bytes(), bytes: (leaves + inner) * NODE_BYTES }
    }
}

/// What a payload has besides the text, or the operations, in it.
const STATE_FRAME_BYTES: usize = 128;
