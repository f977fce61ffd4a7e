//! The native dialect: fixed-size binary records on `/play/{game}`.

use corelay::wire::frame::Opcode;
use corelay::wire::native::{DeltaHeader, ErrorHeader, KeyframeHeader, Move, Position, Welcome, kind};
use zerocopy::{FromBytes, IntoBytes};

use super::conversation::{Dialect, Effects, Event, handle_positions};
use super::members::Members;
use crate::counters::Counters;
use crate::frames::{Message, write_masked};
use crate::schedule::random;

pub struct Native {
    members: Members,
    acks: bool,
}

impl Native {
    pub fn new(members: Members) -> Self {
        Self { members, acks: false }
    }

    /// It asks to be told when its moves were used.
    pub fn with_acks(members: Members) -> Self {
        Self { members, acks: true }
    }
}

impl Dialect for Native {
    fn path(&self, slot: u32) -> String {
        let topic = self.members.topic(slot);
        let game = topic.strip_prefix("game:").unwrap_or(topic);
        self.members.with_token(slot, &format!("/play/{game}?{}", if self.acks { "ack=1&" } else { "" }))
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some("corelay.v1")
    }

    fn sign_of_join(&self) -> &'static str {
        "Welcome"
    }

    fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>) {
        let record = Move {
            kind: kind::MOVE,
            flags: 0,
            input_seq: (sequence as u16).into(),
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
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let Message::Binary(record) = *message else {
            counters.malformed += 1;
            return;
        };
        match tick_frame(record) {
            Some(positions) => {
                counters.keyframes += u64::from(record[0] == kind::KEYFRAME);
                handle_positions(positions, counters, emit);
            }
            None => handle_record(record, counters, effects, emit),
        }
    }
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
pub(super) fn handle_record(
    record: &[u8],
    counters: &mut Counters,
    effects: &mut Effects,
    emit: &mut dyn FnMut(Event<'_>),
) {
    let Some(&kind) = record.first() else {
        counters.malformed += 1;
        return;
    };
    match kind {
        kind::WELCOME if record.len() == size_of::<Welcome>() => {
            emit(Event::Joined);
        }
        kind::ACK => emit(Event::Record(record)),
        kind::ROSTER | kind::EVENT_OUT | kind::PONG => {}
        kind::RATE_LIMITED => counters.rate_limited += 1,
        kind::CORRECTION => counters.corrections += 1,
        kind::NOTICE => counters.notices += 1,
        kind::ERROR => {
            counters.errors += 1;
            let text = record.get(size_of::<ErrorHeader>()..).unwrap_or_default();
            effects.errors.push(String::from_utf8_lossy(text).into_owned());
        }
        _ => counters.malformed += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;
    use corelay::wire::layout::Layout;
    use corelay::wire::native::Record;

    #[test]
    fn the_token_is_in_the_query() {
        let members = |tokens| Members::new(1, tokens, |_| "game:a-1".into(), |_| 0);
        assert_eq!(Native::new(members(Tokens::None)).path(0), "/play/a-1");
        let token = || Tokens::Same("e.y.J".into());
        assert_eq!(Native::new(members(token())).path(0), "/play/a-1?token=e.y.J");
        assert_eq!(Native::with_acks(members(token())).path(0), "/play/a-1?ack=1&token=e.y.J");
    }

    #[test]
    fn a_move_is_one_masked_frame_that_the_relay_can_read() {
        let native = Native::new(Members::new(1, Tokens::None, |_| "game:a".into(), |_| 0));
        let mut frame = Vec::new();
        native.write_move(0, 49, 1_000_001, &mut frame);
        assert_eq!(frame[..2], [0x82, 0x8C]);
        let record = crate::frames::unmasked(&frame);
        let decoded = corelay::wire::native::decode(&record, &Layout::PLAIN).unwrap();
        let Record::Step { input_seq, state } = decoded else { panic!("{decoded:?}") };
        assert_eq!(Layout::PLAIN.place(state), [49.0, 1_000_001.0, 0.0]);
        assert_eq!(input_seq, 1_000_001_u32 as u16);
    }
}
