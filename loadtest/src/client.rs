//! One player's connection as its bytes tell it: the answer to the upgrade, then messages, then records. Sans I/O.

use corelay::wire::frame::Opcode;
use corelay::wire::native::{DeltaHeader, ErrorHeader, KeyframeHeader, Position, Welcome, kind};
use zerocopy::FromBytes;

use crate::frames::{Decoder, Message, control_frame};
use crate::handshake::{Answer, Handshake};

/// Pings of one receive that are answered; the rest is left out (RFC 6455 section 5.5.3).
const PINGS_ANSWERED_MAX: usize = 2;

/// What the relay sent. Grows only; differences are taken between two copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the records, in the plural")]
pub struct Counters {
    /// WebSocket messages, control frames included.
    pub frames: u64,
    /// Bytes of everything after the connect.
    pub bytes: u64,
    pub deltas: u64,
    pub keyframes: u64,
    pub rate_limited: u64,
    pub corrections: u64,
    pub errors: u64,
    pub notices: u64,
    /// Messages that are no record of the protocol.
    pub malformed: u64,
}

impl Counters {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        self.combine(earlier, u64::wrapping_sub)
    }

    /// The sum of two threads' numbers.
    pub fn plus(self, other: Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    fn combine(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            frames: with(self.frames, other.frames),
            bytes: with(self.bytes, other.bytes),
            deltas: with(self.deltas, other.deltas),
            keyframes: with(self.keyframes, other.keyframes),
            rate_limited: with(self.rate_limited, other.rate_limited),
            corrections: with(self.corrections, other.corrections),
            errors: with(self.errors, other.errors),
            notices: with(self.notices, other.notices),
            malformed: with(self.malformed, other.malformed),
        }
    }
}

/// What one receive brought, besides positions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The player is in its room.
    pub welcome: bool,
    /// Masked pongs, to be sent.
    pub pongs: Vec<u8>,
    /// The relay's close frame: code and reason.
    pub close: Option<(u16, String)>,
    /// Texts of Error records.
    pub errors: Vec<String>,
}

/// See the module documentation.
#[derive(Debug)]
pub enum Client {
    /// Bytes of an answer that is not complete.
    Upgrading(Vec<u8>),
    /// Upgraded.
    Open(Decoder),
}

impl Default for Client {
    fn default() -> Self {
        Self::Upgrading(Vec::new())
    }
}

impl Client {
    /// Reads what came in and counts it; the positions of tick frames go to `handle_positions`. An error ends the connection.
    pub fn handle_received(
        &mut self,
        bytes: &[u8],
        handshake: &Handshake,
        counters: &mut Counters,
        handle_positions: impl FnMut(&[Position]),
    ) -> Result<Heard, String> {
        counters.bytes += bytes.len() as u64;
        match self {
            Self::Open(decoder) => hear(decoder, bytes, counters, handle_positions),
            Self::Upgrading(answer) => {
                answer.extend_from_slice(bytes);
                match handshake.read(answer, false) {
                    Answer::Incomplete => Ok(Heard::default()),
                    Answer::Refused(text) => Err(text),
                    Answer::Upgraded(head_bytes) => {
                        let mut decoder = Decoder::default();
                        let heard = hear(&mut decoder, &answer[head_bytes..], counters, handle_positions);
                        *self = Self::Open(decoder);
                        heard
                    }
                }
            }
        }
    }

    /// What the end of the stream means, if it is the end of an answer.
    pub fn handle_end(&self, handshake: &Handshake) -> Option<String> {
        let Self::Upgrading(answer) = self else { return None };
        match handshake.read(answer, true) {
            Answer::Refused(text) => Some(text),
            Answer::Incomplete | Answer::Upgraded(_) => None,
        }
    }
}

fn hear(
    decoder: &mut Decoder,
    bytes: &[u8],
    counters: &mut Counters,
    mut handle_positions: impl FnMut(&[Position]),
) -> Result<Heard, String> {
    let mut heard = Heard::default();
    let mut pings = 0;
    let outcome = decoder.receive(bytes, |message| {
        counters.frames += 1;
        match message {
            Message::Binary(record) => match tick_frame(record) {
                Some(positions) => {
                    let is_delta = record[0] == kind::DELTA;
                    counters.deltas += u64::from(is_delta);
                    counters.keyframes += u64::from(!is_delta);
                    handle_positions(positions);
                }
                None => hear_record(record, counters, &mut heard),
            },
            Message::Ping(payload) => {
                pings += 1;
                if pings <= PINGS_ANSWERED_MAX {
                    heard.pongs.extend(control_frame(Opcode::Pong, payload, 0x5EED_5EED));
                }
            }
            Message::Pong => {}
            Message::Close(code, reason) => heard.close = Some((code, reason.to_owned())),
            Message::Text(_) => counters.malformed += 1,
        }
    });
    outcome.map(|()| heard).map_err(|violation| violation.to_string())
}

/// The positions of a Delta or Keyframe; `None`: another record.
fn tick_frame(record: &[u8]) -> Option<&[Position]> {
    let (rest, count) = match *record.first()? {
        kind::DELTA => {
            let (header, rest) = DeltaHeader::ref_from_prefix(record).ok()?;
            (rest, header.position_count.get())
        }
        kind::KEYFRAME => {
            let (header, rest) = KeyframeHeader::ref_from_prefix(record).ok()?;
            (rest, header.position_count.get())
        }
        _ => return None,
    };
    let (positions, _) = <[Position]>::ref_from_prefix_with_elems(rest, count as usize).ok()?;
    Some(positions)
}

