//! What channels ask of the topics of this shard, and what the topics tell: one message per party, not per member.

use std::sync::Arc;

use rand_core::Rng;

use super::connections::SeatRef;
use super::games::GameIndex;
use super::peer::{Action, Delivered, Delivery, PeerMessage, TopicRequest};
use super::{Output, Shard};
use crate::ids::{Address, ConnId, Party, Topic, TopicName};
use crate::limits::GIVEN_UP_FOR;
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::room::chat::Chat;
use crate::room::game_channels::Beginning;
use crate::room::game_pushes::Played;
use crate::room::request::{Departure, Effect, Join};
use crate::room::seats::{Newcomer, Occupancy, SeatIndex};
use crate::session::rate_limit::RateLimiter;
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::native::Scope;
use crate::wire::phoenix::answers::reason;

impl Shard {
    /// Gives a request to the shard that owns its topic, which may be this one.
    pub(super) fn request(&mut self, request: TopicRequest, now: Now) {
        let target = self.settings.placement.shard_of(request.topic.name());
        if target == self.id {
            self.handle_request(request, now);
        } else {
            let (target, message) = (Party::Shard(target), PeerMessage::Request(Box::new(request)));
            self.outputs.push_back(Output::Forward { target, message });
        }
    }

    /// A request for a topic of this shard.
    pub(super) fn handle_request(&mut self, request: TopicRequest, now: Now) {
        let TopicRequest { topic, from, action } = request;
        match &*topic {
            Topic::Room(_) => self.request_of_room(&topic, from, action, now),
            Topic::Game(name) => self.request_of_game(&topic, name, from, action, now),
        }
    }

    // ── Rooms ───────────────────────────────────────────────────────────────────────────────────────────────────────

    fn request_of_room(&mut self, topic: &Arc<Topic>, from: Address, action: Action, now: Now) {
        let mut effects = Vec::new();
        match action {
            Action::Join(join) => {
                let (random, list_max) = (&mut self.random, self.settings.presence_list_max);
                let new = || Chat::new(topic, random.next_u64(), list_max);
                self.rooms.find_or_insert(topic, new).join(from, *join, now, &mut effects);
            }
            Action::Push(push) => {
                let Some(chat) = self.rooms.find(topic) else { return };
                chat.push(from, push, now, &mut effects);
            }
            Action::Leave(departure) => match self.rooms.find(topic) {
                Some(chat) => chat.leave(from, departure, now, &mut effects),
                None if departure == Departure::Asked => effects.push(Effect::Left { to: from }),
                None => {}
            },
            // Rooms have no state frames.
            Action::WantWhole => {}
        }
        self.room_changed(topic, effects, now);
    }

    fn room_changed(&mut self, topic: &Arc<Topic>, effects: Vec<Effect>, now: Now) {
        let room = self.rooms.find(topic);
        let parties: Vec<Party> = room.map(|chat| chat.audience().parties().collect()).unwrap_or_default();
        self.rooms.changed(topic, now.instant);
        self.metrics.rooms.set(self.rooms.len() as u64);
        self.perform_effects(topic, &parties, effects, now);
    }

    /// Does what is due in rooms.
    pub(super) fn run_rooms(&mut self, now: Now) {
        while let Some(topic) = self.rooms.due(now.instant) {
            let mut effects = Vec::new();
            if let Some(chat) = self.rooms.find(&topic) {
                chat.handle_timeout(now.instant, &mut effects);
            }
            self.room_changed(&topic, effects, now);
        }
        self.rooms.forget_empty(now.instant);
        self.metrics.rooms.set(self.rooms.len() as u64);
    }

    // ── Games ───────────────────────────────────────────────────────────────────────────────────────────────────────

