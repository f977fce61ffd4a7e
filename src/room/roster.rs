//! Who is in a game: the whole list for a newcomer, and the changes of a tick for everybody else; in a crowd only how many.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use super::seats::{Seat, SeatIndex, Seats};
use crate::ids::{ConnId, PlayerId};
use crate::impossible;
use crate::limits::{OUTBOUND_MESSAGE_BYTES_MAX, PRESENCE_COUNT_INTERVAL};
use crate::memory::Allocated;
use crate::reasons::LeaveReason;
use crate::time::Instant;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::{self, Opcode};
use crate::wire::native::{self, RosterHeader, RosterLeft, kind};

/// What the players of a game are told of each other. Fifty joins within a tick are one record.
///
/// With more than `list_max` players it is their number alone, at most once in `PRESENCE_COUNT_INTERVAL`: a list for each of N
/// newcomers is N² entries. The list returns with three quarters of `list_max`.
#[derive(Debug)]
pub struct Roster {
    list_max: u32,
    listing: Listing,
    count_not_before: Instant,
}

#[derive(Debug)]
enum Listing {
    On(Changes),
    /// `counted`: everybody has been told how many there are.
    Off {
        counted: bool,
    },
    /// The next tick brings everybody the list.
    Returning,
}

/// What a tick brings of who came and went.
#[derive(Debug, Default)]
pub struct RosterNews {
    /// For players on a connection of the game's shard.
    pub each: Vec<(ConnId, Encoded)>,
    /// For native members behind channels: those that joined during the tick hear once more what their first Roster said.
    pub for_everybody: Option<Encoded>,
}

/// What happened since the last tick, in order.
#[derive(Debug, Default)]
struct Changes {
    changes: Vec<Change>,
    /// Seats that were told the whole roster during this tick: they know so many of the changes.
    informed: BTreeMap<SeatIndex, usize>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Joined(PlayerId),
    Left(PlayerId, LeaveReason),
}

impl Roster {
    /// Of a game without players.
    pub fn new(list_max: u32) -> Self {
        Self { list_max, listing: Listing::On(Changes::default()), count_not_before: Instant::default() }
    }

    /// A player joined; `seats` has it.
    pub fn joined(&mut self, player: PlayerId, seats: &Seats) {
        if seats.len() > self.list_max as usize {
            self.listing = Listing::Off { counted: false };
        } else if let Listing::On(changes) = &mut self.listing {
            changes.changes.push(Change::Joined(player));
        } else {
            self.recount();
        }
    }

    /// A player left; `seats` has it no more.
    pub fn left(&mut self, player: PlayerId, reason: LeaveReason, seats: &Seats) {
        if let Listing::On(changes) = &mut self.listing {
            changes.changes.push(Change::Left(player, reason));
        } else if seats.len() <= self.list_max as usize * 3 / 4 {
            self.listing = Listing::Returning;
        } else {
            self.recount();
        }
    }

    /// A seat is sent what `encode_for_newcomer` gives now.
    pub fn informed(&mut self, seat: SeatIndex) {
        if let Listing::On(changes) = &mut self.listing {
            changes.informed.insert(seat, changes.changes.len());
        }
    }

    /// Whether only the number is told.
    pub fn is_crowd(&self) -> bool {
        matches!(self.listing, Listing::Off { .. })
    }

    /// When a crowd is next told how many there are; `None`: it knows.
    pub fn count_due(&self) -> Option<Instant> {
        matches!(self.listing, Listing::Off { counted: false }).then_some(self.count_not_before)
    }

    /// What a newcomer is sent first: everybody, or in a crowd the number, and itself if it has a seat.
    pub fn encode_for_newcomer(&self, own: Option<&Seat>, seats: &Seats, pool: &mut FramePool) -> Encoded {
        match self.listing {
            Listing::On(_) => encode_whole(seats, pool),
            Listing::Off { .. } | Listing::Returning => encode_count(RosterHeader::WHOLE, own, seats, pool),
        }
    }

    /// What a tick brings.
    pub fn tell(&mut self, seats: &Seats, now: Instant, pool: &mut FramePool) -> RosterNews {
        let for_everybody = match &mut self.listing {
            Listing::On(changes) => return changes.tell(seats, pool),
            Listing::Off { counted } => {
                if *counted || now < self.count_not_before {
                    return RosterNews::default();
                }
                *counted = true;
                self.count_not_before = now + PRESENCE_COUNT_INTERVAL;
                encode_count(0, None, seats, pool)
            }
            Listing::Returning => {
                self.listing = Listing::On(Changes::default());
                encode_whole(seats, pool)
            }
        };
        let each = seats.connected().map(|(_, conn)| (conn, for_everybody.clone())).collect();
        RosterNews { each, for_everybody: Some(for_everybody) }
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        match &self.listing {
            Listing::On(changes) => changes.changes.allocated_bytes() + changes.informed.allocated_bytes(),
            Listing::Off { .. } | Listing::Returning => 0,
        }
    }

    /// The tick is over: everybody has been told.
    pub fn settle(&mut self) {
        if let Listing::On(changes) = &mut self.listing {
            // Freed, not cleared: once they have as many entries as the game has players, and few ever after.
            *changes = Changes::default();
        }
    }

    fn recount(&mut self) {
        if let Listing::Off { counted } = &mut self.listing {
            *counted = false;
        }
    }
}

impl Changes {
    /// One shared record, and a shorter one for each of those that joined during this tick.
    fn tell(&self, seats: &Seats, pool: &mut FramePool) -> RosterNews {
        if self.changes.is_empty() {
            return RosterNews::default();
        }
        let for_everybody = self.encode(0, seats, pool);
        let told = seats.connected().filter_map(|(seat, conn)| {
            let record = match self.informed.get(&seat) {
                None | Some(0) => for_everybody.clone(),
                Some(known) => self.encode(*known, seats, pool),
            };
            record.map(|record| (conn, record))
        });
        RosterNews { each: told.collect(), for_everybody }
    }

    /// The changes after the first `known` ones as Roster records; `None`: they cancel out.
    fn encode(&self, known: usize, seats: &Seats, pool: &mut FramePool) -> Option<Encoded> {
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
fn encode_whole(seats: &Seats, pool: &mut FramePool) -> Encoded {
    let players: Vec<_> = seats.taken().map(|(_, seat)| seat.player).collect();
    encode(RosterHeader::WHOLE, &players, &[], seats, pool)
}

/// The answer to a Who: those of `players` that are in the game, as one message.
pub fn encode_answer(players: &[U32], seats: &Seats, pool: &mut FramePool) -> Encoded {
    let here = |player: &U32| seats.named_by(player.get()).map(|seat| seat.player);
    let players: Vec<_> = players.iter().filter_map(here).collect();
    encode(RosterHeader::ANSWER, &players, &[], seats, pool)
}

/// How many players there are, and perhaps one of them.
fn encode_count(flags: u8, player: Option<&Seat>, seats: &Seats, pool: &mut FramePool) -> Encoded {
    pool.messages(|buffer| {
        let mut part = Part { flags: flags | RosterHeader::CROWD, ..Part::default() };
        if let Some(seat) = player {
            native::write_joined(&mut part.body, seat.player.0, seat.user(), seat.name());
            part.joined = 1;
        }
        part.body.extend_from_slice(&(seats.len() as u32).to_be_bytes());
        part.flush(buffer, 0)
    })
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
