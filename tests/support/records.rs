//! The wire as a client sees it, written from the protocol: what the relay encodes is not decoded by the relay's code.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};

/// One frame from the relay.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    Record(Record),
    Text(String),
    /// A binary message of Phoenix Channels; records start at 0x80.
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// A record from the relay.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Welcome(Welcome),
    Keyframe {
        tick: u32,
        positions: Vec<(u32, f32, f32)>,
        objects: Vec<Object>,
    },
    Delta {
        tick: u32,
        positions: Vec<(u32, f32, f32)>,
        objects: Vec<Object>,
        gone_players: Vec<u32>,
        gone_objects: Vec<u32>,
    },
    Event {
        scope: u8,
        code: u16,
        sender: u32,
        seq: u64,
        payload: Vec<u8>,
    },
    Pong {
        nonce: u32,
        client_time_us: u64,
        server_time_us: u64,
        tick: u32,
    },
    Roster {
        flags: u8,
        joined: Vec<(u32, String, String)>,
        left: Vec<(u32, u8)>,
    },
    /// A Roster with flag 8.
    Crowd {
        flags: u8,
        joined: Vec<(u32, String, String)>,
        players: u32,
    },
    RateLimited {
        class: u8,
        retry_after_ms: u32,
    },
    Correction {
        reason: u8,
        input_seq: u16,
        x: f32,
        y: f32,
    },
    Layout,
    Ack {
        input_seq: u16,
        tick: u32,
        slack: u16,
    },
    States {
        whole: bool,
        /// Player, key, value; an empty one is removed.
        values: Vec<(u32, u8, Vec<u8>)>,
    },
    Notice {
        reason: u8,
        timeout_ms: u32,
        retry_after_ms: u32,
        jitter_ms: u32,
    },
    Error {
        code: u8,
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    pub flags: u8,
    pub tick_hz: u16,
    pub player_id: u32,
    pub epoch: u64,
    pub seq: u64,
    pub tick: u32,
    pub server_time_us: u64,
    pub resume_token: String,
    pub bounds: [f32; 4],
    pub max_speed: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    pub id: u32,
    pub kind: u16,
    pub flags: u16,
    pub x: f32,
    pub y: f32,
}

/// A game as one player knows it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct View {
    pub roster: BTreeSet<u32>,
    /// In a crowd: how many players there are, of whom `roster` holds whom the client was told of.
    pub crowd: Option<u32>,
    pub positions: BTreeMap<u32, (f32, f32)>,
    pub objects: BTreeMap<u32, (u16, f32, f32)>,
    pub values: BTreeMap<(u32, u8), Vec<u8>>,
}

impl View {
    fn set(&mut self, positions: &[(u32, f32, f32)], objects: &[Object]) {
        self.positions.extend(positions.iter().map(|(player, x, y)| (*player, (*x, *y))));
        self.objects.extend(objects.iter().map(|object| (object.id, (object.kind, object.x, object.y))));
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Keyframe { positions, objects, .. } => {
                self.positions.clear();
                self.objects.clear();
                self.set(positions, objects);
            }
            Record::Delta { positions, objects, gone_players, gone_objects, .. } => {
                self.set(positions, objects);
                self.positions.retain(|player, _| !gone_players.contains(player));
                self.objects.retain(|object, _| !gone_objects.contains(object));
            }
            // An answer names players; it does not say who is there.
            Record::Roster { flags, .. } if flags & 4 != 0 => {}
            Record::Crowd { flags, joined, players } => {
                if flags & 1 != 0 {
                    self.roster = joined.iter().map(|(player, ..)| *player).collect();
                }
                self.crowd = Some(*players);
            }
            Record::Roster { flags, joined, left } => {
                if flags & 1 != 0 {
                    self.roster.clear();
                    self.crowd = None;
                }
                for (player, _, _) in joined {
                    assert!(self.roster.insert(*player), "player {player} joined twice");
                }
                for (player, _) in left {
                    assert!(self.roster.remove(player), "player {player} left without having joined");
                }
            }
            Record::States { whole, values } => {
                if *whole {
                    self.values.clear();
                }
                self.values
                    .extend(values.iter().map(|(player, key, value)| ((*player, *key), value.clone())));
                self.values.retain(|_, value| !value.is_empty());
            }
            Record::Welcome(_)
            | Record::Layout
            | Record::Ack { .. }
            | Record::Event { .. }
            | Record::Pong { .. }
            | Record::RateLimited { .. }
            | Record::Correction { .. }
            | Record::Notice { .. }
            | Record::Error { .. } => {}
        }
    }
}

