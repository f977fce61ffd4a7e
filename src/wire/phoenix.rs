//! Phoenix Channels: messages of serializer V2 (text and binary) and V1 (text).
//!
//! Heads are read and checked whole; a payload is checked and then carried as it came, for the room that needs it.

use std::borrow::Cow;

use crate::limits::{JSON_DEPTH_MAX, REF_BYTES_MAX};

pub mod answers;
mod binary;
mod encode;
pub(in crate::wire) mod fields;
mod scanner;
mod text;
mod words;

pub use binary::{write_broadcast_header, write_push_header};
pub use words::{Event, Status};

/// How a connection's messages are written: `vsn` of its request chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serializer {
    /// `vsn` 1.0: JSON objects, both ways without binary.
    V1,
    /// `vsn` 2.0: JSON arrays of five, and binary messages.
    V2,
}

impl Serializer {
    /// Reads a text message. The whole of it must be one valid JSON value (RFC 8259), whitespace included.
    ///
    /// # Errors
    /// Why the text cannot be read, and where the refusal goes, if the head can be read.
    pub fn decode_text(self, text: &str) -> Result<Message<'_>, Unreadable<'_>> {
        match self {
            Self::V1 => text::decode_v1(text),
            Self::V2 => text::decode_v2(text),
        }
    }

    /// Reads a binary message. V1 knows no binary: there it is text under another opcode.
    ///
    /// # Errors
    /// See `decode_text`.
    pub fn decode_binary(self, bytes: &[u8]) -> Result<Message<'_>, Unreadable<'_>> {
        match self {
            Self::V1 => text::decode_v1(str::from_utf8(bytes).map_err(|_| Malformed::NotText)?),
            Self::V2 => Ok(binary::decode(bytes)?),
        }
    }
}

/// A message from a client.
#[derive(Debug, PartialEq)]
pub struct Message<'a> {
    /// Names the join that this message belongs to.
    pub join_ref: Ref<'a>,
    /// The `ref` that a reply must carry.
    pub reference: Ref<'a>,
    /// Decoded: without quotes and escapes. It may be of any length.
    pub topic: Cow<'a, str>,
    /// Decoded like the topic.
    pub event: Cow<'a, str>,
    /// It is read by whoever handles the event.
    pub payload: Payload<'a>,
}

/// A message that cannot be passed on.
#[derive(Debug, PartialEq)]
pub struct Unreadable<'a> {
    /// What is wrong.
    pub why: Malformed,
    /// Where the refusal goes; `None`: it is no message at all.
    pub head: Option<Head<'a>>,
}

/// The head of an unreadable message, as far as a refusal needs it.
#[derive(Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Head<'a> {
    pub join_ref: Ref<'a>,
    pub reference: Ref<'a>,
    /// See `Message`; what cannot be a character is U+FFFD.
    pub topic: Cow<'a, str>,
}

impl From<Malformed> for Unreadable<'_> {
    fn from(why: Malformed) -> Self {
        Self { why, head: None }
    }
}

/// What a message carries.
#[derive(Debug, PartialEq)]
pub enum Payload<'a> {
    /// One valid JSON value as it was written, with no whitespace around it. Any kind of value, by convention an object.
    Json(&'a str),
    /// The data of a binary message.
    Binary(&'a [u8]),
}

/// A reference as the client wrote it: its raw JSON token (`"3"`, `7`, `null`, `{"a":1}`), echoed byte for byte. A reference
/// of a binary message, which has no JSON, is the token of a string. At most `limits::REF_BYTES_MAX` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref<'a>(Cow<'a, str>);

impl<'a> Ref<'a> {
    /// `token` is one valid JSON value.
    fn new(token: impl Into<Cow<'a, str>>) -> Result<Self, Malformed> {
        let token = token.into();
        if token.len() <= REF_BYTES_MAX { Ok(Self(token)) } else { Err(Malformed::RefTooLong) }
    }

    /// The JSON token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether the client has no reference: it writes `null` or `""` then.
    pub fn names_nothing(&self) -> bool {
        self.is_null() || self.0 == "\"\""
    }
}

/// Why a message cannot be read. The texts fit into a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Malformed {
    #[error("the message is not valid JSON (RFC 8259)")]
    Json,
    #[error("half of a surrogate pair is no character; write \\ud83e\\udd80 or the character itself")]
    LoneSurrogate,
    #[error("NaN and Infinity are no JSON; write null or a number")]
    NotANumber,
    #[error("control characters in JSON strings are escaped, as in \\n and \\u0007")]
    ControlCharacter,
    #[error("JSON values nest at most {JSON_DEPTH_MAX} deep")]
    TooDeep,
    #[error("a V2 message is a JSON array: [join_ref, ref, topic, event, payload]")]
    NotAnArray,
    #[error("a V2 message has five elements: [join_ref, ref, topic, event, payload]")]
    TooFewElements,
    #[error("a V1 message is a JSON object with topic, event, payload and ref")]
    NotAnObject,
    #[error("a V1 message must have the keys topic, event, payload and ref")]
    KeyMissing,
    #[error("the topic must be a JSON string")]
    TopicNotAString,
    #[error("the event must be a JSON string")]
    EventNotAString,
    #[error("ref and join_ref are at most {REF_BYTES_MAX} bytes of JSON")]
    RefTooLong,
    #[error("a V1 message is JSON text in UTF-8, under either opcode")]
    NotText,
    #[error("a binary message of a client is of kind 0 (push), not {0}")]
    Kind(u8),
    #[error("a binary push starts with five bytes: kind and lengths of join_ref, ref, topic and event")]
    HeaderTruncated,
    #[error("the lengths in the binary header say more bytes than the message has")]
    HeadTruncated,
    #[error("join_ref, ref, topic and event of a binary message must be UTF-8")]
    HeadNotUtf8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_that_names_nothing_is_null_or_empty() {
        for (token, is_null, names_nothing) in [
            ("null", true, true),
            ("\"\"", false, true),
            ("\"null\"", false, false),
            ("\"3\"", false, false),
            ("0", false, false),
            ("false", false, false),
        ] {
            let reference = Ref::new(token).unwrap();
            assert_eq!((reference.is_null(), reference.names_nothing()), (is_null, names_nothing), "{token}");
        }
    }

    #[test]
    fn every_reason_fits_into_a_close_frame() {
        for reason in [
            Malformed::Json,
            Malformed::LoneSurrogate,
            Malformed::NotANumber,
            Malformed::ControlCharacter,
            Malformed::TooDeep,
            Malformed::NotAnArray,
            Malformed::TooFewElements,
            Malformed::NotAnObject,
            Malformed::KeyMissing,
            Malformed::TopicNotAString,
            Malformed::EventNotAString,
            Malformed::RefTooLong,
            Malformed::NotText,
            Malformed::Kind(255),
            Malformed::HeaderTruncated,
            Malformed::HeadTruncated,
            Malformed::HeadNotUtf8,
        ] {
            let text = reason.to_string();
            assert!(text.len() <= 123, "{} bytes: {text}", text.len());
        }
    }
}
