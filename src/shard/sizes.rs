//! How much is in the tables and queues of a shard: tests compare it with the bounds, and with zero in the end.

use super::{Shard, outbox_bytes_max};
use crate::limits::OUTBOX_BURST;
use crate::session::Session;

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
    /// Questions of other parties that are not answered yet.
    pub inquiries: usize,
    /// Questions to the store that are not answered yet.
    pub asked: usize,
    /// Outputs that the rim has not taken yet.
    pub outputs: usize,
    /// Connections with messages that wait to be read.
    pub unread: usize,
    /// Reliable bytes that wait on one connection, at most.
    pub reliable_bytes_max: usize,
    /// Reliable bytes on one connection that its bound does not count, at most.
    pub exempt_bytes_max: usize,
    /// Open connections on which more waits than may, or more is exempt than waits.
    pub lanes_over_bound: usize,
    /// Connections whose lanes count their frames wrong.
    pub lanes_miscounted: usize,
    /// Connections on which more state frames wait than they have games.
    pub states_over_bound: usize,
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
        let sessions = || {
            let connections = self.connections.in_slots(0, self.connections.slots());
            connections.map(|(_, connection)| &connection.session)
        };
        let reliable = |session: &Session| session.outbox.reliable_bytes() as usize;
        let exempt = |session: &Session| session.outbox.exempt_bytes() as usize;
        let is_over_bound = |session: &&Session| {
            let bytes_max = (OUTBOX_BURST + 1) * outbox_bytes_max(session, &self.settings);
            session.is_open() && reliable(session) > exempt(session) + bytes_max
                || exempt(session) > reliable(session)
        };
        let has_too_many_states = |session: &&Session| {
            session.channels.as_ref().is_some_and(|channels| channels.states.count() > channels.all().len())
        };
        Sizes {
            connections: self.connections.len(),
            heads: self.heads.len(),
            games: self.topics.games(),
            rooms: self.topics.rooms(),
            topics_due: self.topics.due_count(),
            subscribed: self.subscribers.topics(),
            held_rates: self.held_rates.len(),
            inquiries: self.inquiries.len(),
            asked: self.asked.len() + self.not_asked.len(),
            outputs: self.outputs.len() + self.ready.len() + self.overflowed.len(),
            unread: self.unread.connections(),
            reliable_bytes_max: sessions().map(reliable).max().unwrap_or(0),
            exempt_bytes_max: sessions().map(exempt).max().unwrap_or(0),
            lanes_over_bound: sessions().filter(is_over_bound).count(),
            lanes_miscounted: sessions().filter(|session| !session.outbox.counts_right()).count(),
            states_over_bound: sessions().filter(has_too_many_states).count(),
        }
    }
}
