//! What was said in a room and is on disk, as far as it is in memory: the last messages, and where the stream ends.

use super::chat_record::Record;
use super::history::{History, Kept};
use super::recovery::{self, CatchUp};
use super::stored::{Cursor, StoredRecord, StreamEnd};
use crate::ids::StreamPosition;
use crate::impossible;
use crate::limits::{MESSAGES_CACHED_BYTES_MAX, MESSAGES_CACHED_MAX};
use crate::memory::Allocated;
use crate::wire::json::object;
use crate::wire::phoenix::Event;
use crate::wire::seen::Seen;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct ChatStream {
    pub(super) epoch: u64,
    pub(super) cursor: Cursor,
    messages: History<ChatMessage>,
    /// Of their payloads.
    payload_bytes: usize,
}

/// One message.
#[derive(Debug)]
pub(super) struct ChatMessage {
    pub(super) seq: u64,
    pub(super) user: Box<str>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) inserted_at_ms: u64,
    /// As members get it.
    pub(super) payload: Box<str>,
}

impl ChatMessage {
    pub(super) fn to_record(&self) -> StoredRecord {
        let record =
            Record { client_id: self.client_id.as_deref(), user: &self.user, payload: &self.payload };
        StoredRecord { seq: self.seq, at_ms: self.inserted_at_ms, bytes: record.encode() }
    }

    /// A record that cannot be read leaves its number: what follows keeps its own.
    fn of_record(stored: &StoredRecord) -> Self {
        let (seq, inserted_at_ms) = (stored.seq, stored.at_ms);
        let Some(record) = Record::decode(&stored.bytes) else {
            impossible!("what a relay has written it can read");
            let payload = object(|message| {
                message.number("seq", seq).boolean("deleted", true);
            });
            return Self { seq, user: "".into(), client_id: None, inserted_at_ms, payload: payload.into() };
        };
        let Record { client_id, user, payload } = record;
        Self {
            seq,
            user: user.into(),
            client_id: client_id.map(Into::into),
            inserted_at_ms,
            payload: payload.into(),
        }
    }
}

impl Kept for ChatMessage {
    fn heap_bytes(&self) -> usize {
        self.user.allocated_bytes() + self.client_id.allocated_bytes() + self.payload.allocated_bytes()
    }
}

impl ChatStream {
    /// Nothing was ever said. `epoch` must never have been used; the last `kept_max` messages are kept at all.
    pub(super) fn new(epoch: u64, kept_max: usize) -> Self {
        let messages = History::new(kept_max.min(MESSAGES_CACHED_MAX));
        Self { epoch, cursor: Cursor::default(), messages, payload_bytes: 0 }
    }

    /// As the store knows it: where it ends, and the records before, oldest first.
    pub(super) fn load(end: StreamEnd, records: &[StoredRecord], kept_max: usize) -> Self {
        let StreamEnd { epoch, seq, cursor } = end;
        let kept_max = kept_max.min(MESSAGES_CACHED_MAX);
        let messages = History::after(kept_max, seq - records.len() as u64);
        let mut stream = Self { epoch, cursor, messages, payload_bytes: 0 };
        records.iter().for_each(|record| stream.push(ChatMessage::of_record(record)));
        stream
    }

    /// Number of the last message; 0 before the first.
    pub(super) fn seq(&self) -> u64 {
        self.messages.seq()
    }

    /// The next message, which is on disk.
    pub(super) fn push(&mut self, message: ChatMessage) {
        self.payload_bytes += message.payload.len();
        let (_, forgotten) = self.messages.push(|_| message);
        self.payload_bytes -= forgotten.map_or(0, |message| message.payload.len());
        while self.payload_bytes > MESSAGES_CACHED_BYTES_MAX {
            let Some(oldest) = self.messages.forget_oldest() else {
                return impossible!("what is too much is kept");
            };
            self.payload_bytes -= oldest.payload.len();
        }
    }

    /// Those in memory, oldest first.
    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = &ChatMessage> + Clone {
        self.messages.kept()
    }

    /// What the user has sent under this id.
    pub(super) fn sent_before(&self, user: &str, client_id: Option<&str>) -> Option<&ChatMessage> {
        let client_id = client_id?;
        let is_it = |message: &&ChatMessage| {
            &*message.user == user && message.client_id.as_deref() == Some(client_id)
        };
        self.messages.kept().find(is_it)
    }

    /// Whether nothing older than what is in memory is kept, where the last `kept_max` messages are.
    pub(super) fn is_whole(&self, kept_max: u64) -> bool {
        let oldest = self.messages.kept().next().map_or(self.seq() + 1, |oldest| oldest.seq);
        oldest == 1 || self.seq() + 1 - oldest >= kept_max
    }

    /// The payloads of the newest messages before `before`, oldest first, and whether there are older ones in memory.
    pub(super) fn latest(&self, before: u64, count: usize, bytes_max: usize) -> (Vec<&str>, bool) {
        let older = self.messages.kept().rev().skip_while(|message| message.seq >= before);
        newest(older.map(|message| &*message.payload), count, bytes_max)
    }

    /// What a member that has seen `seen` has missed.
    pub(super) fn catch_up(&self, seen: Seen) -> CatchUp {
        let position = match seen {
            Seen::Position(position) => position,
            Seen::UnixMs(ms) => self.position_at(ms),
        };
        recovery::catch_up(&self.messages, self.epoch, position, |events, message| {
            recovery::write_event(events, Event::NewMessage, message.seq, &message.payload);
        })
    }

    /// The number before the first message that was inserted later. Is that the oldest in memory, others may have been before it:
    /// counting from 0, they are missed if they are not in memory.
    fn position_at(&self, ms: u64) -> StreamPosition {
        let mut kept = self.messages.kept();
        let first_is_later = kept.clone().next().map_or(self.seq() > 0, |first| first.inserted_at_ms > ms);
        let later = kept.find(|message| message.inserted_at_ms > ms);
        let before = later.map_or(self.seq(), |message| message.seq - 1);
        StreamPosition { epoch: self.epoch, seq: if first_is_later { 0 } else { before } }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.messages.heap_bytes()
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
