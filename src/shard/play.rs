//! Frames of an open connection, and the records in them.

use std::time::Duration;

use super::connections::SeatRef;
use super::peer::{Action, TopicRequest};
use super::unread::Waiting;
use super::{Next, Output, Shard};
use crate::ids::ConnId;
use crate::impossible;
use crate::limits;
use crate::reasons::{CloseReason, CorrectionReason, ErrorCode, RateClass};
use crate::room::game::Moved;
use crate::room::game_events::{NewEvent, PayloadFormat, no_receiver};
use crate::room::request::Rights;
use crate::session::liveness::Silence;
use crate::session::rate_limit::Verdict;
use crate::session::{Deadline, Dialect, Lifecycle};
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::frame::{ControlPayload, Decoder, Incoming, MessageLimits, Opcode};
use crate::wire::layout::Place;
use crate::wire::native::{self, Record, Scope, answers};
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::rate_limited;
use crate::wire::push::{Push, PushEvent};

impl Shard {
    /// Bytes of an open connection: they are charged to its budget, break its silence, and are read.
    pub(super) fn receive_frames(&mut self, conn: ConnId, dialect: Dialect, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let session = &mut connection.session;
        session.silence = Silence::broken(now.instant);
        if let Some(seat) = connection.seat.as_mut().filter(|seat| seat.resume_unconfirmed) {
            seat.resume_unconfirmed = false;
            match self.topics.game(seat.game) {
                Some(game) => game.confirm_resume(seat.seat),
                None => impossible!("a seat is in a game"),
            }
        }
        let stop = match dialect {
            Dialect::Native | Dialect::Phoenix => {
                session.rates.charge_bytes(bytes.len(), &self.settings.rates, now.instant)
            }
            Dialect::Echo => None,
        };
        let waiting = self.unread.wait_behind(conn, bytes);
        let decoder = (waiting == Waiting::Nothing).then(|| std::mem::take(&mut session.decoder));
        if let Some(stop) = stop {
            self.stop_reading(conn, stop, now);
        }
        if let Some(decoder) = decoder {
            let left = self.read_messages(conn, dialect, decoder, bytes, now);
            if left > 0 {
                self.leave_unread(conn, &bytes[bytes.len() - left..]);
            }
            return;
        }
        self.work.spend(1 + bytes.len() / limits::WORK_BYTES);
        if waiting == Waiting::Full {
            self.pause_reading(conn, now.instant + limits::UNREAD_STOP, now);
        }
    }

    /// So many more bytes were on the wire than an open connection's `handle_received` is given: they are charged to its budget.
    pub fn handle_overhead(&mut self, conn: ConnId, bytes: usize, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        let session = &mut connection.session;
        if matches!(session.lifecycle, Lifecycle::Open(Dialect::Native | Dialect::Phoenix))
            && let Some(stop) = session.rates.charge_bytes(bytes, &self.settings.rates, now.instant)
        {
            self.stop_reading(conn, stop, now);
        }
    }

    /// Handles whole messages one by one; of the last one a part may wait in the decoder. Returns how many bytes are left when
    /// the work of this turn is done. The decoder is out of the table meanwhile: messages borrow from it.
    pub(super) fn read_messages(
        &mut self,
        conn: ConnId,
        dialect: Dialect,
        mut decoder: Decoder,
        mut bytes: &mut [u8],
        now: Now,
    ) -> usize {
        let limits = match dialect {
            Dialect::Native | Dialect::Phoenix => MessageLimits {
                bytes_max: self.settings.clients.message_bytes_max,
                fragments_max: limits::MESSAGE_FRAGMENTS_MAX,
            },
            Dialect::Echo => MessageLimits {
                bytes_max: limits::ECHO_MESSAGE_BYTES_MAX,
                fragments_max: limits::ECHO_MESSAGE_FRAGMENTS_MAX,
            },
        };
        // Of the pings that came at once only the newest is answered (RFC 6455 section 5.5.3); a conformance suite wants all.
        let mut newest_ping = None;
        while !bytes.is_empty() && self.work.is_left() {
            let before = bytes.len();
            match decoder.decode(&mut bytes, &limits) {
                Ok(Some(Incoming::Ping(payload))) if dialect != Dialect::Echo => {
                    self.metrics.frames_in.increment();
                    newest_ping = Some(ControlPayload::new(payload));
                }
                Ok(Some(message)) => {
                    self.metrics.frames_in.increment();
                    match self.handle_message(conn, dialect, &message, now) {
                        Next::GoOn => {}
                        Next::Stop => {
                            self.discard(conn, bytes.len());
                            return 0;
                        }
                    }
                }
                Ok(None) => break,
                Err(violation) => {
                    // A ping that was complete before the violation is still answered.
                    if let Some(ping) = newest_ping {
                        self.answer_ping(conn, ping.as_slice());
                    }
                    self.close(conn, violation.close_reason(), now);
                    return 0;
                }
            }
            self.work.spend(1 + (before - bytes.len()) / limits::WORK_BYTES);
        }
        // Nearly always the last message was whole, and there is nothing to put back.
        if !decoder.is_empty() {
            match self.connections.find(conn) {
                Some(connection) => connection.session.decoder = decoder,
                None => impossible!("whoever is worked on is here"),
            }
        }
        if let Some(ping) = newest_ping {
            self.answer_ping(conn, ping.as_slice());
        }
        bytes.len()
    }

