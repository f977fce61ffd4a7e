//! How players speak: how they join, move and stay alive, and what the relay's messages mean. One dialect for a whole run.

mod conversation;
mod members;
mod native;
mod phoenix;
mod raw;
mod records;

use clap::ValueEnum;

pub use conversation::{Dialect, Effects, Event, Presence, Stream};
pub use members::Members;
pub use native::Native;
use phoenix::Phoenix;
use raw::Raw;
pub use records::Records;

/// `--dialect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// Binary records on /play/{game}
    Native,
    /// Phoenix Channels V2 on /socket/websocket
    Phoenix,
    /// Records of 12 bytes, relayed as they are, on /room/{number}
    Raw,
}

impl DialectName {
    pub fn dialect(self, members: Members) -> Box<dyn Dialect> {
        match self {
            Self::Native => Box::new(Native::new(members)),
            Self::Phoenix => Box::new(Phoenix::new(members)),
            Self::Raw => Box::new(Raw::new(members)),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Phoenix => "phoenix",
            Self::Raw => "raw",
        }
    }

    /// Whether a tick frame tells that it is whole.
    pub fn marks_keyframes(self) -> bool {
        self == Self::Native
    }

    /// Whether a relay tells of moves that it did not take, of errors, and of a close to come.
    pub fn reports_refusals(self) -> bool {
        self != Self::Raw
    }

    /// Where the members of room `number` of a scenario belong.
    pub fn room_topic(self, scenario: &str, seed: u64, number: u32) -> String {
        match self {
            Self::Native | Self::Phoenix => format!("game:{scenario}-{seed}-{number}"),
            // A path is all there is, and a number is all that a server must know of it.
            Self::Raw => format!("room:{number}"),
        }
    }

    /// Whether a member receives `presence_state`.
    pub fn has_presence(self) -> bool {
        self == Self::Phoenix
    }
}
