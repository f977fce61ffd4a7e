//! The native dialect for games of any layout: what it is told goes on as it came, and who moves writes its own records.

use corelay::wire::native::{KeyframeHeader, kind};
use zerocopy::FromBytes;

use super::conversation::{Dialect, Effects, Event};
use super::members::Members;
use super::native::handle_record;
use crate::counters::Counters;
use crate::frames::Message;

pub struct Records {
    members: Members,
}

impl Records {
    pub fn new(members: Members) -> Self {
        Self { members }
    }
}

impl Dialect for Records {
    fn path(&self, slot: u32) -> String {
        let topic = self.members.topic(slot);
        let game = topic.strip_prefix("game:").unwrap_or(topic);
        self.members.with_token(slot, &format!("/play/{game}?layout=1&"))
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some("corelay.v1")
    }

    fn sign_of_join(&self) -> &'static str {
        "Welcome"
    }

    /// Where somebody is, in which layout, is not the dialect's to say.
    fn write_move(&self, _slot: u32, _number_in_room: u32, _sequence: u32, _frames: &mut Vec<u8>) {}

    fn handle_message(
        &mut self,
        _slot: u32,
        message: &Message<'_>,
        counters: &mut Counters,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let Message::Binary(record @ [kind, ..]) = *message else {
            counters.malformed += 1;
            return;
        };
        match *kind {
            kind::DELTA | kind::KEYFRAME => {
                // A Delta begins like a Keyframe.
                let Ok((header, _)) = KeyframeHeader::ref_from_prefix(record) else {
                    counters.malformed += 1;
                    return;
                };
                counters.tick_frames += 1;
                counters.positions += u64::from(header.position_count.get());
                counters.keyframes += u64::from(*kind == kind::KEYFRAME);
                emit(Event::Record(record));
            }
            kind::WELCOME => {
                emit(Event::Record(record));
                emit(Event::Joined);
            }
            kind::LAYOUT => emit(Event::Record(record)),
            kind::RATE_LIMITED | kind::CORRECTION | kind::NOTICE | kind::ERROR => {
                handle_record(record, counters, effects, emit);
            }
            // A client ignores kinds that it does not know, and of the others those that it has no use for.
            _ => {}
        }
    }
}
