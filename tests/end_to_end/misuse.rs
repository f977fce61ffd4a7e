//! Bad input: each kind gets its answer, is counted, and harms nobody else.

use std::thread;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rustix::process::Signal;

use crate::player::Player;
use crate::records::{Record, event, masked_frame, move_to, put_object, remove_object, request};
use crate::relay::{Place, Relay, Setup, corelay};
use crate::socket::RawClient;

/// A player that has nothing to do with the bad input, and must not notice it.
struct Bystander {
    player: Player,
    moves: u16,
}

impl Bystander {
    fn join(relay: &Relay) -> Self {
        Self { player: Player::join(relay, "/play/bystanders"), moves: 0 }
    }

    /// Moves, and waits until it is told of the move. Returns how long that took.
    #[track_caller]
    fn play(&mut self) -> Duration {
        let started = Instant::now();
        self.moves += 1;
        let at = (f32::from(self.moves), 1.0);
        self.player.send(move_to(self.moves, at.0, at.1));
        self.player.until_at(self.player.id(), at);
        started.elapsed()
    }
}

#[test]
fn bad_request_heads_are_refused_with_a_reason() {
    let relay = Relay::start_shards(2, "upgrade_timeout_ms = 300");
    let mut bystander = Bystander::join(&relay);
    let good = request("/play/arena");
    let mut noise = vec![0; 3_000];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
    let instead = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let long = format!("X: {}\r\nHost:", "y".repeat(9 * 1024));
    let cases: [(Vec<u8>, u16, &str, u64); 9] = [
        (noise.clone(), 400, "bad_request", 1),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n".to_vec(),
            400,
            "bad_request",
            2,
        ),
        (good.as_bytes()[..60].to_vec(), 408, "timeout", 1),
        (vec![], 408, "timeout", 2),
        (instead("Host:", &long), 431, "head_too_large", 1),
        (instead("Host:", "Origin: https://evil.example\r\nHost:"), 403, "origin", 1),
        (instead("/play/arena", "/nowhere"), 404, "not_found", 1),
        (instead("GET", "DELETE"), 405, "method", 1),
        (instead("Version: 13", "Version: 8"), 426, "upgrade_required", 1),
    ];
    for (bytes, status, reason, count) in cases {
        let mut client = RawClient::connect(&relay);
        client.send(&bytes);
        let (answered, text) = client.refused();
        assert_eq!(answered, status, "{text}");
        assert!(text.ends_with('\n'), "a line of text: {text:?}");
        relay.await_refusals(reason, count);
        bystander.play();
    }

    // A byte at a time is unusual, but right.
    let mut patient = RawClient::connect(&relay);
    for byte in good.as_bytes() {
        patient.send(&[*byte]);
    }
    patient.upgraded();

    // A client that goes on sending whatever it is told does not hold its connection.
    let mut stubborn = RawClient::connect(&relay);
    stubborn.send(&noise);
    drop(stubborn);
    relay.await_metric("corelay_connections", &[], |connections| connections == 2);
    bystander.play();
}

