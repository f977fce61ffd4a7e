//! A topic that is read from the store: whoever comes meanwhile waits, in order, but not for ever.

use std::collections::VecDeque;

use super::hosted::{Context, Hosted, Lost};
use super::request::{Departure, Effect, Join, ToMember};
use super::stored::{PageSize, StoreAction, StoreAnswer, StoredRecord, StoredValue, StreamEnd, Unavailable};
use super::telling::{reply, unavailable};
use crate::ids::{Address, Ticket};
use crate::impossible;
use crate::limits;
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::time::Instant;
use crate::wire::push::Push;

/// The question for what a topic begins with.
pub(super) const LOAD: Ticket = Ticket(0);

/// A topic that the store keeps. What it has is read before anybody is let in.
pub(super) trait Stored: Hosted {
    /// How much of the stream is read.
    const PAGE: PageSize;

    /// `None`: what is in memory is what the store has.
    fn loading(&mut self) -> &mut Option<Loading>;

    /// Asks the store.
    fn ask(&self, ticket: Ticket, action: StoreAction, context: &mut Context<'_>);

    /// Begins with what the store has. Returns the members to whom it is news, because another has written.
    ///
    /// # Errors
    /// It cannot be read.
    fn begin(&mut self, loaded: Loaded, context: &mut Context<'_>) -> Result<Vec<Address>, Unavailable>;

    /// Tells a member everything, if it is still here: what it knows is of a stream that another has written to.
    fn tell_anew(&mut self, to: Address, context: &mut Context<'_>);

    /// A channel joins, now that everything is there.
    fn admit(&mut self, from: Address, join: Join, context: &mut Context<'_>);

    /// Whether it is a member.
    fn has(&self, from: Address) -> bool;

    /// The members among those that could not be told something.
    fn lost(&self, lost: Lost) -> Vec<Address>;

    /// A channel goes, which may be no member.
    fn remove(&mut self, from: Address, departure: Departure, context: &mut Context<'_>);

    /// Whether something of a member waits for the store.
    fn holds_up(&self, from: Address) -> bool;

    /// Lets a `phx_leave` wait behind that: there is one for each member.
    fn wait_to_leave(&mut self, from: Address);

    /// What waits for the store, members' pushes, waits no longer.
    fn refuse_waiting(&mut self, why: Unavailable, context: &mut Context<'_>);

    /// Decides on what has waited.
    fn go_on(&mut self, context: &mut Context<'_>);

    /// `Hosted::join`.
    fn take_join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        if let Some(superseded) = join.supersedes {
            self.leave(superseded, Departure::Left(LeaveReason::Left), context);
        }
        if let Some(Arrived::Join(join)) = self.pass_loading(from, Arrived::Join(Box::new(join)), context) {
            self.admit(from, *join, context);
        }
    }

    /// `Hosted::leave`.
    fn take_leave(&mut self, from: Address, departure: Departure, context: &mut Context<'_>) {
        let is_asked = departure == Departure::Asked;
        let is_behind = is_asked || !self.has(from);
        if is_behind && self.pass_loading(from, Arrived::Leave(departure), context).is_none() {
            return;
        }
        if is_asked && self.has(from) && self.holds_up(from) {
            self.wait_to_leave(from);
        } else {
            self.remove(from, departure, context);
        }
    }

    /// `Hosted::give_up`.
    fn take_loss(&mut self, lost: Lost, context: &mut Context<'_>) {
        if let (Lost::One(gone), Some(loading)) = (lost, self.loading()) {
            // It was told that its join is refused.
            loading.arrivals.retain(|arrival| arrival.from != gone);
        }
        for member in self.lost(lost).into_iter().filter(|_| !planted!(KeepsGivenUp)) {
            self.remove(member, Departure::Lost, context);
        }
    }

    fn is_loading(&mut self) -> bool {
        self.loading().is_some()
    }

    /// Forgets what it believes the stream to be.
    fn load_anew(&mut self, context: &mut Context<'_>) {
        let arrivals = self.loading().take().map(|loading| loading.arrivals).unwrap_or_default();
        let until = (!arrivals.is_empty()).then(|| context.now.instant + limits::ROOM_LOAD_WAIT);
        *self.loading() = Some(Loading { arrivals, until, ..Loading::default() });
        self.load(context);
    }

    /// The store has more than it had. Whatever it is asked from now on, it answers so.
    fn load_again(&mut self, context: &mut Context<'_>) {
        match self.loading() {
            Some(loading) if loading.step == Step::Asked => loading.is_outdated = true,
            Some(Loading { step: Step::Ask { .. }, .. }) => {}
            Some(_) | None => self.load_anew(context),
        }
    }

    fn load(&mut self, context: &mut Context<'_>) {
        let Some(loading) = self.loading() else { return };
        if !matches!(loading.step, Step::Ask { at } if at <= context.now.instant) {
            return;
        }
        (loading.step, loading.is_outdated) = (Step::Asked, false);
        self.ask(LOAD, StoreAction::Load { page: Self::PAGE }, context);
    }

    /// Lets something wait until the topic is read, or refuses it if too much waits. `Some`: it need not wait.
    fn pass_loading(&mut self, from: Address, what: Arrived, context: &mut Context<'_>) -> Option<Arrived> {
        let now = context.now.instant;
        let Some(loading) = self.loading() else { return Some(what) };
        let is_full = loading.arrivals.len() >= limits::ROOM_ARRIVALS_MAX;
        let has_room_for = |push: &Push| {
            let waits = loading.arrivals.iter().map(|arrival| match &arrival.what {
                Arrived::Push(push) => push.bytes(),
                Arrived::Join(_) | Arrived::Leave(_) => 0,
            });
            push.bytes() == 0 || waits.sum::<usize>() + push.bytes() <= limits::ROOM_ARRIVALS_BYTES_MAX
        };
        match what {
            Arrived::Join(_) if is_full => context.effects.push(refused(from, Unavailable::Busy)),
            Arrived::Push(push) if is_full || !has_room_for(&push) => {
                let refusal = Err(unavailable(Unavailable::Busy));
                reply(from, push.reference, refusal, &mut context.effects);
            }
            what @ (Arrived::Join(_) | Arrived::Push(_) | Arrived::Leave(_)) => {
                if loading.step != Step::LetIn {
                    loading.until.get_or_insert(now + limits::ROOM_LOAD_WAIT);
                }
                loading.arrivals.push_back(Arrival { from, what });
                self.load(context);
            }
        }
        None
    }

    fn loaded(&mut self, answer: StoreAnswer, context: &mut Context<'_>) {
        let Some(loading) = self.loading() else {
            return impossible!("a topic is read when it asked for it");
        };
        match answer {
            StoreAnswer::Loaded { .. } if loading.is_outdated => {
                loading.step = Step::default();
                self.load(context);
            }
            StoreAnswer::Loaded { stream, records, values } => {
                (loading.step, loading.until) = (Step::LetIn, None);
                match self.begin(Loaded { stream, records, values }, context) {
                    Ok(untold) => {
                        if let Some(loading) = self.loading() {
                            loading.untold = untold.into();
                        }
                        self.let_some_in(context);
                    }
                    Err(why) => self.not_loaded(why, context),
                }
            }
            StoreAnswer::Refused(why) => self.not_loaded(why, context),
            StoreAnswer::Appended(_) | StoreAnswer::Conflict | StoreAnswer::Page { .. } => {
                impossible!("an answer is one to its question");
            }
        }
    }

    /// It could not be read. It is tried again for whoever comes.
    fn not_loaded(&mut self, why: Unavailable, context: &mut Context<'_>) {
        if let Some(loading) = self.loading() {
            loading.step = Step::Ask { at: context.now.instant + why.retry_after() };
        }
        self.refuse_waiting(why, context);
        self.refuse_arrivals(why, context);
    }

    /// Does what is due: refuses, asks again, lets in.
    fn go_on_loading(&mut self, context: &mut Context<'_>) {
        let Some(loading) = self.loading() else { return };
        if loading.until.is_some_and(|until| until <= context.now.instant) {
            self.refuse_waiting(Unavailable::Busy, context);
            self.refuse_arrivals(Unavailable::Busy, context);
        }
        self.load(context);
        self.let_some_in(context);
    }

    /// Tells some of the members, then lets in some of those who wait, in order. Each is told as much as a message holds, or more, so
    /// a crowd takes several turns.
    fn let_some_in(&mut self, context: &mut Context<'_>) {
        let Some(mut loading) = self.loading().take_if(|loading| loading.step == Step::LetIn) else { return };
        let mut left = limits::ROOM_LET_IN;
        while left > 0
            && let Some(member) = loading.untold.pop_front()
        {
            self.tell_anew(member, context);
            left -= 1;
        }
        if !loading.untold.is_empty() {
            *self.loading() = Some(loading);
            return;
        }
        self.go_on(context);
        for _ in 0..left {
            let Some(Arrival { from, what }) = loading.arrivals.pop_front() else { return };
            match what {
                Arrived::Join(join) => self.admit(from, *join, context),
                Arrived::Push(push) => self.push(from, push, context),
                Arrived::Leave(departure) => self.leave(from, departure, context),
            }
        }
        if !loading.arrivals.is_empty() {
            *self.loading() = Some(loading);
        }
    }

    /// Nobody waits any longer.
    fn refuse_arrivals(&mut self, why: Unavailable, context: &mut Context<'_>) {
        let Some(loading) = self.loading() else { return };
        loading.until = None;
        for Arrival { from, what } in std::mem::take(&mut loading.arrivals) {
            match what {
                Arrived::Join(_) => context.effects.push(refused(from, why)),
                Arrived::Push(push) => {
                    reply(from, push.reference, Err(unavailable(why)), &mut context.effects);
                }
                // While a topic is read again there are members.
                Arrived::Leave(Departure::Asked) if !planted!(KeepsLeavers) => {
                    self.remove(from, Departure::Asked, context);
                }
                Arrived::Leave(Departure::Asked) => {
                    context.effects.push(Effect::Member { to: from, what: ToMember::Left });
                }
                Arrived::Leave(Departure::Left(_) | Departure::Lost) => {}
            }
        }
    }
}

/// What waits for the topic to be read from the store.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// In the order in which it came.
    arrivals: VecDeque<Arrival>,
    /// Members that are told before anybody is let in.
    untold: VecDeque<Address>,
    /// Then whoever waits is refused.
    until: Option<Instant>,
    step: Step,
    /// What the store was asked, it may have answered before somebody else wrote.
    is_outdated: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The store is to be asked, not before then.
    Ask { at: Instant },
    /// It has not answered yet.
    Asked,
    /// It has: whoever waits comes in, a few at a time.
    LetIn,
}

impl Default for Step {
    fn default() -> Self {
        Self::Ask { at: Instant::default() }
    }
}

impl Loading {
    /// Whether an answer is to come, or somebody waits for it.
    pub(super) fn is_needed(&self) -> bool {
        self.step == Step::Asked || !self.arrivals.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let bytes = |arrival: &Arrival| match &arrival.what {
            Arrived::Join(_) => size_of::<Join>(),
            Arrived::Push(push) => push.bytes(),
            Arrived::Leave(_) => 0,
        };
        self.arrivals.allocated_bytes()
            + self.untold.allocated_bytes()
            + self.arrivals.iter().map(bytes).sum::<usize>()
    }

    /// When something is to be done. `is_awaited`: also if nobody waits to come in.
    pub(super) fn due(&self, is_awaited: bool) -> Option<Instant> {
        let step = match self.step {
            Step::Ask { at } if is_awaited || !self.arrivals.is_empty() => Some(at),
            Step::Ask { .. } | Step::Asked => None,
            Step::LetIn => Some(Instant::default()),
        };
        step.into_iter().chain(self.until).min()
    }
}

#[derive(Debug)]
struct Arrival {
    from: Address,
    what: Arrived,
}

/// What the store has of a topic.
pub(super) struct Loaded {
    /// `None`: nothing.
    pub(super) stream: Option<StreamEnd>,
    /// The last ones, oldest first.
    pub(super) records: Vec<StoredRecord>,
    pub(super) values: Vec<StoredValue>,
}

#[derive(Debug)]
pub(super) enum Arrived {
    Join(Box<Join>),
    Push(Push),
    Leave(Departure),
}

/// The answer to a join that waits no longer.
pub(super) fn refused(to: Address, why: Unavailable) -> Effect {
    let what = ToMember::Refused { reason: JoinRefusal::Overload, response: unavailable(why) };
    Effect::Member { to, what }
}
