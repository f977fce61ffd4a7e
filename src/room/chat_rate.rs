//! How much one user may say in a room: messages and edits, so many in any minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::chat::Chat;
use super::chat_record::Kind;
use crate::limits::CHAT_WINDOW;
use crate::memory::Allocated;
use crate::time::{Instant, Now};
use crate::wire::phoenix::answers::over_rate;

/// When what each user has said stops to count.
#[derive(Debug, Default)]
pub(super) struct Rate {
    spoken: BTreeMap<Box<str>, Spoken>,
}

/// Of one user: until when some messages count, and how many they are. At most `SPOKEN_ENTRIES`, and one.
type Spoken = VecDeque<(Instant, u32)>;

const SPOKEN_ENTRIES: u32 = 64;

impl Rate {
    pub(super) fn heap_bytes(&self) -> usize {
        let spoken = self.spoken.iter().map(|(user, times)| user.allocated_bytes() + times.allocated_bytes());
        self.spoken.allocated_bytes() + spoken.sum::<usize>()
    }

    /// One more of a user, which counts until then. Where many may be said, those of a second count alike.
    fn count(&mut self, user: &str, until: Instant, per_minute: u32) {
        let step = if per_minute > SPOKEN_ENTRIES { CHAT_WINDOW / SPOKEN_ENTRIES } else { Duration::ZERO };
        let times = self.spoken.entry(user.into()).or_default();
        match times.back_mut() {
            Some((last, messages)) if until < *last + step => *messages += 1,
            _ => times.push_back((until, 1)),
        }
    }
}

impl Chat {
    /// Whether a user may say one more now; if so, it counts. A connection more of the same user does not help.
    ///
    /// # Errors
    /// The answer that refuses it, a JSON object.
    pub(super) fn admit_message(&mut self, user: &str, now: Instant) -> Result<(), String> {
        let counts = |(until, _): &(Instant, u32)| *until > now;
        let spoken = &mut self.rate.spoken;
        if spoken.len() > 2 * self.members.len().max(64) {
            // Users that have gone are remembered only while it matters.
            spoken.retain(|_, times| times.back().is_some_and(counts));
        }
        let times = spoken.entry(user.into()).or_default();
        while times.front().is_some_and(|first| !counts(first)) {
            times.pop_front();
        }
        if times.iter().map(|(_, messages)| messages).sum::<u32>() >= self.rules.messages_per_minute {
            let wait = times.front().map_or(CHAT_WINDOW, |(until, _)| until.since(now));
            return Err(over_rate(wait));
        }
        self.rate.count(user, now + CHAT_WINDOW, self.rules.messages_per_minute);
        Ok(())
    }

    /// A message was not said, though nobody can help it.
    pub(super) fn forget_spoken(&mut self, user: &str) {
        if let Some(times) = self.rate.spoken.get_mut(user)
            && let Some((_, messages)) = times.back_mut()
        {
            *messages -= 1;
            if *messages == 0 {
                times.pop_back();
            }
        }
    }

    /// What was said before the room was read counts as well: neither a restart nor an empty room renews a rate.
    pub(super) fn count_as_spoken(&mut self, now: Now) {
        self.rate = Rate::default();
        let (now_ms, window_ms) = (now.unix_us / 1000, CHAT_WINDOW.as_millis() as u64);
        for event in self.stream.events().filter(|event| event.kind != Kind::Deleted) {
            let age_ms = now_ms.saturating_sub(event.at_ms);
            if let Some(left_ms) = window_ms.checked_sub(age_ms).filter(|left_ms| *left_ms > 0) {
                let until = now.instant + Duration::from_millis(left_ms);
                self.rate.count(&event.user, until, self.rules.messages_per_minute);
            }
        }
    }
}