    fn answer_ping(&mut self, conn: ConnId, payload: &[u8]) {
        let pong = match payload {
            [] => self.empty_pong.clone(),
            _ => Encoded::message(Opcode::Pong, payload),
        };
        self.push(conn, pong);
    }

    fn handle_message(&mut self, conn: ConnId, dialect: Dialect, message: &Incoming<'_>, now: Now) -> Next {
        match (message, dialect) {
            (Incoming::Binary(payload), Dialect::Native) => return self.handle_record(conn, payload, now),
            (Incoming::Text(text), Dialect::Native | Dialect::Phoenix) => {
                return self.handle_text(conn, text, now);
            }
            (Incoming::Binary(payload), Dialect::Phoenix) => return self.handle_binary(conn, payload, now),
            (Incoming::Text(text), Dialect::Echo) => {
                self.push(conn, Encoded::message(Opcode::Text, text.as_bytes()));
            }
            (Incoming::Binary(payload), Dialect::Echo) => {
                self.push(conn, Encoded::message(Opcode::Binary, payload));
            }
            (Incoming::Ping(payload), _) => self.answer_ping(conn, payload),
            (Incoming::Pong(_), _) => {}
            (Incoming::Close(close), _) => {
                self.answer_close(conn, close.map(|(code, _)| code), now);
                return Next::Stop;
            }
        }
        Next::GoOn
    }

    /// One record: decoded where it lies, admitted by its class, and given to the game.
    fn handle_record(&mut self, conn: ConnId, payload: &[u8], now: Now) -> Next {
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        let Some(seat) = connection.seat else { return self.push_record(conn, payload, now) };
        let Some(game) = self.topics.game(seat.game) else {
            impossible!("a seat is in a game");
            return Next::Stop;
        };
        let record = match native::decode(payload, &game.rules().layout) {
            Ok(record) => record,
            Err(malformed) => return self.handle_malformed(conn, &malformed.to_string(), now),
        };
        let (class, tokens) = cost_of(&record);
        match connection.session.rates.admit_many(class, tokens, &self.settings.rates, now.instant) {
            Verdict::Admitted => {}
            verdict @ (Verdict::Dropped { .. } | Verdict::Abuse) => {
                return self.drop_record(conn, class, verdict, now);
            }
        }
        let Record::Step { input_seq, state } = record else {
            self.handle_admitted(conn, seat, &record, now);
            return Next::GoOn;
        };
        match game.step(seat.seat, Some(input_seq), state, now.instant) {
            Moved::Applied => {
                self.metrics.moves.increment();
                if game.changed(now.instant) {
                    self.topics.reschedule(seat.game);
                }
            }
            Moved::Refused { reason, place } => {
                self.refuse_step(conn, seat, (reason, input_seq, place), now);
            }
        }
        Next::GoOn
    }

