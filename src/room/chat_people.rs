//! What a room keeps about users, whether they are here or not: who is muted or banned, and how far each has read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chat::Chat;
use super::chat_act::{Act, Verdict};
use super::chat_queue::{Behind, Waiting};
use super::hosted::Context;
use super::loading::Stored;
use super::request::{Departure, Effect, ToMember};
use super::stored::StoredValue;
use super::telling::done;
use crate::ids::Address;
use crate::limits::{READ_MARKERS_MAX, RESTRICTIONS_MAX};
use crate::memory::Allocated;
use crate::note::{ModeratorAct, Note};
use crate::reasons::{LeaveReason, Restriction};
use crate::time::Now;
use crate::wire::json::object;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::errors;

/// See the module documentation. Each entry is a value in the store.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Until when, in unix ms; `FOR_EVER`: until it is lifted.
    restricted: BTreeMap<(Restriction, Box<str>), u64>,
    /// The number up to which each user has read.
    markers: BTreeMap<Box<str>, u64>,
    /// Keys of values that nobody needs any more: the next write removes them.
    surplus: Vec<Box<str>>,
}

const FOR_EVER: u64 = u64::MAX;
const MARKER: &str = "read";

/// What a value says.
pub(super) enum Fact<'a> {
    Marker { user: &'a str, seq: u64 },
    Restricted { what: Restriction, user: &'a str, until_ms: u64 },
}

/// Reads a value; `None`: it is none of a room.
pub(super) fn read<'a>(key: &'a str, bytes: &[u8]) -> Option<Fact<'a>> {
    let (kind, user) = key.split_once(':')?;
    let number = u64::from_be_bytes(bytes.try_into().ok()?);
    if kind == MARKER {
        return Some(Fact::Marker { user, seq: number });
    }
    let what = [Restriction::Mute, Restriction::Ban].into_iter().find(|what| what.word() == kind)?;
    Some(Fact::Restricted { what, user, until_ms: number })
}

/// The keys under which there may be something about a user.
pub(super) fn keys_of(user: &str) -> [Box<str>; 3] {
    [MARKER, Restriction::Mute.word(), Restriction::Ban.word()].map(|kind| key(kind, user))
}

impl People {
    /// As the store knows them.
    pub(super) fn load(values: &[StoredValue]) -> Self {
        let mut people = Self::default();
        for StoredValue { key, bytes } in values {
            let Some(fact) = bytes.as_deref().and_then(|bytes| read(key, bytes)) else { continue };
            match fact {
                Fact::Marker { user, seq } => {
                    people.markers.insert(user.into(), seq);
                }
                Fact::Restricted { what, user, until_ms } => {
                    people.restricted.insert((what, user.into()), until_ms);
                }
            }
        }
        people.bound_markers();
        people
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let restricted = self.restricted.keys().map(|(_, user)| user.allocated_bytes());
        let readers = self.markers.keys().map(Allocated::allocated_bytes);
        self.restricted.allocated_bytes()
            + restricted.sum::<usize>()
            + self.markers.allocated_bytes()
            + readers.sum::<usize>()
            + self.surplus.allocated_bytes()
            + self.surplus.iter().map(Allocated::allocated_bytes).sum::<usize>()
    }

    pub(super) fn banned_until(&self, user: &str, now: Now) -> Option<u64> {
        self.restricted_until(Restriction::Ban, user, now)
    }

    pub(super) fn muted_until(&self, user: &str, now: Now) -> Option<u64> {
        self.restricted_until(Restriction::Mute, user, now)
    }

    fn restricted_until(&self, what: Restriction, user: &str, now: Now) -> Option<u64> {
        // A key is looked up as it is stored. Most rooms have nobody to look for.
        let until = (!self.restricted.is_empty()).then(|| self.restricted.get(&(what, user.into())))?;
        until.copied().filter(|until| *until > unix_ms(now))
    }

    /// Whether a user may say something.
    ///
    /// # Errors
    /// The answer that refuses it, a JSON object.
    pub(super) fn admit_speaker(&self, user: &str, now: Now) -> Result<(), String> {
        if let Some(until_ms) = self.banned_until(user, now) {
            return Err(banned(until_ms, now));
        }
        self.muted_until(user, now).map_or(Ok(()), |until_ms| Err(restricted("muted", until_ms, now)))
    }

    pub(super) fn take_surplus(&mut self) -> Vec<StoredValue> {
        let value = |key| StoredValue { key, bytes: None };
        std::mem::take(&mut self.surplus).into_iter().map(value).collect()
    }

    /// What is over does not take anybody's place.
    fn forget_expired(&mut self, now: Now) {
        let expired = self.restricted.extract_if(.., |_, until| *until <= unix_ms(now));
        self.surplus.extend(expired.map(|((what, user), _)| key(what.word(), &user)));
    }

    fn bound_markers(&mut self) {
        while self.markers.len() > READ_MARKERS_MAX {
            let least = self.markers.iter().min_by_key(|(_, seq)| **seq).map(|(user, _)| user.clone());
            let Some(user) = least else { return };
            self.markers.remove(&user);
            self.surplus.push(key(MARKER, &user));
        }
    }
}

impl Chat {
    /// Up to which number a user has read, and how many messages of others it has not.
    pub(super) fn unread(&self, user: &str) -> (u64, u64) {
        let read_seq = self.people.markers.get(user).copied().unwrap_or(0);
        (read_seq, self.stream.unread(user, read_seq))
    }

