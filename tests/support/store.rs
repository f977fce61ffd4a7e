//! A store in memory: what a store answers, without a disk.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use corelay::ids::Topic;
use corelay::room::stored::{
    Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StreamEnd,
};
use corelay::shard::peer::{Answer, PeerMessage, Question};

/// See the module documentation.
#[derive(Debug, Default)]
pub struct StoreModel {
    streams: BTreeMap<Arc<Topic>, Stream>,
}

#[derive(Debug)]
struct Stream {
    epoch: u64,
    records: Vec<StoredRecord>,
}

impl Stream {
    fn seq(&self) -> u64 {
        self.records.last().map_or(0, |record| record.seq)
    }

    /// The last records before a number, and whether there are older ones.
    fn page(&self, before: u64, size: PageSize, retention: Retention) -> (Vec<StoredRecord>, bool) {
        let kept = |record: &&StoredRecord| {
            record.seq < before && retention.keeps(self.seq(), record.seq, record.at_ms)
        };
        let (mut page, mut bytes, mut more) = (Vec::new(), 0, false);
        for record in self.records.iter().rev().filter(kept) {
            bytes += record.bytes.len();
            more = page.len() == size.records || bytes > size.bytes;
            if more {
                break;
            }
            page.push(record.clone());
        }
        page.reverse();
        (page, more)
    }
}

impl StoreModel {
    /// Does what the request asks.
    pub fn answer(&mut self, request: &StoreRequest) -> StoreAnswer {
        let StoreRequest { topic, action, retention } = request;
        let stream = self.streams.get(topic);
        match action {
            StoreAction::Load { page } => {
                let end = stream.map(|stream| StreamEnd {
                    epoch: stream.epoch,
                    seq: stream.seq(),
                    cursor: Cursor(stream.seq()),
                });
                let records = stream.map_or(Vec::new(), |stream| stream.page(u64::MAX, *page, *retention).0);
                StoreAnswer::Loaded { stream: end, records }
            }
            StoreAction::Append { epoch, expected, records } => {
                if *expected != Cursor(stream.map_or(0, Stream::seq)) {
                    return StoreAnswer::Conflict;
                }
                let stream = self.streams.entry(topic.clone());
                let stream = stream.or_insert(Stream { epoch: *epoch, records: Vec::new() });
                for record in records {
                    assert_eq!(record.seq, stream.seq() + 1, "{topic}: numbers have no gap");
                    stream.records.push(record.clone());
                }
                StoreAnswer::Appended(Cursor(stream.seq()))
            }
            StoreAction::Read { before, page } => {
                let (records, more) =
                    stream.map_or((Vec::new(), false), |stream| stream.page(*before, *page, *retention));
                StoreAnswer::Page { records, more }
            }
        }
    }

    /// Reads a letter and writes the one that answers it.
    pub fn reply(&mut self, message: PeerMessage) -> PeerMessage {
        let PeerMessage::Ask { request, question: Question::Store(question) } = message else {
            panic!("the store is asked: {message:?}")
        };
        PeerMessage::Answer { request, answer: Answer::Store(Box::new(self.answer(&question))) }
    }

    /// Epoch and number of the last record of a topic; `None`: it has none.
    pub fn end_of(&self, topic: &str) -> Option<(u64, u64)> {
        let stream = self.streams.iter().find(|(name, _)| name.is_written(topic))?.1;
        Some((stream.epoch, stream.seq()))
    }
}
