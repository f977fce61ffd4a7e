//! The lines of an export that are about documents: the text that was written last, and operations. What is not as a relay writes
//! it stands there as bytes, so that it comes through as it is.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::{
    DOCUMENT_BYTES_MAX, OP_ID_BYTES_MAX, OPERATION_TOLD_BYTES_MAX, USER_ID_BYTES_MAX, WRITERS_MAX,
};
use crate::room::document_record::{Record, SNAPSHOT_KEY, Snapshot, Writers};
use crate::wire::json::Object;
use crate::wire::operation::Operation;

/// The word before the colon of a document's topic.
const PREFIX: &str = "doc:";

/// Whether a topic is a document.
pub(super) fn is_document(topic: &str) -> bool {
    topic.starts_with(PREFIX)
}

/// Writes what a text says, if it can be read back byte for byte.
pub(super) fn write_snapshot(line: &mut Object<'_>, key: &str, bytes: &[u8]) -> bool {
    let is_same = |snapshot: &Snapshot| *snapshot.encode() == *bytes && check(snapshot).is_ok();
    let Some(Snapshot { version, writers, text }) =
        Snapshot::decode(bytes).filter(|snapshot| key == SNAPSHOT_KEY && is_same(snapshot))
    else {
        return false;
    };
    line.number("version", version).array("writers", |list| {
        for (user, op_id, version) in writers.iter() {
            list.object(|writer| {
                writer.text("user", user).text("op_id", op_id).number("version", version);
            });
        }
    });
    line.text("text", &text);
    true
}

/// Writes what a record says, if it can be read back byte for byte.
pub(super) fn write_operation(line: &mut Object<'_>, bytes: &[u8]) -> bool {
    let is_same = |record: &Record<'_>| {
        *Record::encode(record.op_id, record.user, &record.operation) == *bytes
            && check_ids(record.user, record.op_id.unwrap_or_default()).is_ok()
    };
    let Some(record) = Record::decode(bytes).filter(is_same) else { return false };
    line.text("user", record.user);
    if let Some(op_id) = record.op_id {
        line.text("op_id", op_id);
    }
    line.raw("op", &record.operation.to_json());
    true
}

/// One of the writers in the line of a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriterFields<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    op_id: Cow<'a, str>,
    version: u64,
}

/// The value that a line with `text` stands for.
pub(super) fn read_snapshot(
    text: &str,
    version: Option<u64>,
    writers: Option<Vec<WriterFields<'_>>>,
) -> Result<Vec<u8>, String> {
    let Some(version) = version else { return Err("a text has a `version`".into()) };
    let writers_listed = writers.unwrap_or_default();
    if writers_listed.len() > WRITERS_MAX {
        return Err(format!("a text has at most {WRITERS_MAX} `writers`"));
    }
    let mut writers = Writers::default();
    for WriterFields { user, op_id, version } in &writers_listed {
        check_ids(user, op_id)?;
        writers.note(user, op_id, *version);
    }
    let snapshot = Snapshot { version, writers, text: text.into() };
    check(&snapshot)?;
    Ok(snapshot.encode().to_vec())
}

/// The record that a line with `op` stands for.
pub(super) fn read_operation(op: &RawValue, user: &str, op_id: Option<&str>) -> Result<Vec<u8>, String> {
    check_ids(user, op_id.unwrap_or_default())?;
    let Some(operation) = Operation::read(op.get()) else {
        return Err("`op` is no list of components".into());
    };
    if operation.json_bytes() > OPERATION_TOLD_BYTES_MAX {
        return Err(format!("an operation has at most {OPERATION_TOLD_BYTES_MAX} bytes of JSON"));
    }
    Ok(Record::encode(op_id, user, &operation).to_vec())
}

/// Whether a relay could have written it.
fn check(snapshot: &Snapshot) -> Result<(), String> {
    if snapshot.text.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("`text` has at most {DOCUMENT_BYTES_MAX} bytes"));
    }
    if snapshot.writers.iter().count() > WRITERS_MAX {
        return Err(format!("a text has at most {WRITERS_MAX} `writers`"));
    }
    snapshot.writers.iter().try_for_each(|(user, op_id, _)| check_ids(user, op_id))
}

fn check_ids(user: &str, op_id: &str) -> Result<(), String> {
    if user.len() > USER_ID_BYTES_MAX || op_id.len() > OP_ID_BYTES_MAX {
        return Err(format!("`user` has at most {USER_ID_BYTES_MAX} bytes, `op_id` {OP_ID_BYTES_MAX}"));
    }
    Ok(())
}
