//! Who comes to a game and goes: seats are taken, taken again, held and freed, and what a member is told first.

use zerocopy::IntoBytes;

use super::game::{Game, pool_of_greetings};
use super::game_events::{PastEvent, receives};
use super::history::Missed;
use super::player_keys::Told;
use super::request::{Effect, ToMember};
use super::seats::{Newcomer, Occupancy, SeatIndex};
use crate::ids::ResumeToken;
use crate::impossible;
use crate::limits::SEATS_FREED_PER_TICK_MIN;
use crate::planted;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::native::{Welcome, kind};

/// What became of the seat of a player that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatFate {
    /// It waits for its player.
    Held,
    /// The game does not hold seats.
    Freed,
}

/// How a seat was taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The seat.
    pub seat: SeatIndex,
    /// Who had it until now.
    pub before: Occupancy,
}

/// The first records of a native member, in the order they are sent.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Greeting {
    pub welcome: Encoded,
    pub layout: Encoded,
    pub roster: Encoded,
    pub keyframe: Encoded,
    /// Those that it missed.
    pub events: Vec<Encoded>,
}

impl Greeting {
    /// In the order in which they are sent.
    pub fn into_records(self, with_layout: bool) -> impl Iterator<Item = Encoded> {
        let Self { welcome, layout, roster, keyframe, events } = self;
        let layout = with_layout.then_some(layout);
        std::iter::once(welcome).chain(layout).chain([roster, keyframe]).chain(events)
    }
}

