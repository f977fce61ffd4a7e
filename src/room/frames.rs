//! The state of a game as Keyframe and Delta records, split where one message would be too long.

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use crate::ids::PlayerId;
use crate::limits::OUTBOUND_MESSAGE_BYTES_MAX;
use crate::memory::Allocated;
use crate::wire::frame::{self, Opcode};
use crate::wire::layout::{Bounds, Layout, split_held};
use crate::wire::native::{DeltaHeader, KeyframeHeader, Solid, kind};

/// How a game's records lie, and on which grid.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Form<'a> {
    pub layout: &'a Layout,
    pub bounds: &'a Bounds,
}

/// What a frame holds, in the order of the record. The counts must be those of the iterators.
#[allow(missing_docs, reason = "the names say it")]
pub struct Contents<P, O, G> {
    /// Number of the tick.
    pub tick: u32,
    /// How crowded the view is.
    pub level: u8,
    pub position_count: usize,
    /// Held records.
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

/// Appends `contents` as one message, or as several where it is longer than `OUTBOUND_MESSAGE_BYTES_MAX`, and returns how many.
pub fn write<'a, H, P, O, G>(
    first: First,
    mut contents: Contents<P, O, G>,
    form: Form<'_>,
    buffer: &mut Vec<u8>,
) -> u32
where
    H: Held + ?Sized + 'a,
    P: Iterator<Item = &'a H>,
    O: ExactSizeIterator<Item = &'a Solid>,
    G: ExactSizeIterator<Item = u32>,
{
    let mut messages = 0;
    let mut next = first;
    loop {
        let part = Part::fill(next, &contents, form.layout);
        part.write(next, &mut contents, form, buffer);
        messages += 1;
        next = First::Delta;
        if part.is_last(&contents) {
            return messages;
        }
    }
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
        layout: &Layout,
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
        let positions = take(contents.position_count, layout.position_bytes());
        let objects = take(contents.objects.len(), layout.object_bytes());
        let gone_players = take(contents.gone_players.len(), layout.gone_player_bytes());
        let gone_objects = take(contents.gone_objects.len(), size_of::<U32>());
        Self { positions, objects, gone_players, gone_objects, bytes: OUTBOUND_MESSAGE_BYTES_MAX - room }
    }

    fn write<'a, H, P, O, G>(
        self,
        first: First,
        contents: &mut Contents<P, O, G>,
        form: Form<'_>,
        buffer: &mut Vec<u8>,
    ) where
        H: Held + ?Sized + 'a,
        P: Iterator<Item = &'a H>,
        O: ExactSizeIterator<Item = &'a Solid>,
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
                    level: contents.level,
                    reserved: 0.into(),
                    tick,
                    position_count,
                    objects_count,
                }
                .as_bytes(),
            ),
            First::Delta => buffer.extend_from_slice(
                DeltaHeader {
                    kind: kind::DELTA,
                    level: contents.level,
                    gone_players: (self.gone_players as u16).into(),
                    tick,
                    position_count,
                    objects_count,
                    gone_objects: (self.gone_objects as u32).into(),
                }
                .as_bytes(),
            ),
        }
        H::append(buffer, self.positions, contents.positions.by_ref(), form);
        for object in contents.objects.by_ref().take(self.objects) {
            form.layout.write_object(object, form.bounds, buffer);
        }
        for player in contents.gone_players.by_ref().take(self.gone_players) {
            form.layout.write_player(player, buffer);
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

/// A held record.
pub trait Held {
    /// Appends the Positions of `count` held records, as frames hold them.
    fn append<'a>(buffer: &mut Vec<u8>, count: usize, held: impl Iterator<Item = &'a Self>, form: Form<'_>)
    where
        Self: 'a;
}

/// Of any length.
impl Held for [u8] {
    fn append<'a>(buffer: &mut Vec<u8>, count: usize, held: impl Iterator<Item = &'a Self>, form: Form<'_>) {
        held.take(count).for_each(|held| form.layout.write_position(held, form.bounds, buffer));
    }
}

