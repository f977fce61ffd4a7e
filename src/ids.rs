//! Names of things: newtypes that cannot be mixed up.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::memory::{Allocated, shared_bytes};

/// A connection, as one shard knows it. A slot is reused; a (slot, generation) pair comes back after 2^32 connections in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the shard's connection table; below 2^24 (it shares 64 bits of `user_data` with two other fields).
    pub slot: u32,
    /// How often the slot had been given out before.
    pub generation: u32,
}

/// Number of a shard: 0 up to the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A thread that has an inbox and may write to every other party. Members of topics are reached through their shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A thread of connections and topics.
    Shard(ShardId),
    /// The thread of the admin pages and the signals.
    Service,
    /// The thread of the store, which keeps on disk what is said in rooms.
    Store,
}

impl Party {
    /// The parties other than shards, in the order of `index`.
    pub const OTHERS: [Self; 2] = [Self::Service, Self::Store];

    /// All parties of a process with so many shards, in the order of `index`.
    pub fn all(shards: u16) -> impl Iterator<Item = Self> {
        (0..shards).map(|shard| Self::Shard(ShardId(shard))).chain(Self::OTHERS)
    }

    /// Position in `all`.
    pub fn index(self, shards: u16) -> usize {
        match self {
            Self::Shard(shard) => usize::from(shard.0),
            Self::Service => usize::from(shards),
            Self::Store => usize::from(shards) + 1,
        }
    }
}

/// Number of a question to other parties, given by whoever asks. It is not used again while an answer may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u32);

impl RequestNumber {
    /// The next number. It wraps after 2^32 questions.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Number of a question that a topic has asked, within that topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

/// A player within one game. Never reused while the game lives; 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayerId(pub u32);

/// The 16 bytes that give a seat back to a client that lost its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken(pub [u8; 16]);

impl ResumeToken {
    /// Reads 32 hex digits, lower case, as in `?resume=`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut token = [0; 16];
        for (byte, pair) in token.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(token))
    }
}

/// The hex form, as a client sends it back.
impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A secret: shown only where somebody asks for the hex form.
impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

/// The part of a topic behind its colon, and `{game}` in `/play/{game}`: 1 to 64 bytes of `A-Z a-z 0-9 _ - .`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Box<str>);

impl TopicName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// `None` when `name` is empty, too long, or has another character.
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let valid = (1..=Self::BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
        valid.then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The word before the colon of a topic, and the constructor for the name behind the colon.
pub type TopicKind = (&'static str, fn(TopicName) -> Topic);

/// What a client can join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `game:{name}`, and `/play/{name}`.
    Game(TopicName),
    /// `room:{name}`: chat.
    Room(TopicName),
    /// `doc:{name}`: a text that several edit.
    Document(TopicName),
}

impl Topic {
    /// Every kind.
    pub const KINDS: [TopicKind; 3] = [("game", Self::Game), ("room", Self::Room), ("doc", Self::Document)];

    /// Reads a topic as Phoenix clients write it; `None`: there is no such kind, or the name is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let (_, topic) = Self::KINDS.into_iter().find(|(known, _)| *known == kind)?;
        TopicName::parse(name).map(topic)
    }

    /// Whether `text` begins with a known kind and a colon; anything may follow.
    pub fn names_kind(text: &str) -> bool {
        text.split_once(':').is_some_and(|(kind, _)| Self::KINDS.iter().any(|(known, _)| *known == kind))
    }

    /// The part behind the colon.
    pub fn name(&self) -> &TopicName {
        match self {
            Self::Game(name) | Self::Room(name) | Self::Document(name) => name,
        }
    }

    /// Whether `text` is how clients write this topic.
    pub fn is_written(&self, text: &str) -> bool {
        text.strip_prefix(self.prefix()) == Some(self.name().as_str())
    }

    fn prefix(&self) -> &'static str {
        match self {
            Self::Game(_) => "game:",
            Self::Room(_) => "room:",
            Self::Document(_) => "doc:",
        }
    }

    /// A holder's part of a shared topic; see `memory`.
    pub fn shared_bytes(topic: &Arc<Self>) -> usize {
        shared_bytes(topic, topic.name().heap_bytes())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix(), self.name())
    }
}

/// Number of a topic that a connection has joined. It is used again after 65,535 others of that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(pub u16);

/// Number of a frame of a game's state. Each frame names the frame before it: a client that was sent that one needs only the
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameNumber(NonZeroU32);

impl FrameNumber {
    /// The number of the state that a game begins with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The number of the frame after this one. It wraps after 2^32 frames.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU32::MIN))
    }
}

/// Where a member of a topic is reached, from whichever shard owns the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The shard that its connection is pinned to.
    pub shard: ShardId,
    /// The topic's number on that connection.
    pub channel: ChannelNumber,
    /// The member's connection on that shard.
    pub conn: ConnId,
}

impl Address {
    /// The party whose inbox leads to the member.
    pub fn party(&self) -> Party {
        Party::Shard(self.shard)
    }
}

/// How far a stream of reliable events has come, or how far a client has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    /// Names the stream.
    pub epoch: u64,
    /// Number of the last event.
    pub seq: u64,
}
