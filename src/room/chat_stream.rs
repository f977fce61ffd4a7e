//! What happened in a room and is on disk, as far as it is in memory: the last events, and where the stream ends.

use super::chat_record::{About, Kind, Record};
use super::history::{History, Kept};
use super::recovery::{self, CatchUp};
use super::stored::{Cursor, StoredRecord, StreamEnd};
use crate::ids::StreamPosition;
use crate::impossible;
use crate::limits::{MESSAGES_CACHED_BYTES_MAX, MESSAGES_CACHED_MAX};
use crate::memory::Allocated;
use crate::wire::message::tombstone;
use crate::wire::phoenix::Event;
use crate::wire::seen::Seen;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct ChatStream {
    pub(super) epoch: u64,
    pub(super) cursor: Cursor,
    events: History<ChatEvent>,
    /// Of their payloads.
    payload_bytes: usize,
}

/// One event of the stream.
#[derive(Clone, Debug)]
pub(super) struct ChatEvent {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    pub(super) about: About,
    /// Who did it.
    pub(super) user: Box<str>,
    pub(super) client_id: Option<Box<str>>,
    /// When, in unix ms.
    pub(super) at_ms: u64,
    /// As members get it.
    pub(super) payload: Box<str>,
}

impl ChatEvent {
    pub(super) fn to_record(&self) -> StoredRecord {
        let Self { kind, about, .. } = *self;
        let client_id = self.client_id.as_deref();
        let record = Record { kind, about, client_id, user: &self.user, payload: &self.payload };
        StoredRecord { seq: self.seq, at_ms: self.at_ms, bytes: record.encode() }
    }

    /// A record that cannot be read leaves its number: what follows keeps its own.
    pub(super) fn of_record(stored: &StoredRecord, epoch: u64) -> Self {
        let (seq, at_ms) = (stored.seq, stored.at_ms);
        let Some(record) = Record::decode(&stored.bytes) else {
            impossible!("what a relay has written it can read");
            let (user, payload) = ("".into(), tombstone(StreamPosition { epoch, seq }).into());
            let about = About::default();
            return Self { seq, kind: Kind::Erased, about, user, client_id: None, at_ms, payload };
        };
        let Record { kind, about, client_id, user, payload } = record;
        let client_id = client_id.map(Into::into);
        Self { seq, kind, about, user: user.into(), client_id, at_ms, payload: payload.into() }
    }

    /// How members are told of it; `None`: they need not be.
    fn event(&self) -> Option<Event> {
        match self.kind {
            // A message that is deleted still has its place among the others.
            Kind::Message | Kind::Erased => Some(Event::NewMessage),
            Kind::Edited => Some(Event::MessageEdited),
            Kind::Deleted => Some(Event::MessageDeleted),
            Kind::Replaced => None,
        }
    }
}

impl Kept for ChatEvent {
    fn heap_bytes(&self) -> usize {
        self.user.allocated_bytes() + self.client_id.allocated_bytes() + self.payload.allocated_bytes()
    }
}

impl ChatStream {
    /// Nothing has ever happened. `epoch` must never have been used; the last `kept_max` events are kept at all.
    pub(super) fn new(epoch: u64, kept_max: usize) -> Self {
        let events = History::new(kept_max.min(MESSAGES_CACHED_MAX));
        Self { epoch, cursor: Cursor::default(), events, payload_bytes: 0 }
    }

    /// As the store knows it: where it ends, and the records before, oldest first.
    pub(super) fn load(end: StreamEnd, records: &[StoredRecord], kept_max: usize) -> Self {
        let StreamEnd { epoch, seq, cursor } = end;
        let kept_max = kept_max.min(MESSAGES_CACHED_MAX);
        let events = History::after(kept_max, seq - records.len() as u64);
        let mut stream = Self { epoch, cursor, events, payload_bytes: 0 };
        records.iter().for_each(|record| stream.push(ChatEvent::of_record(record, epoch)));
        stream
    }

    /// Number of the last event; 0 before the first.
    pub(super) fn seq(&self) -> u64 {
        self.events.seq()
    }

