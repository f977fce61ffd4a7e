//! A chat message as the store keeps it: what `Chat` needs of it, and what members are sent.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version: 1 |
//! | 1 | length of `client_id`; 0: none |
//! | 1 | length of the user id |
//! | | `client_id`, user id, payload (the JSON object that members get), each UTF-8 |

use std::sync::Arc;

use crate::limits::{CLIENT_ID_BYTES_MAX, USER_ID_BYTES_MAX};

const VERSION: u8 = 1;

const _: () = assert!(CLIENT_ID_BYTES_MAX < 256 && USER_ID_BYTES_MAX < 256, "their length is one byte");

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) client_id: Option<&'a str>,
    pub(super) user: &'a str,
    pub(super) payload: &'a str,
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Arc<[u8]> {
        let client_id = self.client_id.unwrap_or_default();
        let head = [VERSION, client_id.len() as u8, self.user.len() as u8];
        [&head[..], client_id.as_bytes(), self.user.as_bytes(), self.payload.as_bytes()].concat().into()
    }

    /// `None`: it is none, or a newer relay has written it.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, texts) = bytes.split_first_chunk::<3>()?;
        let [VERSION, client_id_bytes, user_bytes] = *head else { return None };
        let (client_id, texts) = texts.split_at_checked(client_id_bytes.into())?;
        let (user, payload) = texts.split_at_checked(user_bytes.into())?;
        let client_id = str::from_utf8(client_id).ok()?;
        Some(Self {
            client_id: (!client_id.is_empty()).then_some(client_id),
            user: str::from_utf8(user).ok()?,
            payload: str::from_utf8(payload).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for (client_id, user) in [(None, "ann"), (Some("c-1"), ""), (Some("ü"), "bø")] {
            let record = Record { client_id, user, payload: r#"{"body":"hé"}"# };
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
        }
        let bytes = Record { client_id: Some("abc"), user: "ann", payload: "" }.encode();
        for end in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Record::decode(&[2, 0, 0]), None, "of a newer relay");
        assert_eq!(Record::decode(&[1, 0, 1, 0xFF]), None, "no UTF-8");
    }
}
