//! What members do that is written to disk.

use super::chat_edits::Amendment;
use super::chat_stream::ChatEvent;
use super::telling::Answer;
use crate::memory::Allocated;
use crate::reasons::Restriction;
use crate::wire::phoenix::answers::reason;

/// Something that everybody may know, and its member be told of, when it is on disk.
#[derive(Debug)]
pub(super) enum Act {
    Say(ChatEvent),
    Amend(Box<Amendment>),
    Restrict { what: Restriction, user: Box<str>, seconds: Option<u32>, until_ms: u64, moderator: Box<str> },
    Lift { what: Restriction, user: Box<str>, moderator: Box<str> },
    Mark { user: Box<str>, seq: u64 },
}

impl Act {
    /// Of payloads.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Say(message) => message.payload.len(),
            Self::Amend(amendment) => amendment.bytes(),
            Self::Restrict { .. } | Self::Lift { .. } | Self::Mark { .. } => 0,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Say(message) => message.payload.allocated_bytes(),
            Self::Amend(amendment) => amendment.heap_bytes(),
            Self::Restrict { user, moderator, .. } | Self::Lift { user, moderator, .. } => {
                user.allocated_bytes() + moderator.allocated_bytes()
            }
            Self::Mark { user, .. } => user.allocated_bytes(),
        }
    }

    /// The event of the stream that it is.
    pub(super) fn event(&self) -> Option<&ChatEvent> {
        match self {
            Self::Say(message) => Some(message),
            Self::Amend(amendment) => Some(&amendment.event),
            Self::Restrict { .. } | Self::Lift { .. } | Self::Mark { .. } => None,
        }
    }

    /// Whether it costs a message to each member. (The end of a membership does, too.)
    pub(super) fn is_told(&self) -> bool {
        self.event().is_some() || matches!(self, Self::Restrict { .. })
    }

    /// Whether what comes behind it cannot be decided on before it is on disk.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Restrict { .. } | Self::Lift { .. })
    }
}

/// What becomes of something that is to be written.
pub(super) enum Verdict {
    Do(Act),
    Answer(Answer),
    /// It is decided on later.
    Wait,
    /// First the message with this number must be read.
    LookUp(u64),
}

impl Verdict {
    pub(super) fn refuse(word: &str) -> Self {
        Self::Answer(Err(reason(word)))
    }
}
