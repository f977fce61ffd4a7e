//! The seats of a game: who plays, on which connection, or for whom a seat is held.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{Address, ConnId, PlayerId, ResumeToken};
use crate::impossible;
use crate::limits::{PLAYERS_MAX_MAX, SEAT_BYTES_MAX, USER_ID_BYTES_MAX};
use crate::memory::Allocated;
use crate::planted;
use crate::time::Instant;

/// Place of a seat in its game's arrays. Reused; a `PlayerId` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatIndex(pub u16);

const _: () = assert!(
    PLAYERS_MAX_MAX < SLOTS_MAX as u32,
    "a player id holds its seat's index + 1 in its lower 16 bits"
);

/// Slots of a game's table: the index of the last one, plus one, is the highest number of 16 bits.
const SLOTS_MAX: usize = 0xFFFF;

impl SeatIndex {
    /// As an index.
    pub fn slot(self) -> usize {
        usize::from(self.0)
    }
}

/// Whether a seat's player is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// On this connection of the game's shard, in the native dialect.
    Connected(ConnId),
    /// In a Phoenix channel, on any shard.
    Channel(Address),
    /// No: the seat is given up then.
    HeldUntil(Instant),
}

impl Occupancy {
    /// Whether the player speaks the native dialect.
    pub fn is_native(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Whether the player is in another channel of the same connection.
    pub fn is_beside(&self, channel: Address) -> bool {
        match self {
            Self::Channel(own) => (own.shard, own.conn) == (channel.shard, channel.conn),
            Self::Connected(_) | Self::HeldUntil(_) => false,
        }
    }
}

/// A player's seat.
#[derive(Debug)]
pub struct Seat {
    /// The player.
    pub player: PlayerId,
    /// Whether its player is here.
    pub occupancy: Occupancy,
    /// Gives the seat back; see `naming`.
    pub resume_token: ResumeToken,
    /// When it was taken, in unix seconds; lasts until 2106.
    pub joined_at_s: u32,
    /// In one allocation: a byte with the length of the user id less one, the user id, and the display name. If nothing follows
    /// the user id, the name is the same.
    who: Box<str>,
}

const _: () = assert!(USER_ID_BYTES_MAX <= 128, "its length less one is an ASCII character");

impl Seat {
    /// The player's connection; `None`: it plays in a channel, or the seat is held.
    pub fn conn(&self) -> Option<ConnId> {
        match self.occupancy {
            Occupancy::Connected(conn) => Some(conn),
            Occupancy::Channel(_) | Occupancy::HeldUntil(_) => None,
        }
    }

    /// The player's channel; `None`: it plays in the native dialect, or the seat is held.
    pub fn channel(&self) -> Option<Address> {
        match self.occupancy {
            Occupancy::Channel(address) => Some(address),
            Occupancy::Connected(_) | Occupancy::HeldUntil(_) => None,
        }
    }

    /// User id.
    pub fn user(&self) -> &str {
        &self.who[1..self.name_starts()]
    }

    /// Display name.
    pub fn name(&self) -> &str {
        match &self.who[self.name_starts()..] {
            "" => self.user(),
            name => name,
        }
    }

    fn name_starts(&self) -> usize {
        usize::from(self.who.as_bytes()[0]) + 2
    }
}

/// Who wants a seat.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Where it is.
    pub occupancy: Occupancy,
    /// User id, 1 to `limits::USER_ID_BYTES_MAX` bytes.
    pub user: &'a str,
    /// Display name.
    pub name: &'a str,
    /// What will give the seat back, once its first bytes name the seat.
    pub resume_token: ResumeToken,
    /// In unix seconds.
    pub joined_at_s: u64,
}

