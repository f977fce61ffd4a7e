//! What a room has asked of the store, and what waits for the answers.
//!
//! One append is in flight at a time. What members want written meanwhile waits as it came, and is decided on when the append is
//! answered: then the next one takes as much as it may. A member is answered in the order in which it asked, so whatever it does
//! behind something that waits, waits too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::chat::{Chat, Standing};
use super::chat_act::{Act, Verdict};
use super::chat_edits::Amendment;
use super::chat_reads::{Found, Reader};
use super::chat_record::{About, Kind};
use super::chat_stream::ChatEvent;
use super::hosted::Context;
use super::loading::{LOAD, Stored};
use super::members::Member;
use super::request::{Departure, Effect};
use super::stored::{Change, StoreAction, StoreAnswer, Unavailable};
use super::telling::{done, reply, unavailable};
use crate::ids::{Address, StreamPosition, Ticket};
use crate::limits::{
    PART_WORK_MAX, ROOM_APPEND_BYTES_MAX, ROOM_APPEND_MESSAGES_MAX, ROOM_WAITING_BYTES_MAX,
    ROOM_WAITING_MARKERS_MAX, ROOM_WAITING_MAX, ROOM_WAITING_USER_MAX,
};
use crate::memory::Allocated;
use crate::note::ModeratorAct;
use crate::time::Now;
use crate::wire::message::new_message;
use crate::wire::phoenix::Event;
use crate::wire::push::{Push, PushEvent, RoomPush};
use crate::{impossible, planted};

/// The append that is in flight. Reads of pages have the tickets above.
const APPEND: Ticket = Ticket(LOAD.0 + 1);

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// On its way to the disk.
    underway: Vec<Underway>,
    /// As it came.
    pub(super) waiting: VecDeque<Waiting>,
    /// What is being read, and for whom.
    pub(super) reads: BTreeMap<Ticket, Reader>,
    pub(super) next_read: u32,
}

/// What a member has done, on its way to the disk.
#[derive(Debug)]
struct Underway {
    from: Address,
    reference: Option<Box<str>>,
    act: Act,
}

/// What a member did, and who it is: it may have gone when its turn comes.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) from: Address,
    pub(super) user: Box<str>,
    name: Box<str>,
    pub(super) is_moderator: bool,
    what: Deed,
    /// The message that it is about, if the store was asked for it.
    pub(super) found: Option<Found>,
}

impl Waiting {
    fn of(from: Address, member: &Member<Standing>, what: Deed) -> Self {
        let (user, name) = (member.user.clone(), member.name.clone());
        Self { from, user, name, is_moderator: member.own.is_moderator, what, found: None }
    }

    fn bytes(&self) -> usize {
        match &self.what {
            Deed::Push(push) => push.bytes(),
            Deed::Leave => 0,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let found = self.found.as_ref().and_then(|found| found.event.as_ref());
        self.user.allocated_bytes()
            + self.name.allocated_bytes()
            + self.bytes()
            + found.map_or(0, |event| event.payload.allocated_bytes())
    }
}

/// Whether a push leaves something on disk.
pub(super) fn is_written(push: &PushEvent) -> bool {
    match push {
        PushEvent::Room(RoomPush::Typing(_) | RoomPush::History { .. }) => false,
        PushEvent::Room(
            RoomPush::NewMessage { .. }
            | RoomPush::EditMessage { .. }
            | RoomPush::DeleteMessage(_)
            | RoomPush::Restrict { .. }
            | RoomPush::Lift { .. }
            | RoomPush::ReadMarker(_),
        ) => true,
        PushEvent::Common(_) | PushEvent::Game(_) | PushEvent::Document(_) => false,
    }
}

#[derive(Debug)]
enum Deed {
    Push(Push),
    Leave,
}

impl Deed {
    fn push(&self) -> Option<&Push> {
        match self {
            Self::Push(push) => Some(push),
            Self::Leave => None,
        }
    }

    fn is_written(&self) -> bool {
        matches!(self, Self::Push(push) if is_written(&push.event))
    }
}

impl Queue {
    /// Whether nothing is on its way and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.underway.is_empty() && self.waiting.is_empty() && self.reads.is_empty()
    }