    /// What becomes of a `mute` or a `ban`.
    pub(super) fn restrict(
        &mut self,
        by: &Waiting,
        (what, user, seconds): (Restriction, &str, Option<u32>),
        now: Now,
    ) -> Verdict {
        if !by.is_moderator {
            return Verdict::refuse("forbidden");
        }
        self.people.forget_expired(now);
        let is_new = !self.people.restricted.contains_key(&(what, user.into()));
        if is_new && self.people.restricted.len() >= RESTRICTIONS_MAX {
            let text = format!("{RESTRICTIONS_MAX} users are muted or banned here; lift one of these first");
            return Verdict::Answer(Err(reason(&text)));
        }
        let (user, moderator, until_ms) = (user.into(), by.user.clone(), until_ms(seconds, now));
        Verdict::Do(Act::Restrict { what, user, seconds, until_ms, moderator })
    }

    /// What becomes of an `unmute` or an `unban`.
    pub(super) fn lift(&self, by: &Waiting, what: Restriction, user: &str) -> Verdict {
        if !by.is_moderator {
            return Verdict::refuse("forbidden");
        }
        if !self.people.restricted.contains_key(&(what, user.into())) {
            return Verdict::Answer(done());
        }
        Verdict::Do(Act::Lift { what, user: user.into(), moderator: by.user.clone() })
    }

    /// What becomes of a `read_marker`: it goes forward only.
    pub(super) fn mark(&self, by: &Waiting, seq: u64, behind: &Behind) -> Verdict {
        if behind.marks(&by.user) {
            return Verdict::Wait;
        }
        if seq > self.stream.seq() {
            let text = format!("is beyond the end, which is {}", self.stream.seq());
            return Verdict::Answer(Err(errors("seq", &text)));
        }
        if seq <= self.people.markers.get(&by.user).copied().unwrap_or(0) {
            return Verdict::Answer(Ok(self.marked(&by.user)));
        }
        Verdict::Do(Act::Mark { user: by.user.clone(), seq })
    }

    fn marked(&self, user: &str) -> String {
        let (read_seq, unread) = self.unread(user);
        object(|answer| {
            answer.number("read_seq", read_seq).number("unread", unread);
        })
    }

    /// A read marker is on disk. Returns the answer.
    pub(super) fn apply_mark(&mut self, user: &str, seq: u64) -> String {
        self.people.markers.insert(user.into(), seq);
        // It may have been forgotten for another of the same write.
        self.people.surplus.retain(|surplus| *surplus != key(MARKER, user));
        self.people.bound_markers();
        self.marked(user)
    }

    /// A mute or a ban is on disk.
    pub(super) fn apply_restriction(
        &mut self,
        (what, user, seconds): (Restriction, Box<str>, Option<u32>),
        until_ms: u64,
        moderator: Box<str>,
        context: &mut Context<'_>,
    ) {
        self.people.restricted.insert((what, user.clone()), until_ms);
        if what == Restriction::Ban {
            self.expel(&user, context);
        }
        let act = ModeratorAct::Restrict { what, user, seconds };
        self.note(moderator, act, &mut context.effects);
    }

    /// The end of a mute or a ban is on disk.
    pub(super) fn apply_lift(
        &mut self,
        (what, user): (Restriction, Box<str>),
        moderator: Box<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.people.restricted.remove(&(what, user.clone()));
        self.note(moderator, ModeratorAct::Lift { what, user }, effects);
    }

    /// Ends all memberships of a user.
    fn expel(&mut self, user: &str, context: &mut Context<'_>) {
        let members = self.members.iter().filter(|(_, member)| &*member.user == user);
        let members: Vec<Address> = members.map(|(address, _)| address).collect();
        for to in members {
            context.effects.push(Effect::Member { to, what: ToMember::Left });
            self.remove(to, Departure::Left(LeaveReason::Kicked), context);
        }
    }

    /// Lets the log say what a moderator has done.
    pub(super) fn note(&self, moderator: Box<str>, act: ModeratorAct, effects: &mut Vec<Effect>) {
        let room = self.topic.name().clone();
        effects.push(Effect::Note(Box::new(Note::Moderated { room, moderator, act })));
    }
}

impl Act {
    /// What it leaves beside the stream.
    pub(super) fn value(&self) -> Option<StoredValue> {
        let value = |kind: &str, user: &str, number: Option<u64>| {
            let bytes = number.map(|number| Arc::from(number.to_be_bytes()));
            Some(StoredValue { key: key(kind, user), bytes })
        };
        match self {
            Self::Restrict { what, user, until_ms, .. } => value(what.word(), user, Some(*until_ms)),
            Self::Lift { what, user, .. } => value(what.word(), user, None),
            Self::Mark { user, seq } => value(MARKER, user, Some(*seq)),
            Self::Say(_) | Self::Amend(_) => None,
        }
    }
}

fn key(kind: &str, user: &str) -> Box<str> {
    format!("{kind}:{user}").into()
}

fn unix_ms(now: Now) -> u64 {
    now.unix_us / 1000
}

fn until_ms(seconds: Option<u32>, now: Now) -> u64 {
    seconds.map_or(FOR_EVER, |seconds| unix_ms(now) + u64::from(seconds) * 1000)
}

/// Why a banned user's join is refused.
pub(super) fn banned(until_ms: u64, now: Now) -> String {
    restricted("banned", until_ms, now)
}

fn restricted(word: &str, until_ms: u64, now: Now) -> String {
    object(|refusal| {
        refusal.text("reason", word);
        if until_ms != FOR_EVER {
            refusal.number("retry_after", until_ms.saturating_sub(unix_ms(now)));
        }
    })
}