/// A table whose slots are reused, oldest first, each time under another player id. A slot whose ids have all been given is
/// retired: no id comes back while the game lives.
///
/// Invariant: each slot is taken, in `free`, in `freed`, or counted in `retired`.
#[derive(Debug, Default)]
pub struct Seats {
    slots: Vec<Slot>,
    free: VecDeque<SeatIndex>,
    /// Freed since the last tick, which tells that their players are gone: where a seat stands for its player, the next one must not
    /// be told in the same frame.
    freed: Vec<SeatIndex>,
    retired: u16,
    /// The tokens before the present ones, of seats that were resumed and whose client has not been heard since: a Welcome can
    /// be lost on its way.
    previous_tokens: BTreeMap<SeatIndex, ResumeToken>,
}

const _: () = assert!(size_of::<Slot>() <= SEAT_BYTES_MAX);

#[derive(Debug)]
enum Slot {
    Taken(Seat),
    /// How often the slot had been taken before.
    Free(u16),
    /// It was taken under every id that it has.
    Retired,
}

impl Slot {
    fn seat(&self) -> Option<&Seat> {
        match self {
            Self::Taken(seat) => Some(seat),
            Self::Free(_) | Self::Retired => None,
        }
    }
}

impl Seats {
    /// Number of seats taken, held ones included.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len() - self.freed.len() - usize::from(self.retired)
    }

    /// Number of seats that were freed since the last tick, and are not given anew before the next.
    pub fn freed(&self) -> usize {
        self.freed.len()
    }

    /// Whether nobody is here, and nobody may come back.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of slots: every `SeatIndex` is below it.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Seats a newcomer under a new player id; `None`: every id has been given.
    pub fn take(&mut self, newcomer: &Newcomer<'_>) -> Option<SeatIndex> {
        let user_bytes = newcomer.user.len().clamp(1, USER_ID_BYTES_MAX);
        debug_assert_eq!(user_bytes, newcomer.user.len());
        let index = self.free.pop_front().or_else(|| self.new_slot())?;
        let slot = &mut self.slots[index.slot()];
        let generation = match slot {
            Slot::Free(generation) => *generation,
            Slot::Taken(_) | Slot::Retired => {
                impossible!("a free slot is neither taken nor retired");
                return None;
            }
        };
        *slot = Slot::Taken(Seat {
            player: PlayerId(u32::from(generation) << 16 | (u32::from(index.0) + 1)),
            occupancy: newcomer.occupancy,
            resume_token: naming(index, newcomer.resume_token),
            joined_at_s: u32::try_from(newcomer.joined_at_s).unwrap_or(u32::MAX),
            who: [
                &*char::from(user_bytes as u8 - 1).encode_utf8(&mut [0; 4]),
                newcomer.user,
                if newcomer.name == newcomer.user { "" } else { newcomer.name },
            ]
            .concat()
            .into(),
        });
        Some(index)
    }

    fn new_slot(&mut self) -> Option<SeatIndex> {
        if self.slots.len() == SLOTS_MAX {
            return None;
        }
        if self.slots.len() == self.slots.capacity() {
            // By an eighth, not to double: most games stay at one size, and the rest would be empty seats.
            self.slots.reserve_exact(4.max(self.slots.len() / 8));
        }
        self.slots.push(Slot::Free(0));
        Some(SeatIndex((self.slots.len() - 1) as u16))
    }

    /// Frees a seat.
    pub fn free(&mut self, index: SeatIndex) -> Option<Seat> {
        let generation = (self.seat(index)?.player.0 >> 16) as u16;
        self.previous_tokens.remove(&index);
        let next = if planted!(RepeatsPlayer) { Some(generation) } else { generation.checked_add(1) };
        let next = match next {
            Some(next) => {
                self.freed.push(index);
                Slot::Free(next)
            }
            None => {
                self.retired += 1;
                Slot::Retired
            }
        };
        match std::mem::replace(&mut self.slots[index.slot()], next) {
            Slot::Taken(seat) => Some(seat),
            Slot::Free(_) | Slot::Retired => None,
        }
    }

    /// The tick is over: what was freed may be taken.
    pub fn settle(&mut self) {
        self.free.extend(self.freed.drain(..));
    }

    /// The seat at `index`; `None`: nobody sits there.
    pub fn seat(&self, index: SeatIndex) -> Option<&Seat> {
        self.slots.get(index.slot())?.seat()
    }

    /// The seat at `index`; `None`: nobody sits there.
    pub fn seat_mut(&mut self, index: SeatIndex) -> Option<&mut Seat> {
        match self.slots.get_mut(index.slot())? {
            Slot::Taken(seat) => Some(seat),
            Slot::Free(_) | Slot::Retired => None,
        }
    }

    /// The seat of a player; `None`: no such player (any more).
    pub fn find(&self, player: PlayerId) -> Option<(SeatIndex, &Seat)> {
        let index = SeatIndex((player.0 as u16).checked_sub(1)?);
        self.seat(index).filter(|seat| seat.player == player).map(|seat| (index, seat))
    }

    /// The seat of a player, or, if `id` has no upper half, of whoever sits there: where frames name seats, a client may know no more.
    pub fn named_by(&self, id: u32) -> Option<&Seat> {
        match u16::try_from(id) {
            Ok(low) => self.seat(SeatIndex(low.checked_sub(1)?)),
            Err(_) => self.find(PlayerId(id)).map(|(_, seat)| seat),
        }
    }

    /// The seat that a token gives back. It looks at one seat, however many there are: after an outage all come back at once.
    pub fn find_token(&self, token: ResumeToken) -> Option<SeatIndex> {
        let index = named_by(token);
        let is_present = self.seat(index)?.resume_token == token;
        (is_present || self.previous_tokens.get(&index) == Some(&token)).then_some(index)
    }

    /// Gives a seat another token; the one that named it now, `previous`, stays good until `forget_previous_token`.
    pub fn replace_token(&mut self, index: SeatIndex, previous: ResumeToken, token: ResumeToken) {
        let Some(seat) = self.seat_mut(index) else {
            return impossible!("a seat that is given a token is taken");
        };
        seat.resume_token = naming(index, token);
        if !planted!(ForgetsPreviousToken) {
            self.previous_tokens.insert(index, previous);
        }
    }

    /// The client has its present token.
    pub fn forget_previous_token(&mut self, index: SeatIndex) {
        self.previous_tokens.remove(&index);
    }

    /// Every seat that is taken, in order of index.
    pub fn taken(&self) -> impl Iterator<Item = (SeatIndex, &Seat)> {
        self.taken_in(0, self.slots.len())
    }

    /// The same, of the `count` slots from `first` on; for walks in parts.
    pub fn taken_in(&self, first: usize, count: usize) -> impl Iterator<Item = (SeatIndex, &Seat)> {
        let slots = self.slots.iter().enumerate().skip(first).take(count);
        slots.filter_map(|(index, slot)| Some((SeatIndex(index as u16), slot.seat()?)))
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let names = self.taken().map(|(_, seat)| seat.who.allocated_bytes()).sum::<usize>();
        self.slots.allocated_bytes()
            + self.free.allocated_bytes()
            + self.freed.allocated_bytes()
            + self.previous_tokens.allocated_bytes()
            + names
    }

    /// Every seat with a connection, in order of index.
    pub fn connected(&self) -> impl Iterator<Item = (SeatIndex, ConnId)> {
        self.taken().filter_map(|(index, seat)| Some((index, seat.conn()?)))
    }
}

