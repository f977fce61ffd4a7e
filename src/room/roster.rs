//! Who is in a game: the whole list for a newcomer, and the changes of a tick for everybody else.

use std::collections::BTreeSet;

use zerocopy::IntoBytes;

use super::seats::{SeatIndex, Seats};
use crate::ids::PlayerId;
use crate::impossible;
use crate::limits::OUTBOUND_MESSAGE_BYTES_MAX;
use crate::memory::Allocated;
use crate::reasons::LeaveReason;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::{self, Opcode};
use crate::wire::native::{self, RosterHeader, RosterLeft, kind};

/// What happened since the last tick, in order. Fifty joins within a tick are one record.
#[derive(Debug, Default)]
pub struct RosterChanges {
    changes: Vec<Change>,
    /// Seats that were told the whole roster during this tick: they know the changes before this place in `changes`.
    informed: Vec<(SeatIndex, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Joined(PlayerId),
    Left(PlayerId, LeaveReason),
}

impl RosterChanges {
    /// A player joined.
    pub fn joined(&mut self, player: PlayerId) {
        self.changes.push(Change::Joined(player));
    }

    /// A player left.
    pub fn left(&mut self, player: PlayerId, reason: LeaveReason) {
        self.changes.push(Change::Left(player, reason));
    }

    /// A seat was sent the whole roster as it is now.
    pub fn informed(&mut self, seat: SeatIndex) {
        self.informed.retain(|(other, _)| *other != seat);
        self.informed.push((seat, self.changes.len()));
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// See `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.changes.allocated_bytes() + self.informed.allocated_bytes()
    }

    /// The tick is over: everybody has been told.
    pub fn settle(&mut self) {
        // Freed, not cleared: they hold as many entries as the game has players once, and few ever after.
        *self = Self::default();
    }

    /// How many of the changes `seat` knows already.
    pub fn known_to(&self, seat: SeatIndex) -> usize {
        self.informed.iter().find(|(informed, _)| *informed == seat).map_or(0, |(_, known)| *known)
    }

    /// The changes after the first `known` ones as Roster records; `None`: they cancel out.
    pub fn encode(&self, known: usize, seats: &Seats, pool: &mut FramePool) -> Option<Encoded> {
        let changes = &self.changes[known..];
        let joined_here: BTreeSet<PlayerId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Joined(player) => Some(*player),
                Change::Left(..) => None,
            })
            .collect();
        let joined: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Joined(player) => Some(*player).filter(|player| seats.find(*player).is_some()),
                Change::Left(..) => None,
            })
            .collect();
        let left: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Left(player, reason) if !joined_here.contains(player) => Some((*player, *reason)),
                Change::Left(..) | Change::Joined(_) => None,
            })
            .collect();
        (!joined.is_empty() || !left.is_empty()).then(|| encode(0, &joined, &left, seats, pool))
    }
}

/// The whole roster. Only its first part carries `RosterHeader::WHOLE`: a client that empties its list at that flag and
/// adds what comes is right, however many parts there are.
pub fn encode_whole(seats: &Seats, pool: &mut FramePool) -> Encoded {
    let players: Vec<_> = seats.taken().map(|(_, seat)| seat.player).collect();
    encode(RosterHeader::WHOLE, &players, &[], seats, pool)
}

fn encode(
    first_flags: u8,
    joined: &[PlayerId],
    left: &[(PlayerId, LeaveReason)],
    seats: &Seats,
    pool: &mut FramePool,
) -> Encoded {
    pool.messages(|buffer| {
        let mut part = Part { flags: first_flags, ..Part::default() };
        let mut parts = 0;
        for player in joined {
            let Some((_, seat)) = seats.find(*player) else {
                impossible!("who is told to have joined has a seat");
                continue;
            };
            let (user, name) = (seat.user(), seat.name());
            if !part.has_room(native::joined_bytes(user, name)) {
                parts += part.flush(buffer, RosterHeader::MORE);
            }
            native::write_joined(&mut part.body, player.0, user, name);
            part.joined += 1;
        }
        for (player, reason) in left {
            if !part.has_room(size_of::<RosterLeft>()) {
                parts += part.flush(buffer, RosterHeader::MORE);
            }
            let record = RosterLeft { player_id: player.0.into(), reason: reason.index() as u8 };
            part.body.extend_from_slice(record.as_bytes());
            part.left += 1;
        }
        parts + part.flush(buffer, 0)
    })
}

/// One Roster record under construction.
#[derive(Default)]
struct Part {
    flags: u8,
    joined: u16,
    left: u16,
    body: Vec<u8>,
}

impl Part {
    fn has_room(&self, bytes: usize) -> bool {
        size_of::<RosterHeader>() + self.body.len() + bytes <= OUTBOUND_MESSAGE_BYTES_MAX
    }

    /// Appends the record as a message and starts the next one; returns 1, the number of messages.
    fn flush(&mut self, buffer: &mut Vec<u8>, more: u8) -> u32 {
        let header = RosterHeader {
            kind: kind::ROSTER,
            flags: self.flags | more,
            joined: self.joined.into(),
            left: self.left.into(),
        };
        frame::write_header(buffer, Opcode::Binary, size_of::<RosterHeader>() + self.body.len());
        buffer.extend_from_slice(header.as_bytes());
        buffer.extend_from_slice(&self.body);
        *self = Self::default();
        1
    }
}
