//! What players push in the channel of a game: moves, states, events (PROTOCOL 4, `game:`).

use super::game::{Game, Moved};
use super::game_channels::Member;
use super::game_events::{NewEvent, PayloadFormat};
use super::hosted::Context;
use super::presence::MemberNumber;
use super::recovery::CatchUp;
use super::request::{Effect, ToMember};
use super::seats::SeatIndex;
use super::telling::{Answer, done, heartbeat, reply, update_presence};
use crate::ids::Address;
use crate::impossible;
use crate::time::Instant;
use crate::wire::json::object;
use crate::wire::meta::Meta;
use crate::wire::native::{Move, Object, Position, Scope, kind};
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::{CommonPush, GamePush, Push, PushEvent};
use crate::wire::seen::Seen;

impl Game {
    /// A member pushed an event.
    pub(super) fn push_from_channel(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(member) = self.channels.as_ref().and_then(|channels| channels.members.get(&from)).copied()
        else {
            return;
        };
        // Its client has been heard: it has its new token.
        self.confirm_resume(member.seat);
        let now = context.now;
        let answer = match push.event {
            PushEvent::Game(GamePush::State { positions, objects }) => {
                let done = self.apply_state(from, member, (&positions, &objects), context);
                // What is refused is dropped alone: the rest has changed the game.
                self.changed(now.instant);
                if let Err(text) = done {
                    reply(from, push.reference, Err(reason(&text)), &mut context.effects);
                }
                return;
            }
            PushEvent::Game(GamePush::Move { x, y, input_seq }) => {
                let (input_seq, x, y) = (input_seq.into(), x.into(), y.into());
                let step = Move { kind: kind::MOVE, flags: 0, input_seq, x, y };
                self.move_in_channel(from, member.seat, &step, context);
                self.changed(now.instant);
                return;
            }
            PushEvent::Game(GamePush::Event { code, scope, payload }) => {
                let mut told = Vec::new();
                match self.event_from_channel(member, (code, scope, &payload), now.instant, &mut told) {
                    Ok(seq) => {
                        let response = object(|response| {
                            response.number("seq", seq);
                        });
                        context.metrics.events_in.increment();
                        reply(from, push.reference, Ok(response), &mut context.effects);
                        return context.effects.append(&mut told);
                    }
                    Err(text) => Err(reason(&text)),
                }
            }
            PushEvent::Common(CommonPush::Heartbeat) => heartbeat(now),
            PushEvent::Common(CommonPush::PresenceUpdate(meta)) => {
                self.update_presence_of(member.seat, &meta, now.instant)
            }
            PushEvent::Common(CommonPush::Reconnect(seen)) => {
                return self.recover_in_channel(from, member, seen, context);
            }
            PushEvent::Common(CommonPush::Refused(refusal)) => Err(refusal),
            PushEvent::Room(_) => return impossible!("pushes are parsed by the kind of their topic"),
        };
        reply(from, push.reference, answer, &mut context.effects);
    }

    fn update_presence_of(&mut self, seat: SeatIndex, meta: &Meta, now: Instant) -> Answer {
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
        let Some(player) = self.player(member.seat) else {
            return impossible!("a member has a seat");
        };
        let answer = self.catch_up(player, seen);
        let lost = matches!(answer, CatchUp::Lost(_));
        let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = answer;
        let (event, payload) = (Event::CatchUp, payload.into());
        let what = ToMember::Push { event, payload, greeting: false };
        context.effects.push(Effect::Member { to: from, what });
        if lost {
            context.effects.push(Effect::Member { to: from, what: ToMember::Stale });
            self.want_whole(from.party(), context.now.instant);
        }
    }

    fn apply_state(
        &mut self,
        from: Address,
        member: Member,
        (positions, objects): (&[Position], &[Object]),
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let Some(player) = self.player(member.seat) else {
            impossible!("a member has a seat");
            return Ok(());
        };
        let own = |position: &&Position| position.player_id.get() == player.0;
        let others: Vec<Position> = positions.iter().filter(|position| !own(position)).copied().collect();
        // Each one would be corrected, if it has to be.
        if let Some(position) = positions.iter().rfind(own) {
            let record =
                Move { kind: kind::MOVE, flags: 0, input_seq: 0.into(), x: position.x, y: position.y };
            self.move_in_channel(from, member.seat, &record, context);
        }
        for object in objects {
            self.put_object(member.seat, object).map_err(|(_, text)| text)?;
            context.metrics.objects.increment();
        }
        match (others.is_empty(), member.host) {
            (true, _) => Ok(()),
            (false, true) => {
                self.host_moves(&others).map_err(|(_, text)| text)?;
                context.metrics.moves.add(others.len() as u64);
                Ok(())
            }
            (false, false) => Err("positions of other players need a token with \"host\": true".into()),
        }
    }

    fn move_in_channel(&mut self, from: Address, seat: SeatIndex, record: &Move, context: &mut Context<'_>) {
        match self.move_player(seat, record, context.now.instant) {
            Moved::Applied => context.metrics.moves.increment(),
            Moved::Refused { reason, x, y } => {
                context.metrics.corrections[reason.index()].increment();
                let payload = object(|correction| {
                    correction.text("reason", reason.label()).float("x", x).float("y", y);
                    correction.number("input_seq", record.input_seq.get());
                });
                let (event, payload) = (Event::Correction, payload.into());
                let what = ToMember::Push { event, payload, greeting: false };
                context.effects.push(Effect::Member { to: from, what });
            }
        }
    }

    fn event_from_channel(
        &mut self,
        member: Member,
        (code, scope, payload): (u16, Scope, &str),
        now: Instant,
        told: &mut Vec<Effect>,
    ) -> Result<u64, String> {
        let event = NewEvent { scope, code, format: PayloadFormat::Json, payload: payload.as_bytes() };
        match (self.event(member.seat, event, now, told), scope) {
            (Some(seq), _) => Ok(seq),
            (None, Scope::Only(target)) => Err(format!("player {target} is not in this game")),
            (None, Scope::Others | Scope::All) => Err("the sender is not in this game".into()),
        }
    }
}
