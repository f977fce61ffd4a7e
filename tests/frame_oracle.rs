//! The frame decoder against tungstenite's, on valid and on broken frames, in random splits.
//!
//! Both must see the same messages in the same order, and both must accept or refuse what comes then. Where the two differ, the
//! relay is the stricter or the earlier one, and RFC 6455 is on its side:
//!
//! * A length in more bytes than it needs, and with it a control frame whose length is not in its 7 bits: tungstenite takes it,
//!   section 5.2 forbids it.
//! * A bad frame is refused here as soon as its bytes show it, there when it is complete: the oracle gets the rest of the frame.
//! * A close code that must not be sent is an error here; tungstenite reports a close with code 1002 of its own making.
//! * Close code 1014 is in IANA's registry; tungstenite does not know it. It is not generated.

use std::io::{self, Read, Write};

use corelay::wire::frame::{Decoder, Incoming, MessageLimits, Opcode, Violation, write_header};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

const BYTES_MAX: usize = 65_536;
const LIMITS: MessageLimits = MessageLimits { bytes_max: BYTES_MAX, fragments_max: u32::MAX };

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict<V> {
    /// So far all is well.
    Starved,
    /// The stream ends by a close frame.
    Closed,
    Refused(V),
}

fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Seen>, Verdict<Violation>) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (mut input, behind) = rest.split_at_mut((*piece).min(rest.len()));
        rest = behind;
        loop {
            match decoder.decode(&mut input, &LIMITS) {
                Ok(Some(message)) => seen.push(match message {
                    Incoming::Text(text) => Seen::Text(text.to_owned()),
                    Incoming::Binary(payload) => Seen::Binary(payload.to_vec()),
                    Incoming::Ping(payload) => Seen::Ping(payload.to_vec()),
                    Incoming::Pong(payload) => Seen::Pong(payload.to_vec()),
                    Incoming::Close(close) => {
                        seen.push(Seen::Close(close.map(|(code, reason)| (code, reason.to_owned()))));
                        return (seen, Verdict::Closed);
                    }
                }),
                Ok(None) => break,
                Err(violation) => return (seen, Verdict::Refused(violation)),
            }
        }
        assert!(input.is_empty(), "whoever asks for more has taken everything");
    }
    (seen, Verdict::Starved)
}

/// A stream that gives bytes, then its end, and takes everything.
struct OneWay<'a>(&'a [u8]);

impl Read for OneWay<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for OneWay<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn oracle(bytes: &[u8]) -> (Vec<Seen>, Verdict<()>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(BYTES_MAX))
        .max_frame_size(Some(BYTES_MAX))
        .accept_unmasked_frames(false);
    let mut socket = WebSocket::from_raw_socket(OneWay(bytes), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.to_string())),
            Ok(Message::Binary(payload)) => seen.push(Seen::Binary(payload.to_vec())),
            Ok(Message::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (seen, Verdict::Refused(()));
            }
            Ok(Message::Close(close)) => {
                seen.push(Seen::Close(close.map(|close| (close.code.into(), close.reason.to_string()))));
                return (seen, Verdict::Closed);
            }
            Ok(Message::Frame(frame)) => panic!("a reader gets messages, not {frame}"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (seen, Verdict::Starved),
            Err(_) => return (seen, Verdict::Refused(())),
        }
    }
}

#[track_caller]
fn assert_agrees_with_oracle(bytes: &[u8]) -> (Vec<Seen>, Verdict<Violation>) {
    let (seen, verdict) = decode(bytes, &[usize::MAX]);
    match verdict {
        Verdict::Starved => assert_eq!((&seen, Verdict::Starved), as_ref(&oracle(bytes))),
        Verdict::Closed => assert_eq!((&seen, Verdict::Closed), as_ref(&oracle(bytes))),
        Verdict::Refused(Violation::LengthNotMinimal(_) | Violation::ControlTooLong) => {
            assert!(oracle(bytes).0.starts_with(&seen));
        }
        Verdict::Refused(_) => {
            let with_rest_of_frame = [bytes, &[0; BYTES_MAX + 14]].concat();
            assert_eq!((&seen, Verdict::Refused(())), as_ref(&oracle(&with_rest_of_frame)), "{verdict:?}");
        }
    }
    (seen, verdict)
}

