//! `Encoded`: ready-to-send WebSocket bytes, immutable and shared, and the pool their buffers come from.

use std::sync::Arc;

use super::frame::{self, Opcode};
use crate::limits::FRAMES_POOLED_MAX;

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

    /// How many WebSocket messages the bytes are.
    pub fn frames(&self) -> u32 {
        self.0.frames
    }
}

/// What is handed to the kernel at once: nearly always one frame.
#[derive(Debug)]
pub enum Frames {
    /// One.
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
}

/// Buffers of frames that every member has been sent: the next tick's frame takes one instead of allocating.
///
/// Frames come back in about the order they went out, so only the oldest few are asked whether anybody still holds them.
#[derive(Debug, Default)]
pub struct FramePool {
    lent: std::collections::VecDeque<Encoded>,
}

/// How many of the oldest frames are looked at for one that is free again.
const FRAMES_ASKED: usize = 4;

impl FramePool {
    /// A binary message whose `payload_bytes` bytes are written by `write`.
    pub fn binary(&mut self, payload_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Encoded {
        self.messages(|buffer| {
            frame::write_header(buffer, Opcode::Binary, payload_bytes);
            let start = buffer.len();
            write(buffer);
            debug_assert_eq!(buffer.len() - start, payload_bytes, "the header announced another length");
            1
        })
    }

    /// Whole messages, headers included, written by `write`, which returns how many there are.
    pub fn messages(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u32) -> Encoded {
        let mut encoded = self.take().unwrap_or_else(|| Encoded::raw(Vec::new()));
        let message = Arc::get_mut(&mut encoded.0).expect("nobody else holds it yet");
        message.bytes.clear();
        message.frames = write(&mut message.bytes);
        if self.lent.len() < FRAMES_POOLED_MAX {
            self.lent.push_back(encoded.clone());
        }
        encoded
    }

    fn take(&mut self) -> Option<Encoded> {
        for _ in 0..FRAMES_ASKED.min(self.lent.len()) {
            let mut oldest = self.lent.pop_front()?;
            if Arc::get_mut(&mut oldest.0).is_some() {
                return Some(oldest);
            }
            self.lent.push_back(oldest);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_nobody_holds_is_used_again_and_a_held_one_is_left_alone() {
        let mut pool = FramePool::default();
        let held = pool.binary(1, |buffer| buffer.push(7));
        let free = pool.binary(1, |buffer| buffer.push(8));
        let address = free.bytes().as_ptr();
        drop(free);
        let next = pool.binary(1, |buffer| buffer.push(9));
        assert_eq!(next.bytes().as_ptr(), address);
        assert_eq!((held.bytes(), next.bytes()), (&[0x82, 1, 7][..], &[0x82, 1, 9][..]));
    }
}
