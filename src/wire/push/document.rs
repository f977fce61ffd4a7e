//! What clients push to a document (PROTOCOL 4, Documents).

use super::{PushClass, unknown_event};
use crate::limits::{DOCUMENT_BYTES_MAX, OP_ID_BYTES_MAX};
use crate::wire::operation::Operation;
use crate::wire::phoenix::answers::reason;
use crate::wire::phoenix::fields::{named, string, whole};
use crate::wire::seen::read_epoch;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DocumentPush {
    Operation(Edit),
    Cursor {
        /// `None`: it is nowhere.
        place: Option<CursorPlace>,
        /// Of the text that the position is in.
        version: u64,
    },
    /// `operations`: those that made the later versions.
    Operations {
        after: u64,
    },
}

/// An `operation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    #[allow(missing_docs, reason = "the name says it")]
    pub operation: Operation,
    /// The version that it was made against …
    pub version: u64,
    /// … of this stream; `None`: of the one that is there.
    pub epoch: Option<u64>,
    /// Names it, so that the client can send it again.
    pub op_id: Option<Box<str>>,
}

/// Where a cursor is, in characters of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CursorPlace {
    pub position: u32,
    /// The other end of what is selected, if something is.
    pub selection_end: Option<u32>,
}

impl DocumentPush {
    /// Reads a push, and which budgets it takes from. `Err`: the answer that refuses it, a JSON object.
    pub(super) fn parse(event: &str, json: &str) -> (PushClass, Result<Self, String>) {
        match event {
            "operation" => (PushClass::Operation, operation(json)),
            "cursor" => (PushClass::Cursor, cursor(json)),
            "operations" => (PushClass::Page, operations(json)),
            event => (PushClass::Event, Err(unknown_event(event, "operation, operations, cursor"))),
        }
    }
}

fn operation(json: &str) -> Result<DocumentPush, String> {
    let [operation, version, epoch, op_id] = named(json, ["op", "version", "epoch", "op_id"]);
    let operation =
        Operation::parse(operation.unwrap_or("null")).map_err(|error| reason(&error.to_string()))?;
    let version = version.and_then(whole).ok_or_else(|| {
        reason("version must be the number of the version that the operation was made against")
    })?;
    let op_id = op_id.map(|id| {
        let id = string(id).filter(|id| (1..=OP_ID_BYTES_MAX).contains(&id.len()));
        id.map(Box::from)
            .ok_or_else(|| reason(&format!("op_id must be a string of 1 to {OP_ID_BYTES_MAX} bytes")))
    });
    let wrong_epoch = || reason("epoch must be that of the text, as doc_state says it");
    let epoch = epoch.map(|epoch| read_epoch(epoch).ok_or_else(wrong_epoch)).transpose()?;
    Ok(DocumentPush::Operation(Edit { operation, version, epoch, op_id: op_id.transpose()? }))
}

fn cursor(json: &str) -> Result<DocumentPush, String> {
    let [position, selection_end, version] = named(json, ["position", "selection_end", "version"]);
    let in_text = |json| whole(json).filter(|position| *position as usize <= DOCUMENT_BYTES_MAX);
    let cursor = || {
        let selection_end = selection_end.map_or(Some(None), |end| in_text(end).map(Some))?;
        let place = match position {
            Some(position) => Some(CursorPlace { position: in_text(position)?, selection_end }),
            None => None,
        };
        Some(DocumentPush::Cursor { place, version: whole(version?)? })
    };
    cursor().ok_or_else(|| {
        reason("cursor takes {position: whole number or null, selection_end?: whole number, version}")
    })
}

fn operations(json: &str) -> Result<DocumentPush, String> {
    let [after] = named(json, ["after"]);
    let after = after.and_then(whole).map(|after| DocumentPush::Operations { after });
    after.ok_or_else(|| reason("operations takes {after: the number of the version that you have}"))
}
