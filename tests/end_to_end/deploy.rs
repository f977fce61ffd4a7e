//! A relay is replaced by the next while rooms and games are in use: one process drains, the other takes its port and its store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::member::Member;
use crate::player::Player;
use crate::records::move_to;
use crate::relay::{Place, Relay, Setup, corelay};

const ROOMS: usize = 20;
/// Members of each room. One of them speaks, the others listen.
const MEMBERS: usize = 3;
/// How long they talk before the relay is replaced, and behind it.
const TALK: Duration = Duration::from_millis(500);
/// What a client waits at most before it comes back; here a part of what the relay asks for.
const JITTER: Duration = Duration::from_millis(800);
/// From a client's coming back until its room answers.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

const TOML: &str = "[rates]\nevent_per_s = 100000\nevent_burst = 100000\n\
    [[room]]\npattern = \"*\"\nmessages_per_minute = 1000000\n";

fn relay(place: &Place, listen: SocketAddr) -> Relay {
    let store = place.path().join("store").to_string_lossy().into_owned();
    let arguments = ["--shards", "2", "--data-dir", &store].map(Into::into).to_vec();
    Relay::set_up(Setup { arguments, toml: TOML.into(), listen, ..Setup::default() })
}

/// What a member knows of its room.
#[derive(Default)]
struct Known {
    epoch: String,
    bodies: BTreeMap<u64, String>,
}

impl Known {
    fn hear(&mut self, topic: &str, payload: &Value) {
        let (seq, body) = (payload["seq"].as_u64().unwrap(), payload["body"].as_str().unwrap());
        let last = self.bodies.keys().next_back().copied().unwrap_or(seq - 1);
        assert_eq!(seq, last + 1, "{topic}: each message once, and in order");
        self.bodies.insert(seq, body.into());
    }

