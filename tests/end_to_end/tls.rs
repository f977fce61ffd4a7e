//! Players by wss://: a relay with certificates, and the clients of others.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corelay::tls::self_signed::{self, Pair};
use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::player::Player;
use crate::records::{event, move_to, request};
use crate::relay::{PATIENCE, Relay, Setup};
use crate::socket::{self, RawClient};
use crate::stream::{Stream, client_config};

pub const TOML: &str = "
    listen_tls = '127.0.0.1:0'
    [[certificate]]
    file = 'relay.crt'
    key = 'relay.key'
";

pub fn pair(host: &str) -> Pair {
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    self_signed::make(host, now_unix_s).unwrap()
}

/// A relay of two shards, the port for TLS, and its certificate.
pub fn start(toml: &str) -> (Relay, SocketAddr, String) {
    let Pair { certificate, key } = pair("localhost");
    let files = vec![("relay.crt", certificate.clone()), ("relay.key", key)];
    let (relay, address) = start_of(format!("{toml}{TOML}"), files);
    (relay, address, certificate)
}

/// A relay of two shards with this configuration and these files, and the port for TLS.
pub fn start_of(toml: String, files: Vec<(&'static str, String)>) -> (Relay, SocketAddr) {
    let relay = Relay::set_up(Setup {
        arguments: vec!["--shards".into(), "2".into()],
        toml,
        files,
        expected_error: Some("the new certificates cannot be used"),
        ..Setup::default()
    });
    let ready: serde_json::Value = serde_json::from_str(&relay.await_log("\"ready\"")).unwrap();
    let address = ready["listen_tls"].as_str().unwrap().parse().unwrap();
    // Clients compare the name with the certificate's.
    assert!(ready["games_tls"].as_str().unwrap().starts_with("wss://localhost:"), "{ready}");
    (relay, address)
}

pub fn join(address: SocketAddr, config: &Arc<ClientConfig>, game: &str) -> Player {
    Player::join_by(Stream::tls(address, config), &format!("wss://localhost/play/{game}"))
}

#[test]
fn players_by_tls_and_without_play_together_on_every_shard() {
    let (relay, address, certificate) = start("");
    for (version, game) in [(&TLS12, "a"), (&TLS13, "b"), (&TLS12, "c"), (&TLS13, "d"), (&TLS13, "e")] {
        let mut ann = join(address, &client_config(&certificate, version), game);
        let mut bob = Player::join(&relay, &format!("/play/{game}"));
        for step in 1..10_u16 {
            let place = (f32::from(step), 1.0);
            ann.send(move_to(step, place.0, place.1));
            bob.until_at(ann.id(), place);
            bob.send(move_to(step, place.0, 2.0));
            ann.until_at(bob.id(), (place.0, 2.0));
        }
        bob.send(event(0, 7, 0, &[9; 1000]));
        assert_eq!(ann.next_event().1, [9; 1000]);
        // Without `close_notify` rustls would call the end of the stream an error.
        ann.leave();
        bob.leave();
    }
    relay.await_metric("corelay_tls_handshakes_total", &[], |handshakes| handshakes == 5);
    relay.await_hand_overs();
    relay.await_metric("corelay_connections", &[], |connections| connections == 0);
    assert_eq!(relay.metric("corelay_tls_failures_total", &[]), 0);
}

#[test]
fn a_drain_closes_players_by_tls_as_it_closes_others() {
    let (relay, address, certificate) = start("");
    let mut ann = join(address, &client_config(&certificate, &TLS13), "a");
    relay.signal(Signal::TERM);
    assert_eq!(ann.closed().1, "drain");
    assert_eq!(ann.read(), crate::player::Read::Ended);
    assert!(relay.exit_status().success());
}

/// Reads to the end, in a thread.
fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut part) {
            into.lock().unwrap().extend_from_slice(&part[..length]);
        }
    })
}

/// What openssl's client shows. It sends each text when it has shown what the one before leads to, first the handshake.
fn openssl(address: SocketAddr, arguments: &[&str], said: &[(&str, &str)]) -> String {
    openssl_for("localhost", address, arguments, said)
}

/// The same of one that asks for `name`, whatever that is.
pub fn openssl_for(name: &str, address: SocketAddr, arguments: &[&str], said: &[(&str, &str)]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", name])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        collect(child.stdout.take().unwrap(), shown.clone()),
        collect(child.stderr.take().unwrap(), shown.clone()),
    ];
    let mut stdin = child.stdin.take().unwrap();
    let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    let mut await_text = |expected: &str| {
        let started = Instant::now();
        while !text().contains(expected)
            && child.try_wait().unwrap().is_none()
            && started.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(5));
        }
    };
    if !said.is_empty() {
        await_text("SSL handshake has read");
    }
    for (said, leads_to) in said {
        // It may have ended.
        let _ = stdin.write_all(said.as_bytes());
        await_text(leads_to);
    }
    drop(stdin);
    child.wait().unwrap();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    text()
}

