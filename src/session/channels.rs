//! The topics of one connection: Phoenix' state table (PHOENIX 4), as far as it needs no topic to decide.
//!
//! A topic may live on another shard, so a join is answered later. Whatever comes from a topic names the channel by number:
//! a channel that is gone meanwhile, or was joined anew, is not confused with the present one.

use std::sync::Arc;

use super::rate_limit::Bucket;
use crate::ids::{ChannelNumber, Topic};
use crate::limits::CHANNELS_PER_CONNECTION_MAX;
use crate::wire::phoenix::{Message, Ref, Serializer};
use crate::wire::token::Claims;

/// See the module documentation.
#[derive(Debug)]
pub struct Channels {
    /// What the connection speaks.
    pub serializer: Serializer,
    /// User id, as long as no join brings another token.
    pub user: Box<str>,
    /// Display name.
    pub name: Box<str>,
    /// What the token of the connection grants; `None`: it came without one, or nobody needs one.
    pub claims: Option<Box<Claims>>,
    /// Joins.
    pub joins: Bucket,
    /// `presence_update`s.
    pub presence_updates: Bucket,
    channels: Vec<Channel>,
    next_number: u16,
}

/// One joined topic, or one that is being joined or left.
#[derive(Debug)]
pub struct Channel {
    /// The topic; shared with the shard's table of subscribers.
    pub topic: Arc<Topic>,
    /// Its number.
    pub number: ChannelNumber,
    /// Raw JSON token that names it on the wire.
    pub join_ref: Box<str>,
    /// Where it is in its life.
    pub state: ChannelState,
}

/// Where a channel is in its life.
#[derive(Debug)]
pub enum ChannelState {
    /// The topic has not answered yet.
    Joining {
        /// `join_ref` and `ref` of the join, as they came.
        answer_to: (Box<str>, Box<str>),
        /// The channel of the same topic that was joined before: it is closed behind the answer (PHOENIX 4 row 5).
        replaces: Option<Box<str>>,
    },
    /// It gets the topic's broadcasts.
    Joined,
    /// The topic has not answered `phx_leave` yet.
    Leaving {
        /// `ref` of the leave.
        reference: Box<str>,
    },
}

/// What is to be done with a message. Rows are those of PHOENIX 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Row 1: answered by the socket.
    Heartbeat,
    /// Rows 2 to 5: see `Channels::begin_join`.
    Join,
    /// Row 6: the topic answers.
    Leave(ChannelNumber),
    /// Row 8: `ok`, though there was nothing to leave.
    LeaveUnjoined,
    /// Row 9: for the topic.
    Push(ChannelNumber),
    /// Rows 7 and 10: it raced something.
    Stale,
    /// Row 11.
    Unmatched,
}

/// What becomes of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begun {
    /// Row 2.
    TooMany,
    /// Rows 3 and 5: ask the topic.
    Joining {
        /// The new channel.
        number: ChannelNumber,
        /// The channel that it takes the place of; the topic must be told that it left.
        replaced: Option<ChannelNumber>,
    },
}

impl Channels {
    /// A connection that has joined nothing.
    pub fn new(serializer: Serializer, user: Box<str>, name: Box<str>, claims: Option<Box<Claims>>) -> Self {
        Self {
            serializer,
            user,
            name,
            claims,
            joins: Bucket::default(),
            presence_updates: Bucket::default(),
            channels: Vec::new(),
            next_number: 0,
        }
    }

    /// Which row of the table a message falls under.
    pub fn route(&self, message: &Message<'_>) -> Routed {
        if message.topic == "phoenix" && message.event == "heartbeat" {
            return Routed::Heartbeat;
        }
        if message.event == "phx_join" {
            return Routed::Join;
        }
        let joined = self.current(&message.topic);
        let fits = |channel: &Channel| {
            message.join_ref.names_nothing() || *channel.join_ref == *message.join_ref.as_str()
        };
        match (&*message.event, joined) {
            ("phx_leave", None) => Routed::LeaveUnjoined,
            ("phx_leave", Some(channel)) if fits(channel) => Routed::Leave(channel.number),
            (_, Some(channel)) if fits(channel) => Routed::Push(channel.number),
            (_, Some(_)) => Routed::Stale,
            (_, None) => Routed::Unmatched,
        }
    }

