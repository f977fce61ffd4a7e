//! `Encoded`: ready-to-send WebSocket bytes, immutable and shared, and the pool their buffers come from.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frame::{self, Opcode};
use crate::impossible;
use crate::limits::{FRAMES_POOLED_MAX, OUTBOUND_MESSAGE_BYTES_MAX};
use crate::memory::{Allocated, COUNTS_BYTES, shared_bytes};
use crate::surplus::{Spares, Surplus};

/// One or more complete WebSocket messages, as they go to the kernel. A clone shares the bytes; a handle is one word.
#[derive(Clone, Debug)]
pub struct Encoded(Arc<Message>);

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    frames: u32,
}

impl Encoded {
    /// One message with its payload copied from `payload`.
    pub fn message(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES_MAX + payload.len());
        frame::write_header(&mut bytes, opcode, payload.len());
        bytes.extend_from_slice(payload);
        Self(Arc::new(Message { bytes, frames: 1 }))
    }

    /// Bytes that are not WebSocket frames: an HTTP response.
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Message { bytes, frames: 0 }))
    }

    /// What goes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The payload, where the bytes are one message.
    pub fn payload(&self) -> &[u8] {
        let header = match self.0.bytes.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            Some(_) | None => 2,
        };
        self.0.bytes.get(header..).unwrap_or_default()
    }

    /// How many WebSocket messages the bytes are.
    pub fn frames(&self) -> u32 {
        self.0.frames
    }

    /// This holder's part of the shared bytes; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        shared_bytes(&self.0, self.0.bytes.allocated_bytes())
    }

    /// All of the shared bytes, for the holder that keeps them longest.
    pub fn whole_heap_bytes(&self) -> usize {
        COUNTS_BYTES + size_of::<Message>() + self.0.bytes.allocated_bytes()
    }
}

/// What is handed to the kernel at once: nearly always one frame.
#[derive(Debug)]
pub enum Frames {
    /// One frame.
    One(Encoded),
    /// Two to `limits::FRAMES_PER_SEND_MAX`.
    Many(Vec<Encoded>),
}

impl Frames {
    /// The frames in order.
    pub fn as_slice(&self) -> &[Encoded] {
        match self {
            Self::One(frame) => std::slice::from_ref(frame),
            Self::Many(frames) => frames,
        }
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.as_slice().iter().map(|frame| frame.bytes().len()).sum()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let list = match self {
            Self::One(_) => 0,
            Self::Many(frames) => frames.allocated_bytes(),
        };
        list + self.as_slice().iter().map(Encoded::heap_bytes).sum::<usize>()
    }
}

/// Buffers of frames that every member has been sent: the next frame takes the one that came back last, which is still in
/// the processor's cache, instead of allocating.
#[derive(Debug, Default)]
pub struct FramePool {
    /// Frames that somebody may still hold, oldest first: they come back in about this order.
    lent: VecDeque<Encoded>,
    /// Frames that nobody else holds.
    free: Spares<Encoded>,
}

/// So many of the oldest lent frames are checked for each new frame: perhaps nobody holds them any more.
const FRAMES_ASKED: usize = 4;

impl FramePool {
    /// Whole messages, headers included, written by `write`, which returns how many there are.
    pub fn messages(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u32) -> Encoded {
        self.take_back(FRAMES_ASKED);
        let mut encoded = self.free.take().unwrap_or_else(|| Encoded::raw(Vec::new()));
        let message = Arc::get_mut(&mut encoded.0).expect("nobody else holds it");
        message.bytes.clear();
        message.frames = write(&mut message.bytes);
        if self.lent.len() + self.free.count() < FRAMES_POOLED_MAX {
            self.lent.push_back(encoded.clone());
        }
        encoded
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let frames = self.lent.iter().chain(self.free.iter()).map(Encoded::heap_bytes);
        self.lent.allocated_bytes() + self.free.allocated_bytes() + frames.sum::<usize>()
    }

    /// Drops the buffers that no frame has needed since the last call, if they have come back.
    pub fn give_back(&mut self) {
        self.take_back(self.lent.len());
        self.free.give_back();
        self.lent.give_back(0);
    }

    fn take_back(&mut self, asked: usize) {
        for _ in 0..asked.min(self.lent.len()) {
            let Some(mut oldest) = self.lent.pop_front() else {
                return impossible!("as many buffers are lent as are counted");
            };
            match Arc::get_mut(&mut oldest.0) {
                None => self.lent.push_back(oldest),
                Some(message) if message.bytes.capacity() <= OUTBOUND_MESSAGE_BYTES_MAX => {
                    self.free.keep(oldest);
                }
                // A state of several messages. If such buffers were kept, a few large games would hold a pool full of them for
                // ever.
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pool: &mut FramePool, byte: u8) -> Encoded {
        pool.messages(|buffer| {
            frame::write_header(buffer, Opcode::Binary, 1);
            buffer.push(byte);
            1
        })
    }

    #[test]
    fn a_frame_nobody_holds_is_used_again_and_a_held_one_is_left_alone() {
        let mut pool = FramePool::default();
        let held = message(&mut pool, 7);
        let free = message(&mut pool, 8);
        let address = free.bytes().as_ptr();
        drop(free);
        let next = message(&mut pool, 9);
        assert_eq!(next.bytes().as_ptr(), address);
        assert_eq!((held.bytes(), next.bytes()), (&[0x82, 1, 7][..], &[0x82, 1, 9][..]));
    }

    #[test]
    fn buffers_that_no_frame_needs_are_given_back_but_for_held_ones() {
        let mut pool = FramePool::default();
        let held = message(&mut pool, 0);
        let burst: Vec<Encoded> = (1..100).map(|byte| message(&mut pool, byte)).collect();
        drop(burst);
        for _ in 0..3 {
            pool.give_back();
            drop([message(&mut pool, 100), message(&mut pool, 101)]);
        }
        assert_eq!(pool.lent.len() + pool.free.count(), 3, "two are needed, one is held");
        assert_eq!(held.bytes(), [0x82, 1, 0]);
    }
}