/// Takes an HTTP response off the inbox: its status, and head and body as text.
pub fn take_response(inbox: &mut Vec<u8>) -> (u16, String) {
    let end = inbox.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole response head") + 4;
    let head = String::from_utf8(inbox.drain(..end).collect()).expect("an ASCII head");
    let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    if status == 101 {
        return (status, head);
    }
    let body = String::from_utf8(std::mem::take(inbox)).expect("a text body");
    (status, head + &body)
}

/// Takes the next frame off the inbox, if a whole one is there.
pub fn take_frame(inbox: &mut Vec<u8>) -> Option<Frame> {
    let (first, payload) = take_payload(inbox)?;
    Some(match first {
        0x81 => Frame::Text(String::from_utf8(payload).expect("UTF-8")),
        0x82 if payload.first().is_some_and(|kind| *kind < 0x80) => Frame::Binary(payload),
        0x82 => Frame::Record(Record::parse(&payload)),
        0x88 if payload.is_empty() => Frame::Close(None),
        0x88 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            Frame::Close(Some((code, String::from_utf8(payload[2..].to_vec()).expect("UTF-8"))))
        }
        0x89 => Frame::Ping(payload),
        0x8A => Frame::Pong(payload),
        other => panic!("frame starts with {other:#x}"),
    })
}

/// Takes the next frame off the inbox, as its first byte and its payload.
pub fn take_payload(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, second, ..] = inbox[..] else { return None };
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (header, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(inbox.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    if inbox.len() < header + length {
        return None;
    }
    let payload = inbox[header..header + length].to_vec();
    inbox.drain(..header + length);
    Some((first, payload))
}

/// Reads big-endian numbers off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("the record is long enough");
        self.0 = rest;
        *head
    }
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
    fn f32(&mut self) -> f32 {
        f32::from_be_bytes(self.take())
    }
    fn text(&mut self) -> String {
        let length = self.u8();
        self.part(length)
    }
    fn part(&mut self, length: u8) -> String {
        let (part, rest) = self.0.split_at(usize::from(length));
        self.0 = rest;
        String::from_utf8(part.to_vec()).expect("UTF-8")
    }
    fn positions(&mut self, count: u32) -> Vec<(u32, f32, f32)> {
        (0..count).map(|_| (self.u32(), self.f32(), self.f32())).collect()
    }
    fn objects(&mut self, count: u32) -> Vec<Object> {
        let object =
            |_| Object { id: self.u32(), kind: self.u16(), flags: self.u16(), x: self.f32(), y: self.f32() };
        (0..count).map(object).collect()
    }
    fn end(&self) {
        assert!(self.0.is_empty(), "{} bytes too many", self.0.len());
    }
}

/// `game_update` as it travels in a binary message.
#[derive(Debug, Clone, PartialEq)]
pub struct GameUpdate {
    /// Names the join of a push to one member; `None`: a broadcast.
    pub join_ref: Option<String>,
    pub topic: String,
    pub positions: Vec<(u32, f32, f32)>,
    pub objects: Vec<Object>,
}

impl GameUpdate {
    /// Reads the binary message of a push or a broadcast.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut read = Reader(bytes);
        let (join_ref, topic, event) = match read.u8() {
            0 => {
                let [join_ref, topic, event] = read.take::<3>();
                (Some(read.part(join_ref)), read.part(topic), read.part(event))
            }
            2 => {
                let [topic, event] = read.take::<2>();
                (None, read.part(topic), read.part(event))
            }
            kind => panic!("binary message of kind {kind}"),
        };
        assert_eq!(event, "game_update");
        let (positions, objects) = (read.u32(), read.u32());
        let update =
            Self { join_ref, topic, positions: read.positions(positions), objects: read.objects(objects) };
        read.end();
        update
    }
}

