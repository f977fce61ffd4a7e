//! A `phx_join`: what is decided about it before its topic is asked, and what follows.

use std::sync::Arc;

use super::channels::UNMATCHED;
use super::peer::{Action, TopicRequest};
use super::tokens::{Payer, Tokens};
use super::{Next, Shard};
use crate::ids::{Address, ConnId, Topic};
use crate::impossible;
use crate::limits::TOKEN_KEPT_BYTES_MAX;
use crate::reasons::{CloseReason, JoinRefusal, LeaveReason};
use crate::room::request::{Departure, Join, Rights};
use crate::session::channels::{Channels, Joining, Superseded};
use crate::session::{Dialect, Lifecycle, NEVER_EXPIRES};
use crate::time::Now;
use crate::wire::format::Format;
use crate::wire::join::JoinPayload;
use crate::wire::layout::Layout;
use crate::wire::phoenix::answers::{over_rate, reason};
use crate::wire::phoenix::{Message, Payload, Status};
use crate::wire::token::{CheckedToken, Claims};

/// A join as it came, with what decides about it.
struct JoinAttempt<'a> {
    message: &'a Message<'a>,
    channels: &'a mut Channels,
    /// The connection plays in the native dialect.
    plays: bool,
    /// `None`: nobody needs a token.
    tokens: Option<&'a mut Tokens>,
    now: Now,
}

/// A join that its topic is asked about.
struct Accepted {
    topic: Topic,
    join: Join,
    /// When the token that grants the join expires.
    expires_at_s: u32,
    /// That token, if the join brought it.
    token: Option<Arc<CheckedToken>>,
}

/// Why a join is refused before its topic is asked: the label, and the answer.
struct Refused(JoinRefusal, String);

/// Who joins, and what its token allows.
struct Identity {
    user: Box<str>,
    name: Option<Box<str>>,
    /// What it may do in the topic.
    rights: Rights,
    moderator: bool,
    expires_at_s: u32,
    /// The token, if the join brought it.
    token: Option<Arc<CheckedToken>>,
}

impl Identity {
    /// `None`: the claims do not cover the topic.
    fn of(topic: &Topic, claims: &Claims, token: Option<Arc<CheckedToken>>) -> Option<Self> {
        let rights = if claims.allows(topic) {
            Rights::of_player(claims.host)
        } else if claims.allows_reading(topic) {
            Rights::Watch
        } else {
            return None;
        };
        Some(Self {
            token,
            rights,
            user: claims.user.clone(),
            name: claims.name.clone(),
            moderator: claims.moderator,
            expires_at_s: u32::try_from(claims.expires_at_s).unwrap_or(NEVER_EXPIRES),
        })
    }
}

