//! Puts one connection's frames together into messages.

use std::str;

use super::header::{self, Header, RECEIVED_HEADER_BYTES_MAX, unmask};
use super::{Incoming, MessageLimits, Opcode, Violation};
use crate::memory::Allocated;

/// Puts one connection's frames together into messages.
///
/// After each receive, call `decode` until it says `Ok(None)`: only then is everything consumed, and the memory of the last
/// message released. After `Incoming::Close` or a violation, call it no more.
///
/// A message that lies whole and unfragmented in the input is unmasked there and borrowed from there. Only what is split, by
/// fragments or by receives, is copied, into memory that grows with what has arrived and never with what was announced.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() == 8, "every connection has one, and nearly all of them are idle");

impl Decoder {
    /// Takes the next whole message off the front of `input`. `Ok(None)`: all of it is consumed, and more is needed.
    pub fn decode<'message, 'input: 'message>(
        &'message mut self,
        input: &mut &'input mut [u8],
        limits: &MessageLimits,
    ) -> Result<Option<Incoming<'message>>, Violation> {
        self.release_delivered();
        loop {
            if self.is_between_frames() {
                let Some(header) = self.read_header(input)? else { return Ok(None) };
                self.check_header(&header, limits)?;
                if header.is_whole_message() && header.payload_bytes <= input.len() as u64 {
                    let payload = take(input, header.payload_bytes as usize);
                    unmask(payload, header.mask);
                    return Incoming::new(header.opcode, payload).map(Some);
                }
                self.partial_mut().begin_frame(&header);
            }
            match self.partial_mut().read_payload(input, limits.bytes_max)? {
                Progress::Starved => return Ok(None),
                Progress::Fragment => {}
                Progress::Message => return self.partial_mut().deliver().map(Some),
            }
        }
    }

    /// Whether no part of a message is held, so that a new decoder could take the place of this one.
    pub fn is_empty(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let Some(partial) = &self.partial else { return 0 };
        let assemblies = [&partial.data, &partial.control].into_iter().flatten();
        partial.allocated_bytes() + assemblies.map(|assembly| assembly.bytes.allocated_bytes()).sum::<usize>()
    }

    fn release_delivered(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        partial.data.take_if(|assembly| assembly.delivered);
        partial.control.take_if(|assembly| assembly.delivered);
        if partial.is_empty() {
            self.partial = None;
        }
    }

    fn is_between_frames(&self) -> bool {
        self.partial.as_ref().is_none_or(|partial| partial.frame.is_none())
    }

    /// Takes a frame header off the front of `input`; what there is of an incomplete one is kept for the next receive.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        let held = self.partial.as_ref().map_or(0, |partial| partial.held);
        if held == 0 {
            if let Some(header) = header::parse(input)? {
                take(input, header.header_bytes);
                return Ok(Some(header));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let partial = self.partial_mut();
        let joined = (held + input.len()).min(RECEIVED_HEADER_BYTES_MAX);
        partial.header[held..joined].copy_from_slice(&input[..joined - held]);
        let header = header::parse(&partial.header[..joined])?;
        partial.held = if header.is_some() { 0 } else { joined };
        take(input, header.as_ref().map_or(joined, |header| header.header_bytes) - held);
        Ok(header)
    }

    /// Checks what a header cannot tell alone: whether the frame may stand here, and whether its message stays within the limits.
    fn check_header(&self, header: &Header, limits: &MessageLimits) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let started = self.partial.as_ref().and_then(|partial| partial.data.as_ref());
        let (bytes, fragments) = match (header.opcode == Opcode::Continuation, started) {
            (false, None) => (0, 0),
            (true, Some(assembly)) => (assembly.bytes.len(), assembly.fragments),
            (true, None) => return Err(Violation::NothingToContinue),
            (false, Some(_)) => return Err(Violation::MessageInsideMessage),
        };
        let bytes = (bytes as u64).saturating_add(header.payload_bytes);
        if bytes > limits.bytes_max as u64 {
            return Err(Violation::TooBig { bytes, bytes_max: limits.bytes_max });
        }
        if fragments >= limits.fragments_max {
            return Err(Violation::TooManyFragments(limits.fragments_max));
        }
        Ok(())
    }

    fn partial_mut(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }
}

