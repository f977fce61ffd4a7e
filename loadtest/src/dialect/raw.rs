//! The raw dialect: a relay without a protocol of its own. `/room/N`; whatever binary message is sent there is relayed to the room.
//!
//! A message is any whole number of records of 12 bytes (as [`Position`]: the player's number in its room, `x`, `y`), so that
//! a server that relays every message singly and one that gathers those of a tick in one frame are read alike. A client's
//! move is one record.

use corelay::wire::frame::Opcode;
use corelay::wire::native::Position;
use zerocopy::{FromBytes, IntoBytes};

use super::conversation::{Dialect, Effects, Event, handle_positions};
use super::members::Members;
use crate::counters::Counters;
use crate::frames::{Message, write_masked};
use crate::schedule::random;

pub struct Raw {
    members: Members,
}

impl Raw {
    pub fn new(members: Members) -> Self {
        Self { members }
    }
}

impl Dialect for Raw {
    fn path(&self, slot: u32) -> String {
        let topic = self.members.topic(slot);
        let number = topic.strip_prefix("room:").unwrap_or(topic);
        self.members.with_token(slot, &format!("/room/{number}?"))
    }

    fn sign_of_join(&self) -> &'static str {
        "answer to the upgrade"
    }

    /// There is no Welcome: whoever is connected is there.
    fn handle_upgrade(&mut self, _slot: u32, _effects: &mut Effects, emit: &mut dyn FnMut(Event<'_>)) {
        emit(Event::Joined);
    }

    fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>) {
        let record = Position {
            player_id: number_in_room.into(),
            x: (number_in_room as f32).into(),
            y: (sequence as f32).into(),
        };
        let mask = random(u64::from(sequence), slot) as u32;
        write_masked(frames, Opcode::Binary, mask, &[record.as_bytes()]);
    }

    fn handle_message(
        &mut self,
        _slot: u32,
        message: &Message<'_>,
        counters: &mut Counters,
        _heard: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let positions = match *message {
            Message::Binary(bytes) => <[Position]>::ref_from_bytes(bytes).ok(),
            Message::Text(_) | Message::Ping(_) | Message::Pong | Message::Close(..) => None,
        };
        let Some(positions) = positions else {
            counters.malformed += 1;
            return;
        };
        handle_positions(positions, counters, emit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    fn raw(tokens: Tokens) -> Raw {
        Raw::new(Members::new(1, tokens, |_| "room:7".into(), |_| 0))
    }

    fn handled(message: &Message<'_>) -> (Vec<(u32, f32, f32)>, Counters) {
        let (mut seen, mut counters) = (Vec::new(), Counters::default());
        raw(Tokens::None).handle_message(0, message, &mut counters, &mut Effects::default(), &mut |event| {
            match event {
                Event::Positions(positions) => seen.extend(
                    positions
                        .iter()
                        .map(|position| (position.player_id.get(), position.x.get(), position.y.get())),
                ),
                Event::Joined | Event::Record(_) | Event::Presence(_) | Event::Stream(_) => {
                    panic!("{event:?}")
                }
            }
        });
        (seen, counters)
    }

    #[test]
    fn a_room_is_a_path_and_whoever_is_connected_has_joined() {
        assert_eq!(raw(Tokens::None).path(0), "/room/7");
        assert_eq!(raw(Tokens::Same("a.b".into())).path(0), "/room/7?token=a.b");
        let (mut effects, mut told) = (Effects::default(), Vec::new());
        raw(Tokens::None).handle_upgrade(0, &mut effects, &mut |event| told.push(format!("{event:?}")));
        assert_eq!(told, ["Joined"]);
    }

    #[test]
    fn a_move_comes_back_as_it_was_sent_alone_or_with_others() {
        let mut frames = Vec::new();
        for (number_in_room, sequence) in [(49, 1_000_001), (3, 2)] {
            raw(Tokens::None).write_move(0, number_in_room, sequence, &mut frames);
        }
        let (first, second) = frames.split_at(2 + 4 + 12);
        assert_eq!(first[..2], [0x82, 0x8C]);
        let (first, second) = (crate::frames::unmasked(first), crate::frames::unmasked(second));
        assert_eq!(handled(&Message::Binary(&first)).0, [(49, 49.0, 1_000_001.0)]);
        let (seen, counters) = handled(&Message::Binary(&[first, second].concat()));
        assert_eq!(seen, [(49, 49.0, 1_000_001.0), (3, 3.0, 2.0)]);
        assert_eq!((counters.tick_frames, counters.positions, counters.malformed), (1, 2, 0));
    }

    #[test]
    fn half_a_record_and_text_are_malformed() {
        for message in [Message::Binary(&[0; 13]), Message::Text(b"hello")] {
            let (seen, counters) = handled(&message);
            assert_eq!((seen.len(), counters.malformed, counters.tick_frames), (0, 1, 0), "{message:?}");
        }
    }
}