impl Record {
    /// Reads the payload of a binary message.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut read = Reader(bytes);
        let record = match read.u8() {
            0x81 => Self::Welcome(read.welcome()),
            0x82 => read.keyframe(),
            0x83 => read.delta(),
            0x84 => read.event(),
            0x85 => read.pong(),
            0x86 => read.roster(),
            0x87 => read.rate_limited(),
            0x88 => read.correction(),
            0x89 => read.notice(),
            0x8A => read.error(),
            0x8B => {
                read.take::<47>();
                Self::Layout
            }
            0x8C => read.ack(),
            0x8E => read.states(),
            kind => panic!("record kind {kind:#x}"),
        };
        read.end();
        record
    }
}

/// Each reads what follows the kind of a record.
impl Reader<'_> {
    fn welcome(&mut self) -> Welcome {
        Welcome {
            flags: self.u8(),
            tick_hz: self.u16(),
            player_id: self.u32(),
            epoch: self.u64(),
            seq: self.u64(),
            tick: self.u32(),
            server_time_us: self.u64(),
            resume_token: self.take::<16>().iter().map(|byte| format!("{byte:02x}")).collect(),
            bounds: [self.f32(), self.f32(), self.f32(), self.f32()],
            max_speed: self.f32(),
        }
    }

    fn keyframe(&mut self) -> Record {
        self.take::<3>();
        let (tick, positions, objects) = (self.u32(), self.u32(), self.u32());
        Record::Keyframe { tick, positions: self.positions(positions), objects: self.objects(objects) }
    }

    fn delta(&mut self) -> Record {
        self.u8();
        let gone_players = self.u16();
        let (tick, positions, objects, gone_objects) = (self.u32(), self.u32(), self.u32(), self.u32());
        Record::Delta {
            tick,
            positions: self.positions(positions),
            objects: self.objects(objects),
            gone_players: (0..gone_players).map(|_| self.u32()).collect(),
            gone_objects: (0..gone_objects).map(|_| self.u32()).collect(),
        }
    }

    fn event(&mut self) -> Record {
        let (scope, code, sender, seq) = (self.u8(), self.u16(), self.u32(), self.u64());
        Record::Event { scope, code, sender, seq, payload: self.rest() }
    }

    fn pong(&mut self) -> Record {
        self.take::<3>();
        Record::Pong {
            nonce: self.u32(),
            client_time_us: self.u64(),
            server_time_us: self.u64(),
            tick: self.u32(),
        }
    }

    fn roster(&mut self) -> Record {
        let (flags, joined, left) = (self.u8(), self.u16(), self.u16());
        let joined = (0..joined).map(|_| (self.u32(), self.text(), self.text())).collect();
        let left: Vec<_> = (0..left).map(|_| (self.u32(), self.u8())).collect();
        if flags & 8 == 0 {
            Record::Roster { flags, joined, left }
        } else {
            assert!(left.is_empty(), "nobody is told of who leaves a crowd");
            Record::Crowd { flags, joined, players: self.u32() }
        }
    }

    fn rate_limited(&mut self) -> Record {
        let class = self.u8();
        self.u16();
        Record::RateLimited { class, retry_after_ms: self.u32() }
    }

    fn correction(&mut self) -> Record {
        Record::Correction { reason: self.u8(), input_seq: self.u16(), x: self.f32(), y: self.f32() }
    }

    fn ack(&mut self) -> Record {
        self.u8();
        let (input_seq, tick, slack) = (self.u16(), self.u32(), self.u16());
        self.u16();
        Record::Ack { input_seq, tick, slack }
    }

    fn states(&mut self) -> Record {
        let (flags, count) = (self.u8(), self.u16());
        self.u32();
        let value = |_| {
            let (player, key, length) = (self.u32(), self.u8(), usize::from(self.u8()));
            let (value, rest) = self.0.split_at(length);
            self.0 = rest;
            (player, key, value.to_vec())
        };
        Record::States { whole: flags == 1, values: (0..count).map(value).collect() }
    }

    fn notice(&mut self) -> Record {
        let reason = self.u8();
        self.u16();
        Record::Notice { reason, timeout_ms: self.u32(), retry_after_ms: self.u32(), jitter_ms: self.u32() }
    }

    fn error(&mut self) -> Record {
        let code = self.u8();
        self.u16();
        Record::Error { code, text: String::from_utf8(self.rest()).expect("UTF-8") }
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}

