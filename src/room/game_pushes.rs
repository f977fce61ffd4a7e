//! What players push in the channel of a game: moves, states, events (PROTOCOL 4, `game:`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::game::{Game, Moved, PayloadFormat};
use super::game_channels::Member;
use super::presence::MemberNumber;
use super::recovery::CatchUp;
use super::request::{Effect, Payload, Push};
use super::seats::SeatIndex;
use super::telling::{reason, recovery_request, reply, unknown_event, update_presence};
use crate::ids::Address;
use crate::limits::EVENT_PAYLOAD_BYTES_MAX;
use crate::reasons::CorrectionReason;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::game_state;
use crate::wire::native::{Move, Position, Scope, kind};

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
        push: &Push,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Played {
        let Some(member) = self.channels.as_ref().and_then(|channels| channels.members.get(&from)).copied()
        else {
            return Played::Nothing;
        };
        let payload = push.payload.json();
        let answer = match &*push.event {
            "game_state" => match &push.payload {
                Payload::Binary(bytes) => {
                    let mut applied = Applied::default();
                    let done = self.apply_state(from, member, bytes, now.instant, &mut applied, effects);
                    // What is refused is dropped alone: the rest has changed the game.
                    if let Err(text) = done {
                        reply(from, push, Err(reason(&text)), effects);
                    }
                    return Played::Changed(applied);
                }
                Payload::Json(_) => Err(reason("game_state is a binary push; move {x, y} is its JSON form")),
            },
            "move" => match serde_json::from_str::<MovePayload>(payload) {
                Ok(step) if step.x.is_finite() && step.y.is_finite() => {
                    let record = Move {
                        kind: kind::MOVE,
                        flags: 0,
                        input_seq: step.input_seq.unwrap_or_default().into(),
                        x: step.x.into(),
                        y: step.y.into(),
                    };
                    let mut applied = Applied::default();
                    self.move_in_channel(from, member.seat, &record, now.instant, &mut applied, effects);
                    return Played::Changed(applied);
                }
                _ => Err(reason("move takes {x: number, y: number, input_seq?: 0 to 65535}")),
            },
            "game_event" => match self.event_from_channel(member, payload) {
                Ok((seq, scope, record)) => {
                    reply(from, push, Ok(format!(r#"{{"seq":{seq}}}"#)), effects);
                    return Played::Event(scope, record);
                }
                Err(text) => Err(reason(&text)),
            },
            "presence_update" => match (self.player(member.seat), &mut self.channels) {
                (Some(player), Some(channels)) => {
                    update_presence(&mut channels.presence, MemberNumber(player.0), payload, now.instant)
                }
                _ => Ok("{}".into()),
            },
            "heartbeat" => Ok(format!(r#"{{"timestamp":{}}}"#, now.unix_us / 1000)),
            "reconnect" => match (recovery_request(payload), self.player(member.seat)) {
                (Some(seen), Some(player)) => {
                    let answer = self.catch_up(player, seen);
                    let lost = matches!(answer, CatchUp::Lost(_));
                    let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = answer;
                    let (event, payload) = ("catch_up", payload.into());
                    effects.push(Effect::Push { to: from, event, payload, greeting: false });
                    if lost {
                        let state = self.whole_state(member.serializer);
                        effects.push(Effect::Whole { to: from, state, greeting: false });
                    }
                    return Played::Nothing;
                }
                _ => Err(reason("last_seen must be {epoch, seq}")),
            },
            event => Err(unknown_event(
                event,
                "game_state, move, game_event, presence_update, heartbeat and reconnect",
            )),
        };
        reply(from, push, answer, effects);
        Played::Nothing
    }

    fn apply_state(
        &mut self,
        from: Address,
        member: Member,
        bytes: &[u8],
        now: Instant,
        applied: &mut Applied,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let state = game_state::decode(bytes).map_err(|error| error.to_string())?;
        let Some(player) = self.player(member.seat) else { return Ok(()) };
        let own = |position: &&Position| position.player_id.get() == player.0;
        let others: Vec<Position> =
            state.positions.iter().filter(|position| !own(position)).copied().collect();
        // Each one would be corrected, if it has to be.
        if let Some(position) = state.positions.iter().rfind(own) {
            let record =
                Move { kind: kind::MOVE, flags: 0, input_seq: 0.into(), x: position.x, y: position.y };
            self.move_in_channel(from, member.seat, &record, now, applied, effects);
        }
        for object in state.objects {
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
                let (word, input_seq) = (reason.label(), record.input_seq.get());
                let payload = format!(r#"{{"reason":"{word}","x":{x},"y":{y},"input_seq":{input_seq}}}"#);
                let event = "correction";
                effects.push(Effect::Push { to: from, event, payload: payload.into(), greeting: false });
            }
        }
    }

    fn event_from_channel(&mut self, member: Member, payload: &str) -> Result<(u64, Scope, Encoded), String> {
        let wrong = |_| {
            "game_event takes {code: 0 to 65535, to?: \"others\", \"all\" or a player id, payload?}"
                .to_owned()
        };
        let event: EventPayload<'_> = serde_json::from_str(payload).map_err(wrong)?;
        // It is passed on as it is: what some parsers cannot read, such as 1e999, must not reach them.
        serde_json::from_str::<Value>(payload).map_err(wrong)?;
        let scope = match &event.to {
            None => Scope::Others,
            Some(Target::Word(Word::Others)) => Scope::Others,
            Some(Target::Word(Word::All)) => Scope::All,
            Some(Target::Player(player)) => Scope::Only(*player),
        };
        let payload = event.payload.map_or("null", RawValue::get);
        if payload.len() > EVENT_PAYLOAD_BYTES_MAX {
            return Err(format!(
                "the payload has {} bytes of JSON, at most {EVENT_PAYLOAD_BYTES_MAX} are allowed",
                payload.len()
            ));
        }
        let sent = self.event(member.seat, scope, event.code, PayloadFormat::Json, payload.as_bytes());
        match (sent, scope) {
            (Some(record), scope) => Ok((self.events.seq(), scope, record)),
            (None, Scope::Only(target)) => Err(format!("player {target} is not in this game")),
            (None, Scope::Others | Scope::All) => Err("the sender is not in this game".into()),
        }
    }
}

#[derive(Deserialize)]
struct MovePayload {
    x: f32,
    y: f32,
    input_seq: Option<u16>,
}

#[derive(Deserialize)]
struct EventPayload<'a> {
    code: u16,
    to: Option<Target>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Word(Word),
    Player(u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Others,
    All,
}