impl Game {
    /// Seats a newcomer; `Err`: why there is no seat for it, in a sentence.
    pub fn take_seat(
        &mut self,
        newcomer: &Newcomer<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<SeatIndex, String> {
        let players_max = self.rules.players_max;
        // Seats that were freed within a tick are taken again behind it, so the table grows with whoever leaves and comes within one.
        let freed_max = SEATS_FREED_PER_TICK_MIN.max(players_max as usize);
        if self.seats.len() >= players_max as usize || self.seats.freed() >= freed_max {
            return Err(format!("game {} has all its {players_max} seats taken", self.name()));
        }
        let Some(seat) = self.seats.take(newcomer) else {
            let name = self.name();
            return Err(format!(
                "game {name} has given all its player ids; it takes players again when it has ended"
            ));
        };
        self.positions.grow(self.seats.slots());
        match self.player(seat) {
            Some(player) => self.roster.joined(player, &self.seats),
            None => impossible!("a seat that was taken has a player"),
        }
        self.changed(now);
        if newcomer.occupancy.is_native() {
            if !planted!(InformsTwice) {
                self.roster.informed(seat);
            }
            self.tell_channels_joined(seat, now, effects);
        }
        Ok(seat)
    }

    /// Gives the seat that `token` names to `occupant`, under `new_token`; `None`: there is no such seat, or it is another
    /// user's (`user`: whose token the client showed; `None` in development mode, where every guest is new).
    pub fn resume(
        &mut self,
        token: ResumeToken,
        user: Option<&str>,
        occupant: Occupancy,
        new_token: ResumeToken,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Option<Resumed> {
        let index = self.seats.find_token(token)?;
        let seat = self.seats.seat_mut(index)?;
        if user.is_some_and(|user| user != seat.user()) {
            return None;
        }
        let before = std::mem::replace(&mut seat.occupancy, occupant);
        self.seats.replace_token(index, token, new_token);
        match before {
            Occupancy::Connected(conn) => effects.push(Effect::Unseated { conn, seat: index }),
            // Its own client has joined anew, and closes the channel itself.
            Occupancy::Channel(to) if occupant.is_beside(to) => {}
            Occupancy::Channel(to) => effects.push(Effect::Member { to, what: ToMember::Replaced }),
            Occupancy::HeldUntil(until) => {
                self.holds.remove(&(until, index));
            }
        }
        if occupant.is_native() {
            self.roster.informed(index);
        }
        if self.roster.is_crowd() {
            // Those that come back before the tick share a Keyframe.
            self.changed(now);
        }
        self.tell_channels_resumed(index, before, now);
        Some(Resumed { seat: index, before })
    }

    /// The client of a resumed seat was heard: it is taken to have its new token, and the one before is good no more.
    pub fn confirm_resume(&mut self, index: SeatIndex) {
        self.seats.forget_previous_token(index);
    }

    /// What a native member is sent first. `index`: its seat, if it has one; `resumed`: whether that was held; `seen`: the last
    /// event it has seen, if it comes back; `with_layout`: it asks for the Layout record.
    pub fn greeting(
        &mut self,
        index: Option<SeatIndex>,
        resumed: bool,
        seen: Option<u64>,
        (development, with_layout): (bool, bool),
        now: Now,
    ) -> Greeting {
        if let (Some(index), Some(views)) = (index, &mut self.views) {
            views.greeted(index, with_layout);
            // The next tick brings what is near it.
            self.changed(now.instant);
        }
        let keyframe = self.keyframe_of_greeting(now.instant);
        let tick = self.clock.number_at(now.instant);
        if let (Some(index), Some(keys)) = (index, &mut self.keys) {
            keys.sent.greeted(index, tick);
        }
        let seat = index.and_then(|index| self.seats.seat(index));
        let player = seat.map(|seat| seat.player);
        let missed = match seen.map(|seen| self.events.since(seen)) {
            Some(Missed::Replay(events)) => Some(events),
            Some(Missed::TooOld | Missed::Ahead) | None => None,
        };
        let flag = |condition: bool, flag: u8| if condition { flag } else { 0 };
        let welcome = Welcome {
            kind: kind::WELCOME,
            flags: flag(resumed, Welcome::RESUMED)
                | flag(missed.is_some(), Welcome::CAUGHT_UP)
                | flag(development, Welcome::DEVELOPMENT),
            tick_hz: self.rules.tick_hz.into(),
            player_id: player.map_or(0, |player| player.0).into(),
            epoch: self.epoch.into(),
            seq: self.events.seq().into(),
            tick: tick.into(),
            server_time_us: self.clock.relay_us(now.instant).into(),
            resume_token: seat.map_or([0; 16], |seat| seat.resume_token.0),
            min_x: self.rules.bounds.min[0].into(),
            min_y: self.rules.bounds.min[1].into(),
            max_x: self.rules.bounds.max[0].into(),
            max_y: self.rules.bounds.max[1].into(),
            max_speed: self.rules.max_speed.into(),
        };
        let missed = missed.map(|missed| missed.skip(usize::from(planted!(ReplaysTooLittle))));
        let meant_for_it = |event: &&PastEvent| receives(event.scope, event.sender, player);
        Greeting {
            welcome: Encoded::message(Opcode::Binary, welcome.as_bytes()),
            layout: self.encode_layout(),
            roster: self.roster.encode_for_newcomer(seat, &self.seats, &mut pool_of_greetings()),
            keyframe,
            events: missed
                .into_iter()
                .flatten()
                .filter(meant_for_it)
                .map(|event| event.encoded.clone())
                .collect(),
        }
    }

    /// In a crowd the newcomers of a tick share it: it is as old as the first of them, and the tick's Delta, which tells all that
    /// has changed since the last tick, brings everybody up to date.
    fn keyframe_of_greeting(&mut self, now: Instant) -> Encoded {
        if let Some(shared) = &self.shared_keyframe {
            return shared.clone();
        }
        let tick = self.clock.number_at(now);
        if let Some(views) = &self.views {
            return self.keyframe_of_nowhere(views, tick, &mut pool_of_greetings());
        }
        let keyframe = self.encode_keyframe(tick, Told::Whole, &mut pool_of_greetings());
        // Without a tick to come nothing would free it.
        if self.roster.is_crowd() && self.tick_at.is_some() {
            self.shared_keyframe = Some(keyframe.clone());
        }
        keyframe
    }

    /// The player of a seat was lost: it is held for a while if the game holds seats, and freed otherwise.
    pub fn lose_seat(&mut self, index: SeatIndex, now: Instant, effects: &mut Vec<Effect>) -> SeatFate {
        if self.rules.seat_hold.is_zero() || planted!(FreesLostSeat) {
            self.free_seat(index, LeaveReason::TimedOut, now, effects);
            return SeatFate::Freed;
        }
        let until = now + self.rules.seat_hold;
        let Some(seat) = self.seats.seat_mut(index) else {
            impossible!("who is lost has a seat");
            return SeatFate::Freed;
        };
        let before = std::mem::replace(&mut seat.occupancy, Occupancy::HeldUntil(until));
        self.want_acks(index, false);
        if let Some(views) = &mut self.views {
            views.look_away(index);
        }
        self.holds.insert((until, index));
        self.tell_channels_held(index, before, now);
        SeatFate::Held
    }

    /// Frees a seat, with its position and objects.
    pub fn free_seat(
        &mut self,
        index: SeatIndex,
        reason: LeaveReason,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(seat) = self.seats.free(index) else { return impossible!("a seat is freed once") };
        if let Occupancy::HeldUntil(until) = seat.occupancy {
            self.holds.remove(&(until, index));
            effects.push(Effect::HoldEnded { seat: index });
        }
        self.tell_channels_left(&seat, reason, now, effects);
        if let Some(player) = self.positions.remove(index.slot())
            && !planted!(HidesGonePlayer)
        {
            self.gone_players.push(player.0);
        }
        self.forget_speed(index);
        self.want_acks(index, false);
        if let Some(views) = &mut self.views {
            views.look_away(index);
        }
        if let Some(keys) = self.keys.as_mut().filter(|_| !planted!(KeepsKeysOfGone)) {
            keys.remove_all_of(seat.player);
        }
        self.objects.remove_all_of(seat.player.0);
        self.roster.left(seat.player, reason, &self.seats);
        self.changed(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{ConnId, Topic};
    use crate::room::game::GameRules;
    use crate::time::RelayTime;

    #[test]
    fn who_comes_back_to_a_crowd_before_a_tick_is_sent_one_keyframe() {
        let now = Now { instant: Instant::from_micros(1), unix_us: 1 };
        let topic = Arc::new(Topic::parse("game:arena").unwrap());
        let mut game = Game::new(topic, GameRules::default(), 1, 0.0, 1, RelayTime::set_to(now));
        let occupant = |slot: u32| Occupancy::Connected(ConnId { slot, generation: 0 });
        let mut effects = Vec::new();
        let tokens = [0, 1, 2].map(|slot| {
            let resume_token = ResumeToken([slot as u8; 16]);
            let occupancy = occupant(slot);
            let newcomer = Newcomer { occupancy, user: "ann", name: "ann", resume_token, joined_at_s: 1 };
            let seat = game.take_seat(&newcomer, now.instant, &mut effects).unwrap();
            (seat, game.seats().seat(seat).unwrap().resume_token)
        });
        game.take_due_tick(Instant::from_micros(1_000_000)).unwrap();
        game.settle(now.instant);
        let keyframes = tokens.map(|(seat, token)| {
            game.lose_seat(seat, now.instant, &mut effects);
            let (new_token, now_at) = (ResumeToken([9; 16]), now.instant);
            let who = occupant(10 + u32::from(seat.0));
            game.resume(token, None, who, new_token, now_at, &mut effects).unwrap();
            game.greeting(Some(seat), true, None, (true, false), now).keyframe
        });
        let places = keyframes.each_ref().map(|keyframe| keyframe.bytes().as_ptr());
        assert_eq!(places, [places[0]; 3]);
    }
}
