//! The newest state of each game that a connection has joined.

use crate::ids::ChannelNumber;
use crate::memory::Allocated;
use crate::wire::encoded::Encoded;

/// State frames of channels that wait: one place for each game that the connection has joined.
#[derive(Debug, Default)]
pub struct States(Vec<(ChannelNumber, Encoded)>);

impl States {
    /// Whether a frame of `game` waits.
    pub fn has(&self, game: ChannelNumber) -> bool {
        self.0.iter().any(|(waiting, _)| *waiting == game)
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many frames wait.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Puts the frame of a game of which none waits.
    pub fn put(&mut self, game: ChannelNumber, frame: Encoded) {
        debug_assert!(!self.has(game));
        self.0.push((game, frame));
    }

    /// Drops the frame of a game; `true`: one waited. The member that should have got it needs the whole state next.
    pub fn remove(&mut self, game: ChannelNumber) -> bool {
        let before = self.0.len();
        self.0.retain(|(waiting, _)| *waiting != game);
        self.0.len() < before
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.0.allocated_bytes() + self.0.iter().map(|(_, frame)| frame.heap_bytes()).sum::<usize>()
    }

    /// Moves up to `count` frames behind `frames`.
    pub(super) fn take(&mut self, count: usize, frames: &mut Vec<Encoded>) {
        frames.extend(self.0.drain(..count.min(self.0.len())).map(|(_, frame)| frame));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}
