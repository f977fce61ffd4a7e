//! A chat room: members, presence, and the last messages. It lives in memory: its messages do not outlive the process.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::audience::Audience;
use super::history::{History, Kept};
use super::presence::{MemberNumber, Presence, User};
use super::recovery::{self, CatchUp};
use super::request::{Departure, Effect, Join, Push, Seen};
use super::telling::{
    broadcast, broadcast_joined, broadcast_left, broadcast_presence, push_presence, reason, recovery_request,
    reply, unknown_event, update_presence,
};
use crate::ids::{Address, StreamPosition, Topic};
use crate::limits::{self, PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX};
use crate::memory::Allocated;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::json::quoted;
use crate::wire::phoenix::Serializer;

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
    /// Members that type, and until when if they say nothing more.
    typing: BTreeMap<Address, Instant>,
}

#[derive(Debug)]
struct Member {
    number: MemberNumber,
    serializer: Serializer,
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
            audience: Audience::default(),
            members: BTreeMap::new(),
            next_number: 0,
            presence: Presence::new(list_max, epoch),
            // One more than are kept: it is `forget_oldest` that forgets, and counts.
            messages: History::new(limits::MESSAGES_KEPT_MAX + 1),
            bytes_kept: 0,
            spoken: BTreeMap::new(),
            typing: BTreeMap::new(),
        }
    }

    /// Who gets its broadcasts.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Whether somebody may come back for its messages.
    pub fn has_messages(&self) -> bool {
        self.messages.seq() > 0
    }

    /// But for its presence; see `memory`.
    pub fn heap_bytes(&self) -> usize {
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

    /// Of its presence; see `memory`.
    pub fn presence_heap_bytes(&self) -> usize {
        self.presence.heap_bytes()
    }

    /// A channel joins.
    pub fn join(&mut self, from: Address, join: Join, now: Now, effects: &mut Vec<Effect>) {
        self.next_number += 1;
        let number = MemberNumber(self.next_number);
        let user_json = quoted(&join.user);
        let (epoch, seq) = (self.epoch, self.messages.seq());
        effects.push(Effect::Joined {
            to: from,
            response: format!(r#"{{"epoch":"{epoch}","seq":{seq},"user_id":{user_json}}}"#),
        });
        self.audience.add(from.party(), join.serializer);
        self.presence.track(number, &join.user, &join.name, join.meta.as_ref(), now.unix_s(), now.instant);
        push_presence(&mut self.presence, number, from, effects);
        match join.seen {
            None => effects.push(self.room_state(from, true)),
            Some(seen) => self.catch_up(from, seen, true, effects),
        }
        let who = (&*join.user, &*join.name);
        broadcast_joined(&self.presence, &self.topic, &self.audience, who, Some(from), effects);
        let member = Member { number, serializer: join.serializer, user: join.user, name: join.name };
        self.members.insert(from, member);
    }

    /// A member goes.
    pub fn leave(&mut self, from: Address, departure: Departure, now: Now, effects: &mut Vec<Effect>) {
        self.stop_typing(from, now.instant, effects);
        if departure == Departure::Asked {
            effects.push(Effect::Left { to: from });
        }
        let Some(member) = self.members.remove(&from) else { return };
        self.audience.remove(from.party(), member.serializer);
        self.presence.untrack(member.number, now.instant);
        let left = match departure {
            Departure::Asked => LeaveReason::Left,
            Departure::Left(left) => left,
            Departure::Lost => LeaveReason::TimedOut,
        };
        broadcast_left(&self.presence, &self.topic, &self.audience, &member.user, left, effects);
    }

    /// A member pushed an event.
    pub fn push(&mut self, from: Address, push: &Push, now: Now, effects: &mut Vec<Effect>) {
        if !self.members.contains_key(&from) {
            return;
        }
        let answer = match &*push.event {
            "new_message" => self.new_message(from, push.payload.json(), now, effects),
            "typing" => return self.typing(from, push, now.instant, effects),
            "history" => self.history(push.payload.json()),
            "presence_update" => {
                let number = self.members[&from].number;
                update_presence(&mut self.presence, number, push.payload.json(), now.instant)
            }
            "heartbeat" => Ok(format!(r#"{{"timestamp":{}}}"#, now.unix_us / 1000)),
            "reconnect" => match recovery_request(push.payload.json()) {
                Some(seen) => return self.catch_up(from, seen, false, effects),
                None => Err(reason("last_seen must be {epoch, seq}, or a time in unix milliseconds")),
            },
            event => Err(unknown_event(
                event,
                "new_message, typing, history, presence_update, heartbeat and reconnect",
            )),
        };
        reply(from, push, answer, effects);
    }

    /// Does what is due: ends of typing, news of presence.
    pub fn handle_timeout(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let over: Vec<Address> =
            self.typing.iter().filter(|(_, until)| **until <= now).map(|(address, _)| *address).collect();
        for address in over {
            self.stop_typing(address, now, effects);
        }
        broadcast_presence(&mut self.presence, &self.topic, &self.audience, now, effects);
    }

    /// When `handle_timeout` is due.
    pub fn due(&self) -> Option<Instant> {
        self.typing.values().copied().chain(self.presence.due()).min()
    }

    fn new_message(
        &mut self,
        from: Address,
        payload: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<String, String> {
        let Some(member) = self.members.get(&from) else { return Ok("{}".into()) };
        let NewMessage { body, client_id } = NewMessage::read(payload)?;
        let sent_before = |message: &&ChatMessage| client_id.is_some() && message.client_id == client_id;
        if let Some(first) =
            self.messages.kept().filter(|message| message.user == member.user).find(sent_before)
        {
            return Ok(first.payload.to_string());
        }
        let (user, name) = (member.user.clone(), quoted(&member.name));
        if let Err(wait) = self.admit_message(&user, now.instant) {
            let ms = wait.as_micros().div_ceil(1000);
            return Err(format!(r#"{{"reason":"rate_limited","retry_after":{ms}}}"#));
        }
        let (epoch, inserted_at_ms) = (self.epoch, now.unix_us / 1000);
        let message = self.messages.push(|seq| ChatMessage {
            seq,
            inserted_at_ms,
            payload: format!(
                r#"{{"id":"{epoch:x}-{seq}","seq":{seq},"body":{},"user_id":{},"name":{name},"inserted_at":{inserted_at_ms}}}"#,
                quoted(&body),
                quoted(&user),
            )
            .into(),
            user,
            client_id,
        });
        let payload = message.payload.to_string();
        self.bytes_kept += payload.len();
        self.forget_oldest();
        self.broadcast("new_message", &payload, None, effects);
        self.stop_typing(from, now.instant, effects);
        Ok(payload)
    }

    /// Keeps as many messages as the bounds allow.
    fn forget_oldest(&mut self) {
        while self.bytes_kept > limits::MESSAGES_KEPT_BYTES_MAX
            || self.messages.kept_count() > limits::MESSAGES_KEPT_MAX
        {
            let Some(oldest) = self.messages.forget_oldest() else { return };
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

    fn typing(&mut self, from: Address, push: &Push, now: Instant, effects: &mut Vec<Effect>) {
        let payload: Option<Value> = serde_json::from_str(push.payload.json()).ok();
        match payload.as_ref().and_then(|payload| payload.get("typing")?.as_bool()) {
            None => reply(from, push, Err(reason("typing must be true or false")), effects),
            Some(false) => self.stop_typing(from, now, effects),
            Some(true) => {
                if self.typing.insert(from, now + limits::TYPING_TIMEOUT).is_none() {
                    self.tell_typing(from, true, now, effects);
                }
            }
        }
    }

    fn stop_typing(&mut self, from: Address, now: Instant, effects: &mut Vec<Effect>) {
        if self.typing.remove(&from).is_some() {
            self.tell_typing(from, false, now, effects);
        }
    }

    fn tell_typing(&mut self, from: Address, typing: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(member) = self.members.get(&from) else { return };
        self.presence.set_status(member.number, if typing { "typing" } else { "online" }, now);
        let payload = format!(r#"{{"user_id":{},"typing":{typing}}}"#, quoted(&member.user));
        self.broadcast("user_typing", &payload, Some(from), effects);
    }

    /// Messages before a number, as many as fit.
    fn history(&self, payload: &str) -> Result<String, String> {
        let wrong = || reason("history takes {before: seq, limit: 1 to 100}");
        let request: HistoryRequest = serde_json::from_str(payload).map_err(|_| wrong())?;
        let limit = request.limit.unwrap_or(limits::ROOM_STATE_MESSAGES);
        if !(1..=limits::HISTORY_MESSAGES_MAX).contains(&limit) {
            return Err(wrong());
        }
        let (messages, more) = self.latest(request.before.unwrap_or(u64::MAX), limit, TEXT_BYTES_MAX);
        Ok(format!(r#"{{"messages":[{messages}],"more":{more}}}"#))
    }

    /// The newest messages before `before`, oldest first, and whether there are older ones.
    fn latest(&self, before: u64, count: usize, bytes_max: usize) -> (String, bool) {
        let mut fitting: Vec<&str> = Vec::new();
        let mut bytes = 0;
        let mut older = self.messages.kept().rev().skip_while(|message| message.seq >= before);
        for message in older.by_ref() {
            bytes += message.payload.len() + 1;
            if fitting.len() == count || bytes > bytes_max {
                fitting.reverse();
                return (fitting.join(","), true);
            }
            fitting.push(&message.payload);
        }
        fitting.reverse();
        (fitting.join(","), false)
    }

    fn room_state(&self, to: Address, greeting: bool) -> Effect {
        let mut users = String::new();
        let listed = self.presence.is_listed();
        for User { id, name, status, joined_at_s } in self.presence.users().take_while(|_| listed) {
            let separator = if users.is_empty() { "" } else { "," };
            let user = format!(
                r#"{separator}{{"user_id":{},"name":{},"status":{},"joined_at":{joined_at_s}}}"#,
                quoted(id),
                quoted(name),
                quoted(status)
            );
            if users.len() + user.len() > TEXT_BYTES_MAX / 2 {
                break;
            }
            users.push_str(&user);
        }
        let room = TEXT_BYTES_MAX - users.len();
        let (messages, _) = self.latest(u64::MAX, limits::ROOM_STATE_MESSAGES, room);
        let (epoch, seq) = (self.epoch, self.messages.seq());
        let payload =
            format!(r#"{{"messages":[{messages}],"users":[{users}],"epoch":"{epoch}","seq":{seq}}}"#);
        Effect::Push { to, event: "room_state", payload: payload.into(), greeting }
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
            recovery::write_event(events, "new_message", message.seq, &message.payload);
        });
        let (payload, lost) = match answer {
            CatchUp::Recovered(payload) => (payload, false),
            CatchUp::Lost(payload) => (payload, true),
        };
        effects.push(Effect::Push { to, event: "catch_up", payload: payload.into(), greeting });
        if lost {
            effects.push(self.room_state(to, greeting));
        }
    }

    fn broadcast(
        &self,
        event: &'static str,
        payload: &str,
        except: Option<Address>,
        effects: &mut Vec<Effect>,
    ) {
        broadcast(&self.topic, &self.audience, event, payload, except, effects);
    }
}

#[derive(Deserialize)]
struct HistoryRequest {
    before: Option<u64>,
    limit: Option<usize>,
}

struct NewMessage {
    body: String,
    client_id: Option<Box<str>>,
}

impl NewMessage {
    fn read(payload: &str) -> Result<Self, String> {
        let payload: Value = serde_json::from_str(payload).unwrap_or_default();
        let errors = |field: &str, text: &str| format!(r#"{{"errors":{{"{field}":["{text}"]}}}}"#);
        let body = match payload.get("body") {
            Some(Value::String(body)) => body,
            None | Some(Value::Null) => return Err(errors("body", "can't be blank")),
            Some(_) => return Err(errors("body", "must be a string")),
        };
        if body.trim().is_empty() {
            return Err(errors("body", "can't be blank"));
        }
        if body.len() > limits::CHAT_BODY_BYTES_MAX {
            let text = format!("is longer than {} bytes", limits::CHAT_BODY_BYTES_MAX);
            return Err(errors("body", &text));
        }
        let client_id = match payload.get("client_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if (1..=limits::CLIENT_ID_BYTES_MAX).contains(&id.len()) => {
                Some(Box::from(&**id))
            }
            Some(_) => {
                let text = format!("must be a string of 1 to {} bytes", limits::CLIENT_ID_BYTES_MAX);
                return Err(errors("client_id", &text));
            }
        };
        Ok(Self { body: body.clone(), client_id })
    }
}
