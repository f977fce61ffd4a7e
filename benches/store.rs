//! The store on this machine's disk: how many messages a second it takes, many at once and one by one, and how long a room takes to
//! be read.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use std::sync::Arc;

use corelay::ids::Topic;
use corelay::limits::{MESSAGES_CACHED_BYTES_MAX, MESSAGES_CACHED_MAX};
use corelay::room::stored::{
    Change, Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord,
};
use corelay::store::file::StoreFile;
use corelay::store::settings::StoreSettings;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Bytes of one message.
const BYTES: usize = 200;
const RETENTION: Retention = Retention { records: 10_000, since_ms: 0 };

struct Rooms {
    file: StoreFile,
    topics: Vec<Arc<Topic>>,
    /// Numbers of the rooms' last messages.
    last: Vec<u64>,
    bytes: Arc<[u8]>,
}

impl Rooms {
    fn new(directory: &tempdir::Directory, rooms: usize) -> Self {
        let file =
            StoreFile::open(StoreSettings { data_dir: directory.0.clone(), ..StoreSettings::default() });
        let topic = |number| Arc::new(Topic::parse(&format!("room:r{number}")).expect("a topic"));
        Self {
            file: file.expect("a store"),
            topics: (0..rooms).map(topic).collect(),
            last: vec![0; rooms],
            bytes: vec![b'x'; BYTES].into(),
        }
    }

    /// One commit: so many messages in each room.
    fn say(&mut self, messages: u64) {
        let rooms = self.topics.iter().zip(&mut self.last);
        let requests: Vec<StoreRequest> = rooms
            .map(|(topic, last)| {
                let expected = Cursor(*last);
                let record = |seq| StoredRecord { seq, at_ms: seq, bytes: self.bytes.clone() };
                let records = (*last + 1..=*last + messages).map(record).collect();
                *last += messages;
                let action = StoreAction::Append {
                    epoch: 1,
                    expected,
                    change: Change { records, ..Change::default() },
                };
                StoreRequest { topic: topic.clone(), action, retention: RETENTION }
            })
            .collect();
        let answers = self.file.append(&requests).expect("it is written");
        assert!(answers.iter().all(|answer| matches!(answer, StoreAnswer::Appended(_))));
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one commit");
    for (rooms, messages) in [(1, 1), (64, 1), (1_000, 1), (64, 16), (1_000, 16)] {
        let directory = tempdir::Directory::new();
        let mut store = Rooms::new(&directory, rooms);
        group.throughput(Throughput::Elements(rooms as u64 * messages));
        let id = BenchmarkId::from_parameter(format!("{rooms} rooms, {messages} messages in each"));
        group.bench_function(id, |bencher| bencher.iter(|| store.say(messages)));
    }
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let directory = tempdir::Directory::new();
    let mut store = Rooms::new(&directory, 1_000);
    (0..20).for_each(|_| store.say(16));
    let mut next = 0;
    criterion.bench_function("a room of 320 messages is read", |bencher| {
        bencher.iter(|| {
            next = (next + 7) % store.topics.len();
            let page = PageSize { records: MESSAGES_CACHED_MAX, bytes: MESSAGES_CACHED_BYTES_MAX };
            let topic = store.topics[next].clone();
            let request = StoreRequest { topic, action: StoreAction::Load { page }, retention: RETENTION };
            store.file.read(&[request]).expect("it is read")
        });
    });
}

/// A directory that goes with its value, on the disk of `target`: the directory for temporary files may be in memory.
mod tempdir {
    use std::path::PathBuf;

    pub struct Directory(pub PathBuf);

    impl Directory {
        pub fn new() -> Self {
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("store-bench");
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("target is writable");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

criterion_group! {
    name = store;
    config = Criterion::default().sample_size(20);
    targets = append, load
}
criterion_main!(store);
