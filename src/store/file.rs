//! The file: streams of records in tables of redb. A batch of appends is one commit, and one `fsync` or two.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | number: `schema`, `guests`, `streams` |
//! | `streams` | topic, as clients write it | number of the stream, epoch, first record that is kept, last record |
//! | `records` | number of the stream, `seq` | when it was said (unix ms), bytes of the topic |
//! | `values` | topic, key of the topic | bytes of the topic |

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, ReadableTable, Table, WriteTransaction};

use super::database::{
    META, Outcome, RECORDS, STREAMS, SharedDatabase, Snapshot, Stream, StreamRow, VALUES, guarded,
};
use super::error::{StoreError, is_full};
use super::export::StoreReader;
use super::hold::{Draining, Hold, Taken};
use super::settings::StoreSettings;
use crate::limits::{STORE_TRIM_EVERY, STORE_TRIM_MAX};
use crate::room::stored::{
    Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StoredValue,
    StreamEnd, Unavailable,
};

/// Version of the tables.
const SCHEMA: u64 = 2;

/// Name of the file in the data directory.
const FILE: &str = "corelay.redb";

/// See the module documentation.
pub struct StoreFile {
    settings: StoreSettings,
    /// `None`: it has failed, and is to be opened again; or another process still has it; or this one has given it away.
    database: SharedDatabase,
    hold: Keep,
}

/// Who may use the file.
enum Keep {
    /// This process, also while the file is closed. `None`: it is in memory.
    Ours(Option<Hold>),
    /// Still another process, which is draining.
    Theirs(Draining),
    /// This process no more.
    Given,
}

impl StoreFile {
    /// Opens a file that is there, for this process alone.
    pub fn open_existing(settings: StoreSettings) -> Result<Self, StoreError> {
        match settings.directory() {
            Some(path) if !path.join(FILE).exists() => Err(StoreError::NoStore { path: path.into() }),
            Some(_) | None => Self::open_alone(settings),
        }
    }

    /// Opens the file, or makes it, for this process alone. It does not wait for a relay that is draining.
    pub fn open_alone(settings: StoreSettings) -> Result<Self, StoreError> {
        let file = Self::open(settings)?;
        match (file.held_by(), file.settings.directory()) {
            (Some(Draining { process, .. }), Some(path)) => {
                Err(StoreError::InUse { path: path.into(), holder: format!(" (process {process})") })
            }
            _ => Ok(file),
        }
    }