    /// Whether nothing more of this user may wait.
    fn is_full_for(&self, user: &str, push: &Push) -> bool {
        let of_user = self.waiting.iter().filter(|waiting| &*waiting.user == user).count();
        let bytes = self.waiting.iter().map(Waiting::bytes).sum::<usize>() + push.bytes();
        let is_marker = |push: &Push| matches!(push.event, PushEvent::Room(RoomPush::ReadMarker(_)));
        let markers =
            self.waiting.iter().filter(|waiting| waiting.what.push().is_some_and(is_marker)).count();
        self.waiting.len() >= ROOM_WAITING_MAX
            || is_marker(push) && markers >= ROOM_WAITING_MARKERS_MAX
            || of_user >= ROOM_WAITING_USER_MAX
            || bytes > ROOM_WAITING_BYTES_MAX
    }

    pub(super) fn holds_up(&self, from: Address) -> bool {
        self.underway.iter().any(|underway| underway.from == from)
            || self.waiting.iter().any(|waiting| waiting.from == from)
            || self.reads.values().any(|reader| reader.from() == from)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let underway = |underway: &Underway| underway.reference.allocated_bytes() + underway.act.heap_bytes();
        self.underway.allocated_bytes()
            + self.underway.iter().map(underway).sum::<usize>()
            + self.waiting.allocated_bytes()
            + self.waiting.iter().map(Waiting::heap_bytes).sum::<usize>()
            + self.reads.allocated_bytes()
            + self.reads.values().map(Reader::heap_bytes).sum::<usize>()
    }
}

impl Chat {
    /// Whether a push must wait: behind what its member has done before, or for the append that is in flight.
    pub(super) fn must_wait(&self, from: Address, push: &PushEvent) -> bool {
        is_written(push) && !self.queue.underway.is_empty() || self.queue.holds_up(from)
    }

    /// Lets a push wait, or refuses it if too much waits.
    pub(super) fn wait(&mut self, from: Address, push: Push, effects: &mut Vec<Effect>) {
        if self.queue.is_full_for(self.members.get(from).map_or("", |member| &member.user), &push) {
            return reply(from, push.reference, Err(unavailable(Unavailable::Busy)), effects);
        }
        self.wait_for(from, Deed::Push(push));
    }

    /// Lets a `phx_leave` wait: there is one for each member.
    pub(super) fn queue_leave(&mut self, from: Address) {
        self.wait_for(from, Deed::Leave);
    }

    fn wait_for(&mut self, from: Address, what: Deed) {
        let Some(member) = self.members.get(from) else {
            return impossible!("whoever waits is a member");
        };
        self.queue.waiting.push_back(Waiting::of(from, member, what));
    }

    /// Takes something on its way to the disk. Nothing is before it.
    pub(super) fn write(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(member) = self.members.get(from) else {
            return impossible!("whoever writes something is a member");
        };
        let waiting = Waiting::of(from, member, Deed::Push(push));
        let mut behind = Behind::default();
        self.decide_on(waiting, &mut behind, context);
        self.append(behind.batch, context);
    }

    /// What the store has said of an append or of what was read.
    pub(super) fn store_answered(&mut self, ticket: Ticket, answer: StoreAnswer, context: &mut Context<'_>) {
        match (ticket, answer) {
            (APPEND, StoreAnswer::Appended(cursor)) => {
                self.stream.cursor = cursor;
                for underway in std::mem::take(&mut self.queue.underway) {
                    self.is_on_disk(underway, context);
                }
            }
            (APPEND, StoreAnswer::Refused(why)) => self.not_written(why, context),
            (APPEND, StoreAnswer::Conflict) => {
                self.not_written(Unavailable::Failed, context);
                self.load_anew(context);
            }
            (ticket, StoreAnswer::Page { records, more }) => self.was_read(ticket, &records, more, context),
            (ticket, StoreAnswer::Refused(why)) => {
                if let Some(reader) = self.queue.reads.remove(&ticket) {
                    reader.refuse(why, &mut context.effects);
                }
            }
            (_, StoreAnswer::Appended(_) | StoreAnswer::Conflict | StoreAnswer::Loaded { .. }) => {
                return impossible!("an answer is one to its question");
            }
        }
        self.go_on(context);
    }

