//! A chat room: members, presence, and the last messages. It lives in memory: its messages do not outlive the process.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::audience::{Audience, JoinNumber};
use super::history::{History, Kept};
use super::hosted::{Context, Hosted, Lost, Need};
use super::presence::{MemberNumber, Presence, User};
use super::recovery::{self, CatchUp};
use super::request::{Departure, Effect, Join, ToMember};
use super::telling::{
    Answer, broadcast, broadcast_joined, broadcast_left, broadcast_presence, done, heartbeat, push_presence,
    reply, update_presence,
};
use crate::ids::{Address, StreamPosition, Topic};
use crate::impossible;
use crate::limits::{self, PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX};
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::format::Format;
use crate::wire::json::{object, object_of, write_array};
use crate::wire::phoenix::Event;
use crate::wire::phoenix::answers::over_rate;
use crate::wire::push::{CommonPush, Push, RoomPush};
use crate::wire::seen::Seen;

/// See the module documentation.
#[derive(Debug)]
pub struct Chat {
    topic: Box<str>,
    epoch: u64,
    audience: Audience,
    members: BTreeMap<Address, Member>,
    next_number: u32,
    presence: Presence,
    messages: History<ChatMessage>,
    /// Of their payloads.
    bytes_kept: usize,
    /// When each user's latest messages came, for as long as they count.
    spoken: BTreeMap<Box<str>, VecDeque<Instant>>,
    /// Members that type, or were told of lately.
    typing: BTreeMap<Address, Typing>,
}

/// What a member says of its typing, and what the others have been told.
#[derive(Debug, Default)]
struct Typing {
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
        self.spent_until - (limits::TYPING_BURST - 1) * limits::TYPING_INTERVAL
    }

    /// When something is to be done about it.
    fn due(&self) -> Instant {
        match self.until {
            Some(_) if !self.told => self.may_tell_at(),
            Some(until) => until,
            None if self.told => self.may_tell_at(),
            None => self.spent_until,
        }
    }
}

#[derive(Debug)]
struct Member {
    number: MemberNumber,
    join_number: JoinNumber,
    format: Format,
    user: Box<str>,
    name: Box<str>,
}

#[derive(Debug)]
struct ChatMessage {
    seq: u64,
    user: Box<str>,
    client_id: Option<Box<str>>,
    inserted_at_ms: u64,
    /// As members get it.
    payload: Box<str>,
}

impl Kept for ChatMessage {
    fn heap_bytes(&self) -> usize {
        self.user.allocated_bytes() + self.client_id.allocated_bytes() + self.payload.allocated_bytes()
    }
}

impl Chat {
    /// An empty room. `epoch` must never have been used; `list_max`: see `Presence`.
    pub fn new(topic: &Topic, epoch: u64, list_max: u32) -> Self {
        Self {
            topic: topic.to_string().into(),
            epoch,
            audience: Audience::counting_from(epoch >> 1),
            members: BTreeMap::new(),
            next_number: 0,
            presence: Presence::new(list_max, epoch),
            messages: History::new(limits::MESSAGES_KEPT_MAX),
            bytes_kept: 0,
            spoken: BTreeMap::new(),
            typing: BTreeMap::new(),
        }
    }

    fn own_heap_bytes(&self) -> usize {
        let names = |member: &Member| member.user.allocated_bytes() + member.name.allocated_bytes();
        let spoken = self.spoken.iter().map(|(user, times)| user.allocated_bytes() + times.allocated_bytes());
        self.topic.allocated_bytes()
            + self.audience.heap_bytes()
            + self.members.allocated_bytes()
            + self.members.values().map(names).sum::<usize>()
            + self.messages.heap_bytes()
            + self.spoken.allocated_bytes()
            + spoken.sum::<usize>()
            + self.typing.allocated_bytes()
    }

