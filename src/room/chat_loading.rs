//! A room that is read from the store: whoever comes meanwhile waits, in order, but not for ever.

use std::collections::VecDeque;

use super::chat::Chat;
use super::chat_queue::LOAD;
use super::chat_stream::ChatStream;
use super::hosted::{Context, Hosted};
use super::request::{Departure, Effect, Join, ToMember};
use super::stored::{PageSize, StoreAction, StoreAnswer, Unavailable};
use super::telling::{reply, unavailable};
use crate::ids::Address;
use crate::impossible;
use crate::limits;
use crate::reasons::JoinRefusal;
use crate::time::Instant;
use crate::wire::push::Push;

/// What waits for the room to be read from the store.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// In the order in which it came.
    pub(super) arrivals: VecDeque<Arrival>,
    /// Then whoever waits is refused.
    pub(super) until: Option<Instant>,
    /// The store was asked and has not answered.
    pub(super) is_asked: bool,
    /// Then it is asked again.
    pub(super) ask_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) from: Address,
    pub(super) what: Arrived,
}

#[derive(Debug)]
pub(super) enum Arrived {
    Join(Box<Join>),
    Push(Push),
    Leave(Departure),
}

impl Chat {
    pub(super) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Forgets what it believes the stream to be.
    pub(super) fn load_anew(&mut self, context: &mut Context<'_>) {
        self.loading = Some(Loading::default());
        self.load(context);
    }

    pub(super) fn load(&mut self, context: &mut Context<'_>) {
        let Some(loading) = &mut self.loading else { return };
        if loading.is_asked || loading.ask_at.is_some_and(|at| at > context.now.instant) {
            return;
        }
        (loading.is_asked, loading.ask_at) = (true, None);
        let page =
            PageSize { records: limits::MESSAGES_CACHED_MAX, bytes: limits::MESSAGES_CACHED_BYTES_MAX };
        self.ask(LOAD, StoreAction::Load { page }, context);
    }

    /// Lets something wait until the room is read. Too much waits: `Some`, and it must be refused.
    pub(super) fn arrive(
        &mut self,
        from: Address,
        what: Arrived,
        context: &mut Context<'_>,
    ) -> Option<Arrived> {
        let now = context.now.instant;
        let Some(loading) = &mut self.loading else { return Some(what) };
        let is_bounded = !matches!(what, Arrived::Leave(_));
        if is_bounded && loading.arrivals.len() >= limits::ROOM_ARRIVALS_MAX {
            return Some(what);
        }
        loading.until.get_or_insert(now + limits::ROOM_LOAD_WAIT);
        loading.arrivals.push_back(Arrival { from, what });
        self.load(context);
        None
    }

    pub(super) fn loaded(&mut self, answer: StoreAnswer, context: &mut Context<'_>) {
        let Some(loading) = &mut self.loading else {
            return impossible!("a room is read when it asked for it");
        };
        match answer {
            StoreAnswer::Loaded { stream, records } => {
                if let Some(end) = stream {
                    self.stream = ChatStream::load(end, &records, self.rules.messages_kept as usize);
                    self.count_as_spoken(context.now);
                }
                let arrivals = self.loading.take().map(|loading| loading.arrivals).unwrap_or_default();
                let members: Vec<Address> = self.members.keys().copied().collect();
                for member in members {
                    // What it knows is of a stream that another has written to.
                    context.effects.push(self.room_state(member, false));
                }
                self.go_on(context);
                for Arrival { from, what } in arrivals {
                    match what {
                        Arrived::Join(join) => self.admit(from, *join, context.now, &mut context.effects),
                        Arrived::Push(push) => self.push(from, push, context),
                        Arrived::Leave(departure) => self.leave(from, departure, context),
                    }
                }
            }
            StoreAnswer::Refused(why) => {
                loading.is_asked = false;
                loading.ask_at = Some(context.now.instant + why.retry_after());
                self.refuse_waiting(why, context);
                self.refuse_arrivals(why, &mut context.effects);
            }
            StoreAnswer::Appended(_) | StoreAnswer::Conflict | StoreAnswer::Page { .. } => {
                impossible!("an answer is one to its question");
            }
        }
    }

    /// Nobody waits any longer.
    pub(super) fn refuse_arrivals(&mut self, why: Unavailable, effects: &mut Vec<Effect>) {
        let Some(loading) = &mut self.loading else { return };
        loading.until = None;
        for Arrival { from, what } in std::mem::take(&mut loading.arrivals) {
            match what {
                Arrived::Join(_) => effects.push(refused(from, why)),
                Arrived::Push(push) => reply(from, push.reference, Err(unavailable(why)), effects),
                Arrived::Leave(Departure::Asked) => {
                    effects.push(Effect::Member { to: from, what: ToMember::Left });
                }
                Arrived::Leave(Departure::Left(_) | Departure::Lost) => {}
            }
        }
    }
}

/// The answer to a join that waits no longer.
pub(super) fn refused(to: Address, why: Unavailable) -> Effect {
    let what = ToMember::Refused { reason: JoinRefusal::Overload, response: unavailable(why) };
    Effect::Member { to, what }
}
