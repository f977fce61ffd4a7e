//! How much is in a store, and where.

use std::collections::BTreeMap;

use redb::{ReadableTable, ReadableTableMetadata};

use super::database::{Outcome, Snapshot, Stream};
use super::document_lines::is_document;
use super::file::StoreFile;
use super::lines::Counts;
use crate::limits::STATS_TOPICS;

/// See the module documentation.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Stats {
    pub counts: Counts,
    /// How many of the topics are documents.
    pub documents: u64,
    /// Bytes of the records.
    pub bytes: u64,
    /// Bytes of the values; the texts of documents are among them.
    pub value_bytes: u64,
    /// Those with most bytes of records and values, at most `limits::STATS_TOPICS`.
    pub largest: Vec<TopicStats>,
    /// When the oldest record was written, in unix ms.
    pub oldest_ms: Option<u64>,
    pub newest_ms: Option<u64>,
}

/// What a topic has.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct TopicStats {
    pub topic: String,
    pub records: u64,
    /// Of the records and values.
    pub bytes: u64,
}

/// Counts everything. `progress` is told how many records were counted.
pub fn count(file: &StoreFile, progress: &mut dyn FnMut(u64)) -> Outcome<Stats> {
    file.snapshot(|snapshot| {
        let mut stats = Stats::default();
        let of_values = value_bytes(snapshot)?;
        stats.counts.values = snapshot.values.len()?;
        stats.value_bytes = of_values.values().sum();
        for entry in snapshot.streams.iter()? {
            let (topic, row) = entry?;
            let number = Stream::of(row.value()).number;
            let (mut records, mut bytes) = (0, 0);
            for entry in snapshot.records.range((number, 0)..=(number, u64::MAX))? {
                let (at_ms, record) = entry.map(|(_, value)| (value.value().0, value.value().1.len()))?;
                records += 1;
                bytes += record as u64;
                stats.oldest_ms = Some(stats.oldest_ms.map_or(at_ms, |oldest| oldest.min(at_ms)));
                stats.newest_ms = stats.newest_ms.max(Some(at_ms));
                progress(stats.counts.records + records);
            }
            stats.counts.topics += 1;
            stats.documents += u64::from(is_document(topic.value()));
            stats.counts.records += records;
            stats.bytes += bytes;
            bytes += of_values.get(topic.value()).copied().unwrap_or(0);
            stats.rank(TopicStats { topic: topic.value().into(), records, bytes });
        }
        Ok(stats)
    })
}

/// Bytes of the values of each topic.
fn value_bytes(snapshot: &Snapshot) -> Outcome<BTreeMap<String, u64>> {
    let mut bytes = BTreeMap::new();
    for entry in snapshot.values.iter()? {
        let (key, value) = entry?;
        *bytes.entry(key.value().0.to_owned()).or_default() += value.value().len() as u64;
    }
    Ok(bytes)
}

impl Stats {
    fn rank(&mut self, topic: TopicStats) {
        let place = self.largest.partition_point(|larger| larger.bytes >= topic.bytes);
        if place < STATS_TOPICS {
            self.largest.insert(place, topic);
            self.largest.truncate(STATS_TOPICS);
        }
    }
}
