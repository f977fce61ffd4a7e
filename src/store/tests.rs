//! The file, and what the thread makes of it: what is kept, what is said at the start, what a crash leaves.
#![allow(clippy::disallowed_methods, reason = "the clocks here are real")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::error::StoreError;
use super::file::StoreFile;
use super::settings::StoreSettings;
use super::stats;
use super::{Asked, Draining, GUESTS_AT_ONCE, Guests, Store};
use crate::ids::{Party, RequestNumber, ShardId, Topic};
use crate::mailbox::{self, Endpoint, Letter, Posted};
use crate::room::stored::{
    Change, Cursor, PageSize, Retention, StoreAction, StoreAnswer, StoreRequest, StoredRecord, StoredValue,
    StreamEnd, Unavailable,
};
use crate::shard::peer::{Answer, Order, PeerMessage, Question};
use crate::time::Instant;

const CACHE: usize = 1024 * 1024;
const ALL: Retention = Retention { records: u64::MAX, since_ms: 0 };

/// A directory of its own, which goes with it.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelay-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings { data_dir: self.0.clone(), cache_bytes: CACHE, ..StoreSettings::default() }
    }

    fn open(&self) -> StoreFile {
        StoreFile::open(self.settings()).unwrap()
    }

    /// Why it cannot be opened.
    fn refusal(&self) -> StoreError {
        match StoreFile::open(self.settings()) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn topic(name: &str) -> Arc<Topic> {
    Arc::new(Topic::parse(name).unwrap())
}

fn record(seq: u64, at_ms: u64) -> StoredRecord {
    StoredRecord { seq, at_ms, bytes: format!("record {seq}").into_bytes().into() }
}

fn append(name: &str, expected: u64, records: Vec<StoredRecord>, retention: Retention) -> StoreRequest {
    let action = StoreAction::Append {
        epoch: 7,
        expected: Cursor(expected),
        change: Change { records, ..Change::default() },
    };
    StoreRequest { topic: topic(name), action, retention }
}

fn load(file: &StoreFile, name: &str, records: usize) -> StoreAnswer {
    let action = StoreAction::Load { page: PageSize { records, bytes: 1_000_000 } };
    file.read(&[StoreRequest { topic: topic(name), action, retention: ALL }]).unwrap().remove(0)
}

fn page(file: &StoreFile, before: u64, records: usize, bytes: usize) -> (Vec<u64>, bool) {
    let action = StoreAction::Read { before, page: PageSize { records, bytes } };
    let request = StoreRequest { topic: topic("room:a"), action, retention: ALL };
    let answer = file.read(&[request]).unwrap().remove(0);
    let StoreAnswer::Page { records, more } = answer else { panic!("{answer:?}") };
    (records.iter().map(|record| record.seq).collect(), more)
}

fn end(seq: u64) -> Option<StreamEnd> {
    Some(StreamEnd { epoch: 7, seq, cursor: Cursor(seq) })
}

#[test]
fn a_stream_is_kept_under_its_first_name_and_outlives_the_process() {
    let directory = Directory::new("kept");
    let file = directory.open();
    assert_eq!(
        load(&file, "room:a", 10),
        StoreAnswer::Loaded { stream: None, records: vec![], values: vec![] }
    );
    let mode = fs::metadata(directory.0.join("corelay.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's to read");
    let first = append("room:a", 0, vec![record(1, 10), record(2, 20)], ALL);
    let other = append("room:b", 0, vec![record(1, 30)], ALL);
    assert_eq!(
        file.append(&[first, other]).unwrap(),
        [StoreAnswer::Appended(Cursor(2)), StoreAnswer::Appended(Cursor(1))]
    );
    drop(file);
    let file = directory.open();
    let action = StoreAction::Append {
        epoch: 8,
        expected: Cursor(2),
        change: Change { records: vec![record(3, 40)], ..Change::default() },
    };
    let second = StoreRequest { topic: topic("room:a"), action, retention: ALL };
    assert_eq!(file.append(&[second]).unwrap(), [StoreAnswer::Appended(Cursor(3))]);
    let records = vec![record(2, 20), record(3, 40)];
    assert_eq!(load(&file, "room:a", 2), StoreAnswer::Loaded { stream: end(3), records, values: vec![] });
    assert_eq!(page(&file, 3, 1, 1_000), (vec![2], true));
    assert_eq!(page(&file, 3, 5, 1_000), (vec![1, 2], false));
    assert_eq!(page(&file, u64::MAX, 5, 20), (vec![2, 3], true), "eight bytes each");
    assert_eq!(page(&file, 0, 5, 20), (vec![], false));
}

#[test]
fn whoever_believes_that_a_stream_ends_elsewhere_writes_nothing() {
    let directory = Directory::new("conflict");
    let file = directory.open();
    file.append(&[append("room:a", 0, vec![record(1, 1)], ALL)]).unwrap();
    for expected in [0, 2] {
        let late = append("room:a", expected, vec![record(expected + 1, 1)], ALL);
        assert_eq!(file.append(&[late]).unwrap(), [StoreAnswer::Conflict]);
    }
    assert_eq!(
        load(&file, "room:a", 5),
        StoreAnswer::Loaded { stream: end(1), records: vec![record(1, 1)], values: vec![] }
    );
}

#[test]
fn what_is_too_old_is_not_shown_and_is_removed_a_little_at_a_time() {
    let directory = Directory::new("trim");
    let file = directory.open();
    let records = (1..=500).map(|seq| record(seq, seq)).collect();
    file.append(&[append("room:a", 0, records, ALL)]).unwrap();
    let last_ten = Retention { records: 10, since_ms: 0 };
    let recent = Retention { records: u64::MAX, since_ms: 495 };
    for (retention, count) in [(last_ten, 10), (recent, 6)] {
        let action = StoreAction::Load { page: PageSize { records: 300, bytes: 1_000_000 } };
        let answer = file.read(&[StoreRequest { topic: topic("room:a"), action, retention }]).unwrap();
        let [StoreAnswer::Loaded { stream, records, .. }] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!((*stream, records.len()), (end(500), count));
    }
    let mut left = Vec::new();
    for last in (500..540).step_by(8) {
        let records = (last + 1..=last + 8).map(|seq| record(seq, seq)).collect();
        file.append(&[append("room:a", last, records, last_ten)]).unwrap();
        left.push(page(&file, u64::MAX, 1_000, 1_000_000).0.len());
    }
    assert_eq!(left, [380, 260, 140, 20, 10]);
    let gone = Retention { records: u64::MAX, since_ms: 1_000 };
    file.append(&[append("room:a", 540, (541..=544).map(|seq| record(seq, seq)).collect(), gone)]).unwrap();
    assert_eq!(page(&file, u64::MAX, 10, 1_000), (vec![], false), "all of it, and the number goes on");
    file.append(&[append("room:a", 544, vec![record(545, 2_000)], gone)]).unwrap();
    assert_eq!(page(&file, u64::MAX, 10, 1_000), (vec![545], false));
}

fn change(name: &str, expected: u64, change: Change, retention: Retention) -> StoreRequest {
    let action = StoreAction::Append { epoch: 7, expected: Cursor(expected), change };
    StoreRequest { topic: topic(name), action, retention }
}

fn value(key: &str, text: Option<&str>) -> StoredValue {
    StoredValue { key: key.into(), bytes: text.map(|text| text.as_bytes().into()) }
}

#[test]
fn a_record_is_amended_as_long_as_it_is_kept() {
    let directory = Directory::new("amended");
    let file = directory.open();
    let records = (1..=3).map(|seq| record(seq, seq)).collect();
    file.append(&[append("room:a", 0, records, ALL)]).unwrap();
    let words = |text: &str, seq: u64| StoredRecord { bytes: text.as_bytes().into(), ..record(seq, seq) };
    let amended = vec![words("other words", 2), words("of a record that will be", 9)];
    let records = vec![record(4, 4)];
    let last_two = Retention { records: 2, since_ms: 0 };
    let both = Change { records, amended, ..Change::default() };
    assert_eq!(file.append(&[change("room:a", 3, both, ALL)]).unwrap(), [StoreAnswer::Appended(Cursor(4))]);
    let kept = |file: &StoreFile| {
        let answer = load(file, "room:a", 10);
        let StoreAnswer::Loaded { records, .. } = answer else { panic!("{answer:?}") };
        records
    };
    assert_eq!(kept(&file), [record(1, 1), words("other words", 2), record(3, 3), record(4, 4)]);
    let more = (5..=8).map(|seq| record(seq, seq)).collect();
    file.append(&[append("room:a", 4, more, last_two)]).unwrap();
    let gone = Change { records: vec![record(9, 9)], amended: vec![words("back", 1)], ..Change::default() };
    file.append(&[change("room:a", 8, gone, last_two)]).unwrap();
    assert_eq!(kept(&file), [7, 8, 9].map(|seq| record(seq, seq)), "what is not kept does not come back");
    let stats = stats::count(&file, &mut |_| {}).unwrap();
    assert_eq!(stats.counts.records, 3, "nor does it lie about in the file");
}

#[test]
fn values_are_kept_beside_the_stream_also_without_one() {
    let directory = Directory::new("values");
    let file = directory.open();
    let put =
        |name: &str, values: Vec<StoredValue>| change(name, 0, Change { values, ..Change::default() }, ALL);
    let first = put("room:a", vec![value("b", Some("1")), value("a", Some("2")), value("c", Some("3"))]);
    let other = put("room:aa", vec![value("x", Some("9"))]);
    let later = put("room:a", vec![value("b", Some("4")), value("c", None), value("b", Some("5"))]);
    file.append(&[first, other, later.clone()]).unwrap();
    let values = vec![value("a", Some("2")), value("b", Some("5"))];
    assert_eq!(load(&file, "room:a", 9), StoreAnswer::Loaded { stream: None, records: vec![], values });

    // Without records, what has become of a commit is seen by the values.
    let otherwise = put("room:a", vec![value("c", Some("6"))]);
    let settled = file.settle(&[later, otherwise], Unavailable::Failed).unwrap();
    assert_eq!(settled, [StoreAnswer::Appended(Cursor(0)), StoreAnswer::Refused(Unavailable::Failed)]);
}

#[test]
fn numbers_of_guests_are_given_once() {
    let directory = Directory::new("guests");
    let file = directory.open();
    assert_eq!((file.take_guests(100).unwrap(), file.take_guests(50).unwrap()), (0, 100));
    drop(file);
    assert_eq!(directory.open().take_guests(1).unwrap(), 150);
}

#[test]
fn appends_whose_commit_failed_are_looked_up() {
    let directory = Directory::new("settle");
    let mut file = directory.open();
    let [there, lost] = ["room:a", "room:b"].map(|name| append(name, 0, vec![record(1, 1)], ALL));
    file.append(std::slice::from_ref(&there)).unwrap();
    file.close();
    assert!(!file.is_open() && file.append(std::slice::from_ref(&lost)).is_err());
    file.reopen().unwrap();
    // It was in the same commit, and somebody else was first.
    let mut second = there.clone();
    let StoreAction::Append { epoch, .. } = &mut second.action else { panic!("an append") };
    *epoch += 1;
    // Another process has written under the same number.
    let otherwise = append("room:a", 0, vec![record(1, 2)], ALL);
    let settled = file.settle(&[there, lost, second, otherwise], Unavailable::Full).unwrap();
    let refused = StoreAnswer::Refused(Unavailable::Full);
    assert_eq!(settled, [StoreAnswer::Appended(Cursor(1)), refused.clone(), refused.clone(), refused]);
}

#[test]
fn a_file_that_cannot_be_used_says_why_and_what_to_do() {
    let directory = Directory::new("refusals");
    let file = directory.open();
    let refusal = directory.refusal().to_string();
    let holder = format!("is in use by another process (process {})", std::process::id());
    assert!(refusal.contains(&holder) && refusal.contains("--data-dir"), "{refusal}");
    file.append(&[append("room:a", 0, (1..200).map(|seq| record(seq, seq)).collect(), ALL)]).unwrap();
    drop(file);

    let path = directory.0.join("corelay.redb");
    let good = fs::read(&path).unwrap();
    for (content, what) in [
        (b"my diary, which is not to be written over".to_vec(), "is no store of corelay"),
        (good[..good.len() / 2].to_vec(), "is damaged"),
        (good[..100].to_vec(), "is damaged"),
        ([&b"redb"[..], &[7; 5_000]].concat(), "is damaged"),
    ] {
        fs::write(&path, &content).unwrap();
        let refusal = directory.refusal().to_string();
        assert!(refusal.contains(what) && refusal.contains("backup"), "{} bytes: {refusal}", content.len());
        assert_eq!(fs::read(&path).unwrap(), content, "it is left as it is");
    }
    fs::write(&path, &good).unwrap();
    {
        let newer = redb::Database::open(&path).unwrap();
        let write = newer.begin_write().unwrap();
        write
            .open_table(redb::TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("schema", 3)
            .unwrap();
        write.commit().unwrap();
    }
    let refusal = directory.refusal().to_string();
    assert!(refusal.contains("newer corelay (schema 3; this one knows 2)"), "{refusal}");
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_damaged_or_whole() {
    let directory = Directory::new("cut");
    let file = directory.open();
    for seq in 1..=40 {
        let bytes = vec![seq as u8; 2_000].into();
        file.append(&[append("room:a", seq - 1, vec![StoredRecord { seq, at_ms: seq, bytes }], ALL)])
            .unwrap();
    }
    let path = directory.0.join("corelay.redb");
    // As a process that was killed leaves it, which is opened in another way.
    let killed = fs::read(&path).unwrap();
    drop(file);
    for content in [fs::read(&path).unwrap(), killed] {
        for pages in 1..content.len() / 4_096 {
            fs::write(&path, &content[..pages * 4_096]).unwrap();
            match StoreFile::open(directory.settings()) {
                Ok(file) => {
                    let answer = load(&file, "room:a", 100);
                    let StoreAnswer::Loaded { records, .. } = answer else { panic!("{answer:?}") };
                    assert_eq!(records.len(), 40, "{pages} pages");
                }
                Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{pages} pages: {error}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_gone_is_not_made_anew_while_the_relay_runs() {
    let directory = Directory::new("gone");
    let mut file = directory.open();
    let path = directory.0.join("corelay.redb");
    for content in [None, Some("")] {
        file.close();
        fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        assert!(file.reopen().is_err());
        assert_eq!(fs::metadata(&path).map(|file| file.len()).unwrap_or(0), 0);
        fs::write(&path, "").unwrap();
    }
    let refusal = directory.refusal();
    assert!(matches!(refusal, StoreError::InUse { .. }), "also while it is closed: {refusal}");
}

#[test]
fn a_directory_that_cannot_be_written_to_says_so() {
    let directory = Directory::new("directory");
    fs::write(directory.0.join("file"), "").unwrap();
    let settings = StoreSettings { data_dir: directory.0.join("file"), ..directory.settings() };
    let Err(refusal) = StoreFile::open(settings) else { panic!("it was opened") };
    assert!(refusal.to_string().contains("cannot create the data directory"), "{refusal}");
    fs::create_dir(directory.0.join("corelay.redb")).unwrap();
    let refusal = directory.refusal().to_string();
    assert!(refusal.contains("make it writable") && refusal.contains("--ephemeral"), "{refusal}");
}

#[test]
fn what_is_ephemeral_touches_no_disk() {
    let directory = Directory::new("ephemeral");
    let settings =
        StoreSettings { data_dir: directory.0.join("store"), ephemeral: true, ..directory.settings() };
    let file = StoreFile::open(settings).unwrap();
    let first = append("room:a", 0, vec![record(1, 1)], ALL);
    assert_eq!(file.append(&[first]).unwrap(), [StoreAnswer::Appended(Cursor(1))]);
    assert_eq!(page(&file, u64::MAX, 10, 1_000), (vec![1], false));
    assert!(!directory.0.join("store").exists());
}

/// A store, not run; the shards' ends of its mail, and that of the service thread, which says nothing.
fn store(file: StoreFile) -> (Vec<Endpoint>, Endpoint, Store) {
    let (shards, [service, mailbox]) = mailbox::mesh(1, 16).unwrap();
    let began = std::time::Instant::now();
    let clock = Arc::new(move || Instant::from_micros(began.elapsed().as_micros() as u64 + 1));
    let guests = Guests { named: Box::new(|| 0), before: 0, taken: GUESTS_AT_ONCE };
    (shards, service, Store::new(mailbox, file, Arc::default(), clock, guests))
}

fn asked(number: u32, request: StoreRequest) -> Asked {
    Asked { source: Party::Shard(ShardId(0)), number: RequestNumber(number), request }
}

/// What the shard is answered, by number.
fn answers(shard: &mut Endpoint) -> Vec<(u32, StoreAnswer)> {
    let next = || match shard.take()? {
        (Party::Store, Letter::Peer(PeerMessage::Answer { request, answer: Answer::Store(answer) })) => {
            Some((request.0, *answer))
        }
        (_, other) => panic!("{other:?}"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn what_is_not_settled_is_settled_before_anything_is_read() {
    let directory = Directory::new("unsettled");
    let (mut shards, _service, mut store) = store(directory.open());
    let append = append("room:a", 0, vec![record(1, 1)], ALL);
    store.file.append(std::slice::from_ref(&append)).unwrap();
    // As if the commit had failed, and the file could not be opened yet.
    store.file.close();
    store.unsettled = vec![asked(1, append)];
    store.reopen_at = Instant::NEVER;
    let action = StoreAction::Read { before: 9, page: PageSize { records: 9, bytes: 1_000 } };
    let read = StoreRequest { topic: topic("room:a"), action, retention: ALL };
    store.read(vec![asked(2, read.clone())]);
    store.post_answers();
    assert_eq!(answers(&mut shards[0]), [(2, StoreAnswer::Refused(Unavailable::Failed))]);
    store.reopen_at = Instant::default();
    store.turn();
    store.read(vec![asked(3, read)]);
    store.post_answers();
    let page = StoreAnswer::Page { records: vec![record(1, 1)], more: false };
    assert_eq!(answers(&mut shards[0]), [(1, StoreAnswer::Appended(Cursor(1))), (3, page)]);
}

#[test]
fn a_relay_that_drains_gives_its_file_to_the_next() {
    let directory = Directory::new("handed-over");
    let (mut shards, mut service, mut first) = store(directory.open());
    let refused = directory.refusal().to_string();
    assert!(refused.contains("in use by another process") && refused.contains("waited for"), "{refused}");
    assert!(matches!(service.post(Party::Store, Letter::Order(Order::Drain)), Posted::Queued));
    assert!(service.must_ring(Party::Store));
    first.turn();
    first.append(vec![asked(1, append("room:a", 0, vec![record(1, 1)], ALL))]);

    let waiting = directory.open();
    let process = std::process::id();
    assert_eq!(waiting.held_by(), Some(Draining { process, guests: GUESTS_AT_ONCE }));
    let (mut others, _other_service, mut second) = store(waiting);
    second.take_over();
    assert!(second.file.held_by().is_some(), "not before it is given");

    // The notice is over: what comes now is refused, and surely not written.
    first.gives_away_at = Instant::default();
    first.turn();
    first.append(vec![asked(2, append("room:a", 1, vec![record(2, 2)], ALL))]);
    first.post_answers();
    let refused = StoreAnswer::Refused(Unavailable::Busy);
    assert_eq!(answers(&mut shards[0]), [(1, StoreAnswer::Appended(Cursor(1))), (2, refused)]);

    second.take_over();
    second.turn();
    second.append(vec![asked(3, append("room:a", 1, vec![record(2, 2)], ALL))]);
    second.post_answers();
    assert_eq!(answers(&mut others[0]), [(3, StoreAnswer::Appended(Cursor(2)))]);
    drop(second);
    first.turn();
    assert!(!first.file.is_open(), "what is given away is not taken back");
    assert!(first.sleeps_for() > Duration::ZERO, "nothing is left to do but to refuse");
}

#[test]
fn a_file_that_cannot_be_taken_over_yet_is_tried_again() {
    let directory = Directory::new("taken-over-late");
    let (_shards, mut service, mut first) = store(directory.open());
    assert!(matches!(service.post(Party::Store, Letter::Order(Order::Drain)), Posted::Queued));
    assert!(service.must_ring(Party::Store));
    // More guests were named than numbers were taken, while nothing could be written.
    first.guests.named = Box::new(|| GUESTS_AT_ONCE + 7);
    first.begin_draining();
    let (_others, _other_service, mut second) = store(directory.open());
    assert_eq!(second.file.held_by().map(|holder| holder.guests), Some(GUESTS_AT_ONCE + 7));
    first.gives_away_at = Instant::default();
    first.give_away();
    let (path, aside) = (directory.0.join("corelay.redb"), directory.0.join("aside"));
    fs::rename(&path, &aside).unwrap();
    fs::write(&path, "this is no store").unwrap();
    second.take_over();
    assert!(second.file.held_by().is_some() && !second.file.is_open());
    assert_eq!(second.metrics.failing.value(), 1, "games go on, and operators are told");
    fs::rename(&aside, &path).unwrap();
    second.take_over();
    assert!(second.file.held_by().is_some(), "not at once");
    second.reopen_at = Instant::default();
    second.take_over();
    assert!(second.file.is_open());
    second.turn();
    assert_eq!(second.metrics.failing.value(), 0);
}

#[test]
fn a_file_is_not_given_away_while_a_write_is_not_settled() {
    let directory = Directory::new("unsettled-drain");
    let (_shards, _service, mut store) = store(directory.open());
    store.gives_away_at = Instant::default();
    store.unsettled = vec![asked(1, append("room:a", 0, vec![record(1, 1)], ALL))];
    store.file.close();
    store.reopen_at = Instant::NEVER;
    store.turn();
    assert!(!store.file.is_given_away(), "nobody knows yet what was written");
    store.reopen_at = Instant::default();
    store.turn();
    assert!(store.file.is_given_away());
}

#[test]
fn a_store_that_nobody_asks_sleeps_and_one_that_is_asked_wakes() {
    let file = StoreFile::open(StoreSettings { ephemeral: true, ..StoreSettings::default() }).unwrap();
    let (mut shards, _service, store) = store(file);
    let body = move || {
        store.run();
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
    };
    let store = thread::spawn(body);
    thread::sleep(Duration::from_millis(400));
    let request = append("room:a", 0, vec![record(1, 1)], ALL);
    let question = Question::Store(Box::new(request));
    let letter = Letter::Peer(PeerMessage::Ask { request: RequestNumber(7), question });
    assert!(matches!(shards[0].post(Party::Store, letter), Posted::Queued));
    assert!(shards[0].must_ring(Party::Store));
    let asked_at = std::time::Instant::now();
    shards[0].wake(Party::Store);
    rustix::io::read(&*shards[0].eventfd(), &mut [0; 8]).unwrap();
    assert!(asked_at.elapsed() < Duration::from_millis(300), "it does not wait for its next look");
    assert_eq!(answers(&mut shards[0]), [(7, StoreAnswer::Appended(Cursor(1)))]);
    thread::sleep(Duration::from_millis(400));
    drop(shards);
    let used = store.join().unwrap();
    assert!(used < Duration::from_millis(200), "{used:?} of CPU for one message in 800 ms");
}
