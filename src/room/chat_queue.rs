//! What a room has asked of the store, and what waits for the answers.
//!
//! One append is in flight at a time. What members say meanwhile waits as it came, and is decided on when the append is answered:
//! then the next one takes as much as it may. A member is answered in the order in which it asked, so whatever it does behind
//! something that waits, waits too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::chat::{Chat, Member};
use super::chat_record::Record;
use super::chat_stream::{ChatMessage, newest};
use super::hosted::Context;
use super::request::{Departure, Effect};
use super::stored::{PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, Unavailable};
use super::telling::{Answer, reply, unavailable};
use crate::ids::{Address, Ticket};
use crate::limits::{
    PART_WORK_MAX, PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX, ROOM_APPEND_BYTES_MAX,
    ROOM_APPEND_MESSAGES_MAX, ROOM_READS_MAX, ROOM_WAITING_BYTES_MAX, ROOM_WAITING_MAX,
    ROOM_WAITING_USER_MAX,
};
use crate::memory::Allocated;
use crate::time::Now;
use crate::wire::phoenix::Event;
use crate::wire::push::{Push, PushEvent, RoomPush};
use crate::{impossible, planted};

/// The questions that a room may have asked. Reads of pages have the tickets above.
pub(super) const LOAD: Ticket = Ticket(0);
const APPEND: Ticket = Ticket(1);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// On their way to the disk.
    appending: Vec<Said>,
    /// As it came.
    waiting: VecDeque<Waiting>,
    /// Pages that are being read, and for whom.
    reads: BTreeMap<Ticket, Reader>,
    next_read: u32,
}

/// A message on its way to the disk.
#[derive(Debug)]
struct Said {
    from: Address,
    reference: Option<Box<str>>,
    message: ChatMessage,
}

/// What a member did, and who it is: it may have gone when its turn comes.
#[derive(Debug)]
struct Waiting {
    from: Address,
    user: Box<str>,
    name: Box<str>,
    what: Deed,
}

impl Waiting {
    fn bytes(&self) -> usize {
        match &self.what {
            Deed::Push(push) => bytes_of(push),
            Deed::Leave => 0,
        }
    }

    fn heap_bytes(&self) -> usize {
        self.user.allocated_bytes() + self.name.allocated_bytes() + self.bytes()
    }
}

/// What a message takes that waits to be said.
pub(super) fn bytes_of(push: &Push) -> usize {
    match &push.event {
        PushEvent::Room(RoomPush::NewMessage { body, .. }) => body.len(),
        PushEvent::Room(RoomPush::Typing(_) | RoomPush::History { .. })
        | PushEvent::Common(_)
        | PushEvent::Game(_) => 0,
    }
}

#[derive(Debug)]
enum Deed {
    Push(Push),
    Leave,
}

#[derive(Debug)]
struct Reader {
    to: Address,
    reference: Option<Box<str>>,
    /// At most so many messages.
    limit: usize,
}

impl Queue {
    /// Whether nothing is on its way and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.appending.is_empty() && self.waiting.is_empty() && self.reads.is_empty()
    }

    /// Whether nothing more of this user may wait.
    fn is_full_for(&self, user: &str, push: &Push) -> bool {
        let of_user = self.waiting.iter().filter(|waiting| &*waiting.user == user).count();
        let bytes = self.waiting.iter().map(Waiting::bytes).sum::<usize>() + bytes_of(push);
        self.waiting.len() >= ROOM_WAITING_MAX
            || of_user >= ROOM_WAITING_USER_MAX
            || bytes > ROOM_WAITING_BYTES_MAX
    }

    fn holds_up(&self, from: Address) -> bool {
        self.appending.iter().any(|said| said.from == from)
            || self.waiting.iter().any(|waiting| waiting.from == from)
            || self.reads.values().any(|reader| reader.to == from)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let said = |said: &Said| said.reference.allocated_bytes() + said.message.payload.allocated_bytes();
        self.appending.allocated_bytes()
            + self.appending.iter().map(said).sum::<usize>()
            + self.waiting.allocated_bytes()
            + self.waiting.iter().map(Waiting::heap_bytes).sum::<usize>()
            + self.reads.allocated_bytes()
    }
}

impl Chat {
    /// Whether a push must wait: behind what its member has done before, or for the append that is in flight.
    pub(super) fn must_wait(&self, from: Address, push: &PushEvent) -> bool {
        let is_said = matches!(push, PushEvent::Room(RoomPush::NewMessage { .. }));
        is_said && !self.queue.appending.is_empty() || self.queue.holds_up(from)
    }

    /// Whether a `phx_leave` must wait.
    pub(super) fn must_wait_to_leave(&self, from: Address) -> bool {
        self.queue.holds_up(from)
    }

    /// Lets a push wait, or refuses it if too much waits.
    pub(super) fn wait(&mut self, from: Address, push: Push, effects: &mut Vec<Effect>) {
        if self.queue.is_full_for(self.members.get(&from).map_or("", |member| &member.user), &push) {
            return reply(from, push.reference, Err(unavailable(Unavailable::Busy)), effects);
        }
        self.wait_for(from, Deed::Push(push));
    }

