//! What a room reads from the store because it is not in memory: pages of old messages, and single ones that are to be edited or
//! deleted.

use super::chat::Chat;
use super::chat_queue::Waiting;
use super::chat_record::Record;
use super::chat_stream::{ChatEvent, newest};
use super::hosted::Context;
use super::loading::Stored;
use super::request::Effect;
use super::stored::{PageSize, StoreAction, StoredRecord, Unavailable};
use super::telling::{reply, unavailable};
use crate::ids::{Address, Ticket};
use crate::impossible;
use crate::limits::{PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX, ROOM_READS_MAX};
use crate::memory::Allocated;

/// Somebody for whom something is being read.
#[derive(Debug)]
pub(super) enum Reader {
    /// A page of at most `limit` messages.
    Page { to: Address, reference: Option<Box<str>>, limit: usize },
    /// A message, on which it depends what becomes of this.
    Message { of: Box<Waiting>, seq: u64, asked_at: u64 },
}

impl Reader {
    pub(super) fn from(&self) -> Address {
        match self {
            Self::Page { to, .. } => *to,
            Self::Message { of, .. } => of.from,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Page { reference, .. } => reference.allocated_bytes(),
            Self::Message { of, .. } => size_of::<Waiting>() + of.heap_bytes(),
        }
    }

    /// It cannot be read.
    pub(super) fn refuse(self, why: Unavailable, effects: &mut Vec<Effect>) {
        let refused = match self {
            Self::Page { to, reference, .. } => Some((to, reference)),
            Self::Message { of, .. } => of.reference(),
        };
        if let Some((to, reference)) = refused {
            reply(to, reference, Err(unavailable(why)), effects);
        }
    }
}

/// What the store knows of a message.
#[derive(Debug)]
pub(super) struct Found {
    /// `None`: it is not kept.
    pub(super) event: Option<ChatEvent>,
    /// The last event of the room when the store was asked.
    pub(super) asked_at: u64,
}

impl Chat {
    /// Reads a page of messages that are not in memory.
    pub(super) fn read(
        &mut self,
        to: Address,
        reference: Option<Box<str>>,
        (before, limit): (u64, usize),
        context: &mut Context<'_>,
    ) {
        // What is being appended has not been told yet.
        let before = before.min(self.stream.seq() + 1);
        let page = PageSize { records: limit, bytes: TEXT_BYTES_MAX };
        self.ask_for(Reader::Page { to, reference, limit }, before, page, context);
    }

    /// Reads a message that is not in memory.
    pub(super) fn look_up(&mut self, waiting: Waiting, seq: u64, context: &mut Context<'_>) {
        let reader = Reader::Message { of: Box::new(waiting), seq, asked_at: self.stream.seq() };
        let page = PageSize { records: 1, bytes: usize::MAX };
        self.ask_for(reader, seq + 1, page, context);
    }

    fn ask_for(&mut self, reader: Reader, before: u64, page: PageSize, context: &mut Context<'_>) {
        if self.queue.reads.len() >= ROOM_READS_MAX {
            return reader.refuse(Unavailable::Busy, &mut context.effects);
        }
        // The numbers of two reads at a time differ, and are not those of other questions.
        self.queue.next_read = self.queue.next_read.wrapping_add(1) % (u32::MAX - 2);
        let ticket = Ticket(self.queue.next_read + 2);
        self.queue.reads.insert(ticket, reader);
        self.ask(ticket, StoreAction::Read { before, page }, context);
    }

    pub(super) fn was_read(
        &mut self,
        ticket: Ticket,
        records: &[StoredRecord],
        more: bool,
        context: &mut Context<'_>,
    ) {
        match self.queue.reads.remove(&ticket) {
            Some(Reader::Page { to, reference, limit }) => {
                let read = records.iter().rev().filter_map(|stored| Record::decode(&stored.bytes));
                let messages = read.filter(|record| record.kind.is_message());
                let (page, cut) = newest(messages.map(|message| message.payload), limit, TEXT_BYTES_MAX);
                match records.first() {
                    // All of it was edits and deletions: the messages are before them.
                    Some(oldest) if page.is_empty() && more => {
                        self.read(to, reference, (oldest.seq, limit), context);
                    }
                    _ => reply(to, reference, Ok(Self::page(page, more || cut)), &mut context.effects),
                }
            }
            Some(Reader::Message { mut of, seq, asked_at }) => {
                let found = records.first().filter(|record| record.seq == seq);
                let event = found.map(|record| ChatEvent::of_record(record, self.stream.epoch));
                of.found = Some(Found { event, asked_at });
                self.queue.waiting.push_front(*of);
            }
            None => impossible!("what is read is read for somebody"),
        }
    }
}
