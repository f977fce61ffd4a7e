//! What players push in the channel of a game: moves, states, events (PROTOCOL 4, `game:`).

use super::game::{Game, Moved, PayloadFormat};
use super::game_channels::Member;
use super::presence::MemberNumber;
use super::recovery::CatchUp;
use super::request::Effect;
use super::seats::SeatIndex;
use super::telling::{Answer, done, heartbeat, reply, update_presence};
use crate::ids::Address;
use crate::reasons::CorrectionReason;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::json::object;
use crate::wire::meta::Meta;
use crate::wire::native::{Move, Object, Position, Scope, kind};
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::{CommonPush, GamePush, Push, PushEvent};
use crate::wire::seen::Seen;

/// A push of a player, as the game understands it.
#[derive(Debug)]
pub enum Played {
    /// Something changed that the next tick tells.
    Changed(Applied),
    /// An event for native players went out as well: its scope, and its record.
    Event(Scope, Encoded),
    /// Nothing that others see.
    Nothing,
}

/// What of a push was applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Moves.
    pub moves: u32,
    /// Objects that were put.
    pub objects: u32,
    /// A move that was refused.
    pub corrected: Option<CorrectionReason>,
}

impl Game {
    /// A member pushed an event.
    pub fn push_from_channel(
        &mut self,
        from: Address,
        push: Push,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Played {
        let Some(member) = self.channels.as_ref().and_then(|channels| channels.members.get(&from)).copied()
        else {
            return Played::Nothing;
        };
        let mut applied = Applied::default();
        let answer = match push.event {
            PushEvent::Game(GamePush::State { positions, objects }) => {
                let state = (&*positions, &*objects);
                let done = self.apply_state(from, member, state, now.instant, &mut applied, effects);
                // What is refused is dropped alone: the rest has changed the game.
                if let Err(text) = done {
                    reply(from, push.reference, Err(reason(&text)), effects);
                }
                return Played::Changed(applied);
            }
            PushEvent::Game(GamePush::Move { x, y, input_seq }) => {
                let (input_seq, x, y) = (input_seq.into(), x.into(), y.into());
                let step = Move { kind: kind::MOVE, flags: 0, input_seq, x, y };
                self.move_in_channel(from, member.seat, &step, now.instant, &mut applied, effects);
                return Played::Changed(applied);
            }
            PushEvent::Game(GamePush::Event { code, scope, payload }) => {
                match self.event_from_channel(member, code, scope, &payload) {
                    Ok((seq, record)) => {
                        let response = object(|response| {
                            response.number("seq", seq);
                        });
                        reply(from, push.reference, Ok(response), effects);
                        return Played::Event(scope, record);
                    }
                    Err(text) => Err(reason(&text)),
                }
            }
            PushEvent::Common(CommonPush::Heartbeat) => heartbeat(now),
            PushEvent::Common(CommonPush::PresenceUpdate(meta)) => {
                self.update_presence_of(member.seat, &meta, now.instant)
            }
            PushEvent::Common(CommonPush::Reconnect(seen)) => {
                self.recover_in_channel(from, member, seen, effects);
                return Played::Nothing;
            }
            PushEvent::Common(CommonPush::Refused(refusal)) => Err(refusal),
            PushEvent::Room(_) => unreachable!("pushes are parsed by the kind of their topic"),
        };
        reply(from, push.reference, answer, effects);
        Played::Nothing
    }

    fn update_presence_of(&mut self, seat: SeatIndex, meta: &Meta, now: Instant) -> Answer {
        match (self.player(seat), &mut self.channels) {
            (Some(player), Some(channels)) => {
                update_presence(&mut channels.presence, MemberNumber(player.0), meta, now)
            }
            _ => done(),
        }
    }

    /// `reconnect`: what was missed, or everything.
    fn recover_in_channel(&self, from: Address, member: Member, seen: Seen, effects: &mut Vec<Effect>) {
        let Some(player) = self.player(member.seat) else { return };
        let answer = self.catch_up(player, seen);
        let lost = matches!(answer, CatchUp::Lost(_));
        let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = answer;
        let (event, payload) = (Event::CatchUp, payload.into());
        effects.push(Effect::Push { to: from, event, payload, greeting: false });
        if lost {
            let state = self.whole_state(member.format);
            effects.push(Effect::Whole { to: from, state, greeting: false });
        }
    }

    fn apply_state(
        &mut self,
        from: Address,
        member: Member,
        (positions, objects): (&[Position], &[Object]),
        now: Instant,
        applied: &mut Applied,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(player) = self.player(member.seat) else { return Ok(()) };
        let own = |position: &&Position| position.player_id.get() == player.0;
        let others: Vec<Position> = positions.iter().filter(|position| !own(position)).copied().collect();
        // Each one would be corrected, if it has to be.
        if let Some(position) = positions.iter().rfind(own) {
            let record =
                Move { kind: kind::MOVE, flags: 0, input_seq: 0.into(), x: position.x, y: position.y };
            self.move_in_channel(from, member.seat, &record, now, applied, effects);
        }
        for object in objects {
            self.put_object(member.seat, object).map_err(|(_, text)| text)?;
            applied.objects += 1;
        }
        match (others.is_empty(), member.host) {
            (true, _) => Ok(()),
            (false, true) => {
                self.host_moves(&others).map_err(|(_, text)| text)?;
                applied.moves += others.len() as u32;
                Ok(())
            }
            (false, false) => Err("positions of other players need a token with \"host\": true".into()),
        }
    }

    fn move_in_channel(
        &mut self,
        from: Address,
        seat: SeatIndex,
        record: &Move,
        now: Instant,
        applied: &mut Applied,
        effects: &mut Vec<Effect>,
    ) {
        match self.move_player(seat, record, now) {
            Moved::Applied => applied.moves += 1,
            Moved::Refused { reason, x, y } => {
                applied.corrected = Some(reason);
                let payload = object(|correction| {
                    correction.text("reason", reason.label()).float("x", x).float("y", y);
                    correction.number("input_seq", record.input_seq.get());
                });
                let event = Event::Correction;
                effects.push(Effect::Push { to: from, event, payload: payload.into(), greeting: false });
            }
        }
    }

    fn event_from_channel(
        &mut self,
        member: Member,
        code: u16,
        scope: Scope,
        payload: &str,
    ) -> Result<(u64, Encoded), String> {
        match (self.event(member.seat, scope, code, PayloadFormat::Json, payload.as_bytes()), scope) {
            (Some(record), _) => Ok((self.events.seq(), record)),
            (None, Scope::Only(target)) => Err(format!("player {target} is not in this game")),
            (None, Scope::Others | Scope::All) => Err("the sender is not in this game".into()),
        }
    }
}
