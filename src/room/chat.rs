//! A chat room: members, presence, and what was said. What is said is told when it is on disk; in memory are the last messages, as
//! long as somebody is here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;

use super::audience::Audience;
use super::chat_people::{People, banned};
use super::chat_queue::{Queue, is_written};
use super::chat_rate::Rate;
use super::chat_stream::ChatStream;
use super::chat_typing::Typing;
use super::hosted::{Context, Hosted, Lost};
use super::loading::{Arrived, LOAD, Loaded, Loading, Stored};
use super::members::Members;
use super::presence::User;
use super::recovery::CatchUp;
use super::request::{Departure, Effect, Join, ToMember};
use super::stored::{PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, Unavailable};
use super::telling::{heartbeat, reply};
use crate::ids::{Address, Ticket, Topic};
use crate::impossible;
use crate::limits::{self, PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX};
use crate::memory::Allocated;
use crate::reasons::JoinRefusal;
use crate::time::{Instant, Now};
use crate::wire::json::{object, object_of, write_array};
use crate::wire::phoenix::Event;
use crate::wire::push::{CommonPush, Push, RoomPush};
use crate::wire::seen::Seen;

/// What an operator sets for the rooms whose name fits a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRules {
    /// Which rooms: a `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// Messages and edits of one user, within any minute.
    pub messages_per_minute: u32,
    /// The last so many messages are kept …
    pub messages_kept: u32,
    /// … for so many days.
    pub days_kept: u32,
    /// Seconds within which an author may edit a message.
    pub edit_s: u32,
}

impl Default for RoomRules {
    fn default() -> Self {
        Self {
            pattern: "*".into(),
            messages_per_minute: limits::CHAT_MESSAGES_MAX,
            messages_kept: limits::MESSAGES_KEPT_DEFAULT,
            days_kept: limits::DAYS_KEPT_DEFAULT,
            edit_s: limits::EDIT_S_DEFAULT,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module documentation.
#[derive(Debug)]
pub struct Chat {
    pub(super) topic: Arc<Topic>,
    pub(super) rules: RoomRules,
    pub(super) stream: ChatStream,
    /// `None`: `stream` is what the store has.
    pub(super) loading: Option<Loading>,
    pub(super) queue: Queue,
    pub(super) members: Members<Standing>,
    pub(super) people: People,
    pub(super) rate: Rate,
    /// Members that type, or were told of lately.
    pub(super) typing: BTreeMap<Address, Typing>,
}

/// What a room knows of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) is_moderator: bool,
}

impl Chat {
    /// A room in which nobody is. `epoch`, which must never have been used, names its stream if nothing was ever said in it;
    /// `list_max`: see `Presence`.
    pub fn new(topic: &Arc<Topic>, rules: RoomRules, epoch: u64, list_max: u32) -> Self {
        Self {
            topic: topic.clone(),
            stream: ChatStream::new(epoch, rules.messages_kept as usize),
            rules,
            loading: Some(Loading::default()),
            queue: Queue::default(),
            members: Members::new(topic, epoch, list_max),
            people: People::default(),
            rate: Rate::default(),
            typing: BTreeMap::new(),
        }
    }

    fn own_heap_bytes(&self) -> usize {
        let arrivals = self.loading.as_ref().map_or(0, |loading| loading.heap_bytes());
        self.members.heap_bytes()
            + self.stream.heap_bytes()
            + self.queue.heap_bytes()
            + arrivals
            + self.people.heap_bytes()
            + self.rate.heap_bytes()
            + self.typing.allocated_bytes()
    }

    // ── Members ─────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn let_in(&mut self, from: Address, join: Join, now: Now, effects: &mut Vec<Effect>) {
        if let Some(until_ms) = self.people.banned_until(&join.user, now) {
            let what = ToMember::Refused { reason: JoinRefusal::Banned, response: banned(until_ms, now) };
            return effects.push(Effect::Member { to: from, what });
        }
        let (read_seq, unread) = self.unread(&join.user);
        let response = object(|response| {
            response.plain("epoch", self.stream.epoch).number("seq", self.stream.seq());
            response.text("user_id", &join.user).number("read_seq", read_seq).number("unread", unread);
        });
        effects.push(Effect::Member { to: from, what: ToMember::Joined { response } });
        let (seen, standing) = (join.seen, Standing { is_moderator: join.is_moderator });
        self.members.enter(from, join, standing, now, effects);
        match seen {
            None => effects.push(self.room_state(from, true)),
            Some(seen) => self.catch_up(from, seen, true, effects),
        }
        self.members.announce(from, effects);
    }

    // ── What members do ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Nothing of the member is before it.
    pub(super) fn decide_push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(member) = self.members.get(from) else { return };
        let (now, effects) = (context.now, &mut context.effects);
        let answer = match push.event.of_room() {
            Ok(
                RoomPush::NewMessage { .. }
                | RoomPush::EditMessage { .. }
                | RoomPush::DeleteMessage(_)
                | RoomPush::Restrict { .. }
                | RoomPush::Lift { .. }
                | RoomPush::ReadMarker(_),
            ) => return impossible!("what is written is decided on elsewhere"),
            Ok(RoomPush::Typing(typing)) => {
                let is_heard = self.people.muted_until(&member.user, now).is_none();
                return self.typing(from, typing && is_heard, now.instant, effects);
            }
            Ok(RoomPush::History { before, limit }) => match self.history(before, limit) {
                Some(page) => Ok(page),
                None => {
                    let page = (before.unwrap_or(u64::MAX), limit);
                    return self.read(from, push.reference, page, context);
                }
            },
            Err(CommonPush::Heartbeat) => heartbeat(now),
            Err(CommonPush::PresenceUpdate(meta)) => self.members.update_presence(from, &meta, now.instant),
            Err(CommonPush::Reconnect(seen)) => return self.catch_up(from, seen, false, effects),
            Err(CommonPush::Refused(refusal)) => Err(refusal),
        };
        reply(from, push.reference, answer, effects);
    }

