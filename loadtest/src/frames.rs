//! The client's side of RFC 6455: puts received bytes together into messages, and masks what is sent. Sans I/O.

use std::io::Cursor;

use corelay::limits::CONTROL_PAYLOAD_BYTES_MAX;
use corelay::wire::frame::Opcode;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest message that is accepted from a server.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// One message from the server. It borrows from the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Binary(&'a [u8]),
    /// Text, which may be no UTF-8.
    Text(&'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    Pong,
    /// The server's close: code (1005 when there is none) and reason.
    Close(u16, &'a str),
}

/// Finds the messages in one connection's bytes.
///
/// Whole frames are handed out where they lie; only what comes in pieces is copied.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Start of a frame that is not complete. Invariant: never a whole frame.
    partial: Vec<u8>,
}

impl Decoder {
    /// Hands every message that `bytes` completes to `handle`. An error: the server broke RFC 6455, or sent what this client
    /// does not take, and nothing more can be decoded.
    pub fn receive(&mut self, bytes: &[u8], mut handle: impl FnMut(Message<'_>)) -> Result<(), String> {
        let mut partial = std::mem::take(&mut self.partial);
        if partial.is_empty() {
            let used = decode(bytes, &mut handle)?;
            self.partial = bytes[used..].to_vec();
        } else {
            partial.extend_from_slice(bytes);
            let used = decode(&partial, &mut handle)?;
            partial.drain(..used);
            // A silent connection keeps no memory.
            self.partial = if partial.is_empty() { Vec::new() } else { partial };
        }
        Ok(())
    }
}

/// Hands out whole frames; how many bytes they are.
fn decode(bytes: &[u8], handle: &mut impl FnMut(Message<'_>)) -> Result<usize, String> {
    let mut rest = bytes;
    while let Some(header) = Header::parse(rest)? {
        let Some((frame, after)) = rest.split_at_checked(header.header_bytes + header.payload_bytes) else {
            break;
        };
        handle(header.message(frame));
        rest = after;
    }
    Ok(bytes.len() - rest.len())
}

struct Header {
    opcode: OpCode,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// `None`: not enough bytes yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut cursor = Cursor::new(bytes);
        let header = FrameHeader::parse(&mut cursor).map_err(|error| error.to_string())?;
        let Some((header, payload_bytes)) = header else { return Ok(None) };
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = header;
        if mask.is_some() || !is_final || rsv1 || rsv2 || rsv3 || opcode == OpCode::Data(Data::Continue) {
            return Err(format!(
                "the server sent a frame that starts with 0x{:02x}{:02x}; only whole messages without a mask are read here",
                bytes[0], bytes[1]
            ));
        }
        if payload_bytes > MESSAGE_BYTES_MAX {
            return Err(format!(
                "the server announced a message of {payload_bytes} bytes; at most {MESSAGE_BYTES_MAX} are read"
            ));
        }
        let header_bytes = cursor.position() as usize;
        Ok(Some(Self { opcode, header_bytes, payload_bytes: payload_bytes as usize }))
    }

    fn message<'a>(&self, frame: &'a [u8]) -> Message<'a> {
        let payload = &frame[self.header_bytes..];
        match self.opcode {
            OpCode::Data(Data::Binary) => Message::Binary(payload),
            OpCode::Data(Data::Text | Data::Continue | Data::Reserved(_)) => Message::Text(payload),
            OpCode::Control(Control::Ping) => Message::Ping(payload),
            OpCode::Control(Control::Pong | Control::Reserved(_)) => Message::Pong,
            OpCode::Control(Control::Close) => match payload {
                [a, b, reason @ ..] => {
                    let reason = std::str::from_utf8(reason).unwrap_or("(not UTF-8)");
                    Message::Close(u16::from_be_bytes([*a, *b]), reason)
                }
                _ => Message::Close(1005, ""),
            },
        }
    }
}

