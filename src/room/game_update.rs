//! `game_update`: the state of a game as Phoenix clients get it, in as many messages as it needs.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::limits::{MESSAGE_HEAD_BYTES_MAX, OUTBOUND_MESSAGE_BYTES_MAX};
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::format::Format;
use crate::wire::frame::{self, Opcode};
use crate::wire::game_state::HEADER_BYTES;
use crate::wire::json::object;
use crate::wire::native::{Object, Position};
use crate::wire::phoenix::{self, Event, Serializer};

/// Bytes of positions and objects in one message.
const BODY_BYTES_MAX: usize = OUTBOUND_MESSAGE_BYTES_MAX - MESSAGE_HEAD_BYTES_MAX - HEADER_BYTES;
/// Players or objects in one message of JSON, none of which is longer than this one.
const JSON_ITEMS_MAX: usize =
    BODY_BYTES_MAX / r#"[4294967295,65535,65535,-9999999000000000.0,-9999999000000000.0],"#.len();

/// Positions and objects to tell, in the order in which they are told.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Update<'a> {
    pub positions: Vec<&'a Position>,
    pub objects: Vec<&'a Object>,
}

impl<'a> Update<'a> {
    /// The binary payloads: counts, positions, objects.
    pub fn binary(&self) -> Vec<Arc<[u8]>> {
        let fill = |part: Self| {
            let mut payload = Vec::with_capacity(part.binary_bytes());
            part.write_binary(&mut payload);
            payload.into()
        };
        self.parts(BODY_BYTES_MAX / size_of::<Object>()).map(fill).collect()
    }

    /// The JSON payloads, for clients that read no binary messages:
    /// `{"players":[[id,x,y],…],"objects":[[id,type,flags,x,y],…]}`.
    pub fn json(&self) -> Vec<Arc<str>> {
        self.parts(JSON_ITEMS_MAX).map(|part| part.to_json().into()).collect()
    }

    /// As broadcasts in the topic, ready to send; `None`: native members get records.
    pub fn broadcasts(&self, format: Format, topic: &str, pool: &mut FramePool) -> Option<Encoded> {
        match format {
            Format::Native => None,
            Format::V2 => Some(self.binary_broadcasts(topic, pool)),
            Format::V2Text => Some(self.text_broadcasts(Serializer::V2, topic, pool)),
            Format::V1 => Some(self.text_broadcasts(Serializer::V1, topic, pool)),
        }
    }

    fn binary_broadcasts(&self, topic: &str, pool: &mut FramePool) -> Encoded {
        pool.messages(|buffer| {
            let mut head = Vec::new();
            phoenix::write_broadcast_header(&mut head, topic, Event::GameUpdate.as_str());
            let mut messages = 0;
            for part in self.parts(BODY_BYTES_MAX / size_of::<Object>()) {
                frame::write_header(buffer, Opcode::Binary, head.len() + part.binary_bytes());
                buffer.extend_from_slice(&head);
                part.write_binary(buffer);
                messages += 1;
            }
            messages
        })
    }

    fn text_broadcasts(&self, serializer: Serializer, topic: &str, pool: &mut FramePool) -> Encoded {
        pool.messages(|buffer| {
            let payloads = self.json();
            for payload in &payloads {
                buffer.extend_from_slice(serializer.broadcast(topic, Event::GameUpdate, payload).bytes());
            }
            payloads.len() as u32
        })
    }

    /// Parts of at most `items` positions and objects together; at least one part.
    fn parts(&self, items: usize) -> impl Iterator<Item = Self> {
        let count = (self.positions.len() + self.objects.len()).div_ceil(items).max(1);
        (0..count).map(move |part| {
            let (first, end) = (part * items, (part + 1) * items);
            let players = self.positions.len();
            let slice = |start: usize, end: usize, length: usize| start.min(length)..end.min(length);
            let objects = self.objects.len();
            let objects_range = slice(first.saturating_sub(players), end.saturating_sub(players), objects);
            Self {
                positions: self.positions[slice(first, end, players)].to_vec(),
                objects: self.objects[objects_range].to_vec(),
            }
        })
    }

    fn binary_bytes(&self) -> usize {
        HEADER_BYTES + self.positions.len() * size_of::<Position>() + self.objects.len() * size_of::<Object>()
    }

    fn write_binary(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&(self.positions.len() as u32).to_be_bytes());
        buffer.extend_from_slice(&(self.objects.len() as u32).to_be_bytes());
        self.positions.iter().for_each(|position| buffer.extend_from_slice(position.as_bytes()));
        self.objects.iter().for_each(|object| buffer.extend_from_slice(object.as_bytes()));
    }

    fn to_json(&self) -> String {
        object(|state| {
            state.array("players", |list| {
                for position in &self.positions {
                    list.array(|player| {
                        player.number(position.player_id.get());
                        player.float(position.x.get()).float(position.y.get());
                    });
                }
            });
            state.array("objects", |list| {
                for object in &self.objects {
                    list.array(|fields| {
                        fields.number(object.object_id.get()).number(object.kind.get());
                        fields.number(object.flags.get()).float(object.x.get()).float(object.y.get());
                    });
                }
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::game_state;

    fn positions(count: u32) -> Vec<Position> {
        let longest = -9_999_999_000_000_000.0_f32;
        let position = |id: u32| Position { player_id: id.into(), x: 1.5.into(), y: longest.into() };
        (1..=count).map(position).collect()
    }

    #[test]
    fn a_long_state_is_several_messages_that_each_fit() {
        let many = positions(10_000);
        let update = Update { positions: many.iter().collect(), objects: Vec::new() };
        let parts = update.binary();
        assert!(
            parts.len() > 1
                && parts.iter().all(|part| part.len() <= OUTBOUND_MESSAGE_BYTES_MAX - MESSAGE_HEAD_BYTES_MAX)
        );
        let ids = parts.iter().flat_map(|part| {
            game_state::decode(part)
                .unwrap()
                .positions
                .iter()
                .map(|position| position.player_id.get())
                .collect::<Vec<_>>()
        });
        assert!(ids.eq(1..=10_000));
        assert!(update.json().iter().all(|part| part.len() < OUTBOUND_MESSAGE_BYTES_MAX));
        let encoded = update.broadcasts(Format::V2, "game:a", &mut FramePool::default()).unwrap();
        assert_eq!(encoded.frames() as usize, parts.len());
    }

    #[test]
    fn an_empty_state_is_told_as_well() {
        let update = Update { positions: Vec::new(), objects: Vec::new() };
        assert_eq!(update.binary(), [Arc::from([0u8; 8])]);
        assert_eq!(update.json(), [Arc::from(r#"{"players":[],"objects":[]}"#)]);
        let one = positions(1);
        let update = Update { positions: one.iter().collect(), objects: Vec::new() };
        let text: serde_json::Value = serde_json::from_str(&update.json()[0]).unwrap();
        assert_eq!(text["players"][0][1], 1.5);
        let encoded = update.broadcasts(Format::V2, "game:a", &mut FramePool::default()).unwrap();
        assert!(encoded.bytes().starts_with(b"\x82\x28\x02\x06\x0bgame:agame_update\0\0\0\x01"));
    }
}