fn as_ref(outcome: &(Vec<Seen>, Verdict<()>)) -> (&Vec<Seen>, Verdict<()>) {
    (&outcome.0, outcome.1)
}

#[derive(Clone, Debug)]
struct Frame {
    /// FIN, reserved bits, opcode.
    first: u8,
    mask: Option<[u8; 4]>,
    length_form: LengthForm,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum LengthForm {
    Minimal,
    In16Bits,
    In64Bits,
    /// A length of 64 bits that has nothing to do with the payload.
    Lie(u64),
}

impl Frame {
    fn write(&self, bytes: &mut Vec<u8>) {
        let (start, length) = (bytes.len(), self.payload.len());
        let mut write_in_64_bits = |length: u64| {
            bytes.extend_from_slice(&[0, 127]);
            bytes.extend_from_slice(&length.to_be_bytes());
        };
        match self.length_form {
            LengthForm::In64Bits => write_in_64_bits(length as u64),
            LengthForm::Lie(length) => write_in_64_bits(length),
            LengthForm::In16Bits if length <= 0xFFFF => {
                bytes.extend_from_slice(&[0, 126]);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            LengthForm::In16Bits | LengthForm::Minimal => write_header(bytes, Opcode::Binary, length),
        }
        bytes[start] = self.first;
        bytes[start + 1] |= if self.mask.is_some() { 0x80 } else { 0 };
        let mask = self.mask.unwrap_or_default();
        bytes.extend_from_slice(&mask[..if self.mask.is_some() { 4 } else { 0 }]);
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0_usize..20, 2 => 124_usize..128, 1 => 65_534_usize..=65_537]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    (length(), any::<u8>()).prop_map(|(length, seed)| {
        (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)).collect()
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    // Also with a few bytes cut off, which is mostly no longer UTF-8.
    (length(), "[a-zß€\u{10000}-\u{10FFFF}]{1,6}", prop_oneof![20 => Just(0_usize), 1 => 1_usize..4])
        .prop_map(|(length, unit, cut)| {
            let mut text = unit.repeat(length.div_ceil(unit.len())).into_bytes();
            text.truncate(text.len().saturating_sub(cut));
            text
        })
}

fn mask() -> impl Strategy<Value = Option<[u8; 4]>> {
    prop_oneof![30 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)]
}

fn control_frame() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![
        3 => Just(1000_u16),
        1 => prop_oneof![990_u16..1014, 1015_u16..1020, 2995_u16..3005, 4995_u16..5005, Just(0), Just(65_535)],
    ];
    let close = (code, text())
        .prop_map(|(code, reason)| [&code.to_be_bytes()[..], &reason[..reason.len().min(123)]].concat());
    let opcode_and_payload = prop_oneof![
        6 => (9_u8..=10, vec(any::<u8>(), 0..10)),
        2 => (9_u8..=10, vec(any::<u8>(), 124..=126)),
        1 => (Just(8_u8), prop_oneof![4 => close, 1 => vec(any::<u8>(), 0..3)]),
    ];
    (opcode_and_payload, mask()).prop_map(|((opcode, payload), mask)| Frame {
        first: 0x80 | opcode,
        mask,
        length_form: LengthForm::Minimal,
        payload,
    })
}

/// The frames of one message: cut into fragments, with control frames between them.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    let opcode_and_payload =
        prop_oneof![text().prop_map(|text| (1, text)), payload().prop_map(|bytes| (2, bytes))];
    let between = prop_oneof![3 => Just(None), 1 => control_frame().prop_map(Some)];
    let cuts = prop_oneof![2 => Just(vec![]), 1 => vec((any::<Index>(), mask(), between), 1..5)];
    (opcode_and_payload, mask(), cuts).prop_map(|((opcode, payload), mask, cuts)| {
        let mut starts: Vec<_> = cuts
            .into_iter()
            .map(|(start, mask, control)| (start.index(payload.len() + 1), mask, control))
            .collect();
        starts.sort_by_key(|(start, ..)| *start);
        starts.insert(0, (0, mask, None));
        let mut frames = Vec::new();
        for (index, (start, mask, control)) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map(|(start, ..)| *start);
            let fin = if end.is_none() { 0x80 } else { 0 };
            frames.extend(control.clone());
            frames.push(Frame {
                first: fin | if index == 0 { opcode } else { 0 },
                mask: *mask,
                length_form: LengthForm::Minimal,
                payload: payload[*start..end.unwrap_or(payload.len())].to_vec(),
            });
        }
        frames
    })
}

