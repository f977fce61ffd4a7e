//! Records of games with other layouts than the plain one, as a client sees them: written from the protocol.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use serde_json::Value;

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
    pub radius: u8,
    pub radius_max: u8,
    pub rings: u8,
    pub cell: f32,
    pub overview_ms: u32,
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

/// Seat, x, y.
pub type OverviewPlace = (u16, u8, u8);

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
    /// Code, sender, payload.
    pub near: Vec<(u16, u32, Vec<u8>)>,
    /// Whether a round begins, and places.
    pub overview: Vec<(bool, Vec<OverviewPlace>)>,
    /// The kinds of all records, in order.
    pub kinds: Vec<u8>,
    pub tick: u32,
    /// `player_id`, `tick`, `server_time_us`.
    pub welcome: (u32, u32, u64),
    /// In hex.
    pub resume_token: String,
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
                self.resume_token = read.take(16).iter().map(|byte| format!("{byte:02x}")).collect();
                read.take(20);
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
                    let gone = read.player(shape);
                    self.players.remove(&gone);
                    // What is known of a player goes with it.
                    self.values.retain(|(player, _), _| {
                        if shape.u16 { *player as u16 != gone as u16 + 1 } else { *player != gone }
                    });
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
            0x8D => {
                let (begins, count) = (read.number(1) == 1, read.number(2));
                read.take(4);
                let place = |_| (read.number(2) as u16, read.number(1) as u8, read.number(1) as u8);
                self.overview.push((begins, (0..count).map(place).collect()));
            }
            0x8E => self.set_values(&mut read),
            0x8F => {
                read.take(1);
                let (code, sender) = (read.number(2) as u16, read.number(4) as u32);
                self.near.push((code, sender, std::mem::take(&mut read.0).to_vec()));
            }
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
    let [radius, radius_max, rings] = std::array::from_fn(|_| read.number(1) as u8);
    read.take(2);
    let (cell, overview_ms) = (read.float(), read.number(4) as u32);
    let (tick0_us, min_z, max_z, players) =
        (read.number(8), read.float(), read.float(), read.number(4) as u32);
    read.take(8);
    LayoutSeen {
        number,
        axes,
        pose_bytes,
        keys,
        key_bytes_max,
        flags,
        radius,
        radius_max,
        rings,
        cell,
        overview_ms,
        tick0_us,
        min_z,
        max_z,
        players,
    }
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

/// A game as a Phoenix client knows it: players and objects by id, in a binary message of a `u16` game by seat.
#[derive(Clone, Debug, Default)]
pub struct PhoenixView {
    pub players: BTreeMap<u32, Seen>,
    pub objects: BTreeMap<u32, Vec<f32>>,
    pub values: BTreeMap<(u32, u8), String>,
    /// Everything else that came: event and payload.
    pub told: Vec<(String, Value)>,
    /// Its messages name seats.
    by_seat: bool,
}

impl PhoenixView {
    /// Takes in a message: the first byte of its frame, and its payload.
    pub fn hear(&mut self, shape: &Shape, first: u8, payload: &[u8]) {
        match first {
            0x81 => self.hear_text(&serde_json::from_slice(payload).expect("JSON")),
            0x82 => self.hear_binary(shape, payload),
            0x89 => {}
            other => panic!("a frame that begins with {other:#x}: {}", String::from_utf8_lossy(payload)),
        }
    }

    fn hear_text(&mut self, message: &Value) {
        // V1 names the fields, V2 does not.
        let (event, payload) = match message.as_array() {
            Some(fields) => (fields[3].clone(), &fields[4]),
            None => (message["event"].clone(), &message["payload"]),
        };
        let event = event.as_str().expect("an event");
        let number = |value: &Value| value.as_u64().expect("a number") as u32;
        let ids = || payload["ids"].as_array().expect("ids").iter().map(number).collect::<Vec<_>>();
        match event {
            "players_removed" => {
                let named = |id: &u32| if self.by_seat { u32::from(*id as u16) - 1 } else { *id };
                ids().iter().map(named).for_each(|id| drop(self.players.remove(&id)));
            }
            "objects_removed" => ids().iter().for_each(|id| drop(self.objects.remove(id))),
            "game_update" | "game_snapshot" => {
                self.forget(event);
                for player in payload["players"].as_array().expect("players") {
                    let (id, place) = named(player, 1);
                    let pose = player["pose"].as_str().unwrap_or("").as_bytes().to_vec();
                    self.players.insert(id, (place, pose));
                }
                for object in payload["objects"].as_array().expect("objects") {
                    let (id, place) = named(object, 3);
                    self.objects.insert(id, place);
                }
            }
            "player_states" => {
                if payload["whole"] == true {
                    self.values.clear();
                }
                for state in payload["states"].as_array().expect("states") {
                    let key = (number(&state["player_id"]), number(&state["key"]) as u8);
                    self.values.insert(key, state["value"].as_str().expect("base64").to_owned());
                }
                self.values.retain(|_, value| !value.is_empty());
            }
            _ => self.told.push((event.to_owned(), payload.clone())),
        }
    }

    fn hear_binary(&mut self, shape: &Shape, payload: &[u8]) {
        let mut read = Reader(payload);
        let lengths = if read.number(1) == 0 { read.take(3) } else { read.take(2) };
        let texts: Vec<Vec<u8>> = lengths.iter().map(|length| read.take(usize::from(*length))).collect();
        let event = String::from_utf8(texts[texts.len() - 1].clone()).expect("UTF-8");
        assert!(matches!(&*event, "game_update" | "game_snapshot"), "{event}");
        self.forget(&event);
        self.by_seat = shape.u16;
        let (positions, objects) = (read.number(4), read.number(4));
        for _ in 0..positions {
            let player = read.player(shape);
            let place = read.place(shape);
            self.players.insert(player, (place, read.take(shape.pose)));
        }
        for _ in 0..objects {
            let id = read.number(4) as u32;
            read.take(4);
            self.objects.insert(id, read.place(shape));
        }
        assert!(read.0.is_empty());
    }

    fn forget(&mut self, event: &str) {
        if event == "game_snapshot" {
            self.players.clear();
            self.objects.clear();
        }
    }
}

/// Id and coordinates of a player or object in JSON: a list with the coordinates from `first` on, or fields with names.
fn named(value: &Value, first: usize) -> (u32, Vec<f32>) {
    let float = |value: &Value| value.as_f64().expect("a number") as f32;
    match value.as_array() {
        Some(list) => (list[0].as_u64().expect("an id") as u32, list[first..].iter().map(float).collect()),
        None => {
            let place = ["x", "y", "z"].iter().filter_map(|axis| value.get(axis).map(float));
            (value["id"].as_u64().expect("an id") as u32, place.collect())
        }
    }
}
