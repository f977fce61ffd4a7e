//! An export becomes topics of a store. A topic is there when its last commit is: its records come before, under a number that no
//! stream has yet, and `meta` says so, so that what an import that was killed has left is removed by the next one.

use std::io::{self, BufRead, Read};

use redb::ReadableTable;
use thiserror::Error;

use super::database::{Outcome, Stream};
use super::error::StoreError;
use super::file::{StoreFile, Tables};
use super::lines::{Counts, Line, StreamLine};
use crate::limits::{IMPORT_LINE_BYTES_MAX, IMPORT_VALUES_MAX, TOOL_BATCH_BYTES, TOOL_BATCH_RECORDS};

/// Key of `meta`: the number of the stream whose records are being imported.
pub(super) const IMPORTING: &str = "importing";

/// Why an import stopped. Topics before are there, and of the topic in which it stopped there is nothing.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ImportError {
    #[error("line {number}: {what}")]
    Line { number: u64, what: String },
    #[error("the export is cut off: it ends behind line {lines}, without the line that ends it")]
    CutOff { lines: u64 },
    #[error("cannot read the export: {0}")]
    Read(#[from] io::Error),
    #[error("cannot write to the store: {0}")]
    Store(StoreError),
}

/// What whoever watches an import is told.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many records have been read.
    Records(u64),
    /// A topic is there already: nothing of it was written.
    Refused(&'a str),
}

/// What has become of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Imported {
    pub written: Counts,
    /// Topics that were there already.
    pub refused: u64,
}

/// An import that is under way.
pub struct Import<'a> {
    file: &'a StoreFile,
    tell: &'a mut dyn FnMut(Told<'_>),
    place: Place,
    lines: u64,
    read: Counts,
    imported: Imported,
}

/// What the lines so far belong to.
enum Place {
    Begin,
    /// Between topics, or within one that is refused.
    Passing,
    Topic(Box<Incoming>),
    End,
}

/// A topic whose lines are being read.
struct Incoming {
    topic: String,
    stream: Option<StreamLine>,
    /// Number of its stream, if some of its records are written.
    number: Option<u64>,
    /// The next record.
    next: u64,
    /// Records that are not written yet.
    records: Vec<(u64, u64, Vec<u8>)>,
    bytes: usize,
    values: Vec<(String, Vec<u8>)>,
    counts: Counts,
}

/// What is wrong with a line, or with the store.
enum Stop {
    Line(String),
    Store(redb::Error),
}

impl From<redb::Error> for Stop {
    fn from(error: redb::Error) -> Self {
        Self::Store(error)
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Line(what)
    }
}