/// Bytes of a client, mostly as they should be.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let unit = prop_oneof![4 => message(), 1 => control_frame().prop_map(|frame| vec![frame])];
    let length_form = prop_oneof![
        Just(LengthForm::In16Bits),
        Just(LengthForm::In64Bits),
        any::<u64>().prop_map(LengthForm::Lie),
        (BYTES_MAX as u64 + 1..1 << 40).prop_map(LengthForm::Lie),
    ];
    #[derive(Clone, Debug)]
    enum Damage {
        FirstByte(Index, u8),
        Length(Index, LengthForm),
        Remove(Index),
        Byte(Index, u8),
        Truncate(Index),
    }
    let damage = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(index, byte)| Damage::FirstByte(index, byte)),
        (any::<Index>(), length_form).prop_map(|(index, form)| Damage::Length(index, form)),
        any::<Index>().prop_map(Damage::Remove),
        (any::<Index>(), 1_u8..).prop_map(|(index, bits)| Damage::Byte(index, bits)),
        any::<Index>().prop_map(Damage::Truncate),
    ];
    (vec(unit, 1..6), proptest::option::of(damage)).prop_map(|(units, damage)| {
        let mut frames = units.concat();
        match &damage {
            Some(Damage::FirstByte(index, byte)) => index.get_mut(&mut frames).first = *byte,
            Some(Damage::Length(index, form)) => index.get_mut(&mut frames).length_form = *form,
            Some(Damage::Remove(index)) => drop(frames.remove(index.index(frames.len()))),
            Some(Damage::Byte(..) | Damage::Truncate(_)) | None => {}
        }
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        match damage {
            Some(Damage::Byte(index, bits)) if !bytes.is_empty() => *index.get_mut(&mut bytes) ^= bits,
            Some(Damage::Truncate(index)) => bytes.truncate(index.index(bytes.len() + 1)),
            _ => {}
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn sees_what_tungstenite_sees_however_it_is_split(
        bytes in stream(),
        pieces in vec(prop_oneof![1_usize..8, 1_usize..200, 1000_usize..70_000], 1..20),
    ) {
        let outcome = assert_agrees_with_oracle(&bytes);
        prop_assert_eq!(&outcome, &decode(&bytes, &pieces));
        if bytes.len() < 2000 {
            prop_assert_eq!(&outcome, &decode(&bytes, &[1]));
        }
    }

    #[test]
    fn bytes_that_are_no_frames_are_treated_alike(bytes in vec(any::<u8>(), 0..300)) {
        let outcome = assert_agrees_with_oracle(&bytes);
        prop_assert_eq!(&outcome, &decode(&bytes, &[1]));
    }
}

#[test]
fn every_first_two_bytes_of_a_frame_are_treated_alike() {
    for first in 0..=255 {
        for second in 0..=255 {
            // The header stands first, and between the fragments of a text.
            let alone = [&[first, second][..], &[0; 200]].concat();
            let inside = [&[0x01, 0x80, 0, 0, 0, 0][..], &alone].concat();
            assert_agrees_with_oracle(&alone);
            assert_agrees_with_oracle(&inside);
        }
    }
}
