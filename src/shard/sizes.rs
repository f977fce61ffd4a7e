//! How much is in the tables and queues of a shard: what a test compares with the bounds, and with nothing.

use super::Shard;

/// Numbers of entries, but where it says bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections.
    pub connections: usize,
    /// Request heads of which a part has come.
    pub heads: usize,
    /// Games.
    pub games: usize,
    /// Rooms, those without members included.
    pub rooms: usize,
    /// Times at which something is due in a topic.
    pub topics_due: usize,
    /// Topics with members on this shard.
    pub subscribed: usize,
    /// Rates of players whose seats are held.
    pub held_rates: usize,
    /// What the rim has not been told yet.
    pub outputs: usize,
    /// Reliable bytes that wait on one connection, at most.
    pub reliable_bytes_max: usize,
    /// Those of them that no bound of the connection counts, at most.
    pub exempt_bytes_max: usize,
}

impl Sizes {
    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Shard {
    /// Counts everything.
    pub fn sizes(&self) -> Sizes {
        let outboxes = || {
            let connections = self.connections.in_slots(0, self.connections.slots());
            connections.map(|(_, connection)| &connection.session.outbox)
        };
        Sizes {
            connections: self.connections.len(),
            heads: self.heads.len(),
            games: self.topics.games(),
            rooms: self.topics.rooms(),
            topics_due: self.topics.due_count(),
            subscribed: self.subscribers.topics(),
            held_rates: self.held_rates.len(),
            outputs: self.outputs.len() + self.ready.len() + self.overflowed.len(),
            reliable_bytes_max: outboxes().map(|outbox| outbox.reliable_bytes() as usize).max().unwrap_or(0),
            exempt_bytes_max: outboxes().map(|outbox| outbox.exempt_bytes() as usize).max().unwrap_or(0),
        }
    }
}