    /// The next event, which is on disk.
    pub(super) fn push(&mut self, event: ChatEvent) {
        self.payload_bytes += event.payload.len();
        let (_, forgotten) = self.events.push(|_| event);
        self.payload_bytes -= forgotten.map_or(0, |event| event.payload.len());
        while self.payload_bytes > MESSAGES_CACHED_BYTES_MAX {
            let Some(oldest) = self.events.forget_oldest() else {
                return impossible!("what is too much is kept");
            };
            self.payload_bytes -= oldest.payload.len();
        }
    }

    /// An event as it is from now on, if it is in memory.
    pub(super) fn amend(&mut self, event: ChatEvent) {
        let bytes = event.payload.len();
        if let Some(before) = self.events.replace(event.seq, event) {
            self.payload_bytes = self.payload_bytes + bytes - before.payload.len();
        }
    }

    /// Those in memory, oldest first.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = &ChatEvent> + Clone {
        self.events.kept()
    }

    /// The event of a number, if it is in memory.
    pub(super) fn find(&self, seq: u64) -> Option<&ChatEvent> {
        self.events.get(seq)
    }

    /// What the user has sent under this id.
    pub(super) fn sent_before(&self, user: &str, client_id: Option<&str>) -> Option<&ChatEvent> {
        let client_id = client_id?;
        let is_it =
            |event: &&ChatEvent| &*event.user == user && event.client_id.as_deref() == Some(client_id);
        self.events.kept().find(is_it)
    }

    /// Whether nothing older than what is in memory is kept, where the last `kept_max` events are.
    pub(super) fn is_whole(&self, kept_max: u64) -> bool {
        let oldest = self.events.kept().next().map_or(self.seq() + 1, |oldest| oldest.seq);
        oldest == 1 || self.seq() + 1 - oldest >= kept_max
    }

    /// Messages of others behind `seq`, as far as they are in memory, without those that were deleted.
    pub(super) fn unread(&self, user: &str, seq: u64) -> u64 {
        let is_unread =
            |event: &&ChatEvent| event.seq > seq && event.kind == Kind::Message && &*event.user != user;
        self.events.kept().rev().take_while(|event| event.seq > seq).filter(is_unread).count() as u64
    }

    /// The payloads of the newest messages before `before`, oldest first, and whether there are older ones in memory.
    pub(super) fn latest(&self, before: u64, count: usize, bytes_max: usize) -> (Vec<&str>, bool) {
        let older = self.events.kept().rev().skip_while(|event| event.seq >= before);
        let messages = older.filter(|event| event.kind.is_message());
        newest(messages.map(|message| &*message.payload), count, bytes_max)
    }

    /// What a member that has seen `seen` has missed.
    pub(super) fn catch_up(&self, seen: Seen) -> CatchUp {
        let position = match seen {
            Seen::Position(position) => position,
            Seen::UnixMs(ms) => self.position_at(ms),
        };
        recovery::catch_up(&self.events, self.epoch, position, |events, missed| {
            if let Some(event) = missed.event() {
                recovery::write_event(events, event, missed.seq, &missed.payload);
            }
        })
    }

    /// The number before the first event that came later. Is that the oldest in memory, others may have been before it: counting
    /// from 0, they are missed if they are not in memory.
    fn position_at(&self, ms: u64) -> StreamPosition {
        let mut kept = self.events.kept();
        let first_is_later = kept.clone().next().map_or(self.seq() > 0, |first| first.at_ms > ms);
        let later = kept.find(|event| event.at_ms > ms);
        let before = later.map_or(self.seq(), |event| event.seq - 1);
        StreamPosition { epoch: self.epoch, seq: if first_is_later { 0 } else { before } }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.events.heap_bytes()
    }
}

/// The first payloads of what comes newest first, as many as fit: oldest first, and whether one did not fit.
pub(super) fn newest<'a>(
    payloads: impl Iterator<Item = &'a str>,
    count: usize,
    bytes_max: usize,
) -> (Vec<&'a str>, bool) {
    let mut fitting: Vec<&str> = Vec::new();
    let mut bytes = 0;
    let mut has_older = false;
    for payload in payloads {
        bytes += payload.len() + 1;
        has_older = fitting.len() == count || bytes > bytes_max;
        if has_older {
            break;
        }
        fitting.push(payload);
    }
    fitting.reverse();
    (fitting, has_older)
}
