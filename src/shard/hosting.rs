//! Hosting topics: the requests of channels, and the effects of topics: one message per party, not per member.

use std::sync::Arc;

use super::kind::Kind;
use super::peer::{Action, Delivered, Delivery, PeerMessage, TopicRequest};
use super::topics::TopicIndex;
use super::{Output, Shard};
use crate::ids::{Address, ConnId, Party, Topic};
use crate::impossible;
use crate::limits::{TOPICS_BYTES_MAX, TOPICS_PER_SHARD_MAX};
use crate::planted;
use crate::reasons::{CloseReason, JoinRefusal};
use crate::room::audience::{Audience, Receivers};
use crate::room::game::Game;
use crate::room::hosted::{Context, Lost};
use crate::room::request::{Departure, Effect, Join, ToMember};
use crate::room::seats::SeatIndex;
use crate::time::{Now, RelayTime};
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
        let found = self.topics.find(&topic);
        match (action, found) {
            (Action::Join(join), Some(index)) => {
                self.decide(index, now, |kind, context| kind.hosted().join(from, *join, context));
            }
            (Action::Join(join), None) => self.join_new_topic(&topic, from, *join, now),
            (Action::Push(push), Some(index)) => {
                self.decide(index, now, |kind, context| kind.hosted().push(from, push, context));
            }
            (Action::Leave(departure), Some(index)) => {
                self.decide(index, now, |kind, context| kind.hosted().leave(from, departure, context));
            }
            (Action::Leave(Departure::Asked), None) => self.tell_member(&topic, from, ToMember::Left, now),
            (Action::WantWhole, Some(index)) => {
                if let Some(game) = self.topics.game(index) {
                    game.want_whole_for(from, now.instant);
                }
                self.topics.reschedule(index);
            }
            // The topic has ended, and its members have been told of that.
            (Action::Push(_) | Action::Leave(_) | Action::WantWhole, None) => {}
        }
    }

    fn join_new_topic(&mut self, topic: &Arc<Topic>, from: Address, join: Join, now: Now) {
        let Some(index) = self.new_topic(topic, now) else {
            let response = reason("this relay has no room for another topic; try again");
            let refused = ToMember::Refused { reason: JoinRefusal::Full, response };
            return self.tell_member(topic, from, refused, now);
        };
        self.decide(index, now, |kind, context| kind.hosted().join(from, join, context));
    }

    /// A topic with nobody in it: the caller lets somebody join, and calls `topic_changed`. `None`: there are as many as there
    /// may be.
    pub(super) fn new_topic(&mut self, topic: &Arc<Topic>, now: Now) -> Option<TopicIndex> {
        if !self.has_room_for_a_topic() {
            return None;
        }
        let relay_time = self.clock.get_or_insert_with(|| RelayTime::set_to(now)).at(now.instant);
        let kind = Kind::new(topic, &self.settings, &mut self.random, relay_time);
        Some(self.topics.insert(topic, kind))
    }

    /// Whether one more topic may begin: clients can make up names at no cost.
    fn has_room_for_a_topic(&self) -> bool {
        let metrics = &self.metrics;
        let parts = [
            &metrics.memory_games,
            &metrics.memory_rooms,
            &metrics.memory_documents,
            &metrics.memory_presence,
        ];
        let bytes: u64 = parts.iter().map(|part| part.value()).sum();
        self.topics.len() < TOPICS_PER_SHARD_MAX && bytes < TOPICS_BYTES_MAX
    }

    /// Lets a topic decide, and does what it wants done. `None`: there is none at `index`.
    pub(super) fn decide<R>(
        &mut self,
        index: TopicIndex,
        now: Now,
        act: impl FnOnce(&mut Kind, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let kind = self.topics.kind(index)?;
        let mut context = Context {
            now,
            metrics: &self.metrics,
            random: &mut self.random,
            development: self.tokens.is_none(),
            notes: self.settings.notes,
            presence_list_max: self.settings.clients.presence_list_max,
            work: 0,
            effects: Vec::new(),
        };
        let result = act(kind, &mut context);
        let Context { effects, work, .. } = context;
        self.work.spend(work);
        self.topic_changed(index, effects, now);
        Some(result)
    }

    /// Like `decide`, for a game.
    pub(super) fn decide_in_game<R>(
        &mut self,
        index: TopicIndex,
        now: Now,
        act: impl FnOnce(&mut Game, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let act = |kind: &mut Kind, context: &mut Context<'_>| Some(act(kind.as_game_mut()?, context));
        self.decide(index, now, act)?
    }

    /// Carries out what a topic has decided.
    fn topic_changed(&mut self, index: TopicIndex, effects: Vec<Effect>, now: Now) {
        let Some(topic) = self.topics.name(index).cloned() else {
            return impossible!("a topic that has decided is there");
        };
        self.topics.changed(index);
        self.metrics.games.set(self.topics.games() as u64);
        self.metrics.rooms.set(self.topics.rooms() as u64);
        self.metrics.documents.set(self.topics.documents() as u64);
        for effect in effects {
            self.perform(index, &topic, effect, now);
        }
    }

    /// Who gets the broadcasts of a topic now.
    pub(super) fn receivers_of(&mut self, index: TopicIndex) -> Receivers {
        let audience = self.topics.kind(index).and_then(|kind| kind.as_hosted().audience());
        audience.map(Audience::receivers).unwrap_or_default()
    }

    /// Lets topics do what is due in them, in the order in which it became due.
    pub(super) fn run_topics(&mut self, now: Now) {
        while self.work.is_left()
            && let Some(index) = self.topics.due(now.instant)
        {
            self.work.spend(1);
            if let Some(due) = self.topics.game(index).and_then(|game| game.take_due_tick(now.instant)) {
                self.tick(index, due, now);
            }
            self.decide(index, now, |kind, context| kind.hosted().timeout(context));
        }
    }

    // ── What topics want done ───────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn perform(&mut self, index: TopicIndex, topic: &Arc<Topic>, effect: Effect, now: Now) {
        self.work.spend(1);
        match effect {
            Effect::Member { to, what } => self.tell_member(topic, to, what, now),
            Effect::Broadcast { copies, to: Receivers { parties, joins }, except, after_state } => {
                self.metrics.broadcasts_encoded.add(copies.encoded());
                for party in parties {
                    let what = Delivered::All { joins, copies: copies.clone(), except, after_state };
                    self.deliver(party, topic, what, now);
                }
            }
            Effect::Event { sender, scope, record } => self.send_event(index, sender, scope, &record),
            Effect::Some { copies, to } => {
                self.metrics.broadcasts_encoded.add(copies.encoded());
                for (party, to) in to {
                    let copies = copies.clone();
                    self.deliver(party, topic, Delivered::Some { to: to.into(), copies }, now);
                }
            }
            Effect::Near { to, record } => {
                self.metrics.events_out.add(to.len() as u64);
                to.into_iter().for_each(|conn| self.push(conn, record.clone()));
            }
            Effect::Unseated { conn, seat } => self.unseat(conn, index, seat, now),
            Effect::HoldEnded { .. } if planted!(KeepsHeldRates) => {}
            Effect::HoldEnded { seat } => {
                self.held_rates.remove(&(index, seat));
            }
            Effect::Ask { ticket, request } => self.ask(index, ticket, request),
            Effect::Note(note) => self.outputs.push_back(Output::Note(note)),
        }
    }

    /// An event for the native players that it is meant for.
    fn send_event(&mut self, index: TopicIndex, sender: SeatIndex, scope: Scope, record: &Encoded) {
        // The game may have ended by what it decided.
        let Some(game) = self.topics.game(index) else { return };
        let receivers: Vec<ConnId> = game.receivers(sender, scope).collect();
        self.metrics.events_out.add(receivers.len() as u64);
        for receiver in receivers {
            self.push(receiver, record.clone());
        }
    }

    /// A connection's seat is another's now, and the rate limits of its player are kept for that one.
    fn unseat(&mut self, conn: ConnId, index: TopicIndex, seat: SeatIndex, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("a connected seat has a connection");
        };
        connection.seat = None;
        let rates = std::mem::take(&mut connection.session.rates);
        self.held_rates.insert((index, seat), rates);
        self.close(conn, CloseReason::Replaced, now);
    }

    pub(super) fn tell_member(&mut self, topic: &Arc<Topic>, to: Address, what: ToMember, now: Now) {
        self.deliver(to.party(), topic, Delivered::One { to, what }, now);
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

    // ── What is lost ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Another party's mailbox is full, and as much waits behind it as may: the message is not on its way.
    pub(super) fn forward_refused(
        &mut self,
        target: Party,
        message: PeerMessage,
        now: Now,
    ) -> Option<PeerMessage> {
        self.metrics.forwards_refused.increment();
        match message {
            PeerMessage::Request(request) => {
                self.answer_refused_request(*request, now);
                None
            }
            PeerMessage::Deliver(delivery) => self.give_up_members(target, *delivery, now),
            PeerMessage::Ask { request, .. } => {
                self.question_refused(request, now);
                None
            }
            // Whoever asked waits until its deadline.
            PeerMessage::Answer { .. } => None,
        }
    }

    /// Members at `target` cannot be told something. The topic takes them out at once, so that nothing more is lost on them, and
    /// the notice of it takes the place of what was lost: whoever joins again is a new member, and behind the notice.
    fn give_up_members(&mut self, target: Party, delivery: Delivery, now: Now) -> Option<PeerMessage> {
        let Delivery { topic, what } = delivery;
        let found = self.topics.find(&topic);
        let lost = match what {
            // The client is told of a later input.
            Delivered::One { what: ToMember::Ack(_), .. } => return None,
            Delivered::One { to, .. } => Lost::One(to),
            Delivered::All { joins, .. } => Lost::AllAt { party: target, joins },
            // A frame that is lost is followed by a whole one.
            // It is no part of a stream, and nobody comes back for it.
            Delivered::Some { .. } => return None,
            Delivered::Frames(_) => {
                let index = found?;
                self.topics.game(index)?.want_whole(target, now.instant);
                self.topics.reschedule(index);
                return None;
            }
            Delivered::GivenUp(_) => return None,
        };
        if planted!(LosesInSilence) {
            return None;
        }
        // What comes behind the first that was lost was decided before the topic knew: its notice is for all of that.
        if !self.noticed.entry(topic.clone()).or_default().insert(lost) {
            return None;
        }
        let give_up = |kind: &mut Kind, context: &mut Context<'_>| kind.hosted().give_up(lost, context);
        found.and_then(|index| self.decide(index, now, give_up));
        // Also if they have left meanwhile: what follows must not reach whoever has missed this.
        Some(PeerMessage::Deliver(Box::new(Delivery { topic, what: Delivered::GivenUp(lost) })))
    }

    /// A party has ended: nobody is behind it any more, and its topics are gone.
    pub(super) fn party_ended(&mut self, party: Party, now: Now) {
        let topics: Vec<TopicIndex> = self.topics.indices().collect();
        for index in topics {
            let Receivers { parties, joins } = self.receivers_of(index);
            if parties.contains(&party) {
                let lost = Lost::AllAt { party, joins };
                self.decide(index, now, |kind, context| kind.hosted().give_up(lost, context));
            }
        }
        if !planted!(KeepsEndedTopics) {
            self.end_channels_of(party, now);
        }
    }
}
