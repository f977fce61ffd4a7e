//! Chat rooms on a real disk: what was acknowledged is there after the process is killed, once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::member::Member;
use crate::player::Player;
use crate::records::move_to;
use crate::relay::{Place, Relay, Setup, corelay};
use crate::socket;

/// How often the relay is killed.
const KILLS: usize = 3;
const ROOMS: usize = 40;
/// How long it runs each time, once everybody has joined.
const RUN: Duration = Duration::from_millis(700);

const TOML: &str = "[rates]\nevent_per_s = 100000\nevent_burst = 100000\n\
    [[room]]\npattern = \"*\"\nmessages_per_minute = 1000000\n";

/// A relay whose store is in `place`, which outlives it.
pub fn relay(place: &Place) -> Relay {
    let store = place.path().join("store").to_string_lossy().into_owned();
    let arguments = ["--shards", "2", "--data-dir", &store].map(Into::into).to_vec();
    Relay::set_up(Setup { arguments, toml: TOML.into(), ..Setup::default() })
}

/// What a member of a room knows.
#[derive(Default)]
struct Known {
    /// Bodies of messages that were acknowledged, or told, by number.
    bodies: BTreeMap<u64, String>,
    epoch: String,
    said: u64,
}

impl Known {
    fn hear(&mut self, payload: &Value) {
        let (seq, body) = (payload["seq"].as_u64().unwrap(), payload["body"].as_str().unwrap());
        let last = self.bodies.keys().next_back().copied().unwrap_or(0);
        assert_eq!(seq, last + 1, "each message once, and in order");
        self.bodies.insert(seq, body.into());
    }