    fn request_of_game(
        &mut self,
        topic: &Arc<Topic>,
        name: &TopicName,
        from: Address,
        action: Action,
        now: Now,
    ) {
        match action {
            Action::Join(join) => self.join_game(topic, name, from, *join, now),
            Action::Push(push) => {
                let Some(index) = self.games.find(name) else { return };
                let Some(game) = self.games.game(index) else { return };
                let seat = game.seat_of_channel(from);
                if let Some(seat) = seat {
                    // Its client has been heard: it has its new token.
                    game.confirm_resume(seat);
                }
                let mut effects = Vec::new();
                match game.push_from_channel(from, push, now, &mut effects) {
                    Played::Changed(applied) => {
                        self.metrics.moves.add(applied.moves.into());
                        self.metrics.objects.add(applied.objects.into());
                        if let Some(corrected) = applied.corrected {
                            self.metrics.corrections[corrected.index()].increment();
                        }
                        self.games.changed(index, now.instant);
                    }
                    Played::Event(scope, record) => {
                        self.metrics.events_in.increment();
                        if let Some(seat) = seat {
                            self.send_event(index, seat, scope, &record);
                        }
                    }
                    Played::Nothing => {}
                }
                self.game_channels_changed(index, effects, now);
            }
            Action::Leave(departure) => {
                if departure == Departure::Asked {
                    self.deliver(from.party(), topic, Delivered::One(Effect::Left { to: from }), now);
                }
                let Some(index) = self.games.find(name) else { return };
                let Some(game) = self.games.game(index) else { return };
                let Some(seat) = game.seat_of_channel(from) else { return };
                let seat = SeatRef { game: index, seat, host: false, resume_unconfirmed: false };
                match departure {
                    Departure::Asked => self.free_seat(seat, LeaveReason::Left, now),
                    Departure::Left(reason) => self.free_seat(seat, reason, now),
                    Departure::Lost => self.hold_or_free(seat, RateLimiter::default(), now),
                }
                self.game_channels_changed(index, Vec::new(), now);
            }
            Action::WantWhole => {
                let Some(index) = self.games.find(name) else { return };
                if let Some(game) = self.games.game(index) {
                    game.want_whole(from.party());
                }
                self.games.changed(index, now.instant);
            }
        }
    }

    fn join_game(&mut self, topic: &Arc<Topic>, name: &TopicName, from: Address, join: Join, now: Now) {
        let new_token = self.new_resume_token();
        let occupant = Occupancy::Channel(from);
        let resumed = join.resume_token.and_then(|token| {
            let index = self.games.find(name)?;
            let user = self.verifier.is_some().then_some(&*join.user);
            let resumed = self.games.game(index)?.resume(token, user, occupant, new_token, now.instant)?;
            Some((index, resumed))
        });
        let (index, seat, join, resumed) = match resumed {
            Some((index, resumed)) => {
                self.metrics.resumes.increment();
                let _rates = self.leave_to_successor(index, &resumed, now);
                let user = self.games.game(index).and_then(|game| game.seats().seat(resumed.seat));
                // In development mode every connection is another guest; the seat knows whose it is.
                let user = user.map_or_else(|| join.user.clone(), |seat| seat.user().into());
                (index, resumed.seat, Join { user, ..join }, true)
            }
            None => {
                let index = match self.games.find(name) {
                    Some(index) => index,
                    None => self.new_game(name, now),
                };
                let newcomer = Newcomer {
                    occupancy: occupant,
                    user: &join.user,
                    name: &join.name,
                    resume_token: new_token,
                    joined_at_s: now.unix_s(),
                };
                let Some(game) = self.games.game(index) else { return };
                let Some(seat) = game.join(&newcomer, now.instant) else {
                    let text = format!("game {name} has all its {} seats taken", game.rules().players_max);
                    let refused =
                        Effect::Refused { to: from, reason: JoinRefusal::Full, response: reason(&text) };
                    return self.deliver(from.party(), topic, Delivered::One(refused), now);
                };
                self.metrics.seats.add(1);
                (index, seat, join, false)
            }
        };
        let begin = Beginning {
            topic,
            presence_list_max: self.settings.presence_list_max,
            presence_epoch: self.random.next_u64(),
        };
        let Some(game) = self.games.game(index) else { return };
        let effects = game.open_channel(from, seat, &join, resumed, begin, now);
        self.games.changed(index, now.instant);
        self.game_channels_changed(index, effects, now);
    }

    /// Something has happened among the channels of a game: `effects`, then what others caused.
    pub(super) fn game_channels_changed(&mut self, index: GameIndex, mut effects: Vec<Effect>, now: Now) {
        let Some(game) = self.games.game(index) else { return };
        effects.extend(game.take_channel_effects(now.instant));
        let Some(channels) = game.channels() else { return };
        let topic = channels.topic().clone();
        let parties: Vec<Party> = channels.audience().parties().collect();
        if let Some(due) = channels.due() {
            self.games.channels_due(index, due);
        }
        self.perform_effects(&topic, &parties, effects, now);
    }

    /// Tells channels what is due by itself: presence.
    pub(super) fn run_game_channels(&mut self, now: Now) {
        while let Some(index) = self.games.due_channels(now.instant) {
            self.game_channels_changed(index, Vec::new(), now);
        }
    }

