//! A document as the tools and the admin pages show it: its text at the end of what is kept.

use thiserror::Error;

use super::database::{Outcome, Snapshot};
use super::export::StoreReader;
use crate::ids::Topic;
use crate::room::document_archive::Replay;
use crate::room::document_record::SNAPSHOT_KEY;

/// See the module documentation.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct StoredDocument {
    pub epoch: u64,
    /// Number of operations that made the text.
    pub version: u64,
    /// In characters.
    pub length: u64,
    pub text: String,
}

/// Why there is no text to show.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum DocumentError {
    #[error("{0}")]
    Store(#[from] redb::Error),
    #[error(
        "what is kept of {topic} makes no text; stop the relay: `corelay store check` names what is wrong"
    )]
    NoText { topic: String },
}

impl StoreReader {
    /// The document; `None`: there is none.
    pub fn document(&self, topic: &Topic) -> Result<Option<StoredDocument>, DocumentError> {
        let name = topic.to_string();
        let read = self.database.with(|database| read(&Snapshot::of(database)?, &name))?;
        match read {
            Read::Nothing => Ok(None),
            Read::Text(document) => Ok(Some(document)),
            Read::NoText => Err(DocumentError::NoText { topic: name }),
        }
    }
}

enum Read {
    Nothing,
    Text(StoredDocument),
    NoText,
}

fn read(snapshot: &Snapshot, topic: &str) -> Outcome<Read> {
    let Some(stream) = snapshot.stream(topic)? else { return Ok(Read::Nothing) };
    let Some(mut replay) = snapshot.replay(topic)? else { return Ok(Read::NoText) };
    // A text of more operations than there are ends in an empty range, and is found below.
    let first = replay.version().saturating_add(1).min(stream.last.saturating_add(1));
    for entry in snapshot.records.range((stream.number, first)..=(stream.number, stream.last))? {
        let (key, value) = entry?;
        if replay.add(key.value().1, value.value().1).is_err() {
            return Ok(Read::NoText);
        }
    }
    if replay.version() != stream.last {
        return Ok(Read::NoText);
    }
    let (epoch, version) = (stream.epoch, stream.last);
    let (length, text) = (replay.length() as u64, replay.text());
    Ok(Read::Text(StoredDocument { epoch, version, length, text }))
}

impl Snapshot {
    /// The text of a document that was written last, for the operations behind it. `None`: it cannot be read.
    pub(super) fn replay(&self, topic: &str) -> Outcome<Option<Replay>> {
        let saved = self.values.get((topic, SNAPSHOT_KEY))?;
        Ok(Replay::begin(saved.as_ref().map(|saved| saved.value())))
    }
}