    /// Begins to join `topic`, which exists.
    pub fn begin_join(&mut self, topic: Arc<Topic>, join_ref: &Ref<'_>, reference: &Ref<'_>) -> Begun {
        let old = self.channels.iter().position(|channel| channel.is_current() && channel.topic == topic);
        if old.is_none() && self.channels.len() >= CHANNELS_PER_CONNECTION_MAX {
            return Begun::TooMany;
        }
        let replaced = old.map(|index| self.channels.remove(index));
        let replaces = replaced.as_ref().and_then(Channel::replaced_name);
        let number = self.free_number();
        let name = if join_ref.names_nothing() { reference } else { join_ref };
        if self.channels.len() == self.channels.capacity() {
            // Most connections join one topic, or a few.
            self.channels.reserve_exact(1 + self.channels.len() / 2);
        }
        self.channels.push(Channel {
            topic,
            number,
            join_ref: name.as_str().into(),
            state: ChannelState::Joining {
                answer_to: (join_ref.as_str().into(), reference.as_str().into()),
                replaces,
            },
        });
        Begun::Joining { number, replaced: replaced.map(|channel| channel.number) }
    }

    /// The channel with this number; `None`: it is gone.
    pub fn find(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.number == number)
    }

    /// Removes a channel.
    pub fn remove(&mut self, number: ChannelNumber) -> Option<Channel> {
        let index = self.channels.iter().position(|channel| channel.number == number)?;
        Some(self.channels.remove(index))
    }

    /// Every channel, in the order of the joins.
    pub fn all(&self) -> &[Channel] {
        &self.channels
    }

    /// The channel that messages for `topic` go to: not one that is being left.
    fn current(&self, topic: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.is_current() && channel.is_for(topic))
    }

    fn free_number(&mut self) -> ChannelNumber {
        loop {
            self.next_number = self.next_number.wrapping_add(1);
            let number = ChannelNumber(self.next_number);
            if self.channels.iter().all(|channel| channel.number != number) {
                return number;
            }
        }
    }
}

impl Channel {
    fn is_current(&self) -> bool {
        !matches!(self.state, ChannelState::Leaving { .. })
    }

    /// Whether it is joined to the topic that is written so.
    fn is_for(&self, text: &str) -> bool {
        let (kind, name) = match &*self.topic {
            Topic::Game(name) => ("game:", name),
            Topic::Room(name) => ("room:", name),
        };
        text.strip_prefix(kind).is_some_and(|rest| rest == name.as_str())
    }