    /// Comes back, hears what it has missed, and speaks until the relay is gone. Returns how often it was acknowledged.
    fn live(&mut self, relay: &Relay, topic: &str, everybody_is_here: &AtomicBool) -> u64 {
        let seen = self.bodies.keys().next_back().copied().unwrap_or(0);
        let resume = json!({"resume": {"epoch": self.epoch, "seq": seen}});
        let payload = if self.epoch.is_empty() { json!({}) } else { resume };
        let (mut member, told) = Member::join(relay, topic, &payload);
        let epoch = told[0][4]["response"]["epoch"].as_str().unwrap();
        if seen > 0 {
            assert_eq!(epoch, self.epoch, "{topic} goes on under its name");
            let caught_up = &told.last().unwrap()[4];
            assert_eq!(caught_up["recovered"], true, "{caught_up}");
            for event in caught_up["events"].as_array().unwrap() {
                self.hear(&event["payload"]);
            }
        }
        self.epoch = epoch.into();
        while !everybody_is_here.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut acknowledged = 0;
        loop {
            self.said += 1;
            let body = format!("message {} of {topic}", self.said);
            let reference = member.push("new_message", &json!({ "body": body }));
            loop {
                let Some(message) = member.next() else { return acknowledged };
                if message[3] == "new_message" {
                    self.hear(&message[4]);
                } else if message[1] == reference.as_str() {
                    assert_eq!(message[4]["status"], "ok", "{message}");
                    assert_eq!(message[4]["response"]["body"], *body);
                    acknowledged += 1;
                    break;
                }
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    let place = Place::new();
    let mut rooms: Vec<Known> = (0..ROOMS).map(|_| Known::default()).collect();
    for _ in 0..KILLS {
        let relay = Arc::new(relay(&place));
        let everybody_is_here = Arc::new(AtomicBool::new(false));
        let acknowledged: u64 = thread::scope(|scope| {
            let (relay, everybody_is_here) = (&*relay, &*everybody_is_here);
            let live = |(number, known): (usize, &mut Known)| {
                known.live(relay, &format!("room:r{number}"), everybody_is_here)
            };
            let members: Vec<_> =
                rooms.iter_mut().enumerate().map(|member| scope.spawn(move || live(member))).collect();
            relay.await_metric("corelay_channels", &[], |channels| channels == ROOMS as u64);
            everybody_is_here.store(true, Ordering::Release);
            thread::sleep(RUN);
            relay.signal(Signal::KILL);
            members.into_iter().map(|member| member.join().unwrap()).sum()
        });
        assert!(acknowledged > 0, "nothing was acknowledged");
        relay.exit_status();
    }
    let relay = relay(&place);
    for (number, known) in rooms.iter_mut().enumerate() {
        let topic = format!("room:r{number}");
        let (mut member, told) = Member::join(&relay, &topic, &json!({}));
        let last = told[0][4]["response"]["seq"].as_u64().unwrap();
        let heard = known.bodies.keys().next_back().copied().unwrap_or(0);
        assert!((heard..=heard + 1).contains(&last), "{topic}: {heard} were heard, {last} are there");
        let mut before = last + 1;
        while before > 1 {
            let reference = member.push("history", &json!({"before": before, "limit": 100}));
            let page = member.answer(&reference).unwrap()["response"].clone();
            let messages = page["messages"].as_array().unwrap();
            for message in messages.iter().rev() {
                before -= 1;
                assert_eq!(message["seq"], before);
                let body = known.bodies.get(&before).map_or(message["body"].as_str().unwrap(), |body| body);
                assert_eq!(message["body"], body);
            }
            assert_eq!(page["more"], before > 1);
        }
    }
}

/// The size that no file of a process may pass, in bytes: to the process the disk is full there.
fn limit_files(relay: &Relay, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_raw(relay.pid() as i32), Resource::Fsize, limit).unwrap();
}

#[test]
fn while_the_disk_is_full_rooms_refuse_and_games_go_on() {
    // The signal would kill a process that writes beyond the limit.
    let setup = Setup {
        shell_prefix: "trap '' XFSZ;",
        toml: TOML.into(),
        expected_error: Some("the store cannot be used"),
        ..Setup::default()
    };
    let relay = Relay::set_up(setup);
    let (mut member, _) = Member::join(&relay, "room:a", &json!({}));
    let mut player = Player::join(&relay, "/play/arena");
    let say = |member: &mut Member| {
        let reference = member.push("new_message", &json!({"body": "x".repeat(4_000)}));
        let answer = member.answer(&reference).unwrap();
        (answer["status"] == "ok", answer["response"].clone())
    };
    let mut said = 0;
    while said < 20 {
        assert!(say(&mut member).0);
        said += 1;
    }
    let size = std::fs::metadata(place_of(&relay).join("corelay.redb")).unwrap().len();
    limit_files(&relay, Some(size));
    let refusal = loop {
        match say(&mut member) {
            (true, _) => said += 1,
            (false, refusal) => break refusal,
        }
        assert!(said < 10_000, "the disk is never full");
    };
    assert_eq!(refusal, json!({"reason": "storage_full", "retry_after": 5000}));
    player.send(move_to(1, 7.0, 8.0));
    player.until_at(player.id(), (7.0, 8.0));
    relay.await_metric("corelay_store_failing", &[], |failing| failing == 1);
    limit_files(&relay, None);
    // The store tries nothing so soon behind a failure.
    assert!(socket::comes_true(|| say(&mut member).0), "there is room again");
    said += 1;
    relay.await_metric("corelay_store_failing", &[], |failing| failing == 0);
    assert_eq!(relay.log_count("the store cannot be used"), 1, "it is said once");
    let (_, told) = Member::join(&relay, "room:a", &json!({}));
    assert_eq!(told[0][4]["response"]["seq"], said, "what was refused was not said");
}

fn place_of(relay: &Relay) -> std::path::PathBuf {
    relay.place.path().join("corelay-data")
}

#[test]
fn a_drain_ends_with_everything_on_disk_and_numbers_of_guests_go_on() {
    let place = Place::new();
    let first = relay(&place);
    let (mut member, told) = Member::join(&first, "room:a", &json!({}));
    let guest = told[0][4]["response"]["user_id"].as_str().unwrap().to_owned();
    let reference = member.push("new_message", &json!({"body": "good night", "client_id": "1"}));
    assert_eq!(member.answer(&reference).unwrap()["status"], "ok");
    first.signal(Signal::TERM);
    assert!(first.exit_status().success());

    let second = relay(&place);
    let (mut member, told) = Member::join(&second, "room:a", &json!({}));
    assert_ne!(told[0][4]["response"]["user_id"], *guest, "it is somebody else");
    let state = &told.last().unwrap()[4];
    assert_eq!((&state["seq"], &state["messages"][0]["body"]), (&json!(1), &json!("good night")));
    let reference = member.push("new_message", &json!({"body": "good morning", "client_id": "1"}));
    assert_eq!(member.answer(&reference).unwrap()["response"]["seq"], 2, "an id is its user's");
}

#[test]
fn a_damaged_store_is_named_and_left_as_it_is() {
    let place = Place::new();
    drop(relay(&place));
    let file = place.path().join("store/corelay.redb");
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, &content[..content.len() / 3]).unwrap();
    let mut damaged = corelay(&place, "");
    damaged.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]);
    let output = damaged.arg(place.path().join("store")).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("is damaged") && log.contains("backup"), "{log}");
    assert_eq!(std::fs::metadata(&file).unwrap().len() as usize, content.len() / 3);
}
