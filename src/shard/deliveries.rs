//! What topics tell the connections of this shard.

use std::sync::Arc;

use super::Shard;
use super::peer::{Action, Delivered, Delivery, TopicRequest};
use super::subscribers::Subscriber;
use crate::ids::{Address, ChannelNumber, ConnId, FrameNumber, Party, Topic};
use crate::impossible;
use crate::planted;
use crate::reasons::{CloseReason, JoinRefusal, LeaveReason};
use crate::room::audience::Copies;
use crate::room::game_acks::Ack;
use crate::room::game_channel_frames::ChannelFrame;
use crate::room::hosted::Lost;
use crate::room::request::{Departure, StateForm, ToMember, WholeState};
use crate::session::Session;
use crate::session::channels::{ChannelState, UnansweredJoin};
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::frame::Opcode;
use crate::wire::phoenix::{self, Event, Serializer, Status};
use crate::wire::push::Push;

impl Shard {
    /// A topic, of this shard or another, tells its members here something.
    pub(super) fn handle_delivery(&mut self, delivery: Delivery, now: Now) {
        let Delivery { topic, what } = delivery;
        match what {
            Delivered::One { to, what } => self.deliver_to_one(&topic, to, what, now),
            Delivered::All { joins: _, copies, except, after_state } => {
                self.deliver_to_all(&topic, &copies, except, after_state);
            }
            Delivered::Some { to, copies } => self.deliver_to_some(&topic, &to, &copies),
            Delivered::Frames(frames) => {
                frames.iter().for_each(|frame| self.deliver_frame(&topic, frame, now));
            }
            Delivered::GivenUp(lost) => self.end_given_up(&topic, lost, now),
        }
    }

    /// The member may have gone while this was on its way, or its channel may: then nothing happens.
    fn deliver_to_one(&mut self, topic: &Arc<Topic>, to: Address, what: ToMember, now: Now) {
        match what {
            ToMember::Joined { response } => self.joined(topic, to, Some(&response), now),
            ToMember::Greeted { records, frame } => {
                self.joined(topic, to, None, now);
                if self.has_channel(to) {
                    self.metrics.keyframes.increment();
                    records.into_iter().for_each(|record| self.push_greeting(to.conn, record));
                    self.know_frame(topic, to, Some(frame));
                }
            }
            ToMember::Refused { reason, response } => self.join_refused(topic, to, reason, &response, now),
            ToMember::Reply { reference, status, response } => {
                self.reply_on(to.conn, to.channel, &reference, status, &response);
            }
            ToMember::Push { event, payload, greeting } => {
                if let Some(frame) = self.encode_push(to.conn, to.channel, event, &payload) {
                    self.push_answer(to.conn, frame, greeting);
                }
            }
            ToMember::Record(record) => {
                if self.has_channel(to) {
                    self.push(to.conn, record);
                }
            }
            ToMember::Ack(ack) => self.put_ack(to, &ack),
            ToMember::Whole { state, frame } => {
                self.push_whole(topic, to, &state);
                self.know_frame(topic, to, Some(frame));
            }
            ToMember::Stale => self.know_frame(topic, to, None),
            ToMember::Left => self.left(topic, to, now),
            ToMember::Replaced => self.replaced(topic, to, now),
            // Whatever has become of the channel: its connection may be known under another name.
            ToMember::Kicked => self.close(to.conn, CloseReason::Kicked, now),
        }
    }

    fn has_channel(&mut self, at: Address) -> bool {
        self.channels(at.conn).is_some_and(|channels| channels.find(at.channel).is_some())
    }

