//! A game of the bare loop: who is in it, and its frames, in corelay's native dialect.

use std::time::Instant;

use corelay::limits;
use corelay::wire::frame::{Opcode, write_header};
use corelay::wire::native::{DeltaHeader, Move, Position, Welcome, kind};
use zerocopy::{FromBytes, IntoBytes};

use crate::TICK;

/// A Move as a client frames it: two bytes of header, four of mask, the record.
const MOVE_FRAME_BYTES: usize = 2 + 4 + size_of::<Move>();

pub struct Room {
    /// Who is sent its frames, by place in the descriptor table.
    pub members: Vec<u32>,
    positions: Vec<Position>,
    moved: Vec<bool>,
    /// Indices of `positions` that moved since the last tick.
    recent: Vec<u32>,
    tick: u32,
    pub next_tick: Instant,
}

impl Room {
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            positions: Vec::new(),
            moved: Vec::new(),
            recent: Vec::new(),
            tick: 0,
            next_tick: Instant::now() + TICK,
        }
    }

    /// Seats whoever is at `place`; its player id.
    pub fn join(&mut self, place: u32) -> u32 {
        let player = self.positions.len() as u32 + 1;
        self.members.push(place);
        self.positions.push(Position { player_id: player.into(), x: 0.0.into(), y: 0.0.into() });
        self.moved.push(false);
        player
    }

    /// Whether somebody has moved since the last tick.
    pub fn has_moved(&self) -> bool {
        !self.recent.is_empty()
    }

    fn apply(&mut self, player: u32, record: &Move) {
        let index = player as usize - 1;
        (self.positions[index].x, self.positions[index].y) = (record.x, record.y);
        if !self.moved[index] {
            self.moved[index] = true;
            self.recent.push(index as u32);
        }
    }

    pub fn delta(&mut self) -> Vec<u8> {
        self.tick += 1;
        let header = DeltaHeader {
            kind: kind::DELTA,
            tick: self.tick.into(),
            position_count: (self.recent.len() as u32).into(),
            ..DeltaHeader::default()
        };
        let payload_bytes = size_of::<DeltaHeader>() + self.recent.len() * size_of::<Position>();
        let mut frame = Vec::new();
        write_header(&mut frame, Opcode::Binary, payload_bytes);
        frame.extend_from_slice(header.as_bytes());
        for index in self.recent.drain(..) {
            frame.extend_from_slice(self.positions[index as usize].as_bytes());
            self.moved[index as usize] = false;
        }
        frame
    }

    /// Answer to the upgrade, and Welcome: clients are told who is there by what moves.
    pub fn welcome(player: u32, accept: &str) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let welcome = Welcome {
            kind: kind::WELCOME,
            tick_hz: limits::TICK_HZ_DEFAULT.into(),
            player_id: player.into(),
            ..Welcome::default()
        };
        write_header(&mut bytes, Opcode::Binary, size_of::<Welcome>());
        bytes.extend_from_slice(welcome.as_bytes());
        bytes
    }
}

/// Applies whole frames, of which all that count are Moves; the number of bytes used.
pub fn apply_frames(room: &mut Room, player: u32, bytes: &[u8]) -> usize {
    let mut used = 0;
    while bytes.len() - used >= 6 {
        let frame = &bytes[used..];
        let whole = 6 + usize::from(frame[1] & 0x7F);
        if frame.len() < whole {
            break;
        }
        if whole == MOVE_FRAME_BYTES && frame[0] == 0x82 {
            let mut record: [u8; size_of::<Move>()] =
                frame[6..MOVE_FRAME_BYTES].try_into().expect("12 bytes");
            record.iter_mut().zip(frame[2..6].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            if let Ok(record) = Move::ref_from_bytes(&record) {
                room.apply(player, record);
            }
        }
        used += whole;
    }
    used
}
