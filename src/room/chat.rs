//! A chat room: members, presence, and what was said. What is said is told when it is on disk; in memory are the last messages, as
//! long as somebody is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::audience::{Audience, JoinNumber};
use super::chat_loading::{Arrived, Loading, refused};
use super::chat_people::{People, banned};
use super::chat_queue::{LOAD, Queue, is_written};
use super::chat_rate::Rate;
use super::chat_stream::ChatStream;
use super::chat_typing::Typing;
use super::hosted::{Context, Hosted, Lost};
use super::presence::{MemberNumber, Presence, User};
use super::recovery::CatchUp;
use super::request::{Departure, Effect, Join, ToMember};
use super::stored::{StoreAnswer, Unavailable};
use super::telling::{
    broadcast, broadcast_joined, broadcast_left, broadcast_presence, heartbeat, push_presence, reply,
    unavailable, update_presence,
};
use crate::ids::{Address, Ticket, Topic};
use crate::impossible;
use crate::limits::{self, PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX};
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::{JoinRefusal, LeaveReason};
use crate::time::{Instant, Now};
use crate::wire::format::Format;
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

/// See the module documentation.
#[derive(Debug)]
pub struct Chat {
    pub(super) topic: Arc<Topic>,
    /// The same as text.
    name: Box<str>,
    pub(super) rules: RoomRules,
    pub(super) stream: ChatStream,
    /// `None`: `stream` is what the store has.
    pub(super) loading: Option<Loading>,
    pub(super) queue: Queue,
    audience: Audience,
    pub(super) members: BTreeMap<Address, Member>,
    next_number: u32,
    pub(super) presence: Presence,
    pub(super) people: People,
    pub(super) rate: Rate,
    /// Members that type, or were told of lately.
    pub(super) typing: BTreeMap<Address, Typing>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: MemberNumber,
    join_number: JoinNumber,
    format: Format,
    pub(super) user: Box<str>,
    pub(super) name: Box<str>,
    pub(super) is_moderator: bool,
}

impl Chat {
    /// A room in which nobody is. `epoch`, which must never have been used, names its stream if nothing was ever said in it;
    /// `list_max`: see `Presence`.
    pub fn new(topic: &Arc<Topic>, rules: RoomRules, epoch: u64, list_max: u32) -> Self {
        Self {
            topic: topic.clone(),
            name: topic.to_string().into(),
            stream: ChatStream::new(epoch, rules.messages_kept as usize),
            rules,
            loading: Some(Loading::default()),
            queue: Queue::default(),
            audience: Audience::counting_from(epoch >> 1),
            members: BTreeMap::new(),
            next_number: 0,
            presence: Presence::new(list_max, epoch),
            people: People::default(),
            rate: Rate::default(),
            typing: BTreeMap::new(),
        }
    }

    fn own_heap_bytes(&self) -> usize {
        let names = |member: &Member| member.user.allocated_bytes() + member.name.allocated_bytes();
        let arrivals = self.loading.as_ref().map_or(0, |loading| loading.heap_bytes());
        self.name.allocated_bytes()
            + self.audience.heap_bytes()
            + self.members.allocated_bytes()
            + self.members.values().map(names).sum::<usize>()
            + self.stream.heap_bytes()
            + self.queue.heap_bytes()
            + arrivals
            + self.people.heap_bytes()
            + self.rate.heap_bytes()
            + self.typing.allocated_bytes()
    }

