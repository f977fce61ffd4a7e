//! A game as a topic: channels join it, play in it, and leave it.

use rand_core::Rng;

use super::audience::Audience;
use super::game::Game;
use super::game_seats::{Resumed, SeatFate};
use super::hosted::{Context, Hosted, Lost};
use super::request::{Departure, Effect, Join, Rights, ToMember};
use super::seats::{Newcomer, Occupancy, SeatIndex};
use crate::ids::{Address, ResumeToken};
use crate::impossible;
use crate::note::{Note, Step};
use crate::planted;
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::time::Instant;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::Push;

impl Hosted for Game {
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        if !join.layout && !self.rules.layout.is_plain() {
            if let Some(superseded) = join.supersedes {
                self.leave(superseded, Departure::Left(LeaveReason::Left), context);
            }
            let response = reason(OTHER_LAYOUT);
            let what = ToMember::Refused { reason: JoinRefusal::Malformed, response };
            return context.effects.push(Effect::Member { to: from, what });
        }
        let mut new_token = [0; 16];
        context.random.fill_bytes(&mut new_token);
        let new_token = ResumeToken(new_token);
        let now = context.now;
        if join.rights == Rights::Watch {
            if let Some(superseded) = join.supersedes {
                self.leave(superseded, Departure::Left(LeaveReason::Left), context);
            }
            if self.roster.is_crowd() {
                // Those that come before the tick share a Keyframe.
                self.changed(now.instant);
            }
            return self.open_channel(from, None, &join, false, context);
        }
        let resumed = self.resume_in_channel(from, &join, new_token, context);
        if let Some(superseded) = join.supersedes {
            // If the join has taken the seat again, the seat is no longer this channel's.
            self.leave(superseded, Departure::Left(LeaveReason::Left), context);
        }
        let (seat, join, resumed) = match resumed {
            Some(seat) => {
                // In development mode every connection is another guest; the seat knows whose it is.
                let user = self.seats.seat(seat).map_or_else(|| join.user.clone(), |seat| seat.user().into());
                (seat, Join { user, ..join }, true)
            }
            None => {
                let newcomer = Newcomer {
                    occupancy: Occupancy::Channel(from),
                    user: &join.user,
                    name: &join.name,
                    resume_token: new_token,
                    joined_at_s: now.unix_s(),
                };
                let seat = match self.take_seat(&newcomer, now.instant, &mut context.effects) {
                    Ok(seat) => seat,
                    Err(text) => {
                        let what = ToMember::Refused { reason: JoinRefusal::Full, response: reason(&text) };
                        return context.effects.push(Effect::Member { to: from, what });
                    }
                };
                context.metrics.seats.add(1);
                (seat, join, false)
            }
        };
        self.note(seat, if resumed { Step::Resumed } else { Step::Joined }, context);
        self.want_acks(seat, join.ack);
        self.open_channel(from, Some(seat), &join, resumed, context);
        self.changed(now.instant);
    }

    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        self.push_from_channel(from, push, context);
    }

    fn leave(&mut self, from: Address, departure: Departure, context: &mut Context<'_>) {
        if departure == Departure::Asked {
            context.effects.push(Effect::Member { to: from, what: ToMember::Left });
        }
        // Its seat may be another's by now.
        let Some(member) = self.member(from) else { return };
        let Some(seat) = member.seat else { return self.close_channel(from) };
        match departure {
            Departure::Asked => self.vacate(seat, LeaveReason::Left, context),
            Departure::Left(reason) => self.vacate(seat, reason, context),
            Departure::Lost => {
                self.lose_player(seat, context);
            }
        }
    }

    fn give_up(&mut self, lost: Lost, context: &mut Context<'_>) {
        let Some(channels) = &self.channels else { return };
        let members =
            channels.members.iter().filter(|(address, member)| lost.has(address, member.join_number));
        let members: Vec<Address> = members.map(|(address, _)| *address).collect();
        for member in members.into_iter().filter(|_| !planted!(KeepsGivenUp)) {
            self.leave(member, Departure::Lost, context);
        }
    }

    fn timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now.instant;
        self.end_holds(context);
        self.forget_events(now);
        self.tell_channels_presence(now, &mut context.effects);
        if self.count_due().is_some_and(|at| at <= now) {
            self.changed(now);
        }
    }

    fn due(&self) -> Option<Instant> {
        let hold = self.holds.first().map(|(until, _)| *until);
        let presence = self.channels.as_ref().and_then(|channels| channels.due());
        [self.tick_at, hold, presence, self.events_expire_at(), self.count_due()].into_iter().flatten().min()
    }

    fn audience(&self) -> Option<&Audience> {
        self.channels.as_ref().map(|channels| channels.audience())
    }

    fn is_needed(&self) -> bool {
        !self.seats.is_empty() || self.channels.is_some()
    }

    fn heap_bytes(&self) -> usize {
        self.own_heap_bytes()
    }

    fn presence_heap_bytes(&self) -> usize {
        self.channels.as_ref().map_or(0, |channels| channels.presence.heap_bytes())
    }
}