impl<'a> Import<'a> {
    /// Reads a whole export.
    ///
    /// # Errors
    /// It stopped in the middle: see `ImportError`. What was imported is in the first part.
    pub fn run(
        file: &'a StoreFile,
        export: &mut dyn BufRead,
        tell: &'a mut dyn FnMut(Told<'_>),
    ) -> (Imported, Result<(), ImportError>) {
        let (read, imported) = (Counts::default(), Imported::default());
        let mut import = Self { file, tell, place: Place::Begin, lines: 0, read, imported };
        let mut outcome = import.read(export);
        // Whatever went wrong: half a topic does not stay.
        let cleared = remove_leftovers(file).map_err(|error| ImportError::Store(file.explain(error)));
        if outcome.is_ok() {
            outcome = cleared;
        }
        (import.imported, outcome)
    }

    fn read(&mut self, export: &mut dyn BufRead) -> Result<(), ImportError> {
        let store = |error| ImportError::Store(self.file.explain(error));
        remove_leftovers(self.file).map_err(store)?;
        let mut text = Vec::new();
        loop {
            text.clear();
            let longest = IMPORT_LINE_BYTES_MAX as u64 + 1;
            if Read::take(&mut *export, longest).read_until(b'\n', &mut text)? == 0 {
                let is_whole = matches!(self.place, Place::End);
                return if is_whole { Ok(()) } else { Err(ImportError::CutOff { lines: self.lines }) };
            }
            self.lines += 1;
            let stop = match self.line(&text) {
                Ok(()) => continue,
                Err(Stop::Line(what)) => ImportError::Line { number: self.lines, what },
                Err(Stop::Store(error)) => ImportError::Store(self.file.explain(error)),
            };
            return Err(stop);
        }
    }

    fn line(&mut self, text: &[u8]) -> Result<(), Stop> {
        if text.len() > IMPORT_LINE_BYTES_MAX {
            return Err(format!("it is longer than {IMPORT_LINE_BYTES_MAX} bytes").into());
        }
        let text = str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned())?;
        let line = Line::parse(text.trim_end())?;
        match (line, &mut self.place) {
            (Line::Begin { guests }, Place::Begin) => {
                self.file.write(|tables| take_guests(tables, guests))?;
                self.place = Place::Passing;
            }
            (_, Place::Begin) => {
                return Err("an export begins with {\"corelay_export\":1}".to_owned().into());
            }
            (_, Place::End) => {
                return Err("nothing comes behind the line that ends an export".to_owned().into());
            }
            (Line::Begin { .. }, _) => {
                return Err("only the first line has `corelay_export`".to_owned().into());
            }
            (Line::Topic { topic, stream }, _) => self.topic(topic, stream)?,
            (Line::Value { key, bytes }, place) => {
                self.read.values += 1;
                if let Place::Topic(incoming) = place {
                    incoming.value(key, bytes)?;
                }
            }
            (Line::Record { seq, at_ms, bytes }, place) => {
                self.read.records += 1;
                if let Place::Topic(incoming) = place {
                    incoming.record(self.file, (seq, at_ms, bytes))?;
                }
                (self.tell)(Told::Records(self.read.records));
            }
            (Line::First(first), Place::Topic(incoming)) => incoming.trim(self.file, first)?,
            (Line::Anew { first, last }, Place::Topic(incoming)) => {
                incoming.begin_anew(self.file, first, last)?;
            }
            (Line::First(_) | Line::Anew { .. }, Place::Passing) => {}
            (Line::End(counts), _) => self.end(counts)?,
        }
        Ok(())
    }

    fn topic(&mut self, topic: String, stream: Option<StreamLine>) -> Result<(), Stop> {
        self.finish()?;
        self.read.topics += 1;
        if self.file.reader().has(&topic)? {
            self.imported.refused += 1;
            (self.tell)(Told::Refused(&topic));
            return Ok(());
        }
        let next = stream.map_or(0, |stream| stream.first);
        let (records, values, counts) = (Vec::new(), Vec::new(), Counts { topics: 1, ..Counts::default() });
        let incoming = Incoming { topic, stream, number: None, next, records, bytes: 0, values, counts };
        self.place = Place::Topic(Box::new(incoming));
        Ok(())
    }

    fn end(&mut self, counts: Counts) -> Result<(), Stop> {
        self.finish()?;
        if counts != self.read {
            return Err(format!("it says {counts}, but the lines before are {}", self.read).into());
        }
        self.place = Place::End;
        Ok(())
    }

    /// The topic, if there is one, has no further lines.
    fn finish(&mut self) -> Result<(), Stop> {
        if let Place::Topic(mut incoming) = std::mem::replace(&mut self.place, Place::Passing) {
            incoming.finish(self.file)?;
            let (written, counts) = (&mut self.imported.written, incoming.counts);
            written.topics += counts.topics;
            written.records += counts.records;
            written.values += counts.values;
        }
        Ok(())
    }
}

impl Incoming {
    fn value(&mut self, key: String, bytes: Vec<u8>) -> Result<(), Stop> {
        if self.values.len() == IMPORT_VALUES_MAX {
            return Err(format!("{} has more than {IMPORT_VALUES_MAX} values", self.topic).into());
        }
        self.counts.values += 1;
        self.values.push((key, bytes));
        Ok(())
    }

