//! One player's connection as its bytes emit it: the answer to the upgrade, then messages, then records. Sans I/O.

use std::borrow::Cow;

use corelay::wire::frame::Opcode;

use crate::counters::Counters;
use crate::dialect::{Dialect, Effects, Event};
use crate::frames::{Decoder, Message, control_frame};
use crate::handshake::{Answer, Handshake};

/// Pings of one receive that are answered; the rest is left out (RFC 6455 section 5.5.3).
const PINGS_ANSWERED_MAX: usize = 2;

#[derive(Debug)]
pub enum Client {
    /// Bytes of an answer that is not complete.
    Upgrading(Vec<u8>),
    Open(Decoder),
}

impl Default for Client {
    fn default() -> Self {
        Self::Upgrading(Vec::new())
    }
}

impl Client {
    /// Reads what came in on connection `slot` and counts it; `dialect` takes the messages. An error ends the connection.
    pub fn handle_received(
        &mut self,
        slot: u32,
        bytes: &[u8],
        handshake: &Handshake,
        dialect: &mut dyn Dialect,
        counters: &mut Counters,
        emit: &mut dyn FnMut(Event<'_>),
    ) -> Result<Effects, String> {
        counters.bytes += bytes.len() as u64;
        match self {
            Self::Open(decoder) => {
                let mut effects = Effects::default();
                decode(slot, decoder, bytes, dialect, counters, emit, &mut effects).map(|()| effects)
            }
            Self::Upgrading(answer) => {
                let earlier = std::mem::take(answer);
                // Mostly the whole answer comes at once, and is read where it lies.
                let whole: Cow<'_, [u8]> =
                    if earlier.is_empty() { bytes.into() } else { [&earlier, bytes].concat().into() };
                match handshake.read(&whole, false) {
                    Answer::Incomplete => {
                        *answer = whole.into_owned();
                        Ok(Effects::default())
                    }
                    Answer::Refused(text) => Err(text),
                    Answer::Upgraded(head_bytes) => {
                        let mut effects = Effects::default();
                        dialect.handle_upgrade(slot, &mut effects, emit);
                        let mut decoder = Decoder::default();
                        let rest = &whole[head_bytes..];
                        let outcome = decode(slot, &mut decoder, rest, dialect, counters, emit, &mut effects);
                        *self = Self::Open(decoder);
                        outcome.map(|()| effects)
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

fn decode(
    slot: u32,
    decoder: &mut Decoder,
    bytes: &[u8],
    dialect: &mut dyn Dialect,
    counters: &mut Counters,
    emit: &mut dyn FnMut(Event<'_>),
    effects: &mut Effects,
) -> Result<(), String> {
    let mut pings = 0;
    decoder.receive(bytes, |message| {
        counters.frames += 1;
        match message {
            Message::Binary(_) | Message::Text(_) => {
                dialect.handle_message(slot, &message, counters, effects, emit);
            }
            Message::Ping(payload) => {
                pings += 1;
                counters.pings += 1;
                if pings <= PINGS_ANSWERED_MAX {
                    effects.answers.extend(control_frame(Opcode::Pong, payload, 0x5EED_5EED));
                }
            }
            Message::Pong => {}
            Message::Close(code, reason) => effects.close = Some((code, reason.to_owned())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{DialectName, Members};
    use crate::frames::server_frame;
    use crate::tokens::Tokens;
    use corelay::wire::native::{DeltaHeader, KeyframeHeader, Position, Welcome, kind};
    use tungstenite::handshake::derive_accept_key;
    use zerocopy::IntoBytes;

    fn native() -> Box<dyn Dialect> {
        DialectName::Native.dialect(Members::new(1, Tokens::None, |_| "game:room".into(), |slot| slot))
    }

    fn position(number: u32) -> Position {
        Position { player_id: (70 + number).into(), x: 1.0.into(), y: (number as f32).into() }
    }

    fn delta(positions: &[Position]) -> Vec<u8> {
        let count = (positions.len() as u32).into();
        let header = DeltaHeader {
            kind: kind::DELTA,
            position_count: count,
            gone_players: 1.into(),
            ..Default::default()
        };
        let gone = 7_u32.to_be_bytes();
        server_frame(Opcode::Binary, &[header.as_bytes(), positions.as_bytes(), &gone].concat())
    }

    fn keyframe(positions: &[Position]) -> Vec<u8> {
        let count = (positions.len() as u32).into();
        let header = KeyframeHeader { kind: kind::KEYFRAME, position_count: count, ..Default::default() };
        server_frame(Opcode::Binary, &[header.as_bytes(), positions.as_bytes()].concat())
    }

    #[test]
    fn a_connection_is_read_from_the_upgrade_to_the_close_in_any_pieces() {
        let handshake = Handshake::new("relay".into());
        let request = String::from_utf8(handshake.request("/", None)).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let mut bytes = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
            .into_bytes();
        bytes.extend(server_frame(
            Opcode::Binary,
            Welcome { kind: kind::WELCOME, ..Welcome::default() }.as_bytes(),
        ));
        bytes.extend(keyframe(&[position(1), position(2)]));
        bytes.extend([0x89, 2, b'h', b'i']);
        bytes.extend(delta(&(3..60).map(position).collect::<Vec<_>>()));
        bytes.extend(server_frame(Opcode::Binary, &[kind::ERROR, 1, 0, 0, b'n', b'o']));
        bytes.extend(server_frame(Opcode::Binary, &[kind::RATE_LIMITED, 1, 0, 0, 0, 0, 0, 9]));
        bytes.extend(server_frame(Opcode::Binary, &[0x7F]));
        bytes.extend(b"\x88\x06\x03\xF5slow");

        for piece_bytes in [1, 2, 7, 100, bytes.len()] {
            let (mut client, mut counters) = (Client::default(), Counters::default());
            let (mut seen, mut joined, mut all, mut dialect) = (Vec::new(), 0, Effects::default(), native());
            for piece in bytes.chunks(piece_bytes) {
                let mut emit = |event: Event<'_>| match event {
                    Event::Positions(positions) => {
                        seen.extend(positions.iter().map(|position| position.y.get() as u32));
                    }
                    Event::Joined => {
                        joined += 1;
                        assert!(seen.is_empty(), "the Welcome comes first");
                    }
                    Event::Record(_) | Event::Presence(_) | Event::Stream(_) => panic!("{event:?}"),
                };
                let dialect = dialect.as_mut();
                let effects = client.handle_received(0, piece, &handshake, dialect, &mut counters, &mut emit);
                let effects = effects.unwrap();
                all.answers.extend(effects.answers);
                all.close = all.close.or(effects.close);
                all.errors.extend(effects.errors);
            }
            assert_eq!(seen, (1..60).collect::<Vec<_>>(), "in pieces of {piece_bytes}");
            assert_eq!(joined, 1);
            assert_eq!(all.answers, control_frame(Opcode::Pong, b"hi", 0x5EED_5EED));
            assert_eq!(all.close, Some((1013, "slow".into())));
            assert_eq!(all.errors, ["no"]);
            let expected = Counters {
                frames: 8,
                bytes: bytes.len() as u64,
                tick_frames: 2,
                positions: 59,
                keyframes: 1,
                rate_limited: 1,
                errors: 1,
                malformed: 1,
                pings: 1,
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
        let mut emit = |event: Event<'_>| panic!("{event:?}");
        let dialect = &mut *native();
        client.handle_received(0, &bytes, &handshake, dialect, &mut counters, &mut emit).unwrap();
        assert_eq!((counters.malformed, counters.tick_frames), (1, 0));
    }
}
