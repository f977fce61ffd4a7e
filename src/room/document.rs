//! A document: a text that its members edit at once. Operations are put into one order, transformed, and told when they are on disk.

use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use super::audience::Audience;
use super::document_queue::Queue;
use super::document_record::RETENTION;
use super::document_text::{DocumentText, Made, Unfit};
use super::hosted::{Context, Hosted, Lost};
use super::loading::{Arrived, LOAD, Loaded, Loading, Stored};
use super::members::Members;
use super::request::{Departure, Effect, Join, Rights, ToMember};
use super::stored::{PageSize, StoreAction, StoreAnswer, StoreRequest, Unavailable};
use super::telling::{Answer, heartbeat, reply};
use crate::ids::{Address, Ticket, Topic};
use crate::impossible;
use crate::limits::{DOCUMENT_BYTES_MAX, OPERATIONS_KEPT, OPERATIONS_KEPT_BYTES, OUTDATED_INTERVAL};
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::JoinRefusal;
use crate::time::{Instant, Now};
use crate::wire::json::object;
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::{over_rate, reason};
use crate::wire::push::{CommonPush, CursorPlace, DocumentPush, Push};
use crate::wire::seen::Seen;

/// What an operator sets for the documents whose name fits a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRules {
    /// Which documents: a `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// Whether a document that does not exist may be joined, and begins with its first operation.
    pub create: bool,
}

