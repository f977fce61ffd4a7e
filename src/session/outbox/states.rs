//! The newest state of each game that a connection has joined, and of its inputs there.

use crate::ids::ChannelNumber;
use crate::memory::Allocated;
use crate::wire::encoded::Encoded;

/// State frames of channels that wait: one place for each game that the connection has joined, and one for the Ack that goes in
/// front of it.
#[derive(Debug, Default)]
pub struct States {
    frames: Vec<(ChannelNumber, Encoded)>,
    acks: Vec<(ChannelNumber, Encoded)>,
}

impl States {
    /// Whether a frame of `game` waits.
    pub fn has(&self, game: ChannelNumber) -> bool {
        self.frames.iter().any(|(waiting, _)| *waiting == game)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.acks.is_empty()
    }

    /// How many frames wait.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// Puts the frame of a game of which none waits.
    pub fn put(&mut self, game: ChannelNumber, frame: Encoded) {
        debug_assert!(!self.has(game));
        self.frames.push((game, frame));
    }

    /// Puts the Ack of a game, in the place of one that waits.
    pub fn put_ack(&mut self, game: ChannelNumber, ack: Encoded) {
        self.remove_ack(game);
        self.acks.push((game, ack));
    }

    /// Drops the frame of a game; `true`: one waited. The member that should have got it needs the whole state next.
    pub fn remove(&mut self, game: ChannelNumber) -> bool {
        let before = self.frames.len();
        self.frames.retain(|(waiting, _)| *waiting != game);
        self.frames.len() < before
    }

    /// Drops the Ack of a game.
    pub fn remove_ack(&mut self, game: ChannelNumber) {
        self.acks.retain(|(waiting, _)| *waiting != game);
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let waiting = self.acks.iter().chain(&self.frames);
        let frames = waiting.map(|(_, frame)| frame.heap_bytes()).sum::<usize>();
        self.acks.allocated_bytes() + self.frames.allocated_bytes() + frames
    }

    /// Moves up to `count` frames behind `taken`, Acks first.
    pub(super) fn take(&mut self, count: usize, taken: &mut Vec<Encoded>) {
        let mut room = count;
        for waiting in [&mut self.acks, &mut self.frames] {
            let next = room.min(waiting.len());
            room -= next;
            taken.extend(waiting.drain(..next).map(|(_, frame)| frame));
            if waiting.is_empty() {
                *waiting = Vec::new();
            }
        }
    }
}
