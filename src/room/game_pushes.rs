//! What players push in the channel of a game: moves, states, events (PROTOCOL 4, `game:`).

use zerocopy::big_endian::U32;

use super::game::{Game, Moved};
use super::game_channels::Member;
use super::game_events::{NewEvent, PayloadFormat, no_receiver};
use super::hosted::Context;
use super::presence::MemberNumber;
use super::recovery::CatchUp;
use super::request::{Effect, Rights, ToMember};
use super::seats::SeatIndex;
use super::telling::{Answer, done, heartbeat, reply, update_presence};
use crate::ids::Address;
use crate::impossible;
use crate::reasons::ErrorCode;
use crate::time::Instant;
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::json::object;
use crate::wire::meta::Meta;
use crate::wire::native::{HostSteps, Scope, Solid, answers};
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::{CommonPush, EventPayload, GamePush, Push};
use crate::wire::seen::Seen;

impl Game {
    /// A member pushed an event.
    pub(super) fn push_from_channel(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(member) = self.channels.as_ref().and_then(|channels| channels.members.get(&from)).copied()
        else {
            return;
        };
        if let Some(seat) = member.seat {
            // Its client has been heard: it has its new token.
            self.confirm_resume(seat);
        }
        let Push { reference, event } = push;
        let answer = match event.of_game() {
            Ok(push) => return self.game_push(from, member, reference, push, context),
            Err(CommonPush::Heartbeat) => heartbeat(context.now),
            Err(CommonPush::PresenceUpdate(meta)) => {
                self.update_presence_of(member, &meta, context.now.instant)
            }
            Err(CommonPush::Reconnect(seen)) => return self.recover_in_channel(from, member, seen, context),
            Err(CommonPush::Refused(refusal)) => Err(refusal),
        };
        reply(from, reference, answer, &mut context.effects);
    }

    /// A member that may be told is not always one that may play: that is up to its rights.
    fn game_push(
        &mut self,
        from: Address,
        member: Member,
        reference: Option<Box<str>>,
        push: GamePush,
        context: &mut Context<'_>,
    ) {
        let seat = member.seat.filter(|_| member.rights != Rights::Watch);
        let done = match (push, seat) {
            (GamePush::Who(players), _) if member.format == Format::Native => {
                tell_record(from, self.encode_who(&players), context);
                Ok(())
            }
            (GamePush::Who(players), _) => {
                return reply(from, reference, Ok(self.who_in_text(&players)), &mut context.effects);
            }
            (GamePush::Ping(ping), _) => {
                let tick = self.clock.number_at(context.now.instant);
                let server_time_us = self.clock.relay_us(context.now.instant);
                tell_record(from, answers::pong(&ping, tick, server_time_us), context);
                Ok(())
            }
            (push, Some(seat)) => self.play(from, Playing { member, seat }, &reference, push, context),
            (_, None) => {
                Err((ErrorCode::Unauthorized, "this member watches; whoever plays has joined to play".into()))
            }
        };
        let Err((code, text)) = done else { return };
        if member.format == Format::Native {
            context.metrics.errors[code.index()].increment();
            tell_record(from, answers::error(code, &text), context);
        } else {
            reply(from, reference, Err(reason(&text)), &mut context.effects);
        }
    }

    /// `Err`: why not, or not all of it.
    fn play(
        &mut self,
        from: Address,
        playing: Playing,
        reference: &Option<Box<str>>,
        push: GamePush,
        context: &mut Context<'_>,
    ) -> Result<(), (ErrorCode, String)> {
        let now = context.now.instant;
        let done = match push {
            GamePush::State { positions, objects } => {
                self.apply_state(from, playing, (positions.steps(), &objects), context)
            }
            GamePush::Step { input_seq, state } => {
                self.step_in_channel(from, playing, (Some(input_seq), &state), context);
                Ok(())
            }
            GamePush::SetView { radius } => {
                self.set_view(playing.seat, radius).map_err(|text| (ErrorCode::LimitReached, text))?;
                reply(from, reference.clone(), done(), &mut context.effects);
                Ok(())
            }
            GamePush::SetState { key, value } => {
                self.set_state(playing.seat, key, &value);
                context.metrics.objects.increment();
                reply(from, reference.clone(), done(), &mut context.effects);
                Ok(())
            }
            GamePush::Event { code, scope, payload } => {
                let mut told = Vec::new();
                let seq = self.event_from_channel(playing.seat, (code, scope, &payload), now, &mut told)?;
                // What is told by place has no number.
                let response = object(|response| {
                    if scope != Scope::Near {
                        response.number("seq", seq);
                    }
                });
                context.metrics.events_in.increment();
                reply(from, reference.clone(), Ok(response), &mut context.effects);
                context.effects.append(&mut told);
                return Ok(());
            }
            GamePush::RemoveObject { object_id } => {
                self.remove_object(playing.seat, object_id)?;
                context.metrics.objects.increment();
                Ok(())
            }
            GamePush::HostSteps(steps) => self.host_steps_in_channel(playing.member, &steps.steps(), context),
            GamePush::Who(_) | GamePush::Ping(_) => {
                impossible!("these are answered to whoever watches as well");
                Ok(())
            }
        };
        // What is refused is dropped alone: the rest has changed the game.
        self.changed(now);
        done
    }

