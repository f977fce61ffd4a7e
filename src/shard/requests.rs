//! From a request head to an open connection: refused, handed over, or seated.

use std::sync::Arc;

use rand_core::Rng;

use super::connections::SeatRef;
use super::peer::HandOver;
use super::tokens::{Payer, Unaccepted};
use super::topics::TopicIndex;
use super::{Output, Shard};
use crate::ids::{ConnId, ResumeToken, Topic};
use crate::impossible;
use crate::limits;
use crate::note::{Note, Step};
use crate::planted;
use crate::reasons::RefusalReason;
use crate::room::game_seats::Resumed;
use crate::room::request::Rights;
use crate::room::seats::{Newcomer, Occupancy, SeatIndex};
use crate::session::channels::Channels;
use crate::session::{Closing, Deadline, Dialect, Lifecycle, NEVER_EXPIRES, PeerEnd};
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::phoenix::Serializer;
use crate::wire::token::{CheckedToken, Claims};
use crate::wire::upgrade::{self, Refusal, Route, Upgrade, Who};

/// What a player asks to be sent besides.
#[derive(Clone, Copy)]
struct Extras {
    layout: bool,
    ack: bool,
}

const OTHER_LAYOUT: &str = "positions of this game are not just x and y: ask with ?layout=1, and read them by the Layout record behind the \
                            Welcome";

impl Shard {
    /// Bytes of a request head.
    pub(super) fn receive_request(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        if !matches!(connection.session.lifecycle, Lifecycle::Upgrading) {
            return;
        }
        // Nearly every head comes at once, and is read where it lies.
        let mut earlier = self.heads.remove(&conn);
        if let Some(head) = &mut earlier {
            head.extend_from_slice(bytes);
        }
        let received = earlier.as_deref().unwrap_or(bytes);
        self.work.spend(1 + received.len() / limits::WORK_BYTES);
        match upgrade::parse(received, &self.settings.upgrade) {
            Ok(None) => {
                let head = earlier.unwrap_or_else(|| bytes.to_vec());
                self.heads.insert(conn, head);
            }
            Ok(Some((request, head_bytes))) => {
                let unread = if planted!(LosesUnread) { Vec::new() } else { received[head_bytes..].to_vec() };
                let signatures = self.metrics.token_signatures.value();
                let admitted = self.admit(&request, now);
                self.spend_on_tokens(signatures);
                match admitted {
                    Ok(token) => self.place(conn, HandOver { upgrade: request, token, unread }, now),
                    Err(refusal) => self.refuse(conn, &refusal, now),
                }
            }
            Err(refusal) => self.refuse(conn, &refusal, now),
        }
    }

    /// Counts the work of a request or join: most of it is signatures, of which there had been `before`.
    pub(super) fn spend_on_tokens(&mut self, before: u64) {
        let signatures = (self.metrics.token_signatures.value() - before) as usize;
        self.work.spend(1 + signatures * limits::WORK_OF_TOKEN);
    }

    /// Whether the request may go on, and as whom.
    fn admit(&mut self, request: &Upgrade, now: Now) -> Result<Option<Arc<CheckedToken>>, Refusal> {
        self.refuse_while_draining()?;
        let Some(tokens) = &mut self.tokens else { return Ok(None) };
        let game = match &request.route {
            Route::Play { game, .. } => Some(game),
            // Its joins may bring tokens of their own.
            Route::Socket { .. }
                if request.token.is_none() && !self.settings.clients.socket_token_required =>
            {
                return Ok(None);
            }
            Route::Socket { .. } => None,
            Route::Echo => return Ok(None),
        };
        let Some(token) = &request.token else {
            let text = "a token is required: ?token=<JWT>, or the subprotocol base64url.bearer.phx.<token in base64>";
            return Err(Refusal::new(RefusalReason::Token, text));
        };
        let token = tokens.check(token, Payer::Request, now).map_err(|unaccepted| match unaccepted {
            Unaccepted::Refused(error) => Refusal::new(RefusalReason::Token, error.to_string()),
            Unaccepted::TooMany(_) => {
                let text =
                    "too many forged tokens came lately, so that yours is not looked at now; try again";
                Refusal::new(RefusalReason::TokenRate, text)
            }
        })?;
        let topic = game.map(|game| Topic::Game(game.clone()));
        let is_granted = |topic: &Topic| token.claims().is_ok_and(|claims| claims.allows(topic));
        if let Some(topic) = topic.filter(|topic| !is_granted(topic)) {
            let text = format!("the token's topics do not include {topic}");
            return Err(Refusal::new(RefusalReason::Token, text));
        }
        Ok(Some(token))
    }

