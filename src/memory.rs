//! Bytes of memory by what they are for. Each owner of memory says how much it has (`heap_bytes`). This file knows what
//! containers of the standard library take, and the sum.
//!
//! Capacities are counted, as they were asked of the allocator, which rounds them up. What several hold (`Arc`) is divided
//! equally among them, so that the sum over all holders counts it once.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

/// User memory of a shard, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryByPart {
    /// The table of connections, and what they own: channels, parts of messages and of request heads, deadlines.
    pub sessions: usize,
    /// What waits to be sent.
    pub outboxes: usize,
    /// Games: seats, positions, names, objects, history, rosters, timers.
    pub games: usize,
    /// Chat rooms: members, messages, timers.
    pub rooms: usize,
    /// Documents: members, texts, operations.
    pub documents: usize,
    /// Presence of all topics.
    pub presence: usize,
    /// Buffers of frames that are kept for the next ticks.
    pub frames: usize,
    /// TLS of connections, and records that are kept for the next ones. The core leaves it 0.
    pub tls: usize,
    /// Sockets, receive buffers and sends of the ring. The core leaves it 0.
    pub rings: usize,
    /// Queues from other threads, and what waits behind full ones. The core leaves it 0.
    pub mailboxes: usize,
}

impl MemoryByPart {
    /// The sum of all parts.
    pub fn total(&self) -> usize {
        let Self { sessions, outboxes, games, rooms, documents, presence, frames, tls, rings, mailboxes } =
            self;
        sessions + outboxes + games + rooms + documents + presence + frames + tls + rings + mailboxes
    }
}

/// A container of the standard library.
pub trait Allocated {
    /// What it has allocated for itself, in bytes. What its elements own comes on top.
    fn allocated_bytes(&self) -> usize;
}

impl<T> Allocated for Vec<T> {
    fn allocated_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl Allocated for String {
    fn allocated_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T> Allocated for VecDeque<T> {
    fn allocated_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T> Allocated for BinaryHeap<T> {
    fn allocated_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T: ?Sized> Allocated for Box<T> {
    fn allocated_bytes(&self) -> usize {
        size_of_val(&**self)
    }
}

impl<T: ?Sized> Allocated for Option<Box<T>> {
    fn allocated_bytes(&self) -> usize {
        self.as_ref().map_or(0, Box::allocated_bytes)
    }
}

impl<K, V> Allocated for BTreeMap<K, V> {
    fn allocated_bytes(&self) -> usize {
        tree_bytes(self.len(), size_of::<K>() + size_of::<V>())
    }
}

impl<K> Allocated for BTreeSet<K> {
    fn allocated_bytes(&self) -> usize {
        tree_bytes(self.len(), size_of::<K>())
    }
}

/// A holder's part of something shared, in bytes. `owned`: what it owns beyond itself.
pub fn shared_bytes<T: ?Sized>(shared: &Arc<T>, owned: usize) -> usize {
    (COUNTS_BYTES + size_of_val(&**shared) + owned) / Arc::strong_count(shared)
}

/// What an `Arc` has before its value.
pub const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// An estimate, because a tree does not tell its nodes. Each node has room for 11 entries, and those above the leaves for 12
/// pointers as well. Filled in ascending order, a leaf holds 6 entries and adds one to the node above it; in random order it
/// holds a few more.
fn tree_bytes(entries: usize, entry_bytes: usize) -> usize {
    const NODE_ENTRIES: usize = 11;
    const ENTRIES_PER_LEAF: usize = 7;
    const HEADER_BYTES: usize = 16;
    let leaf = HEADER_BYTES + NODE_ENTRIES * entry_bytes;
    let inner = leaf + (NODE_ENTRIES + 1) * size_of::<usize>();
    match entries {
        0 => 0,
        1..=NODE_ENTRIES => leaf,
        _ => {
            let leaves = entries.div_ceil(ENTRIES_PER_LEAF);
            leaves * leaf + leaves.div_ceil(ENTRIES_PER_LEAF) * inner
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_counted_once() {
        let shared: Arc<str> = "eight by".into();
        let holders = vec![shared; 4];
        assert_eq!(holders.iter().map(|holder| shared_bytes(holder, 0)).sum::<usize>(), 24);
        assert_eq!(holders.allocated_bytes(), 4 * 16);
    }
}
