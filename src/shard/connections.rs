//! The connections of a shard: a table whose slots are reused under another generation, and whose memory goes with them.

use crate::ids::ConnId;
use crate::impossible;
use crate::limits::CONNECTION_BYTES_MAX;
use crate::room::request::Rights;
use crate::room::seats::SeatIndex;
use crate::session::Session;

use super::topics::TopicIndex;

/// One client, and where it plays.
#[derive(Debug)]
pub struct Connection {
    /// The client.
    pub session: Session,
    /// Its seat, while it has one.
    pub seat: Option<SeatRef>,
    /// The bucket of `Deadlines` it is in; 0: none.
    pub check_bucket: u32,
    /// `ConnId::generation`.
    generation: u32,
}

/// A seat of a game of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatRef {
    /// The game.
    pub game: TopicIndex,
    /// The seat.
    pub seat: SeatIndex,
    /// What its player may do.
    pub rights: Rights,
    /// It was resumed, and its client has not been heard since.
    pub resume_unconfirmed: bool,
}

/// Slots that come and go together, 32 KiB of them: few enough that a shard with a handful of connections is small, and enough
/// that a look-up finds the table of chunks in the processor's cache.
const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 8;

/// The table, in chunks that are allocated as connections come and freed as they go. A connection never moves, and takes a slot
/// of the lowest chunk that has one: so the upper ones empty as connections come and go.
#[derive(Debug)]
pub struct Connections {
    /// All chunks that there can be.
    chunks: Box<[Chunk]>,
    /// The chunks with a free slot, allocated or not.
    with_room: Numbers,
    /// The one allocated chunk without connections, if there is one. It stays for a while, so that a connection that comes and
    /// goes at the border of a chunk does not make and free one each time.
    spare: Option<u32>,
    len: usize,
    slots_max: usize,
}

/// Bytes of one place in the table.
pub const CONNECTION_BYTES: usize = size_of::<Slot>();
const _: () = assert!(CONNECTION_BYTES <= CONNECTION_BYTES_MAX);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is a table of taken places")]
enum Slot {
    Taken(Connection),
    Free {
        /// The generation of the next connection in this slot.
        generation: u32,
        /// The next free slot of the chunk; `None`: this is the last.
        next: Option<u8>,
    },
}

const _: () = assert!(CHUNK_SLOTS - 1 == u8::MAX as usize, "a place within a chunk is one byte");

impl Slot {
    fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Taken(connection) => Some(connection),
            Self::Free { .. } => None,
        }
    }

    /// The generation of the connection that is here, or of the next one.
    fn generation(&self) -> u32 {
        match self {
            Self::Taken(connection) => connection.generation,
            Self::Free { generation, .. } => *generation,
        }
    }
}

#[derive(Debug, Default)]
struct Chunk {
    /// `None`: not allocated.
    slots: Option<Box<[Slot; CHUNK_SLOTS]>>,
    /// While it is allocated, its first free slot.
    free: Option<u8>,
    taken: u16,
    /// The generation that its slots begin with when it is allocated: above every one that they had. So a generation does not
    /// come back before 2^32 connections of the chunk.
    first_generation: u32,
}

impl Chunk {
    fn slots(&self) -> &[Slot] {
        self.slots.as_deref().map_or(&[], |slots| slots)
    }

    /// The slots below `usable` are free.
    fn allocate(&mut self, usable: usize) {
        let first_generation = self.first_generation;
        let slot = |place: usize| Slot::Free {
            generation: first_generation,
            next: u8::try_from(place + 1).ok().filter(|next| usize::from(*next) < usable),
        };
        let slots: Box<[Slot]> = (0..CHUNK_SLOTS).map(slot).collect();
        self.slots = Some(slots.try_into().expect("CHUNK_SLOTS slots were collected"));
        self.free = Some(0);
    }

    fn deallocate(&mut self) {
        let first = self.first_generation;
        // Compared are distances, since generations wrap.
        let used = self.slots().iter().map(|slot| slot.generation().wrapping_sub(first)).max();
        self.first_generation = first.wrapping_add(used.unwrap_or(0));
        self.slots = None;
    }

    fn is_allocated(&self) -> bool {
        self.slots.is_some()
    }
}

impl Connections {
    /// Room for `slots_max` connections.
    pub fn new(slots_max: usize) -> Self {
        let chunks = slots_max.div_ceil(CHUNK_SLOTS);
        Self {
            chunks: (0..chunks).map(|_| Chunk::default()).collect(),
            with_room: Numbers::below(chunks),
            spare: None,
            len: 0,
            slots_max,
        }
    }

