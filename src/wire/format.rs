//! The form of the messages to a member of a topic.

use super::phoenix::Serializer;

/// The format of one member: two channels of a connection may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Records, which only games have.
    Native,
    /// Serializer V2, with `game_update` as a binary message.
    V2,
    /// Serializer V2 without binary messages, for clients that read text only: `game_update` as V1 gets it.
    V2Text,
    /// Serializer V1, which has no binary messages.
    V1,
}

impl Format {
    /// Every format, in the order of `index`.
    pub const ALL: [Self; 4] = [Self::Native, Self::V2, Self::V2Text, Self::V1];

    /// The format of a member that speaks `serializer`. `binary`: it reads binary messages, if the serializer has them.
    pub fn of(serializer: Serializer, binary: bool) -> Self {
        match (serializer, binary) {
            (Serializer::V2, true) => Self::V2,
            (Serializer::V2, false) => Self::V2Text,
            (Serializer::V1, _) => Self::V1,
        }
    }

    /// The serializer of its text messages; `None`: it has none.
    pub fn serializer(self) -> Option<Serializer> {
        match self {
            Self::Native => None,
            Self::V2 | Self::V2Text => Some(Serializer::V2),
            Self::V1 => Some(Serializer::V1),
        }
    }

    /// Position in a table with one entry for each format.
    pub fn index(self) -> usize {
        self as usize
    }
}
