//! `game_update` and `player_states`: the state of a game as Phoenix clients get it, in as many messages as it needs.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frames::{First, Form};
use super::player_keys::{States, ToldValue};
use crate::limits::{MESSAGE_HEAD_BYTES_MAX, OUTBOUND_MESSAGE_BYTES_MAX, PLAYER_KEY_BYTES_MAX};
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::format::Format;
use crate::wire::frame::{self, Opcode};
use crate::wire::game_state::HEADER_BYTES;
use crate::wire::json::{Array, Object, object, object_of};
use crate::wire::layout::{Layout, Place, split_held};
use crate::wire::native::Solid;
use crate::wire::phoenix::{self, Event};

/// Bytes of positions and objects in one message.
const BODY_BYTES_MAX: usize = OUTBOUND_MESSAGE_BYTES_MAX - MESSAGE_HEAD_BYTES_MAX - HEADER_BYTES;
/// Bytes of a coordinate in JSON.
const COORDINATE_BYTES_MAX: usize = "-9999999000000000.0,".len();
/// Players or objects in one message of JSON, none of which is longer than this one.
const JSON_ITEMS_MAX: usize = BODY_BYTES_MAX
    / (r#"{"id":4294967295,"kind":65535,"flags":65535,"x":"y":"z":"pose":"012345678901234567890123456789012345678901234"},"#
        .len()
        + 3 * COORDINATE_BYTES_MAX);
/// Values in one `player_states`.
const VALUES_MAX: usize = BODY_BYTES_MAX
    / (r#"{"player_id":4294967295,"key":255,"value":""},"#.len() + PLAYER_KEY_BYTES_MAX.div_ceil(3) * 4);

/// What to tell, in the order in which it is told.
#[derive(Debug)]
pub struct Update<'a> {
    /// How it lies.
    pub form: Form<'a>,
    /// Held records.
    pub positions: Vec<&'a [u8]>,
    /// Objects.
    pub objects: Vec<&'a Solid>,
    /// Whether positions and objects are told at all.
    pub has_state: bool,
    /// A Keyframe is a `game_snapshot`: what is not in it is to be forgotten.
    pub first: First,
    /// What is told to be gone before.
    pub gone: Gone<'a>,
    /// Values that players have set.
    pub states: States<'a>,
}

/// Ids of what is gone.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Gone<'a> {
    pub players: &'a [u32],
    pub objects: &'a [u32],
}

impl Gone<'_> {
    /// The payloads of `players_removed` and `objects_removed`: `{"ids":[…]}`.
    pub fn payloads(&self) -> Vec<(Event, Arc<str>)> {
        let lists = [(Event::PlayersRemoved, self.players), (Event::ObjectsRemoved, self.objects)];
        // 11 letters an id.
        let parts = lists.into_iter().flat_map(|(event, ids)| ids.chunks(5_000).map(move |ids| (event, ids)));
        let payload = |(event, ids): (Event, &[u32])| {
            let payload = object_of(16 + 11 * ids.len(), |gone| {
                gone.array("ids", |list| {
                    list.numbers(ids.iter().copied());
                });
            });
            (event, payload.into())
        };
        parts.map(payload).collect()
    }
}

