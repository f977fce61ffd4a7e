//! Messages of Phoenix clients: what the socket answers itself, and what goes to the topics.

use std::sync::Arc;
use std::time::Duration;

use super::peer::{Action, TopicRequest};
use super::{Next, Shard};
use crate::ids::{Address, ChannelNumber, ConnId};
use crate::impossible;
use crate::limits::PAGE_RATE;
use crate::planted;
use crate::reasons::{CloseReason, PushRateClass, RateClass};
use crate::room::request::Departure;
use crate::session::channels::{ChannelState, Channels, Routed};
use crate::session::rate_limit::Verdict;
use crate::session::{Dialect, Lifecycle};
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::phoenix::answers::{over_rate, rate_limited, reason};
use crate::wire::phoenix::{Event, Head, Malformed, Message, Serializer, Status, Unreadable};
use crate::wire::push::{Push, PushClass, PushEvent};
use crate::wire::token::CheckedToken;

impl Shard {
    /// A text message of a client that speaks Phoenix Channels.
    pub(super) fn handle_text(&mut self, conn: ConnId, text: &str, now: Now) -> Next {
        let decoded = self.serializer_of(conn).decode_text(text);
        self.handle_decoded(conn, decoded, now)
    }

    /// A binary message of a client that speaks Phoenix Channels.
    pub(super) fn handle_binary(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Next {
        let decoded = self.serializer_of(conn).decode_binary(bytes);
        self.handle_decoded(conn, decoded, now)
    }

    fn serializer_of(&mut self, conn: ConnId) -> Serializer {
        self.channels(conn).map_or(Serializer::V2, |channels| channels.serializer)
    }

    fn handle_decoded(
        &mut self,
        conn: ConnId,
        decoded: Result<Message<'_>, Unreadable<'_>>,
        now: Now,
    ) -> Next {
        match decoded {
            Ok(message) => self.handle_phoenix(conn, &message, now),
            Err(Unreadable { why, head }) => {
                self.metrics.messages_malformed.increment();
                match head {
                    Some(head) => self.refuse_unreadable(conn, why, &head, now),
                    None => self.handle_no_message(conn, why, now),
                }
            }
        }
    }

    /// One bad string costs its message, not the topics of the connection: clients that come back by themselves would say it
    /// again at once, for ever. Answers have the rate of events.
    fn refuse_unreadable(&mut self, conn: ConnId, why: Malformed, head: &Head<'_>, now: Now) -> Next {
        let serializer = self.serializer_of(conn);
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        match connection.session.rates.admit(RateClass::Event, &self.settings.rates, now.instant) {
            Verdict::Admitted if head.reference.is_null() => {}
            Verdict::Admitted => {
                let (join_ref, reference) = (head.join_ref.as_str(), head.reference.as_str());
                let response = reason(&why.to_string());
                let reply = serializer.reply(join_ref, reference, &head.topic, Status::Error, &response);
                self.push(conn, reply);
            }
            Verdict::Dropped { .. } => self.metrics.rate_limited[RateClass::Event.index()].increment(),
            Verdict::Abuse => {
                self.metrics.rate_limited[RateClass::Event.index()].increment();
                self.close(conn, CloseReason::Abuse, now);
                return Next::Stop;
            }
        }
        Next::GoOn
    }

    /// Bytes that are no message have no topic to be answered on. A player is told by a record; any other connection is closed.
    fn handle_no_message(&mut self, conn: ConnId, why: Malformed, now: Now) -> Next {
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        if matches!(connection.session.lifecycle, Lifecycle::Open(Dialect::Native)) {
            let text = format!("native records are binary messages; text is Phoenix V2: {why}");
            return self.handle_malformed(conn, &text, now);
        }
        self.close(conn, CloseReason::Malformed, now);
        Next::Stop
    }

    fn handle_phoenix(&mut self, conn: ConnId, message: &Message<'_>, now: Now) -> Next {
        self.metrics.messages_in.increment();
        self.ensure_channels(conn);
        let Some(channels) = self.channels(conn) else {
            impossible!("who is listened to has channels");
            return Next::Stop;
        };
        let serializer = channels.serializer;
        let (join_ref, reference) = (message.join_ref.as_str(), message.reference.as_str());
        let reply = |join_ref, status, response| {
            serializer.reply(join_ref, reference, &message.topic, status, response)
        };
        let answer = match channels.route(message) {
            Routed::Heartbeat => reply("null", Status::Ok, "{}"),
            Routed::LeaveUnjoined => reply(join_ref, Status::Ok, "{}"),
            Routed::Unmatched => reply("null", Status::Error, UNMATCHED),
            Routed::Stale => {
                self.metrics.messages_stale.increment();
                return Next::GoOn;
            }
            Routed::Join => return self.join_topic(conn, message, now),
            Routed::Leave(number) => {
                self.begin_leave(conn, number, reference, now);
                return Next::GoOn;
            }
            Routed::Push(number) => return self.push_to_topic(conn, number, message, now),
        };
        self.push(conn, answer);
        Next::GoOn
    }

    /// A channel has ended, and has left its connection's list. The connection goes on; perhaps it must join another topic.
    pub(super) fn channel_ended(&mut self, conn: ConnId, now: Now) {
        self.metrics.channels.subtract(1);
        let join_by = now.instant + self.settings.clients.socket_join_timeout;
        let Some(channels) = self.channels(conn) else {
            return impossible!("whose channel ends has channels");
        };
        channels.channel_ended(join_by);
        if channels.join_by != Instant::NEVER {
            self.schedule_check(conn, now);
        }
    }

    // ── Leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn begin_leave(&mut self, conn: ConnId, number: ChannelNumber, reference: &str, now: Now) {
        let Some(channel) = self.channels(conn).and_then(|channels| channels.find(number)) else {
            return impossible!("a message is routed to a channel that is there");
        };
        let reference = reference.into();
        channel.state = match std::mem::replace(&mut channel.state, ChannelState::Joined) {
            ChannelState::Joining { join } => ChannelState::Leaving { reference, join: Some(join) },
            ChannelState::Joined => ChannelState::Leaving { reference, join: None },
            // No message is routed to such a channel.
            gone @ (ChannelState::Leaving { .. } | ChannelState::Replaced { .. }) => gone,
        };
        let topic = channel.topic.clone();
        let from = self.address(conn, number);
        self.request(TopicRequest { topic, from, action: Action::Leave(Departure::Asked) }, now);
    }

