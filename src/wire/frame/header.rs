//! The header of a frame that a client sends, and its masking.

use super::{Opcode, Violation};
use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

/// Longest header of a frame that a client sends: 2 bytes, 8 of length, 4 of masking key.
pub(super) const RECEIVED_HEADER_BYTES_MAX: usize = 14;

/// A frame header from a client, in itself correct.
///
/// ```text
///  0               1               2               3
///  7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0
/// +-+-+-+-+-------+-+-------------+-------------------------------+
/// |F|R|R|R| opcode|M| payload len |   extended payload length     |
/// |I|S|S|S|  (4)  |A|     (7)     |     16 bits if len is 126,    |
/// |N|V|V|V|       |S|             |     64 bits if len is 127     |
/// | |1|2|3|       |K|             |                               |
/// +-+-+-+-+-------+-+-------------+-------------------------------+
/// |                 masking key (32 bits, if MASK)                |
/// +---------------------------------------------------------------+
/// ```
pub(super) struct Header {
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) payload_bytes: u64,
    /// Length of the header itself.
    pub(super) header_bytes: usize,
}

impl Header {
    pub(super) fn is_whole_message(&self) -> bool {
        self.is_final && self.opcode != Opcode::Continuation
    }
}

/// Reads the header at the start of `bytes`. `Ok(None)`: more bytes are needed. Fails as soon as the bytes at hand are wrong.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let is_final = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let opcode = match first & 0x0F {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        reserved => return Err(Violation::ReservedOpcode(reserved)),
    };
    if opcode.is_control() && !is_final {
        return Err(Violation::ControlFragmented);
    }

    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let short_length = second & 0x7F;
    if opcode.is_control() && usize::from(short_length) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(Violation::ControlTooLong);
    }
    let (payload_bytes, payload_bytes_min, rest) = match short_length {
        126 => {
            let Some((length, rest)) = bytes[2..].split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), 126, rest)
        }
        127 => {
            let Some((length, rest)) = bytes[2..].split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*length), 0x1_0000, rest)
        }
        length => (u64::from(length), 0, &bytes[2..]),
    };
    if payload_bytes >> 63 != 0 {
        return Err(Violation::LengthTopBit);
    }
    if payload_bytes < payload_bytes_min {
        return Err(Violation::LengthNotMinimal(payload_bytes));
    }
    let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let header_bytes = bytes.len() - rest.len();
    Ok(Some(Header { is_final, opcode, mask, payload_bytes, header_bytes }))
}

/// XORs `bytes` with the repeated key (RFC 6455 section 5.3).
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let mask_16 = u128::from_ne_bytes([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d]);
    let mask_4 = u32::from_ne_bytes(mask);
    let (sixteens, rest) = bytes.as_chunks_mut();
    for chunk in sixteens {
        *chunk = (u128::from_ne_bytes(*chunk) ^ mask_16).to_ne_bytes();
    }
    let (fours, rest) = rest.as_chunks_mut();
    for chunk in fours {
        *chunk = (u32::from_ne_bytes(*chunk) ^ mask_4).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_by_words_is_unmasking_by_bytes() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(7)).collect();
            let mut masked: Vec<u8> =
                plain.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect();
            unmask(&mut masked, mask);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let bytes = [0x02, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 99];
        for length in 0..14 {
            assert!(parse(&bytes[..length]).expect("nothing is wrong so far").is_none());
        }
        let header = parse(&bytes).expect("nothing is wrong").expect("it is whole");
        assert!(!header.is_final);
        assert_eq!((header.opcode, header.payload_bytes), (Opcode::Binary, 0x1_0000));
        assert_eq!((header.mask, header.header_bytes), ([1, 2, 3, 4], 14));
    }
}