impl<'a> Update<'a> {
    /// The binary payloads: counts, positions, objects.
    pub fn binary(&self) -> Vec<Arc<[u8]>> {
        let fill = |part: Part<'_>| {
            let mut payload = Vec::with_capacity(self.binary_bytes(&part));
            self.write_binary(&part, &mut payload);
            payload.into()
        };
        self.parts(self.items_max()).map(fill).collect()
    }

    /// The JSON payloads, for clients that read no binary messages. In the plain layout
    /// `{"players":[[id,x,y],…],"objects":[[id,type,flags,x,y],…]}`, in others objects with named fields.
    pub fn json(&self) -> Vec<Arc<str>> {
        self.parts(JSON_ITEMS_MAX).map(|part| self.to_json(&part).into()).collect()
    }

    /// The payloads of `player_states`: `{"states":[{"player_id","key","value"},…],"whole":true?}`, values in base64.
    pub fn player_states(&self) -> Vec<Arc<str>> {
        let mut parts: Vec<_> = self.states.values.chunks(VALUES_MAX).collect();
        if parts.is_empty() && self.states.is_whole {
            parts.push(&[]);
        }
        let payload = |(number, values): (usize, &&[ToldValue<'_>])| {
            object(|payload| {
                payload.array("states", |list| {
                    for ToldValue { player, key, bytes } in *values {
                        list.object(|state| {
                            state.number("player_id", player.0).number("key", *key);
                            state.text("value", &STANDARD.encode(bytes));
                        });
                    }
                });
                if self.states.is_whole && number == 0 {
                    payload.boolean("whole", true);
                }
            })
        };
        parts.iter().enumerate().map(payload).map(Arc::from).collect()
    }

    /// As broadcasts in the topic, ready to send; `None`: native members get records.
    pub fn broadcasts(&self, format: Format, topic: &str, pool: &mut FramePool) -> Option<Encoded> {
        format.serializer()?;
        Some(pool.messages(|buffer| self.write(format, topic, buffer)))
    }

    /// Appends broadcasts in the topic, and returns how many; none for native members.
    pub fn write(&self, format: Format, topic: &str, buffer: &mut Vec<u8>) -> u32 {
        let Some(serializer) = format.serializer() else { return 0 };
        let write_text = |event: Event, payload: &str, buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(serializer.broadcast(topic, event, payload).bytes());
            1
        };
        let mut messages = 0;
        for (event, payload) in self.gone.payloads() {
            messages += write_text(event, &payload, buffer);
        }
        if self.has_state {
            messages += match format {
                Format::V2 => self.write_binary_broadcasts(topic, buffer),
                Format::V2Text | Format::V1 | Format::Native => {
                    let payloads = self.json();
                    let texts = payloads.iter().enumerate();
                    texts.map(|(part, payload)| write_text(self.event(part), payload, buffer)).sum()
                }
            };
        }
        for payload in self.player_states() {
            messages += write_text(Event::PlayerStates, &payload, buffer);
        }
        messages
    }

    /// Of a part of the state: what follows a snapshot belongs to it.
    fn event(&self, part: usize) -> Event {
        match self.first {
            First::Keyframe if part == 0 => Event::GameSnapshot,
            First::Keyframe | First::Delta => Event::GameUpdate,
        }
    }

    fn write_binary_broadcasts(&self, topic: &str, buffer: &mut Vec<u8>) -> u32 {
        let mut messages = 0;
        for part in self.parts(self.items_max()) {
            let mut head = Vec::new();
            phoenix::write_broadcast_header(&mut head, topic, self.event(messages as usize).as_str());
            frame::write_header(buffer, Opcode::Binary, head.len() + self.binary_bytes(&part));
            buffer.extend_from_slice(&head);
            self.write_binary(&part, buffer);
            messages += 1;
        }
        messages
    }

    fn items_max(&self) -> usize {
        BODY_BYTES_MAX / self.form.layout.position_bytes().max(self.form.layout.object_bytes())
    }

    /// Parts of at most `items` positions and objects together; at least one part.
    fn parts(&self, items: usize) -> impl Iterator<Item = Part<'_>> {
        let count = (self.positions.len() + self.objects.len()).div_ceil(items).max(1);
        (0..count).map(move |part| {
            let (first, end) = (part * items, (part + 1) * items);
            let (players, objects) = (self.positions.len(), self.objects.len());
            let slice = |start: usize, end: usize, length: usize| start.min(length)..end.min(length);
            Part {
                positions: &self.positions[slice(first, end, players)],
                objects: &self.objects
                    [slice(first.saturating_sub(players), end.saturating_sub(players), objects)],
            }
        })
    }

    fn binary_bytes(&self, part: &Part<'_>) -> usize {
        let layout = self.form.layout;
        HEADER_BYTES
            + part.positions.len() * layout.position_bytes()
            + part.objects.len() * layout.object_bytes()
    }

    fn write_binary(&self, part: &Part<'_>, buffer: &mut Vec<u8>) {
        let Form { layout, bounds } = self.form;
        buffer.extend_from_slice(&(part.positions.len() as u32).to_be_bytes());
        buffer.extend_from_slice(&(part.objects.len() as u32).to_be_bytes());
        part.positions.iter().for_each(|held| layout.write_position(held, bounds, buffer));
        part.objects.iter().for_each(|object| layout.write_object(object, bounds, buffer));
    }

    fn to_json(&self, part: &Part<'_>) -> String {
        let is_plain = self.form.layout.is_plain();
        object(|state| {
            state.array("players", |list| {
                part.positions.iter().for_each(|held| match is_plain {
                    true => write_plain_player(list, held),
                    false => self.write_player(list, held),
                });
            });
            state.array("objects", |list| {
                part.objects.iter().for_each(|object| match is_plain {
                    true => write_plain_object(list, object),
                    false => self.write_object(list, object),
                });
            });
        })
    }

    fn write_player(&self, list: &mut Array<'_>, held: &[u8]) {
        let layout = self.form.layout;
        let (player, state) = split_held(held);
        list.object(|fields| {
            fields.number("id", player.0);
            self.write_place(fields, layout.place(state));
            if layout.pose_bytes > 0 {
                fields.text("pose", &STANDARD.encode(&state[layout.place_bytes()..]));
            }
        });
    }

    fn write_object(&self, list: &mut Array<'_>, object: &Solid) {
        list.object(|fields| {
            let head = &object.object;
            fields.number("id", head.object_id.get()).number("kind", head.kind.get());
            fields.number("flags", head.flags.get());
            self.write_place(fields, object.place());
        });
    }

    fn write_place(&self, fields: &mut Object<'_>, place: Place) {
        for (name, coordinate) in ["x", "y", "z"].iter().zip(place).take(self.form.layout.axes.into()) {
            fields.float(name, coordinate);
        }
    }
}