impl Game {
    fn resume_in_channel(
        &mut self,
        from: Address,
        join: &Join,
        new_token: ResumeToken,
        context: &mut Context<'_>,
    ) -> Option<SeatIndex> {
        let user = (!context.development).then_some(&*join.user);
        let (occupant, now) = (Occupancy::Channel(from), context.now.instant);
        let token = join.resume_token?;
        let resumed = self.resume(token, user, occupant, new_token, now, &mut context.effects)?;
        context.metrics.resumes.increment();
        let Resumed { seat, before } = resumed;
        context.metrics.seats_held.subtract(matches!(before, Occupancy::HeldUntil(_)).into());
        // Rates of records are of no use in a channel.
        context.effects.push(Effect::HoldEnded { seat });
        Some(seat)
    }

    /// Frees a seat for good.
    pub fn vacate(&mut self, seat: SeatIndex, reason: LeaveReason, context: &mut Context<'_>) {
        let Some(held) = self.seats.seat(seat).map(|seat| matches!(seat.occupancy, Occupancy::HeldUntil(_)))
        else {
            return impossible!("a seat is freed once");
        };
        self.note(seat, Step::Left(reason), context);
        self.free_seat(seat, reason, context.now.instant, &mut context.effects);
        context.metrics.seats.subtract(1);
        context.metrics.seats_held.subtract(held.into());
    }

    /// Frees the seats that were held in vain.
    fn end_holds(&mut self, context: &mut Context<'_>) {
        let now = context.now.instant;
        while let Some((_, seat)) = self.holds.first().copied().filter(|(until, _)| *until <= now) {
            self.vacate(seat, LeaveReason::TimedOut, context);
        }
    }

    /// Lets the log say what happens to the player of a seat, if it wants to hear.
    pub fn note(&self, seat: SeatIndex, step: Step, context: &mut Context<'_>) {
        if !context.notes {
            return;
        }
        let Some(seat) = self.seats.seat(seat) else {
            return impossible!("something happens to players that have a seat");
        };
        let (game, player) = (self.name().clone(), seat.player);
        let (user, name) = (seat.user().into(), seat.name().into());
        context.effects.push(Effect::Note(Box::new(Note::Player { game, player, user, name, step })));
    }

    /// A player did not mean to go: its seat is held, if the game holds seats.
    pub fn lose_player(&mut self, seat: SeatIndex, context: &mut Context<'_>) -> SeatFate {
        let is_held = !self.rules.seat_hold.is_zero();
        self.note(seat, if is_held { Step::Lost } else { Step::Left(LeaveReason::TimedOut) }, context);
        let fate = self.lose_seat(seat, context.now.instant, &mut context.effects);
        match fate {
            SeatFate::Held => context.metrics.seats_held.add(1),
            SeatFate::Freed => context.metrics.seats.subtract(1),
        }
        fate
    }
}

const OTHER_LAYOUT: &str = "positions of this game are not just x and y: join with \"layout\": 1, and read them by the \"layout\" in the \
                            reply";
