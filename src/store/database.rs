//! The database of the file. The store's thread opens, writes and closes it; others may read meanwhile.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

/// What redb's calls return.
pub(super) type Outcome<T> = Result<T, redb::Error>;

/// The row of `streams`: see `Stream`.
pub(super) type StreamRow = (u64, u64, u64, u64);

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const STREAMS: TableDefinition<'_, &str, StreamRow> = TableDefinition::new("streams");
pub(super) const RECORDS: TableDefinition<'_, (u64, u64), (u64, &[u8])> = TableDefinition::new("records");
pub(super) const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");

/// The entry of `streams`.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub(super) number: u64,
    pub(super) epoch: u64,
    /// The first record that is kept; behind `last`, if none is.
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Stream {
    pub(super) fn of((number, epoch, first, last): StreamRow) -> Self {
        Self { number, epoch, first, last }
    }

    pub(super) fn row(self) -> StreamRow {
        (self.number, self.epoch, self.first, self.last)
    }
}

/// `None`: it has failed, and is to be opened again. Whoever uses it holds the lock, so nobody has the file when it is opened again.
#[derive(Clone, Default)]
pub(super) struct SharedDatabase(Arc<RwLock<Option<Database>>>);

impl SharedDatabase {
    /// Reads or writes.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Database) -> Outcome<T>) -> Outcome<T> {
        let database = self.0.read().unwrap_or_else(PoisonError::into_inner);
        guarded(|| act(database.as_ref().ok_or(redb::Error::DatabaseClosed)?))
    }

    /// Does what needs the file alone.
    pub(super) fn with_all<T>(&self, act: impl FnOnce(&mut Database) -> Outcome<T>) -> Outcome<T> {
        let mut database = self.0.write().unwrap_or_else(PoisonError::into_inner);
        guarded(|| act(database.as_mut().ok_or(redb::Error::DatabaseClosed)?))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn replace(&self, database: Option<Database>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = database;
    }
}

/// redb panics on some files that are damaged: to the relay that is an error like another, and the file is opened again.
pub(super) fn guarded<T>(act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    panic::catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("what is in it does not fit together".into())))
}

/// The tables as they are at one moment.
pub(super) struct Snapshot {
    pub(super) meta: ReadOnlyTable<&'static str, u64>,
    pub(super) streams: ReadOnlyTable<&'static str, StreamRow>,
    pub(super) records: ReadOnlyTable<(u64, u64), (u64, &'static [u8])>,
    pub(super) values: ReadOnlyTable<(&'static str, &'static str), &'static [u8]>,
}

impl Snapshot {
    pub(super) fn of(database: &Database) -> Outcome<Self> {
        let read = database.begin_read()?;
        Ok(Self {
            meta: read.open_table(META)?,
            streams: read.open_table(STREAMS)?,
            records: read.open_table(RECORDS)?,
            values: read.open_table(VALUES)?,
        })
    }

    /// So many numbers of guests are taken.
    pub(super) fn guests(&self) -> Outcome<u64> {
        Ok(self.meta.get("guests")?.map_or(0, |guests| guests.value()))
    }

    pub(super) fn stream(&self, topic: &str) -> Outcome<Option<Stream>> {
        Ok(self.streams.get(topic)?.map(|row| Stream::of(row.value())))
    }

    /// Whether anything is kept about a topic.
    pub(super) fn has(&self, topic: &str) -> Outcome<bool> {
        let is_next = |found: Option<String>| found.as_deref() == Some(topic);
        Ok(self.streams.get(topic)?.is_some() || is_next(self.next_with_values(topic)?))
    }

    /// The first topic with a stream or a value behind `after`, in the order of their names.
    pub(super) fn next_topic(&self, after: Option<&str>) -> Outcome<Option<String>> {
        let from = after.map(just_behind).unwrap_or_default();
        let stream = self.streams.range(&*from..)?.next().transpose()?;
        let stream = stream.map(|(topic, _)| topic.value().to_owned());
        let value = self.next_with_values(&from)?;
        Ok(match (stream, value) {
            (Some(stream), Some(value)) => Some(stream.min(value)),
            (stream, value) => stream.or(value),
        })
    }

    fn next_with_values(&self, from: &str) -> Outcome<Option<String>> {
        let value = self.values.range((from, "")..)?.next().transpose()?;
        Ok(value.map(|(key, _)| key.value().0.to_owned()))
    }
}

/// The least text that is greater.
fn just_behind(text: &str) -> String {
    format!("{text}\0")
}