    /// The answer to a join; `None`: records follow. From here on the channel gets what everybody gets, until the topic has
    /// answered its leave: what the client pushed in between is answered behind its broadcast.
    fn joined(&mut self, topic: &Arc<Topic>, to: Address, response: Option<&str>, now: Now) {
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.find(to.channel) else { return };
        let (format, expires_at_s) = (channel.format, channel.expires_at_s);
        let subscriber = Subscriber { conn: to.conn, channel: to.channel, format, frame: None };
        let join = match std::mem::replace(&mut channel.state, ChannelState::Joined) {
            ChannelState::Joining { join } => {
                self.subscribers.insert(topic, subscriber);
                join
            }
            ChannelState::Leaving { reference, join: Some(join) } => {
                channel.state = ChannelState::Leaving { reference, join: None };
                self.subscribers.insert(topic, subscriber);
                join
            }
            ChannelState::Replaced { join } => {
                channels.remove(to.channel);
                self.channel_ended(to.conn, now);
                join
            }
            other @ (ChannelState::Leaving { join: None, .. } | ChannelState::Joined) => {
                channel.state = other;
                return;
            }
        };
        self.metrics.joins.increment();
        self.end_by(to.conn, expires_at_s, now);
        if let Some(response) = response {
            self.answer_join(topic, to, serializer, &join, Status::Ok, response);
        }
    }

    /// Ends the connection then at the latest: a token that expires then was used on it.
    fn end_by(&mut self, conn: ConnId, expires_at_s: u32, now: Now) {
        let Some(connection) = self.connections.find(conn) else { return };
        if connection.session.expires_at_s > expires_at_s {
            connection.session.expires_at_s = expires_at_s;
            self.schedule_check(conn, now);
        }
    }

    fn join_refused(
        &mut self,
        topic: &Arc<Topic>,
        to: Address,
        reason: JoinRefusal,
        response: &str,
        now: Now,
    ) {
        self.metrics.joins_refused[reason.index()].increment();
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.remove(to.channel) else { return };
        self.channel_ended(to.conn, now);
        if channel.format == Format::Native {
            return self.close(to.conn, CloseReason::Overload, now);
        }
        match channel.state {
            ChannelState::Joining { join } | ChannelState::Replaced { join } => {
                self.answer_join(topic, to, serializer, &join, Status::Error, response);
            }
            ChannelState::Leaving { reference, join } => {
                if let Some(join) = join {
                    self.answer_join(topic, to, serializer, &join, Status::Error, response);
                }
                // There was nothing to leave (PHOENIX 4 row 8).
                let text = topic.to_string();
                self.push(to.conn, serializer.reply(&channel.join_ref, &reference, &text, Status::Ok, "{}"));
            }
            ChannelState::Joined => {}
        }
    }

    /// The reply, then the close of the channel whose place was taken (PHOENIX 4 row 5).
    fn answer_join(
        &mut self,
        topic: &Topic,
        to: Address,
        serializer: Serializer,
        join: &UnansweredJoin,
        status: Status,
        response: &str,
    ) {
        let text = topic.to_string();
        let reply = serializer.reply(&join.join_ref, &join.reference, &text, status, response);
        self.push_greeting(to.conn, reply);
        if let Some(old) = &join.replaces {
            self.push_greeting(to.conn, serializer.close(old, &text));
        }
    }

    /// The answer to a leave: the reply, then the close (PHOENIX 4 row 6).
    fn left(&mut self, topic: &Arc<Topic>, to: Address, now: Now) {
        self.unsubscribe(topic, to.conn, to.channel);
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.remove(to.channel) else { return };
        self.channel_ended(to.conn, now);
        if channel.format == Format::Native {
            return;
        }
        let text = topic.to_string();
        if let ChannelState::Leaving { reference, .. } = &channel.state {
            self.push(to.conn, serializer.reply(&channel.join_ref, reference, &text, Status::Ok, "{}"));
        }
        self.push(to.conn, serializer.close(&channel.join_ref, &text));
    }

    /// Another connection has taken the seat. The channel closes; a connection without another topic goes with it.
    fn replaced(&mut self, topic: &Arc<Topic>, to: Address, now: Now) {
        if !self.has_channel(to) {
            return;
        }
        self.left(topic, to, now);
        if self.channels(to.conn).is_some_and(|channels| channels.all().is_empty()) {
            self.close(to.conn, CloseReason::Replaced, now);
        }
    }

    /// The last frame that a member knows is this one, whatever waits for it.
    fn know_frame(&mut self, topic: &Topic, member: Address, frame: Option<FrameNumber>) {
        self.drop_state(member.conn, member.channel);
        if let Some(subscriber) = self.subscribers.find(topic, member.conn, member.channel) {
            subscriber.frame = frame;
        }
    }