    /// Everybody is told, and then whoever has done it.
    fn is_on_disk(&mut self, underway: Underway, context: &mut Context<'_>) {
        let Underway { from, reference, act } = underway;
        let first = context.effects.len();
        let answer = match act {
            Act::Say(message) => {
                let payload = message.payload.to_string();
                self.stream.push(message);
                self.members.broadcast(Event::NewMessage, &payload, None, &mut context.effects);
                self.stop_typing(from, context.now.instant, &mut context.effects);
                Ok(payload)
            }
            Act::Amend(amendment) => {
                self.amend(*amendment, &mut context.effects);
                done()
            }
            Act::Restrict { what, user, seconds, until_ms, moderator } => {
                self.apply_restriction((what, user, seconds), until_ms, moderator, context);
                done()
            }
            Act::Lift { what, user, moderator } => {
                self.apply_lift((what, user), moderator, &mut context.effects);
                done()
            }
            Act::Mark { user, seq } => Ok(self.apply_mark(&user, seq)),
        };
        reply(from, reference, answer, &mut context.effects);
        if planted!(AnswersFirst) {
            context.effects[first..].reverse();
        }
    }

    /// Nothing of what was to be appended is on disk.
    fn not_written(&mut self, why: Unavailable, context: &mut Context<'_>) {
        for Underway { from, reference, act } in std::mem::take(&mut self.queue.underway) {
            match &act {
                Act::Say(event) => self.forget_spoken(&event.user),
                Act::Amend(amendment) if amendment.event.kind == Kind::Edited => {
                    self.forget_spoken(&amendment.event.user);
                }
                Act::Amend(_) | Act::Restrict { .. } | Act::Lift { .. } | Act::Mark { .. } => {}
            }
            reply(from, reference, Err(unavailable(why)), &mut context.effects);
        }
    }

