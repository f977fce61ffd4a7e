//! An event of a room as the store keeps it: what `Chat` needs of it, and what members are sent.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version: 2 |
//! | 1 | kind: see `Kind` |
//! | 1 | length of `client_id`; 0: none |
//! | 1 | length of the user id |
//! | 8 | number of the event that it is about, big-endian; 0: none |
//! | 8 | when that was, in unix ms, big-endian |
//! | | `client_id`, user id, payload (the JSON object that members get), each UTF-8 |

use std::sync::Arc;

use crate::limits::{CLIENT_ID_BYTES_MAX, USER_ID_BYTES_MAX};

const VERSION: u8 = 2;
const HEAD_BYTES: usize = 20;

const _: () = assert!(CLIENT_ID_BYTES_MAX < 256 && USER_ID_BYTES_MAX < 256, "their length is one byte");

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message, as it reads now. It may be about its latest edit.
    Message,
    /// A message that was deleted: its payload says no more than that.
    Erased,
    /// A message, which it is about, was edited.
    Edited,
    /// A message, which it is about, was deleted.
    Deleted,
    /// An edit that a later one, or the end of the message, has replaced. Nobody needs to be told of it.
    Replaced,
}

impl Kind {
    /// Every kind, in the order of their numbers in records.
    pub const ALL: [Self; 5] = [Self::Message, Self::Erased, Self::Edited, Self::Deleted, Self::Replaced];

    /// The word for it in an export.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Erased => "erased",
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
        }
    }

    /// Whether pages of messages show it.
    pub(super) const fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Erased)
    }
}

/// Another event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its number; 0: there is none.
    pub seq: u64,
    /// When it was, in unix ms.
    pub at_ms: u64,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Record<'a> {
    pub kind: Kind,
    pub about: About,
    pub client_id: Option<&'a str>,
    pub user: &'a str,
    pub payload: &'a str,
}

impl<'a> Record<'a> {
    /// As it is kept. User id and `client_id` are not longer than `limits` allows.
    pub fn encode(&self) -> Arc<[u8]> {
        let client_id = self.client_id.unwrap_or_default();
        let head = [VERSION, self.kind as u8, client_id.len() as u8, self.user.len() as u8];
        let (about, about_at) = (self.about.seq.to_be_bytes(), self.about.at_ms.to_be_bytes());
        let texts = [client_id.as_bytes(), self.user.as_bytes(), self.payload.as_bytes()].concat();
        [&head[..], &about, &about_at, &texts].concat().into()
    }

    /// `None`: it is none, or a newer relay has written it.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, texts) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [VERSION, kind, client_id_bytes, user_bytes, about @ ..] = head else { return None };
        let kind = *Kind::ALL.get(usize::from(*kind))?;
        let (about, about_at) = about.split_first_chunk::<8>()?;
        let at_ms = u64::from_be_bytes(about_at.try_into().ok()?);
        let about = About { seq: u64::from_be_bytes(*about), at_ms };
        let (client_id, texts) = texts.split_at_checked((*client_id_bytes).into())?;
        let (user, payload) = texts.split_at_checked((*user_bytes).into())?;
        let client_id = str::from_utf8(client_id).ok()?;
        Some(Self {
            kind,
            about,
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
            for kind in Kind::ALL {
                let about = About { seq: 1 << 40, at_ms: 7 };
                let record = Record { kind, about, client_id, user, payload: r#"{"body":"hé"}"# };
                let bytes = record.encode();
                assert_eq!(Record::decode(&bytes), Some(record));
            }
        }
        let (kind, about) = (Kind::Message, About::default());
        let bytes = Record { kind, about, client_id: Some("abc"), user: "ann", payload: "" }.encode();
        for end in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..end]), None, "cut at {end}");
        }
        let with = |index: usize, value: u8| {
            let mut bytes = bytes.to_vec();
            bytes[index] = value;
            bytes
        };
        assert_eq!(Record::decode(&with(0, 3)), None, "of a newer relay");
        assert_eq!(Record::decode(&with(1, 5)), None, "of no kind");
        assert_eq!(Record::decode(&with(HEAD_BYTES, 0xFF)), None, "no UTF-8");
    }
}
