//! What a topic asks of the store, and what the store answers. A topic has a stream of what was said, in numbered records under an
//! epoch, and a few values by key. A file stands behind these messages; a replicated log could.
//!
//! A topic has one `Append` in flight at a time. What it has asked is answered once; a refusal means that nothing was written. Nobody
//! else writes its stream, but an operator may begin it: of those who do so, one is first, and the others get `Conflict`.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::Topic;

/// Where a stream ends, as the store counts. Topics hand it back and read nothing into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub u64);

/// What is asked about one topic's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct StoreRequest {
    pub topic: Arc<Topic>,
    pub action: StoreAction,
    /// What is too old by now counts as not there.
    pub retention: Retention,
}

/// What the store is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoreAction {
    /// The end of the stream, the last records before it, and all values. → `Loaded`
    Load { page: PageSize },
    /// A change of the topic, all or nothing. → `Appended`, `Conflict`
    Append {
        /// Names the stream if this is its begin.
        epoch: u64,
        /// Where the topic believes that the stream ends.
        expected: Cursor,
        #[allow(missing_docs, reason = "the name says it")]
        change: Change,
    },
    /// The last records before a number. → `Page`
    Read { before: u64, page: PageSize },
}

/// What is written at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// More of the stream: their numbers go on where it ends.
    pub records: Vec<StoredRecord>,
    /// Records that were written before, as they are from now on. One that is not kept any more stays away.
    pub amended: Vec<StoredRecord>,
    /// Values as they are from now on. Of two with the same key the last counts.
    pub values: Vec<StoredValue>,
}

/// A value that a topic keeps beside its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// At most 160 bytes.
    pub key: Box<str>,
    /// `None`: there is none.
    pub bytes: Option<Arc<[u8]>>,
}

/// At most so many records, of at most so many bytes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PageSize {
    pub records: usize,
    pub bytes: usize,
}

/// Which records of a stream are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The last so many …
    pub records: u64,
    /// … that are not older than this, in unix ms.
    pub since_ms: u64,
}

impl Retention {
    /// Whether a record is kept in a stream whose last one has the number `last`.
    pub fn keeps(&self, last: u64, seq: u64, at_ms: u64) -> bool {
        last.saturating_sub(seq) < self.records && at_ms >= self.since_ms
    }
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number: one more than the one before.
    pub seq: u64,
    /// When it was said, in unix ms.
    pub at_ms: u64,
    /// Only the topic can read them.
    pub bytes: Arc<[u8]>,
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// To `Load`.
    Loaded {
        /// `None`: nothing was ever said.
        stream: Option<StreamEnd>,
        /// Oldest first, without a gap, up to the end.
        records: Vec<StoredRecord>,
        /// Everything that the topic keeps beside its stream, sorted by key.
        values: Vec<StoredValue>,
    },
    /// To `Append`: everything is on disk.
    Appended(Cursor),
    /// To `Append`: the stream ends elsewhere, because somebody else has written. Nothing was.
    Conflict,
    /// To `Read`: oldest first.
    Page {
        #[allow(missing_docs, reason = "the name says it")]
        records: Vec<StoredRecord>,
        /// There are older ones.
        more: bool,
    },
    /// To anything: it was not done.
    Refused(Unavailable),
}

impl StoreAnswer {
    /// Bytes of what was read.
    pub fn bytes(&self) -> usize {
        let of_records =
            |records: &[StoredRecord]| records.iter().map(|record| record.bytes.len()).sum::<usize>();
        match self {
            Self::Loaded { records, values, .. } => {
                let of_values =
                    values.iter().filter_map(|value| value.bytes.as_ref()).map(|bytes| bytes.len());
                of_records(records) + of_values.sum::<usize>()
            }
            Self::Page { records, .. } => of_records(records),
            Self::Appended(_) | Self::Conflict | Self::Refused(_) => 0,
        }
    }
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct StreamEnd {
    pub epoch: u64,
    /// Number of the last record, whether it is kept or not.
    pub seq: u64,
    pub cursor: Cursor,
}

/// Why something was not done, though it could be later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Too much waits for the store.
    Busy,
    /// The disk is full.
    Full,
    /// The disk fails.
    Failed,
}

impl Unavailable {
    /// The word by which clients are told.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Busy => "overload",
            Self::Full => "storage_full",
            Self::Failed => "unavailable",
        }
    }

    /// After which time it is worth another try.
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::Busy => Duration::from_secs(1),
            Self::Full | Self::Failed => Duration::from_secs(5),
        }
    }
}