    /// What the client must be told is closed when another channel takes this one's place. A join that was never answered
    /// has its predecessor's name to pass on.
    fn replaced_name(&self) -> Option<Box<str>> {
        match &self.state {
            ChannelState::Joining { replaces, .. } => replaces.clone(),
            ChannelState::Joined | ChannelState::Leaving { .. } => Some(self.join_ref.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> Channels {
        Channels::new(Serializer::V2, "ann".into(), "Ann".into(), None)
    }

    fn message(text: &str) -> Message<'_> {
        Serializer::V2.decode_text(text).unwrap()
    }

    fn topic(text: &str) -> Arc<Topic> {
        Arc::new(Topic::parse(text).unwrap())
    }

    fn join(channels: &mut Channels, text: &str) -> Begun {
        let message = message(text);
        assert_eq!(channels.route(&message), Routed::Join);
        channels.begin_join(topic(&message.topic), &message.join_ref, &message.reference)
    }

    fn joined(channels: &mut Channels, text: &str) -> ChannelNumber {
        let Begun::Joining { number, .. } = join(channels, text) else { panic!("{text}") };
        channels.find(number).unwrap().state = ChannelState::Joined;
        number
    }

    #[test]
    fn messages_fall_under_the_rows_of_the_table() {
        let mut channels = channels();
        let number = joined(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        for (text, routed) in [
            (r#"[null,"5","phoenix","heartbeat",{}]"#, Routed::Heartbeat),
            (r#"["3","4","room:1","msg",{}]"#, Routed::Push(number)),
            (r#"[null,"4","room:1","msg",{}]"#, Routed::Push(number)),
            (r#"["","4","room:1","msg",{}]"#, Routed::Push(number)),
            (r#"["2","4","room:1","msg",{}]"#, Routed::Stale),
            (r#"[3,"4","room:1","msg",{}]"#, Routed::Stale),
            (r#"["3","4","room:2","msg",{}]"#, Routed::Unmatched),
            (r#"["3","4","phoenix","msg",{}]"#, Routed::Unmatched),
            (r#"["3","4","room:1","phx_leave",{}]"#, Routed::Leave(number)),
            (r#"["2","4","room:1","phx_leave",{}]"#, Routed::Stale),
            (r#"["2","4","nope:1","phx_leave",{}]"#, Routed::LeaveUnjoined),
        ] {
            assert_eq!(channels.route(&message(text)), routed, "{text}");
        }
    }

    #[test]
    fn a_topic_joined_twice_has_one_channel_and_the_first_is_named_for_its_close() {
        let mut channels = channels();
        let first = joined(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        let second = join(&mut channels, r#"["7","8","room:1","phx_join",{}]"#);
        let Begun::Joining { number, replaced } = second else { panic!("{second:?}") };
        assert_eq!(replaced, Some(first));
        // A third join before the second is answered still closes the first.
        let third = join(&mut channels, r#"[null,"9","room:1","phx_join",{}]"#);
        let Begun::Joining { number: last, replaced } = third else { panic!("{third:?}") };
        assert_eq!(replaced, Some(number));
        let channel = channels.find(last).unwrap();
        assert_eq!(&*channel.join_ref, "\"9\"", "without a join_ref the ref names it");
        let ChannelState::Joining { answer_to, replaces } = &channel.state else { panic!("{channel:?}") };
        assert_eq!((&*answer_to.0, &*answer_to.1, replaces.as_deref()), ("null", "\"9\"", Some("\"3\"")));
        assert_eq!(channels.all().len(), 1);
    }

    #[test]
    fn what_is_being_left_can_be_joined_again() {
        let mut channels = channels();
        let first = joined(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        channels.find(first).unwrap().state = ChannelState::Leaving { reference: "\"4\"".into() };
        assert_eq!(channels.route(&message(r#"["3","5","room:1","phx_leave",{}]"#)), Routed::LeaveUnjoined);
        let again = join(&mut channels, r#"["6","6","room:1","phx_join",{}]"#);
        assert!(matches!(again, Begun::Joining { replaced: None, .. }), "{again:?}");
        assert_eq!(channels.remove(first).map(|channel| channel.number), Some(first));
        assert!(channels.remove(first).is_none());
    }

    #[test]
    fn the_hundred_and_first_topic_is_one_too_many() {
        let mut channels = channels();
        for n in 0..CHANNELS_PER_CONNECTION_MAX {
            joined(&mut channels, &format!(r#"["{n}","{n}","room:{n}","phx_join",{{}}]"#));
        }
        assert_eq!(join(&mut channels, r#"["x","x","room:x","phx_join",{}]"#), Begun::TooMany);
        let again = join(&mut channels, r#"["y","y","room:5","phx_join",{}]"#);
        assert!(matches!(again, Begun::Joining { replaced: Some(_), .. }), "{again:?}");
    }
}