    /// Opens the file, or makes it. If a relay that is draining still has it, it is not open yet: see `held_by`.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let mut file = Self { settings, database: SharedDatabase::default(), hold: Keep::Ours(None) };
        if let Some(path) = file.settings.directory() {
            // What is said is not for everybody on the machine.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| StoreError::NoDirectory { path: path.into(), source })?;
            match Hold::take_soon(path)? {
                Taken::Ours(hold) => file.hold = Keep::Ours(Some(hold)),
                Taken::Draining(draining) => {
                    file.hold = Keep::Theirs(draining);
                    return Ok(file);
                }
            }
        }
        file.open_first()?;
        Ok(file)
    }

    /// The relay that still has the file.
    pub fn held_by(&self) -> Option<Draining> {
        match self.hold {
            Keep::Theirs(draining) => Some(draining),
            Keep::Ours(_) | Keep::Given => None,
        }
    }

    /// Opens the file if the other relay has given it away. After an error it may be tried again.
    pub fn take_over(&mut self) -> Result<(), StoreError> {
        let Some(path) = self.settings.directory() else { return Ok(()) };
        match Hold::take(path)? {
            Taken::Draining(draining) => self.hold = Keep::Theirs(draining),
            Taken::Ours(hold) => {
                if let Err(error) = self.open_first() {
                    self.database.replace(None);
                    return Err(error);
                }
                self.hold = Keep::Ours(Some(hold));
            }
        }
        Ok(())
    }

    /// Lets the next relay know that this one ends, and which numbers of guests it has not taken.
    pub fn tell_draining(&mut self, guests: u64) -> io::Result<()> {
        match &mut self.hold {
            Keep::Ours(Some(hold)) => hold.tell_draining(guests),
            Keep::Ours(None) | Keep::Theirs(_) | Keep::Given => Ok(()),
        }
    }

    /// Closes the file for good. The next relay may have it.
    pub fn give_away(&mut self) {
        self.database.replace(None);
        self.hold = Keep::Given;
    }

    /// Whether this process has the file no more.
    pub fn is_given_away(&self) -> bool {
        matches!(self.hold, Keep::Given)
    }

    fn open_first(&mut self) -> Result<(), StoreError> {
        if self.settings.directory().is_some() {
            // A compaction that was killed leaves it. Mostly it is not there.
            let _ = fs::remove_file(self.path_of_new());
        }
        self.open_database(true).map_err(|error| self.explain(error))?;
        let schema = self.begin().map_err(|error| self.explain(error))?;
        if let Some(path) = self.settings.directory() {
            // A file that is new is in its directory, too, when the power fails.
            let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
            synced.map_err(|source| StoreError::NotWritable { path: path.into(), source })?;
        }
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: self.path(), found: schema, known: SCHEMA });
        }
        if schema < SCHEMA {
            return Err(StoreError::Older { path: self.path(), found: schema, known: SCHEMA });
        }
        Ok(())
    }

    /// Where it is; empty: in memory.
    pub(super) fn path(&self) -> PathBuf {
        self.settings.directory().map(|path| path.join(FILE)).unwrap_or_default()
    }

    /// Where it is written anew.
    pub(super) fn path_of_new(&self) -> PathBuf {
        self.path().with_extension("redb.new")
    }

    /// What an error means for whoever starts the relay.
    pub fn explain(&self, error: redb::Error) -> StoreError {
        StoreError::of(self.path(), error)
    }

    /// Whether it can be used.
    pub fn is_open(&self) -> bool {
        self.database.is_open()
    }

    /// Opens it again after it has failed. A file that is gone is not made anew: it would be empty.
    pub fn reopen(&mut self) -> Outcome<()> {
        if self.is_open() {
            // It is in memory, and what is there is all there is.
            return Ok(());
        }
        self.open_database(false)
    }

    fn open_database(&self, may_make: bool) -> Outcome<()> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.settings.cache_bytes);
        let database = match self.settings.directory() {
            None => Ok(builder.create_with_backend(InMemoryBackend::new())?),
            Some(path) => {
                let path = path.join(FILE);
                check_is_no_other_file(&path)?;
                let mut options = fs::OpenOptions::new();
                options.read(true).write(true).create(may_make).truncate(false).mode(0o600);
                let file = options.open(path)?;
                if !may_make && file.metadata()?.len() == 0 {
                    return Err(redb::Error::Corrupted("it is empty".into()));
                }
                guarded(|| Ok(builder.create_with_backend(FileBackend::new(file)?)?))
            }
        };
        self.database.replace(Some(database?));
        Ok(())
    }

    /// It has failed: nothing is done with it before it is opened again. What is in memory would be gone.
    pub fn close(&mut self) {
        if self.settings.directory().is_some() {
            self.database.replace(None);
        }
    }

    /// What others may read while this is written to.
    pub fn reader(&self) -> StoreReader {
        StoreReader { database: self.database.clone() }
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let path = self.path();
        let metadata = fs::metadata(&path).map_err(|error| StoreError::of(path, redb::Error::Io(error)));
        Ok(metadata?.len())
    }

    /// What redb says of the file. False: it was not whole, and was repaired.
    pub(super) fn check_integrity(&mut self) -> Outcome<bool> {
        self.database.with_all(|database| Ok(database.check_integrity()?))
    }

    /// Reads what is there now.
    pub(super) fn snapshot<T>(&self, act: impl FnOnce(&Snapshot) -> Outcome<T>) -> Outcome<T> {
        self.database.with(|database| act(&Snapshot::of(database)?))
    }

    /// Commits what `act` writes.
    pub(super) fn write<T>(&self, act: impl FnOnce(&mut Tables<'_>) -> Outcome<T>) -> Outcome<T> {
        self.database.with(|database| {
            let mut write = database.begin_write()?;
            // A crash is repaired in a moment then, however large the file is.
            write.set_quick_repair(true);
            let outcome = act(&mut Tables::of(&write)?)?;
            write.commit()?;
            Ok(outcome)
        })
    }

    /// Makes the tables, if they are not there. Returns the version of those that are.
    fn begin(&self) -> Outcome<u64> {
        self.database.with(|database| {
            let mut write = database.begin_write()?;
            write.set_quick_repair(true);
            let schema = {
                let mut meta = write.open_table(META)?;
                let schema = meta.get("schema")?.map(|schema| schema.value());
                if schema.is_none() {
                    meta.insert("schema", SCHEMA)?;
                }
                schema.unwrap_or(SCHEMA)
            };
            if schema != SCHEMA {
                write.abort()?;
                return Ok(schema);
            }
            Tables::of(&write)?;
            write.commit()?;
            Ok(schema)
        })
    }

    /// Takes `count` numbers of guests that nobody has had or will have: those above what is returned.
    pub fn take_guests(&self, count: u64) -> Outcome<u64> {
        self.write(|tables| {
            let before = tables.meta.get("guests")?.map_or(0, |guests| guests.value());
            tables.meta.insert("guests", before + count)?;
            Ok(before)
        })
    }

    /// Does what is to be written, in one commit: all of it is on disk then, or nothing. Answers in the same order.
    pub fn append(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        self.write(|tables| requests.iter().map(|request| tables.append(request)).collect())
    }

    /// Answers what only reads, in order.
    pub fn read(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        self.database.with(|database| {
            let snapshot = Snapshot::of(database)?;
            requests.iter().map(|request| answer(&snapshot, request)).collect()
        })
    }

    /// What has become of appends whose commit has failed, after the file was opened again.
    pub fn settle(&self, requests: &[StoreRequest], why: Unavailable) -> Outcome<Vec<StoreAnswer>> {
        self.database.with(|database| {
            let snapshot = Snapshot::of(database)?;
            requests.iter().map(|request| settle(&snapshot, request, why)).collect()
        })
    }
}