/// Appends one masked frame, whose payload is `parts` in a row.
pub fn write_masked(frames: &mut Vec<u8>, opcode: Opcode, mask: u32, parts: &[&[u8]]) {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let opcode = OpCode::from(opcode as u8);
    let header = FrameHeader { opcode, mask: Some(mask.to_ne_bytes()), ..FrameHeader::default() };
    header.format(payload_bytes as u64, frames).expect("a vector takes everything");
    let payload_at = frames.len();
    parts.iter().for_each(|part| frames.extend_from_slice(part));
    apply_mask(&mut frames[payload_at..], mask.to_ne_bytes());
}

/// A masked control frame: a pong, a close.
pub fn control_frame(opcode: Opcode, payload: &[u8], mask: u32) -> Vec<u8> {
    debug_assert!(payload.len() <= CONTROL_PAYLOAD_BYTES_MAX, "RFC 6455 section 5.5");
    let mut frame = Vec::with_capacity(6 + payload.len());
    write_masked(&mut frame, opcode, mask, &[payload]);
    frame
}

fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The payload of one frame that a client sent.
#[cfg(test)]
pub fn unmasked(frame: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor::new(frame);
    let (header, _) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
    let mut payload = frame[cursor.position() as usize..].to_vec();
    apply_mask(&mut payload, header.mask.unwrap());
    payload
}

/// One frame as a server sends it.
#[cfg(test)]
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    corelay::wire::frame::write_header(&mut frame, opcode, payload.len());
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::random;

    fn decode_in_pieces(bytes: &[u8], mut piece_bytes: impl FnMut() -> usize) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_bytes().clamp(1, rest.len()));
            decoder.receive(piece, |message| messages.push(format!("{message:?}"))).unwrap();
            rest = after;
        }
        assert!(decoder.partial.is_empty());
        messages
    }

    #[test]
    fn the_same_messages_come_out_of_every_split() {
        let long: Vec<u8> = (0..700).map(|i| i as u8).collect();
        let huge = vec![7; 70_000];
        let mut bytes = Vec::new();
        for payload in [&b"x"[..], &[], &long, &long[..125], &long[..126], &huge, &long] {
            bytes.extend(server_frame(Opcode::Binary, payload));
            bytes.extend(server_frame(Opcode::Ping, b"are you there"));
        }
        bytes.extend(server_frame(Opcode::Close, b"\x03\xE9idle"));
        let whole = decode_in_pieces(&bytes, || usize::MAX);
        assert_eq!(whole.len(), 15);
        assert_eq!(whole[14], format!("{:?}", Message::Close(1001, "idle")));
        for seed in 0..200 {
            let mut number = 0;
            let pieces = decode_in_pieces(&bytes, || {
                number += 1;
                let limit = [3, 40, 5000][seed as usize % 3];
                random(seed, number) as usize % limit
            });
            assert_eq!(pieces, whole, "seed {seed}");
        }
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_named() {
        let violation = |bytes: &[u8]| Decoder::default().receive(bytes, |_| {}).unwrap_err();
        for bytes in [&[0x82, 0x81, 0, 0, 0, 0][..], &[0x02, 0x01], &[0x80, 0x01], &[0xC2, 0x01]] {
            assert!(violation(bytes).contains(&format!("0x{:02x}{:02x}", bytes[0], bytes[1])), "{bytes:?}");
        }
        assert!(violation(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]).contains("1099511627776 bytes"));
        assert!(violation(&[0x83, 0x01]).contains("opcode"));
    }

    #[test]
    fn a_masked_frame_is_read_back_whatever_its_length() {
        for length in [0, 1, 125, 126, 300, 0xFFFF, 0x1_0000] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (first, second) = payload.split_at(length / 3);
            let mut frame = Vec::new();
            write_masked(&mut frame, Opcode::Binary, 0xDEAD_BEEF, &[first, &[], second]);
            assert_eq!((frame[0], frame[1] & 0x80), (0x82, 0x80));
            assert_eq!(unmasked(&frame), payload);
        }
    }
}