impl JoinAttempt<'_> {
    /// Decides about the join, and changes nothing but what is known of tokens.
    fn check(&mut self) -> Result<Accepted, Refused> {
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
        let Identity { user, name, rights, moderator, expires_at_s, token } = identity;
        let name = name.or_else(|| payload.name.map(Box::from)).unwrap_or_else(|| {
            if user == self.channels.user { self.channels.name.clone() } else { user.clone() }
        });
        let join = Join {
            user,
            name,
            rights,
            is_moderator: moderator,
            format: Format::of(self.channels.serializer, payload.binary),
            layout: payload.layout,
            ack: payload.ack,
            meta: payload.meta,
            resume_token: payload.resume_token,
            seen: payload.seen,
            supersedes: None,
        };
        Ok(Accepted { topic, join, expires_at_s, token })
    }

    /// Whether the connection, or the token that the join brings, may join `topic`, and as whom.
    fn identify(&mut self, topic: &Topic, token: Option<&str>) -> Result<Identity, Refused> {
        let known = token.and_then(|text| self.channels.token_of_channel(text)).cloned();
        let Channels { user, token: own, signatures, .. } = &mut *self.channels;
        let Some(tokens) = &mut self.tokens else {
            let (user, expires_at_s) = (user.clone(), NEVER_EXPIRES);
            let (rights, moderator) = (Rights::Play, false);
            return Ok(Identity { user, name: None, rights, moderator, expires_at_s, token: None });
        };
        let too_many = |wait| Refused(JoinRefusal::RateLimited, over_rate(wait));
        // Keys change and time passes. The connection's own token comes first; the join's is for topics that it does not grant.
        if let Some(own) = own {
            *own = tokens.look_again(own, Payer::Known(signatures), self.now).map_err(too_many)?;
        }
        let own = own.as_ref().and_then(|own| own.claims_at(self.now.unix_s()).ok());
        let by_own = own.and_then(|claims| Identity::of(topic, claims, None));
        // A token of the join may let it write where the connection's own lets it read only.
        if let Some(identity) = by_own
            && (identity.rights != Rights::Watch || token.is_none())
        {
            return Ok(identity);
        }
        let unauthorized = || Refused(JoinRefusal::Unauthorized, reason("unauthorized"));
        let token = token.ok_or_else(unauthorized)?;
        let payer = if own.is_some() { Payer::Known(signatures) } else { Payer::Stranger(signatures) };
        let token = match &known {
            Some(known) => tokens.look_again(known, payer, self.now),
            None => tokens.look_at(token, payer, self.now),
        };
        let token = token.map_err(too_many)?;
        let claims = token.claims_at(self.now.unix_s()).ok();
        claims.and_then(|claims| Identity::of(topic, claims, Some(token.clone()))).ok_or_else(unauthorized)
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
        let plays = matches!(connection.session.lifecycle, Lifecycle::Open(Dialect::Native));
        let Some(channels) = connection.session.channels.as_mut() else {
            impossible!("who joins a topic has channels");
            return Next::Stop;
        };
        // A join that names no topic is answered whatever the rate.
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
        let signatures = self.metrics.token_signatures.value();
        let mut attempt = JoinAttempt { message, channels, plays, tokens: self.tokens.as_mut(), now };
        let checked = attempt.check();
        self.spend_on_tokens(signatures);
        match checked {
            Ok(accepted) => self.begin_join(conn, message, accepted, now),
            Err(refused) => {
                self.refuse_join(conn, message, &refused);
                // Whoever is over a rate was not listened to: what was joined stays.
                if refused.0 != JoinRefusal::RateLimited {
                    self.end_refused(conn, message, now);
                }
            }
        }
        Next::GoOn
    }

    /// Asks the topic.
    fn begin_join(&mut self, conn: ConnId, message: &Message<'_>, accepted: Accepted, now: Now) {
        let Accepted { topic, mut join, expires_at_s, token } = accepted;
        let topic = self.subscribers.shared(topic);
        let layout = match &*topic {
            Topic::Game(name) => self.settings.game_rules(name).map(|rules| rules.layout),
            Topic::Room(_) | Topic::Document(_) => None,
        };
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
        if let Some(channel) = channels.find(number) {
            channel.user = is_of_other.then(|| join.user.clone());
            channel.layout = layout.unwrap_or(Layout::PLAIN);
            channel.expires_at_s = expires_at_s;
            channel.token = token.filter(|token| token.text().len() <= TOKEN_KEPT_BYTES_MAX);
        }
        self.metrics.channels.add(1);
        join.supersedes = replaced.map(|replaced| self.forget_superseded(conn, &topic, replaced, now));
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
        let from = self.forget_superseded(conn, &topic, superseded, now);
        let action = Action::Leave(Departure::Left(LeaveReason::Left));
        self.request(TopicRequest { topic, from, action }, now);
    }

    /// A channel whose place another one takes is told nothing more. Its topic is to be told that it has gone.
    fn forget_superseded(
        &mut self,
        conn: ConnId,
        topic: &Topic,
        superseded: Superseded,
        now: Now,
    ) -> Address {
        // A channel with an unanswered join stays until the answer.
        if !superseded.unanswered {
            self.channel_ended(conn, now);
        }
        self.unsubscribe(topic, conn, superseded.number);
        self.address(conn, superseded.number)
    }
}
