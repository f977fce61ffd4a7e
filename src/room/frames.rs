//! The state of a game as Keyframe and Delta records, split where one message would be too long.

use zerocopy::big_endian::U32;
use zerocopy::{Immutable, IntoBytes};

use crate::ids::PlayerId;
use crate::limits::OUTBOUND_MESSAGE_BYTES_MAX;
use crate::memory::Allocated;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::{self, Opcode};
use crate::wire::native::{DeltaHeader, KeyframeHeader, Object, Position, kind};

/// What a frame holds, in the order of the record. The counts must be those of the iterators.
#[allow(missing_docs, reason = "the names say it")]
pub struct Contents<P, O, G> {
    /// Number of the tick.
    pub tick: u32,
    pub position_count: usize,
    pub positions: P,
    pub objects: O,
    /// Players gone; always empty in a Keyframe.
    pub gone_players: G,
    /// Objects gone; always empty in a Keyframe.
    pub gone_objects: G,
}

/// Which record comes first. Where a state needs several messages, the rest are Deltas of the same tick, each relative to the
/// message before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Everything.
    Keyframe,
    /// What changed.
    Delta,
}

/// Encodes `contents` as one message, or as several where it is longer than `OUTBOUND_MESSAGE_BYTES_MAX`.
pub fn encode<'a, P, O, G>(first: First, mut contents: Contents<P, O, G>, pool: &mut FramePool) -> Encoded
where
    P: Iterator<Item = &'a Position>,
    O: ExactSizeIterator<Item = &'a Object>,
    G: ExactSizeIterator<Item = u32>,
{
    pool.messages(|buffer| {
        let mut messages = 0;
        let mut next = first;
        loop {
            let part = Part::fill(next, &contents);
            part.write(next, &mut contents, buffer);
            messages += 1;
            next = First::Delta;
            if part.is_last(&contents) {
                return messages;
            }
        }
    })
}

/// How much of each kind goes into one message.
#[derive(Clone, Copy)]
struct Part {
    positions: usize,
    objects: usize,
    gone_players: usize,
    gone_objects: usize,
    bytes: usize,
}

impl Part {
    fn fill<P, O: ExactSizeIterator, G: ExactSizeIterator>(
        first: First,
        contents: &Contents<P, O, G>,
    ) -> Self {
        let header = match first {
            First::Keyframe => size_of::<KeyframeHeader>(),
            First::Delta => size_of::<DeltaHeader>(),
        };
        let mut room = OUTBOUND_MESSAGE_BYTES_MAX - header;
        let mut take = |count: usize, size: usize| {
            let taken = count.min(room / size);
            room -= taken * size;
            taken
        };
        let positions = take(contents.position_count, size_of::<Position>());
        let objects = take(contents.objects.len(), size_of::<Object>());
        let gone_players = take(contents.gone_players.len(), size_of::<U32>());
        let gone_objects = take(contents.gone_objects.len(), size_of::<U32>());
        Self { positions, objects, gone_players, gone_objects, bytes: OUTBOUND_MESSAGE_BYTES_MAX - room }
    }

    fn write<'a, P, O, G>(self, first: First, contents: &mut Contents<P, O, G>, buffer: &mut Vec<u8>)
    where
        P: Iterator<Item = &'a Position>,
        O: ExactSizeIterator<Item = &'a Object>,
        G: ExactSizeIterator<Item = u32>,
    {
        buffer.reserve(frame::HEADER_BYTES_MAX + self.bytes);
        frame::write_header(buffer, Opcode::Binary, self.bytes);
        let position_count = (self.positions as u32).into();
        let objects_count = (self.objects as u32).into();
        let tick = contents.tick.into();
        match first {
            First::Keyframe => buffer.extend_from_slice(
                KeyframeHeader {
                    kind: kind::KEYFRAME,
                    reserved: [0; 3],
                    tick,
                    position_count,
                    objects_count,
                }
                .as_bytes(),
            ),
            First::Delta => buffer.extend_from_slice(
                DeltaHeader {
                    kind: kind::DELTA,
                    reserved: 0,
                    gone_players: (self.gone_players as u16).into(),
                    tick,
                    position_count,
                    objects_count,
                    gone_objects: (self.gone_objects as u32).into(),
                }
                .as_bytes(),
            ),
        }
        append(buffer, self.positions, contents.positions.by_ref());
        append(buffer, self.objects, contents.objects.by_ref());
        for player in contents.gone_players.by_ref().take(self.gone_players) {
            buffer.extend_from_slice(&player.to_be_bytes());
        }
        for object in contents.gone_objects.by_ref().take(self.gone_objects) {
            buffer.extend_from_slice(&object.to_be_bytes());
        }
        contents.position_count -= self.positions;
    }

    fn is_last<P, O: ExactSizeIterator, G: ExactSizeIterator>(self, rest: &Contents<P, O, G>) -> bool {
        let left =
            rest.position_count + rest.objects.len() + rest.gone_players.len() + rest.gone_objects.len();
        left == 0
    }
}

/// Appends `count` records. Their place is made block by block, not record by record.
fn append<'a, R>(buffer: &mut Vec<u8>, count: usize, mut records: impl Iterator<Item = &'a R>)
where
    R: IntoBytes + Immutable + 'a,
{
    let mut left = count;
    while left > 0 {
        let block = left.min(64);
        let start = buffer.len();
        buffer.resize(start + block * size_of::<R>(), 0);
        for (place, record) in buffer[start..].chunks_exact_mut(size_of::<R>()).zip(records.by_ref()) {
            place.copy_from_slice(record.as_bytes());
        }
        left -= block;
    }
}