    fn record(&mut self, file: &StoreFile, record: (u64, u64, Vec<u8>)) -> Result<(), Stop> {
        let last = self.stream.map_or(0, |stream| stream.last);
        if record.0 != self.next || record.0 > last {
            let what = format!("record {} of {} comes where {} should", record.0, self.topic, self.next);
            return Err(what.into());
        }
        self.next += 1;
        self.counts.records += 1;
        self.bytes += record.2.len();
        self.records.push(record);
        if self.records.len() >= TOOL_BATCH_RECORDS || self.bytes >= TOOL_BATCH_BYTES {
            file.write(|tables| {
                let number = self.write_records(tables)?;
                tables.meta.insert(IMPORTING, number)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Records before `first` were trimmed while the export was made.
    fn trim(&mut self, file: &StoreFile, first: u64) -> Result<(), Stop> {
        let Some(stream) =
            self.stream.as_mut().filter(|stream| (self.next..=stream.last + 1).contains(&first))
        else {
            return Err(format!("{} cannot begin at record {first}", self.topic).into());
        };
        (stream.first, self.next) = (first, first);
        self.forget_records(file)
    }

    /// A document has gone on while the export was made: what was said of it does not count.
    fn begin_anew(&mut self, file: &StoreFile, first: u64, last: u64) -> Result<(), Stop> {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.last <= last) else {
            return Err(
                format!("{} cannot begin anew, with the records {first} to {last}", self.topic).into()
            );
        };
        (stream.first, stream.last, self.next) = (first, last, first);
        self.values.clear();
        self.counts.values = 0;
        self.forget_records(file)
    }

    fn forget_records(&mut self, file: &StoreFile) -> Result<(), Stop> {
        self.records.clear();
        self.bytes = 0;
        self.counts.records = 0;
        Ok(self.number.map_or(Ok(()), |number| remove_records(file, number))?)
    }

    fn finish(&mut self, file: &StoreFile) -> Result<(), Stop> {
        if let Some(last) = self.stream.map(|stream| stream.last).filter(|last| self.next <= *last) {
            let what = format!("{} ends before its record {}; its last one is {last}", self.topic, self.next);
            return Err(what.into());
        }
        Ok(file.write(|tables| {
            if let Some(StreamLine { epoch, first, last }) = self.stream {
                let number = self.write_records(tables)?;
                let stream = Stream { number, epoch, first, last };
                tables.streams.insert(&*self.topic, stream.row())?;
                tables.meta.remove(IMPORTING)?;
            }
            for (key, bytes) in self.values.drain(..) {
                tables.values.insert((&*self.topic, &*key), &*bytes)?;
            }
            Ok(())
        })?)
    }

    /// Returns the number of the stream.
    fn write_records(&mut self, tables: &mut Tables<'_>) -> Outcome<u64> {
        let number = match self.number {
            Some(number) => number,
            None => tables.next_number()?,
        };
        self.number = Some(number);
        for (seq, at_ms, bytes) in self.records.drain(..) {
            tables.records.insert((number, seq), (at_ms, &*bytes))?;
        }
        self.bytes = 0;
        Ok(number)
    }
}

/// No number of a guest that somebody has had is given again.
fn take_guests(tables: &mut Tables<'_>, guests: u64) -> Outcome<()> {
    let taken = tables.meta.get("guests")?.map_or(0, |guests| guests.value());
    if guests > taken {
        tables.meta.insert("guests", guests)?;
    }
    Ok(())
}

/// Removes the records of an import that did not come to the end of a topic.
fn remove_leftovers(file: &StoreFile) -> Outcome<()> {
    let importing =
        file.snapshot(|snapshot| Ok(snapshot.meta.get(IMPORTING)?.map(|number| number.value())))?;
    let Some(number) = importing else { return Ok(()) };
    remove_records(file, number)?;
    file.write(|tables| Ok(tables.meta.remove(IMPORTING).map(drop)?))
}

fn remove_records(file: &StoreFile, number: u64) -> Outcome<()> {
    let remove = |tables: &mut Tables<'_>| {
        let of_stream = tables.records.range((number, 0)..=(number, u64::MAX))?;
        let keys = of_stream.take(TOOL_BATCH_RECORDS).map(|entry| Ok(entry?.0.value()));
        let keys = keys.collect::<Outcome<Vec<_>>>()?;
        for key in &keys {
            tables.records.remove(key)?;
        }
        Ok(keys.is_empty())
    };
    while !file.write(remove)? {}
    Ok(())
}