    // ── What members are told ───────────────────────────────────────────────────────────────────────────────────────

    /// Messages before a number, as many as fit; `None`: they are not all in memory.
    fn history(&self, before: Option<u64>, limit: usize) -> Option<String> {
        let (messages, more) = self.stream.latest(before.unwrap_or(u64::MAX), limit, TEXT_BYTES_MAX);
        (more || self.stream.is_whole(self.rules.messages_kept.into())).then(|| Self::page(messages, more))
    }

    /// An answer to `history`.
    pub(super) fn page(messages: Vec<&str>, more: bool) -> String {
        object_of(bytes_of(&messages) + STATE_FRAME_BYTES, |page| {
            page.array("messages", |list| {
                list.raws(messages);
            });
            page.boolean("more", more);
        })
    }

    pub(super) fn room_state(&self, to: Address, greeting: bool) -> Effect {
        let mut users = String::new();
        write_array(&mut users, |list| {
            let listed = self.members.presence.is_listed();
            for User { id, name, status, joined_at_s } in self.members.presence.users().take_while(|_| listed)
            {
                let user = object(|user| {
                    user.text("user_id", id).text("name", name).text("status", status);
                    user.number("joined_at", joined_at_s);
                });
                if list.bytes() + user.len() > TEXT_BYTES_MAX / 2 {
                    break;
                }
                list.raw(&user);
            }
        });
        let room = TEXT_BYTES_MAX - users.len();
        let (messages, _) = self.stream.latest(u64::MAX, limits::ROOM_STATE_MESSAGES, room);
        let payload = object_of(bytes_of(&messages) + users.len() + STATE_FRAME_BYTES, |state| {
            state.array("messages", |list| {
                list.raws(messages);
            });
            state.raw("users", &users).plain("epoch", self.stream.epoch).number("seq", self.stream.seq());
        });
        let what = ToMember::Push { event: Event::RoomState, payload: payload.into(), greeting };
        Effect::Member { to, what }
    }