    /// Nothing that waits can be done, but for what is behind something of its member that is being read.
    pub(super) fn refuse_what_waits(&mut self, why: Unavailable, context: &mut Context<'_>) {
        let reading: BTreeSet<Address> = self.queue.reads.values().map(Reader::from).collect();
        let is_behind = |waiting: &Waiting| reading.contains(&waiting.from);
        let (behind, refused): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue.waiting).into_iter().partition(is_behind);
        self.queue.waiting = behind;
        for Waiting { from, what, .. } in refused {
            match what {
                Deed::Push(push) => reply(from, push.reference, Err(unavailable(why)), &mut context.effects),
                Deed::Leave => self.remove(from, Departure::Asked, context),
            }
        }
    }

    /// Decides on what has waited, in order, as far as nothing of the same member is still before it.
    pub(super) fn decide_on_what_waits(&mut self, context: &mut Context<'_>) {
        let mut behind = Behind {
            held_up: self.queue.reads.values().map(Reader::from).collect(),
            is_closed: !self.queue.underway.is_empty() || self.is_loading(),
            ..Behind::default()
        };
        if planted!(ForgetsWaiting) {
            self.queue.waiting.clear();
        }
        for waiting in std::mem::take(&mut self.queue.waiting) {
            self.decide_on(waiting, &mut behind, context);
        }
        self.append(behind.batch, context);
    }

    fn decide_on(&mut self, waiting: Waiting, behind: &mut Behind, context: &mut Context<'_>) {
        let from = waiting.from;
        if behind.held_up.contains(&from) {
            return self.queue.waiting.push_back(waiting);
        }
        if waiting.what.is_written() {
            return self.decide_on_written(waiting, behind, context);
        }
        if behind.has_batched(from) {
            behind.held_up.insert(from);
            return self.queue.waiting.push_back(waiting);
        }
        match waiting.what {
            Deed::Push(push) => self.decide_push(from, push, context),
            Deed::Leave => self.remove(from, Departure::Asked, context),
        }
        if self.queue.reads.values().any(|reader| reader.from() == from) {
            behind.held_up.insert(from);
        }
    }

    fn decide_on_written(&mut self, waiting: Waiting, behind: &mut Behind, context: &mut Context<'_>) {
        let from = waiting.from;
        match self.verdict_on(&waiting, behind, context.now) {
            Verdict::Do(act) => {
                let Some((_, reference)) = waiting.reference() else { return };
                behind.is_closed |= act.is_last();
                behind.batch.push(Underway { from, reference, act });
            }
            Verdict::Answer(answer) => {
                let Some((_, reference)) = waiting.reference() else { return };
                reply(from, reference, answer, &mut context.effects);
            }
            Verdict::Wait => {
                behind.held_up.insert(from);
                self.queue.waiting.push_back(waiting);
            }
            Verdict::LookUp(seq) => {
                behind.held_up.insert(from);
                self.look_up(waiting, seq, context);
            }
        }
    }

    fn verdict_on(&mut self, waiting: &Waiting, behind: &Behind, now: Now) -> Verdict {
        let Deed::Push(Push { event: PushEvent::Room(push), .. }) = &waiting.what else {
            impossible!("it was looked at before");
            return Verdict::Wait;
        };
        let is_marker = matches!(push, RoomPush::ReadMarker(_));
        if behind.is_closed || behind.is_full(self.members.len(), is_marker) {
            return Verdict::Wait;
        }
        let verdict = match push {
            RoomPush::NewMessage { body, client_id } => {
                self.say(waiting, (body, client_id.as_deref()), behind, now)
            }
            RoomPush::EditMessage { message, body } => self.edit(waiting, (*message, body), behind, now),
            RoomPush::DeleteMessage(message) => self.delete(waiting, *message, behind, now),
            RoomPush::Restrict { what, user, seconds } => {
                self.restrict(waiting, (*what, user, *seconds), now)
            }
            RoomPush::Lift { what, user } => self.lift(waiting, *what, user),
            RoomPush::ReadMarker(seq) => self.mark(waiting, *seq, behind),
            RoomPush::Typing(_) | RoomPush::History { .. } => {
                impossible!("it leaves nothing on disk");
                Verdict::Answer(done())
            }
        };
        // An answer is told behind those to what the member has done before, also one that depends on the disk.
        if matches!(verdict, Verdict::Answer(_) | Verdict::LookUp(_)) && behind.has_batched(waiting.from) {
            return Verdict::Wait;
        }
        verdict
    }

    /// What becomes of a `new_message`.
    fn say(
        &mut self,
        by: &Waiting,
        (body, client_id): (&str, Option<&str>),
        behind: &Behind,
        now: Now,
    ) -> Verdict {
        if behind.has_said(&by.user, client_id) {
            return Verdict::Wait;
        }
        if let Some(first) = self.stream.sent_before(&by.user, client_id) {
            return Verdict::Answer(Ok(first.payload.to_string()));
        }
        let admitted = self.people.admit_speaker(&by.user, now);
        if let Err(refusal) = admitted.and_then(|()| self.admit_message(&by.user, now.instant)) {
            return Verdict::Answer(Err(refusal));
        }
        let (seq, at_ms) = (self.stream.seq() + behind.records() + 1, now.unix_us / 1000);
        let id = StreamPosition { epoch: self.stream.epoch, seq };
        let payload = new_message(id, (&by.user, &by.name), body, at_ms).into();
        let (user, client_id) = (by.user.clone(), client_id.map(Into::into));
        let (kind, about) = (Kind::Message, About::default());
        Verdict::Do(Act::Say(ChatEvent { seq, kind, about, user, client_id, at_ms, payload }))
    }

    /// A message reads otherwise, on disk and from now on here.
    fn amend(&mut self, amendment: Amendment, effects: &mut Vec<Effect>) {
        let Amendment { event, message, replaced, by_moderator } = amendment;
        let told = if event.kind == Kind::Edited { Event::MessageEdited } else { Event::MessageDeleted };
        self.members.broadcast(told, &event.payload, None, effects);
        if by_moderator {
            let act = ModeratorAct::Delete { seq: message.seq, author: message.user.clone() };
            self.note(event.user.clone(), act, effects);
        }
        self.stream.amend(message);
        replaced.into_iter().for_each(|replaced| self.stream.amend(replaced));
        self.stream.push(event);
    }

    /// Begins to write, if there is something to write.
    fn append(&mut self, batch: Vec<Underway>, context: &mut Context<'_>) {
        if batch.is_empty() {
            return;
        }
        let mut change = Change { values: self.people.take_surplus(), ..Change::default() };
        for Underway { act, .. } in &batch {
            change.records.extend(act.event().map(ChatEvent::to_record));
            change.values.extend(act.value());
            if let Act::Amend(amendment) = act
                && !planted!(AmendsInMemory)
            {
                let Amendment { message, replaced, .. } = &**amendment;
                change.amended.extend(replaced.iter().chain([message]).map(ChatEvent::to_record));
            }
        }
        let (epoch, expected) = (self.stream.epoch, self.stream.cursor);
        if planted!(TellsBeforeDisk) {
            batch.into_iter().for_each(|underway| self.is_on_disk(underway, context));
        } else {
            self.queue.underway = batch;
        }
        self.ask(APPEND, StoreAction::Append { epoch, expected, change }, context);
    }
}