#[test]
fn broken_frames_close_with_the_code_of_the_rule() {
    let relay = Relay::start_shards(2, "");
    let mut bystander = Bystander::join(&relay);
    let frame_of = |length: u64| [&[0x82, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat();
    let mut reserved = masked_frame(0x82, &[1]);
    reserved[0] |= 0x40;
    let mut noise = vec![0xFF; 3_000];
    ChaCha8Rng::seed_from_u64(2).fill_bytes(&mut noise[1..]);
    let cases: [(Vec<u8>, u16, &str, u64); 8] = [
        (vec![0x82, 1, 0], 1002, "protocol", 1),
        (frame_of(1 << 63), 1002, "protocol", 2),
        (reserved, 1002, "protocol", 3),
        (masked_frame(0x09, b""), 1002, "protocol", 4),
        (noise, 1002, "protocol", 5),
        (frame_of((1 << 63) - 1), 1009, "too_big", 1),
        (masked_frame(0x82, &[1; 65 * 1024]), 1009, "too_big", 2),
        (masked_frame(0x81, b"\xFF"), 1007, "utf8", 1),
    ];
    for (bytes, code, reason, count) in cases {
        let mut client = RawClient::join(&relay, "/play/arena");
        client.send(&bytes);
        assert_eq!(client.closed(), (code, reason.into()));
        relay.await_closes(reason, count);
        bystander.play();
    }
}

#[test]
fn bad_records_are_named_and_the_tenth_closes() {
    let relay = Relay::start_shards(2, "");
    let mut ann = Player::join(&relay, "/play/arena");
    ann.send(put_object(1, 0, 0, 1.0, 1.0));
    ann.until_view("the object", |view| view.objects.contains_key(&1));
    let mut bystander = Bystander::join(&relay);

    let mut bob = Player::join(&relay, "/play/arena");
    let error = |player: &mut Player, code: u8, word: &str| {
        let text = player.until("an Error", |_, record| match record {
            Record::Error { code: found, text } if *found == code => Some(text.clone()),
            _ => None,
        });
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    };
    bob.send(put_object(1, 0, 0, 9.0, 9.0));
    error(&mut bob, 3, "object 1");
    bob.send(remove_object(1));
    error(&mut bob, 3, "object 1");
    bob.send(event(2, 0, 4_000, b"nobody"));
    error(&mut bob, 5, "4000");
    assert_eq!(relay.metric("corelay_errors_total", &["code=\"not_yours\""]), 2);

    let malformed: [Vec<u8>; 10] = [
        move_to(1, f32::NAN, 0.0),
        move_to(1, 0.0, f32::INFINITY),
        put_object(2, 0, 0, f32::NEG_INFINITY, 0.0),
        vec![],
        vec![0x02],
        vec![0x7F; 12],
        vec![0x81; 72],
        move_to(1, 0.0, 0.0)[..11].to_vec(),
        event(4, 0, 0, b"no such scope"),
        event(0, 0, 0, &[0; 1025]),
    ];
    for record in malformed {
        bob.send(record);
        error(&mut bob, 1, "");
    }
    assert_eq!(bob.closed(), (1003, "malformed".into()));
    relay.await_closes("malformed", 1);
    assert_eq!(relay.metric("corelay_errors_total", &["code=\"malformed\""]), 10);
    ann.until_view("Bob gone", |view| view.roster.len() == 1);
    assert_eq!(ann.view.objects.get(&1), Some(&(0, 1.0, 1.0)), "Bob could not touch it");
    bystander.play();
}

#[test]
fn over_a_rate_records_are_dropped_and_told_of() {
    let relay = Relay::start("[rates]\nbytes_per_s = 20000\nbytes_burst = 20000");
    let mut bystander = Bystander::join(&relay);
    let mut flooder = Player::join(&relay, "/play/arena");
    let mut classes = Vec::new();
    for _ in 0..200 {
        flooder.send(event(1, 1, 0, b"spam"));
    }
    flooder.until("RateLimited", |_, record| match record {
        Record::RateLimited { class: 3, retry_after_ms } if *retry_after_ms <= 1_000 => Some(()),
        _ => None,
    });
    assert!(relay.metric("corelay_rate_limited_total", &["class=\"event\""]) > 0);

    // Over the byte budget nothing is read for a while, and nothing is lost.
    for _ in 0..30 {
        flooder.send(event(0, 1, 0, &[0; 1000]));
    }
    flooder.until("RateLimited for bytes", |_, record| {
        if let Record::RateLimited { class, .. } = record {
            classes.push(*class);
        }
        classes.contains(&5).then_some(())
    });
    let typical = bystander.play();
    assert!(typical < Duration::from_secs(1), "{typical:?}");
    flooder.catch_up();
    assert_eq!(relay.metric("corelay_frames_in_total", &[]), 200 + 30 + 1 + u64::from(bystander.moves));
}

/// The relay's key, and tokens made with it by the relay's own command line.
struct Mint {
    place: Place,
    key_file: String,
}

impl Mint {
    fn new(key: &str) -> Self {
        let place = Place::new();
        let key_file = place.file("relay.key", key);
        Self { place, key_file }
    }

    fn token(&self, arguments: &[&str]) -> String {
        let mut command = corelay(&self.place, "");
        let output =
            command.args(["token", "--jwt-key-file", &self.key_file]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn only_a_token_of_the_configured_key_opens_the_door() {
    let mint = Mint::new("0123456789abcdef0123456789abcdef");
    let stranger = Mint::new("another-key-another-key-another-key");
    let arguments = ["--shards", "2", "--jwt-key-file", &mint.key_file].map(String::from).to_vec();
    let relay = Relay::set_up(Setup { arguments, ..Setup::default() });
    let target = |token: &str| format!("/play/arena?token={token}");

    let good = mint.token(&["--sub", "ann", "--name", "Ann", "--topics", "game:arena*", "--ttl", "1h"]);
    let mut ann = Player::join(&relay, &target(&good));
    assert_eq!(ann.welcome.flags, 0, "not development mode");

    let (head, claims, signature) = parts(&good);
    // The header `{"alg":"none"}`, and the same claims with the host's right.
    let (none, more) = ("eyJhbGciOiJub25lIn0", mint.token(&["--sub", "ann", "--host"]));
    let brief = mint.token(&["--sub", "bob", "--ttl", "2s"]);
    let mut bob = Player::join(&relay, &target(&brief));
    let refused = [
        "/play/arena".to_owned(),
        target("nonsense"),
        target(&stranger.token(&["--sub", "ann"])),
        target(&format!("{none}.{claims}.")),
        target(&format!("{none}.{claims}.{signature}")),
        target(&format!("{head}.{}.{signature}", parts(&more).1)),
        format!("/play/lobby?token={good}"),
    ];
    for (index, target) in refused.iter().enumerate() {
        let (status, text) = RawClient::request(&relay, target).refused();
        assert_eq!(status, 403, "{target}: {text}");
        assert!(text.contains("token"), "{text}");
        relay.await_refusals("token", index as u64 + 1);
    }

    // A connection ends with its token, and the token does not open another one.
    assert_eq!(bob.closed(), (1008, "expired".into()));
    let (status, text) = RawClient::request(&relay, &target(&brief)).refused();
    assert_eq!(status, 403);
    assert!(text.contains("expired"), "{text}");
    relay.await_closes("expired", 1);
    ann.catch_up();
}

fn parts(token: &str) -> (&str, &str, &str) {
    let mut parts = token.split('.');
    (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn a_thousand_joins_in_a_row_harm_nobody() {
    const JOINS: u64 = 1_000;
    let relay = Relay::start_shards(2, "[[game]]\npattern = 'flood-*'\nseat_hold_s = 0");
    let mut bystander = Bystander::join(&relay);
    let address = relay.listen;
    let flood = thread::spawn(move || {
        let started = Instant::now();
        for join in 0..JOINS {
            let mut stream = crate::socket::connect(address, None);
            let head = request(&format!("/play/flood-{}", join % 10));
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
            // Half of them go as a killed process does.
            if join % 2 == 0 {
                crate::socket::reset(&stream);
            }
        }
        started.elapsed()
    });
    let mut longest = Duration::ZERO;
    while !flood.is_finished() {
        longest = longest.max(bystander.play());
    }
    let took = flood.join().unwrap();
    // A tick is 50 ms; the rest is for a machine that is busy with other tests.
    assert!(longest < Duration::from_millis(500), "{longest:?} for a move");
    println!("{JOINS} joins in {took:?}; the longest move took {longest:?}");

    relay.await_metric("corelay_connections", &[], |connections| connections == 1);
    assert_eq!(relay.metric("corelay_accepts_total", &[]), JOINS + 1);
    relay.await_metric("corelay_seats", &[], |seats| seats == 1);
    assert_eq!(relay.metric("corelay_games", &[]), 1);
    bystander.play();
}

#[test]
fn a_crowd_that_comes_at_once_is_seated_or_told_to_come_again() {
    const CROWD: usize = 1_200;
    let relay = Relay::start_shards(2, "[[game]]\npattern = '*'\nplayers_max = 2000");
    let mut bystander = Bystander::join(&relay);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| RawClient::connect(&relay)).collect();
    // All heads are there when the relay looks again: half of them want to go to the other shard, whose mailbox has less room.
    relay.signal(Signal::STOP);
    for client in &mut crowd {
        client.send(request("/play/arena").as_bytes());
    }
    relay.signal(Signal::CONT);
    let mut seated = Vec::new();
    for mut client in crowd {
        match client.answer() {
            (101, _) => seated.push(client),
            (status, text) => assert_eq!((status, text.contains("try again")), (503, true), "{text}"),
        }
    }
    let refused = (CROWD - seated.len()) as u64;
    relay.await_refusals("full", refused);
    assert_eq!(relay.metric("corelay_hand_overs_refused_total", &[]), refused);
    assert_eq!(relay.metric("corelay_seats", &[]), seated.len() as u64 + 1);
    assert!(seated.len() > CROWD / 3, "only {} of {CROWD} are seated", seated.len());
    bystander.play();
}