/// Of an update.
struct Part<'a> {
    positions: &'a [&'a [u8]],
    objects: &'a [&'a Solid],
}

fn write_plain_player(list: &mut Array<'_>, held: &[u8]) {
    let (player, state) = split_held(held);
    let [x, y, _] = Layout::PLAIN.place(state);
    list.array(|fields| {
        fields.number(player.0).float(x).float(y);
    });
}

fn write_plain_object(list: &mut Array<'_>, object: &Solid) {
    let head = &object.object;
    list.array(|fields| {
        fields.number(head.object_id.get()).number(head.kind.get());
        fields.number(head.flags.get()).float(head.x.get()).float(head.y.get());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PlayerId;
    use crate::wire::layout::{Bounds, Number};

    const BOUNDS: Bounds = Bounds { min: [0.0; 3], max: [65_535.0; 3] };
    const RICH: Layout = Layout { number: Number::U16, axes: 3, pose_bytes: 2, keys: 4, key_bytes_max: 64 };

    fn held(layout: &Layout, player: u32) -> Vec<u8> {
        [&player.to_be_bytes()[..], &layout.state_at([1.5, -9_999_999_000_000_000.0, 7.0])].concat()
    }

    fn update<'a>(layout: &'a Layout, held: &'a [Vec<u8>]) -> Update<'a> {
        let positions = held.iter().map(|held| &**held).collect();
        let form = Form { layout, bounds: &BOUNDS };
        let (objects, first) = (Vec::new(), First::Delta);
        let (gone, states) = (Gone::default(), States::default());
        Update { form, positions, objects, has_state: true, first, gone, states }
    }

    #[test]
    fn a_long_state_is_several_messages_that_each_fit() {
        for (layout, id_at) in [(Layout::PLAIN, 0..4), (RICH, 0..2)] {
            let many: Vec<_> = (1..=10_000).map(|player| held(&layout, player)).collect();
            let update = update(&layout, &many);
            let parts = update.binary();
            let fits = |part: &Arc<[u8]>| part.len() <= OUTBOUND_MESSAGE_BYTES_MAX - MESSAGE_HEAD_BYTES_MAX;
            assert!(parts.len() > 1 && parts.iter().all(fits));
            let positions = parts.iter().flat_map(|part| part[8..].chunks_exact(layout.position_bytes()));
            let ids = positions
                .map(|bytes| bytes[id_at.clone()].iter().fold(0, |id, byte| id << 8 | u32::from(*byte)));
            assert!(ids.eq((1..=10_000).map(|id| if layout.is_plain() { id } else { id - 1 })));
            assert!(update.json().iter().all(|part| part.len() < OUTBOUND_MESSAGE_BYTES_MAX));
            let encoded = update.broadcasts(Format::V2, "game:a", &mut FramePool::default()).unwrap();
            assert_eq!(encoded.frames() as usize, parts.len());
        }
    }

    #[test]
    fn an_empty_state_is_told_as_well() {
        let nobody = update(&Layout::PLAIN, &[]);
        assert_eq!(nobody.binary(), [Arc::from([0u8; 8])]);
        assert_eq!(nobody.json(), [Arc::from(r#"{"players":[],"objects":[]}"#)]);
        let one = [held(&Layout::PLAIN, 1)];
        let update = update(&Layout::PLAIN, &one);
        let text: serde_json::Value = serde_json::from_str(&update.json()[0]).unwrap();
        assert_eq!(text["players"][0][1], 1.5);
        let encoded = update.broadcasts(Format::V2, "game:a", &mut FramePool::default()).unwrap();
        assert!(encoded.bytes().starts_with(b"\x82\x28\x02\x06\x0bgame:agame_update\0\0\0\x01"));
    }

    #[test]
    fn other_layouts_name_their_fields() {
        let one = [held(&RICH, 0x2_0009)];
        let object = Solid { z: 4.0.into(), ..Solid::default() };
        let update = Update { objects: vec![&object], ..update(&RICH, &one) };
        let json = r#"{"players":[{"id":131081,"x":1.5,"y":-9999999000000000.0,"z":7.0,"pose":"AAA="}],"objects":[{"id":0,"kind":0,"flags":0,"x":0.0,"y":0.0,"z":4.0}]}"#;
        assert_eq!(&*update.json()[0], json);
    }

    #[test]
    fn values_go_with_the_state_they_belong_to() {
        let player = PlayerId(7);
        let value = |key: u8, bytes: &'static [u8]| ToldValue { player, key, bytes };
        let values = vec![value(1, b"hi"), value(2, b"")];
        let states = States { is_whole: false, values };
        let update = Update { states, has_state: false, ..update(&RICH, &[]) };
        let told =
            r#"{"states":[{"player_id":7,"key":1,"value":"aGk="},{"player_id":7,"key":2,"value":""}]}"#;
        assert_eq!(update.player_states(), [Arc::from(told)]);
        let encoded = update.broadcasts(Format::V1, "game:a", &mut FramePool::default()).unwrap();
        assert_eq!(encoded.frames(), 1, "nobody has moved");
        let states = States { is_whole: true, values: Vec::new() };
        let whole = Update { states, has_state: true, ..update };
        assert_eq!(whole.player_states(), [Arc::from(r#"{"states":[],"whole":true}"#)]);
        let long = [7; PLAYER_KEY_BYTES_MAX];
        let values = vec![ToldValue { player: PlayerId(u32::MAX), key: 255, bytes: &long }; 1_000];
        let many = Update { states: States { is_whole: true, values }, ..whole };
        assert!(many.player_states().iter().all(|part| part.len() < OUTBOUND_MESSAGE_BYTES_MAX));
        let encoded = many.broadcasts(Format::V2, "game:a", &mut FramePool::default()).unwrap();
        assert_eq!(encoded.frames() as usize, 1 + many.player_states().len());
    }
}
