//! Messages of Phoenix clients: what the socket answers itself, and what goes to the topics.

use std::sync::Arc;
use std::time::Duration;

use super::peer::{Action, TopicRequest};
use super::{Next, Shard};
use crate::ids::{Address, ChannelNumber, ConnId, Topic};
use crate::reasons::{CloseReason, JoinRefusal, LeaveReason, RateClass};
use crate::room::presence::Meta;
use crate::room::request::{Departure, Join, Payload, Push, Seen};
use crate::session::channels::{Begun, ChannelState, Channels, Routed, Superseded};
use crate::session::rate_limit::Verdict;
use crate::session::{Dialect, Lifecycle, NEVER_EXPIRES};
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::game_state;
use crate::wire::join::JoinPayload;
use crate::wire::json::quoted;
use crate::wire::phoenix::{self, Malformed, Message, Serializer};
use crate::wire::token::Claims;

/// Who joins, and what its token allows.
struct Identity {
    user: Box<str>,
    name: Option<Box<str>>,
    host: bool,
    expires_at_s: u32,
}

/// Why a join is refused before its topic is asked.
struct Refused(JoinRefusal, String);

impl Shard {
    /// A text message of a client that speaks Phoenix Channels.
    pub(super) fn handle_text(&mut self, conn: ConnId, text: &str, now: Now) -> Next {
        let decoded = self.serializer_of(conn).decode_text(text);
        self.handle_decoded(conn, decoded, now)
    }

