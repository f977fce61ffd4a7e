//! Why there is no store: what is wrong, and what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// One line says what is wrong and what would be right.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoreError {
    #[error("cannot create the data directory {}: {source}; choose another with --data-dir, or --ephemeral", path.display())]
    NoDirectory { path: PathBuf, source: io::Error },
    #[error("there is no store in {}; name the data directory of the relay with --data-dir", path.display())]
    NoStore { path: PathBuf },
    #[error("cannot write to {}: {source}; make it writable, choose another with --data-dir, or --ephemeral", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("no room to write to {}: {source}; make room on its disk, or choose another directory with --data-dir", path.display())]
    NoRoom { path: PathBuf, source: io::Error },
    #[error(
        "{} is in use by another process{holder}; a data directory belongs to one relay: stop that one (a relay that is \
         draining is waited for), or choose another with --data-dir",
        path.display()
    )]
    InUse {
        path: PathBuf,
        /// ` (process N)`, or empty.
        holder: String,
    },
    #[error(
        "{} was written by a newer corelay (schema {found}; this one knows {known}); run that one, or choose another data \
         directory with --data-dir",
        path.display()
    )]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error(
        "{} was written before the first release (schema {found}; this one knows {known}); move it away to begin with nothing",
        path.display()
    )]
    Older { path: PathBuf, found: u64, known: u64 },
    #[error(
        "{} is damaged, or is no store of corelay: {what}; put a backup in its place, or move it away to begin with nothing",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error("cannot use {}: {source}", path.display())]
    Unusable { path: PathBuf, source: Box<redb::Error> },
}

impl StoreError {
    /// What redb says of the file at `path`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "redb's list is not closed")]
    pub(super) fn of(path: PathBuf, error: redb::Error) -> Self {
        use redb::Error::{
            Corrupted, DatabaseAlreadyOpen, Io, RepairAborted, TableTypeMismatch, UpgradeRequired,
        };
        match error {
            DatabaseAlreadyOpen => Self::InUse { path, holder: String::new() },
            Corrupted(what) => Self::Damaged { path, what },
            error @ (RepairAborted | TableTypeMismatch { .. } | UpgradeRequired(_)) => {
                Self::Damaged { path, what: error.to_string() }
            }
            Io(source)
                if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged { path, what: source.to_string() }
            }
            Io(source) if is_no_room(&source) => Self::NoRoom { path, source },
            Io(source) => Self::NotWritable { path, source },
            other => Self::Unusable { path, source: Box::new(other) },
        }
    }
}

/// Whether the disk is full, or the user's share of it.
pub(super) fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error) if is_no_room(error))
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
