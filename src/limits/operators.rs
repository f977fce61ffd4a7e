//! Bounds of what operators use: the admin pages, and the tools of the store.

use std::time::Duration;

/// Lines that an export reads from the store at once, …
pub const EXPORT_PART_LINES: usize = 64;
/// … or bytes of its text; one line may pass them, and what a document begins anew with. More come with the next read, which sees what was written meanwhile.
pub const EXPORT_PART_BYTES: usize = 256 * 1024;
/// Parts of an export that wait for whoever reads it from the admin pages. More are not read from the store yet.
pub const EXPORT_PARTS_AHEAD: usize = 2;
/// Records that `corelay store` reads or writes in one transaction. More are further transactions.
pub const TOOL_BATCH_RECORDS: usize = 4 * 1024;
/// Bytes of the records that an import writes in one transaction.
pub const TOOL_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Line of an export: a message with its body takes a few KiB, the text of a document, all of whose letters are escaped, 1.5 MiB,
/// and its writers as much. Longer: the import refuses it.
pub const IMPORT_LINE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Values of one topic in an export, which are written at once: far more than a room keeps. More: the import refuses the topic.
pub const IMPORT_VALUES_MAX: usize = 16 * 1024;
/// Faults that `corelay store check` names. More are counted only.
pub const FAULTS_NAMED_MAX: usize = 100;
/// Topics that `corelay store stats` names: those with most bytes. The others are in the sums.
pub const STATS_TOPICS: usize = 10;
/// Games of `/games.json`. More: those with fewer players are left out, and the list says that it is cut.
pub const GAMES_LISTED_MAX: usize = 100;
/// Documents that the admin pages read from the store at once. Who comes meanwhile waits, with the read for `QUESTION_WAIT`: then
/// 503.
pub const DOCUMENT_READS_MAX: usize = 2;
/// Bytes that are read of a document's text that is longer than `DOCUMENT_BYTES_MAX`, so that whoever sends it hears why it is
/// refused. More: the connection ends.
pub const DOCUMENT_UPLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Browsers that are signed in to the admin pages at once. One more: the one that signed in first is signed out.
pub const ADMIN_SESSIONS_MAX: usize = 64;
/// How long a browser stays signed in. Later: it signs in again.
pub const ADMIN_SESSION_TIME: Duration = Duration::from_secs(12 * 3_600);
/// Body of an attempt to sign in, in bytes. Longer: it is not read, and refused like a wrong token.
pub const ADMIN_SIGN_IN_BYTES_MAX: usize = 4_096;
/// How long whoever signs in with a wrong token waits for the answer: guessing is slow.
pub const ADMIN_SIGN_IN_PAUSE: Duration = Duration::from_millis(500);
/// Visitors of the admin pages at once. One more: the longest visit is ended, so that a health check is always answered, whoever
/// else sits there.
pub const ADMIN_VISITORS_MAX: usize = 64;
/// A visit to the admin pages from accept to the last byte of the answer: one request. An export may last longer, as long as each
/// part is taken within this time. Longer: the connection is closed.
pub const ADMIN_VISIT_TIME_MAX: Duration = Duration::from_secs(10);