#[test]
fn the_client_of_openssl_is_upgraded_and_may_not_renegotiate() {
    let (relay, address, _) = start("");
    let asked = request("/play/arena");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let shown = openssl(address, &[version, "-alpn", "http/1.1"], &[(&asked, "101 Switching")]);
        assert!(shown.contains("HTTP/1.1 101 Switching Protocols"), "{shown}");
        assert!(shown.contains(name) && shown.contains("ALPN protocol: http/1.1"), "{shown}");
    }
    assert!(!openssl(address, &["-tls1_1"], &[]).contains("Cipher is ECDHE"));
    let shown = openssl(address, &["-tls1_2"], &[("R\n", "RENEGOTIATING"), (&asked, "no renegotiation")]);
    assert!(shown.contains("RENEGOTIATING") && shown.contains("no renegotiation"), "{shown}");
    assert!(!shown.contains("101 Switching"), "{shown}");
    let shown = openssl(address, &["-tls1_3"], &[("K\n", "KEYUPDATE"), (&asked, "101 Switching")]);
    assert!(shown.contains("KEYUPDATE") && shown.contains("101 Switching"), "{shown}");
    relay.await_metric("corelay_connections", &["state=\"upgrading\""], |upgrading| upgrading == 0);
}

#[test]
fn who_speaks_the_wrong_thing_is_told_so() {
    let (relay, address, _) = start("");
    let mut stream = socket::connect(address, None);
    stream.write_all(request("/play/arena").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("This port speaks TLS"), "{answer}");
    let line = relay.await_log("speaks HTTP without TLS on the port of `listen_tls`");
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("\"peer\":\"127.0.0.1\""), "{line}");

    let mut client = RawClient::connect(&relay);
    client.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    let (status, text) = client.refused();
    assert!(status == 400 && text.contains("looks like TLS"), "{status} {text}");
    relay.await_metric("corelay_tls_failures_total", &[], |failures| failures == 1);
}

#[test]
fn who_does_not_take_the_certificate_is_in_the_log_with_what_it_means() {
    // Also where there is a key, and so no development mode: only an operator can do something about it.
    let (relay, address, _) = start("jwt_key = 'a key of at least thirty-two bytes, for tests'");
    let shown = openssl(address, &["-verify_return_error"], &[]);
    assert!(shown.contains("self-signed certificate"), "{shown}");
    let line: serde_json::Value = serde_json::from_str(&relay.await_log("TLS of a client failed")).unwrap();
    let text = line["message"].as_str().unwrap();
    assert!(text.contains("UnknownCA") && text.contains("self-signed, or its chain is missing"), "{line}");
    assert_eq!((&line["level"], &line["peer"]), (&"WARN".into(), &"127.0.0.1".into()));
    // The next minute has one line, too.
    for _ in 0..3 {
        openssl(address, &["-verify_return_error"], &[]);
    }
    relay.await_metric("corelay_tls_failures_total", &[], |failures| failures == 4);
    assert_eq!(relay.log_count("TLS of a client failed"), 1);
}

#[test]
fn the_time_for_an_upgrade_includes_the_handshake() {
    let (relay, address, _) = start("upgrade_timeout_ms = 2000");
    let mut silent = socket::connect(address, None);
    let mut half = socket::connect(address, None);
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    relay.await_metric("corelay_connections", &["state=\"upgrading\""], |upgrading| upgrading == 2);
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
    relay.await_refusals("timeout", 2);
    relay.await_metric("corelay_connections", &[], |connections| connections == 0);
}

#[test]
fn a_crowd_that_comes_at_once_is_let_in_in_order() {
    let (relay, address, certificate) = start("");
    let config = client_config(&certificate, &TLS13);
    let comers: Vec<_> = (0..16)
        .map(|number| {
            let config = config.clone();
            thread::spawn(move || {
                let game = format!("game-{number}");
                let mut players: Vec<Player> = (0..20).map(|_| join(address, &config, &game)).collect();
                players.iter_mut().for_each(Player::catch_up);
                players
            })
        })
        .collect();
    let players: Vec<Player> = comers.into_iter().flat_map(|comer| comer.join().unwrap()).collect();
    assert_eq!(relay.metric("corelay_tls_handshakes_total", &[]), 320);
    assert_eq!(relay.metric("corelay_tls_handshakes_waiting", &[]), 0);
    drop(players);
    relay.await_metric("corelay_connections", &[], |connections| connections == 0);
}

#[test]
fn memory_of_tls_is_counted_and_given_back() {
    let (relay, address, certificate) = start("");
    let config = client_config(&certificate, &TLS13);
    let players: Vec<Player> = (0..100).map(|_| join(address, &config, "a")).collect();
    relay.await_metric("corelay_memory_bytes", &["part=\"tls\""], |bytes| bytes > 100 * 1_000);
    drop(players);
    relay.await_metric("corelay_memory_bytes", &["part=\"tls\""], |bytes| bytes < 20 * 1_000);
}