    /// The frame of a tick: one message for each party with members.
    pub(super) fn tell_state_to_channels(&mut self, index: GameIndex, now: Now) {
        let Some(game) = self.games.game(index) else { return };
        if game.channels().is_none() {
            return;
        }
        let frame = game.channel_frame(&mut self.pool);
        self.game_channels_changed(index, Vec::new(), now);
        let Some(frame) = frame else { return };
        let Some(channels) = self.games.game(index).and_then(|game| game.channels()) else { return };
        let encoded = frame.delta.as_ref().map_or(0, |copies| copies.encoded())
            + frame.whole.as_ref().map_or(0, |(copies, _)| copies.encoded());
        self.metrics.frames_encoded.add(encoded);
        let parties: Vec<Party> = channels.audience().parties().collect();
        let topic = channels.topic().clone();
        for party in parties {
            let whole = frame.whole.as_ref().filter(|(_, stale)| stale.contains(&party));
            let whole = whole.map(|(copies, _)| copies.clone());
            if frame.delta.is_some() || whole.is_some() {
                let (delta, after_loss) = (frame.delta.clone(), frame.lost.contains(&party));
                self.deliver(party, &topic, Delivered::Frame { delta, whole, after_loss }, now);
            }
        }
    }

    /// An event for the native players that it is meant for.
    pub(super) fn send_event(&mut self, index: GameIndex, sender: SeatIndex, scope: Scope, record: &Encoded) {
        let Some(game) = self.games.game(index) else { return };
        let receivers: Vec<ConnId> = game.receivers(sender, scope).collect();
        self.metrics.events_out.add(receivers.len() as u64);
        for receiver in receivers {
            self.push(receiver, record.clone());
        }
    }

    // ── What topics tell ────────────────────────────────────────────────────────────────────────────────────────────

    /// Carries out what a topic decided. `parties`: those with members.
    fn perform_effects(&mut self, topic: &Arc<Topic>, parties: &[Party], effects: Vec<Effect>, now: Now) {
        for effect in effects {
            match effect {
                Effect::Broadcast { copies, except, after_state } => {
                    self.metrics.broadcasts_encoded.add(copies.encoded());
                    for party in parties {
                        let what = Delivered::All { copies: copies.clone(), except, after_state };
                        self.deliver(*party, topic, what, now);
                    }
                }
                Effect::Joined { to, .. }
                | Effect::Refused { to, .. }
                | Effect::Reply { to, .. }
                | Effect::Push { to, .. }
                | Effect::Whole { to, .. }
                | Effect::Left { to }
                | Effect::Kicked { to }
                | Effect::Replaced { to } => self.deliver(to.party(), topic, Delivered::One(effect), now),
            }
        }
    }

    /// Tells the members at `target`, which may be this shard.
    pub(super) fn deliver(&mut self, target: Party, topic: &Arc<Topic>, what: Delivered, now: Now) {
        let delivery = Delivery { topic: topic.clone(), what };
        if target == Party::Shard(self.id) {
            self.handle_delivery(delivery, now);
        } else {
            let message = PeerMessage::Deliver(Box::new(delivery));
            self.outputs.push_back(Output::Forward { target, message });
        }
    }

    /// Another party's mailbox is full, and as much waits behind it as may: the message is not on its way.
    pub(super) fn forward_refused(&mut self, target: Party, message: PeerMessage, now: Now) {
        self.metrics.forwards_refused.increment();
        match message {
            PeerMessage::Request(request) => self.answer_refused_request(*request),
            PeerMessage::Deliver(delivery) => self.give_up_members(target, *delivery, now),
        }
    }

    /// Members on `target` cannot be told something: they are told that much, and may join again and catch up.
    fn give_up_members(&mut self, target: Party, delivery: Delivery, now: Now) {
        let Delivery { topic, what } = delivery;
        let channel = match what {
            Delivered::One(effect) => effect.to(),
            Delivered::All { .. } => None,
            // A frame that is lost is followed by a whole one.
            Delivered::Frame { .. } => {
                let Some(index) = self.games.find(topic.name()) else { return };
                if let Some(game) = self.games.game(index) {
                    game.frame_lost(target);
                }
                return self.games.changed(index, now.instant);
            }
            Delivered::GivenUp { .. } => return,
        };
        // Until that has arrived, more is lost on the same members.
        self.given_up.retain(|_, until| *until > now.instant);
        let until = now.instant + GIVEN_UP_FOR;
        if self.given_up.insert((target, topic.clone(), channel), until).is_none() {
            self.deliver(target, &topic, Delivered::GivenUp { channel }, now);
        }
    }
}