/// The token of a seat: its first two bytes are the seat's index, which every player knows; the other 14 are the secret.
fn naming(index: SeatIndex, mut token: ResumeToken) -> ResumeToken {
    token.0[..2].copy_from_slice(&index.0.to_be_bytes());
    token
}

fn named_by(token: ResumeToken) -> SeatIndex {
    SeatIndex(u16::from_be_bytes([token.0[0], token.0[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(user: &str) -> Newcomer<'_> {
        Newcomer {
            occupancy: Occupancy::Connected(ConnId { slot: 0, generation: 0 }),
            user,
            name: "Ann",
            resume_token: ResumeToken([user.len() as u8; 16]),
            joined_at_s: 0,
        }
    }

    #[test]
    fn a_slot_is_used_again_under_another_player_id() {
        let mut seats = Seats::default();
        let first = seats.take(&newcomer("u")).unwrap();
        let first_player = seats.seat(first).unwrap().player;
        assert_eq!(first_player, PlayerId(1));
        seats.free(first);
        let beside = seats.take(&newcomer("u")).unwrap();
        assert_ne!(beside, first, "the tick has not told that its player is gone");
        seats.settle();
        let second = seats.take(&newcomer("uu")).unwrap();
        let second_player = seats.seat(second).unwrap().player;
        assert_eq!((second, second_player), (first, PlayerId(0x1_0001)));
        assert!(seats.find(first_player).is_none());
        assert_eq!(
            seats.find(second_player).map(|(_, seat)| (seat.user(), seat.name())),
            Some(("uu", "Ann"))
        );
        assert!(seats.find(PlayerId(0)).is_none() && seats.named_by(0).is_none());
        assert_eq!(seats.named_by(1).map(|seat| seat.player), Some(second_player), "whoever sits there");
        assert_eq!(seats.named_by(0x1_0001).map(|seat| seat.player), Some(second_player));
        assert!(seats.named_by(0x2_0001).is_none());
    }

    #[test]
    fn a_token_names_its_seat_and_no_other() {
        let mut seats = Seats::default();
        let ann = newcomer("u");
        let taken: Vec<SeatIndex> = std::iter::from_fn(|| seats.take(&ann)).collect();
        let token = |seats: &Seats, index| seats.seat(index).unwrap().resume_token;
        for index in &taken {
            assert_eq!(seats.find_token(token(&seats, *index)), Some(*index), "of {} seats", taken.len());
        }
        let (index, other) = (taken[7], taken[300]);
        let first = token(&seats, index);
        seats.replace_token(index, first, ResumeToken([9; 16]));
        let second = token(&seats, index);
        assert_ne!(first, second);
        assert_eq!([first, second].map(|token| seats.find_token(token)), [Some(index); 2]);
        seats.forget_previous_token(index);
        assert_eq!([first, second].map(|token| seats.find_token(token)), [None, Some(index)]);
        assert_eq!(seats.find_token(naming(other, second)), None, "the secret is the seat's own");
        seats.free(index);
        assert_eq!(seats.find_token(second), None);
    }

    #[test]
    fn no_player_id_comes_back_and_a_slot_is_retired_with_its_last_one() {
        let mut seats = Seats::default();
        let ann = newcomer("u");
        let keeps_the_first = seats.take(&ann).unwrap();
        let mut last = PlayerId(0);
        for use_of_seat in 0..0x2_0003_u32 {
            let index = seats.take(&ann).unwrap();
            assert_eq!(usize::from(index.0), 1 + (use_of_seat >> 16) as usize, "use {use_of_seat}");
            let player = seats.seat(index).unwrap().player;
            let expected = (use_of_seat & 0xFFFF) << 16 | (u32::from(index.0) + 1);
            assert_eq!(player, PlayerId(expected), "each id of a seat, then those of the next");
            assert_eq!((seats.len(), seats.find(last).is_none()), (2, true));
            seats.free(index);
            seats.settle();
            last = player;
        }
        assert_eq!((seats.len(), seats.slots(), seats.retired), (1, 4, 2));
        assert!(seats.free(keeps_the_first).is_some() && seats.is_empty());
    }

    #[test]
    fn a_table_whose_slots_are_all_retired_takes_nobody() {
        let mut seats = Seats::default();
        let taken: Vec<SeatIndex> = std::iter::from_fn(|| seats.take(&newcomer("u"))).collect();
        assert_eq!((taken.len(), seats.len()), (SLOTS_MAX, SLOTS_MAX));
        let last = SeatIndex(0xFFFE);
        assert_eq!(seats.seat(last).unwrap().player, PlayerId(0xFFFF));
        for index in taken {
            seats.seat_mut(index).unwrap().player.0 |= 0xFFFF_0000;
            seats.free(index);
        }
        assert!(seats.is_empty() && seats.take(&newcomer("u")).is_none());
    }
}