    /// A step was refused: its player is corrected, and told by an Ack that it was used, if it wants to be.
    fn refuse_step(
        &mut self,
        conn: ConnId,
        seat: SeatRef,
        (reason, input_seq, place): (CorrectionReason, u16, Place),
        now: Now,
    ) {
        let Some(game) = self.topics.game(seat.game) else {
            return impossible!("a seat is in a game");
        };
        let axes = usize::from(game.rules().layout.axes);
        if game.has_ack(seat.seat) && game.changed(now.instant) {
            self.topics.reschedule(seat.game);
        }
        self.correct(conn, reason, input_seq, &place[..axes]);
    }

    /// A record that its budget does not admit.
    #[cold]
    fn drop_record(&mut self, conn: ConnId, class: RateClass, verdict: Verdict, now: Now) -> Next {
        self.metrics.rate_limited[class.index()].increment();
        match verdict {
            Verdict::Admitted | Verdict::Dropped { tell: false, .. } => {}
            Verdict::Dropped { retry_after, tell: true } => self.tell_rate_limited(conn, class, retry_after),
            Verdict::Abuse => {
                self.close(conn, CloseReason::Abuse, now);
                return Next::Stop;
            }
        }
        Next::GoOn
    }

    fn handle_admitted(&mut self, conn: ConnId, seat: SeatRef, record: &Record<'_>, now: Now) {
        let Some(game) = self.topics.game(seat.game) else {
            return impossible!("a seat is in a game");
        };
        let done = match record {
            Record::Step { .. } => return impossible!("a step is taken before"),
            Record::HostSteps(_) if seat.rights != Rights::Host => {
                let text = "HostMoves and HostSteps need a token with \"host\": true";
                Err((ErrorCode::Unauthorized, text.to_owned()))
            }
            Record::HostSteps(steps) => {
                let moved = game.host_steps(steps);
                self.metrics.moves.add(if moved.is_ok() { steps.count() as u64 } else { 0 });
                moved
            }
            Record::SetState { key, value } => {
                self.metrics.objects.increment();
                if !game.set_state(seat.seat, *key, value) {
                    return;
                }
                Ok(())
            }
            Record::SetView { radius } => {
                game.set_view(seat.seat, *radius).map_err(|text| (ErrorCode::LimitReached, text))
            }
            Record::PutObject(object) => game.put_object(seat.seat, object),
            Record::RemoveObject { object_id } => game.remove_object(seat.seat, *object_id),
            Record::Event { scope, code, payload } => {
                return self.relay_event(conn, seat, *scope, *code, payload, now);
            }
            Record::Who(players) => {
                let answer = game.encode_who(players);
                return self.push(conn, answer);
            }
            Record::Ping(ping) => {
                let (tick, relay_us) =
                    (game.clock().number_at(now.instant), game.clock().relay_us(now.instant));
                let pong = answers::pong(ping, tick, relay_us);
                return self.push(conn, pong);
            }
        };
        match done {
            Ok(()) => {
                if matches!(record, Record::PutObject(_) | Record::RemoveObject { .. }) {
                    self.metrics.objects.increment();
                }
                if game.changed(now.instant) {
                    self.topics.reschedule(seat.game);
                }
            }
            Err((code, text)) => self.tell_error(conn, code, &text),
        }
    }

    /// A record of a native member without a seat on this shard: its game, wherever that is, decides.
    #[cold]
    fn push_record(&mut self, conn: ConnId, payload: &[u8], now: Now) -> Next {
        let channels = self.channels(conn).map_or(&[][..], |channels| channels.all());
        let Some(channel) = channels.iter().find(|channel| channel.format == Format::Native) else {
            impossible!("who sends records has a seat or a channel");
            return Next::Stop;
        };
        let (topic, number) = (channel.topic.clone(), channel.number);
        let record = match native::decode(payload, &channel.layout.clone()) {
            Ok(record) => record,
            Err(malformed) => return self.handle_malformed(conn, &malformed.to_string(), now),
        };
        let (class, tokens) = cost_of(&record);
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        let session = &mut connection.session;
        let verdict = session.rates.admit_many(class, tokens, &self.settings.rates, now.instant);
        if verdict != Verdict::Admitted {
            return self.drop_record(conn, class, verdict, now);
        }
        let push = Push { reference: None, event: PushEvent::Game((&record).into()) };
        let action = Action::Push(push);
        self.request(TopicRequest { topic, from: self.address(conn, number), action }, now);
        Next::GoOn
    }