    /// `game_update` and `player_states` with everything, to one member.
    fn push_whole(&mut self, topic: &Arc<Topic>, to: Address, whole: &WholeState) {
        self.metrics.keyframes.increment();
        let states = self.encode_pushes(to, Event::PlayerStates, &whole.player_states);
        let frames: Vec<Encoded> = match &whole.state {
            StateForm::Text(payloads) => self.encode_pushes(to, Event::GameUpdate, payloads),
            StateForm::Binary(payloads) => {
                let channel = self.channels(to.conn).and_then(|channels| channels.find(to.channel));
                let Some(channel) = channel else { return };
                let mut head = Vec::new();
                let text = topic.to_string();
                phoenix::write_push_header(&mut head, &channel.join_ref, &text, Event::GameUpdate.as_str());
                let message =
                    |payload: &Arc<[u8]>| Encoded::message(Opcode::Binary, &[&head, &**payload].concat());
                payloads.iter().map(message).collect()
            }
        };
        for frame in frames.into_iter().chain(states) {
            self.push_greeting(to.conn, frame);
        }
    }

    fn encode_pushes(&mut self, to: Address, event: Event, payloads: &[Arc<str>]) -> Vec<Encoded> {
        let push = |payload: &Arc<str>| self.encode_push(to.conn, to.channel, event, payload);
        payloads.iter().filter_map(push).collect()
    }

    fn push_answer(&mut self, conn: ConnId, frame: Encoded, greeting: bool) {
        if greeting {
            self.push_greeting(conn, frame);
        } else {
            self.push(conn, frame);
        }
    }

    /// Members that are still here are told something.
    fn deliver_to_some(&mut self, topic: &Topic, to: &[Address], copies: &Copies) {
        let mut told = 0;
        for to in to {
            let Some(subscriber) = self.subscribers.find(topic, to.conn, to.channel) else { continue };
            let Some(frame) = copies.of(subscriber.format) else { continue };
            self.push(to.conn, frame.clone());
            told += 1;
        }
        self.metrics.broadcasts_out.add(told);
    }

    fn deliver_to_all(&mut self, topic: &Topic, copies: &Copies, except: Option<Address>, after_state: bool) {
        let mut subscribers = self.subscribers.take(topic);
        let own = self.id;
        let mut told = 0;
        for subscriber in &mut subscribers {
            let is_excepted = except.is_some_and(|except| {
                (except.shard, except.conn, except.channel) == (own, subscriber.conn, subscriber.channel)
            });
            let (false, Some(frame)) = (is_excepted, copies.of(subscriber.format)) else { continue };
            // The waiting state has in it what this message takes back, and would be sent behind it.
            if after_state && self.drop_state(subscriber.conn, subscriber.channel) {
                subscriber.frame = None;
            }
            self.push(subscriber.conn, frame.clone());
            told += 1;
        }
        self.metrics.broadcasts_out.add(told);
        self.subscribers.put_back(topic, subscribers);
    }

    /// A channel is told nothing more of its topic, not even what waits.
    pub(super) fn unsubscribe(&mut self, topic: &Topic, conn: ConnId, channel: ChannelNumber) {
        self.subscribers.remove(topic, conn, channel);
        self.drop_state(conn, channel);
        if let Some(channels) = self.channels(conn) {
            channels.states.remove_ack(channel);
        }
    }

    /// Drops the state frame that waits for a channel, if one does. The whole state is asked for once the connection is free.
    fn drop_state(&mut self, conn: ConnId, channel: ChannelNumber) -> bool {
        let Some(channels) = self.channels(conn).filter(|_| !planted!(KeepsOldState)) else { return false };
        let dropped = channels.states.remove(channel);
        channels.stale |= dropped;
        dropped
    }

