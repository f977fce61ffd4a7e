//! The topics of one connection: Phoenix' state table (PHOENIX 4), as far as it needs no topic to decide.
//!
//! A topic may live on another shard, so a join is answered later. Whatever comes from a topic names the channel by number:
//! a channel that is gone meanwhile, or was joined anew, is not confused with the present one.

use std::sync::Arc;

use super::NEVER_EXPIRES;
use super::outbox::States;
use super::rate_limit::{Bucket, Signatures};
use crate::ids::{ChannelNumber, Topic};
use crate::limits::CHANNELS_PER_CONNECTION_MAX;
use crate::memory::Allocated;
use crate::reasons::PushRateClass;
use crate::time::Instant;
use crate::wire::format::Format;
use crate::wire::layout::Layout;
use crate::wire::phoenix::{Message, Ref, Serializer};
use crate::wire::token::CheckedToken;

/// See the module documentation.
#[derive(Debug)]
pub struct Channels {
    /// What the connection speaks.
    pub serializer: Serializer,
    /// User id, as long as no join brings another token.
    pub user: Box<str>,
    /// Display name.
    pub name: Box<str>,
    /// The token of the connection; `None`: it came without one, or nobody needs one.
    pub token: Option<Arc<CheckedToken>>,
    /// A frame of some game was skipped: the whole state is asked for when the outbox is free.
    pub stale: bool,
    /// The connection came without a token where one is needed, so it may not stay without a topic.
    must_join: bool,
    /// By then it must have joined a topic; `NEVER`: it has, or need not.
    pub join_by: Instant,
    /// The newest states of its games.
    pub states: States,
    /// Rate of joins.
    pub joins: Bucket,
    /// Rates of pushes, by class.
    pub pushes: [Bucket; PushRateClass::COUNT],
    /// How many signatures of tokens may still be checked.
    pub signatures: Signatures,
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
    /// User id, if the join brought a token of another user than the connection's.
    pub user: Option<Box<str>>,
    /// `exp` of the token that grants it, in unix seconds: it counts for the connection once the topic has taken the channel in.
    pub expires_at_s: u32,
    /// The token that its join brought, if that grants it and is not too long to be kept: the next join with it needs no check.
    pub token: Option<Arc<CheckedToken>>,
    /// The form of the messages to it.
    pub format: Format,
    /// Of what its game's records consist.
    pub layout: Layout,
    /// Where it is in its life.
    pub state: ChannelState,
}

/// Where a channel is in its life.
#[derive(Debug)]
pub enum ChannelState {
    /// The topic has not answered yet.
    Joining {
        /// The join to answer.
        join: UnansweredJoin,
    },
    /// It gets the topic's broadcasts.
    Joined,
    /// The same topic was joined anew before this join was answered. The topic has been told that it left.
    Replaced {
        /// The join to answer.
        join: UnansweredJoin,
    },
    /// The topic has not answered `phx_leave` yet.
    Leaving {
        /// `ref` of the leave.
        reference: Box<str>,
        /// The unanswered join, if it was left before the answer.
        join: Option<UnansweredJoin>,
    },
}

/// A join that its topic has not answered yet.
#[derive(Debug)]
pub struct UnansweredJoin {
    /// `join_ref`, as it came.
    pub join_ref: Box<str>,
    /// `ref`, as it came.
    pub reference: Box<str>,
    /// The channel of the same topic that was joined before: it is closed behind the answer (PHOENIX 4 row 5).
    pub replaces: Option<Box<str>>,
}

impl UnansweredJoin {
    fn heap_bytes(&self) -> usize {
        self.join_ref.allocated_bytes() + self.reference.allocated_bytes() + self.replaces.allocated_bytes()
    }
}

/// Who handles a message. Rows are those of PHOENIX 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Row 1: answered by the socket.
    Heartbeat,
    /// Rows 2 to 5: see `Channels::have_room_for` and `begin_join`.
    Join,
    /// Row 6: the topic answers.
    Leave(ChannelNumber),
    /// Row 8: `ok`, though there was nothing to leave.
    LeaveUnjoined,
    /// Row 9: for the topic.
    Push(ChannelNumber),
    /// Rows 7 and 10: its membership has ended meanwhile.
    Stale,
    /// Row 11.
    Unmatched,
}

/// A join that has begun (rows 3 and 5): its topic is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Joining {
    /// The new channel.
    pub number: ChannelNumber,
    /// The channel that it takes the place of; the topic must be told that it left.
    pub replaced: Option<Superseded>,
}

/// A channel whose place another one has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// Its number.
    pub number: ChannelNumber,
    /// Its join is still to be answered: it stays until then.
    pub unanswered: bool,
}

