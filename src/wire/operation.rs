//! An edit of a text: what becomes of it from its begin to its end (PROTOCOL 4, Documents). Positions and lengths count Unicode
//! scalar values.

use super::json::{Array, array_of, object_of, string_bytes};
use super::phoenix::fields::{elements, named, string, whole};
use crate::limits::{DOCUMENT_BYTES_MAX, OPERATION_COMPONENTS_MAX, OPERATION_JSON_BYTES_MAX};
use crate::memory::Allocated;

/// See the module documentation. In normal form: no component is empty, neighbours are of different kinds, an insert stands before
/// a delete at the same place, and nothing is kept at the end, where what is not mentioned is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    components: Vec<Component>,
}

/// One step of an operation, from where the one before it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// So many characters stay.
    Keep(u32),
    /// Text is inserted.
    Insert {
        #[allow(missing_docs, reason = "the name says it")]
        text: String,
        /// Of the text.
        characters: u32,
    },
    /// So many characters are deleted.
    Delete(u32),
}

impl Operation {
    /// The components, in order.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Goes on behind `characters` of the text.
    pub fn keep(&mut self, characters: u32) -> &mut Self {
        match self.components.last_mut() {
            _ if characters == 0 => {}
            Some(Component::Keep(kept)) => *kept = kept.saturating_add(characters),
            _ => self.components.push(Component::Keep(characters)),
        }
        self
    }

    /// Inserts `text`, which has so many characters.
    pub fn insert(&mut self, text: &str, characters: u32) -> &mut Self {
        debug_assert_eq!(text.chars().count(), characters as usize);
        if characters == 0 {
            return self;
        }
        let behind_delete = matches!(self.components.last(), Some(Component::Delete(_)));
        let place = self.components.len() - usize::from(behind_delete);
        match place.checked_sub(1).map(|before| &mut self.components[before]) {
            Some(Component::Insert { text: before, characters: sum }) => {
                before.push_str(text);
                *sum += characters;
            }
            _ => self.components.insert(place, Component::Insert { text: text.into(), characters }),
        }
        self
    }

    /// Deletes the next `characters` of the text.
    pub fn delete(&mut self, characters: u32) -> &mut Self {
        match self.components.last_mut() {
            _ if characters == 0 => {}
            Some(Component::Delete(deleted)) => *deleted = deleted.saturating_add(characters),
            _ => self.components.push(Component::Delete(characters)),
        }
        self
    }

    /// Ends it: what is not mentioned is kept.
    #[must_use]
    pub fn end(&mut self) -> Self {
        if let Some(Component::Keep(_)) = self.components.last() {
            self.components.pop();
        }
        std::mem::take(self)
    }

    /// Least length of a text that it can be applied to, in characters.
    pub fn reach(&self) -> u64 {
        let reached = |component: &Component| match component {
            Component::Keep(characters) | Component::Delete(characters) => u64::from(*characters),
            Component::Insert { .. } => 0,
        };
        self.components.iter().map(reached).sum()
    }

    /// How many characters it inserts, and how many it deletes.
    pub fn changes(&self) -> (u64, u64) {
        self.components.iter().fold((0, 0), |(inserted, deleted), component| match component {
            Component::Keep(_) => (inserted, deleted),
            Component::Insert { characters, .. } => (inserted + u64::from(*characters), deleted),
            Component::Delete(characters) => (inserted, deleted + u64::from(*characters)),
        })
    }

    /// Reads what a client writes: a list of components, `{type: "insert", position, content}`, or `{type: "delete", position,
    /// length}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, OperationError> {
        let operation = match elements(json) {
            Some(components) if components.len() > OPERATION_COMPONENTS_MAX => {
                return Err(OperationError::TooManyComponents { count: components.len() });
            }
            Some(components) => {
                Self::of_list(&components).map_err(|index| OperationError::WrongComponent { index })?
            }
            None => Self::of_object(json).ok_or(OperationError::NoOperation)?,
        };
        if operation.json_bytes() > OPERATION_JSON_BYTES_MAX {
            return Err(OperationError::TooLong { bytes: operation.json_bytes() });
        }
        Ok(operation)
    }

    /// `Err`: the index of the first component that is none.
    fn of_list(components: &[&str]) -> Result<Self, usize> {
        let mut operation = Self::default();
        for (index, component) in components.iter().enumerate() {
            if let Some(text) = string(component) {
                operation.insert(&text, text.chars().count() as u32);
            } else if let Some(deleted) = component.strip_prefix('-') {
                operation.delete(characters(deleted).ok_or(index)?);
            } else {
                operation.keep(characters(component).ok_or(index)?);
            }
        }
        Ok(operation.end())
    }

    fn of_object(json: &str) -> Option<Self> {
        let [kind, position, content, length] = named(json, ["type", "position", "content", "length"]);
        let mut operation = Self::default();
        operation.keep(characters(position?)?);
        match &*string(kind?)? {
            "insert" => {
                let content = string(content?)?;
                operation.insert(&content, content.chars().count() as u32);
            }
            "delete" => {
                operation.delete(characters(length?)?);
            }
            _ => return None,
        }
        Some(operation.end())
    }

    /// Reads what `to_json` has written, however long; `None`: it is something else.
    pub fn read(json: &str) -> Option<Self> {
        Self::of_list(&elements(json)?).ok()
    }

    /// The list of its components.
    pub fn to_json(&self) -> String {
        array_of(self.json_bytes(), |list| {
            for component in &self.components {
                component.write(list);
            }
        })
    }

    /// Length of `to_json`.
    pub fn json_bytes(&self) -> usize {
        2 + self.components.iter().map(Component::json_bytes).sum::<usize>()
            + self.components.len().saturating_sub(1)
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let text = |component: &Component| match component {
            Component::Insert { text, .. } => text.allocated_bytes(),
            Component::Keep(_) | Component::Delete(_) => 0,
        };
        self.components.allocated_bytes() + self.components.iter().map(text).sum::<usize>()
    }
}

