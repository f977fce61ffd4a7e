//! Records of games with other layouts than the plain one, as a client sees them: written from the protocol.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

/// Of what a game's records consist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub u16: bool,
    pub axes: usize,
    pub pose: usize,
    pub min: [f32; 3],
    pub max: [f32; 3],
}

/// The Layout record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayoutSeen {
    pub number: u8,
    pub axes: u8,
    pub pose_bytes: u8,
    pub keys: u8,
    pub key_bytes_max: u8,
    pub flags: u8,
    pub tick0_us: u64,
    pub min_z: f32,
    pub max_z: f32,
    pub players: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSeen {
    pub input_seq: u16,
    pub tick: u32,
    pub slack: u16,
}

/// Where a player is, and its pose.
pub type Seen = (Vec<f32>, Vec<u8>);

/// A game as one client knows it. Players are named as frames name them: by id, or by seat.
#[derive(Clone, Debug, Default)]
pub struct RichView {
    pub layout: Option<LayoutSeen>,
    pub players: BTreeMap<u32, Seen>,
    pub objects: BTreeMap<u32, (u16, u16, Vec<f32>)>,
    pub values: BTreeMap<(u32, u8), Vec<u8>>,
    pub acks: Vec<AckSeen>,
    /// Reason, input, place.
    pub corrections: Vec<(u8, u16, Vec<f32>)>,
    pub errors: Vec<String>,
    /// The kinds of all records, in order.
    pub kinds: Vec<u8>,
    pub tick: u32,
    /// `player_id`, `tick`, `server_time_us`.
    pub welcome: (u32, u32, u64),
}

/// Reads big-endian numbers off the front.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(bytes);
        self.0 = rest;
        head.to_vec()
    }
    pub fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
    pub fn float(&mut self) -> f32 {
        f32::from_bits(self.number(4) as u32)
    }
    fn place(&mut self, shape: &Shape) -> Vec<f32> {
        let coordinate = |axis: usize| match shape.u16 {
            false => self.float(),
            true => {
                let (min, max) = (shape.min[axis], shape.max[axis]);
                min + self.number(2) as f32 * (max - min) / 65_535.0
            }
        };
        (0..shape.axes).map(coordinate).collect()
    }
    fn player(&mut self, shape: &Shape) -> u32 {
        self.number(if shape.u16 { 2 } else { 4 }) as u32
    }
}

impl RichView {
    pub fn apply(&mut self, shape: &Shape, payload: &[u8]) {
        let mut read = Reader(payload);
        let kind = read.number(1) as u8;
        self.kinds.push(kind);
        match kind {
            0x81 => {
                read.take(3);
                let player = read.number(4) as u32;
                read.take(16);
                self.welcome = (player, read.number(4) as u32, read.number(8));
                read.take(36);
            }
            0x82 => {
                read.take(3);
                self.tick = read.number(4) as u32;
                let (positions, objects) = (read.number(4), read.number(4));
                self.players.clear();
                self.objects.clear();
                self.set(shape, &mut read, positions, objects);
            }
            0x83 => {
                read.take(1);
                let gone_players = read.number(2);
                self.tick = read.number(4) as u32;
                let (positions, objects, gone_objects) = (read.number(4), read.number(4), read.number(4));
                self.set(shape, &mut read, positions, objects);
                for _ in 0..gone_players {
                    self.players.remove(&read.player(shape));
                }
                for _ in 0..gone_objects {
                    self.objects.remove(&(read.number(4) as u32));
                }
            }
            0x88 => {
                let (reason, input) = (read.number(1) as u8, read.number(2) as u16);
                self.corrections.push((reason, input, (0..shape.axes).map(|_| read.float()).collect()));
            }
            0x8A => self
                .errors
                .push(String::from_utf8(read.take(payload.len() - 1)[3..].to_vec()).expect("UTF-8")),
            0x8B => self.layout = Some(read_layout(&mut read)),
            0x8C => {
                read.take(1);
                let (input_seq, tick, slack) = (read.number(2), read.number(4), read.number(2));
                read.take(2);
                self.acks.push(AckSeen {
                    input_seq: input_seq as u16,
                    tick: tick as u32,
                    slack: slack as u16,
                });
            }
            0x8E => self.set_values(&mut read),
            0x84..=0x87 | 0x89 => {
                read.take(payload.len() - 1);
            }
            other => panic!("record kind {other:#x}"),
        }
        assert!(read.0.is_empty(), "{} bytes too many in {kind:#x}", read.0.len());
    }

    fn set(&mut self, shape: &Shape, read: &mut Reader<'_>, positions: u64, objects: u64) {
        for _ in 0..positions {
            let player = read.player(shape);
            let place = read.place(shape);
            self.players.insert(player, (place, read.take(shape.pose)));
        }
        for _ in 0..objects {
            let (id, kind, flags) = (read.number(4) as u32, read.number(2) as u16, read.number(2) as u16);
            self.objects.insert(id, (kind, flags, read.place(shape)));
        }
    }

    fn set_values(&mut self, read: &mut Reader<'_>) {
        let (flags, count) = (read.number(1), read.number(2));
        read.take(4);
        if flags & 1 != 0 {
            self.values.clear();
        }
        for _ in 0..count {
            let (player, key, length) = (read.number(4) as u32, read.number(1) as u8, read.number(1));
            let value = read.take(length as usize);
            if value.is_empty() {
                self.values.remove(&(player, key));
            } else {
                self.values.insert((player, key), value);
            }
        }
    }
}

fn read_layout(read: &mut Reader<'_>) -> LayoutSeen {
    let [number, axes, pose_bytes, keys, key_bytes_max, flags] =
        std::array::from_fn(|_| read.number(1) as u8);
    assert!(read.take(13).iter().all(|byte| *byte == 0), "there are no views");
    let (tick0_us, min_z, max_z, players) =
        (read.number(8), read.float(), read.float(), read.number(4) as u32);
    read.take(8);
    LayoutSeen { number, axes, pose_bytes, keys, key_bytes_max, flags, tick0_us, min_z, max_z, players }
}

// ── Records from a client ───────────────────────────────────────────────────────────────────────────────────────────

fn state(place: &[f32], pose: &[u8]) -> Vec<u8> {
    place.iter().flat_map(|coordinate| coordinate.to_be_bytes()).chain(pose.iter().copied()).collect()
}

pub fn step(input_seq: u16, place: &[f32], pose: &[u8]) -> Vec<u8> {
    [&[9, 0][..], &input_seq.to_be_bytes(), &state(place, pose)].concat()
}

pub fn host_step(player: u32, input_seq: u16, place: &[f32], pose: &[u8]) -> Vec<u8> {
    let head =
        [&[13, 0, 0, 0, 0, 0, 0, 1][..], &player.to_be_bytes(), &input_seq.to_be_bytes(), &[0, 0]].concat();
    [head, state(place, pose)].concat()
}

pub fn put_object_at(id: u32, kind: u16, place: &[f32]) -> Vec<u8> {
    [&[4, 0, 0, 0][..], &id.to_be_bytes(), &kind.to_be_bytes(), &[0, 0], &state(place, &[])].concat()
}