/// Of a length that is known when it is compiled, in a layout of `f32`: the bytes are copied. Their place is made block by block.
impl<const N: usize> Held for [u8; N] {
    fn append<'a>(buffer: &mut Vec<u8>, count: usize, mut held: impl Iterator<Item = &'a Self>, _: Form<'_>) {
        let mut left = count;
        while left > 0 {
            let block = left.min(64);
            let start = buffer.len();
            buffer.resize(start + block * N, 0);
            for (place, record) in buffer[start..].as_chunks_mut::<N>().0.iter_mut().zip(held.by_ref()) {
                *place = *record;
            }
            left -= block;
        }
    }
}

/// The held record of each seat, and which of them changed since the last tick. A slot without one holds player id 0.
///
/// States stay as they came, in network order: a Step is copied in, a frame copies it out.
#[derive(Debug)]
pub struct Positions {
    /// `held_bytes` for each seat.
    by_seat: Vec<u8>,
    held_bytes: usize,
    /// One bit per seat.
    moved: Vec<u64>,
    moved_count: usize,
    count: usize,
}

impl Positions {
    /// None yet.
    pub fn new(layout: &Layout) -> Self {
        let held_bytes = layout.held_bytes();
        Self { by_seat: Vec::new(), held_bytes, moved: Vec::new(), moved_count: 0, count: 0 }
    }

    /// Makes room for seats below `seats`.
    pub fn grow(&mut self, seats: usize) {
        let bytes = seats * self.held_bytes;
        if self.by_seat.len() < bytes {
            if bytes > self.by_seat.capacity() {
                // By an eighth at least, like the seats themselves.
                let eighth = self.by_seat.len() / self.held_bytes / 8 * self.held_bytes;
                self.by_seat.reserve_exact((bytes - self.by_seat.len()).max(eighth));
            }
            self.by_seat.resize(bytes, 0);
            self.moved.resize(seats.div_ceil(64), 0);
        }
    }

    /// The player of `seat` and its state; `None`: it has not moved yet.
    pub fn at(&self, seat: usize) -> Option<(PlayerId, &[u8])> {
        self.held(seat).map(split_held)
    }

    /// The held record of `seat`; `None`: its player has not moved yet.
    pub fn held(&self, seat: usize) -> Option<&[u8]> {
        let held = self.by_seat.get(seat * self.held_bytes..(seat + 1) * self.held_bytes);
        held.filter(|held| is_taken(held))
    }

    /// Sets the state of `seat`, which has one already; `false`: it has not.
    pub fn replace(&mut self, seat: usize, state: &[u8]) -> bool {
        let start = seat * self.held_bytes;
        let Some(held) = self.by_seat.get_mut(start..start + self.held_bytes) else { return false };
        if !is_taken(held) {
            return false;
        }
        match (held.split_last_chunk_mut::<8>(), <&[u8; 8]>::try_from(state)) {
            // Nearly every state is as short.
            (Some((_, place)), Ok(state)) => *place = *state,
            _ => held[size_of::<u32>()..].copy_from_slice(state),
        }
        self.has_moved(seat);
        true
    }

    /// Sets the state of `seat`.
    pub fn set(&mut self, seat: usize, player: PlayerId, state: &[u8]) {
        let held = &mut self.by_seat[seat * self.held_bytes..(seat + 1) * self.held_bytes];
        self.count += usize::from(!is_taken(held));
        let (id, place) = held.split_at_mut(size_of::<u32>());
        id.copy_from_slice(&player.0.to_be_bytes());
        place.copy_from_slice(state);
        self.has_moved(seat);
    }

    fn has_moved(&mut self, seat: usize) {
        let (word, bit) = (&mut self.moved[seat / 64], 1 << (seat % 64));
        self.moved_count += usize::from(*word & bit == 0);
        *word |= bit;
    }

