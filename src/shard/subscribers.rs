//! The members of topics that are connected to this shard, whichever shard owns the topic: the receivers of what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{ChannelNumber, ConnId, FrameNumber, Topic};
use crate::impossible;
use crate::memory::Allocated;
use crate::surplus::Surplus;
use crate::wire::format::Format;

/// A joined channel of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its connection.
    pub conn: ConnId,
    /// Which of the connection's channels.
    pub channel: ChannelNumber,
    /// The form of the messages to it.
    pub format: Format,
    /// The frame of its game that it was sent last; `None`: the next one must be whole.
    pub frame: Option<FrameNumber>,
}

impl Subscriber {
    /// What they are ordered by.
    pub fn key(&self) -> (ConnId, ChannelNumber) {
        (self.conn, self.channel)
    }
}

/// Subscribers by topic, those of each in order of connection and channel.
#[derive(Debug, Default)]
pub struct Subscribers(BTreeMap<Arc<Topic>, Vec<Subscriber>>);

impl Subscribers {
    /// The topic's shared name: channels of a shard hold the same one.
    pub fn shared(&self, topic: Topic) -> Arc<Topic> {
        match self.0.get_key_value(&topic) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(topic),
        }
    }

    /// A channel has joined.
    pub fn insert(&mut self, topic: &Arc<Topic>, subscriber: Subscriber) {
        let subscribers = self.0.entry(topic.clone()).or_insert_with(|| Vec::with_capacity(1));
        match subscribers.binary_search_by_key(&subscriber.key(), Subscriber::key) {
            Ok(place) => subscribers[place] = subscriber,
            Err(place) => subscribers.insert(place, subscriber),
        }
    }

    /// A channel has gone; one that has not joined is none of the subscribers.
    pub fn remove(&mut self, topic: &Topic, conn: ConnId, channel: ChannelNumber) {
        let Some(subscribers) = self.0.get_mut(topic) else { return };
        if let Ok(place) = subscribers.binary_search_by_key(&(conn, channel), Subscriber::key) {
            subscribers.remove(place);
            subscribers.give_back(0);
        }
        if subscribers.is_empty() {
            self.0.remove(topic);
        }
    }

    /// A channel, if it is a member.
    pub fn find(&mut self, topic: &Topic, conn: ConnId, channel: ChannelNumber) -> Option<&mut Subscriber> {
        let subscribers = self.0.get_mut(topic)?;
        let place = subscribers.binary_search_by_key(&(conn, channel), Subscriber::key).ok()?;
        Some(&mut subscribers[place])
    }

    /// Number of topics with members here.
    pub fn topics(&self) -> usize {
        self.0.len()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let lists = self.0.values().map(Vec::allocated_bytes).sum::<usize>();
        self.0.allocated_bytes() + lists + self.0.keys().map(Topic::shared_bytes).sum::<usize>()
    }

    /// The topic's subscribers, taken out while they are told something: put them back.
    pub fn take(&mut self, topic: &Topic) -> Vec<Subscriber> {
        self.0.get_mut(topic).map(std::mem::take).unwrap_or_default()
    }

    /// Puts back what was taken.
    pub fn put_back(&mut self, topic: &Topic, subscribers: Vec<Subscriber>) {
        match self.0.get_mut(topic) {
            Some(place) => *place = subscribers,
            None if subscribers.is_empty() => {}
            None => impossible!("nobody leaves while they are told something"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(slot: u32, channel: u16) -> Subscriber {
        let conn = ConnId { slot, generation: 0 };
        Subscriber { conn, channel: ChannelNumber(channel), format: Format::V2, frame: None }
    }

    #[test]
    fn subscribers_come_in_order_and_a_topic_without_any_is_forgotten() {
        let mut subscribers = Subscribers::default();
        let topic = subscribers.shared(Topic::parse("room:a").unwrap());
        for (slot, channel) in [(2, 1), (1, 7), (1, 2)] {
            subscribers.insert(&topic, subscriber(slot, channel));
        }
        assert!(Arc::ptr_eq(&topic, &subscribers.shared(Topic::parse("room:a").unwrap())));
        let taken = subscribers.take(&topic);
        assert_eq!(taken, [subscriber(1, 2), subscriber(1, 7), subscriber(2, 1)]);
        subscribers.put_back(&topic, taken);
        for (slot, channel) in [(2, 1), (1, 7), (3, 3), (1, 2)] {
            subscribers.remove(&topic, ConnId { slot, generation: 0 }, ChannelNumber(channel));
        }
        assert!(subscribers.0.is_empty());
    }
}