/// What is known of a message that did not arrive whole. Lives from its first byte to its delivery.
///
/// Invariant: `held > 0` only between frames, and `held` bytes are no whole header; `frame` writes to `control` when it is a
/// control frame, else to `data`, which then is there.
#[derive(Debug, Default)]
struct Partial {
    /// Start of a frame header.
    header: [u8; RECEIVED_HEADER_BYTES_MAX],
    /// How much of `header` has arrived.
    held: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The text or binary message that is arriving.
    data: Option<Assembly>,
    /// The control frame that is arriving.
    control: Option<Assembly>,
}

/// The rest of a frame.
#[derive(Debug)]
struct Frame {
    is_control: bool,
    is_final: bool,
    /// The key, turned so that its first byte is the next payload byte's.
    mask: [u8; 4],
    payload_bytes_left: usize,
}

/// Unmasked payload so far.
#[derive(Debug)]
struct Assembly {
    opcode: Opcode,
    fragments: u32,
    bytes: Vec<u8>,
    /// Of a text: whole characters. Invariant: `utf8_bytes <= bytes.len() <= utf8_bytes + 3` after every append.
    utf8_bytes: usize,
    delivered: bool,
}

/// How far the bytes at hand reached.
enum Progress {
    /// The frame is not complete.
    Starved,
    /// A frame is complete that is not the last of its message.
    Fragment,
    /// A message is complete, and to be delivered.
    Message,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.held == 0 && self.frame.is_none() && self.data.is_none() && self.control.is_none()
    }

    fn begin_frame(&mut self, header: &Header) {
        let is_control = header.opcode.is_control();
        let assembly = if is_control { &mut self.control } else { &mut self.data };
        let assembly = assembly.get_or_insert_with(|| Assembly::new(header.opcode));
        assembly.fragments += 1;
        self.frame = Some(Frame {
            is_control,
            is_final: header.is_final,
            mask: header.mask,
            payload_bytes_left: header.payload_bytes as usize,
        });
    }

    fn read_payload(&mut self, input: &mut &mut [u8], bytes_max: usize) -> Result<Progress, Violation> {
        let frame = self.frame.as_mut().expect("a frame has begun");
        let assembly = if frame.is_control { &mut self.control } else { &mut self.data };
        let assembly = assembly.as_mut().expect("a frame writes to an assembly");
        let payload = take(input, frame.payload_bytes_left.min(input.len()));
        unmask(payload, frame.mask);
        frame.mask.rotate_left(payload.len() % 4);
        frame.payload_bytes_left -= payload.len();
        assembly.append(payload, bytes_max)?;
        if frame.payload_bytes_left > 0 {
            return Ok(Progress::Starved);
        }
        let progress = if frame.is_final { Progress::Message } else { Progress::Fragment };
        assembly.delivered = frame.is_final;
        self.frame = None;
        Ok(progress)
    }

    fn deliver(&self) -> Result<Incoming<'_>, Violation> {
        let finished = self.control.as_ref().or(self.data.as_ref()).expect("a message has been put together");
        debug_assert!(finished.delivered, "only whole messages are delivered");
        Incoming::new(finished.opcode, &finished.bytes)
    }
}

impl Assembly {
    fn new(opcode: Opcode) -> Self {
        Self { opcode, fragments: 0, bytes: Vec::new(), utf8_bytes: 0, delivered: false }
    }

    /// Appends what has arrived; a text fails at its first byte that cannot be UTF-8, however it is split.
    fn append(&mut self, payload: &[u8], bytes_max: usize) -> Result<(), Violation> {
        let bytes_needed = self.bytes.len() + payload.len();
        if bytes_needed > self.bytes.capacity() {
            let capacity = bytes_needed.max((2 * self.bytes.capacity()).min(bytes_max));
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if self.opcode != Opcode::Text {
            return Ok(());
        }
        // Only the character that the last append cut is looked at twice.
        match str::from_utf8(&self.bytes[self.utf8_bytes..]) {
            Ok(text) => self.utf8_bytes += text.len(),
            Err(error) if error.error_len().is_none() => self.utf8_bytes += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        debug_assert!(self.utf8_bytes <= self.bytes.len() && self.bytes.len() <= self.utf8_bytes + 3);
        Ok(())
    }
}

fn take<'input>(input: &mut &'input mut [u8], count: usize) -> &'input mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::super::{write_close, write_header};
    use super::*;
    use crate::reasons::CloseReason;

    const LIMITS: MessageLimits = MessageLimits { bytes_max: 64 * 1024, fragments_max: 4096 };
    const FIN: u8 = 0x80;