/// The file is closed before another process may have it, also if there are readers.
impl Drop for StoreFile {
    fn drop(&mut self) {
        self.database.replace(None);
    }
}

fn answer(
    snapshot: &Snapshot,
    StoreRequest { topic, action, retention }: &StoreRequest,
) -> Outcome<StoreAnswer> {
    let topic = topic.to_string();
    let stream = snapshot.stream(&topic)?;
    let page = |before: u64, size: PageSize| match stream {
        Some(stream) => page(&snapshot.records, stream, before, size, *retention),
        None => Ok((Vec::new(), false)),
    };
    match action {
        StoreAction::Load { page: size } => {
            let end = |Stream { epoch, last, .. }| StreamEnd { epoch, seq: last, cursor: Cursor(last) };
            let (records, _) = page(u64::MAX, *size)?;
            let values = values_of(&snapshot.values, &topic)?;
            Ok(StoreAnswer::Loaded { stream: stream.map(end), records, values })
        }
        StoreAction::Read { before, page: size } => {
            let (records, more) = page(*before, *size)?;
            Ok(StoreAnswer::Page { records, more })
        }
        StoreAction::Append { .. } => Ok(StoreAnswer::Refused(Unavailable::Failed)),
    }
}

fn settle(snapshot: &Snapshot, request: &StoreRequest, why: Unavailable) -> Outcome<StoreAnswer> {
    let topic = request.topic.to_string();
    let stream = snapshot.stream(&topic)?;
    let last = stream.map_or(0, |stream| stream.last);
    let StoreAction::Append { epoch, expected, change } = &request.action else {
        return Ok(StoreAnswer::Refused(why));
    };
    // Of those who began it at once, a topic and an operator, one was first: the stream has its name.
    let is_own = *expected != Cursor::default() || stream.is_some_and(|stream| stream.epoch == *epoch);
    let is_there = match change.records.last() {
        Some(record) => record.seq == last && is_own,
        // Whether it was this write or one before that has left them so: they are as they should be.
        None => are_there(&snapshot.values, &topic, &change.values)?,
    };
    Ok(if is_there { StoreAnswer::Appended(Cursor(last)) } else { StoreAnswer::Refused(why) })
}

/// Why something could not be done.
pub fn unavailable(error: &redb::Error) -> Unavailable {
    if is_full(error) { Unavailable::Full } else { Unavailable::Failed }
}