    fn refuse_while_draining(&self) -> Result<(), Refusal> {
        match self.drain {
            Some(_) => Err(Refusal::new(RefusalReason::Draining, "this relay is shutting down; try again")),
            None => Ok(()),
        }
    }

    /// Sends the connection to where its game lives, which may be here.
    fn place(&mut self, conn: ConnId, state: HandOver, now: Now) {
        let target = match &state.upgrade.route {
            Route::Play { game, .. } => self.settings.placement.shard_of(game),
            // Its topics may live anywhere.
            Route::Socket { .. } | Route::Echo => self.id,
        };
        if target == self.id {
            self.seat_player(conn, state, now);
        } else {
            self.set_lifecycle(conn, Lifecycle::HandingOver);
            let Some(connection) = self.connections.find(conn) else {
                return impossible!("whoever is worked on is here");
            };
            // Its request came in time; from here on the rim answers, not the clock.
            connection.session.set_deadline(Deadline::None);
            self.outputs.push_back(Output::HandOver { conn, target, state: Box::new(state) });
        }
    }

    /// Too many connections come from its address: it is not even listened to.
    pub(super) fn refuse_address(&mut self, conn: ConnId, now: Now) {
        let text = "too many connections from this address; close one first";
        self.refuse(conn, &Refusal::new(RefusalReason::AddressLimit, text), now);
    }

    /// The shard of its game had no room for a connection.
    pub(super) fn refuse_hand_over(&mut self, conn: ConnId, now: Now) {
        let text = "no room where this game is played; try again";
        self.refuse(conn, &Refusal::new(RefusalReason::Full, text), now);
    }

    /// Opens a connection whose request may go on, on the shard it belongs to.
    pub(super) fn seat_player(&mut self, conn: ConnId, state: HandOver, now: Now) {
        let HandOver { upgrade, token, mut unread } = state;
        let claims = token.as_ref().and_then(|token| token.claims().ok());
        if let Err(refusal) = self.refuse_while_draining() {
            return self.refuse(conn, &refusal, now);
        }
        if let Some(text) = self.is_full()
            && !self.resumes(&upgrade.route, claims)
        {
            return self.refuse(conn, &Refusal::new(RefusalReason::Full, text), now);
        }
        let dialect = match &upgrade.route {
            Route::Play { .. } => {
                let greeting = match self.take_seat(conn, &upgrade.route, claims, now) {
                    Ok(greeting) => greeting,
                    Err(refusal) => return self.refuse(conn, &refusal, now),
                };
                self.push_exempt(conn, Encoded::raw(upgrade.response()));
                for frame in greeting {
                    self.push_exempt(conn, frame);
                }
                // Joins of a player whose token grants nothing but games bring tokens of their own.
                if claims.is_some_and(Claims::grants_more_than_games) {
                    self.open_channels_of_player(conn, token.clone());
                }
                Dialect::Native
            }
            Route::Socket { serializer, who } => {
                self.push_exempt(conn, Encoded::raw(upgrade.response()));
                self.open_channels(conn, *serializer, who, token.clone(), now);
                Dialect::Phoenix
            }
            Route::Echo => {
                self.push_exempt(conn, Encoded::raw(upgrade.response()));
                Dialect::Echo
            }
        };
        self.set_lifecycle(conn, Lifecycle::Open(dialect));
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        connection.session.set_deadline(Deadline::None);
        let expires_at_s = |claims: &Claims| u32::try_from(claims.expires_at_s).unwrap_or(NEVER_EXPIRES);
        connection.session.expires_at_s = claims.map_or(NEVER_EXPIRES, expires_at_s);
        self.outputs.push_back(Output::Upgraded { conn });
        self.schedule_check(conn, now);
        if !unread.is_empty() {
            self.receive_frames(conn, dialect, &mut unread, now);
        }
    }