    /// `{players: [{id, user_id, name}]}`: those of `players` that are here.
    fn who_in_text(&self, players: &[U32]) -> String {
        object(|answer| {
            answer.array("players", |list| {
                for seat in players.iter().filter_map(|player| self.seats.named_by(player.get())) {
                    list.object(|fields| {
                        fields.number("id", seat.player.0).text("user_id", seat.user());
                        fields.text("name", seat.name());
                    });
                }
            });
        })
    }

    fn update_presence_of(&mut self, member: Member, meta: &Meta, now: Instant) -> Answer {
        let Some(seat) = member.seat else {
            return Err(reason("this member watches, and so is not in presence"));
        };
        match (self.player(seat), &mut self.channels) {
            (Some(player), Some(channels)) => {
                update_presence(&mut channels.presence, MemberNumber(player.0), meta, now)
            }
            _ => {
                impossible!("a member has a seat, in a game with channels");
                done()
            }
        }
    }

    /// `reconnect`: what was missed, or everything, which comes as a state frame and so waits without a queue.
    fn recover_in_channel(&mut self, from: Address, member: Member, seen: Seen, context: &mut Context<'_>) {
        let answer = self.catch_up(member.seat.and_then(|seat| self.player(seat)), seen);
        let lost = matches!(answer, CatchUp::Lost(_));
        let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = answer;
        let (event, payload) = (Event::CatchUp, payload.into());
        let what = ToMember::Push { event, payload, greeting: false };
        context.effects.push(Effect::Member { to: from, what });
        if lost {
            context.effects.push(Effect::Member { to: from, what: ToMember::Stale });
            self.want_whole_for(from, context.now.instant);
        }
    }

    fn apply_state(
        &mut self,
        from: Address,
        playing: Playing,
        (positions, objects): (HostSteps<'_>, &[Solid]),
        context: &mut Context<'_>,
    ) -> Result<(), (ErrorCode, String)> {
        let Playing { member, seat } = playing;
        let Some(player) = self.player(seat) else {
            impossible!("who plays has a seat");
            return Ok(());
        };
        // Each one would be corrected, if it has to be.
        if let Some(own) = positions.iter().rfind(|step| step.player == player) {
            self.step_in_channel(from, playing, (None, own.state), context);
        }
        for object in objects {
            self.put_object(seat, object)?;
            context.metrics.objects.increment();
        }
        match positions.without(player) {
            Some(others) => self.host_steps_in_channel(member, &others.steps(), context),
            None => Ok(()),
        }
    }

    fn host_steps_in_channel(
        &mut self,
        member: Member,
        steps: &HostSteps<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), (ErrorCode, String)> {
        if member.rights != Rights::Host {
            let text = "positions of other players need a token with \"host\": true";
            return Err((ErrorCode::Unauthorized, text.into()));
        }
        self.host_steps(steps)?;
        context.metrics.moves.add(steps.count() as u64);
        Ok(())
    }

    fn step_in_channel(
        &mut self,
        from: Address,
        playing: Playing,
        (input_seq, state): (Option<u16>, &[u8]),
        context: &mut Context<'_>,
    ) {
        let (why, place) = match self.step(playing.seat, input_seq, state, context.now.instant) {
            Moved::Applied => return context.metrics.moves.increment(),
            Moved::Refused { reason, place } => (reason, place),
        };
        let input_seq = input_seq.unwrap_or(0);
        context.metrics.corrections[why.index()].increment();
        let coordinates = &place[..usize::from(self.rules.layout.axes)];
        if playing.member.format == Format::Native {
            return tell_record(from, answers::correction(why, input_seq, coordinates), context);
        }
        let payload = object(|correction| {
            correction.text("reason", why.label());
            for (name, coordinate) in ["x", "y", "z"].iter().zip(coordinates) {
                correction.float(name, *coordinate);
            }
            correction.number("input_seq", input_seq);
        });
        let (event, payload) = (Event::Correction, payload.into());
        let what = ToMember::Push { event, payload, greeting: false };
        context.effects.push(Effect::Member { to: from, what });
    }

    fn event_from_channel(
        &mut self,
        seat: SeatIndex,
        (code, scope, payload): (u16, Scope, &EventPayload),
        now: Instant,
        told: &mut Vec<Effect>,
    ) -> Result<u64, (ErrorCode, String)> {
        let (format, payload) = match payload {
            EventPayload::Json(text) => (PayloadFormat::Json, text.as_bytes()),
            EventPayload::Bytes(bytes) => (PayloadFormat::Bytes, &**bytes),
        };
        let event = NewEvent { scope, code, format, payload };
        let seq = self.event(seat, event, now, told);
        seq.ok_or_else(|| (ErrorCode::NoSuchPlayer, no_receiver(scope)))
    }
}

/// A member that plays.
#[derive(Clone, Copy)]
struct Playing {
    member: Member,
    seat: SeatIndex,
}

fn tell_record(to: Address, record: Encoded, context: &mut Context<'_>) {
    context.effects.push(Effect::Member { to, what: ToMember::Record(record) });
}