impl Default for DocumentRules {
    fn default() -> Self {
        Self { pattern: "*".into(), create: true }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Document {
    topic: Arc<Topic>,
    rules: DocumentRules,
    pub(super) text: DocumentText,
    /// Payloads of `doc_state`, if the text was told as it is.
    state: Option<Vec<Arc<str>>>,
    /// `None`: `text` is what the store has.
    loading: Option<Loading>,
    pub(super) queue: Queue,
    pub(super) members: Members<Editor>,
}

/// What a document knows of a member.
#[derive(Debug)]
pub(super) struct Editor {
    pub(super) may_write: bool,
    cursor: Option<CursorPlace>,
    /// Before, it is not told the text again.
    outdated_after: Instant,
}

impl Document {
    /// A document in which nobody is. `epoch`, which must never have been used, names its stream if nothing was ever written;
    /// `list_max`: see `Presence`.
    pub fn new(topic: &Arc<Topic>, rules: DocumentRules, epoch: u64, list_max: u32) -> Self {
        Self {
            topic: topic.clone(),
            rules,
            text: DocumentText::new(epoch),
            state: None,
            loading: Some(Loading::default()),
            queue: Queue::default(),
            members: Members::new(topic, epoch, list_max),
        }
    }

    // ── What members do ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Nothing of the member is before it, and it leaves nothing on disk.
    pub(super) fn decide_push(
        &mut self,
        from: Address,
        reference: Option<Box<str>>,
        push: Result<DocumentPush, CommonPush>,
        context: &mut Context<'_>,
    ) {
        if !self.members.has(from) {
            // It has gone while this waited.
            return;
        }
        let (now, effects) = (context.now, &mut context.effects);
        let answer = match push {
            Ok(DocumentPush::Cursor { place, version }) => {
                match self.move_cursor(from, place, version, effects) {
                    Ok(()) => return,
                    Err(unfit) => Err(self.refusal(unfit)),
                }
            }
            Ok(DocumentPush::Operations { after }) => match self.text.page(after) {
                Ok((operations, more)) => Ok(page_of(&operations, more)),
                Err(unfit) => return self.refuse_unfit(from, reference, unfit, now.instant, effects),
            },
            Ok(DocumentPush::Operation(_)) => {
                return impossible!("what is written is decided on elsewhere");
            }
            Err(CommonPush::Heartbeat) => heartbeat(now),
            Err(CommonPush::PresenceUpdate(meta)) => self.members.update_presence(from, &meta, now.instant),
            Err(CommonPush::Reconnect(seen)) => return self.catch_up(from, seen, false, effects),
            Err(CommonPush::Refused(refusal)) => Err(refusal),
        };
        reply(from, reference, answer, effects);
    }

    fn move_cursor(
        &mut self,
        from: Address,
        place: Option<CursorPlace>,
        version: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Unfit> {
        let Some(member) = self.members.get(from) else {
            impossible!("whoever moves a cursor is here");
            return Ok(());
        };
        let place = place.map(|place| self.text.place_now(place, &member.user, version)).transpose()?;
        // A crowd is not told where everybody is: each move would cost as many messages as it has members.
        // What was told before stays, with everybody and here.
        if !self.members.presence.is_listed() {
            return Ok(());
        }
        let payload = told_cursor(&member.user, place, self.text.version());
        self.members.broadcast(Event::Cursor, &payload, Some(from), effects);
        let user = member.user.clone();
        // Whoever comes back is here twice, until the connection before is given up.
        for (address, member) in self.members.iter_mut().filter(|(_, member)| member.user == user) {
            member.own.cursor = place.filter(|_| address == from);
        }
        Ok(())
    }

    /// Answers what cannot be done. To whom everything that it has is too old the text follows.
    pub(super) fn refuse_unfit(
        &mut self,
        to: Address,
        reference: Option<Box<str>>,
        unfit: Unfit,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if unfit != Unfit::TooOld {
            return reply(to, reference, Err(self.refusal(unfit)), effects);
        }
        let Some(member) = self.members.get_mut(to) else { return };
        // The text may be a thousand times as long as what it answers.
        let wait = member.own.outdated_after.since(now);
        if wait > Duration::ZERO {
            return reply(to, reference, Err(over_rate(wait)), effects);
        }
        member.own.outdated_after = now + OUTDATED_INTERVAL;
        reply(to, reference, Err(self.refusal(unfit)), effects);
        self.tell_state(to, false, effects);
    }

    /// The answer to what cannot be done, a JSON object.
    fn refusal(&self, unfit: Unfit) -> String {
        let at_version = |word: &str| {
            object(|refusal| {
                refusal.text("reason", word).number("version", self.text.version());
            })
        };
        match unfit {
            Unfit::TooOld => at_version("too_old"),
            Unfit::Ahead => at_version("ahead"),
            Unfit::OutOfRange { reach, length } => {
                reason(&format!("it reaches to {reach}; the text of its version has {length} characters"))
            }
            Unfit::TooLong { bytes } => reason(&format!(
                "the document would have {bytes} bytes, at most {DOCUMENT_BYTES_MAX} are allowed"
            )),
        }
    }

    // ── What members are told ───────────────────────────────────────────────────────────────────────────────────────

    fn let_in(&mut self, from: Address, join: Join, now: Now, effects: &mut Vec<Effect>) {
        if self.text.version() == 0 && !self.rules.create {
            let (reason, response) = (JoinRefusal::NotFound, reason("not_found"));
            return effects.push(Effect::Member { to: from, what: ToMember::Refused { reason, response } });
        }
        let may_write = join.rights != Rights::Watch;
        let (version, length) = (self.text.version(), self.text.length());
        let response = object(|response| {
            response.plain("epoch", self.text.epoch).number("seq", version).text("user_id", &join.user);
            response.number("version", version).number("length", length).boolean("read_only", !may_write);
        });
        effects.push(Effect::Member { to: from, what: ToMember::Joined { response } });
        let seen = join.seen;
        let editor = Editor { may_write, cursor: None, outdated_after: now.instant };
        self.members.enter(from, join, editor, now, effects);
        match seen {
            None => self.tell_state(from, true, effects),
            Some(seen) => self.catch_up(from, seen, true, effects),
        }
        self.members.announce(from, effects);
    }

    /// Tells a member the whole text, and where the cursors are.
    pub(super) fn tell_state(&mut self, to: Address, greeting: bool, effects: &mut Vec<Effect>) {
        let parts = self.state.get_or_insert_with(|| self.text.parts());
        let first_part = effects.len() + 1;
        for payload in parts.iter().cloned() {
            let what = ToMember::Push { event: Event::DocState, payload, greeting };
            effects.push(Effect::Member { to, what });
        }
        self.tell_cursors(to, greeting, effects);
        if planted!(InterleavesState) {
            effects[first_part..].reverse();
        }
    }

    fn tell_cursors(&self, to: Address, greeting: bool, effects: &mut Vec<Effect>) {
        for (_, member) in self.members.iter().filter(|(address, _)| *address != to) {
            let Some(place) = member.own.cursor else { continue };
            let payload = told_cursor(&member.user, Some(place), self.text.version()).into();
            let what = ToMember::Push { event: Event::Cursor, payload, greeting };
            effects.push(Effect::Member { to, what });
        }
    }

    /// Tells a member what it has missed: operations, if all of them are kept, else the text.
    fn catch_up(&mut self, to: Address, seen: Seen, greeting: bool, effects: &mut Vec<Effect>) {
        let page = match seen {
            Seen::Position(position) if position.epoch == self.text.epoch => {
                self.text.page(position.seq).ok()
            }
            Seen::Position(_) | Seen::UnixMs(_) => None,
        };
        let Some((operations, more)) = page else { return self.tell_state(to, greeting, effects) };
        let payload = page_of(&operations, more).into();
        let what = ToMember::Push { event: Event::Operations, payload, greeting };
        effects.push(Effect::Member { to, what });
        self.tell_cursors(to, greeting, effects);
    }

    /// A version is on disk: everybody is told, and then whoever made it.
    pub(super) fn tell_made(
        &mut self,
        made: &Made,
        (from, reference): (Address, Option<Box<str>>),
        effects: &mut Vec<Effect>,
    ) {
        for member in self.members.values_mut() {
            let moved =
                |place| if planted!(ForgetsCursorMoves) { place } else { made.moves(place, &member.user) };
            member.own.cursor = member.own.cursor.map(moved);
        }
        // Whoever wants no answer is told like the others.
        let except = (reference.is_some() && !planted!(TellsAuthors)).then_some(from);
        self.members.broadcast(Event::Operation, &made.told(), except, effects);
        reply(from, reference, Self::version_made(made.version), effects);
    }

    /// The text is another one.
    pub(super) fn forget_state(&mut self) {
        self.state = None;
    }

    /// The answer to an operation.
    pub(super) fn version_made(version: u64) -> Answer {
        Ok(object(|answer| {
            answer.number("version", version);
        }))
    }
}

impl Hosted for Document {
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        self.take_join(from, join, context);
    }

    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(Arrived::Push(push)) = self.pass_loading(from, Arrived::Push(push), context) else { return };
        if self.members.has(from) {
            self.take_push(from, push, context);
        }
    }

    fn leave(&mut self, from: Address, departure: Departure, context: &mut Context<'_>) {
        self.take_leave(from, departure, context);
    }

    fn give_up(&mut self, lost: Lost, context: &mut Context<'_>) {
        self.take_loss(lost, context);
    }

    fn answered(&mut self, ticket: Ticket, answer: StoreAnswer, context: &mut Context<'_>) {
        if ticket == LOAD {
            self.loaded(answer, context);
        } else {
            self.store_answered(&answer, context);
        }
    }

    fn begun_elsewhere(&mut self, context: &mut Context<'_>) {
        // An append that is on its way conflicts, which brings it to the same.
        if self.text.version() == 0 && !self.queue.is_writing() {
            self.load_again(context);
        }
    }

    /// News of presence, ends of waiting, and what was too much for one turn.
    fn timeout(&mut self, context: &mut Context<'_>) {
        self.members.flush_presence(context.now.instant, &mut context.effects);
        self.go_on_loading(context);
        if self.loading.is_none() && self.queue.is_left() {
            self.decide_on_what_waits(context);
        }
    }

    fn due(&self) -> Option<Instant> {
        let is_awaited = self.members.len() > 0 || !self.queue.is_empty();
        let loading = self.loading.as_ref().and_then(|loading| loading.due(is_awaited));
        let left = (self.loading.is_none() && self.queue.is_left()).then(Instant::default);
        loading.into_iter().chain(left).chain(self.members.presence.due()).min()
    }

    fn audience(&self) -> Option<&Audience> {
        Some(self.members.audience())
    }

    fn is_needed(&self) -> bool {
        self.members.len() > 0
            || self.loading.as_ref().is_some_and(Loading::is_needed)
            || !self.queue.is_empty()
    }

    fn heap_bytes(&self) -> usize {
        let told = |parts: &Vec<Arc<str>>| {
            parts.allocated_bytes() + parts.iter().map(|part| part.len()).sum::<usize>()
        };
        self.rules.pattern.allocated_bytes()
            + self.members.heap_bytes()
            + self.text.heap_bytes()
            + self.state.as_ref().map_or(0, told)
            + self.queue.heap_bytes()
            + self.loading.as_ref().map_or(0, Loading::heap_bytes)
    }

    fn presence_heap_bytes(&self) -> usize {
        self.members.presence.heap_bytes()
    }
}

impl Stored for Document {
    const PAGE: PageSize = PageSize { records: OPERATIONS_KEPT, bytes: OPERATIONS_KEPT_BYTES };

