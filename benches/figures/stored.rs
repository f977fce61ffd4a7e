//! A relay that begins with many rooms on disk: how soon it is ready, what it costs in memory, and how long it takes to join one.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corelay::ids::Topic;
use corelay::room::stored::{Change, Cursor, Retention, StoreAction, StoreRequest, StoredRecord};
use corelay::store::file::StoreFile;
use corelay::store::settings::StoreSettings;
use tungstenite::Message;

use crate::relay::{Place, Relay, Setup};

const ROOMS: usize = 20_000;
const MESSAGES: u64 = 500;
/// Of one message, as the relay stores it.
const BYTES: usize = 200;
/// Rooms that are joined, each once.
const JOINS: usize = 2_000;

const READY_MAX: Duration = Duration::from_secs(2);
const MEMORY_MAX: u64 = 30 << 20;
const JOIN_P99_MAX: Duration = Duration::from_millis(20);

pub fn many_rooms_are_on_disk() {
    let (empty, full) = (Place::new(), Place::new());
    fill(&full);
    // What is in the page cache by chance does not count for either.
    let (_, without) = start(&empty);
    let memory_without = memory(&without);
    drop(without);
    let (ready, relay) = start(&full);
    let memory_with = memory(&relay);
    let more = memory_with.saturating_sub(memory_without);
    let mut times: Vec<Duration> = (0..JOINS).map(|number| join(&relay, number * 7 % ROOMS)).collect();
    times.sort_unstable();
    let (median, p99) = (times[JOINS / 2], times[JOINS * 99 / 100]);
    eprintln!(
        "{ROOMS} rooms of {MESSAGES} messages: ready in {ready:?}, {} KiB more than empty; a join {median:?}, 99 % within {p99:?}",
        more / 1024
    );
    assert!(ready <= READY_MAX && more <= MEMORY_MAX && p99 <= JOIN_P99_MAX);
}

fn fill(place: &Place) {
    let settings = StoreSettings { data_dir: place.path().join("store"), ..StoreSettings::default() };
    let file = StoreFile::open(settings).unwrap();
    let payload = format!("{{\"body\":\"{}\"}}", "x".repeat(BYTES - 34));
    // Kind and lengths, as `room/chat_record.rs` says: a message of nobody.
    let bytes: Arc<[u8]> = [&[2, 0, 0, 0][..], &[0; 16], payload.as_bytes()].concat().into();
    for first in (0..ROOMS).step_by(1_000) {
        for part in 0..MESSAGES / 50 {
            let append = |room: usize| {
                let from = part * 50;
                let record = |seq| StoredRecord { seq, at_ms: u64::MAX / 2, bytes: bytes.clone() };
                let records = (from + 1..=from + 50).map(record).collect();
                let change = Change { records, ..Change::default() };
                let action = StoreAction::Append { epoch: 1, expected: Cursor(from), change };
                let topic = Arc::new(Topic::parse(&format!("room:r{room}")).unwrap());
                StoreRequest { topic, action, retention: Retention { records: 10_000, since_ms: 0 } }
            };
            let requests: Vec<StoreRequest> = (first..first + 1_000).map(append).collect();
            file.append(&requests).unwrap();
        }
    }
}

fn start(place: &Place) -> (Duration, Relay) {
    let store = place.path().join("store").to_string_lossy().into_owned();
    let arguments = ["--shards", "1", "--data-dir", &store].map(Into::into).to_vec();
    let began = Instant::now();
    let relay = Relay::set_up(Setup { arguments, ..Setup::default() });
    (began.elapsed(), relay)
}

/// Resident bytes of the process.
fn memory(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// From the join until the state of the room is there, over a connection of its own.
fn join(relay: &Relay, room: usize) -> Duration {
    let stream = TcpStream::connect(relay.listen).unwrap();
    stream.set_nodelay(true).unwrap();
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", relay.listen);
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let began = Instant::now();
    socket.send(Message::text(format!(r#"["1","1","room:r{room}","phx_join",{{}}]"#))).unwrap();
    loop {
        let message = socket.read().unwrap();
        let text = message.to_text().unwrap();
        assert!(!text.contains("\"error\""), "{text}");
        if text.contains("\"room_state\"") {
            assert!(text.contains(&format!("\"seq\":{MESSAGES}}}")), "{text}");
            return began.elapsed();
        }
    }
}