    // ── Members ─────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn admit(&mut self, from: Address, join: Join, now: Now, effects: &mut Vec<Effect>) {
        if let Some(until_ms) = self.people.banned_until(&join.user, now) {
            let what = ToMember::Refused { reason: JoinRefusal::Banned, response: banned(until_ms, now) };
            return effects.push(Effect::Member { to: from, what });
        }
        let number = self.free_number();
        let (read_seq, unread) = self.unread(&join.user);
        let response = object(|response| {
            response.plain("epoch", self.stream.epoch).number("seq", self.stream.seq());
            response.text("user_id", &join.user).number("read_seq", read_seq).number("unread", unread);
        });
        effects.push(Effect::Member { to: from, what: ToMember::Joined { response } });
        let join_number = self.audience.add(from.party(), join.format);
        self.presence.track(number, &join.user, &join.name, join.meta.as_ref(), now.unix_s(), now.instant);
        push_presence(&mut self.presence, &self.audience, Some(number), from, effects);
        match join.seen {
            None => effects.push(self.room_state(from, true)),
            Some(seen) => self.catch_up(from, seen, true, effects),
        }
        let who = (&*join.user, &*join.name);
        broadcast_joined(&self.presence, &self.name, &self.audience, who, Some(from), effects);
        let Join { user, name, format, is_moderator, .. } = join;
        let member = Member { number, join_number, format, user, name, is_moderator };
        self.members.insert(from, member);
    }

    /// A number that no member has: they wrap, and some members stay.
    fn free_number(&mut self) -> MemberNumber {
        loop {
            self.next_number = self.next_number.wrapping_add(1);
            let number = MemberNumber(self.next_number);
            if !self.presence.is_tracked(number) {
                return number;
            }
        }
    }

    pub(super) fn remove(
        &mut self,
        from: Address,
        departure: Departure,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.stop_typing(from, now.instant, effects);
        self.typing.remove(&from);
        if departure == Departure::Asked {
            effects.push(Effect::Member { to: from, what: ToMember::Left });
        }
        // It may have been given up before it left.
        let Some(member) = self.members.remove(&from) else { return };
        self.audience.remove(from.party(), member.format);
        self.presence.untrack(member.number, now.instant);
        let left = match departure {
            Departure::Asked => LeaveReason::Left,
            Departure::Left(left) => left,
            Departure::Lost => LeaveReason::TimedOut,
        };
        broadcast_left(&self.presence, &self.name, &self.audience, &member.user, left, effects);
    }

    // ── What members do ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Nothing of the member is before it.
    pub(super) fn decide_push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        let Some(member) = self.members.get(&from) else { return };
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
            Err(CommonPush::PresenceUpdate(meta)) => {
                update_presence(&mut self.presence, member.number, &meta, now.instant)
            }
            Err(CommonPush::Reconnect(seen)) => return self.catch_up(from, seen, false, effects),
            Err(CommonPush::Refused(refusal)) => Err(refusal),
        };
        reply(from, push.reference, answer, effects);
    }

    pub(super) fn audience_len(&self) -> usize {
        self.audience.len() as usize
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
            let listed = self.presence.is_listed();
            for User { id, name, status, joined_at_s } in self.presence.users().take_while(|_| listed) {
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

    pub(super) fn broadcast(
        &self,
        event: Event,
        payload: &str,
        except: Option<Address>,
        effects: &mut Vec<Effect>,
    ) {
        broadcast(&self.name, &self.audience, event, payload, except, effects);
    }
}

impl Hosted for Chat {
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        if let Some(superseded) = join.supersedes {
            self.leave(superseded, Departure::Left(LeaveReason::Left), context);
        }
        if !self.is_loading() {
            return self.admit(from, join, context.now, &mut context.effects);
        }
        if self.arrive(from, Arrived::Join(Box::new(join)), context).is_some() {
            context.effects.push(refused(from, Unavailable::Busy));
        }
    }

    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        if self.is_loading() {
            if let Some(Arrived::Push(push)) = self.arrive(from, Arrived::Push(push), context) {
                let refusal = Err(unavailable(Unavailable::Busy));
                reply(from, push.reference, refusal, &mut context.effects);
            }
            return;
        }
        if !self.members.contains_key(&from) {
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
        let is_behind = departure == Departure::Asked || !self.members.contains_key(&from);
        if self.is_loading() && is_behind {
            let refused = self.arrive(from, Arrived::Leave(departure), context);
            debug_assert!(refused.is_none(), "leaves are not bounded");
        } else if departure == Departure::Asked
            && self.members.contains_key(&from)
            && self.must_wait_to_leave(from)
        {
            self.wait_to_leave(from);
        } else {
            self.remove(from, departure, context.now, &mut context.effects);
        }
    }

    fn give_up(&mut self, lost: Lost, context: &mut Context<'_>) {
        if let (Lost::One(gone), Some(loading)) = (lost, &mut self.loading) {
            // It was told that its join is refused.
            loading.forget(gone);
        }
        let lost = self.members.iter().filter(|(address, member)| lost.has(address, member.join_number));
        let members: Vec<Address> = lost.map(|(address, _)| *address).collect();
        for member in members.into_iter().filter(|_| !planted!(KeepsGivenUp)) {
            self.remove(member, Departure::Lost, context.now, &mut context.effects);
        }
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
        broadcast_presence(&mut self.presence, &self.name, &self.audience, now, &mut context.effects);
        self.go_on_loading(context);
    }

    fn due(&self) -> Option<Instant> {
        let is_awaited = !self.audience.is_empty() || !self.queue.is_empty();
        let loading = self.loading.as_ref().and_then(|loading| loading.due(is_awaited));
        self.typing.values().map(Typing::due).chain(self.presence.due()).chain(loading).min()
    }

    fn audience(&self) -> Option<&Audience> {
        Some(&self.audience)
    }

    fn is_needed(&self) -> bool {
        !self.audience.is_empty()
            || self.loading.as_ref().is_some_and(Loading::is_needed)
            || !self.queue.is_empty()
    }

    fn heap_bytes(&self) -> usize {
        self.own_heap_bytes()
    }

    fn presence_heap_bytes(&self) -> usize {
        self.presence.heap_bytes()
    }
}

/// Texts of a list, with their commas.
fn bytes_of(messages: &[&str]) -> usize {
    messages.iter().map(|message| message.len() + 1).sum()
}

/// What a page of messages, or the state of a room, has besides its lists.
const STATE_FRAME_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::super::request::Rights;
    use super::*;
    use crate::ids::{ChannelNumber, ConnId, ShardId};

    #[test]
    fn members_have_numbers_of_their_own_however_many_have_joined() {
        let mut chat = Chat::new(&Arc::new(Topic::parse("room:a").unwrap()), RoomRules::default(), 1, 10);
        let join = |chat: &mut Chat, slot: u32| {
            let conn = ConnId { slot, generation: 0 };
            let from = Address { shard: ShardId(0), channel: ChannelNumber(1), conn };
            let (user, name) = (slot.to_string().into(), "Ann".into());
            let (format, rights) = (Format::V2, Rights::Play);
            let join = Join {
                user,
                name,
                rights,
                format,
                meta: None,
                resume_token: None,
                seen: None,
                supersedes: None,
                is_moderator: false,
            };
            chat.admit(from, join, Now { instant: Instant::default(), unix_us: 0 }, &mut Vec::new());
        };
        (0..3).for_each(|slot| join(&mut chat, slot));
        chat.next_number = u32::MAX - 1;
        (3..7).for_each(|slot| join(&mut chat, slot));
        assert_eq!((chat.members.len(), chat.presence.members()), (7, 7));
    }
}