    /// A masked frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(&mut bytes, Opcode::Binary, payload.len());
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [0x12, 0x34, 0x56, 0x78];
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// Feeds `bytes` in pieces of `piece` bytes; gives what comes out, as text.
    fn decode_in_pieces(bytes: &[u8], piece: usize, limits: &MessageLimits) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for piece in bytes.to_vec().chunks_mut(piece) {
            let mut input = piece;
            loop {
                match decoder.decode(&mut input, limits) {
                    Ok(Some(message)) => seen.push(format!("{message:?}")),
                    Ok(None) => break,
                    Err(violation) => {
                        seen.push(format!("{violation:?}"));
                        return seen;
                    }
                }
            }
            assert!(input.is_empty(), "nothing is left behind");
        }
        assert!(decoder.partial.is_none(), "an idle decoder holds no memory");
        seen
    }

    #[track_caller]
    fn assert_decodes(bytes: &[u8], expected: &[&str]) {
        for piece in [1, 2, 3, 5, 7, bytes.len()] {
            assert_eq!(decode_in_pieces(bytes, piece, &LIMITS), expected, "in pieces of {piece}");
        }
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], violation: Violation, reason: CloseReason) {
        assert_decodes(bytes, &[&format!("{violation:?}")]);
        assert_eq!(violation.close_reason(), reason);
    }

    #[test]
    fn a_whole_message_is_borrowed_from_the_input() {
        let mut bytes = frame(FIN | 2, b"where I am");
        let range = bytes.as_ptr_range();
        let mut decoder = Decoder::default();
        let mut input = &mut bytes[..];
        let message = decoder.decode(&mut input, &LIMITS).expect("valid");
        let Some(Incoming::Binary(payload)) = message else { panic!("{message:?}") };
        assert_eq!(payload, b"where I am");
        assert!(range.contains(&payload.as_ptr()));
        assert!(decoder.partial.is_none());
    }

    #[test]
    fn control_frames_stand_between_fragments() {
        let bytes = [
            frame(1, "grü".as_bytes()),
            frame(FIN | 9, b"?"),
            frame(0, b""),
            frame(FIN | 10, b""),
            frame(FIN, "ße".as_bytes()),
            frame(FIN | 2, b""),
            frame(FIN | 8, b"\x03\xE8bye"),
        ];
        assert_decodes(
            &bytes.concat(),
            &["Ping([63])", "Pong([])", "Text(\"grüße\")", "Binary([])", "Close(Some((1000, \"bye\")))"],
        );
    }

    #[test]
    fn a_message_before_a_violation_is_still_served() {
        let bytes = [frame(FIN | 1, b"a"), frame(FIN | 3, b"")].concat();
        assert_decodes(&bytes, &["Text(\"a\")", "ReservedOpcode(3)"]);
    }

    #[test]
    fn headers_that_break_the_rfc_are_refused() {
        use CloseReason::Protocol;
        for bit in [0x40, 0x20, 0x10] {
            assert_refused(&frame(FIN | bit | 2, b""), Violation::ReservedBits, Protocol);
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_refused(&frame(FIN | opcode, b""), Violation::ReservedOpcode(opcode), Protocol);
        }
        for opcode in [8, 9, 10] {
            assert_refused(&frame(opcode, b""), Violation::ControlFragmented, Protocol);
            assert_refused(&frame(FIN | opcode, &[b'a'; 126]), Violation::ControlTooLong, Protocol);
        }
        assert_refused(&[0x82, 1, 0], Violation::Unmasked, Protocol);
        assert_refused(&[0x82, 0xFE, 0, 125], Violation::LengthNotMinimal(125), Protocol);
        assert_refused(
            &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            Violation::LengthNotMinimal(65_535),
            Protocol,
        );
        assert_refused(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::LengthTopBit, Protocol);
        assert_refused(&frame(FIN, b"a"), Violation::NothingToContinue, Protocol);
    }

    #[test]
    fn a_message_does_not_start_inside_another() {
        for first in [1, FIN | 1, 2, FIN | 2] {
            let bytes = [frame(2, b"a"), frame(first, b"b")].concat();
            assert_refused(&bytes, Violation::MessageInsideMessage, CloseReason::Protocol);
        }
    }

    #[test]
    fn text_fails_on_its_first_bad_byte() {
        // "κόσμε", then a surrogate: its second byte is the first that is wrong.
        let text = b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited";
        assert_refused(&frame(FIN | 1, text), Violation::Utf8, CloseReason::Utf8);
        assert_refused(&frame(1, &text[..13]), Violation::Utf8, CloseReason::Utf8);
        assert_refused(
            &[frame(1, &text[..12]), frame(0, &text[12..13])].concat(),
            Violation::Utf8,
            CloseReason::Utf8,
        );

        let mut bytes = frame(FIN | 1, text);
        bytes.truncate(6 + 13);
        let mut decoder = Decoder::default();
        let verdict = decoder.decode(&mut &mut bytes[..], &LIMITS);
        assert_eq!(verdict, Err(Violation::Utf8), "the frame is not complete yet");

        // A message may not end within a character, a fragment may.
        assert_refused(&frame(FIN | 1, &text[..4]), Violation::Utf8, CloseReason::Utf8);
        assert_refused(&[frame(1, &text[..4]), frame(FIN, b"")].concat(), Violation::Utf8, CloseReason::Utf8);
    }

    #[test]
    fn close_payloads_are_checked() {
        let close = |code: u16, reason: &[u8]| frame(FIN | 8, &[&code.to_be_bytes(), reason].concat());
        assert_decodes(&frame(FIN | 8, b""), &["Close(None)"]);
        for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
            assert_decodes(&close(code, b""), &[&format!("Close(Some(({code}, \"\")))")]);
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert_refused(&close(code, b""), Violation::CloseCode(code), CloseReason::Protocol);
        }
        assert_refused(&frame(FIN | 8, b"\x03"), Violation::ClosePayload, CloseReason::Protocol);
        assert_refused(&close(1000, b"\xFF"), Violation::Utf8, CloseReason::Utf8);
    }

    #[test]
    fn a_close_that_is_written_is_read_back() {
        let mut payload = Vec::new();
        write_close(&mut payload, 1012, "drain");
        assert_decodes(&frame(FIN | 8, &payload), &["Close(Some((1012, \"drain\")))"]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_header() {
        let exact = vec![7; LIMITS.bytes_max];
        assert_eq!(decode_in_pieces(&frame(FIN | 2, &exact), 4096, &LIMITS).len(), 1);

        let announced = |bytes: u64| [&[0x82, 0xFF][..], &bytes.to_be_bytes(), &[0; 4]].concat();
        for bytes in [LIMITS.bytes_max as u64 + 1, 1 << 40, (1 << 63) - 1] {
            let violation = Violation::TooBig { bytes, bytes_max: LIMITS.bytes_max };
            assert_refused(&announced(bytes), violation, CloseReason::TooBig);
        }

        let fragmented = [frame(2, &exact), frame(FIN, b"x")].concat();
        let violation = Violation::TooBig { bytes: exact.len() as u64 + 1, bytes_max: LIMITS.bytes_max };
        assert_eq!(decode_in_pieces(&fragmented, 4096, &LIMITS), [format!("{violation:?}")]);
    }

    #[test]
    fn memory_grows_with_what_arrives_not_with_what_is_announced() {
        let unlimited = MessageLimits { bytes_max: usize::MAX, fragments_max: 4096 };
        let held = |decoder: &Decoder| {
            let data = decoder.partial.as_ref().and_then(|partial| partial.data.as_ref());
            data.map_or(0, |assembly| assembly.bytes.capacity())
        };
        let mut decoder = Decoder::default();
        let mut header = [&[0x82, 0xFF][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
        assert_eq!(decoder.decode(&mut &mut header[..], &unlimited), Ok(None));
        assert_eq!(held(&decoder), 0, "1 TiB is announced, nothing has arrived");
        assert_eq!(decoder.decode(&mut &mut [1; 100][..], &unlimited), Ok(None));
        assert!(held(&decoder) <= 200);

        let mut decoder = Decoder::default();
        let mut bytes = frame(FIN | 2, &vec![7; LIMITS.bytes_max]);
        for piece in bytes.chunks_mut(1000) {
            let mut input = piece;
            while decoder.decode(&mut input, &LIMITS).expect("valid").is_some() {}
            assert!(held(&decoder) <= LIMITS.bytes_max);
        }
        assert!(decoder.partial.is_none());
    }

    #[test]
    fn two_hundred_thousand_fragments_of_one_byte_end_early() {
        let mut decoder = Decoder::default();
        let mut decoded = 0;
        let violation = loop {
            let mut bytes = frame(if decoded == 0 { 2 } else { 0 }, b"x");
            match decoder.decode(&mut &mut bytes[..], &LIMITS) {
                Ok(message) => assert_eq!(message, None),
                Err(violation) => break violation,
            }
            decoded += 1;
            assert!(decoded < 200_000);
        };
        assert_eq!((decoded, violation), (LIMITS.fragments_max, Violation::TooManyFragments(4096)));
        assert_eq!(violation.close_reason(), CloseReason::Abuse);
    }
}