    /// Joins, as often as it takes, and hears what was missed.
    fn join(&mut self, listen: SocketAddr, user: &str, topic: &str) -> Member {
        let started = Instant::now();
        loop {
            let seen = self.bodies.keys().next_back().copied().unwrap_or(0);
            let resume = json!({"resume": {"epoch": self.epoch, "seq": seen}});
            let payload = if self.epoch.is_empty() { json!({}) } else { resume };
            let Some((member, told)) = Member::try_join(listen, user, topic, &payload) else {
                assert!(started.elapsed() < ANSWERED_WITHIN, "{topic} is not answered");
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            let epoch = told[0][4]["response"]["epoch"].as_str().unwrap();
            if self.epoch.is_empty() {
                for message in told.last().unwrap()[4]["messages"].as_array().unwrap() {
                    self.hear(topic, message);
                }
            } else {
                assert_eq!(epoch, self.epoch, "{topic} goes on under its name");
                let caught_up = &told.last().unwrap()[4];
                assert_eq!(caught_up["recovered"], true, "{topic}: {caught_up}");
                for event in caught_up["events"].as_array().unwrap() {
                    self.hear(topic, &event["payload"]);
                }
            }
            self.epoch = epoch.into();
            return member;
        }
    }
}

/// Waits as the relay asks for, for a shorter time.
fn come_back(number: usize) {
    let part = JITTER * (number % 10) as u32 / 10;
    thread::sleep(Duration::from_secs(1) + part);
}

/// Speaks until then, and comes back when the relay goes. Returns what was acknowledged, by number, and what it knows.
fn speak(listen: SocketAddr, number: usize, until: Instant) -> (BTreeMap<u64, String>, Known) {
    let topic = format!("room:r{number}");
    let (mut known, mut acknowledged, mut said) = (Known::default(), BTreeMap::new(), 0);
    let user = format!("speaker-{number}");
    let mut member = known.join(listen, &user, &topic);
    while Instant::now() < until {
        said += 1;
        let body = format!("{said}");
        // The same message again, as often as nobody knows whether it was said.
        while !try_say(&mut member, &mut known, &topic, &body, &mut acknowledged) {
            come_back(number);
            member = known.join(listen, &user, &topic);
        }
    }
    (acknowledged, known)
}

/// Whether the message is said; else the connection is gone.
fn try_say(
    member: &mut Member,
    known: &mut Known,
    topic: &str,
    body: &str,
    acknowledged: &mut BTreeMap<u64, String>,
) -> bool {
    let mut reference = member.push("new_message", &json!({"body": body, "client_id": body}));
    while let Some(message) = member.next() {
        if message[3] == "new_message" {
            known.hear(topic, &message[4]);
        } else if message[1] == reference.as_str() && message[4]["status"] == "ok" {
            let response = &message[4]["response"];
            acknowledged.insert(response["seq"].as_u64().unwrap(), response["body"].as_str().unwrap().into());
            return true;
        } else if message[1] == reference.as_str() {
            let refusal = &message[4]["response"];
            assert_eq!(refusal["reason"], "overload", "only the relay that drains refuses: {refusal}");
            thread::sleep(Duration::from_millis(20));
            reference = member.push("new_message", &json!({"body": body, "client_id": body}));
        }
    }
    false
}

/// Listens until it has heard the message that ends it all.
fn listen_to(listen: SocketAddr, room: usize, number: usize) -> Known {
    let topic = format!("room:r{room}");
    let mut known = Known::default();
    let mut member = known.join(listen, "", &topic);
    loop {
        if known.bodies.values().next_back().is_some_and(|body| body == "end") {
            return known;
        }
        match member.next() {
            Some(message) if message[3] == "new_message" => known.hear(&topic, &message[4]),
            Some(_) => {}
            None => {
                come_back(number);
                member = known.join(listen, "", &topic);
            }
        }
    }
}

#[test]
fn the_next_relay_takes_over_port_and_store_and_nothing_that_was_said_is_lost() {
    let place = Place::new();
    let first = relay(&place, SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = first.listen;
    let mut player = Player::join(&first, "/play/arena");
    player.send(move_to(1, 1.0, 2.0));
    player.until_at(player.id(), (1.0, 2.0));
    let until = Instant::now() + 2 * TALK + Duration::from_secs(2) + JITTER;

    let speakers: Vec<_> =
        (0..ROOMS).map(|number| thread::spawn(move || speak(listen, number, until))).collect();
    let listeners: Vec<_> = (0..ROOMS * (MEMBERS - 1))
        .map(|number| thread::spawn(move || listen_to(listen, number % ROOMS, number)))
        .collect();
    thread::sleep(TALK);

    first.signal(Signal::TERM);
    let second = relay(&place, listen);
    second.await_log("still has the data directory");
    let mut player = Player::join(&second, "/play/arena");
    player.send(move_to(1, 3.0, 4.0));
    player.until_at(player.id(), (3.0, 4.0));
    second.await_log("the data directory was taken over");
    assert!(first.exit_status().success());

    let spoken: Vec<_> = speakers.into_iter().map(|speaker| speaker.join().unwrap()).collect();
    for room in 0..ROOMS {
        let (mut member, _) = Member::join(&second, &format!("room:r{room}"), &json!({}));
        let reference = member.push("new_message", &json!({"body": "end"}));
        assert_eq!(member.answer(&reference).unwrap()["status"], "ok");
    }
    for (number, listener) in listeners.into_iter().enumerate() {
        let heard = listener.join().unwrap();
        let (acknowledged, known) = &spoken[number % ROOMS];
        assert!(acknowledged.len() > 5, "there was talk: {}", acknowledged.len());
        for (seq, body) in acknowledged {
            assert_eq!(heard.bodies.get(seq), Some(body), "room {}", number % ROOMS);
        }
        assert_eq!(heard.epoch, known.epoch);
        // Each message was said once, though some were sent again.
        let bodies: Vec<&String> = heard.bodies.values().collect();
        let expected: Vec<String> = (1..bodies.len()).map(|said| said.to_string()).collect();
        assert_eq!(bodies[..bodies.len() - 1], expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_relay_that_does_not_drain_is_not_waited_for() {
    let place = Place::new();
    let first = relay(&place, SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut second = corelay(&place, "");
    second.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]);
    let output = second.arg(place.path().join("store")).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("is in use by another process (process {})", first.pid())), "{log}");
}