#[cold]
fn hear_record(record: &[u8], counters: &mut Counters, heard: &mut Heard) {
    let Some(&kind) = record.first() else {
        counters.malformed += 1;
        return;
    };
    match kind {
        kind::WELCOME if record.len() == size_of::<Welcome>() => heard.welcome = true,
        kind::ROSTER | kind::EVENT_OUT | kind::PONG => {}
        kind::RATE_LIMITED => counters.rate_limited += 1,
        kind::CORRECTION => counters.corrections += 1,
        kind::NOTICE => counters.notices += 1,
        kind::ERROR => {
            counters.errors += 1;
            let text = record.get(size_of::<ErrorHeader>()..).unwrap_or_default();
            heard.errors.push(String::from_utf8_lossy(text).into_owned());
        }
        _ => counters.malformed += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::handshake::derive_accept_key;
    use zerocopy::IntoBytes;

    fn position(number: u32) -> Position {
        Position { player_id: (70 + number).into(), x: 1.0.into(), y: (number as f32).into() }
    }

    fn message(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        corelay::wire::frame::write_header(&mut bytes, Opcode::Binary, payload.len());
        bytes.extend(payload);
        bytes
    }

    fn delta(positions: &[Position]) -> Vec<u8> {
        let header = DeltaHeader {
            kind: kind::DELTA,
            position_count: (positions.len() as u32).into(),
            gone_players: 1.into(),
            ..DeltaHeader::default()
        };
        message(&[header.as_bytes(), positions.as_bytes(), &7_u32.to_be_bytes()].concat())
    }

    fn keyframe(positions: &[Position]) -> Vec<u8> {
        let header = KeyframeHeader {
            kind: kind::KEYFRAME,
            position_count: (positions.len() as u32).into(),
            ..KeyframeHeader::default()
        };
        message(&[header.as_bytes(), positions.as_bytes()].concat())
    }

    #[test]
    fn a_connection_is_read_from_the_upgrade_to_the_close_in_any_pieces() {
        let handshake = Handshake::new("relay".into());
        let request = String::from_utf8(handshake.request("room")).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let mut bytes = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
            .into_bytes();
        bytes.extend(message(Welcome { kind: kind::WELCOME, ..Welcome::default() }.as_bytes()));
        bytes.extend(keyframe(&[position(1), position(2)]));
        bytes.extend([0x89, 2, b'h', b'i']);
        bytes.extend(delta(&(3..60).map(position).collect::<Vec<_>>()));
        bytes.extend(message(&[kind::ERROR, 1, 0, 0, b'n', b'o']));
        bytes.extend(message(&[kind::RATE_LIMITED, 1, 0, 0, 0, 0, 0, 9]));
        bytes.extend(message(&[0x7F]));
        bytes.extend(b"\x88\x06\x03\xF5slow");

        for piece_bytes in [1, 2, 7, 100, bytes.len()] {
            let (mut client, mut counters) = (Client::default(), Counters::default());
            let (mut seen, mut all) = (Vec::new(), Heard::default());
            for piece in bytes.chunks(piece_bytes) {
                let heard = client.handle_received(piece, &handshake, &mut counters, |positions| {
                    seen.extend(positions.iter().map(|position| position.y.get() as u32));
                });
                let heard = heard.unwrap();
                all.welcome |= heard.welcome;
                all.pongs.extend(heard.pongs);
                all.close = all.close.or(heard.close);
                all.errors.extend(heard.errors);
            }
            assert_eq!(seen, (1..60).collect::<Vec<_>>(), "in pieces of {piece_bytes}");
            assert!(all.welcome);
            assert_eq!(all.pongs, control_frame(Opcode::Pong, b"hi", 0x5EED_5EED));
            assert_eq!(all.close, Some((1013, "slow".into())));
            assert_eq!(all.errors, ["no"]);
            let expected = Counters {
                frames: 8,
                bytes: bytes.len() as u64,
                deltas: 1,
                keyframes: 1,
                rate_limited: 1,
                errors: 1,
                malformed: 1,
                ..Counters::default()
            };
            assert_eq!(counters, expected);
        }
    }

    #[test]
    fn a_frame_that_announces_more_positions_than_it_holds_is_malformed() {
        let mut bytes = delta(&[position(1)]);
        let count_at = bytes.len() - 4 - 12 - 12 + 3;
        assert_eq!(bytes[count_at], 1);
        bytes[count_at] = 9;
        let mut client = Client::Open(Decoder::default());
        let mut counters = Counters::default();
        let handshake = Handshake::new("relay".into());
        client.handle_received(&bytes, &handshake, &mut counters, |_| panic!("no positions")).unwrap();
        assert_eq!((counters.malformed, counters.deltas), (1, 0));
    }

    #[test]
    fn numbers_of_a_window_are_differences() {
        let before = Counters { frames: 3, notices: 1, ..Counters::default() };
        let after = Counters { frames: 10, notices: 1, bytes: 5, ..Counters::default() };
        let window = after.since(before);
        assert_eq!(window, Counters { frames: 7, bytes: 5, ..Counters::default() });
        assert_eq!(window.plus(before), after);
    }
}
