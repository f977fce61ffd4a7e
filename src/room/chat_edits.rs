//! A message that was said is edited or deleted. That is an event of its own, with a number; and the message itself, on disk and in
//! memory, reads from then on as the event says. What it said before is kept nowhere.

use super::chat::Chat;
use super::chat_act::{Act, Verdict};
use super::chat_queue::{Behind, Waiting};
use super::chat_reads::Found;
use super::chat_record::{About, Kind};
use super::chat_stream::ChatEvent;
use crate::ids::StreamPosition;
use crate::memory::Allocated;
use crate::time::Now;
use crate::wire::message::{message_deleted, message_edited, tombstone, with_body};

/// What an edit or a deletion writes.
#[derive(Debug)]
pub(super) struct Amendment {
    pub(super) event: ChatEvent,
    /// The message as it is from now on.
    pub(super) message: ChatEvent,
    /// The edit before, of which nobody needs to be told any more.
    pub(super) replaced: Option<ChatEvent>,
    /// Whether somebody else than the author has done it.
    pub(super) by_moderator: bool,
}

impl Amendment {
    pub(super) fn bytes(&self) -> usize {
        self.event.payload.len() + self.message.payload.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.event.payload.allocated_bytes() + self.message.payload.allocated_bytes()
    }
}

impl Chat {
    /// What becomes of an `edit_message`, which would be the event `seq`.
    pub(super) fn edit(
        &mut self,
        by: &Waiting,
        (id, body): (StreamPosition, &str),
        behind: &Behind,
        now: Now,
    ) -> Verdict {
        let message = match self.message(id, by, behind) {
            Ok(message) => message,
            Err(verdict) => return verdict,
        };
        if message.user != by.user {
            return Verdict::refuse("forbidden");
        }
        let now_ms = now.unix_us / 1000;
        if now_ms.saturating_sub(message.at_ms) > u64::from(self.rules.edit_s) * 1000 {
            return Verdict::refuse("too_late");
        }
        let admitted = self.people.admit_speaker(&by.user, now);
        if let Err(refusal) = admitted.and_then(|()| self.admit_message(&by.user, now.instant)) {
            return Verdict::Answer(Err(refusal));
        }
        let seq = self.stream.seq() + behind.records() + 1;
        let payload = message_edited(id, seq, body, now_ms);
        let event = Self::event_about(&message, (seq, now_ms), Kind::Edited, payload);
        let payload = with_body(&message.payload, body, now_ms).into();
        let replaced = Self::replaced(&message);
        let message = ChatEvent { payload, about: About { seq, at_ms: now_ms }, ..message };
        Verdict::Do(Act::Amend(Box::new(Amendment { event, message, replaced, by_moderator: false })))
    }

    /// What becomes of a `delete_message`.
    pub(super) fn delete(&self, by: &Waiting, id: StreamPosition, behind: &Behind, now: Now) -> Verdict {
        let message = match self.message(id, by, behind) {
            Ok(message) => message,
            Err(verdict) => return verdict,
        };
        let by_moderator = message.user != by.user;
        if by_moderator && !by.is_moderator {
            return Verdict::refuse("forbidden");
        }
        let (seq, now_ms) = (self.stream.seq() + behind.records() + 1, now.unix_us / 1000);
        let mut event = Self::event_about(&message, (seq, now_ms), Kind::Deleted, message_deleted(id, seq));
        event.user = by.user.clone();
        let replaced = Self::replaced(&message);
        let (kind, payload) = (Kind::Erased, tombstone(id).into());
        let message = ChatEvent { kind, payload, about: About { seq, at_ms: now_ms }, ..message };
        Verdict::Do(Act::Amend(Box::new(Amendment { event, message, replaced, by_moderator })))
    }

    fn event_about(message: &ChatEvent, (seq, at_ms): (u64, u64), kind: Kind, payload: String) -> ChatEvent {
        let about = About { seq: message.seq, at_ms: message.at_ms };
        let (user, payload) = (message.user.clone(), payload.into());
        ChatEvent { seq, kind, about, user, client_id: None, at_ms, payload }
    }

    /// The latest edit of a message, as it is when another event takes its place.
    fn replaced(message: &ChatEvent) -> Option<ChatEvent> {
        let About { seq, at_ms } = message.about;
        let about = (seq, at_ms);
        (seq > 0).then(|| Self::event_about(message, about, Kind::Replaced, String::new()))
    }

    /// The message that an id names, as it is now. `Err`: there is none, or it is not known yet.
    fn message(&self, id: StreamPosition, by: &Waiting, behind: &Behind) -> Result<ChatEvent, Verdict> {
        let not_found = || Verdict::refuse("not_found");
        if id.epoch != self.stream.epoch || !(1..=self.stream.seq()).contains(&id.seq) {
            return Err(not_found());
        }
        if behind.amends(id.seq) {
            return Err(Verdict::Wait);
        }
        let event = match (self.stream.find(id.seq), &by.found) {
            (Some(event), _) => Some(event),
            (None, _) if self.stream.is_whole(self.rules.messages_kept.into()) => None,
            (None, Some(found)) if self.is_still_so(found, id.seq) => found.event.as_ref(),
            (None, Some(_) | None) => return Err(Verdict::LookUp(id.seq)),
        };
        event.filter(|event| event.kind == Kind::Message).cloned().ok_or_else(not_found)
    }

    /// Whether nothing has happened to a message since the store was asked for it.
    fn is_still_so(&self, found: &Found, seq: u64) -> bool {
        let mut since = self.stream.events().skip_while(|event| event.seq <= found.asked_at).peekable();
        let are_all_known = found.asked_at == self.stream.seq()
            || since.peek().is_some_and(|first| first.seq == found.asked_at + 1);
        are_all_known && since.all(|event| event.about.seq != seq)
    }
}
