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
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::error::{StoreError, is_full};
use super::hold::{Draining, Hold, Taken};
use super::settings::StoreSettings;
use crate::limits::STORE_TRIM_MAX;
use crate::room::stored::{
    Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StoredValue,
    StreamEnd, Unavailable,
};

/// Version of the tables.
const SCHEMA: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const STREAMS: TableDefinition<'_, &str, (u64, u64, u64, u64)> = TableDefinition::new("streams");
const RECORDS: TableDefinition<'_, (u64, u64), (u64, &[u8])> = TableDefinition::new("records");
const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");

/// Name of the file in the data directory.
const FILE: &str = "corelay.redb";

/// What redb's calls return.
type Outcome<T> = Result<T, redb::Error>;

/// See the module documentation.
pub struct StoreFile {
    settings: StoreSettings,
    /// `None`: it has failed, and is to be opened again; or another process still has it; or this one has given it away.
    database: Option<Database>,
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

/// The entry of `streams`.
#[derive(Clone, Copy)]
struct Stream {
    number: u64,
    epoch: u64,
    first: u64,
    last: u64,
}

impl Stream {
    fn of((number, epoch, first, last): (u64, u64, u64, u64)) -> Self {
        Self { number, epoch, first, last }
    }

    fn row(self) -> (u64, u64, u64, u64) {
        (self.number, self.epoch, self.first, self.last)
    }
}

impl StoreFile {
    /// Opens the file, or makes it. If a relay that is draining still has it, it is not open yet: see `held_by`.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let mut file = Self { settings, database: None, hold: Keep::Ours(None) };
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

