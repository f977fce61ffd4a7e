//! RFC 6455 frames: header, unmasking in place, fragments, control rules, close codes.

mod decoder;
mod header;

use std::str;

use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;
use crate::reasons::CloseReason;
pub use decoder::Decoder;

/// Longest header of a frame that the relay sends: 2 bytes, and 8 of length. It never masks.
pub const HEADER_BYTES_MAX: usize = 10;

/// Kind of a WebSocket frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    /// Answer to a ping, or a sign of life.
    Pong = 10,
}

impl Opcode {
    /// Control frames stand between the fragments of a message, and are never fragments themselves.
    const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
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

/// Appends the payload of a close frame: the code, and a reason of at most 123 bytes.
pub fn write_close(buffer: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(is_close_code(code), "{code} must not be sent");
    debug_assert!(2 + reason.len() <= CONTROL_PAYLOAD_BYTES_MAX, "a close reason has at most 123 bytes");
    buffer.extend_from_slice(&code.to_be_bytes());
    buffer.extend_from_slice(reason.as_bytes());
}

/// Payload of a control frame, copied out of the received bytes.
#[derive(Clone, Copy, Debug)]
pub struct ControlPayload {
    bytes: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    length: usize,
}

impl ControlPayload {
    /// Copies `payload`.
    ///
    /// # Panics
    /// It is longer than a control frame may be.
    pub fn new(payload: &[u8]) -> Self {
        let mut bytes = [0; CONTROL_PAYLOAD_BYTES_MAX];
        bytes[..payload.len()].copy_from_slice(payload);
        Self { bytes, length: payload.len() }
    }

    /// The payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The largest message that a connection accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of one message, all fragments together.
    pub bytes_max: usize,
    /// Fragments of one message.
    pub fragments_max: u32,
}

/// One whole message from a client. It borrows from the received bytes, or from the decoder that put it together.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The client's close; the code is one a client may send. Nothing after it counts.
    Close(Option<(u16, &'a str)>),
}

/// How a client broke RFC 6455, or a limit. Nothing after it can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 section 5.2: no extension is negotiated that could give them a meaning.
    #[error("reserved bits of a frame header are set; no extension is negotiated, so they must be 0")]
    ReservedBits,
    /// RFC 6455 section 5.2.
    #[error(
        "opcode {0} is reserved; a frame is a continuation (0), text (1), binary (2), close (8), ping (9) or pong (10)"
    )]
    ReservedOpcode(u8),
    /// RFC 6455 section 5.5.
    #[error("a control frame is a fragment; close, ping and pong come in one frame")]
    ControlFragmented,
    /// RFC 6455 section 5.5.
    #[error("a control frame announces more than {CONTROL_PAYLOAD_BYTES_MAX} bytes")]
    ControlTooLong,
    /// RFC 6455 section 5.1.
    #[error("a frame is not masked; a client masks every frame")]
    Unmasked,
    /// RFC 6455 section 5.2.
    #[error("a payload length of {0} is written in more bytes than it needs")]
    LengthNotMinimal(u64),
    /// RFC 6455 section 5.2.
    #[error("the top bit of a 64-bit payload length is set; it must be 0")]
    LengthTopBit,
    /// RFC 6455 section 5.4.
    #[error("a continuation frame continues nothing; a message starts with a text or a binary frame")]
    NothingToContinue,
    /// RFC 6455 section 5.4.
    #[error("a message starts before the last fragment of the one before it")]
    MessageInsideMessage,
    /// RFC 6455 section 5.5.1.
    #[error("the payload of a close frame is 1 byte long; it is empty, or starts with a code of 2 bytes")]
    ClosePayload,
    /// RFC 6455 section 7.4.
    #[error("close code {0} must not be sent; a client may use 1000 to 1003, 1007 to 1014 and 3000 to 4999")]
    CloseCode(u16),
    /// RFC 6455 section 8.1.
    #[error("a text message or a close reason is not UTF-8")]
    Utf8,
    /// A limit of this relay.
    #[error("a message of {bytes} bytes or more; at most {bytes_max} are accepted")]
    TooBig {
        /// Length so far, with what the frame announces.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// A limit of this relay.
    #[error("a message of more than {0} fragments")]
    TooManyFragments(u32),
}

impl Violation {
    /// The reason that the connection is closed with.
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::Unmasked
            | Self::LengthNotMinimal(_)
            | Self::LengthTopBit
            | Self::NothingToContinue
            | Self::MessageInsideMessage
            | Self::ClosePayload
            | Self::CloseCode(_) => CloseReason::Protocol,
            Self::Utf8 => CloseReason::Utf8,
            Self::TooBig { .. } => CloseReason::TooBig,
            Self::TooManyFragments(_) => CloseReason::Abuse,
        }
    }
}

impl<'a> Incoming<'a> {
    fn new(opcode: Opcode, payload: &'a [u8]) -> Result<Self, Violation> {
        Ok(match opcode {
            Opcode::Text => Self::Text(str::from_utf8(payload).map_err(|_| Violation::Utf8)?),
            Opcode::Continuation | Opcode::Binary => Self::Binary(payload),
            Opcode::Ping => Self::Ping(payload),
            Opcode::Pong => Self::Pong(payload),
            Opcode::Close => Self::Close(parse_close(payload)?),
        })
    }
}

fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::ClosePayload) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(Violation::CloseCode(code));
    }
    Ok(Some((code, str::from_utf8(reason).map_err(|_| Violation::Utf8)?)))
}

/// Codes that may be on the wire: those of RFC 6455 and of IANA's registry, then libraries' and applications' own.
const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
