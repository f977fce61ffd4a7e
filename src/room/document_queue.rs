//! Operations of a document on their way to the disk, and what waits behind them.
//!
//! One append is in flight at a time. Operations that come meanwhile wait as they came, and are transformed when it is answered:
//! then the next one takes as many as it may. A member is answered in the order in which it asked, so whatever it does behind
//! something that waits, waits too.

use std::collections::{BTreeSet, VecDeque};

use super::document::Document;
use super::document_text::{Draft, SentBefore, Unfit};
use super::hosted::Context;
use super::loading::{LOAD, Stored};
use super::ot::{self, Tie};
use super::request::{Departure, Effect};
use super::stored::{Change, StoreAction, StoreAnswer, Unavailable};
use super::telling::{Answer, reply, unavailable};
use crate::ids::{Address, Ticket};
use crate::limits::{
    DOCUMENT_APPEND_COMPONENTS_MAX, LOOKS_PER_WORK, PART_WORK_MAX, ROOM_APPEND_BYTES_MAX,
    ROOM_APPEND_MESSAGES_MAX, ROOM_WAITING_BYTES_MAX, ROOM_WAITING_MAX, ROOM_WAITING_USER_MAX,
};
use crate::memory::Allocated;
use crate::wire::phoenix::answers::reason;
use crate::wire::push::{DocumentPush, Edit, Push, PushEvent};
use crate::{impossible, planted};

/// The append that is in flight.
const APPEND: Ticket = Ticket(LOAD.0 + 1);

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    underway: Option<Underway>,
    /// As it came.
    waiting: VecDeque<Waiting>,
}

/// What is on its way to the disk.
#[derive(Debug)]
struct Underway {
    draft: Draft,
    /// Whom to answer, for each operation of the draft.
    askers: Vec<(Address, Option<Box<str>>)>,
    /// The text that the draft makes is written, too.
    saves: bool,
}

/// What a member did, and who it is: it may have gone when its turn comes.
#[derive(Debug)]
struct Waiting {
    from: Address,
    user: Box<str>,
    may_write: bool,
    what: Deed,
}

#[derive(Debug)]
enum Deed {
    Push(Push),
    Leave,
}

impl Waiting {
    fn is_cursor(&self) -> bool {
        matches!(&self.what, Deed::Push(push) if is_cursor(push))
    }

    fn bytes(&self) -> usize {
        match &self.what {
            Deed::Push(push) => push.bytes(),
            Deed::Leave => 0,
        }
    }
}

fn is_cursor(push: &Push) -> bool {
    matches!(push.event, PushEvent::Document(DocumentPush::Cursor { .. }))
}

fn is_operation(push: &Push) -> bool {
    matches!(push.event, PushEvent::Document(DocumentPush::Operation(_)))
}

impl Queue {
    /// Whether nothing is on its way and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.underway.is_none() && self.waiting.is_empty()
    }

    /// Whether something is on its way.
    pub(super) fn is_writing(&self) -> bool {
        self.underway.is_some()
    }

    /// Whether something waits that nothing is before: it was too much work for one turn.
    pub(super) fn is_left(&self) -> bool {
        self.underway.is_none() && !self.waiting.is_empty()
    }

    /// Whether something of a member is on its way, or waits.
    pub(super) fn holds_up(&self, from: Address) -> bool {
        let mut askers = self.underway.iter().flat_map(|underway| &underway.askers);
        askers.any(|(asker, _)| *asker == from) || self.waiting.iter().any(|waiting| waiting.from == from)
    }

    /// Whether nothing more of this user may wait.
    fn is_full_for(&self, user: &str, push: &Push) -> bool {
        let of_user = self.waiting.iter().filter(|waiting| &*waiting.user == user).count();
        let bytes = self.waiting.iter().map(Waiting::bytes).sum::<usize>() + push.bytes();
        self.waiting.len() >= ROOM_WAITING_MAX
            || of_user >= ROOM_WAITING_USER_MAX
            || bytes > ROOM_WAITING_BYTES_MAX
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let underway = self.underway.as_ref().map_or(0, |underway| {
            underway.draft.bytes + underway.draft.made.allocated_bytes() + underway.askers.allocated_bytes()
        });
        let waiting = self.waiting.iter().map(|waiting| waiting.user.allocated_bytes() + waiting.bytes());
        underway + self.waiting.allocated_bytes() + waiting.sum::<usize>()
    }
}

/// What the next append takes, while it is put together.
struct Batch {
    draft: Draft,
    askers: Vec<(Address, Option<Box<str>>)>,
    /// Members of whom something waits that is before what they do now.
    held_up: BTreeSet<Address>,
    /// It takes nothing more.
    is_closed: bool,
}

/// What becomes of an operation.
enum Verdict {
    /// It is in the draft.
    Taken,
    Answer(Answer),
    /// It cannot be done.
    Refuse(Unfit),
    /// It is decided on when the append is answered.
    Wait,
}