    fn relay_event(
        &mut self,
        conn: ConnId,
        seat: SeatRef,
        scope: Scope,
        code: u16,
        payload: &[u8],
        now: Now,
    ) {
        let happened = self.decide_in_game(seat.game, now, |game, context| {
            let event = NewEvent { scope, code, format: PayloadFormat::Bytes, payload };
            game.event(seat.seat, event, now.instant, &mut context.effects)
        });
        if happened.flatten().is_none() {
            return self.tell_error(conn, ErrorCode::NoSuchPlayer, &no_receiver(scope));
        };
        self.metrics.events_in.increment();
    }

    pub(super) fn handle_malformed(&mut self, conn: ConnId, text: &str, now: Now) -> Next {
        let Some(connection) = self.connections.find(conn) else {
            impossible!("whoever is worked on is here");
            return Next::Stop;
        };
        let too_many = connection.session.rates.malformed(now.instant);
        self.tell_error(conn, ErrorCode::Malformed, text);
        if too_many {
            self.close(conn, CloseReason::Malformed, now);
            return Next::Stop;
        }
        Next::GoOn
    }

    fn correct(&mut self, conn: ConnId, reason: CorrectionReason, input_seq: u16, coordinates: &[f32]) {
        self.metrics.corrections[reason.index()].increment();
        self.push(conn, answers::correction(reason, input_seq, coordinates));
    }

    fn tell_error(&mut self, conn: ConnId, code: ErrorCode, text: &str) {
        self.metrics.errors[code.index()].increment();
        self.push(conn, answers::error(code, text));
    }

    fn tell_rate_limited(&mut self, conn: ConnId, class: RateClass, retry_after: Duration) {
        self.push(conn, answers::rate_limited(class, retry_after));
    }

    /// Tells the client in its dialect that its byte budget is used up.
    fn tell_reading_stops(&mut self, conn: ConnId, stop: Duration) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        match connection.session.lifecycle {
            Lifecycle::Open(Dialect::Phoenix) => {
                let payload = rate_limited(RateClass::Bytes.label(), stop);
                self.push_on_all(conn, Event::RateLimited, &payload);
            }
            Lifecycle::Open(Dialect::Native) => self.tell_rate_limited(conn, RateClass::Bytes, stop),
            Lifecycle::Open(Dialect::Echo)
            | Lifecycle::Upgrading
            | Lifecycle::HandingOver
            | Lifecycle::Closing(_) => {}
        }
    }

    /// The byte budget is used up: nothing is read until it is back, or has been forgiven.
    fn stop_reading(&mut self, conn: ConnId, stop: Duration, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let tell = connection.session.rates.tell(RateClass::Bytes, now.instant);
        self.metrics.rate_limited[RateClass::Bytes.index()].increment();
        if tell {
            self.tell_reading_stops(conn, stop);
        }
        self.pause_reading(conn, now.instant + stop, now);
    }

    /// Nothing is read from the client until `until`; a stop that lasts longer goes on.
    fn pause_reading(&mut self, conn: ConnId, until: Instant, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let until = match connection.session.deadline() {
            Deadline::Budget(earlier) => earlier.max(until),
            Deadline::None => {
                self.outputs.push_back(Output::Pause { conn });
                until
            }
            // The connection is not open.
            Deadline::Upgrade(_) | Deadline::Close(_) => return,
        };
        connection.session.set_deadline(Deadline::Budget(until));
        self.schedule_check(conn, now);
    }
}

/// What a record takes from its budgets.
fn cost_of(record: &Record<'_>) -> (RateClass, u32) {
    match record {
        Record::Step { .. } | Record::HostSteps(_) => (RateClass::Move, 1),
        Record::PutObject(_)
        | Record::RemoveObject { .. }
        | Record::SetState { .. }
        | Record::SetView { .. } => (RateClass::Object, 1),
        Record::Event { .. } => (RateClass::Event, 1),
        Record::Who(players) => {
            (RateClass::Event, players.len().div_ceil(limits::WHO_PLAYERS_PER_TOKEN).max(1) as u32)
        }
        Record::Ping(_) => (RateClass::Ping, 1),
    }
}
