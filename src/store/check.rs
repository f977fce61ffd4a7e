//! Whether a store is as a relay leaves it: what redb says of the file, and whether streams, records and values fit each other.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata};

use super::database::{Outcome, Snapshot, Stream};
use super::document_lines::is_document;
use super::file::StoreFile;
use super::import::IMPORTING;
use super::lines::Counts;
use crate::ids::Topic;
use crate::limits::FAULTS_NAMED_MAX;
use crate::room::chat_record::Record;
use crate::room::document_archive::{Fault, Replay};
use crate::room::{chat_archive, document_archive, document_record};

/// What was found.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Checked {
    pub counts: Counts,
    /// The first `limits::FAULTS_NAMED_MAX` of them, a line each.
    pub faults: Vec<String>,
    /// How many there are.
    pub fault_count: u64,
}

/// Reads everything. `progress` is told how many records it has looked at.
pub fn check(file: &mut StoreFile, progress: &mut dyn FnMut(u64)) -> Outcome<Checked> {
    let mut checked = Checked::default();
    if !file.check_integrity()? {
        checked.fault("the file did not fit together and was repaired; check it again".into());
    }
    file.snapshot(|snapshot| {
        let numbers = check_streams(snapshot, &mut checked, progress)?;
        check_numbers(snapshot, &numbers, &mut checked)?;
        check_values(snapshot, &mut checked)
    })?;
    Ok(checked)
}

impl Checked {
    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_NAMED_MAX {
            self.faults.push(what);
        }
    }
}

/// Returns the numbers of the streams.
fn check_streams(
    snapshot: &Snapshot,
    checked: &mut Checked,
    progress: &mut dyn FnMut(u64),
) -> Outcome<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in snapshot.streams.iter()? {
        let (topic, row) = entry?;
        let (topic, stream) = (topic.value(), Stream::of(row.value()));
        checked.counts.topics += 1;
        if Topic::parse(topic).is_none() {
            checked.fault(format!("{topic:?} is no topic"));
        }
        if stream.first == 0 || stream.first > stream.last.saturating_add(1) {
            let Stream { first, last, .. } = stream;
            checked.fault(format!("{topic}: its first record is {first} and its last {last}"));
        }
        if !numbers.insert(stream.number) {
            checked.fault(format!("{topic}: its records are also those of another topic"));
            continue;
        }
        check_records(snapshot, (topic, stream), checked, progress)?;
    }
    Ok(numbers)
}

fn check_records(
    snapshot: &Snapshot,
    (topic, stream): (&str, Stream),
    checked: &mut Checked,
    progress: &mut dyn FnMut(u64),
) -> Outcome<()> {
    let mut reader = Reader::of(snapshot, topic, stream, checked)?;
    let mut next = stream.first;
    for entry in snapshot.records.range((stream.number, 0)..=(stream.number, u64::MAX))? {
        let (key, record) = entry?;
        let (seq, (_, bytes)) = (key.value().1, record.value());
        checked.counts.records += 1;
        progress(checked.counts.records);
        if !(stream.first..=stream.last).contains(&seq) {
            let Stream { first, last, .. } = stream;
            checked.fault(format!("{topic}: record {seq} is not within {first} to {last}"));
            continue;
        }
        if seq > next {
            checked.fault(missing(topic, next, seq - 1));
        }
        next = seq + 1;
        if let Some(fault) = reader.fault(seq, bytes, stream.last) {
            checked.fault(format!("{topic}: record {seq} {fault}"));
        }
    }
    if next <= stream.last {
        checked.fault(missing(topic, next, stream.last));
    }
    Ok(())
}

/// Reads the records of a topic as the topic would.
enum Reader {
    Room,
    /// `None`: there is no text to which operations could be applied.
    Document(Option<Replay>),
}

