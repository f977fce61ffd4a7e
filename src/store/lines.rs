//! An export, line by line: each is a JSON object, which the keys in it tell apart.
//!
//! | line | keys |
//! | --- | --- |
//! | the first | `corelay_export`: 1; `guests`: so many numbers of guests are taken |
//! | a topic | `topic`; if anything was said there: `epoch` (a number in quotes, as clients get it), `first`, `last` |
//! | its values | `key`; `number`; or `version`, `writers`, `text` (of a document); or `bytes` (base64) |
//! | its records, in order | `seq`, `at_ms`; `kind`, `user`, `client_id`, `about`, `payload` (of a room); or `user`, `op_id`, `op` (of a document); or `bytes` (base64) |
//! | meanwhile | `first`: what was before is kept no longer; with `last`: a document has gone on, and only what follows counts |
//! | the last | `topics`, `records`, `values`: how many lines of each there were |

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::database::Stream;
use super::document_lines::{
    WriterFields, is_document, read_operation, read_snapshot, write_operation, write_snapshot,
};
use crate::ids::Topic;
use crate::limits::{CLIENT_ID_BYTES_MAX, USER_ID_BYTES_MAX};
use crate::room::chat_archive;
use crate::room::chat_record::{About, Kind, Record};
use crate::wire::json::{Object, write_object};

/// Version of the format.
const VERSION: u64 = 1;
/// Larger numbers are not written as such: not every program that reads JSON has them.
const NUMBER_MAX: u64 = 1 << 53;

/// How many lines there are of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub topics: u64,
    pub records: u64,
    pub values: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} topics, {} records, {} values", self.topics, self.records, self.values)
    }
}

fn line(text: &mut String, write: impl FnOnce(&mut Object<'_>)) {
    write_object(text, write);
    text.push('\n');
}

pub(super) fn write_begin(text: &mut String, guests: u64) {
    line(text, |line| {
        line.number("corelay_export", VERSION).number("guests", guests);
    });
}

pub(super) fn write_topic(text: &mut String, topic: &str, stream: Option<Stream>) {
    line(text, |line| {
        line.text("topic", topic);
        if let Some(Stream { epoch, first, last, .. }) = stream {
            line.plain("epoch", epoch).number("first", first).number("last", last);
        }
    });
}

pub(super) fn write_value(text: &mut String, topic: &str, key: &str, bytes: &[u8]) {
    let number = bytes.try_into().ok().map(u64::from_be_bytes).filter(|number| *number < NUMBER_MAX);
    line(text, |line| {
        line.text("key", key);
        if is_document(topic) && write_snapshot(line, key, bytes) {
            return;
        }
        match number {
            Some(number) => line.number("number", number),
            None => line.plain("bytes", STANDARD.encode(bytes)),
        };
    });
}

/// A record of a topic's stream that ends, in this export, at `last`.
pub(super) fn write_record(
    text: &mut String,
    (topic, last): (&str, u64),
    (seq, at_ms, bytes): (u64, u64, &[u8]),
) {
    line(text, |line| {
        line.number("seq", seq).number("at_ms", at_ms);
        if is_document(topic) {
            if !write_operation(line, bytes) {
                line.plain("bytes", STANDARD.encode(bytes));
            }
            return;
        }
        match Record::decode(bytes).map(|record| chat_archive::as_of(record, last)) {
            Some(record) if is_payload(record.payload) => write_readable(line, &record),
            Some(record) => drop(line.plain("bytes", STANDARD.encode(record.encode()))),
            None => drop(line.plain("bytes", STANDARD.encode(bytes))),
        }
    });
}

fn write_readable(line: &mut Object<'_>, record: &Record<'_>) {
    let Record { kind, about, client_id, user, payload } = record;
    line.plain("kind", kind.word()).text("user", user);
    if let Some(client_id) = client_id {
        line.text("client_id", client_id);
    }
    if *about != About::default() {
        line.object("about", |inner| {
            inner.number("seq", about.seq).number("at_ms", about.at_ms);
        });
    }
    if !payload.is_empty() {
        line.raw("payload", payload);
    }
}

/// Whether a payload can stand in a line as it is, and is read back byte for byte.
fn is_payload(payload: &str) -> bool {
    let is_object = || serde_json::from_str::<&RawValue>(payload).is_ok_and(|raw| raw.get() == payload);
    payload.is_empty() || payload.starts_with('{') && !payload.contains(['\n', '\r']) && is_object()
}

pub(super) fn write_first(text: &mut String, first: u64) {
    line(text, |line| {
        line.number("first", first);
    });
}

/// A document has gone on so far that what was to follow is not kept any more: what follows is the text as it is now, and the
/// records behind that.
pub(super) fn write_anew(text: &mut String, first: u64, last: u64) {
    line(text, |line| {
        line.number("first", first).number("last", last);
    });
}

pub(super) fn write_end(text: &mut String, counts: Counts) {
    line(text, |line| {
        line.number("topics", counts.topics)
            .number("records", counts.records)
            .number("values", counts.values);
    });
}

/// A line that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Begin { guests: u64 },
    Topic { topic: String, stream: Option<StreamLine> },
    Value { key: String, bytes: Vec<u8> },
    Record { seq: u64, at_ms: u64, bytes: Vec<u8> },
    First(u64),
    Anew { first: u64, last: u64 },
    End(Counts),
}