/// What is longer than nothing and does not begin as redb's files do is somebody else's: it is not written to.
fn check_is_no_other_file(path: &Path) -> Outcome<()> {
    const MAGIC: &[u8] = b"redb";
    match fs::File::open(path) {
        Ok(file) => {
            let mut begin = Vec::new();
            file.take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(redb::Error::Io)?;
            if begin.is_empty() || begin == MAGIC {
                return Ok(());
            }
            Err(redb::Error::Corrupted("it does not begin like one".into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(redb::Error::Io(error)),
    }
}

/// The tables of one commit.
pub(super) struct Tables<'a> {
    pub(super) meta: Table<'a, &'static str, u64>,
    pub(super) streams: Table<'a, &'static str, StreamRow>,
    pub(super) records: Table<'a, (u64, u64), (u64, &'static [u8])>,
    pub(super) values: Table<'a, (&'static str, &'static str), &'static [u8]>,
}

impl<'a> Tables<'a> {
    /// They are made, if they are not there.
    fn of(write: &'a WriteTransaction) -> Outcome<Self> {
        Ok(Self {
            meta: write.open_table(META)?,
            streams: write.open_table(STREAMS)?,
            records: write.open_table(RECORDS)?,
            values: write.open_table(VALUES)?,
        })
    }
}

impl Tables<'_> {
    fn append(&mut self, request: &StoreRequest) -> Outcome<StoreAnswer> {
        let StoreRequest { topic, action, retention } = request;
        let StoreAction::Append { epoch, expected, change } = action else {
            return Ok(StoreAnswer::Refused(Unavailable::Failed));
        };
        let topic = topic.to_string();
        let found = self.streams.get(&*topic)?.map(|row| Stream::of(row.value()));
        let last = found.map_or(0, |stream| stream.last);
        if *expected != Cursor(last) {
            return Ok(StoreAnswer::Conflict);
        }
        for StoredValue { key, bytes } in &change.values {
            match bytes {
                Some(bytes) => self.values.insert((&*topic, &**key), &**bytes)?,
                None => self.values.remove((&*topic, &**key))?,
            };
        }
        if change.records.is_empty() {
            return Ok(StoreAnswer::Appended(Cursor(last)));
        }
        let mut stream = match found {
            Some(stream) => stream,
            None => Stream { number: self.next_number()?, epoch: *epoch, first: 1, last: 0 },
        };
        for StoredRecord { seq, at_ms, bytes } in &change.amended {
            if (stream.first..=stream.last).contains(seq) {
                self.records.insert((stream.number, *seq), (*at_ms, &**bytes))?;
            }
        }
        for StoredRecord { seq, at_ms, bytes } in &change.records {
            self.records.insert((stream.number, *seq), (*at_ms, &**bytes))?;
            stream.last = *seq;
        }
        if last / STORE_TRIM_EVERY != stream.last / STORE_TRIM_EVERY {
            trim(&mut self.records, &mut stream, *retention)?;
        }
        self.streams.insert(&*topic, stream.row())?;
        Ok(StoreAnswer::Appended(Cursor(stream.last)))
    }

    /// A number that no stream has.
    pub(super) fn next_number(&mut self) -> Outcome<u64> {
        let number = self.meta.get("streams")?.map_or(0, |streams| streams.value()) + 1;
        self.meta.insert("streams", number)?;
        Ok(number)
    }
}

fn values_of(
    values: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    topic: &str,
) -> Outcome<Vec<StoredValue>> {
    let mut found = Vec::new();
    for entry in values.range((topic, "")..)? {
        let (key, value) = entry?;
        let (of, key) = key.value();
        if of != topic {
            break;
        }
        found.push(StoredValue { key: key.into(), bytes: Some(Arc::from(value.value())) });
    }
    Ok(found)
}

/// Whether values are as a change wanted them.
fn are_there(
    values: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    topic: &str,
    wanted: &[StoredValue],
) -> Outcome<bool> {
    for (index, StoredValue { key, bytes }) in wanted.iter().enumerate() {
        let is_last = !wanted[index + 1..].iter().any(|later| later.key == *key);
        let found = values.get((topic, &**key))?;
        if is_last && found.as_ref().map(|found| found.value()) != bytes.as_deref() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what is kept no longer, a little at a time.
fn trim(
    records: &mut Table<'_, (u64, u64), (u64, &[u8])>,
    stream: &mut Stream,
    retention: Retention,
) -> Outcome<()> {
    for _ in 0..STORE_TRIM_MAX {
        let key = (stream.number, stream.first);
        let at_ms = records.get(key)?.map(|record| record.value().0);
        if stream.first > stream.last
            || at_ms.is_some_and(|at| retention.keeps(stream.last, stream.first, at))
        {
            break;
        }
        records.remove(key)?;
        stream.first += 1;
    }
    Ok(())
}

/// The last records before a number, and whether there are older ones that are kept.
fn page(
    records: &impl ReadableTable<(u64, u64), (u64, &'static [u8])>,
    stream: Stream,
    before: u64,
    size: PageSize,
    retention: Retention,
) -> Outcome<(Vec<StoredRecord>, bool)> {
    let range = (stream.number, stream.first)..(stream.number, before.min(stream.last + 1));
    let (mut page, mut bytes, mut more) = (Vec::new(), 0, false);
    if range.start >= range.end {
        return Ok((page, more));
    }
    for entry in records.range(range)?.rev() {
        let (key, value) = entry?;
        let (seq, (at_ms, record)) = (key.value().1, value.value());
        if !retention.keeps(stream.last, seq, at_ms) {
            break;
        }
        bytes += record.len();
        more = page.len() == size.records || bytes > size.bytes;
        if more {
            break;
        }
        page.push(StoredRecord { seq, at_ms, bytes: Arc::from(record) });
    }
    page.reverse();
    Ok((page, more))
}
