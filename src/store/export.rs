//! The store as text, in parts. Each part is read by itself, so no transaction is held while somebody takes it; a relay may write in
//! between.
//!
//! A topic ends where it ended when its line was written. A message that a later event has edited or deleted since is written as it
//! reads now, and as if there had been no such event. If records are trimmed before they were read, a line says so.
//!
//! Of a document the text and the operations behind it make sense together only. So its text is read with the line that says where
//! it ends; and if it has gone on so far meanwhile that operations are trimmed before they were read, a line says that it begins
//! anew, with the text as it is then and what is behind that, which are read at once.

use super::database::{Outcome, SharedDatabase, Snapshot, Stream};
use super::document_lines::is_document;
use super::lines::{self, Counts};
use crate::limits::{EXPORT_PART_BYTES, EXPORT_PART_LINES};

/// Reads a store that may be in use.
#[derive(Clone)]
pub struct StoreReader {
    pub(super) database: SharedDatabase,
}

impl StoreReader {
    /// Whether anything is kept about a topic.
    pub fn has(&self, topic: &str) -> Result<bool, redb::Error> {
        self.database.with(|database| Snapshot::of(database)?.has(topic))
    }

    /// Everything, or one topic.
    pub fn export(&self, topic: Option<&str>) -> Export {
        Export {
            database: self.database.clone(),
            only: topic.map(Into::into),
            place: Place::Begin,
            counts: Counts::default(),
        }
    }
}

/// An iterator over the parts, each of whole lines.
pub struct Export {
    database: SharedDatabase,
    only: Option<String>,
    place: Place,
    counts: Counts,
}

/// What is read next.
enum Place {
    Begin,
    /// The topic behind this one.
    Topic {
        after: Option<String>,
    },
    /// Values from a key on.
    Values {
        topic: String,
        stream: Option<Stream>,
        from: String,
    },
    /// Records from a number on.
    Records {
        topic: String,
        stream: Stream,
        next: u64,
    },
    Over,
}

impl Place {
    /// Whether what is next must be read with what was before.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Values { topic, .. } if is_document(topic))
    }
}

/// The text of one read.
#[derive(Default)]
struct Part {
    text: String,
    lines: usize,
}

impl Part {
    fn is_full(&self) -> bool {
        self.lines >= EXPORT_PART_LINES || self.text.len() >= EXPORT_PART_BYTES
    }

    fn write(&mut self, write: impl FnOnce(&mut String)) {
        self.lines += 1;
        write(&mut self.text);
    }
}

impl Export {
    /// How much has been read by now.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn part(&mut self) -> Outcome<Option<String>> {
        if matches!(self.place, Place::Over) {
            return Ok(None);
        }
        let database = self.database.clone();
        database.with(|database| {
            let snapshot = Snapshot::of(database)?;
            let mut part = Part::default();
            while (!part.is_full() || self.place.goes_on()) && !matches!(self.place, Place::Over) {
                // After an error it is over.
                self.place = match std::mem::replace(&mut self.place, Place::Over) {
                    Place::Begin => {
                        let guests = snapshot.guests()?;
                        part.write(|text| lines::write_begin(text, guests));
                        Place::Topic { after: None }
                    }
                    Place::Topic { after } => self.topic(&snapshot, after, &mut part)?,
                    Place::Values { topic, stream, from } => {
                        self.values(&snapshot, (topic, stream, from), &mut part)?
                    }
                    Place::Records { topic, stream, next } => {
                        self.records(&snapshot, (topic, stream, next), &mut part, AtOnce(false))?
                    }
                    Place::Over => Place::Over,
                };
            }
            Ok(Some(part.text))
        })
    }

    fn topic(&mut self, snapshot: &Snapshot, after: Option<String>, part: &mut Part) -> Outcome<Place> {
        let found = match (&self.only, after) {
            (Some(_), Some(_)) => None,
            (Some(only), None) => snapshot.has(only)?.then(|| only.clone()),
            (None, after) => snapshot.next_topic(after.as_deref())?,
        };
        let Some(topic) = found else {
            part.write(|text| lines::write_end(text, self.counts));
            return Ok(Place::Over);
        };
        let stream = snapshot.stream(&topic)?;
        self.counts.topics += 1;
        part.write(|text| lines::write_topic(text, &topic, stream));
        Ok(Place::Values { topic, stream, from: String::new() })
    }

    fn values(
        &mut self,
        snapshot: &Snapshot,
        (topic, stream, from): (String, Option<Stream>, String),
        part: &mut Part,
    ) -> Outcome<Place> {
        for entry in snapshot.values.range((&*topic, &*from)..)? {
            let (key, value) = entry?;
            let (of, key) = key.value();
            if of != topic {
                break;
            }
            if part.is_full() && !is_document(&topic) {
                let from = key.to_owned();
                return Ok(Place::Values { topic, stream, from });
            }
            self.counts.values += 1;
            part.write(|text| lines::write_value(text, &topic, key, value.value()));
        }
        Ok(match stream {
            Some(stream) => Place::Records { topic, stream, next: stream.first },
            None => Place::Topic { after: Some(topic) },
        })
    }

    fn records(
        &mut self,
        snapshot: &Snapshot,
        (topic, stream, mut next): (String, Stream, u64),
        part: &mut Part,
        at_once: AtOnce,
    ) -> Outcome<Place> {
        let begins_anew = is_document(&topic) && at_once == AtOnce(false);
        if next > stream.last {
            return Ok(Place::Topic { after: Some(topic) });
        }
        for entry in snapshot.records.range((stream.number, next)..=(stream.number, stream.last))? {
            if part.is_full() && at_once == AtOnce(false) {
                return Ok(Place::Records { topic, stream, next });
            }
            let (key, value) = entry?;
            let (seq, (at_ms, bytes)) = (key.value().1, value.value());
            if seq != next && begins_anew {
                return self.document_anew(snapshot, topic, part);
            }
            if seq != next {
                part.write(|text| lines::write_first(text, seq));
            }
            self.counts.records += 1;
            part.write(|text| lines::write_record(text, (&topic, stream.last), (seq, at_ms, bytes)));
            next = seq + 1;
        }
        if next <= stream.last && begins_anew {
            return self.document_anew(snapshot, topic, part);
        }
        if next <= stream.last {
            part.write(|text| lines::write_first(text, stream.last + 1));
        }
        Ok(Place::Topic { after: Some(topic) })
    }

    /// Writes the text of a document, and what is behind it, as they are now. How much that is, is bounded by `SNAPSHOT_BYTES`.
    fn document_anew(&mut self, snapshot: &Snapshot, topic: String, part: &mut Part) -> Outcome<Place> {
        let Some(stream) = snapshot.stream(&topic)? else { return Ok(Place::Topic { after: Some(topic) }) };
        let saved = snapshot.replay(&topic)?.map_or(0, |replay| replay.version());
        let first = saved.saturating_add(1).max(stream.first).min(stream.last + 1);
        part.write(|text| lines::write_anew(text, first, stream.last));
        self.values(snapshot, (topic.clone(), None, String::new()), part)?;
        self.records(snapshot, (topic, stream, first), part, AtOnce(true))
    }
}

/// Whether records are read to their end, however full the part is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct AtOnce(bool);

impl Iterator for Export {
    type Item = Result<String, redb::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.part().transpose()
    }
}