    fn catch_up(&self, to: Address, seen: Seen, greeting: bool, effects: &mut Vec<Effect>) {
        let (payload, lost) = match self.stream.catch_up(seen) {
            CatchUp::Recovered(payload) => (payload, false),
            CatchUp::Lost(payload) => (payload, true),
        };
        let what = ToMember::Push { event: Event::CatchUp, payload: payload.into(), greeting };
        effects.push(Effect::Member { to, what });
        if lost {
            effects.push(self.room_state(to, greeting));
        }
    }
}

impl Hosted for Chat {
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        self.take_join(from, join, context);
    }

    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(Arrived::Push(push)) = self.pass_loading(from, Arrived::Push(push), context) else { return };
        if !self.members.has(from) {
            return;
        }
        if self.must_wait(from, &push.event) {
            self.wait(from, push, &mut context.effects);
        } else if is_written(&push.event) {
            self.write(from, push, context);
        } else {
            self.decide_push(from, push, context);
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
            self.store_answered(ticket, answer, context);
        }
    }

    /// Ends of typing, news of presence, and ends of waiting.
    fn timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now.instant;
        self.settle_all_typing(now, &mut context.effects);
        self.members.flush_presence(now, &mut context.effects);
        self.go_on_loading(context);
    }

    fn due(&self) -> Option<Instant> {
        let is_awaited = self.members.len() > 0 || !self.queue.is_empty();
        let loading = self.loading.as_ref().and_then(|loading| loading.due(is_awaited));
        self.typing.values().map(Typing::due).chain(self.members.presence.due()).chain(loading).min()
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
        self.own_heap_bytes()
    }

    fn presence_heap_bytes(&self) -> usize {
        self.members.presence.heap_bytes()
    }
}

impl Stored for Chat {
    const PAGE: PageSize =
        PageSize { records: limits::MESSAGES_CACHED_MAX, bytes: limits::MESSAGES_CACHED_BYTES_MAX };

    fn loading(&mut self) -> &mut Option<Loading> {
        &mut self.loading
    }

    fn ask(&self, ticket: Ticket, action: StoreAction, context: &mut Context<'_>) {
        let kept = DAY * self.rules.days_kept;
        let since_ms = (context.now.unix_us / 1000).saturating_sub(kept.as_millis() as u64);
        let retention = Retention { records: self.rules.messages_kept.into(), since_ms };
        let request = StoreRequest { topic: self.topic.clone(), action, retention };
        context.effects.push(Effect::Ask { ticket, request: Box::new(request) });
    }

    fn begin(&mut self, loaded: Loaded, context: &mut Context<'_>) -> Result<Vec<Address>, Unavailable> {
        let kept_max = self.rules.messages_kept as usize;
        match loaded.stream {
            Some(end) => self.stream = ChatStream::load(end, &loaded.records, kept_max),
            None if self.stream.seq() == 0 => {}
            None => self.stream = ChatStream::new(context.random.next_u64(), kept_max),
        }
        self.people = People::load(&loaded.values);
        self.count_as_spoken(context.now);
        Ok(self.members.addresses())
    }

    fn tell_anew(&mut self, to: Address, context: &mut Context<'_>) {
        if self.members.has(to) {
            context.effects.push(self.room_state(to, false));
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
        self.stop_typing(from, now.instant, effects);
        self.typing.remove(&from);
        self.members.remove(from, departure, now, effects);
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

/// Texts of a list, with their commas.
fn bytes_of(messages: &[&str]) -> usize {
    messages.iter().map(|message| message.len() + 1).sum()
}

/// What a page of messages, or the state of a room, has besides its lists.
const STATE_FRAME_BYTES: usize = 96;
