//! A user is forgotten, in all topics: what the user said, edited and deleted, and what is kept about the user.

use std::sync::Arc;

use super::database::{Outcome, Snapshot, Stream};
use super::document_lines::is_document;
use super::file::{StoreFile, Tables};
use crate::ids::StreamPosition;
use crate::limits::TOOL_BATCH_RECORDS;
use crate::room::chat_record::{Kind, Record};
use crate::room::document_record::{self, SNAPSHOT_KEY};
use crate::room::{chat_archive, document_archive};

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Erased {
    /// Messages whose words were still there.
    pub messages: u64,
    /// Messages that had been deleted, and named the user still.
    pub deleted: u64,
    pub edits: u64,
    /// Deletions that the user did: they stay, without the user.
    pub deletions: u64,
    /// Read markers, mutes and bans.
    pub values: u64,
    /// Operations of documents: they stay, and nobody has done them.
    pub operations: u64,
    /// Documents that remembered the user's last operation.
    pub writers: u64,
    /// Topics in which something was found.
    pub topics: u64,
    /// Records, and texts of documents, that cannot be read: nobody knows whose they are.
    pub unreadable: u64,
}

impl Erased {
    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Message => self.messages += 1,
            Kind::Erased => self.deleted += 1,
            Kind::Edited | Kind::Replaced => self.edits += 1,
            Kind::Deleted => self.deletions += 1,
        }
    }

    fn found(&self) -> u64 {
        let in_rooms = self.messages + self.deleted + self.edits + self.deletions + self.values;
        in_rooms + self.operations + self.writers
    }
}

/// Erases a user. `progress` is told how many records it has looked at.
pub fn erase_user(file: &StoreFile, user: &str, progress: &mut dyn FnMut(u64)) -> Outcome<Erased> {
    let (mut erased, mut looked_at) = (Erased::default(), 0);
    let mut after = None;
    while let Some(topic) = file.snapshot(|snapshot| snapshot.next_topic(after.as_deref()))? {
        let before = erased.found();
        if let Some(stream) = file.snapshot(|snapshot| snapshot.stream(&topic))? {
            let mut next = Some(stream.first);
            while let Some(from) = next {
                let read = |snapshot: &Snapshot| {
                    Batch::read(snapshot, stream, from, |bytes, id| {
                        left_of_record(&topic, (bytes, id), user, &mut erased)
                    })
                };
                let batch = file.snapshot(read)?;
                looked_at += batch.looked_at;
                progress(looked_at);
                next = batch.next;
                batch.write(file, stream)?;
            }
        }
        if is_document(&topic) {
            erase_writer(file, &topic, user, &mut erased)?;
        } else {
            erased.values += erase_values(file, &topic, user)?;
        }
        erased.topics += u64::from(erased.found() > before);
        after = Some(topic);
    }
    Ok(erased)
}

/// Some records of a stream, as they are from now on.
#[derive(Default)]
struct Batch {
    changed: Vec<(u64, u64, Arc<[u8]>)>,
    looked_at: u64,
    /// Where the next one begins.
    next: Option<u64>,
}

impl Batch {
    fn read(
        snapshot: &Snapshot,
        stream: Stream,
        from: u64,
        mut left_of: impl FnMut(&[u8], StreamPosition) -> Option<Arc<[u8]>>,
    ) -> Outcome<Self> {
        let mut batch = Self::default();
        if from > stream.last {
            return Ok(batch);
        }
        for entry in snapshot.records.range((stream.number, from)..=(stream.number, stream.last))? {
            let (key, value) = entry?;
            let (seq, (at_ms, bytes)) = (key.value().1, value.value());
            if batch.looked_at == TOOL_BATCH_RECORDS as u64 {
                batch.next = Some(seq);
                break;
            }
            batch.looked_at += 1;
            let left = left_of(bytes, StreamPosition { epoch: stream.epoch, seq });
            batch.changed.extend(left.map(|left| (seq, at_ms, left)));
        }
        Ok(batch)
    }

    fn write(&self, file: &StoreFile, stream: Stream) -> Outcome<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        file.write(|tables: &mut Tables<'_>| {
            for (seq, at_ms, bytes) in &self.changed {
                tables.records.insert((stream.number, *seq), (*at_ms, &**bytes))?;
            }
            Ok(())
        })
    }
}

/// What a record is from now on; `None`: it is not the user's, or nobody knows.
fn left_of_record(
    topic: &str,
    (bytes, id): (&[u8], StreamPosition),
    user: &str,
    erased: &mut Erased,
) -> Option<Arc<[u8]>> {
    if is_document(topic) {
        let Some(record) = document_record::Record::decode(bytes) else {
            erased.unreadable += 1;
            return None;
        };
        let is_of_user = record.user == user;
        erased.operations += u64::from(is_of_user);
        return is_of_user.then(|| document_archive::without_user(&record));
    }
    let Some(record) = Record::decode(bytes) else {
        erased.unreadable += 1;
        return None;
    };
    if record.user != user {
        return None;
    }
    erased.count(record.kind);
    Some(chat_archive::without_user(&record, id))
}

/// A document does not remember any more which operation was the user's last.
fn erase_writer(file: &StoreFile, topic: &str, user: &str, erased: &mut Erased) -> Outcome<()> {
    let text = file.snapshot(|snapshot| {
        let value = snapshot.values.get((topic, SNAPSHOT_KEY))?;
        Ok(value.map(|value| document_record::Snapshot::decode(value.value())))
    })?;
    match text {
        None => Ok(()),
        Some(None) => {
            erased.unreadable += 1;
            Ok(())
        }
        Some(Some(mut text)) => {
            if !text.writers.forget(user) {
                return Ok(());
            }
            erased.writers += 1;
            file.write(|tables| {
                tables.values.insert((topic, SNAPSHOT_KEY), &*text.encode())?;
                Ok(())
            })
        }
    }
}

/// Returns how many there were.
fn erase_values(file: &StoreFile, topic: &str, user: &str) -> Outcome<u64> {
    let keys = chat_archive::keys_about(user);
    let mut found = Vec::new();
    for key in &keys {
        if file.snapshot(|snapshot| Ok(snapshot.values.get((topic, &**key))?.is_some()))? {
            found.push(key);
        }
    }
    if !found.is_empty() {
        file.write(|tables| {
            for key in &found {
                tables.values.remove((topic, &***key))?;
            }
            Ok(())
        })?;
    }
    Ok(found.len() as u64)
}