    /// A frame goes to everybody whose socket is free: the changes to those that were sent the frame before, everything to
    /// the others, for whom the game is asked as soon as they can take it.
    fn deliver_frame(&mut self, topic: &Arc<Topic>, frame: &ChannelFrame, now: Now) {
        let ChannelFrame { number, delta, whole, to } = frame;
        let (number, delta, whole) = (*number, delta.as_ref(), whole.as_ref());
        let mut subscribers = self.subscribers.take(topic);
        let mut waiting = None;
        let places: Vec<usize> = match to {
            None => (0..subscribers.len()).collect(),
            Some(to) => {
                let place = |to: &Address| {
                    subscribers.binary_search_by_key(&(to.conn, to.channel), Subscriber::key).ok()
                };
                to.iter().filter_map(place).collect()
            }
        };
        for place in places {
            let subscriber = &mut subscribers[place];
            if subscriber.frame == Some(number) {
                continue;
            }
            let delta = delta
                .filter(|(before, _)| subscriber.frame == Some(*before) || planted!(TrustsFrames))
                .map(|(_, copies)| copies);
            if delta.is_some_and(|copies| copies.of(subscriber.format).is_none()) {
                // The member was told these changes in another way.
                subscriber.frame = Some(number);
                continue;
            }
            let frame = delta.or(whole).and_then(|copies| copies.of(subscriber.format));
            if let Some(frame) = frame.filter(|_| planted!(QueuesState)) {
                self.push(subscriber.conn, frame.clone());
                subscriber.frame = Some(number);
                continue;
            }
            match self.put_state(subscriber, frame) {
                StatePut::Done => {
                    let frames = if delta.is_some() { &self.metrics.deltas } else { &self.metrics.keyframes };
                    frames.increment();
                    subscriber.frame = Some(number);
                }
                StatePut::Busy => {
                    self.metrics.frames_skipped.increment();
                    subscriber.frame = None;
                }
                StatePut::NotWhole => {
                    subscriber.frame = None;
                    waiting = Some(self.address(subscriber.conn, subscriber.channel));
                }
                StatePut::Gone => {}
            }
        }
        self.subscribers.put_back(topic, subscribers);
        if let Some(from) = waiting {
            self.request(TopicRequest { topic: topic.clone(), from, action: Action::WantWhole }, now);
        }
    }

    /// Puts a state frame, if the connection can take one.
    fn put_state(&mut self, subscriber: &Subscriber, frame: Option<&Encoded>) -> StatePut {
        let Some(connection) = self.connections.find(subscriber.conn) else {
            impossible!("a subscriber is here");
            return StatePut::Gone;
        };
        let Session { outbox, channels: Some(channels), .. } = &mut connection.session else {
            impossible!("a subscriber has channels");
            return StatePut::Gone;
        };
        if outbox.sends_state() || channels.states.has(subscriber.channel) {
            channels.stale = true;
            return StatePut::Busy;
        }
        let Some(frame) = frame else { return StatePut::NotWhole };
        channels.states.put(subscriber.channel, frame.clone());
        if outbox.enlist() {
            self.ready.push_back(subscriber.conn);
        }
        StatePut::Done
    }

    /// Puts an Ack, for the next send that can take a frame of its game.
    fn put_ack(&mut self, to: Address, ack: &Ack) {
        let Some(channel) = self.channels(to.conn).and_then(|channels| channels.find(to.channel)) else {
            return;
        };
        let frame = match channel.format {
            Format::Native => Some(ack.record()),
            Format::V2 | Format::V2Text | Format::V1 => {
                self.encode_push(to.conn, to.channel, Event::Ack, &ack.payload())
            }
        };
        let (Some(frame), Some(connection)) = (frame, self.connections.find(to.conn)) else { return };
        let Session { outbox, channels: Some(channels), .. } = &mut connection.session else { return };
        channels.states.put_ack(to.channel, frame);
        if outbox.enlist() {
            self.ready.push_back(to.conn);
        }
    }

    /// The kernel has taken what a connection was sent: games whose frames were skipped meanwhile are asked for everything.
    pub(super) fn want_whole_states(&mut self, conn: ConnId, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let Session { outbox, channels: Some(channels), .. } = &mut connection.session else { return };
        if !channels.stale || outbox.sends_state() || !channels.states.is_empty() {
            return;
        }
        channels.stale = false;
        let games = channels.all().iter().filter(|channel| matches!(*channel.topic, Topic::Game(_)));
        let games: Vec<_> = games.map(|channel| (channel.topic.clone(), channel.number)).collect();
        for (topic, number) in games {
            let subscriber = self.subscribers.find(&topic, conn, number);
            if subscriber.is_some_and(|subscriber| subscriber.frame.is_none()) && !planted!(ForgetsBusy) {
                let from = self.address(conn, number);
                self.request(TopicRequest { topic, from, action: Action::WantWhole }, now);
            }
        }
    }