    fn loading(&mut self) -> &mut Option<Loading> {
        &mut self.loading
    }

    fn ask(&self, ticket: Ticket, action: StoreAction, context: &mut Context<'_>) {
        let request = StoreRequest { topic: self.topic.clone(), action, retention: RETENTION };
        context.effects.push(Effect::Ask { ticket, request: Box::new(request) });
    }

    fn begin(&mut self, loaded: Loaded, context: &mut Context<'_>) -> Result<Vec<Address>, Unavailable> {
        let Loaded { stream, records, values } = loaded;
        match stream {
            Some(end) => self.text = DocumentText::load(end, &records, &values).ok_or(Unavailable::Failed)?,
            None if self.text.version() == 0 => {}
            None => self.text = DocumentText::new(context.random.next_u64()),
        }
        self.forget_state();
        for member in self.members.values_mut() {
            member.own.cursor = None;
        }
        Ok(self.members.addresses())
    }

    fn tell_anew(&mut self, to: Address, context: &mut Context<'_>) {
        if self.members.has(to) {
            self.tell_state(to, false, &mut context.effects);
        }
    }

    fn admit(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        self.let_in(from, join, context.now, &mut context.effects);
    }

    fn has(&self, from: Address) -> bool {
        self.members.has(from)
    }

    fn lost(&self, lost: Lost) -> Vec<Address> {
        self.members.lost(lost)
    }