impl Component {
    fn write(&self, list: &mut Array<'_>) {
        match self {
            Self::Keep(characters) => list.number(*characters),
            Self::Insert { text, .. } => list.text(text),
            Self::Delete(characters) => list.negative(*characters),
        };
    }

    fn json_bytes(&self) -> usize {
        match self {
            Self::Keep(characters) => digits(*characters),
            Self::Insert { text, .. } => string_bytes(text),
            Self::Delete(characters) => 1 + digits(*characters),
        }
    }
}

/// The payload that tells of an operation, and of the version that it made.
pub fn told(operation: &Operation, version: u64, user: &str, op_id: Option<&str>) -> String {
    let json = operation.to_json();
    object_of(json.len() + user.len() + op_id.map_or(0, str::len) + TOLD_FRAME_BYTES, |told| {
        told.raw("op", &json).number("version", version).text("user_id", user);
        if let Some(op_id) = op_id {
            told.text("op_id", op_id);
        }
    })
}

/// What it has besides its values.
const TOLD_FRAME_BYTES: usize = 64;

fn digits(number: u32) -> usize {
    1 + number.checked_ilog10().unwrap_or(0) as usize
}

/// No text has more characters than it may have bytes.
fn characters(json: &str) -> Option<u32> {
    whole(json).filter(|characters| *characters as usize <= DOCUMENT_BYTES_MAX)
}

/// Why something is no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum OperationError {
    #[error(
        "op must be a list such as [5, \"text\", -3], or {{type: \"insert\", position, content}}, or {{type: \"delete\", position, length}}"
    )]
    NoOperation,
    #[error(
        "element {index} of op must be a text to insert, so many characters to keep, or the negative number of characters to delete; no number is above {DOCUMENT_BYTES_MAX}"
    )]
    WrongComponent { index: usize },
    #[error("op has {count} components, at most {OPERATION_COMPONENTS_MAX} are allowed; send it in parts")]
    TooManyComponents { count: usize },
    #[error("op has {bytes} bytes of JSON, at most {OPERATION_JSON_BYTES_MAX} are allowed; send it in parts")]
    TooLong { bytes: usize },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(json: &str) -> String {
        match Operation::parse(json) {
            Ok(operation) => operation.to_json(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_read_is_in_normal_form() {
        for (json, normal) in [
            (r#"[5,"text",-3]"#, r#"[5,"text",-3]"#),
            (r#"[5, "text", -3, 9]"#, r#"[5,"text",-3]"#),
            (r#"[1,2.0,-1,-1e0,"a","","\u0062",0,-0,"c"]"#, r#"[3,"abc",-2]"#),
            (r#"[-2,"a",1,"b"]"#, r#"["a",-2,1,"b"]"#),
            (r#"["a",-1,"b",-1]"#, r#"["ab",-2]"#),
            ("[]", "[]"),
            ("[7]", "[]"),
            (r#"{"type":"insert","position":3,"content":"🦀\n"}"#, r#"[3,"🦀\n"]"#),
            (r#"{"type":"delete","length":2,"position":0}"#, "[-2]"),
        ] {
            assert_eq!(parsed(json), normal, "{json}");
        }
    }

    #[test]
    fn what_is_no_operation_is_told_what_would_be_one() {
        for (json, says) in [
            ("7", "op must be a list"),
            ("null", "op must be a list"),
            (r#"{"type":"replace","position":0}"#, "op must be a list"),
            (r#"{"type":"insert","position":-1,"content":"a"}"#, "op must be a list"),
            (r#"{"type":"delete","position":1,"length":-2}"#, "op must be a list"),
            (r#"[1,true]"#, "element 1 of op"),
            (r#"[[1]]"#, "element 0 of op"),
            (r#"[null]"#, "element 0 of op"),
            (r#"["a",{}]"#, "element 1 of op"),
            ("[1.5]", "element 0 of op"),
            ("[262145]", "no number is above 262144"),
            ("[-4294967296]", "no number is above 262144"),
        ] {
            assert!(parsed(json).contains(says), "{json}: {}", parsed(json));
        }
        let many = format!("[{}1]", "1,\"a\",".repeat(500));
        assert!(parsed(&many).contains("1001 components, at most 1000"), "{}", parsed(&many));
        let long = format!("[\"{}\"]", "a".repeat(OPERATION_JSON_BYTES_MAX - 3));
        assert!(parsed(&long).contains("57345 bytes of JSON, at most 57344"), "{}", parsed(&long));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(texts in proptest::collection::vec((any::<String>(), 0..300_u32, 0..300_u32), 0..6)) {
            let mut operation = Operation::default();
            for (text, keep, delete) in &texts {
                operation.keep(*keep).insert(text, text.chars().count() as u32).delete(*delete);
            }
            let operation = operation.end();
            let json = operation.to_json();
            prop_assert_eq!(json.len(), operation.json_bytes());
            prop_assert_eq!(Operation::read(&json), Some(operation.clone()));
            prop_assert_eq!(Operation::parse(&json), Ok(operation));
        }
    }
}
