//! What anybody was told of documents, and whether that is what the store has.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use corelay::room::document_record::{Record, SNAPSHOT_KEY, Snapshot};
use serde_json::Value;

use super::edits::Edit;
use super::store::StoreModel;

/// An operation as members are told of it.
#[derive(Clone, Debug)]
pub struct Told {
    pub version: u64,
    pub edit: Edit,
    pub user: String,
    pub op_id: String,
}

impl Told {
    pub fn read(payload: &Value) -> Self {
        let text = |key: &str| payload[key].as_str().expect("a text").to_owned();
        let version = payload["version"].as_u64().expect("a number");
        Self { version, edit: Edit::read(&payload["op"]), user: text("user_id"), op_id: text("op_id") }
    }
}

/// The documents of a run, by topic.
#[derive(Debug, Default)]
pub struct Histories(BTreeMap<String, History>);

/// What is known of one document. All of it is so for ever.
#[derive(Debug, Default)]
pub struct History {
    /// The name of its stream; empty: nobody was told of an operation.
    epoch: String,
    told: BTreeMap<u64, Told>,
    /// Hashes of the texts that members had, by version.
    texts: BTreeMap<u64, u64>,
    /// What members have sent, by `op_id`.
    sent: BTreeMap<String, Sent>,
    /// Operations that were answered `ok`.
    pub acknowledged: u64,
}

#[derive(Debug, Default)]
struct Sent {
    times: u32,
    /// How often it was refused.
    refused: u32,
    /// The version that it was said to have made.
    made: Option<u64>,
}

impl Histories {
    pub fn of(&mut self, topic: &str) -> &mut History {
        self.0.entry(topic.to_owned()).or_default()
    }

    /// Compares with what is on disk. Returns how many snapshots there are.
    pub fn check(&self, disk: &StoreModel) -> usize {
        self.0.iter().filter(|(topic, history)| history.check(topic, disk)).count()
    }
}

impl History {
    /// A member has sent an operation, perhaps again.
    pub fn send(&mut self, op_id: &str) {
        self.sent.entry(op_id.to_owned()).or_default().times += 1;
    }

    /// The operation was refused, as often as it was sent if nothing else is heard of it.
    pub fn refuse(&mut self, op_id: &str) {
        let sent = self.sent.get_mut(op_id).expect("somebody has sent it");
        sent.refused += 1;
        assert!(sent.refused <= sent.times, "{op_id} is refused more often than sent");
    }

    /// Its author is told which version it made.
    pub fn acknowledge(&mut self, epoch: &str, op_id: &str, version: u64) {
        self.is_stream(epoch);
        let sent = self.sent.get_mut(op_id).expect("somebody has sent it");
        let made = *sent.made.get_or_insert(version);
        assert_eq!(made, version, "{op_id} is said to have made two versions");
        let told = self.told.get(&version);
        assert!(
            told.is_none_or(|told| told.op_id == op_id),
            "{op_id} has made {version}, and so has {told:?}"
        );
        self.acknowledged += 1;
    }

    /// A member is told of an operation.
    pub fn tell(&mut self, epoch: &str, told: &Told) {
        self.is_stream(epoch);
        let first = self.told.entry(told.version).or_insert_with(|| told.clone());
        let is_same =
            (&first.user, &first.op_id) == (&told.user, &told.op_id) && first.edit.is_same(&told.edit);
        assert!(is_same, "{first:?} is told otherwise: {told:?}");
        let sent = self.sent.get_mut(&told.op_id).expect("somebody has sent it");
        let made = *sent.made.get_or_insert(told.version);
        assert_eq!(made, told.version, "{} has made two versions", told.op_id);
    }

    /// A member has this text.
    pub fn read(&mut self, epoch: &str, version: u64, text: &str) {
        if version > 0 {
            self.is_stream(epoch);
        }
        let hash = hash_of(text);
        let first = *self.texts.entry(version).or_insert(hash);
        assert_eq!(first, hash, "two members have different texts at {version}: one is {text:?}");
    }

    fn is_stream(&mut self, epoch: &str) {
        assert!(!epoch.is_empty(), "of what stream is it?");
        if self.epoch.is_empty() {
            epoch.clone_into(&mut self.epoch);
        }
        assert_eq!(self.epoch, epoch, "a document has one stream");
    }

    /// Puts the text together from nothing. Returns whether there is a snapshot.
    fn check(&self, topic: &str, disk: &StoreModel) -> bool {
        let snapshot = disk.value_of(topic, SNAPSHOT_KEY);
        let snapshot = snapshot.map(|bytes| Snapshot::decode(&bytes).expect("it can be read"));
        let mut text = String::new();
        let mut made: BTreeMap<String, u64> = BTreeMap::new();
        let mut last: BTreeMap<String, (String, u64)> = BTreeMap::new();
        let mut end = 0;
        for record in disk.records_of(topic) {
            end = record.seq;
            let Record { op_id, user, operation } = Record::decode(&record.bytes).expect("it can be read");
            let op = serde_json::from_str(&operation.to_json()).expect("it is JSON");
            let op_id = op_id.expect("every operation here has one");
            let on_disk =
                Told { version: end, edit: Edit::read(&op), user: user.to_owned(), op_id: op_id.to_owned() };
            text = on_disk.edit.apply(&text);
            self.check_made(topic, &on_disk, &text);
            let before = made.insert(op_id.to_owned(), end);
            assert_eq!(before, None, "{op_id} of {topic} is done twice");
            last.insert(user.to_owned(), (op_id.to_owned(), end));
            if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| snapshot.version == end) {
                assert_eq!(snapshot.text, text, "the snapshot of {topic} at {end}");
                let knows = |(user, (op_id, version)): (&String, &(String, u64))| {
                    snapshot.writers.version_of(user, op_id) == Some(*version)
                };
                assert!(
                    last.iter().all(knows),
                    "the snapshot of {topic} does not know {last:?}: {snapshot:?}"
                );
            }
        }
        assert!(snapshot.as_ref().is_none_or(|snapshot| (1..=end).contains(&snapshot.version)));
        let last_told = self.told.keys().chain(self.texts.keys()).max().copied().unwrap_or(0);
        assert!(last_told <= end, "{topic}: {last_told} was told, and {end} is on disk");
        for (op_id, sent) in &self.sent {
            let version = made.get(op_id).copied();
            assert!(sent.made.is_none() || sent.made == version, "{op_id} of {topic}: {sent:?}, {version:?}");
            let is_refused = sent.times == sent.refused;
            assert!(!is_refused || version.is_none(), "{op_id} of {topic} was refused, and made {version:?}");
        }
        snapshot.is_some()
    }

    fn check_made(&self, topic: &str, on_disk: &Told, text: &str) {
        if let Some(told) = self.told.get(&on_disk.version) {
            let is_same = (&told.user, &told.op_id) == (&on_disk.user, &on_disk.op_id);
            assert!(is_same && told.edit.is_same(&on_disk.edit), "{topic}: told {told:?}, kept {on_disk:?}");
        }
        let read = self.texts.get(&on_disk.version);
        let hash = hash_of(text);
        assert!(
            read.is_none_or(|read| *read == hash),
            "members of {topic} have another text than {on_disk:?} makes"
        );
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