impl Waiting {
    /// Whom to answer, and under which reference.
    pub(super) fn reference(self) -> Option<(Address, Option<Box<str>>)> {
        match self.what {
            Deed::Push(push) => Some((self.from, push.reference)),
            Deed::Leave => None,
        }
    }
}

/// What is before a deed whose turn has come.
#[derive(Default)]
pub(super) struct Behind {
    /// What the next append takes.
    batch: Vec<Underway>,
    /// It takes nothing more.
    is_closed: bool,
    /// Members that something is still before: something that is being read, or another deed that waits.
    held_up: BTreeSet<Address>,
}

impl Behind {
    /// Whether the next append takes nothing more. What everybody is told is told in one turn, so in a crowd it takes less of that.
    fn is_full(&self, members: usize, is_marker: bool) -> bool {
        let told_max = (PART_WORK_MAX as usize / members.max(1)).clamp(1, ROOM_APPEND_MESSAGES_MAX);
        let told = self.batch.iter().filter(|underway| underway.act.is_told()).count();
        let bytes: usize = self.batch.iter().map(|underway| underway.act.bytes()).sum();
        !is_marker && told >= told_max
            || self.batch.len() >= ROOM_APPEND_MESSAGES_MAX
            || bytes >= ROOM_APPEND_BYTES_MAX
    }

    /// Whether it moves the read marker of a user.
    pub(super) fn marks(&self, user: &str) -> bool {
        let marks = |act: &Act| matches!(act, Act::Mark { user: marking, .. } if **marking == *user);
        self.batch.iter().any(|underway| marks(&underway.act))
    }

    fn has_batched(&self, from: Address) -> bool {
        self.batch.iter().any(|underway| underway.from == from)
    }

    /// How many events of the stream the next append has.
    pub(super) fn records(&self) -> u64 {
        self.batch.iter().filter(|underway| underway.act.event().is_some()).count() as u64
    }

    /// Whether something becomes of the message `seq`.
    pub(super) fn amends(&self, seq: u64) -> bool {
        let amends = |act: &Act| matches!(act, Act::Amend(amendment) if amendment.message.seq == seq);
        self.batch.iter().any(|underway| amends(&underway.act))
    }

    fn has_said(&self, user: &str, client_id: Option<&str>) -> bool {
        let is_same = |act: &Act| match act {
            Act::Say(message) => &*message.user == user && message.client_id.as_deref() == client_id,
            Act::Amend(_) | Act::Restrict { .. } | Act::Lift { .. } | Act::Mark { .. } => false,
        };
        client_id.is_some() && self.batch.iter().any(|underway| is_same(&underway.act))
    }
}