impl Reader {
    /// What is wrong with the text that a document has written is a fault of its own.
    fn of(snapshot: &Snapshot, topic: &str, stream: Stream, checked: &mut Checked) -> Outcome<Self> {
        if !is_document(topic) {
            return Ok(Self::Room);
        }
        // A text that cannot be read is named with the values.
        let Some(replay) = snapshot.replay(topic)? else { return Ok(Self::Document(None)) };
        let (saved, Stream { first, last, .. }) = (replay.version(), stream);
        if saved > last {
            checked.fault(format!(
                "{topic}: the text that was written last is of version {saved}, but there are only {last} operations"
            ));
            return Ok(Self::Document(None));
        }
        if saved + 1 < first {
            let what = missing(topic, saved + 1, first - 1);
            checked.fault(format!("{what}: the text that was written last is of version {saved}"));
            return Ok(Self::Document(None));
        }
        Ok(Self::Document(Some(replay)))
    }

    /// What is wrong with a record of a stream that ends at `last`.
    fn fault(&mut self, seq: u64, bytes: &[u8], last: u64) -> Option<String> {
        match self {
            Self::Room => match Record::decode(bytes) {
                None => Some("cannot be read".into()),
                Some(record) if record.about.seq > last => {
                    Some(format!("is about {}, which is behind the last one", record.about.seq))
                }
                Some(_) => None,
            },
            Self::Document(None) => {
                document_record::Record::decode(bytes).is_none().then(|| Fault::Unreadable.to_string())
            }
            Self::Document(replay @ Some(_)) => {
                let fault = replay.as_mut()?.add(seq, bytes).err()?;
                // What comes behind it makes no text either.
                *replay = None;
                // What is missing is named as that.
                (fault != Fault::Gap).then(|| fault.to_string())
            }
        }
    }
}

fn missing(topic: &str, first: u64, last: u64) -> String {
    match first == last {
        true => format!("{topic}: record {first} is missing"),
        false => format!("{topic}: records {first} to {last} are missing"),
    }
}

/// Numbers of streams are given once, and no record has another.
fn check_numbers(snapshot: &Snapshot, numbers: &BTreeSet<u64>, checked: &mut Checked) -> Outcome<()> {
    let given = snapshot.meta.get("streams")?.map_or(0, |streams| streams.value());
    if let Some(highest) = numbers.last().filter(|highest| **highest > given) {
        checked.fault(format!("a stream has the number {highest}, but only {given} were given"));
    }
    if let Some(importing) = snapshot.meta.get(IMPORTING)? {
        let number = importing.value();
        checked
            .fault(format!("an import was cut off (stream {number}): the next import removes what it left"));
    }
    if snapshot.records.len()? == checked.counts.records {
        return Ok(());
    }
    let mut from = 0;
    while let Some(entry) = snapshot.records.range((from, 0)..)?.next() {
        let number = entry?.0.value().0;
        if !numbers.contains(&number) {
            checked.fault(format!("records of stream {number} belong to no topic"));
        }
        let Some(next) = number.checked_add(1) else { break };
        from = next;
    }
    Ok(())
}

fn check_values(snapshot: &Snapshot, checked: &mut Checked) -> Outcome<()> {
    for entry in snapshot.values.iter()? {
        let (key, value) = entry?;
        let (topic, key) = key.value();
        checked.counts.values += 1;
        if Topic::parse(topic).is_none() {
            checked.fault(format!("{topic:?}, which has the value {key:?}, is no topic"));
        } else if !is_value(topic, key, value.value()) {
            checked.fault(format!("{topic}: the value {key:?} cannot be read"));
        } else if is_document(topic) && snapshot.stream(topic)?.is_none() {
            checked.fault(format!("{topic}: it has a text, but no operations that made it"));
        }
    }
    Ok(())
}

fn is_value(topic: &str, key: &str, bytes: &[u8]) -> bool {
    if is_document(topic) {
        document_archive::is_value(key, bytes)
    } else {
        chat_archive::is_value(key, bytes)
    }
}
