//! What topics tell the connections of this shard.

use std::sync::Arc;

use super::Shard;
use super::peer::{Action, Delivered, Delivery, TopicRequest};
use super::subscribers::Subscriber;
use crate::ids::{Address, ConnId, Topic};
use crate::reasons::{CloseReason, JoinRefusal};
use crate::room::audience::Copies;
use crate::room::game_update;
use crate::room::request::{Effect, WholeState};
use crate::session::channels::ChannelState;
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::phoenix;

impl Shard {
    /// A topic, of this shard or another, tells its members here something.
    pub(super) fn handle_delivery(&mut self, delivery: Delivery, now: Now) {
        let Delivery { topic, what } = delivery;
        match what {
            Delivered::One(effect) => self.deliver_to_one(&topic, effect, now),
            Delivered::All { copies, except } => self.deliver_to_all(&topic, &copies, except),
            Delivered::Frame { delta, whole } => {
                self.deliver_frame(&topic, delta.as_ref(), whole.as_ref(), now);
            }
            Delivered::GivenUp { channel } => self.close_given_up(&topic, channel, now),
        }
    }

    fn deliver_to_one(&mut self, topic: &Arc<Topic>, effect: Effect, now: Now) {
        match effect {
            Effect::Joined { to, response } => self.joined(topic, to, &response),
            Effect::Refused { to, reason, response } => self.join_refused(to, reason, &response),
            Effect::Reply { to, reference, status, response } => {
                self.reply_on(to.conn, to.channel, &reference, status, &response);
            }
            Effect::Push { to, event, payload } => self.push_on(to.conn, to.channel, event, &payload),
            Effect::Whole { to, state } => self.push_whole(topic, to, &state),
            Effect::Left { to } => self.left(topic, to),
            Effect::Replaced { to } => self.replaced(topic, to, now),
            // It comes as `Delivered::All`.
            Effect::Broadcast { copies, except } => self.deliver_to_all(topic, &copies, except),
        }
    }

    /// The answer to a join: the reply, then the close of the channel whose place it took (PHOENIX 4 row 5).
    fn joined(&mut self, topic: &Arc<Topic>, to: Address, response: &str) {
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.find(to.channel) else { return };
        let ChannelState::Joining { answer_to, replaces } =
            std::mem::replace(&mut channel.state, ChannelState::Joined)
        else {
            return;
        };
        let text = topic.to_string();
        let reply = serializer.reply(&answer_to.0, &answer_to.1, &text, "ok", response);
        self.metrics.joins.increment();
        let subscriber = Subscriber { conn: to.conn, channel: to.channel, serializer, stale: false };
        self.subscribers.insert(topic, subscriber);
        self.push(to.conn, reply);
        if let Some(old) = replaces {
            self.push(to.conn, serializer.close(&old, &text));
        }
    }

    fn join_refused(&mut self, to: Address, reason: JoinRefusal, response: &str) {
        self.metrics.joins_refused[reason.index()].increment();
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.remove(to.channel) else { return };
        self.metrics.channels.subtract(1);
        let ChannelState::Joining { answer_to, replaces } = channel.state else { return };
        let text = channel.topic.to_string();
        self.push(to.conn, serializer.reply(&answer_to.0, &answer_to.1, &text, "error", response));
        if let Some(old) = replaces {
            self.push(to.conn, serializer.close(&old, &text));
        }
    }

    /// The answer to a leave: the reply, then the close (PHOENIX 4 row 6).
    fn left(&mut self, topic: &Arc<Topic>, to: Address) {
        self.subscribers.remove(topic, to.conn, to.channel);
        let Some(channels) = self.channels(to.conn) else { return };
        let serializer = channels.serializer;
        let Some(channel) = channels.remove(to.channel) else { return };
        self.metrics.channels.subtract(1);
        let text = topic.to_string();
        if let ChannelState::Leaving { reference } = &channel.state {
            self.push(to.conn, serializer.reply(&channel.join_ref, reference, &text, "ok", "{}"));
        }
        self.push(to.conn, serializer.close(&channel.join_ref, &text));
    }

    /// Another connection has taken the seat. The channel closes; a connection without another topic goes with it.
    fn replaced(&mut self, topic: &Arc<Topic>, to: Address, now: Now) {
        self.left(topic, to);
        if self.channels(to.conn).is_some_and(|channels| channels.all().is_empty()) {
            self.close(to.conn, CloseReason::Replaced, now);
        }
    }