/// Positions by seat, and which of them changed since the last tick. A slot without a position holds player id 0.
///
/// The coordinates stay as they came, in network order: a Move is copied in, a frame copies it out.
#[derive(Debug, Default)]
pub struct Positions {
    by_seat: Vec<Position>,
    /// One bit per seat.
    moved: Vec<u64>,
    moved_count: usize,
    count: usize,
}

impl Positions {
    /// Makes room for seats below `seats`.
    pub fn grow(&mut self, seats: usize) {
        if self.by_seat.len() < seats {
            if seats > self.by_seat.capacity() {
                // By an eighth at least, like the seats themselves.
                self.by_seat.reserve_exact((seats - self.by_seat.len()).max(self.by_seat.len() / 8));
            }
            self.by_seat.resize(seats, Position::default());
            self.moved.resize(seats.div_ceil(64), 0);
        }
    }

    /// Where the player of `seat` is; `None`: it has not moved yet.
    pub fn at(&self, seat: usize) -> Option<&Position> {
        self.by_seat.get(seat).filter(|position| position.player_id.get() != 0)
    }

    /// Sets the position of `seat`.
    pub fn set(&mut self, seat: usize, position: Position) {
        self.count += usize::from(self.at(seat).is_none());
        self.by_seat[seat] = position;
        self.moved_count += usize::from(self.moved[seat / 64] & 1 << (seat % 64) == 0);
        self.moved[seat / 64] |= 1 << (seat % 64);
    }

    /// Removes the position of `seat`; `None`: there was none.
    pub fn remove(&mut self, seat: usize) -> Option<PlayerId> {
        let player = self.at(seat)?.player_id.get();
        self.by_seat[seat] = Position::default();
        self.count -= 1;
        self.moved_count -= usize::from(self.moved[seat / 64] & 1 << (seat % 64) != 0);
        self.moved[seat / 64] &= !(1 << (seat % 64));
        Some(PlayerId(player))
    }

    /// Number of positions.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of positions set since `settle`.
    pub fn moved_count(&self) -> usize {
        self.moved_count
    }

    /// Every position, by seat.
    pub fn all(&self) -> impl Iterator<Item = &Position> {
        self.by_seat.iter().filter(|position| position.player_id.get() != 0)
    }

    /// Positions set since `settle`, by seat.
    pub fn moved(&self) -> impl Iterator<Item = &Position> {
        self.moved.iter().enumerate().flat_map(move |(word, bits)| {
            let mut rest = *bits;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(&self.by_seat[word * 64 + bit])
            })
        })
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.by_seat.allocated_bytes() + self.moved.allocated_bytes()
    }

    /// The tick is over: nothing has moved since.
    pub fn settle(&mut self) {
        self.moved.fill(0);
        self.moved_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(player: u32) -> Position {
        Position { player_id: player.into(), x: 1.0.into(), y: 2.0.into() }
    }

    fn players<'a>(positions: impl Iterator<Item = &'a Position>) -> Vec<u32> {
        positions.map(|position| position.player_id.get()).collect()
    }

    #[test]
    fn what_moved_is_told_once_and_what_left_not_at_all() {
        let mut positions = Positions::default();
        positions.grow(200);
        for seat in [0, 63, 64, 199] {
            positions.set(seat, position(seat as u32 + 1));
        }
        positions.set(63, position(64));
        assert_eq!(players(positions.moved()), [1, 64, 65, 200]);
        assert_eq!((positions.moved_count(), positions.count()), (4, 4));
        assert_eq!(positions.remove(64), Some(PlayerId(65)));
        assert_eq!(positions.remove(64), None);
        assert_eq!(players(positions.moved()), [1, 64, 200]);
        positions.settle();
        positions.set(199, position(200));
        assert_eq!((players(positions.moved()), players(positions.all())), (vec![200], vec![1, 64, 200]));
        assert_eq!((positions.moved_count(), positions.count()), (1, 3));
    }

    #[test]
    fn a_long_state_is_a_keyframe_and_deltas_of_the_same_tick() {
        let many: Vec<_> = (1..=12_000).map(position).collect();
        let encoded = encode(
            First::Keyframe,
            Contents {
                tick: 5,
                position_count: many.len(),
                positions: many.iter(),
                objects: [].iter(),
                gone_players: [].into_iter(),
                gone_objects: [].into_iter(),
            },
            &mut FramePool::default(),
        );
        assert_eq!(encoded.frames(), 3);
        let mut rest = encoded.bytes();
        let mut kinds = Vec::new();
        let mut seen = 0;
        while !rest.is_empty() {
            assert_eq!(rest[..2], [0x82, 126], "a binary message with a 16-bit length");
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            assert!(length <= OUTBOUND_MESSAGE_BYTES_MAX);
            let (payload, after) = rest[4..].split_at(length);
            kinds.push(payload[0]);
            assert_eq!(payload[4..8], 5u32.to_be_bytes());
            seen += u32::from_be_bytes(payload[8..12].try_into().unwrap());
            rest = after;
        }
        assert_eq!((kinds, seen), (vec![kind::KEYFRAME, kind::DELTA, kind::DELTA], 12_000));
    }
}