    /// Takes a connection in; `None`: the table is full.
    pub fn insert(&mut self, session: Session) -> Option<ConnId> {
        let number = self.with_room.lowest()?;
        if self.spare == Some(number) {
            self.spare = None;
        }
        let first_slot = (number as usize) << CHUNK_BITS;
        let usable = self.slots_max - first_slot;
        let chunk = &mut self.chunks[number as usize];
        if !chunk.is_allocated() {
            chunk.allocate(usable);
        }
        let slots = chunk.slots.as_deref_mut()?;
        let Some(place) = chunk.free else {
            impossible!("a chunk with room has a free slot");
            return None;
        };
        let entry = &mut slots[usize::from(place)];
        let Slot::Free { generation, next } = *entry else {
            impossible!("a free slot is not taken");
            return None;
        };
        *entry = Slot::Taken(Connection { session, seat: None, check_bucket: 0, generation });
        chunk.free = next;
        chunk.taken += 1;
        if chunk.free.is_none() {
            self.with_room.remove(number);
        }
        self.len += 1;
        Some(ConnId { slot: first_slot as u32 + u32::from(place), generation })
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.find(conn)?;
        let number = conn.slot >> CHUNK_BITS;
        let chunk = &mut self.chunks[number as usize];
        let free = Slot::Free { generation: conn.generation.wrapping_add(1), next: chunk.free };
        let entry = &mut chunk.slots.as_mut()?[place(conn)];
        let Slot::Taken(connection) = std::mem::replace(entry, free) else {
            impossible!("a slot that was found is taken");
            return None;
        };
        chunk.free = Some(place(conn) as u8);
        chunk.taken -= 1;
        self.len -= 1;
        self.with_room.insert(number);
        if chunk.taken == 0 {
            self.keep_or_free(number);
        }
        Some(connection)
    }

    /// Of two chunks without connections, the lower one is kept, which is used again first.
    fn keep_or_free(&mut self, emptied: u32) {
        let spare = self.spare.unwrap_or(emptied);
        self.spare = Some(spare.min(emptied));
        if spare != emptied {
            self.chunks[spare.max(emptied) as usize].deallocate();
        }
    }

    /// Gives back the chunk that was kept.
    pub fn give_back(&mut self) {
        if let Some(spare) = self.spare.take() {
            self.chunks[spare as usize].deallocate();
        }
    }

    /// The connection `conn`; `None`: it is gone.
    pub fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let chunk = self.chunks.get_mut((conn.slot >> CHUNK_BITS) as usize)?;
        match &mut chunk.slots.as_mut()?[place(conn)] {
            Slot::Taken(connection) => {
                Some(connection).filter(|connection| connection.generation == conn.generation)
            }
            Slot::Free { .. } => None,
        }
    }

    /// Like `find`, but read only.
    pub fn get(&self, conn: ConnId) -> Option<&Connection> {
        let chunk = self.chunks.get((conn.slot >> CHUNK_BITS) as usize)?;
        let connection = chunk.slots().get(place(conn))?.connection()?;
        Some(connection).filter(|connection| connection.generation == conn.generation)
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the table, without what the connections own; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let chunks = self.chunks.iter().filter(|chunk| chunk.is_allocated()).count();
        chunks * CHUNK_SLOTS * CONNECTION_BYTES + size_of_val(&*self.chunks) + size_of_val(&*self.with_room.0)
    }

    /// The connections in slots from `first` on, at most `count` slots; for walks in parts.
    pub fn in_slots(&self, first: usize, count: usize) -> impl Iterator<Item = (ConnId, &Connection)> {
        let slots = first..self.slots().min(first.saturating_add(count));
        let chunks = slots.start >> CHUNK_BITS..slots.end.div_ceil(CHUNK_SLOTS);
        let entries = chunks.flat_map(|number| {
            let entries = self.chunks[number].slots().iter();
            entries.zip(number << CHUNK_BITS..)
        });
        entries.filter(move |(_, slot)| slots.contains(slot)).filter_map(|(entry, slot)| {
            let connection = entry.connection()?;
            Some((ConnId { slot: slot as u32, generation: connection.generation }, connection))
        })
    }

    /// Number of slots up to the last one in use, or a little more.
    pub fn slots(&self) -> usize {
        let last = self.chunks.iter().rposition(Chunk::is_allocated);
        last.map_or(0, |last| (last + 1) << CHUNK_BITS)
    }
}

/// Some of the numbers from 0 to a limit: a bit each.
#[derive(Debug)]
struct Numbers(Box<[u64]>);

impl Numbers {
    /// All numbers below `limit`.
    fn below(limit: usize) -> Self {
        let bits = |first: usize| u64::MAX >> 64_usize.saturating_sub(limit - first);
        Self((0..limit).step_by(64).map(bits).collect())
    }

    fn lowest(&self) -> Option<u32> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(word as u32 * 64 + self.0[word].trailing_zeros())
    }

    fn insert(&mut self, number: u32) {
        self.0[number as usize / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: u32) {
        self.0[number as usize / 64] &= !(1 << (number % 64));
    }
}