    fn admit(&mut self, from: Address, join: Join, now: Now, effects: &mut Vec<Effect>) {
        let number = self.free_number();
        let response = object(|response| {
            response.plain("epoch", self.epoch).number("seq", self.messages.seq());
            response.text("user_id", &join.user);
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
        broadcast_joined(&self.presence, &self.topic, &self.audience, who, Some(from), effects);
        let member = Member { number, join_number, format: join.format, user: join.user, name: join.name };
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

    fn remove(&mut self, from: Address, departure: Departure, now: Now, effects: &mut Vec<Effect>) {
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
        broadcast_left(&self.presence, &self.topic, &self.audience, &member.user, left, effects);
    }

    fn handle_push(&mut self, from: Address, push: Push, now: Now, effects: &mut Vec<Effect>) {
        let Some(member) = self.members.get(&from) else { return };
        let answer = match push.event.of_room() {
            Ok(RoomPush::NewMessage { body, client_id }) => {
                self.new_message(from, &body, client_id, now, effects)
            }
            Ok(RoomPush::Typing(typing)) => return self.typing(from, typing, now.instant, effects),
            Ok(RoomPush::History { before, limit }) => Ok(self.history(before, limit)),
            Err(CommonPush::Heartbeat) => heartbeat(now),
            Err(CommonPush::PresenceUpdate(meta)) => {
                update_presence(&mut self.presence, member.number, &meta, now.instant)
            }
            Err(CommonPush::Reconnect(seen)) => return self.catch_up(from, seen, false, effects),
            Err(CommonPush::Refused(refusal)) => Err(refusal),
        };
        reply(from, push.reference, answer, effects);
        if planted!(AnswersFirst) {
            effects.reverse();
        }
    }

    fn new_message(
        &mut self,
        from: Address,
        body: &str,
        client_id: Option<Box<str>>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let Some(member) = self.members.get(&from) else {
            impossible!("who says something is a member");
            return done();
        };
        let sent_before = |message: &&ChatMessage| client_id.is_some() && message.client_id == client_id;
        if let Some(first) =
            self.messages.kept().filter(|message| message.user == member.user).find(sent_before)
        {
            return Ok(first.payload.to_string());
        }
        let (user, name) = (member.user.clone(), member.name.clone());
        if let Err(wait) = self.admit_message(&user, now.instant) {
            return Err(over_rate(wait));
        }
        let (epoch, inserted_at_ms) = (self.epoch, now.unix_us / 1000);
        let (message, forgotten) = self.messages.push(|seq| {
            let payload = object_of(MESSAGE_FRAME_BYTES + body.len() + user.len() + name.len(), |message| {
                message.plain("id", format_args!("{epoch:x}-{seq}")).number("seq", seq).text("body", body);
                message.text("user_id", &user).text("name", &name).number("inserted_at", inserted_at_ms);
            });
            ChatMessage { seq, inserted_at_ms, payload: payload.into(), user, client_id }
        });
        let payload = message.payload.to_string();
        self.bytes_kept += payload.len();
        self.bytes_kept -= forgotten.map_or(0, |message| message.payload.len());
        self.forget_oldest();
        self.broadcast(Event::NewMessage, &payload, None, effects);
        self.stop_typing(from, now.instant, effects);
        Ok(payload)
    }

    /// Keeps as many messages as their bound in bytes allows.
    fn forget_oldest(&mut self) {
        while self.bytes_kept > limits::MESSAGES_KEPT_BYTES_MAX {
            let Some(oldest) = self.messages.forget_oldest() else {
                return impossible!("what is too much is kept");
            };
            self.bytes_kept -= oldest.payload.len();
        }
    }

    /// So many messages of one user in any window: a connection more does not help.
    fn admit_message(&mut self, user: &str, now: Instant) -> Result<(), Duration> {
        let in_window = |at: &Instant| now.since(*at) < limits::CHAT_WINDOW;
        if self.spoken.len() > 2 * self.members.len().max(64) {
            // Users that have gone are remembered only while it matters.
            self.spoken.retain(|_, times| times.back().is_some_and(in_window));
        }
        let times = self.spoken.entry(user.into()).or_default();
        while times.front().is_some_and(|at| !in_window(at)) {
            times.pop_front();
        }
        if times.len() >= limits::CHAT_MESSAGES_MAX {
            let oldest = times.front().copied().unwrap_or(now);
            return Err((oldest + limits::CHAT_WINDOW).since(now));
        }
        times.push_back(now);
        Ok(())
    }

    fn typing(&mut self, from: Address, typing: bool, now: Instant, effects: &mut Vec<Effect>) {
        // A crowd is not told who types: each change would cost as many messages as it has members.
        let typing = typing && (self.presence.is_listed() || planted!(TypesInCrowd));
        if typing || self.typing.contains_key(&from) {
            self.typing.entry(from).or_default().until = typing.then(|| now + limits::TYPING_TIMEOUT);
            self.settle_typing(from, now, effects);
        }
    }

    /// The end of typing by what is told anyway, a message or a leave.
    fn stop_typing(&mut self, from: Address, now: Instant, effects: &mut Vec<Effect>) {
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
            typing.spent_until = typing.spent_until.max(now) + limits::TYPING_INTERVAL;
            self.tell_typing(from, types, now, effects);
        } else if !typing.told && !types && typing.spent_until <= now {
            self.typing.remove(&from);
        }
    }

    fn tell_typing(&mut self, from: Address, typing: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(member) = self.members.get(&from) else { return impossible!("who types is a member") };
        self.presence.set_status(member.number, if typing { "typing" } else { "online" }, now);
        if self.presence.is_listed() || planted!(TypesInCrowd) {
            let payload = object(|news| {
                news.text("user_id", &member.user).boolean("typing", typing);
            });
            self.broadcast(Event::UserTyping, &payload, Some(from), effects);
        }
    }

    /// Messages before a number, as many as fit.
    fn history(&self, before: Option<u64>, limit: usize) -> String {
        let (messages, more) = self.latest(before.unwrap_or(u64::MAX), limit, TEXT_BYTES_MAX);
        object_of(bytes_of(&messages) + STATE_FRAME_BYTES, |page| {
            page.array("messages", |list| {
                list.raws(messages);
            });
            page.boolean("more", more);
        })
    }

    /// The payloads of the newest messages before `before`, oldest first, and whether there are older ones.
    fn latest(&self, before: u64, count: usize, bytes_max: usize) -> (Vec<&str>, bool) {
        let mut fitting: Vec<&str> = Vec::new();
        let mut bytes = 0;
        let mut has_older = false;
        for message in self.messages.kept().rev().skip_while(|message| message.seq >= before) {
            bytes += message.payload.len() + 1;
            has_older = fitting.len() == count || bytes > bytes_max;
            if has_older {
                break;
            }
            fitting.push(&message.payload);
        }
        fitting.reverse();
        (fitting, has_older)
    }

    fn room_state(&self, to: Address, greeting: bool) -> Effect {
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
        let (messages, _) = self.latest(u64::MAX, limits::ROOM_STATE_MESSAGES, room);
        let payload = object_of(bytes_of(&messages) + users.len() + STATE_FRAME_BYTES, |state| {
            state.array("messages", |list| {
                list.raws(messages);
            });
            state.raw("users", &users).plain("epoch", self.epoch).number("seq", self.messages.seq());
        });
        let what = ToMember::Push { event: Event::RoomState, payload: payload.into(), greeting };
        Effect::Member { to, what }
    }

    fn catch_up(&self, to: Address, seen: Seen, greeting: bool, effects: &mut Vec<Effect>) {
        let position = match seen {
            Seen::Position(position) => position,
            Seen::UnixMs(ms) => {
                // The number before the first message that was inserted later. Is that the first that is kept, others may
                // have been before it: counting from 0, they are missed if they are forgotten.
                let mut kept = self.messages.kept();
                let first_is_later = kept.clone().next().is_some_and(|first| first.inserted_at_ms > ms);
                let later = kept.find(|message| message.inserted_at_ms > ms);
                let before = later.map_or(self.messages.seq(), |message| message.seq - 1);
                let seq = if first_is_later { 0 } else { before };
                StreamPosition { epoch: self.epoch, seq }
            }
        };
        let answer = recovery::catch_up(&self.messages, self.epoch, position, |events, message| {
            recovery::write_event(events, Event::NewMessage, message.seq, &message.payload);
        });
        let (payload, lost) = match answer {
            CatchUp::Recovered(payload) => (payload, false),
            CatchUp::Lost(payload) => (payload, true),
        };
        let what = ToMember::Push { event: Event::CatchUp, payload: payload.into(), greeting };
        effects.push(Effect::Member { to, what });
        if lost {
            effects.push(self.room_state(to, greeting));
        }
    }

    fn broadcast(&self, event: Event, payload: &str, except: Option<Address>, effects: &mut Vec<Effect>) {
        broadcast(&self.topic, &self.audience, event, payload, except, effects);
    }
}

impl Hosted for Chat {
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>) {
        if let Some(superseded) = join.supersedes {
            self.leave(superseded, Departure::Left(LeaveReason::Left), context);
        }
        self.admit(from, join, context.now, &mut context.effects);
    }

    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>) {
        self.handle_push(from, push, context.now, &mut context.effects);
    }

