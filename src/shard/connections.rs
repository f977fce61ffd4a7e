//! The connections of a shard: a table whose slots are reused under another generation.

use crate::ids::ConnId;
use crate::limits::CONNECTION_BYTES_MAX;
use crate::memory::Allocated;
use crate::room::seats::SeatIndex;
use crate::session::Session;

use super::games::GameIndex;

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
    pub game: GameIndex,
    /// The seat.
    pub seat: SeatIndex,
    /// May set other players' positions.
    pub host: bool,
    /// It was resumed, and its client has not been heard since.
    pub resume_unconfirmed: bool,
}

/// The table. It never moves: its memory is reserved at the start, and touched as connections come.
#[derive(Debug)]
pub struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    slots_max: usize,
}

/// Bytes of one place in the table.
pub const CONNECTION_BYTES: usize = size_of::<Slot>();
const _: () = assert!(CONNECTION_BYTES <= CONNECTION_BYTES_MAX);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is a table of taken places")]
enum Slot {
    Taken(Connection),
    /// Generation of the next connection here.
    Free(u32),
}

impl Slot {
    fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Taken(connection) => Some(connection),
            Self::Free(_) => None,
        }
    }
}

impl Connections {
    /// Room for `slots_max` connections.
    pub fn new(slots_max: usize) -> Self {
        Self { slots: Vec::with_capacity(slots_max), free: Vec::new(), slots_max }
    }

    /// Takes a connection in; `None`: the table is full.
    pub fn insert(&mut self, session: Session) -> Option<ConnId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == self.slots_max => return None,
            None => {
                self.slots.push(Slot::Free(0));
                self.slots.len() as u32 - 1
            }
        };
        let entry = &mut self.slots[slot as usize];
        let generation = match entry {
            Slot::Free(generation) => *generation,
            Slot::Taken(_) => unreachable!("a free slot is not taken"),
        };
        *entry = Slot::Taken(Connection { session, seat: None, check_bucket: 0, generation });
        Some(ConnId { slot, generation })
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.find(conn)?;
        let free = Slot::Free(conn.generation.wrapping_add(1));
        self.free.push(conn.slot);
        match std::mem::replace(&mut self.slots[conn.slot as usize], free) {
            Slot::Taken(connection) => Some(connection),
            Slot::Free(_) => None,
        }
    }

    /// The connection `conn`; `None`: it is gone.
    pub fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        match self.slots.get_mut(conn.slot as usize)? {
            Slot::Taken(connection) => {
                Some(connection).filter(|connection| connection.generation == conn.generation)
            }
            Slot::Free(_) => None,
        }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// But for what the connections own; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.free.allocated_bytes()
    }

    /// The connections in slots from `first` on, at most `count` slots; for walks in parts.
    pub fn in_slots(&self, first: usize, count: usize) -> impl Iterator<Item = (ConnId, &Connection)> {
        let slots = self.slots.iter().enumerate().skip(first).take(count);
        slots.filter_map(|(slot, entry)| {
            let connection = entry.connection()?;
            Some((ConnId { slot: slot as u32, generation: connection.generation }, connection))
        })
    }

    /// Number of slots in use or used before.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn session() -> Session {
        Session::handed_over(Instant::default())
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
}
