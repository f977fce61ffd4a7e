//! What was said in rooms, and who was told of it: everybody of every acknowledged message, once, and in order?
//!
//! Each room numbers what is said in it. A member that has joined at number n is to be told n + 1, n + 2, … without a gap.
//! Messages are those of this load test, by a number of their own, which their text carries; what others say in a room is
//! only a number of the room.

mod member;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use member::{Hearing, Member};

/// Who says what: message `k` is said in room `k % rooms`, by its members in turn. Clients are numbered room by room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seating {
    pub rooms: u32,
    pub members_per_room: u32,
}

impl Seating {
    pub fn members(self) -> u32 {
        self.rooms * self.members_per_room
    }

    fn room_of_message(self, message: u32) -> u32 {
        message % self.rooms
    }

    pub fn sender_of(self, message: u32) -> u32 {
        let in_room = message / self.rooms % self.members_per_room;
        self.room_of_message(message) * self.members_per_room + in_room
    }

    /// What `client` says for the time `round`, counted from 0.
    pub fn message_of(self, client: u32, round: u32) -> u32 {
        let in_room = client % self.members_per_room;
        (round * self.members_per_room + in_room) * self.rooms + self.room_of(client)
    }

    pub fn round_of(self, message: u32) -> u32 {
        message / self.members()
    }

    pub fn room_of(self, client: u32) -> u32 {
        client / self.members_per_room
    }
}

/// What should not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// (member, message): acknowledged, and the member was never told.
    pub lost: u64,
    /// A member was told a number again.
    pub repeated: u64,
    /// A number was left out when a member was told a later one.
    pub gaps: u64,
    /// A member was told a number after a later one.
    pub reordered: u64,
    /// Numbers and messages do not fit: one number for two messages, two numbers for one, a message in another room, an answer
    /// to somebody else or for the second time, a message that nobody has sent.
    pub contradictions: u64,
}