    /// Lets a `phx_leave` wait: there is one for each member.
    pub(super) fn wait_to_leave(&mut self, from: Address) {
        self.wait_for(from, Deed::Leave);
    }

    fn wait_for(&mut self, from: Address, what: Deed) {
        let Some(Member { user, name, .. }) = self.members.get(&from) else {
            return impossible!("whoever waits is a member");
        };
        self.queue.waiting.push_back(Waiting { from, user: user.clone(), name: name.clone(), what });
    }

    /// Takes a message on its way to the disk.
    pub(super) fn say(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(Member { user, name, .. }) = self.members.get(&from) else {
            return impossible!("whoever says something is a member");
        };
        let waiting = Waiting { from, user: user.clone(), name: name.clone(), what: Deed::Push(push) };
        let mut behind = Behind::default();
        self.decide_on(waiting, &mut behind, context);
        self.append(behind.batch, context);
    }

    /// What the store has said of an append or a page.
    pub(super) fn store_answered(&mut self, ticket: Ticket, answer: StoreAnswer, context: &mut Context<'_>) {
        match (ticket, answer) {
            (APPEND, StoreAnswer::Appended(cursor)) => {
                self.stream.cursor = cursor;
                for said in std::mem::take(&mut self.queue.appending) {
                    self.said(said, context);
                }
            }
            (APPEND, StoreAnswer::Refused(why)) => self.not_said(why, context),
            (APPEND, StoreAnswer::Conflict) => {
                self.not_said(Unavailable::Failed, context);
                self.load_anew(context);
            }
            (ticket, StoreAnswer::Page { records, more }) => self.page_read(ticket, &records, more, context),
            (ticket, StoreAnswer::Refused(why)) => {
                if let Some(Reader { to, reference, .. }) = self.queue.reads.remove(&ticket) {
                    reply(to, reference, Err(unavailable(why)), &mut context.effects);
                }
            }
            (_, StoreAnswer::Appended(_) | StoreAnswer::Conflict | StoreAnswer::Loaded { .. }) => {
                return impossible!("an answer is one to its question");
            }
        }
        self.go_on(context);
    }

    /// A message is on disk: everybody is told, and then whoever has said it.
    fn said(&mut self, said: Said, context: &mut Context<'_>) {
        let Said { from, reference, message } = said;
        let payload = message.payload.to_string();
        let first = context.effects.len();
        self.stream.push(message);
        let effects = &mut context.effects;
        self.broadcast(Event::NewMessage, &payload, None, effects);
        self.stop_typing(from, context.now.instant, effects);
        reply(from, reference, Ok(payload), effects);
        if planted!(AnswersFirst) {
            effects[first..].reverse();
        }
    }

    /// Nothing of what was to be appended is on disk.
    fn not_said(&mut self, why: Unavailable, context: &mut Context<'_>) {
        for Said { from, reference, message } in std::mem::take(&mut self.queue.appending) {
            self.forget_spoken(&message.user);
            reply(from, reference, Err(unavailable(why)), &mut context.effects);
        }
    }

    /// Nothing that waits can be done.
    pub(super) fn refuse_waiting(&mut self, why: Unavailable, context: &mut Context<'_>) {
        for Waiting { from, what, .. } in std::mem::take(&mut self.queue.waiting) {
            match what {
                Deed::Push(push) => reply(from, push.reference, Err(unavailable(why)), &mut context.effects),
                Deed::Leave => self.remove(from, Departure::Asked, context.now, &mut context.effects),
            }
        }
    }