    /// The connection ends: its topics lose a member each.
    pub(super) fn leave_all(
        &mut self,
        conn: ConnId,
        channels: Option<Box<Channels>>,
        departure: Departure,
        now: Now,
    ) {
        let Some(channels) = channels else { return };
        for channel in channels.all() {
            self.metrics.channels.subtract(1);
            self.unsubscribe(&channel.topic, conn, channel.number);
            if planted!(KeepsLost) && departure == Departure::Lost {
                continue;
            }
            let from = self.address(conn, channel.number);
            let action = Action::Leave(departure);
            self.request(TopicRequest { topic: channel.topic.clone(), from, action }, now);
        }
    }

    // ── Pushing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn push_to_topic(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        message: &Message<'_>,
        now: Now,
    ) -> Next {
        let Some(channel) = self.channels(conn).and_then(|channels| channels.find(number)) else {
            impossible!("a message is routed to a channel that is there");
            return Next::GoOn;
        };
        let topic = channel.topic.clone();
        let (class, event) = PushEvent::parse(&topic, &channel.layout, message);
        let reference = (!message.reference.is_null()).then(|| Box::from(message.reference.as_str()));
        if let Some(next) = self.charge_push(conn, number, class, reference.as_deref(), now) {
            return next;
        }
        let action = Action::Push(Push { reference, event });
        self.request(TopicRequest { topic, from: self.address(conn, number), action }, now);
        Next::GoOn
    }

    /// Takes the tokens of a push; `Some`: there were too few, and this is how it goes on.
    fn charge_push(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        class: PushClass,
        reference: Option<&str>,
        now: Now,
    ) -> Option<Next> {
        match class {
            PushClass::Move | PushClass::State { moves: true, objects: 0 } => {
                self.charge(conn, number, RateClass::Move, 1, now).map(Dropped::next)
            }
            PushClass::State { moves: false, objects } => {
                self.charge(conn, number, RateClass::Object, objects.max(1), now).map(Dropped::next)
            }
            PushClass::State { moves: true, objects } => {
                let rates = &mut self.connections.find(conn)?.session.rates;
                let has_move = rates.has(RateClass::Move, 1, &self.settings.rates, now.instant);
                let (objects, step) = ((RateClass::Object, objects), (RateClass::Move, 1));
                // A state is dropped as a whole: where one of the two is lacking, neither is charged.
                let charges = if has_move { [objects, step] } else { [step, objects] };
                let dropped = |(class, cost)| self.charge(conn, number, class, cost, now);
                charges.into_iter().find_map(dropped).map(Dropped::next)
            }
            PushClass::Presence => {
                self.charge_of_its_own(conn, number, PushRateClass::Presence, reference, now)
            }
            PushClass::Page => self
                .charge_events(conn, number, 1, reference, now)
                .or_else(|| self.charge_of_its_own(conn, number, PushRateClass::Page, reference, now)),
            PushClass::Operation => {
                self.charge_of_its_own(conn, number, PushRateClass::Operation, reference, now)
            }
            PushClass::Cursor => self.charge_of_its_own(conn, number, PushRateClass::Cursor, reference, now),
            PushClass::Event => self.charge_events(conn, number, 1, reference, now),
            PushClass::Who { tokens } => self.charge_events(conn, number, tokens, reference, now),
        }
    }

    fn charge_events(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        count: u32,
        reference: Option<&str>,
        now: Now,
    ) -> Option<Next> {
        let dropped = self.charge(conn, number, RateClass::Event, count, now)?;
        // Moves are never answered.
        if let (Dropped::Until(wait), Some(reference)) = (&dropped, reference) {
            self.reply_on(conn, number, reference, Status::Error, &over_rate(*wait));
        }
        Some(dropped.next())
    }

    /// Takes `cost` tokens of a class; `Some`: there were too few.
    fn charge(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        class: RateClass,
        cost: u32,
        now: Now,
    ) -> Option<Dropped> {
        let connection = self.connections.find(conn)?;
        match connection.session.rates.admit_many(class, cost, &self.settings.rates, now.instant) {
            Verdict::Admitted => None,
            Verdict::Dropped { retry_after, tell } => {
                self.metrics.rate_limited[class.index()].increment();
                if tell {
                    let payload = rate_limited(class.label(), retry_after);
                    self.push_on(conn, number, Event::RateLimited, &payload);
                }
                Some(Dropped::Until(retry_after))
            }
            Verdict::Abuse => {
                self.metrics.rate_limited[class.index()].increment();
                self.close(conn, CloseReason::Abuse, now);
                Some(Dropped::Closed)
            }
        }
    }

    /// Takes a token of a class that only pushes have.
    fn charge_of_its_own(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        class: PushRateClass,
        reference: Option<&str>,
        now: Now,
    ) -> Option<Next> {
        let rate = match class {
            PushRateClass::Presence => self.settings.rates.presence,
            PushRateClass::Page => PAGE_RATE.into(),
            PushRateClass::Operation => self.settings.rates.operations,
            PushRateClass::Cursor => self.settings.rates.cursors,
        };
        let bucket = &mut self.channels(conn)?.pushes[class.index()];
        let wait = bucket.admit(rate, now.instant).err()?;
        if bucket.is_abused(rate) {
            self.close(conn, CloseReason::Abuse, now);
            return Some(Next::Stop);
        }
        if bucket.tell(now.instant) {
            self.push_on(conn, number, Event::RateLimited, &rate_limited(class.label(), wait));
        }
        if let Some(reference) = reference {
            self.reply_on(conn, number, reference, Status::Error, &over_rate(wait));
        }
        Some(Next::GoOn)
    }

    // ── What the parts share ────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn channels(&mut self, conn: ConnId) -> Option<&mut Channels> {
        self.connections.find(conn)?.session.channels.as_deref_mut()
    }

    pub(super) fn address(&self, conn: ConnId, channel: ChannelNumber) -> Address {
        Address { shard: self.id, channel, conn }
    }

    /// A player that sends its first text becomes a Phoenix client as well.
    fn ensure_channels(&mut self, conn: ConnId) {
        if self.channels(conn).is_none() {
            self.open_channels_of_player(conn, None);
        }
    }

    /// A player speaks Phoenix Channels under the name that it plays under.
    pub(super) fn open_channels_of_player(&mut self, conn: ConnId, token: Option<Arc<CheckedToken>>) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let Some(seat) = connection.seat else {
            return impossible!("who speaks the native dialect has a seat");
        };
        let Some(seat) = self.topics.game(seat.game).and_then(|game| game.seats().seat(seat.seat)) else {
            return impossible!("a seat is in a game");
        };
        let channels = Channels::new(Serializer::V2, seat.user().into(), seat.name().into(), token);
        connection.session.channels = Some(Box::new(channels));
    }

    /// Tells every joined topic of a connection something that concerns the connection.
    pub(super) fn push_on_all(&mut self, conn: ConnId, event: Event, payload: &str) {
        let Some(channels) = self.channels(conn) else { return };
        let serializer = channels.serializer;
        let joined = channels.all().iter().filter(|channel| matches!(channel.state, ChannelState::Joined));
        let frames: Vec<Encoded> = joined
            .map(|channel| serializer.push(&channel.join_ref, &channel.topic.to_string(), event, payload))
            .collect();
        for frame in frames {
            self.push(conn, frame);
        }
    }

    pub(super) fn push_on(&mut self, conn: ConnId, number: ChannelNumber, event: Event, payload: &str) {
        if let Some(frame) = self.encode_push(conn, number, event, payload) {
            self.push(conn, frame);
        }
    }

    /// A push on one topic of a connection; `None`: it is gone.
    pub(super) fn encode_push(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        event: Event,
        payload: &str,
    ) -> Option<Encoded> {
        let channels = self.channels(conn)?;
        let serializer = channels.serializer;
        let channel = channels.find(number)?;
        Some(serializer.push(&channel.join_ref, &channel.topic.to_string(), event, payload))
    }

    pub(super) fn reply_on(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        reference: &str,
        status: Status,
        response: &str,
    ) {
        let Some(channels) = self.channels(conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.find(number) else { return };
        let topic = channel.topic.to_string();
        let frame = serializer.reply(&channel.join_ref, reference, &topic, status, response);
        self.push(conn, frame);
    }
}

/// Rows 4 and 11 of PHOENIX 4.
pub(super) const UNMATCHED: &str = r#"{"reason":"unmatched topic"}"#;
/// A push that its budget does not admit.
enum Dropped {
    /// It would be taken then.
    Until(Duration),
    /// The connection is closed for it.
    Closed,
}

impl Dropped {
    /// How it goes on.
    fn next(self) -> Next {
        match self {
            Self::Until(_) => Next::GoOn,
            Self::Closed => Next::Stop,
        }
    }
}