/// What is said of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamLine {
    pub(super) epoch: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// All keys of all lines.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    corelay_export: Option<u64>,
    guests: Option<u64>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    epoch: Option<Cow<'a, str>>,
    first: Option<u64>,
    last: Option<u64>,
    key: Option<Cow<'a, str>>,
    number: Option<u64>,
    bytes: Option<Cow<'a, str>>,
    seq: Option<u64>,
    at_ms: Option<u64>,
    kind: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    client_id: Option<Cow<'a, str>>,
    about: Option<AboutFields>,
    payload: Option<&'a RawValue>,
    version: Option<u64>,
    writers: Option<Vec<WriterFields<'a>>>,
    text: Option<Cow<'a, str>>,
    op_id: Option<Cow<'a, str>>,
    op: Option<&'a RawValue>,
    topics: Option<u64>,
    records: Option<u64>,
    values: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutFields {
    seq: u64,
    at_ms: u64,
}

impl Line {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match fields {
            Fields { corelay_export: Some(VERSION), guests, .. } => {
                Ok(Self::Begin { guests: guests.unwrap_or(0) })
            }
            Fields { corelay_export: Some(version), .. } => Err(format!(
                "the export is of version {version}, which this corelay does not know (it knows {VERSION})"
            )),
            Fields { topic: Some(_), .. } => fields.topic(),
            Fields { key: Some(_), .. } => fields.value(),
            Fields { seq: Some(_), .. } => fields.record(),
            Fields { first: Some(first), last: None, .. } => Ok(Self::First(first)),
            Fields { first: Some(first), last: Some(last), .. } if is_range(first, last) => {
                Ok(Self::Anew { first, last })
            }
            Fields { topics: Some(topics), records: Some(records), values: Some(values), .. } => {
                Ok(Self::End(Counts { topics, records, values }))
            }
            Fields { .. } => Err("it is no line of an export: it has no `topic`, `key` or `seq`".into()),
        }
    }
}

impl Fields<'_> {
    fn topic(self) -> Result<Line, String> {
        let topic = self.topic.unwrap_or_default().into_owned();
        if Topic::parse(&topic).is_none() {
            return Err(format!("{topic:?} is no topic: topics are like room:lobby"));
        }
        let stream = match (self.epoch, self.first, self.last) {
            (None, None, None) => None,
            (Some(epoch), Some(first), Some(last)) if is_range(first, last) => {
                let epoch = epoch.parse().map_err(|_| format!("`epoch` is {epoch:?}, which is no number"))?;
                Some(StreamLine { epoch, first, last })
            }
            _ => return Err("a topic has `epoch`, `first` and `last` that fit each other, or none".into()),
        };
        Ok(Line::Topic { topic, stream })
    }

    fn value(self) -> Result<Line, String> {
        let bytes = match (self.number, &self.bytes, &self.text) {
            (Some(number), None, None) => number.to_be_bytes().to_vec(),
            (None, Some(bytes), None) => read_base64(bytes)?,
            (None, None, Some(text)) => read_snapshot(text, self.version, self.writers)?,
            _ => return Err("a value has either `number`, or `bytes`, or `text`".into()),
        };
        Ok(Line::Value { key: self.key.unwrap_or_default().into_owned(), bytes })
    }

    fn record(self) -> Result<Line, String> {
        let (Some(seq), Some(at_ms)) = (self.seq, self.at_ms) else {
            return Err("a record has `seq` and `at_ms`".into());
        };
        let bytes = match (&self.kind, &self.bytes, self.op) {
            (None, Some(bytes), None) => read_base64(bytes)?,
            (Some(kind), None, None) => self.encoded(kind)?,
            (None, None, Some(op)) => {
                read_operation(op, self.user.as_deref().unwrap_or_default(), self.op_id.as_deref())?
            }
            _ => return Err("a record has either `kind`, or `op`, or `bytes`".into()),
        };
        Ok(Line::Record { seq, at_ms, bytes })
    }

    fn encoded(&self, kind: &str) -> Result<Vec<u8>, String> {
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.word() == kind) else {
            return Err(format!("{kind:?} is no kind of record"));
        };
        let (user, client_id) = (self.user.as_deref().unwrap_or_default(), self.client_id.as_deref());
        if user.len() > USER_ID_BYTES_MAX || client_id.is_some_and(|id| id.len() > CLIENT_ID_BYTES_MAX) {
            return Err(format!(
                "`user` has at most {USER_ID_BYTES_MAX} bytes, `client_id` {CLIENT_ID_BYTES_MAX}"
            ));
        }
        let payload = self.payload.map_or("", RawValue::get);
        if !payload.is_empty() && !payload.starts_with('{') {
            return Err("`payload` is no object".into());
        }
        let about = self.about.as_ref().map(|AboutFields { seq, at_ms }| About { seq: *seq, at_ms: *at_ms });
        let record = Record { kind, about: about.unwrap_or_default(), client_id, user, payload };
        Ok(record.encode().to_vec())
    }
}

/// Whether a stream can have records from `first` to `last`; none, if `last` is before `first`.
fn is_range(first: u64, last: u64) -> bool {
    first > 0 && last < NUMBER_MAX && first <= last + 1
}

fn read_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("`bytes` is no base64: {error}"))
}