impl AddAssign<Hearing> for Faults {
    fn add_assign(&mut self, hearing: Hearing) {
        match hearing {
            Hearing::Next => {}
            Hearing::AfterGap => self.gaps += 1,
            Hearing::Late => self.reordered += 1,
            Hearing::Again => self.repeated += 1,
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Ledger {
    seating: Seating,
    rooms: Vec<Room>,
    members: Vec<Member>,
    messages: Vec<Message>,
    /// All but `lost`, which is known in the end.
    faults: Faults,
}

#[derive(Debug, Default)]
struct Room {
    said: BTreeMap<u64, Said>,
    last_acknowledged: u64,
}

/// What is known of one number of a room.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// `None`: somebody else's.
    message: Option<u32>,
    acknowledged: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    /// Its number in the room; 0: not known.
    seq: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unsent,
    Sent,
    Answered,
}

impl Ledger {
    pub fn new(seating: Seating) -> Self {
        Self {
            seating,
            rooms: std::iter::repeat_with(Room::default).take(seating.rooms as usize).collect(),
            members: vec![Member::default(); seating.members() as usize],
            messages: Vec::new(),
            faults: Faults::default(),
        }
    }

    pub fn seating(&self) -> Seating {
        self.seating
    }

    /// `client` has joined when its room was at `seq`. Of a member that was there before, what it missed is not to come any more:
    /// how many acknowledged messages that are, as far as is known now.
    pub fn handle_join(&mut self, client: u32, seq: u64) -> u64 {
        let room = &self.rooms[self.seating.room_of(client) as usize];
        let member = &mut self.members[client as usize];
        let missed = if member.has_joined() { missed(room, member, seq + 1) } else { 0 };
        member.begin(seq);
        missed
    }

    pub fn has_joined(&self, client: u32) -> bool {
        self.members[client as usize].has_joined()
    }

    /// Message `number` was sent.
    pub fn handle_sent(&mut self, number: u32) {
        let index = number as usize;
        if self.messages.len() <= index {
            self.messages.resize(index + 1, Message::default());
        }
        self.messages[index].state = State::Sent;
    }

    /// `client` was told `seq`, which is `message`, or nothing of ours. Whether it is the first time that it was told.
    pub fn handle_heard(&mut self, client: u32, seq: u64, message: Option<u32>) -> bool {
        let room = self.seating.room_of(client);
        self.compare(room, seq, message);
        let hearing = self.members[client as usize].hear(seq);
        self.faults += hearing;
        hearing != Hearing::Again
    }

    /// `client` was told that its message `number` is `seq`. Whether the answer is the first.
    pub fn handle_acknowledged(&mut self, client: u32, number: u32, seq: u64) -> bool {
        if !self.handle_answer(client, number) {
            return false;
        }
        let room = self.seating.room_of(client);
        self.compare(room, seq, Some(number));
        let room = &mut self.rooms[room as usize];
        room.last_acknowledged = room.last_acknowledged.max(seq);
        if let Some(said) = room.said.get_mut(&seq) {
            said.acknowledged = true;
        }
        true
    }

    /// `client` was told that its message `number` is refused. Whether the answer is the first.
    pub fn handle_refused(&mut self, client: u32, number: u32) -> bool {
        self.handle_answer(client, number)
    }

    fn handle_answer(&mut self, client: u32, number: u32) -> bool {
        let own = self.seating.sender_of(number) == client;
        let message = self.messages.get_mut(number as usize);
        let message = message.filter(|message| own && message.state == State::Sent);
        self.faults.contradictions += u64::from(message.is_none());
        message.map(|message| message.state = State::Answered).is_some()
    }

    /// Compares what is said of a number with what was said before.
    fn compare(&mut self, room: u32, seq: u64, message: Option<u32>) {
        let said = &mut self.rooms[room as usize].said;
        if let Some(known) = said.get(&seq) {
            self.faults.contradictions += u64::from(known.message != message);
            return;
        }
        said.insert(seq, Said { message, acknowledged: false });
        let Some(number) = message else { return };
        let known = self.messages.get_mut(number as usize);
        let known = known.filter(|known| known.state != State::Unsent && known.seq == 0);
        match known.filter(|_| self.seating.room_of_message(number) == room) {
            Some(known) => known.seq = seq,
            None => self.faults.contradictions += 1,
        }
    }

    /// Messages that were sent and not answered.
    pub fn unanswered(&self) -> impl Iterator<Item = u32> {
        let open = self.messages.iter().enumerate().filter(|(_, message)| message.state == State::Sent);
        open.map(|(number, _)| number as u32)
    }

    /// Whether a message was said, answered or not.
    pub fn was_said(&self, number: u32) -> bool {
        self.messages[number as usize].seq > 0
    }

    /// Whether everybody who is `here` was told of everything that was acknowledged.
    pub fn is_complete(&self, here: impl Fn(u32) -> bool) -> bool {
        let complete = |(client, member): (usize, &Member)| {
            let room = &self.rooms[self.seating.room_of(client as u32) as usize];
            !here(client as u32) || member.is_complete_to(room.last_acknowledged)
        };
        self.members.iter().enumerate().all(complete)
    }

    /// The faults, with what was lost: members that are `here` should know everything, others what they were told a later
    /// number than.
    pub fn faults(&self, here: impl Fn(u32) -> bool) -> Faults {
        let lost = |(client, member): (usize, &Member)| {
            let room = &self.rooms[self.seating.room_of(client as u32) as usize];
            let end = if here(client as u32) { u64::MAX } else { member.next() };
            if member.has_joined() { missed(room, member, end) } else { 0 }
        };
        Faults { lost: self.members.iter().enumerate().map(lost).sum(), ..self.faults }
    }
}

/// How many acknowledged messages before number `end` a member was not told of.
fn missed(room: &Room, member: &Member, end: u64) -> u64 {
    let acknowledged = |range| room.said.range::<u64, _>(range).filter(|(_, said)| said.acknowledged).count();
    member.missing(end).map(|range| acknowledged(range) as u64).sum()
}

#[cfg(test)]
mod tests;
