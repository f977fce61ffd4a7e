//! Who types in a room: told for as long as it lasts, and no more often than others want to hear it.

use super::chat::Chat;
use super::request::Effect;
use crate::ids::Address;
use crate::limits::{TYPING_BURST, TYPING_INTERVAL, TYPING_TIMEOUT};
use crate::time::Instant;
use crate::wire::json::object;
use crate::wire::phoenix::Event;
use crate::{impossible, planted};

/// What a member says of its typing, and what the others have been told.
#[derive(Debug, Default)]
pub(super) struct Typing {
    /// It types until then, if it says nothing more; `None`: it does not.
    until: Option<Instant>,
    /// The others have been told that it types.
    told: bool,
    /// Each time that they are told takes `TYPING_INTERVAL`, and this is when all of it is over.
    spent_until: Instant,
}

impl Typing {
    /// The others may be told from here on.
    fn may_tell_at(&self) -> Instant {
        self.spent_until - (TYPING_BURST - 1) * TYPING_INTERVAL
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Instant {
        match self.until {
            Some(_) if !self.told => self.may_tell_at(),
            Some(until) => until,
            None if self.told => self.may_tell_at(),
            None => self.spent_until,
        }
    }
}

impl Chat {
    pub(super) fn typing(&mut self, from: Address, typing: bool, now: Instant, effects: &mut Vec<Effect>) {
        // A crowd is not told who types: each change would cost as many messages as it has members.
        let typing = typing && (self.members.presence.is_listed() || planted!(TypesInCrowd));
        if typing || self.typing.contains_key(&from) {
            self.typing.entry(from).or_default().until = typing.then(|| now + TYPING_TIMEOUT);
            self.settle_typing(from, now, effects);
        }
    }

    /// The end of typing by what is told anyway, a message or a leave.
    pub(super) fn stop_typing(&mut self, from: Address, now: Instant, effects: &mut Vec<Effect>) {
        let Some(typing) = self.typing.get_mut(&from) else { return };
        typing.until = None;
        if std::mem::replace(&mut typing.told, false) {
            self.tell_typing(from, false, now, effects);
        }
    }

    /// Tells the others whether a member types, if they do not know it and may be told.
    fn settle_typing(&mut self, from: Address, now: Instant, effects: &mut Vec<Effect>) {
        let Some(typing) = self.typing.get_mut(&from) else { return };
        let types = typing.until.is_some();
        if typing.told != types && typing.may_tell_at() <= now {
            typing.told = types;
            typing.spent_until = typing.spent_until.max(now) + TYPING_INTERVAL;
            self.tell_typing(from, types, now, effects);
        } else if !typing.told && !types && typing.spent_until <= now {
            self.typing.remove(&from);
        }
    }

    fn tell_typing(&mut self, from: Address, typing: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(member) = self.members.get(from) else { return impossible!("who types is a member") };
        let (number, status) = (member.number, if typing { "typing" } else { "online" });
        let payload = object(|news| {
            news.text("user_id", &member.user).boolean("typing", typing);
        });
        self.members.presence.set_status(number, status, now);
        if self.members.presence.is_listed() || planted!(TypesInCrowd) {
            self.members.broadcast(Event::UserTyping, &payload, Some(from), effects);
        }
    }

    /// Ends what has lasted long enough, and tells what had to wait.
    pub(super) fn settle_all_typing(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let due = self.typing.iter().filter(|(_, typing)| typing.due() <= now);
        let due: Vec<Address> = due.map(|(address, _)| *address).collect();
        for address in due {
            if planted!(TypesForEver) {
                self.typing.remove(&address);
                continue;
            }
            if let Some(typing) = self.typing.get_mut(&address) {
                typing.until = typing.until.filter(|until| *until > now);
            }
            self.settle_typing(address, now, effects);
        }
    }
}