    /// A binary message of one.
    pub(super) fn handle_binary(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> Next {
        let decoded = self.serializer_of(conn).decode_binary(bytes);
        self.handle_decoded(conn, decoded, now)
    }

    fn serializer_of(&mut self, conn: ConnId) -> Serializer {
        self.channels(conn).map_or(Serializer::V2, |channels| channels.serializer)
    }

    fn handle_decoded(&mut self, conn: ConnId, decoded: Result<Message<'_>, Malformed>, now: Now) -> Next {
        match decoded {
            Ok(message) => self.handle_phoenix(conn, &message, now),
            Err(malformed) => self.handle_malformed_message(conn, malformed, now),
        }
    }

    /// A head that cannot be read has no topic to answer on. A player is told by a record; anybody else is closed.
    fn handle_malformed_message(&mut self, conn: ConnId, malformed: Malformed, now: Now) -> Next {
        self.metrics.messages_malformed.increment();
        let Some(connection) = self.connections.find(conn) else { return Next::Stop };
        if matches!(connection.session.lifecycle, Lifecycle::Open(Dialect::Native)) {
            return self.handle_malformed(conn, &malformed.to_string(), now);
        }
        self.close(conn, CloseReason::Malformed, now);
        Next::Stop
    }

    fn handle_phoenix(&mut self, conn: ConnId, message: &Message<'_>, now: Now) -> Next {
        self.metrics.messages_in.increment();
        self.ensure_channels(conn);
        let Some(channels) = self.channels(conn) else { return Next::Stop };
        let serializer = channels.serializer;
        let (join_ref, reference) = (message.join_ref.as_str(), message.reference.as_str());
        let reply = |join_ref, status, response| {
            serializer.reply(join_ref, reference, &message.topic, status, response)
        };
        let answer = match channels.route(message) {
            Routed::Heartbeat => reply("null", "ok", "{}"),
            Routed::LeaveUnjoined => reply(join_ref, "ok", "{}"),
            Routed::Unmatched => reply("null", "error", UNMATCHED),
            Routed::Stale => {
                self.metrics.messages_stale.increment();
                return Next::GoOn;
            }
            Routed::Join => {
                let Err(refused) = self.begin_join(conn, message, now) else { return Next::GoOn };
                return self.refuse_join(conn, message, &refused, now);
            }
            Routed::Leave(number) => {
                self.begin_leave(conn, number, reference, now);
                return Next::GoOn;
            }
            Routed::Push(number) => return self.push_to_topic(conn, number, message, now),
        };
        self.push(conn, answer);
        Next::GoOn
    }

    // ── Joining and leaving ─────────────────────────────────────────────────────────────────────────────────────────

    fn begin_join(&mut self, conn: ConnId, message: &Message<'_>, now: Now) -> Result<(), Refused> {
        let Some(topic) = Topic::parse(&message.topic) else {
            return Err(Refused(JoinRefusal::Unmatched, UNMATCHED.into()));
        };
        let rate = self.settings.rates.joins;
        let Some(connection) = self.connections.find(conn) else { return Ok(()) };
        let plays = connection.seat.is_some();
        let Some(channels) = connection.session.channels.as_mut() else { return Ok(()) };
        if let Err(wait) = channels.joins.admit(rate, now.instant) {
            return Err(Refused(JoinRefusal::RateLimited, over_rate(wait)));
        }
        if plays && matches!(topic, Topic::Game(_)) {
            let text = "this connection plays in the native dialect; other games are joined on /socket";
            return Err(Refused(JoinRefusal::Malformed, format!(r#"{{"reason":"{text}"}}"#)));
        }
        let text = match &message.payload {
            phoenix::Payload::Json(text) => text,
            phoenix::Payload::Binary(_) => "{}",
        };
        let payload = JoinPayload::parse(text).map_err(|error| malformed(&error.to_string()))?;
        let identity = self.identify(conn, &topic, payload.token.as_deref(), now)?;
        let meta = payload.meta.map(Meta::parse).transpose();
        let meta = meta.map_err(|error| malformed(&error.to_string()))?;
        let seen = match &payload.seen {
            None => None,
            Some(value) => Some(Seen::read(value).ok_or_else(|| {
                malformed(
                    "resume is {epoch: \"…\", seq: number}; last_seen may be a time in unix milliseconds",
                )
            })?),
        };
        let topic = self.subscribers.shared(topic);
        let Some(connection) = self.connections.find(conn) else { return Ok(()) };
        let session = &mut connection.session;
        let Some(channels) = session.channels.as_mut() else { return Ok(()) };
        let begun = channels.begin_join(topic.clone(), &message.join_ref, &message.reference);
        let Begun::Joining { number, replaced } = begun else {
            let response = r#"{"reason":"too many channels joined"}"#.into();
            return Err(Refused(JoinRefusal::TooManyChannels, response));
        };
        if session.expires_at_s > identity.expires_at_s {
            session.expires_at_s = identity.expires_at_s;
            self.schedule_check(conn, now);
        }
        let Some(channels) = self.channels(conn) else { return Ok(()) };
        let is_of_connection = channels.user == identity.user;
        if let Some(channel) = channels.find(number).filter(|_| !is_of_connection) {
            channel.user = Some(identity.user.clone());
        }
        let name = identity.name.or_else(|| payload.name.map(Box::from));
        let join = Join {
            name: name.unwrap_or_else(|| match is_of_connection {
                true => channels.name.clone(),
                false => identity.user.clone(),
            }),
            user: identity.user,
            host: identity.host,
            serializer: channels.serializer,
            meta,
            resume_token: payload.resume_token,
            seen,
        };
        self.metrics.channels.add(1);
        if let Some(replaced) = replaced {
            // A player that joins anew with its own resume token wants its seat back.
            let departure = match join.resume_token {
                Some(_) => Departure::Lost,
                None => Departure::Left(LeaveReason::Left),
            };
            self.leave_superseded(conn, &topic, replaced, departure, now);
        }
        let action = Action::Join(Box::new(join));
        self.request(TopicRequest { topic, from: self.address(conn, number), action }, now);
        Ok(())
    }

    /// Answers a join that its topic is not asked about. A channel of the same topic that was joined before ends all the same
    /// (row 5), so that nobody stays whose new token does not grant it.
    fn refuse_join(&mut self, conn: ConnId, message: &Message<'_>, refused: &Refused, now: Now) -> Next {
        let Refused(reason, response) = refused;
        self.metrics.joins_refused[reason.index()].increment();
        let rate = self.settings.rates.joins;
        let topic = Topic::parse(&message.topic).map(|topic| self.subscribers.shared(topic));
        let Some(channels) = self.channels(conn) else { return Next::Stop };
        let serializer = channels.serializer;
        if *reason == JoinRefusal::RateLimited && channels.joins.is_abused(rate) {
            self.close(conn, CloseReason::Abuse, now);
            return Next::Stop;
        }
        // Row 4 answers without join_ref.
        let join_ref = if *reason == JoinRefusal::Unmatched { "null" } else { message.join_ref.as_str() };
        let reference = message.reference.as_str();
        // Over the rate nothing is looked at: what was joined stays.
        let topic = topic.filter(|_| *reason != JoinRefusal::RateLimited);
        let superseded = topic.and_then(|topic| Some((topic.clone(), channels.supersede(&topic)?)));
        self.push(conn, serializer.reply(join_ref, reference, &message.topic, "error", response));
        if let Some((topic, (superseded, name))) = superseded {
            self.push(conn, serializer.close(&name, &message.topic));
            let departure = Departure::Left(LeaveReason::Left);
            self.leave_superseded(conn, &topic, superseded, departure, now);
        }
        Next::GoOn
    }

    /// Tells a topic that a channel has left whose place another one takes.
    fn leave_superseded(
        &mut self,
        conn: ConnId,
        topic: &Arc<Topic>,
        superseded: Superseded,
        departure: Departure,
        now: Now,
    ) {
        if !superseded.unanswered {
            self.metrics.channels.subtract(1);
        }
        self.subscribers.remove(topic, conn, superseded.number);
        let (from, action) = (self.address(conn, superseded.number), Action::Leave(departure));
        self.request(TopicRequest { topic: topic.clone(), from, action }, now);
    }

    /// Whether the connection, or the token that the join brings, may join `topic`, and as whom.
    fn identify(
        &mut self,
        conn: ConnId,
        topic: &Topic,
        token: Option<&str>,
        now: Now,
    ) -> Result<Identity, Refused> {
        let verifier = self.verifier.clone();
        let Some(channels) = self.channels(conn) else { return Err(unauthorized()) };
        let Some(verifier) = verifier else {
            let user = channels.user.clone();
            return Ok(Identity { user, name: None, host: false, expires_at_s: NEVER_EXPIRES });
        };
        // Keys change and time passes: the connection's own token is checked as if it had just come. It comes first; the
        // join's is for topics that it does not grant.
        let granting =
            |token: &str| verifier.verify(token, now.unix_s()).ok().filter(|claims| claims.allows(topic));
        let claims = channels.token.as_deref().and_then(granting).or_else(|| token.and_then(granting));
        let Claims { user, expires_at_s, name, host, .. } = claims.ok_or_else(unauthorized)?;
        let expires_at_s = u32::try_from(expires_at_s).unwrap_or(NEVER_EXPIRES);
        Ok(Identity { user, name, host, expires_at_s })
    }

    fn begin_leave(&mut self, conn: ConnId, number: ChannelNumber, reference: &str, now: Now) {
        let Some(channel) = self.channels(conn).and_then(|channels| channels.find(number)) else { return };
        let reference = reference.into();
        channel.state = match std::mem::replace(&mut channel.state, ChannelState::Joined) {
            ChannelState::Joining { join } => ChannelState::Leaving { reference, join: Some(join) },
            ChannelState::Joined => ChannelState::Leaving { reference, join: None },
            // It is not routed here again.
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
            self.subscribers.remove(&channel.topic, conn, channel.number);
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
        let (class, cost) = match (&*message.event, &message.payload) {
            ("game_state", phoenix::Payload::Binary(bytes)) => match counts(bytes) {
                (0, objects) => (RateClass::Object, objects.max(1)),
                (_, 0) => (RateClass::Move, 1),
                // Both are charged: the objects here, the move as it is admitted below.
                (_, objects) => match self.charge(conn, number, RateClass::Object, objects, now) {
                    Some(next) => return next,
                    None => (RateClass::Move, 1),
                },
            },
            ("game_state" | "move", _) => (RateClass::Move, 1),
            ("presence_update", _) => {
                if let Some(next) = self.charge_presence_update(conn, number, message.reference.as_str(), now)
                {
                    return next;
                }
                (RateClass::Event, 0)
            }
            _ => (RateClass::Event, 1),
        };
        if let Some(next) = self.charge(conn, number, class, cost, now) {
            // Moves are never answered.
            if class == RateClass::Event && next == Next::GoOn && !message.reference.is_null() {
                self.reply_on(conn, number, message.reference.as_str(), "error", RATE_LIMITED);
            }
            return next;
        }
        let Some(channel) = self.channels(conn).and_then(|channels| channels.find(number)) else {
            return Next::GoOn;
        };
        let topic = channel.topic.clone();
        let payload = match &message.payload {
            phoenix::Payload::Json(text) => Payload::Json((*text).into()),
            phoenix::Payload::Binary(bytes) => Payload::Binary((*bytes).into()),
        };
        let push =
            Push { reference: message.reference.as_str().into(), event: (*message.event).into(), payload };
        let from = self.address(conn, number);
        self.request(TopicRequest { topic, from, action: Action::Push(push) }, now);
        Next::GoOn
    }

    /// Takes `cost` tokens of a class; `Some`: there were not so many, and this is how it goes on.
    fn charge(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        class: RateClass,
        cost: u32,
        now: Now,
    ) -> Option<Next> {
        let connection = self.connections.find(conn)?;
        match connection.session.rates.admit_many(class, cost, &self.settings.rates, now.instant) {
            Verdict::Admitted => None,
            Verdict::Dropped { tell } => {
                self.metrics.rate_limited[class.index()].increment();
                if let Some(wait) = tell {
                    let payload = rate_limited(class.label(), wait);
                    self.push_on(conn, number, "rate_limited", &payload);
                }
                Some(Next::GoOn)
            }
            Verdict::Abuse => {
                self.metrics.rate_limited[class.index()].increment();
                self.close(conn, CloseReason::Abuse, now);
                Some(Next::Stop)
            }
        }
    }

    fn charge_presence_update(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        reference: &str,
        now: Now,
    ) -> Option<Next> {
        let rate = self.settings.rates.presence;
        let channels = self.channels(conn)?;
        let wait = channels.presence_updates.admit(rate, now.instant).err()?;
        if channels.presence_updates.is_abused(rate) {
            self.close(conn, CloseReason::Abuse, now);
            return Some(Next::Stop);
        }
        let tell = channels.presence_updates.tell(now.instant);
        if tell {
            self.push_on(conn, number, "rate_limited", &rate_limited("presence", wait));
        }
        if reference != "null" {
            self.reply_on(conn, number, reference, "error", &over_rate(wait));
        }
        Some(Next::GoOn)
    }

    // ── What the parts share ────────────────────────────────────────────────────────────────────────────────────────

    /// The channels of a connection.
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
    pub(super) fn open_channels_of_player(&mut self, conn: ConnId, token: Option<Box<str>>) {
        let Some(connection) = self.connections.find(conn) else { return };
        let Some(seat) = connection.seat else { return };
        let Some(seat) = self.games.game(seat.game).and_then(|game| game.seats().seat(seat.seat)) else {
            return;
        };
        let channels = Channels::new(Serializer::V2, seat.user().into(), seat.name().into(), token);
        connection.session.channels = Some(Box::new(channels));
    }

    /// Tells every joined topic of a connection something that concerns the connection.
    pub(super) fn push_on_all(&mut self, conn: ConnId, event: &str, payload: &str) {
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

    pub(super) fn push_on(&mut self, conn: ConnId, number: ChannelNumber, event: &str, payload: &str) {
        if let Some(frame) = self.encode_push(conn, number, event, payload) {
            self.push(conn, frame);
        }
    }

    /// A push on one topic of a connection; `None`: it is gone.
    pub(super) fn encode_push(
        &mut self,
        conn: ConnId,
        number: ChannelNumber,
        event: &str,
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
        status: &str,
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
const UNMATCHED: &str = r#"{"reason":"unmatched topic"}"#;
const RATE_LIMITED: &str = r#"{"reason":"rate_limited"}"#;

/// Payload of `rate_limited`.
pub(super) fn rate_limited(class: &str, wait: Duration) -> String {
    let ms = wait.as_micros().div_ceil(1000);
    format!(
        r#"{{"class":"{class}","message":"over the rate limit of {class}; try again in {ms} ms","retry_after":{ms}}}"#
    )
}

/// Why something over a rate is refused.
fn over_rate(wait: Duration) -> String {
    let ms = wait.as_micros().div_ceil(1000);
    format!(r#"{{"reason":"rate_limited","retry_after":{ms}}}"#)
}

fn unauthorized() -> Refused {
    Refused(JoinRefusal::Unauthorized, r#"{"reason":"unauthorized"}"#.into())
}

fn malformed(text: &str) -> Refused {
    Refused(JoinRefusal::Malformed, format!(r#"{{"reason":{}}}"#, quoted(text)))
}

/// How many positions and objects a `game_state` brings; what it cannot be counts as one position.
fn counts(bytes: &[u8]) -> (usize, u32) {
    game_state::decode(bytes).map_or((1, 0), |state| (state.positions.len(), state.objects.len() as u32))
}