    /// `game_update` with everything, to one member.
    fn push_whole(&mut self, topic: &Arc<Topic>, to: Address, state: &WholeState) {
        self.metrics.keyframes.increment();
        match state {
            WholeState::Text(payloads) => {
                for payload in payloads {
                    self.push_on(to.conn, to.channel, game_update::EVENT, payload);
                }
            }
            WholeState::Binary(payloads) => {
                let channel = self.channels(to.conn).and_then(|channels| channels.find(to.channel));
                let Some(channel) = channel else { return };
                let mut head = Vec::new();
                let event = game_update::EVENT;
                phoenix::write_push_header(&mut head, &channel.join_ref, &topic.to_string(), event);
                for payload in payloads {
                    let message = [&head, &**payload].concat();
                    self.push(to.conn, Encoded::message(Opcode::Binary, &message));
                }
            }
        }
    }

    fn deliver_to_all(&mut self, topic: &Topic, copies: &Copies, except: Option<Address>) {
        let subscribers = self.subscribers.take(topic);
        let own = self.id;
        for subscriber in &subscribers {
            let is_excepted = except.is_some_and(|except| {
                (except.shard, except.conn, except.channel) == (own, subscriber.conn, subscriber.channel)
            });
            if let (false, Some(frame)) = (is_excepted, copies.of(subscriber.serializer)) {
                self.push(subscriber.conn, frame.clone());
            }
        }
        self.metrics.broadcasts_out.add(subscribers.len() as u64);
        self.subscribers.put_back(topic, subscribers);
    }

    /// A frame goes to everybody whose socket is free: the changes to those that were sent the frame before, everything to
    /// the others, for which the game is asked.
    fn deliver_frame(
        &mut self,
        topic: &Arc<Topic>,
        delta: Option<&Copies>,
        whole: Option<&Copies>,
        now: Now,
    ) {
        let mut subscribers = self.subscribers.take(topic);
        let mut anybody_stale = None;
        for subscriber in &mut subscribers {
            let wanted = if subscriber.stale { whole } else { delta };
            let frame = wanted.and_then(|copies| copies.of(subscriber.serializer));
            if frame.is_none() && !subscriber.stale {
                continue;
            }
            let Some(connection) = self.connections.find(subscriber.conn) else { continue };
            let outbox = &mut connection.session.outbox;
            match frame.filter(|_| outbox.has_place_for_state()) {
                Some(frame) => {
                    let frames =
                        if subscriber.stale { &self.metrics.keyframes } else { &self.metrics.deltas };
                    frames.increment();
                    subscriber.stale = false;
                    outbox.put_state(frame.clone());
                    if outbox.enlist() {
                        self.ready.push_back(subscriber.conn);
                    }
                }
                None => {
                    self.metrics.frames_skipped.increment();
                    subscriber.stale = true;
                    anybody_stale = Some((subscriber.conn, subscriber.channel));
                }
            }
        }
        self.subscribers.put_back(topic, subscribers);
        if let Some((conn, channel)) = anybody_stale {
            let from = self.address(conn, channel);
            self.request(TopicRequest { topic: topic.clone(), from, action: Action::WantWhole }, now);
        }
    }

    /// What was to be told is lost: the members are closed, come back, and catch up.
    fn close_given_up(&mut self, topic: &Topic, channel: Option<Address>, now: Now) {
        let conns: Vec<ConnId> = match channel {
            Some(address) => vec![address.conn],
            None => {
                let subscribers = self.subscribers.take(topic);
                let conns = subscribers.iter().map(|subscriber| subscriber.conn).collect();
                self.subscribers.put_back(topic, subscribers);
                conns
            }
        };
        for conn in conns {
            self.close(conn, CloseReason::Overload, now);
        }
    }

    /// The topic's shard cannot be reached: the client is told, and may try again.
    pub(super) fn answer_refused_request(&mut self, request: TopicRequest, now: Now) {
        let TopicRequest { from, action, .. } = request;
        match action {
            Action::Join(_) => self.join_refused(from, JoinRefusal::Overload, OVERLOAD),
            Action::Push(push) if &*push.reference != "null" => {
                self.reply_on(from.conn, from.channel, &push.reference, "error", OVERLOAD);
            }
            // Nothing was promised: the next one will do.
            Action::Push(_) | Action::WantWhole => {}
            // It is never refused; without it the member would stay.
            Action::Leave(_) => self.close(from.conn, CloseReason::Overload, now),
        }
    }
}

const OVERLOAD: &str = r#"{"reason":"overload"}"#;
