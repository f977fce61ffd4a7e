//! A store in memory: what a store answers, without a disk.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use corelay::ids::Topic;
use corelay::room::stored::{
    Change, Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StoredValue,
    StreamEnd,
};
use corelay::shard::peer::{Answer, PeerMessage, Question};

/// See the module documentation.
#[derive(Debug, Default)]
pub struct StoreModel {
    streams: BTreeMap<Arc<Topic>, Stream>,
    values: BTreeMap<Key, Arc<[u8]>>,
}

/// Of a value: its topic, and its name there.
type Key = (Arc<Topic>, Box<str>);

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
                StoreAnswer::Loaded { stream: end, records, values: self.values_of(topic) }
            }
            StoreAction::Append { epoch, expected, change } => {
                if *expected != Cursor(stream.map_or(0, Stream::seq)) {
                    return StoreAnswer::Conflict;
                }
                self.put(topic, &change.values);
                let Change { records, amended, .. } = change;
                if records.is_empty() {
                    return StoreAnswer::Appended(*expected);
                }
                let stream = self.streams.entry(topic.clone());
                let stream = stream.or_insert(Stream { epoch: *epoch, records: Vec::new() });
                for amended in amended {
                    let place = stream.records.iter_mut().find(|record| record.seq == amended.seq);
                    place.into_iter().for_each(|place| *place = amended.clone());
                }
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

    fn put(&mut self, topic: &Arc<Topic>, values: &[StoredValue]) {
        for StoredValue { key, bytes } in values {
            let key = (topic.clone(), key.clone());
            match bytes {
                Some(bytes) => self.values.insert(key, bytes.clone()),
                None => self.values.remove(&key),
            };
        }
    }

    fn values_of(&self, topic: &Topic) -> Vec<StoredValue> {
        let own = self.values.iter().filter(|((of, _), _)| **of == *topic);
        own.map(|((_, key), bytes)| StoredValue { key: key.clone(), bytes: Some(bytes.clone()) }).collect()
    }

    /// Reads a letter and writes the one that answers it.
    pub fn reply(&mut self, message: PeerMessage) -> PeerMessage {
        let PeerMessage::Ask { request, question: Question::Store(question) } = message else {
            panic!("the store is asked: {message:?}")
        };
        PeerMessage::Answer { request, answer: Answer::Store(Box::new(self.answer(&question))) }
    }

    /// The values of a room.
    pub fn values_of_room(&self, name: &str) -> Vec<StoredValue> {
        let topic = Topic::parse(&format!("room:{name}")).expect("the name of a room");
        self.values_of(&topic)
    }

    /// All records of a topic, oldest first.
    pub fn records_of(&self, topic: &str) -> &[StoredRecord] {
        let stream = self.streams.iter().find(|(name, _)| name.is_written(topic));
        stream.map_or(&[], |(_, stream)| &stream.records)
    }

    /// The value of a topic under a key.
    pub fn value_of(&self, topic: &str, key: &str) -> Option<Arc<[u8]>> {
        let value = self.values.iter().find(|((name, of), _)| name.is_written(topic) && **of == *key);
        value.map(|(_, bytes)| bytes.clone())
    }

    /// Whether a text is in any record.
    pub fn has_text(&self, text: &str) -> bool {
        let records = self.streams.values().flat_map(|stream| &stream.records);
        let mut bytes = records.map(|record| &record.bytes);
        bytes.any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    /// Epoch and number of the last record of a topic; `None`: it has none.
    pub fn end_of(&self, topic: &str) -> Option<(u64, u64)> {
        let stream = self.streams.iter().find(|(name, _)| name.is_written(topic))?.1;
        Some((stream.epoch, stream.seq()))
    }
}