    fn leave(&mut self, from: Address, departure: Departure, context: &mut Context<'_>) {
        self.remove(from, departure, context.now, &mut context.effects);
    }

    fn give_up(&mut self, lost: Lost, context: &mut Context<'_>) {
        let lost = self.members.iter().filter(|(address, member)| lost.has(address, member.join_number));
        let members: Vec<Address> = lost.map(|(address, _)| *address).collect();
        for member in members.into_iter().filter(|_| !planted!(KeepsGivenUp)) {
            self.remove(member, Departure::Lost, context.now, &mut context.effects);
        }
    }

    /// Ends of typing, news of presence.
    fn timeout(&mut self, context: &mut Context<'_>) {
        let (now, effects) = (context.now.instant, &mut context.effects);
        let due: Vec<Address> = self
            .typing
            .iter()
            .filter(|(_, typing)| typing.due() <= now)
            .map(|(address, _)| *address)
            .collect();
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
        broadcast_presence(&mut self.presence, &self.topic, &self.audience, now, effects);
    }

    fn due(&self) -> Option<Instant> {
        self.typing.values().map(Typing::due).chain(self.presence.due()).min()
    }

    fn audience(&self) -> Option<&Audience> {
        Some(&self.audience)
    }

    fn need(&self) -> Need {
        match (self.audience.is_empty(), self.messages.seq()) {
            (false, _) => Need::Members,
            (true, 0) => Need::Nobody,
            (true, _) => Need::Memory,
        }
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

/// What a message has besides its texts.
const MESSAGE_FRAME_BYTES: usize = 128;
/// What a page of messages, or the state of a room, has besides its lists.
const STATE_FRAME_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::super::request::Rights;
    use super::*;
    use crate::ids::{ChannelNumber, ConnId, ShardId};

    #[test]
    fn members_have_numbers_of_their_own_however_many_have_joined() {
        let mut chat = Chat::new(&Topic::parse("room:a").unwrap(), 1, 10);
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
            };
            chat.admit(from, join, Now { instant: Instant::default(), unix_us: 0 }, &mut Vec::new());
        };
        (0..3).for_each(|slot| join(&mut chat, slot));
        chat.next_number = u32::MAX - 1;
        (3..7).for_each(|slot| join(&mut chat, slot));
        assert_eq!((chat.members.len(), chat.presence.members()), (7, 7));
    }
}