    /// Opens the file if the other relay has given it away.
    pub fn take_over(&mut self) -> Result<(), StoreError> {
        let Some(path) = self.settings.directory() else { return Ok(()) };
        match Hold::take(path)? {
            Taken::Draining(draining) => self.hold = Keep::Theirs(draining),
            Taken::Ours(hold) => {
                self.hold = Keep::Ours(Some(hold));
                self.open_first()?;
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
        self.database = None;
        self.hold = Keep::Given;
    }

    /// Whether this process has the file no more.
    pub fn is_given_away(&self) -> bool {
        matches!(self.hold, Keep::Given)
    }

    fn open_first(&mut self) -> Result<(), StoreError> {
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
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.settings.directory().map(|path| path.join(FILE)).unwrap_or_default()
    }

    /// What an error means for whoever starts the relay.
    pub fn explain(&self, error: redb::Error) -> StoreError {
        StoreError::of(self.path(), error)
    }

    /// Whether it can be used.
    pub fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Opens it again after it has failed. A file that is gone is not made anew: it would be empty.
    pub fn reopen(&mut self) -> Outcome<()> {
        self.open_database(false)
    }

    fn open_database(&mut self, may_make: bool) -> Outcome<()> {
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
        self.database = Some(database?);
        Ok(())
    }

    /// It has failed: nothing is done with it before it is opened again. What is in memory would be gone.
    pub fn close(&mut self) {
        if self.settings.directory().is_some() {
            self.database = None;
        }
    }

    fn database(&self) -> Outcome<&Database> {
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// Makes the tables, if they are not there. Returns the version of those that are.
    fn begin(&self) -> Outcome<u64> {
        let mut write = self.database()?.begin_write()?;
        write.set_quick_repair(true);
        let schema = {
            let mut meta = write.open_table(META)?;
            let schema = meta.get("schema")?.map(|schema| schema.value());
            if schema.is_none() {
                meta.insert("schema", SCHEMA)?;
            }
            schema.unwrap_or(SCHEMA)
        };
        if schema > SCHEMA {
            write.abort()?;
            return Ok(schema);
        }
        write.open_table(STREAMS)?;
        write.open_table(RECORDS)?;
        write.open_table(VALUES)?;
        write.commit()?;
        Ok(schema)
    }

    /// Takes `count` numbers of guests that nobody has had or will have: those above what is returned.
    pub fn take_guests(&self, count: u64) -> Outcome<u64> {
        guarded(|| self.try_take_guests(count))
    }

    fn try_take_guests(&self, count: u64) -> Outcome<u64> {
        let mut write = self.database()?.begin_write()?;
        write.set_quick_repair(true);
        let before = {
            let mut meta = write.open_table(META)?;
            let before = meta.get("guests")?.map_or(0, |guests| guests.value());
            meta.insert("guests", before + count)?;
            before
        };
        write.commit()?;
        Ok(before)
    }

    /// Does what is to be written, in one commit: all of it is on disk then, or nothing. Answers in the same order.
    pub fn append(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        guarded(|| self.try_append(requests))
    }

    fn try_append(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        let mut write = self.database()?.begin_write()?;
        // A crash is repaired in a moment then, however large the file is.
        write.set_quick_repair(true);
        let answers = {
            let mut tables = Tables {
                meta: write.open_table(META)?,
                streams: write.open_table(STREAMS)?,
                records: write.open_table(RECORDS)?,
                values: write.open_table(VALUES)?,
            };
            requests.iter().map(|request| tables.append(request)).collect::<Outcome<Vec<_>>>()?
        };
        write.commit()?;
        Ok(answers)
    }

    /// Answers what only reads, in order.
    pub fn read(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        guarded(|| self.try_read(requests))
    }

    fn try_read(&self, requests: &[StoreRequest]) -> Outcome<Vec<StoreAnswer>> {
        let read = self.database()?.begin_read()?;
        let (streams, records) = (read.open_table(STREAMS)?, read.open_table(RECORDS)?);
        let values = read.open_table(VALUES)?;
        let answer = |StoreRequest { topic, action, retention }: &StoreRequest| {
            let stream = streams.get(&*topic.to_string())?.map(|row| Stream::of(row.value()));
            let page = |before: u64, size: PageSize| match stream {
                Some(stream) => page(&records, stream, before, size, *retention),
                None => Ok((Vec::new(), false)),
            };
            match action {
                StoreAction::Load { page: size } => {
                    let end =
                        |Stream { epoch, last, .. }| StreamEnd { epoch, seq: last, cursor: Cursor(last) };
                    let (records, _) = page(u64::MAX, *size)?;
                    let values = values_of(&values, &topic.to_string())?;
                    Ok(StoreAnswer::Loaded { stream: stream.map(end), records, values })
                }
                StoreAction::Read { before, page: size } => {
                    let (records, more) = page(*before, *size)?;
                    Ok(StoreAnswer::Page { records, more })
                }
                StoreAction::Append { .. } => Ok(StoreAnswer::Refused(Unavailable::Failed)),
            }
        };
        requests.iter().map(answer).collect()
    }

    /// What has become of appends whose commit has failed, after the file was opened again.
    pub fn settle(&self, requests: &[StoreRequest], why: Unavailable) -> Outcome<Vec<StoreAnswer>> {
        guarded(|| self.try_settle(requests, why))
    }

    fn try_settle(&self, requests: &[StoreRequest], why: Unavailable) -> Outcome<Vec<StoreAnswer>> {
        let read = self.database()?.begin_read()?;
        let (streams, values) = (read.open_table(STREAMS)?, read.open_table(VALUES)?);
        let settle = |StoreRequest { topic, action, .. }: &StoreRequest| {
            let topic = topic.to_string();
            let last = streams.get(&*topic)?.map_or(0, |row| row.value().3);
            let StoreAction::Append { change, .. } = action else { return Ok(StoreAnswer::Refused(why)) };
            let is_there = match change.records.last() {
                Some(record) => record.seq == last,
                // Whether it was this write or one before that has left them so: they are as they should be.
                None => are_there(&values, &topic, &change.values)?,
            };
            Ok(if is_there { StoreAnswer::Appended(Cursor(last)) } else { StoreAnswer::Refused(why) })
        };
        requests.iter().map(settle).collect()
    }
}

/// redb panics on some files that are damaged: to the relay that is an error like another, and the file is opened again.
fn guarded<T>(act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    panic::catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("what is in it does not fit together".into())))
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
struct Tables<'a> {
    meta: Table<'a, &'static str, u64>,
    streams: Table<'a, &'static str, (u64, u64, u64, u64)>,
    records: Table<'a, (u64, u64), (u64, &'static [u8])>,
    values: Table<'a, (&'static str, &'static str), &'static [u8]>,
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
        trim(&mut self.records, &mut stream, *retention)?;
        self.streams.insert(&*topic, stream.row())?;
        Ok(StoreAnswer::Appended(Cursor(stream.last)))
    }

    /// A number that no stream has.
    fn next_number(&mut self) -> Outcome<u64> {
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