    /// Removes the state of `seat`; `None`: there was none.
    pub fn remove(&mut self, seat: usize) -> Option<PlayerId> {
        let (player, _) = self.at(seat)?;
        self.by_seat[seat * self.held_bytes..(seat + 1) * self.held_bytes].fill(0);
        self.count -= 1;
        self.moved_count -= usize::from(self.moved[seat / 64] & 1 << (seat % 64) != 0);
        self.moved[seat / 64] &= !(1 << (seat % 64));
        Some(player)
    }

    /// Number of positions.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of positions set since `settle`.
    pub fn moved_count(&self) -> usize {
        self.moved_count
    }

    /// Every held record, by seat.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.by_seat.chunks_exact(self.held_bytes).filter(|held| is_taken(held))
    }

    /// The same, of records of `N` bytes.
    pub fn all_of<const N: usize>(&self) -> impl Iterator<Item = &[u8; N]> {
        debug_assert_eq!(N, self.held_bytes);
        self.by_seat.as_chunks::<N>().0.iter().filter(|held| is_taken(&held[..]))
    }

    /// Held records set since `settle`, by seat.
    pub fn moved(&self) -> impl Iterator<Item = &[u8]> {
        self.moved_seats().map(|seat| &self.by_seat[seat * self.held_bytes..(seat + 1) * self.held_bytes])
    }

    /// The same, of records of `N` bytes.
    pub fn moved_of<const N: usize>(&self) -> impl Iterator<Item = &[u8; N]> {
        debug_assert_eq!(N, self.held_bytes);
        let by_seat = self.by_seat.as_chunks::<N>().0;
        self.moved_seats().map(move |seat| &by_seat[seat])
    }

    fn moved_seats(&self) -> impl Iterator<Item = usize> {
        self.moved.iter().enumerate().flat_map(move |(word, bits)| {
            let mut rest = *bits;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(word * 64 + bit)
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

fn is_taken(held: &[u8]) -> bool {
    held.first_chunk::<4>().is_some_and(|id| *id != [0; 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout::PLAIN;

    fn players<'a>(positions: impl Iterator<Item = &'a [u8]>) -> Vec<u32> {
        positions.map(|held| split_held(held).0.0).collect()
    }

    #[test]
    fn what_moved_is_told_once_and_what_left_not_at_all() {
        let mut positions = Positions::new(&LAYOUT);
        positions.grow(200);
        let state = LAYOUT.state_at([1.0, 2.0, 0.0]);
        for seat in [0, 63, 64, 199] {
            positions.set(seat, PlayerId(seat as u32 + 1), &state);
        }
        positions.set(63, PlayerId(64), &state);
        assert_eq!(players(positions.moved()), [1, 64, 65, 200]);
        assert_eq!((positions.moved_count(), positions.count()), (4, 4));
        assert_eq!(positions.remove(64), Some(PlayerId(65)));
        assert_eq!(positions.remove(64), None);
        assert_eq!(players(positions.moved()), [1, 64, 200]);
        positions.settle();
        positions.set(199, PlayerId(200), &state);
        assert_eq!((players(positions.moved()), players(positions.all())), (vec![200], vec![1, 64, 200]));
        assert_eq!((positions.moved_count(), positions.count()), (1, 3));
    }

    #[test]
    fn a_long_state_is_a_keyframe_and_deltas_of_the_same_tick() {
        let state = LAYOUT.state_at([1.0, 2.0, 0.0]);
        let held = |player: u32| [&player.to_be_bytes()[..], &state].concat();
        let many: Vec<_> = (1..=12_000).map(held).collect();
        let contents = Contents {
            tick: 5,
            level: 0,
            position_count: many.len(),
            positions: many.iter().map(|held| &**held),
            objects: [].iter(),
            gone_players: [].into_iter(),
            gone_objects: [].into_iter(),
        };
        let form = Form { layout: &LAYOUT, bounds: &Bounds::default() };
        let mut buffer = Vec::new();
        assert_eq!(write(First::Keyframe, contents, form, &mut buffer), 3);
        let mut rest = &buffer[..];
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
