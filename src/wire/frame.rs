//! RFC 6455 frames: header, unmasking in place, fragments, control rules, close codes.

/// Longest header of a frame that the relay sends: 2 bytes, and 8 of length. It never masks.
pub const HEADER_BYTES_MAX: usize = 10;

/// Kind of a WebSocket frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Answered with the same payload.
    Ping = 9,
    /// Answer to a ping, or a sign of life.
    Pong = 10,
}

/// Appends the header of an unmasked, unfragmented frame of `payload_bytes` bytes.
pub fn write_header(buffer: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    buffer.push(0x80 | opcode as u8);
    match payload_bytes {
        0..=125 => buffer.push(payload_bytes as u8),
        126..=0xFFFF => {
            buffer.push(126);
            buffer.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            buffer.push(127);
            buffer.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

/// What a connection accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of one message, all fragments together.
    pub bytes_max: usize,
    /// Fragments of one message.
    pub fragments_max: u32,
}

/// One whole message from a client. It borrows from the received bytes, or from the decoder that put it together.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The client's close; the code is one a client may send. Nothing after it counts.
    Close(Option<(u16, &'a str)>),
}

/// How a client broke RFC 6455, or a limit. Nothing after it can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    // (the variants carry the sentence that is logged; `close_reason()` gives the code)
    #[error("the frame is not masked")]
    /// RFC 6455 section 5.1.
    Unmasked,
}

/// Puts one connection's frames together into messages.
#[derive(Debug, Default)]
pub struct Decoder {}
