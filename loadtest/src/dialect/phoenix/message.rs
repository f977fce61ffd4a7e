//! Messages of a Phoenix server, serializer V2 (`PHOENIX.md` sections 2 and 3): text is a JSON array of five, binary has a head
//! of lengths.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// `[join_ref, ref, topic, event, payload]`. The strings are borrowed: what is compared here was chosen by this client, and
/// needs no escapes.
#[derive(Debug, Deserialize)]
pub struct Text<'a>(
    #[serde(borrow)] pub Option<&'a str>,
    #[serde(borrow)] pub Option<&'a str>,
    pub &'a str,
    pub &'a str,
    #[serde(borrow)] pub &'a RawValue,
);

impl<'a> Text<'a> {
    /// `None`: it is none, or has other than five elements.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Payload of `phx_reply`.
#[derive(Debug, Deserialize)]
pub struct Reply<'a> {
    /// `ok`, or something else.
    pub status: &'a str,
    /// What depends on what was asked for.
    #[serde(borrow)]
    pub response: &'a RawValue,
}

/// Of the reply to a join or a message, what matters here.
#[derive(Debug, Default, Deserialize)]
pub struct Response {
    /// In a game: the id under which the player moves.
    pub player_id: Option<u32>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Of the topic, in decimal.
    pub epoch: Option<String>,
    /// Of a join the topic's last event, of a message its own number.
    pub seq: Option<u64>,
    /// Of an operation: the one that it has made.
    pub version: Option<u64>,
    pub resume_token: Option<Box<str>>,
    #[serde(default)]
    pub resumed: bool,
}

/// Payload of `new_message`.
#[derive(Debug, Deserialize)]
pub struct Said<'a> {
    pub seq: u64,
    /// None when the message was deleted before it was told.
    #[serde(borrow, default)]
    pub body: Cow<'a, str>,
}

/// Payload of the other events of a stream: `game_event`, `message_edited`, `message_deleted`.
#[derive(Debug, Deserialize)]
pub struct Numbered {
    pub seq: u64,
}

/// Payload of `catch_up`.
#[derive(Debug, Deserialize)]
pub struct CatchUp<'a> {
    #[serde(borrow)]
    pub events: Vec<Missed<'a>>,
    pub recovered: bool,
    pub reason: Option<&'a str>,
    pub epoch: &'a str,
    pub seq: u64,
}

/// One of its events.
#[derive(Debug, Deserialize)]
pub struct Missed<'a> {
    pub event: &'a str,
    #[serde(borrow)]
    pub payload: &'a RawValue,
}

/// Payload of `doc_state`.
#[derive(Debug, Deserialize)]
pub struct DocState<'a> {
    pub version: u64,
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    pub part: u32,
    pub parts: u32,
}

/// Payload of `operation`.
#[derive(Debug, Deserialize)]
pub struct Edited<'a> {
    #[serde(borrow)]
    pub op: &'a RawValue,
    pub version: u64,
    #[serde(borrow)]
    pub op_id: Option<Cow<'a, str>>,
}

/// Payload of `operations`.
#[derive(Debug, Deserialize)]
pub struct Operations<'a> {
    #[serde(borrow)]
    pub operations: Vec<Edited<'a>>,
}

/// Payload of `server_draining`.
#[derive(Debug, Deserialize)]
pub struct Draining {
    pub retry_after: u32,
    pub jitter: u32,
}

/// A push (kind 0) or a broadcast (kind 2).
#[derive(Debug, PartialEq, Eq)]
pub struct Binary<'a> {
    pub topic: &'a [u8],
    pub event: &'a [u8],
    pub data: &'a [u8],
}

impl<'a> Binary<'a> {
    /// `None`: another kind, or shorter than its lengths say.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (join_ref_bytes, topic_bytes, event_bytes, rest) = match bytes {
            [0, join_ref, topic, event, rest @ ..] => (*join_ref, *topic, *event, rest),
            [2, topic, event, rest @ ..] => (0, *topic, *event, rest),
            _ => return None,
        };
        let (_, rest) = rest.split_at_checked(join_ref_bytes.into())?;
        let (topic, rest) = rest.split_at_checked(topic_bytes.into())?;
        let (event, data) = rest.split_at_checked(event_bytes.into())?;
        Some(Self { topic, event, data })
    }
}
