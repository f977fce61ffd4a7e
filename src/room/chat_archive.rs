//! What whoever looks after a store may know of what rooms keep there: whether it can be read, how it was at an earlier number,
//! and what is left of it when a user is forgotten.

use std::sync::Arc;

use super::chat_people;
use super::chat_record::{About, Kind, Record};
use crate::ids::StreamPosition;
use crate::wire::message::tombstone;

/// A record as it reads in a stream that ends at `last`: an amendment by a later event has no number there.
pub fn as_of(record: Record<'_>, last: u64) -> Record<'_> {
    let about = if record.about.seq > last { About::default() } else { record.about };
    Record { about, ..record }
}

/// Whether a room can read what it keeps under a key.
pub fn is_value(key: &str, bytes: &[u8]) -> bool {
    chat_people::read(key, bytes).is_some()
}

/// The keys of the values about a user.
pub fn keys_about(user: &str) -> [Box<str>; 3] {
    chat_people::keys_of(user)
}

/// What is left of the record with the number `id.seq` when its user is forgotten. A message leaves a tombstone, as if it had been
/// deleted; an edit is one that others have replaced; a deletion stays, and nobody has done it.
pub fn without_user(record: &Record<'_>, id: StreamPosition) -> Arc<[u8]> {
    let tombstone = tombstone(id);
    let (kind, about, payload) = match record.kind {
        // Its edits are forgotten with it: there is no latest one any more.
        Kind::Message => (Kind::Erased, About::default(), tombstone.as_str()),
        Kind::Erased => (Kind::Erased, record.about, tombstone.as_str()),
        Kind::Edited | Kind::Replaced => (Kind::Replaced, record.about, ""),
        Kind::Deleted => (Kind::Deleted, record.about, record.payload),
    };
    Record { kind, about, client_id: None, user: "", payload }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_user_is_left() {
        let id = StreamPosition { epoch: 0xAB, seq: 7 };
        let about = About { seq: 3, at_ms: 30 };
        let gone = r#"{"id":"ab-7","seq":7,"deleted":true}"#;
        let said = r#"{"id":"ab-3","seq":7}"#;
        for (kind, left, about_left, payload) in [
            (Kind::Message, Kind::Erased, About::default(), gone),
            (Kind::Erased, Kind::Erased, about, gone),
            (Kind::Edited, Kind::Replaced, about, ""),
            (Kind::Replaced, Kind::Replaced, about, ""),
            (Kind::Deleted, Kind::Deleted, about, said),
        ] {
            let record = Record { kind, about, client_id: Some("c"), user: "ann", payload: said };
            let bytes = without_user(&record, id);
            let expected = Record { kind: left, about: about_left, client_id: None, user: "", payload };
            assert_eq!(Record::decode(&bytes), Some(expected), "{kind:?}");
        }
    }

    #[test]
    fn values_about_a_user_are_known() {
        for key in keys_about("a:b") {
            assert!(is_value(&key, &[0; 8]) && !is_value(&key, &[0; 7]), "{key}");
        }
        assert!(!is_value("likes:ann", &[0; 8]) && !is_value("read", &[0; 8]));
    }

    #[test]
    fn what_came_later_has_no_number() {
        let about = About { seq: 9, at_ms: 90 };
        let record = || Record { kind: Kind::Message, about, client_id: None, user: "ann", payload: "{}" };
        assert_eq!(as_of(record(), 9).about, about);
        assert_eq!(as_of(record(), 8).about, About::default());
    }
}
