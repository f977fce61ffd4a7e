//! What every kind of topic tells in the same way: answers to pushes, broadcasts, presence.

use super::audience::Audience;
use super::presence::{MemberNumber, Presence, Told};
use super::request::{Effect, ToMember};
use super::stored::Unavailable;
use crate::ids::Address;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::json::object;
use crate::wire::meta::Meta;
use crate::wire::phoenix::answers::reason;
use crate::wire::phoenix::{Event, Status};

/// The answer to a push: a JSON object, and whether it was done.
pub(super) type Answer = Result<String, String>;

/// What is done, and has nothing to say.
pub(super) fn done() -> Answer {
    Ok("{}".into())
}

/// What the store could not do for it, and when it is worth another try.
pub(super) fn unavailable(why: Unavailable) -> String {
    object(|refusal| {
        refusal.text("reason", why.word()).number("retry_after", why.retry_after().as_millis() as u64);
    })
}

/// `heartbeat`: the relay's clock.
pub(super) fn heartbeat(now: Now) -> Answer {
    Ok(object(|answer| {
        answer.number("timestamp", now.unix_us / 1000);
    }))
}

/// Answers a push, if an answer is wanted.
pub(super) fn reply(to: Address, reference: Option<Box<str>>, answer: Answer, effects: &mut Vec<Effect>) {
    let Some(reference) = reference else { return };
    let (status, response) = match answer {
        Ok(response) => (Status::Ok, response),
        Err(response) => (Status::Error, response),
    };
    effects.push(Effect::Member { to, what: ToMember::Reply { reference, status, response } });
}

/// Tells every member, or all but one, encoded once per serializer.
pub(super) fn broadcast(
    topic: &str,
    audience: &Audience,
    event: Event,
    payload: &str,
    except: Option<Address>,
    effects: &mut Vec<Effect>,
) {
    let copies = audience.encode_text(|serializer| serializer.broadcast(topic, event, payload));
    if !copies.is_empty() {
        let to = audience.receivers();
        effects.push(Effect::Broadcast { copies, to, except, after_state: false });
    }
}

/// What a member that was just added to the audience is told of who is here; `number`: its own, if it is tracked.
pub(super) fn push_presence(
    presence: &mut Presence,
    audience: &Audience,
    number: Option<MemberNumber>,
    to: Address,
    effects: &mut Vec<Effect>,
) {
    if audience.len() == 1 {
        // Nobody else waits for a diff: it is in its own state.
        presence.settle();
    }
    let events = std::iter::once(Event::PresenceState).chain(std::iter::repeat(Event::PresenceDiff));
    for (payload, event) in presence.state(number).into_iter().zip(events) {
        effects.push(Effect::Member { to, what: ToMember::Push { event, payload, greeting: true } });
    }
    if !presence.is_listed() {
        // The others are told when the number changes.
        let (event, payload) = (Event::PresenceCount, presence_count(presence.online()).into());
        effects.push(Effect::Member { to, what: ToMember::Push { event, payload, greeting: true } });
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
            Told::Diff(payload) => (Event::PresenceDiff, payload),
            Told::State(payload) => (Event::PresenceState, String::from(&*payload)),
            Told::Count(online) => (Event::PresenceCount, presence_count(online)),
        };
        broadcast(topic, audience, event, &payload, None, effects);
    }
}

fn presence_count(online: u32) -> String {
    object(|count| {
        count.number("online", online);
    })
}

/// A member's `presence_update`.
pub(super) fn update_presence(
    presence: &mut Presence,
    number: MemberNumber,
    meta: &Meta,
    now: Instant,
) -> Answer {
    presence.update(number, meta, now).map_err(|error| reason(&error.to_string()))?;
    done()
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
        let payload = object(|joined| {
            joined.object("user", |who| {
                who.text("id", user).text("name", name);
            });
            joined.number("online_count", presence.online());
        });
        broadcast(topic, audience, Event::UserJoined, &payload, except, effects);
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
        let payload = object(|gone| {
            gone.text("user_id", user).text("reason", left.word()).number("online_count", presence.online());
        });
        broadcast(topic, audience, Event::UserDisconnected, &payload, None, effects);
    }
}