    /// Why there is no room for another connection, if there is none.
    fn is_full(&self) -> Option<&'static str> {
        if self.settings.connections_open.value() >= self.settings.connections_max {
            Some("every connection of this relay is taken; try again")
        } else if self.open >= self.settings.connections_per_shard_max {
            Some("every connection of the shard that this belongs to is taken; try again")
        } else {
            None
        }
    }

    /// Whether a request resumes a seat that is there: then it brings no further player.
    fn resumes(&mut self, route: &Route, claims: Option<&Claims>) -> bool {
        let Route::Play { game, resume: Some(token), .. } = route else { return false };
        let index = self.topics.find(&Topic::Game(game.clone()));
        let Some(game) = index.and_then(|index| self.topics.game(index)) else { return false };
        let seat = game.seats().find_token(*token).and_then(|seat| game.seats().seat(seat));
        seat.is_some_and(|seat| claims.is_none_or(|claims| *claims.user == *seat.user()))
    }

    /// Gives the connection its old seat, or a new one, and returns what it is sent first.
    fn take_seat(
        &mut self,
        conn: ConnId,
        route: &Route,
        claims: Option<&Claims>,
        now: Now,
    ) -> Result<Vec<Encoded>, Refusal> {
        let Route::Play { game: name, who, resume, seq, layout, ack } = route else {
            impossible!("only players take seats");
            return Ok(Vec::new());
        };
        if !layout && !self.settings.game_rules(name).is_none_or(|rules| rules.layout.is_plain()) {
            return Err(Refusal::new(RefusalReason::BadRequest, OTHER_LAYOUT));
        }
        let extras = Extras { layout: *layout, ack: *ack };
        let topic = self.subscribers.shared(Topic::Game(name.clone()));
        let found = self.topics.find(&topic);
        let rights = Rights::of_player(claims.is_some_and(|claims| claims.host));
        if let (Some(game), Some(token)) = (found, *resume)
            && let Some(seat) = self.resume(conn, game, token, claims, now)
        {
            let seat = SeatRef { game, seat, rights, resume_unconfirmed: true };
            return Ok(self.greet(conn, seat, Some(*seq), extras, now));
        }
        let guest;
        let (user, name_text) = match claims {
            Some(claims) => (&*claims.user, claims.name.as_deref().or(who.name.as_deref())),
            None => {
                guest = self.guest(who);
                (&*guest, who.name.as_deref())
            }
        };
        let newcomer = Newcomer {
            occupancy: Occupancy::Connected(conn),
            user,
            name: name_text.unwrap_or(user),
            resume_token: self.new_resume_token(),
            joined_at_s: now.unix_s(),
        };
        let Some(game) = found.or_else(|| self.new_topic(&topic, now)) else {
            let text = "this relay has no room for another game; try again";
            return Err(Refusal::new(RefusalReason::Full, text));
        };
        let seat = self.decide_in_game(game, now, |game, context| {
            let seat = game.take_seat(&newcomer, now.instant, &mut context.effects);
            if let Ok(seat) = seat {
                game.note(seat, Step::Joined, context);
            }
            context.metrics.seats.add(seat.is_ok().into());
            seat.map_err(|text| Refusal::new(RefusalReason::Full, text))
        });
        let Some(seat) = seat else {
            impossible!("a game that was found or made is there");
            return Ok(Vec::new());
        };
        let seat = SeatRef { game, seat: seat?, rights, resume_unconfirmed: false };
        Ok(self.greet(conn, seat, None, extras, now))
    }

    /// Takes a held seat again, or one whose connection is still open, which is closed.
    fn resume(
        &mut self,
        conn: ConnId,
        game: TopicIndex,
        token: ResumeToken,
        claims: Option<&Claims>,
        now: Now,
    ) -> Option<SeatIndex> {
        let (new_token, user) = (self.new_resume_token(), claims.map(|claims| &*claims.user));
        let occupant = Occupancy::Connected(conn);
        let resumed = self.decide_in_game(game, now, |game, context| {
            let resumed = game.resume(token, user, occupant, new_token, now.instant, &mut context.effects)?;
            context.metrics.resumes.increment();
            game.note(resumed.seat, Step::Resumed, context);
            context.metrics.seats_held.subtract(matches!(resumed.before, Occupancy::HeldUntil(_)).into());
            Some(resumed)
        });
        let Resumed { seat, .. } = resumed.flatten()?;
        if let Some(rates) = self.held_rates.remove(&(game, seat))
            && let Some(connection) = self.connections.find(conn)
        {
            connection.session.rates = rates;
        }
        Some(seat)
    }

    /// Who somebody is that needs no token: whoever it says, else the next guest. Guests are numbered per shard, and every shard
    /// has its own share of the numbers.
    fn guest(&mut self, who: &Who) -> Box<str> {
        if self.tokens.is_none()
            && let Some(user) = &who.user
        {
            return user.clone();
        }
        self.guests += 1;
        self.metrics.guests.increment();
        let number = (self.guests - 1) * u64::from(self.settings.placement.shards) + u64::from(self.id.0) + 1;
        format!("guest-{}", self.settings.guests_before + number).into()
    }

    fn open_channels(
        &mut self,
        conn: ConnId,
        serializer: Serializer,
        who: &Who,
        token: Option<Arc<CheckedToken>>,
        now: Now,
    ) {
        let claims = token.as_ref().and_then(|token| token.claims().ok());
        let user = match claims {
            Some(claims) => claims.user.clone(),
            None => self.guest(who),
        };
        let name = claims.and_then(|claims| claims.name.as_deref()).or(who.name.as_deref());
        let name = name.unwrap_or(&user).into();
        let is_stranger = self.tokens.is_some() && token.is_none();
        let mut channels = Channels::new(serializer, user, name, token);
        if is_stranger {
            channels = channels.must_join(now.instant + self.settings.clients.socket_join_timeout);
        }
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        connection.session.channels = Some(Box::new(channels));
    }

    /// `resumed`: its seat was held, and what it says of the last event that it has seen.
    fn greet(
        &mut self,
        conn: ConnId,
        seat: SeatRef,
        resumed: Option<Option<u64>>,
        extras: Extras,
        now: Now,
    ) -> Vec<Encoded> {
        match self.connections.find(conn) {
            Some(connection) => connection.seat = Some(seat),
            None => impossible!("whoever is worked on is here"),
        }
        let development = self.tokens.is_none();
        let Some(game) = self.topics.game(seat.game) else {
            impossible!("a seat is in a game");
            return Vec::new();
        };
        game.want_acks(seat.seat, extras.ack);
        let greeting = game.greeting(
            Some(seat.seat),
            resumed.is_some(),
            resumed.flatten(),
            (development, extras.layout),
            now,
        );
        // With views the next tick has more for it.
        self.topics.reschedule(seat.game);
        self.metrics.keyframes.increment();
        self.metrics.events_out.add(greeting.events.len() as u64);
        greeting.into_records(extras.layout).collect()
    }

    pub(super) fn new_resume_token(&mut self) -> ResumeToken {
        let mut token = [0; 16];
        self.random.fill_bytes(&mut token);
        ResumeToken(token)
    }

    /// Answers a request with an error status, and ends the connection.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: &Refusal, now: Now) {
        self.metrics.refusals[refusal.reason.index()].increment();
        if self.settings.notes {
            let note = Note::Refused { reason: refusal.reason, text: refusal.text.clone() };
            self.outputs.push_back(Output::Note(Box::new(note)));
        }
        self.push_exempt(conn, Encoded::raw(refusal.response()));
        self.set_lifecycle(conn, Lifecycle::Closing(Closing::begin(None, PeerEnd::Untold { paused: false })));
        self.start_close_timeout(conn, now);
    }
}
