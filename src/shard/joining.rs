//! A `phx_join`: what is decided about it before its topic is asked, and what follows.

use std::sync::Arc;

use super::channels::UNMATCHED;
use super::peer::{Action, TopicRequest};
use super::{Next, Shard};
use crate::ids::{ConnId, Topic};
use crate::impossible;
use crate::limits;
use crate::reasons::{CloseReason, JoinRefusal, LeaveReason};
use crate::room::request::{Departure, Join};
use crate::session::NEVER_EXPIRES;
use crate::session::channels::{Channels, Joining, Superseded};
use crate::time::Now;
use crate::wire::format::Format;
use crate::wire::join::JoinPayload;
use crate::wire::phoenix::answers::{over_rate, reason};
use crate::wire::phoenix::{Message, Payload, Status};
use crate::wire::token::{Claims, Verifier};

/// A join as it came, with what decides about it.
struct JoinAttempt<'a> {
    message: &'a Message<'a>,
    channels: &'a Channels,
    /// The connection plays in the native dialect.
    plays: bool,
    /// `None`: nobody needs a token.
    verifier: Option<&'a Verifier>,
    now_s: u64,
}

/// A join that its topic is asked about.
struct Accepted {
    topic: Topic,
    join: Join,
    /// When the token that grants it ends.
    expires_at_s: u32,
}

/// Why a join is refused before its topic is asked: the label, and the answer.
struct Refused(JoinRefusal, String);

/// Who joins, and what its token allows.
struct Identity {
    user: Box<str>,
    name: Option<Box<str>>,
    host: bool,
    expires_at_s: u32,
}

impl JoinAttempt<'_> {
    fn check(&self) -> Result<Accepted, Refused> {
        let Some(topic) = Topic::parse(&self.message.topic) else {
            return Err(Refused(JoinRefusal::Unmatched, UNMATCHED.into()));
        };
        if self.plays && matches!(topic, Topic::Game(_)) {
            let text = "this connection plays in the native dialect; other games are joined on /socket";
            return Err(Refused(JoinRefusal::Malformed, reason(text)));
        }
        let text = match &self.message.payload {
            Payload::Json(text) => text,
            Payload::Binary(_) => "{}",
        };
        let payload = JoinPayload::parse(text)
            .map_err(|error| Refused(JoinRefusal::Malformed, reason(&error.to_string())))?;
        let identity = self.identify(&topic, payload.token.as_deref())?;
        if !self.channels.have_room_for(&topic) {
            return Err(Refused(JoinRefusal::TooManyChannels, reason("too many channels joined")));
        }
        let Identity { user, name, host, expires_at_s } = identity;
        let name = name.or_else(|| payload.name.map(Box::from)).unwrap_or_else(|| {
            if user == self.channels.user { self.channels.name.clone() } else { user.clone() }
        });
        let join = Join {
            user,
            name,
            host,
            format: Format::of(self.channels.serializer, payload.binary),
            meta: payload.meta,
            resume_token: payload.resume_token,
            seen: payload.seen,
        };
        Ok(Accepted { topic, join, expires_at_s })
    }

    /// Whether the connection, or the token that the join brings, may join `topic`, and as whom.
    fn identify(&self, topic: &Topic, token: Option<&str>) -> Result<Identity, Refused> {
        let Some(verifier) = self.verifier else {
            let user = self.channels.user.clone();
            return Ok(Identity { user, name: None, host: false, expires_at_s: NEVER_EXPIRES });
        };
        // Keys change and time passes: the connection's own token is checked as if it had just come. It comes first; the
        // join's is for topics that it does not grant.
        let granting =
            |token: &str| verifier.verify(token, self.now_s).ok().filter(|claims| claims.allows(topic));
        let claims = self.channels.token.as_deref().and_then(granting).or_else(|| token.and_then(granting));
        let Some(Claims { user, expires_at_s, name, host, .. }) = claims else {
            return Err(Refused(JoinRefusal::Unauthorized, reason("unauthorized")));
        };
        let expires_at_s = u32::try_from(expires_at_s).unwrap_or(NEVER_EXPIRES);
        Ok(Identity { user, name, host, expires_at_s })
    }
}