impl Channels {
    /// A connection that has joined nothing, and need not.
    pub fn new(
        serializer: Serializer,
        user: Box<str>,
        name: Box<str>,
        token: Option<Arc<CheckedToken>>,
    ) -> Self {
        Self {
            serializer,
            user,
            name,
            token,
            stale: false,
            must_join: false,
            join_by: Instant::NEVER,
            states: States::default(),
            joins: Bucket::default(),
            pushes: [Bucket::default(); PushRateClass::COUNT],
            signatures: Signatures::default(),
            channels: Vec::new(),
            next_number: 0,
        }
    }

    /// A connection without a token, where one is needed: it must have joined something at `join_by`.
    pub fn must_join(self, join_by: Instant) -> Self {
        Self { must_join: true, join_by, ..self }
    }

    /// A channel has ended. If it was the last one, and the connection must have one, it has until `join_by` for another.
    pub fn channel_ended(&mut self, join_by: Instant) {
        if self.must_join && self.channels.is_empty() {
            self.join_by = join_by;
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

    /// Whether one more channel, of `topic`, may be joined (row 2).
    pub fn have_room_for(&self, topic: &Topic) -> bool {
        let joined = self.channels.iter().filter(|channel| channel.is_current()).count();
        let is_joined = self.channels.iter().any(|channel| channel.is_current() && *channel.topic == *topic);
        // Those that are being left, or wait for the answer to an overtaken join, are bounded as well.
        (is_joined || joined < CHANNELS_PER_CONNECTION_MAX)
            && self.channels.len() < 2 * CHANNELS_PER_CONNECTION_MAX
    }

    /// Begins to join `topic`, which exists, and for which there is room.
    pub fn begin_join(
        &mut self,
        topic: Arc<Topic>,
        format: Format,
        join_ref: &Ref<'_>,
        reference: &Ref<'_>,
    ) -> Joining {
        let (replaced, replaces) = self.supersede(&topic).unzip();
        let number = self.free_number();
        let name = if join_ref.names_nothing() { reference } else { join_ref };
        // The join was granted, so this is no stranger. Should the topic refuse the join, the time begins anew.
        self.join_by = Instant::NEVER;
        if self.channels.len() == self.channels.capacity() {
            // Most connections join one topic, or a few.
            self.channels.reserve_exact(1 + self.channels.len() / 2);
        }
        self.channels.push(Channel {
            topic,
            number,
            join_ref: name.as_str().into(),
            user: None,
            expires_at_s: NEVER_EXPIRES,
            token: None,
            format,
            layout: Layout::PLAIN,
            state: ChannelState::Joining {
                join: UnansweredJoin {
                    join_ref: join_ref.as_str().into(),
                    reference: reference.as_str().into(),
                    replaces,
                },
            },
        });
        Joining { number, replaced }
    }

    /// Ends the present channel of `topic`, because the topic was joined anew. Returns which channel it was, and its `join_ref`,
    /// by which the client is told that it is closed. `None`: there is none.
    pub fn supersede(&mut self, topic: &Topic) -> Option<(Superseded, Box<str>)> {
        let is_it = |channel: &Channel| channel.has_messages() && *channel.topic == *topic;
        let index = self.channels.iter().position(is_it)?;
        let channel = &mut self.channels[index];
        let (number, name) = (channel.number, channel.join_ref.clone());
        match std::mem::replace(&mut channel.state, ChannelState::Joined) {
            ChannelState::Joining { join } => {
                channel.state = ChannelState::Replaced { join };
                Some((Superseded { number, unanswered: true }, name))
            }
            ChannelState::Joined | ChannelState::Replaced { .. } | ChannelState::Leaving { .. } => {
                self.channels.remove(index);
                Some((Superseded { number, unanswered: false }, name))
            }
        }
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

    /// The token with this text, if one of the channels was granted by it.
    pub fn token_of_channel(&self, text: &str) -> Option<&Arc<CheckedToken>> {
        let tokens = self.channels.iter().filter_map(|channel| channel.token.as_ref());
        tokens.into_iter().find(|token| token.text() == text)
    }

    /// Whether the connection, or one of its channels, belongs to `user`.
    pub fn are_of(&self, user: &str) -> bool {
        let joined_as = |channel: &Channel| channel.user.as_deref() == Some(user);
        *self.user == *user || self.channels.iter().any(joined_as)
    }

    /// Every channel, in the order of the joins.
    pub fn all(&self) -> &[Channel] {
        &self.channels
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let token = self.token.as_ref().map_or(0, CheckedToken::shared_bytes);
        let names = self.user.allocated_bytes() + self.name.allocated_bytes() + token;
        let channels = self.channels.iter().map(Channel::heap_bytes).sum::<usize>();
        names + self.states.heap_bytes() + self.channels.allocated_bytes() + channels
    }

    /// The channel that messages for `topic` go to: neither one that is being left, nor one of native records.
    fn current(&self, topic: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.has_messages() && channel.topic.is_written(topic))
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
        matches!(self.state, ChannelState::Joining { .. } | ChannelState::Joined)
    }

    /// Whether the channel is current and its client speaks Phoenix messages, not records.
    fn has_messages(&self) -> bool {
        self.is_current() && self.format != Format::Native
    }

    fn heap_bytes(&self) -> usize {
        let state = match &self.state {
            ChannelState::Joining { join } | ChannelState::Replaced { join } => join.heap_bytes(),
            ChannelState::Joined => 0,
            ChannelState::Leaving { reference, join } => {
                reference.allocated_bytes() + join.as_ref().map_or(0, UnansweredJoin::heap_bytes)
            }
        };
        Topic::shared_bytes(&self.topic)
            + self.join_ref.allocated_bytes()
            + self.user.allocated_bytes()
            + self.token.as_ref().map_or(0, CheckedToken::shared_bytes)
            + state
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

    fn join(channels: &mut Channels, text: &str) -> Joining {
        let message = message(text);
        assert_eq!(channels.route(&message), Routed::Join);
        channels.begin_join(topic(&message.topic), Format::V2, &message.join_ref, &message.reference)
    }

    fn joined(channels: &mut Channels, text: &str) -> ChannelNumber {
        let Joining { number, .. } = join(channels, text);
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
    fn who_must_join_has_time_while_it_joins_and_again_when_nothing_is_left() {
        let (first, again) = (Instant::from_micros(1), Instant::from_micros(2));
        let mut channels = channels().must_join(first);
        assert_eq!(channels.join_by, first);
        let Joining { number, .. } = join(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        assert_eq!(channels.join_by, Instant::NEVER, "its topic has not answered yet");
        let other = joined(&mut channels, r#"["4","4","room:2","phx_join",{}]"#);
        for (ended, join_by) in [(number, Instant::NEVER), (other, again)] {
            channels.remove(ended).unwrap();
            channels.channel_ended(again);
            assert_eq!(channels.join_by, join_by);
        }
        let mut welcome = self::channels();
        let number = joined(&mut welcome, r#"["3","3","room:1","phx_join",{}]"#);
        welcome.remove(number).unwrap();
        welcome.channel_ended(again);
        assert_eq!(welcome.join_by, Instant::NEVER, "it need not");
    }

    #[test]
    fn a_topic_joined_twice_has_one_channel_and_the_first_is_named_for_its_close() {
        let mut channels = channels();
        let first = joined(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        let Joining { number, replaced } = join(&mut channels, r#"["7","8","room:1","phx_join",{}]"#);
        assert_eq!(replaced, Some(Superseded { number: first, unanswered: false }));
        // A third join before the second is answered: the second is answered all the same, then closed.
        let Joining { number: last, replaced } = join(&mut channels, r#"[null,"9","room:1","phx_join",{}]"#);
        assert_eq!(replaced, Some(Superseded { number, unanswered: true }));
        let ChannelState::Replaced { join } = &channels.find(number).unwrap().state else { panic!() };
        assert_eq!((&*join.reference, join.replaces.as_deref()), ("\"8\"", Some("\"3\"")));
        let channel = channels.find(last).unwrap();
        assert_eq!(&*channel.join_ref, "\"9\"", "without a join_ref the ref names it");
        let ChannelState::Joining { join } = &channel.state else { panic!("{channel:?}") };
        assert_eq!(
            (&*join.join_ref, &*join.reference, join.replaces.as_deref()),
            ("null", "\"9\"", Some("\"7\""))
        );
        assert_eq!(channels.all().len(), 2);
    }

    #[test]
    fn what_is_being_left_can_be_joined_again() {
        let mut channels = channels();
        let first = joined(&mut channels, r#"["3","3","room:1","phx_join",{}]"#);
        channels.find(first).unwrap().state = ChannelState::Leaving { reference: "\"4\"".into(), join: None };
        assert_eq!(channels.route(&message(r#"["3","5","room:1","phx_leave",{}]"#)), Routed::LeaveUnjoined);
        let again = join(&mut channels, r#"["6","6","room:1","phx_join",{}]"#);
        assert!(matches!(again, Joining { replaced: None, .. }), "{again:?}");
        assert_eq!(channels.remove(first).map(|channel| channel.number), Some(first));
        assert!(channels.remove(first).is_none());
    }

    #[test]
    fn the_hundred_and_first_topic_is_one_too_many() {
        let mut channels = channels();
        for n in 0..CHANNELS_PER_CONNECTION_MAX {
            joined(&mut channels, &format!(r#"["{n}","{n}","room:{n}","phx_join",{{}}]"#));
        }
        assert!(!channels.have_room_for(&topic("room:x")));
        assert!(channels.have_room_for(&topic("room:5")), "it takes the place of the one that is there");
        let again = join(&mut channels, r#"["y","y","room:5","phx_join",{}]"#);
        assert!(matches!(again, Joining { replaced: Some(_), .. }), "{again:?}");
    }
}