    fn remove(&mut self, from: Address, departure: Departure, context: &mut Context<'_>) {
        let (now, effects) = (context.now, &mut context.effects);
        let Some(member) = self.members.remove(from, departure, now, effects) else { return };
        if member.own.cursor.is_some() && !planted!(KeepsCursors) {
            let payload = told_cursor(&member.user, None, self.text.version());
            self.members.broadcast(Event::Cursor, &payload, None, effects);
        }
    }

    fn holds_up(&self, from: Address) -> bool {
        self.queue.holds_up(from)
    }

    fn wait_to_leave(&mut self, from: Address) {
        self.queue_leave(from);
    }

    fn refuse_waiting(&mut self, why: Unavailable, context: &mut Context<'_>) {
        self.refuse_what_waits(why, context);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        self.decide_on_what_waits(context);
    }
}

/// The payload of `operations`; `operations`: a JSON array.
fn page_of(operations: &str, more: bool) -> String {
    object(|page| {
        page.raw("operations", operations).boolean("more", more);
    })
}

/// The payload of `cursor`.
fn told_cursor(user: &str, place: Option<CursorPlace>, version: u64) -> String {
    object(|cursor| {
        cursor.text("user_id", user);
        match place {
            None => cursor.raw("position", "null"),
            Some(CursorPlace { position, .. }) => cursor.number("position", position),
        };
        if let Some(end) = place.and_then(|place| place.selection_end) {
            cursor.number("selection_end", end);
        }
        cursor.number("version", version);
    })
}