    /// Decides on what has waited, in order, as far as nothing of the same member is still before it.
    pub(super) fn go_on(&mut self, context: &mut Context<'_>) {
        let mut behind = Behind {
            held_up: self.queue.reads.values().map(|reader| reader.to).collect(),
            is_closed: !self.queue.appending.is_empty() || self.is_loading(),
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
        let is_said = matches!(
            &waiting.what,
            Deed::Push(Push { event: PushEvent::Room(RoomPush::NewMessage { .. }), .. })
        );
        if is_said {
            match self.message_of(waiting, behind, context.now) {
                Decided::Append(said) => behind.batch.push(said),
                Decided::Answer(reference, answer) => reply(from, reference, answer, &mut context.effects),
                Decided::Wait(waiting) => {
                    behind.held_up.insert(from);
                    self.queue.waiting.push_back(waiting);
                }
            }
        } else if behind.has_batched(from) {
            behind.held_up.insert(from);
            self.queue.waiting.push_back(waiting);
        } else {
            match waiting.what {
                Deed::Push(push) => self.decide_push(from, push, context),
                Deed::Leave => self.remove(from, Departure::Asked, context.now, &mut context.effects),
            }
            if self.queue.reads.values().any(|reader| reader.to == from) {
                behind.held_up.insert(from);
            }
        }
    }

    /// What becomes of a `new_message`.
    fn message_of(&mut self, waiting: Waiting, behind: &Behind, now: Now) -> Decided {
        let Waiting { from, user, name, what } = waiting;
        let Deed::Push(Push { reference, event: PushEvent::Room(RoomPush::NewMessage { body, client_id }) }) =
            what
        else {
            impossible!("it was looked at before");
            return Decided::Answer(None, Err(unavailable(Unavailable::Failed)));
        };
        let wait = |reference, body, client_id, user, name| {
            let event = PushEvent::Room(RoomPush::NewMessage { body, client_id });
            Decided::Wait(Waiting { from, user, name, what: Deed::Push(Push { reference, event }) })
        };
        let is_same = |said: &Said| said.message.user == user && said.message.client_id == client_id;
        let is_on_its_way = client_id.is_some() && behind.batch.iter().any(is_same);
        if behind.is_closed || behind.is_full(self.audience_len()) || is_on_its_way {
            return wait(reference, body, client_id, user, name);
        }
        if let Some(first) = self.stream.sent_before(&user, client_id.as_deref()) {
            let answer = Ok(first.payload.to_string());
            return match behind.has_batched(from) {
                true => wait(reference, body, client_id, user, name),
                false => Decided::Answer(reference, answer),
            };
        }
        if let Err(refusal) = self.admit_message(&user, now.instant) {
            return match behind.has_batched(from) {
                true => wait(reference, body, client_id, user, name),
                false => Decided::Answer(reference, Err(refusal)),
            };
        }
        let seq = self.stream.seq() + behind.batch.len() as u64 + 1;
        let message = self.message(seq, (&user, &name), &body, client_id, now);
        Decided::Append(Said { from, reference, message })
    }

    /// Begins to write, if there is something to write.
    fn append(&mut self, batch: Vec<Said>, context: &mut Context<'_>) {
        if batch.is_empty() {
            return;
        }
        let records = batch.iter().map(|said| said.message.to_record()).collect();
        let (epoch, expected) = (self.stream.epoch, self.stream.cursor);
        if planted!(TellsBeforeDisk) {
            batch.into_iter().for_each(|said| self.said(said, context));
        } else {
            self.queue.appending = batch;
        }
        self.ask(APPEND, StoreAction::Append { epoch, expected, records }, context);
    }

    /// Reads a page of messages that are not in memory.
    pub(super) fn read(
        &mut self,
        to: Address,
        reference: Option<Box<str>>,
        (before, limit): (u64, usize),
        context: &mut Context<'_>,
    ) {
        if self.queue.reads.len() >= ROOM_READS_MAX {
            return reply(to, reference, Err(unavailable(Unavailable::Busy)), &mut context.effects);
        }
        // The numbers of two reads at a time differ, and are not those of other questions.
        self.queue.next_read = self.queue.next_read.wrapping_add(1) % (u32::MAX - 2);
        let ticket = Ticket(self.queue.next_read + 2);
        self.queue.reads.insert(ticket, Reader { to, reference, limit });
        // What is being appended has not been told yet.
        let before = before.min(self.stream.seq() + 1);
        let page = PageSize { records: limit, bytes: TEXT_BYTES_MAX };
        self.ask(ticket, StoreAction::Read { before, page }, context);
    }

    fn page_read(&mut self, ticket: Ticket, records: &[StoredRecord], more: bool, context: &mut Context<'_>) {
        let Some(Reader { to, reference, limit }) = self.queue.reads.remove(&ticket) else {
            return impossible!("a page is read for somebody");
        };
        let payloads = records.iter().rev().filter_map(|stored| Some(Record::decode(&stored.bytes)?.payload));
        let (messages, cut) = newest(payloads, limit, TEXT_BYTES_MAX);
        reply(to, reference, Ok(Self::page(messages, more || cut)), &mut context.effects);
    }

    pub(super) fn ask(&self, ticket: Ticket, action: StoreAction, context: &mut Context<'_>) {
        let kept = DAY * self.rules.days_kept;
        let since_ms = (context.now.unix_us / 1000).saturating_sub(kept.as_millis() as u64);
        let retention = Retention { records: self.rules.messages_kept.into(), since_ms };
        let request = StoreRequest { topic: self.topic.clone(), action, retention };
        context.effects.push(Effect::Ask { ticket, request: Box::new(request) });
    }
}

/// What is before a deed whose turn has come.
#[derive(Default)]
struct Behind {
    /// What the next append takes.
    batch: Vec<Said>,
    /// It takes nothing more.
    is_closed: bool,
    /// Members that something is still before: a page that is being read, or another deed that waits.
    held_up: BTreeSet<Address>,
}

impl Behind {
    /// Whether the next append takes nothing more. All of it is told in one turn, so in a crowd it takes less.
    fn is_full(&self, members: usize) -> bool {
        let messages_max = (PART_WORK_MAX as usize / members.max(1)).clamp(1, ROOM_APPEND_MESSAGES_MAX);
        let bytes: usize = self.batch.iter().map(|said| said.message.payload.len()).sum();
        self.batch.len() >= messages_max || bytes >= ROOM_APPEND_BYTES_MAX
    }

    fn has_batched(&self, from: Address) -> bool {
        self.batch.iter().any(|said| said.from == from)
    }
}

enum Decided {
    Append(Said),
    Answer(Option<Box<str>>, Answer),
    Wait(Waiting),
}