/// A frame as clients send it: masked. `first` is the byte with FIN and the opcode.
pub fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

/// An upgrade request for `target`.
pub fn request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: relay.example:4000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

// ── Records from a client ───────────────────────────────────────────────────────────────────────────────────────────

pub fn move_to(input_seq: u16, x: f32, y: f32) -> Vec<u8> {
    [&[1, 0][..], &input_seq.to_be_bytes(), &x.to_be_bytes(), &y.to_be_bytes()].concat()
}

pub fn put_object(id: u32, kind: u16, flags: u16, x: f32, y: f32) -> Vec<u8> {
    let head = [&[4, 0, 0, 0][..], &id.to_be_bytes(), &kind.to_be_bytes(), &flags.to_be_bytes()].concat();
    [head, x.to_be_bytes().to_vec(), y.to_be_bytes().to_vec()].concat()
}

pub fn remove_object(id: u32) -> Vec<u8> {
    [&[5, 0, 0, 0][..], &id.to_be_bytes()].concat()
}

pub fn set_state(key: u8, value: &[u8]) -> Vec<u8> {
    [&[10, key][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

pub fn event(scope: u8, code: u16, target: u32, payload: &[u8]) -> Vec<u8> {
    [&[6, scope][..], &code.to_be_bytes(), &target.to_be_bytes(), payload].concat()
}

pub fn ping(nonce: u32, client_time_us: u64) -> Vec<u8> {
    [&[7, 0, 0, 0][..], &nonce.to_be_bytes(), &client_time_us.to_be_bytes()].concat()
}

pub fn host_moves(positions: &[(u32, f32, f32)]) -> Vec<u8> {
    let mut record = [&[8, 0, 0, 0][..], &(positions.len() as u32).to_be_bytes()].concat();
    for (player, x, y) in positions {
        record.extend([player.to_be_bytes(), x.to_be_bytes(), y.to_be_bytes()].concat());
    }
    record
}

pub fn who(players: &[u32]) -> Vec<u8> {
    let mut record = [&[0x0C, 0][..], &(players.len() as u16).to_be_bytes()].concat();
    players.iter().for_each(|player| record.extend(player.to_be_bytes()));
    record
}

pub fn close(code: u16, reason: &str) -> Vec<u8> {
    masked_frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// `game_state` as a Phoenix client pushes it, in a binary message.
pub fn game_state(
    [join_ref, reference, topic]: [&str; 3],
    positions: &[(u32, f32, f32)],
    objects: &[Object],
) -> Vec<u8> {
    let mut state = [(positions.len() as u32).to_be_bytes(), (objects.len() as u32).to_be_bytes()].concat();
    for (player, x, y) in positions {
        state.extend([player.to_be_bytes(), x.to_be_bytes(), y.to_be_bytes()].concat());
    }
    for Object { id, kind, flags, x, y } in objects {
        state.extend(id.to_be_bytes());
        state.extend([kind.to_be_bytes(), flags.to_be_bytes()].concat());
        state.extend([x.to_be_bytes(), y.to_be_bytes()].concat());
    }
    binary_push([join_ref, reference, topic, "game_state"], &state)
}

/// A binary message of a Phoenix client: join_ref, ref, topic, event, and what follows the head.
pub fn binary_push(head: [&str; 4], data: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(head.map(|part| part.len() as u8));
    head.iter().for_each(|part| message.extend(part.as_bytes()));
    message.extend(data);
    message
}