    /// Messages for members are lost: their channels end with an error, so that clients join again and catch up.
    fn end_given_up(&mut self, topic: &Arc<Topic>, lost: Lost, now: Now) {
        match lost {
            Lost::One(member) => self.end_channel(topic, member.conn, member.channel, now),
            Lost::AllAt { .. } => {
                let subscribers = self.subscribers.take(topic);
                let members: Vec<_> =
                    subscribers.iter().map(|member| (member.conn, member.channel)).collect();
                self.subscribers.put_back(topic, subscribers);
                members.into_iter().for_each(|(conn, number)| self.end_channel(topic, conn, number, now));
            }
        }
    }

    /// A party has ended, and its topics with it: so do their channels here.
    pub(super) fn end_channels_of(&mut self, owner: Party, now: Now) {
        let conns: Vec<ConnId> =
            self.connections.in_slots(0, self.connections.slots()).map(|(conn, _)| conn).collect();
        for conn in conns {
            let Some(channels) = self.channels(conn) else { continue };
            let channels: Vec<_> =
                channels.all().iter().map(|channel| (channel.topic.clone(), channel.number)).collect();
            for (topic, number) in channels {
                if Party::Shard(self.settings.placement.shard_of(topic.name())) != owner {
                    continue;
                }
                self.end_channel(&topic, conn, number, now);
            }
        }
        self.close_overflowed(now);
    }

    /// Ends a channel that its topic does not count as a member any more. A join that waits for its answer is refused, and a leave
    /// is answered: of what the topic has still told it, it may have missed a part.
    fn end_channel(&mut self, topic: &Arc<Topic>, conn: ConnId, number: ChannelNumber, now: Now) {
        self.unsubscribe(topic, conn, number);
        let Some(channels) = self.channels(conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.find(number) else { return };
        match &channel.state {
            ChannelState::Joining { .. }
            | ChannelState::Replaced { .. }
            | ChannelState::Leaving { join: Some(_), .. } => {
                self.join_refused(topic, self.address(conn, number), JoinRefusal::Overload, OVERLOAD, now);
            }
            ChannelState::Joined if channel.format == Format::Native => {
                // This is all that the connection was for, and its client may come again.
                self.close(conn, CloseReason::Overload, now);
            }
            ChannelState::Joined => {
                let error = serializer.error(&channel.join_ref, &topic.to_string(), "overload");
                channels.remove(number);
                self.channel_ended(conn, now);
                self.push(conn, error);
            }
            ChannelState::Leaving { join: None, .. } => self.left(topic, self.address(conn, number), now),
        }
    }

    /// The topic's shard cannot be reached: the client is told, and may try again.
    pub(super) fn answer_refused_request(&mut self, request: TopicRequest, now: Now) {
        let TopicRequest { topic, from, action } = request;
        match action {
            Action::Join(join) => {
                self.join_refused(&topic, from, JoinRefusal::Overload, OVERLOAD, now);
                // Its topic has not heard of the end of the channel that it supersedes. A leave arrives whatever waits, and whoever
                // showed a token may come back for the seat.
                if let Some(superseded) = join.supersedes {
                    let departure = match join.resume_token {
                        Some(_) => Departure::Lost,
                        None => Departure::Left(LeaveReason::Left),
                    };
                    let action = Action::Leave(departure);
                    self.request(TopicRequest { topic, from: superseded, action }, now);
                }
            }
            Action::Push(Push { reference: Some(reference), .. }) => {
                self.reply_on(from.conn, from.channel, &reference, Status::Error, OVERLOAD);
            }
            // No answer was promised. The other two are never refused, unless the topic's shard has ended.
            Action::Push(Push { reference: None, .. }) | Action::WantWhole | Action::Leave(_) => {}
        }
    }
}

/// What became of a state frame.
enum StatePut {
    /// It will be sent.
    Done,
    /// The connection is busy with an older one.
    Busy,
    /// The connection could take one, but it must be a whole one, and there is none.
    NotWhole,
    /// The connection is gone.
    Gone,
}

const OVERLOAD: &str = r#"{"reason":"overload"}"#;