impl Shard {
    /// A client wants to join a topic.
    pub(super) fn join_topic(&mut self, conn: ConnId, message: &Message<'_>, now: Now) -> Next {
        let rate = self.settings.rates.joins;
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        let plays = connection.seat.is_some();
        let Some(channels) = connection.session.channels.as_mut() else {
            impossible!("who joins a topic has channels");
            return Next::Stop;
        };
        // What names no topic is answered whatever the rate.
        if Topic::parse(&message.topic).is_some()
            && let Err(wait) = channels.joins.admit(rate, now.instant)
        {
            if channels.joins.is_abused(rate) {
                self.metrics.joins_refused[JoinRefusal::RateLimited.index()].increment();
                self.close(conn, CloseReason::Abuse, now);
                return Next::Stop;
            }
            self.refuse_join(conn, message, &Refused(JoinRefusal::RateLimited, over_rate(wait)));
            return Next::GoOn;
        }
        let (verifier, now_s) = (self.verifier.as_deref(), now.unix_s());
        self.work.spend(if verifier.is_some() { limits::WORK_OF_TOKEN } else { 1 });
        let attempt = JoinAttempt { message, channels, plays, verifier, now_s };
        match attempt.check() {
            Ok(accepted) => self.begin_join(conn, message, accepted, now),
            Err(refused) => {
                self.refuse_join(conn, message, &refused);
                self.end_refused(conn, message, now);
            }
        }
        Next::GoOn
    }

    /// Asks the topic.
    fn begin_join(&mut self, conn: ConnId, message: &Message<'_>, accepted: Accepted, now: Now) {
        let Accepted { topic, join, expires_at_s } = accepted;
        let topic = self.subscribers.shared(topic);
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let session = &mut connection.session;
        let Some(channels) = session.channels.as_mut() else {
            return impossible!("who joins a topic has channels");
        };
        let Joining { number, replaced } =
            channels.begin_join(topic.clone(), join.format, &message.join_ref, &message.reference);
        let is_of_other = channels.user != join.user;
        if let Some(channel) = channels.find(number).filter(|_| is_of_other) {
            channel.user = Some(join.user.clone());
        }
        if session.expires_at_s > expires_at_s {
            session.expires_at_s = expires_at_s;
            self.schedule_check(conn, now);
        }
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
    }

    /// Answers a join that its topic is not asked about.
    fn refuse_join(&mut self, conn: ConnId, message: &Message<'_>, refused: &Refused) {
        let Refused(reason, response) = refused;
        self.metrics.joins_refused[reason.index()].increment();
        let Some(channels) = self.channels(conn) else {
            return impossible!("who joins a topic has channels");
        };
        // Row 4 answers without join_ref where no kind of topic is named.
        let is_of_no_kind = *reason == JoinRefusal::Unmatched && !Topic::names_kind(&message.topic);
        let join_ref = if is_of_no_kind { "null" } else { message.join_ref.as_str() };
        let reference = message.reference.as_str();
        let reply = channels.serializer.reply(join_ref, reference, &message.topic, Status::Error, response);
        self.push(conn, reply);
    }

    /// A channel of the same topic that was joined before ends with a join that is refused (row 5), so that nobody stays whose
    /// new token does not grant it.
    fn end_refused(&mut self, conn: ConnId, message: &Message<'_>, now: Now) {
        let Some(topic) = Topic::parse(&message.topic) else { return };
        let topic = self.subscribers.shared(topic);
        let Some(channels) = self.channels(conn) else {
            return impossible!("who joins a topic has channels");
        };
        let serializer = channels.serializer;
        let Some((superseded, name)) = channels.supersede(&topic) else { return };
        self.push(conn, serializer.close(&name, &message.topic));
        let departure = Departure::Left(LeaveReason::Left);
        self.leave_superseded(conn, &topic, superseded, departure, now);
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
        self.unsubscribe(topic, conn, superseded.number);
        let (from, action) = (self.address(conn, superseded.number), Action::Leave(departure));
        self.request(TopicRequest { topic: topic.clone(), from, action }, now);
    }
}