/// Index of the slot within its chunk.
fn place(conn: ConnId) -> usize {
    conn.slot as usize & (CHUNK_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Instant;

    fn session() -> Session {
        Session::handed_over(Instant::default())
    }

    fn allocated(connections: &Connections) -> usize {
        connections.chunks.iter().filter(|chunk| chunk.is_allocated()).count()
    }

    #[test]
    fn the_lowest_number_is_found_whichever_are_missing() {
        for limit in [0, 1, 63, 64, 65, 128, 200] {
            let mut numbers = Numbers::below(limit);
            for number in 0..limit as u32 {
                assert_eq!(numbers.lowest(), Some(number), "of {limit}");
                numbers.remove(number);
            }
            assert_eq!(numbers.lowest(), None, "of {limit}");
            for number in (0..limit as u32).rev() {
                numbers.insert(number);
                assert_eq!(numbers.lowest(), Some(number), "of {limit}");
            }
        }
    }

    #[test]
    fn a_slot_used_again_has_another_name() {
        let mut connections = Connections::new(1);
        let first = connections.insert(session()).unwrap();
        assert!(connections.insert(session()).is_none(), "full");
        assert!(connections.remove(first).is_some());
        let second = connections.insert(session()).unwrap();
        assert_eq!(first.slot, second.slot);
        assert!(connections.find(first).is_none() && connections.remove(first).is_none());
        assert!(connections.find(second).is_some());
    }

    #[test]
    fn chunks_go_with_their_last_connection_but_for_one() {
        let mut connections = Connections::new(10 * CHUNK_SLOTS + 7);
        let conns: Vec<ConnId> = std::iter::from_fn(|| connections.insert(session())).collect();
        assert_eq!((conns.len(), allocated(&connections)), (10 * CHUNK_SLOTS + 7, 11));
        assert_eq!(conns.iter().map(|conn| conn.slot).collect::<BTreeSet<_>>().len(), conns.len());
        for (number, chunk) in conns.chunks(CHUNK_SLOTS).enumerate() {
            assert_eq!(allocated(&connections), 11 - number.saturating_sub(1));
            chunk.iter().for_each(|conn| assert!(connections.remove(*conn).is_some()));
        }
        assert_eq!((connections.len(), connections.slots()), (0, CHUNK_SLOTS), "the lowest is kept");
        connections.give_back();
        assert_eq!((allocated(&connections), connections.slots()), (0, 0));
        assert_eq!(connections.insert(session()).unwrap().slot >> CHUNK_BITS, 0);
    }

    #[test]
    fn a_chunk_made_anew_goes_on_behind_the_last_generation_that_it_had() {
        let mut connections = Connections::new(2 * CHUNK_SLOTS);
        let below: Vec<ConnId> = (0..CHUNK_SLOTS).filter_map(|_| connections.insert(session())).collect();
        connections.chunks[1].first_generation = u32::MAX - 1;
        for generation in [u32::MAX - 1, u32::MAX, 0] {
            let above = connections.insert(session()).unwrap();
            assert_eq!((above.slot >> CHUNK_BITS, above.generation), (1, generation));
            assert!(connections.remove(above).is_some());
        }
        below.iter().for_each(|conn| assert!(connections.remove(*conn).is_some()));
        assert_eq!((allocated(&connections), connections.chunks[1].first_generation), (1, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain map: phases of coming and going, each with its own share of going.
        #[test]
        fn it_is_a_map_whose_names_are_unique(
            phases in prop::collection::vec((0..10_usize, 1..900_usize), 1..8),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 64),
        ) {
            let mut connections = Connections::new(5 * CHUNK_SLOTS - 3);
            let mut model: Vec<(ConnId, u32)> = Vec::new();
            let mut named: BTreeSet<ConnId> = BTreeSet::new();
            let mut step = 0;
            for (share_of_going, steps) in phases {
                for _ in 0..steps {
                    step += 1;
                    let choice = choices[step % choices.len()];
                    if step * 7 % 10 < share_of_going && !model.is_empty() {
                        let (conn, named_in) = model.swap_remove(choice.index(model.len()));
                        let removed = connections.remove(conn).map(|connection| connection.check_bucket);
                        prop_assert_eq!(removed, Some(named_in));
                        prop_assert!(connections.find(conn).is_none());
                    } else if let Some(conn) = connections.insert(session()) {
                        prop_assert!(named.insert(conn), "{:?} was somebody before", conn);
                        connections.find(conn).unwrap().check_bucket = step as u32;
                        model.push((conn, step as u32));
                    } else {
                        prop_assert_eq!(model.len(), 5 * CHUNK_SLOTS - 3);
                    }
                    prop_assert_eq!(connections.len(), model.len());
                }
                let used = model.iter().map(|(conn, _)| conn.slot >> CHUNK_BITS).collect::<BTreeSet<_>>().len();
                prop_assert!((used..=used + 1).contains(&allocated(&connections)));
                let (first, count) = (choices[0].index(300), choices[1].index(900));
                let walked = connections.in_slots(first, count).map(|(conn, entry)| (conn, entry.check_bucket));
                let in_part = |conn: &ConnId| (first..first + count).contains(&(conn.slot as usize));
                let expected: BTreeSet<_> = model.iter().filter(|(conn, _)| in_part(conn)).copied().collect();
                prop_assert!(walked.eq(expected));
            }
        }
    }
}
