//! What every kind of topic tells in the same way: answers to pushes, broadcasts, presence.

use super::audience::Audience;
use super::presence::{MemberNumber, Meta, Presence, Told};
use super::request::{Effect, Push, Seen};
use crate::ids::{Address, StreamPosition};
use crate::reasons::LeaveReason;
use crate::time::Instant;
use crate::wire::json::quoted;

/// `{last_seen: {epoch, seq}}` or `{last_seen: unix_ms}`.
pub(super) fn recovery_request(payload: &str) -> Option<Seen> {
    let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
    Seen::read(payload.get("last_seen")?)
}

impl Seen {
    /// Reads `{epoch, seq}`, whose epoch is a decimal string, or a time in unix milliseconds.
    pub fn read(value: &serde_json::Value) -> Option<Self> {
        if let Some(ms) = value.as_u64() {
            return Some(Self::UnixMs(ms));
        }
        let epoch = value.get("epoch")?;
        let epoch = epoch.as_u64().or_else(|| epoch.as_str()?.parse().ok())?;
        Some(Self::Position(StreamPosition { epoch, seq: value.get("seq")?.as_u64()? }))
    }
}

/// `{"reason": text}`.
pub(super) fn reason(text: &str) -> String {
    format!(r#"{{"reason":{}}}"#, quoted(text))
}

/// An event that a topic does not know.
pub(super) fn unknown_event(event: &str, known: &str) -> String {
    let shown: String = event.chars().take(64).collect();
    reason(&format!("unknown event {shown}; this topic knows {known}"))
}

/// Answers a push, if an answer is wanted.
pub(super) fn reply(to: Address, push: &Push, answer: Result<String, String>, effects: &mut Vec<Effect>) {
    if &*push.reference == "null" {
        return;
    }
    let (status, response) = match answer {
        Ok(response) => ("ok", response),
        Err(response) => ("error", response),
    };
    effects.push(Effect::Reply { to, reference: push.reference.clone(), status, response });
}

/// Tells every member, or all but one, encoded once per serializer.
pub(super) fn broadcast(
    topic: &str,
    audience: &Audience,
    event: &'static str,
    payload: &str,
    except: Option<Address>,
    effects: &mut Vec<Effect>,
) {
    if !audience.is_empty() {
        let copies = audience.encode(|serializer| serializer.broadcast(topic, event, payload));
        effects.push(Effect::Broadcast { copies, except, after_state: false });
    }
}

/// What a member that was just tracked is told of the others.
pub(super) fn push_presence(
    presence: &mut Presence,
    number: MemberNumber,
    to: Address,
    effects: &mut Vec<Effect>,
) {
    let events = std::iter::once("presence_state").chain(std::iter::repeat("presence_diff"));
    for (payload, event) in presence.state(number).into_iter().zip(events) {
        effects.push(Effect::Push { to, event, payload, greeting: true });
    }
    if !presence.is_listed() {
        // The others are told when the number changes.
        let payload = format!(r#"{{"online":{}}}"#, presence.online());
        effects.push(Effect::Push { to, event: "presence_count", payload: payload.into(), greeting: true });
    }
}

/// What everybody is told of presence, if it is due.
pub(super) fn broadcast_presence(
    presence: &mut Presence,
    topic: &str,
    audience: &Audience,
    now: Instant,
    effects: &mut Vec<Effect>,
) {
    for told in presence.flush(now) {
        let (event, payload) = match told {
            Told::Diff(payload) => ("presence_diff", payload),
            Told::State(payload) => ("presence_state", String::from(&*payload)),
            Told::Count(online) => ("presence_count", format!(r#"{{"online":{online}}}"#)),
        };
        broadcast(topic, audience, event, &payload, None, effects);
    }
}

/// A member's `presence_update`.
pub(super) fn update_presence(
    presence: &mut Presence,
    number: MemberNumber,
    payload: &str,
    now: Instant,
) -> Result<String, String> {
    let meta = Meta::parse(payload).map_err(|error| reason(&error.to_string()))?;
    let updated = presence.update(number, &meta, now);
    updated.map(|()| "{}".into()).map_err(|error| reason(&error.to_string()))
}

/// `user_joined`, to all but the newcomer.
pub(super) fn broadcast_joined(
    presence: &Presence,
    topic: &str,
    audience: &Audience,
    (user, name): (&str, &str),
    except: Option<Address>,
    effects: &mut Vec<Effect>,
) {
    // A crowd is told how many it is, not who: each of N joins would cost N messages.
    if presence.is_listed() {
        let (user, name, online) = (quoted(user), quoted(name), presence.online());
        let payload = format!(r#"{{"user":{{"id":{user},"name":{name}}},"online_count":{online}}}"#);
        broadcast(topic, audience, "user_joined", &payload, except, effects);
    }
}

/// `user_disconnected`.
pub(super) fn broadcast_left(
    presence: &Presence,
    topic: &str,
    audience: &Audience,
    user: &str,
    left: LeaveReason,
    effects: &mut Vec<Effect>,
) {
    if presence.is_listed() {
        let (user, word, online) = (quoted(user), left.word(), presence.online());
        let payload = format!(r#"{{"user_id":{user},"reason":"{word}","online_count":{online}}}"#);
        broadcast(topic, audience, "user_disconnected", &payload, None, effects);
    }
}