impl Document {
    /// A member pushes something.
    pub(super) fn take_push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        // Whoever may only read is refused at once, and takes nobody's place.
        let may_write = self.members.get(from).is_some_and(|member| member.own.may_write);
        let is_in_line = is_operation(&push) && may_write && !self.queue.is_empty();
        let waits = is_in_line || self.queue.holds_up(from);
        if waits {
            self.wait(from, push, &mut context.effects);
        } else if is_operation(&push) {
            let Some(waiting) = self.waiting_of(from, Deed::Push(push)) else { return };
            let mut batch = self.batch();
            self.decide_on(waiting, &mut batch, context);
            self.append(batch, context);
        } else {
            self.decide_push(from, push.reference, push.event.of_document(), context);
        }
    }

    /// Lets a `phx_leave` wait: there is one for each member.
    pub(super) fn queue_leave(&mut self, from: Address) {
        let waiting = self.waiting_of(from, Deed::Leave);
        self.queue.waiting.extend(waiting);
    }

    fn waiting_of(&self, from: Address, what: Deed) -> Option<Waiting> {
        let Some(member) = self.members.get(from) else {
            impossible!("whoever waits is a member");
            return None;
        };
        Some(Waiting { from, user: member.user.clone(), may_write: member.own.may_write, what })
    }

    /// Lets a push wait, or refuses it if too much waits. Of a member's cursors the last one counts.
    fn wait(&mut self, from: Address, push: Push, effects: &mut Vec<Effect>) {
        let Some(waiting) = self.waiting_of(from, Deed::Leave) else { return };
        let push = if planted!(TransformsTooEarly) { self.transformed_too_early(push) } else { push };
        if is_cursor(&push) {
            self.queue.waiting.retain(|waiting| waiting.from != from || !waiting.is_cursor());
        }
        if self.queue.is_full_for(&waiting.user, &push) {
            return reply(from, push.reference, Err(unavailable(Unavailable::Busy)), effects);
        }
        self.queue.waiting.push_back(Waiting { what: Deed::Push(push), ..waiting });
    }

    /// A planted bug: a push as if what is on its way to the disk were there.
    fn transformed_too_early(&self, mut push: Push) -> Push {
        let version_now = self.text.version();
        let Some(underway) = &self.queue.underway else { return push };
        if let PushEvent::Document(DocumentPush::Operation(Edit { operation, version, .. })) = &mut push.event
            && *version == version_now
        {
            for made in &underway.draft.made {
                *operation = ot::transform(operation, &made.operation, Tie::Right);
            }
            *version += underway.draft.made.len() as u64;
        }
        push
    }

    /// What the store has said of the append.
    pub(super) fn store_answered(&mut self, answer: &StoreAnswer, context: &mut Context<'_>) {
        let Some(underway) = self.queue.underway.take() else {
            return impossible!("an answer is one to its question");
        };
        match answer {
            StoreAnswer::Appended(cursor) => {
                self.text.cursor = *cursor;
                self.is_on_disk(underway, context);
            }
            StoreAnswer::Refused(why) => self.not_written(underway, *why, context),
            StoreAnswer::Conflict => {
                self.not_written(underway, Unavailable::Failed, context);
                self.load_anew(context);
            }
            StoreAnswer::Page { .. } | StoreAnswer::Loaded { .. } => {
                return impossible!("an answer is one to its question");
            }
        }
        self.decide_on_what_waits(context);
    }

    fn is_on_disk(&mut self, underway: Underway, context: &mut Context<'_>) {
        let Underway { draft, askers, saves } = underway;
        for (made, asker) in draft.made.iter().zip(askers) {
            self.tell_made(made, asker, &mut context.effects);
        }
        self.text.commit(draft, saves);
        self.forget_state();
    }

    /// Nothing of the draft is on disk.
    fn not_written(&mut self, underway: Underway, why: Unavailable, context: &mut Context<'_>) {
        let Underway { draft, askers, .. } = underway;
        if planted!(KeepsRefusedOperations) {
            self.text.commit(draft, false);
        }
        for (from, reference) in askers {
            reply(from, reference, Err(unavailable(why)), &mut context.effects);
        }
    }

    /// Nothing that waits can be done.
    pub(super) fn refuse_what_waits(&mut self, why: Unavailable, context: &mut Context<'_>) {
        for Waiting { from, what, .. } in std::mem::take(&mut self.queue.waiting) {
            match what {
                Deed::Push(push) => reply(from, push.reference, Err(unavailable(why)), &mut context.effects),
                Deed::Leave => self.remove(from, Departure::Asked, context),
            }
        }
    }

    fn batch(&mut self) -> Batch {
        let is_closed = self.queue.underway.is_some() || self.is_loading();
        Batch { draft: self.text.draft(), askers: Vec::new(), held_up: BTreeSet::new(), is_closed }
    }

    /// Decides on what has waited, in order, as far as nothing of the same member is still before it.
    pub(super) fn decide_on_what_waits(&mut self, context: &mut Context<'_>) {
        let mut batch = self.batch();
        if planted!(ForgetsWaiting) {
            self.queue.waiting.clear();
        }
        for waiting in std::mem::take(&mut self.queue.waiting) {
            self.decide_on(waiting, &mut batch, context);
        }
        self.append(batch, context);
    }

    fn decide_on(&mut self, waiting: Waiting, batch: &mut Batch, context: &mut Context<'_>) {
        let from = waiting.from;
        // An answer is told behind those to what the member has done before.
        let is_behind = batch.held_up.contains(&from) || batch.has(from);
        let verdict = match &waiting.what {
            _ if batch.held_up.contains(&from) => Verdict::Wait,
            Deed::Push(Push { event: PushEvent::Document(DocumentPush::Operation(edit)), .. }) => {
                self.verdict_on(&waiting, edit, batch)
            }
            Deed::Push(_) | Deed::Leave if is_behind => Verdict::Wait,
            Deed::Push(_) => {
                let Deed::Push(Push { reference, event }) = waiting.what else { return };
                return self.decide_push(from, reference, event.of_document(), context);
            }
            Deed::Leave => return self.remove(from, Departure::Asked, context),
        };
        let reference = match (&verdict, waiting.what) {
            (Verdict::Taken, Deed::Push(push)) => return batch.askers.push((from, push.reference)),
            (Verdict::Answer(_) | Verdict::Refuse(_), Deed::Push(push)) if !is_behind => push.reference,
            (_, what) => {
                batch.held_up.insert(from);
                return self.queue.waiting.push_back(Waiting { what, ..waiting });
            }
        };
        match verdict {
            Verdict::Answer(answer) => reply(from, reference, answer, &mut context.effects),
            Verdict::Refuse(unfit) => {
                let now = context.now.instant;
                self.refuse_unfit(from, reference, unfit, now, &mut context.effects);
            }
            Verdict::Taken | Verdict::Wait => {}
        }
    }

    fn verdict_on(
        &self,
        waiting: &Waiting,
        Edit { operation, version, epoch, op_id }: &Edit,
        batch: &mut Batch,
    ) -> Verdict {
        let op_id = op_id.as_deref();
        let sent_before = op_id.and_then(|op_id| self.text.sent_before(&waiting.user, op_id));
        match sent_before {
            Some(SentBefore::Made(version)) => return Verdict::Answer(Self::version_made(version)),
            Some(SentBefore::ByAnother) => return Verdict::Answer(Err(reason("op_id_taken"))),
            None if !waiting.may_write => return Verdict::Answer(Err(reason("read_only"))),
            None => {}
        }
        let is_in_draft = |op_id| batch.draft.made.iter().any(|made| made.op_id.as_deref() == Some(op_id));
        if batch.is_closed || batch.is_full(self.members.len()) || op_id.is_some_and(is_in_draft) {
            return Verdict::Wait;
        }
        // It was made for what is another text now.
        if epoch.is_some_and(|epoch| epoch != self.text.epoch) {
            return Verdict::Refuse(Unfit::TooOld);
        }
        match self.text.add(&mut batch.draft, (&waiting.user, op_id), operation, *version) {
            Ok(()) => Verdict::Taken,
            Err(unfit) => Verdict::Refuse(unfit),
        }
    }

    /// Begins to write, if there is something to write. What was looked at for it counts in any case.
    fn append(&mut self, batch: Batch, context: &mut Context<'_>) {
        let Batch { draft, askers, .. } = batch;
        context.work += draft.components / LOOKS_PER_WORK;
        if askers.is_empty() {
            return;
        }
        let at_ms = context.now.unix_us / 1000;
        let records = draft.made.iter().map(|made| made.to_record(at_ms)).collect();
        let snapshot = self.text.snapshot_with(&draft);
        let saves = snapshot.is_some();
        let change = Change { records, values: snapshot.into_iter().collect(), ..Change::default() };
        let (epoch, expected) = (self.text.epoch, self.text.cursor);
        self.queue.underway = Some(Underway { draft, askers, saves });
        self.ask(APPEND, StoreAction::Append { epoch, expected, change }, context);
    }
}

impl Batch {
    fn has(&self, from: Address) -> bool {
        self.askers.iter().any(|(asker, _)| *asker == from)
    }

    /// Whether the next append takes nothing more. What everybody is told is told in one turn, so in a crowd it takes less.
    fn is_full(&self, members: usize) -> bool {
        let told_max = (PART_WORK_MAX as usize / members.max(1)).clamp(1, ROOM_APPEND_MESSAGES_MAX);
        self.draft.made.len() >= told_max
            || self.draft.bytes >= ROOM_APPEND_BYTES_MAX
            || self.draft.components >= DOCUMENT_APPEND_COMPONENTS_MAX
    }
}
