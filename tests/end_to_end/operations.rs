//! What an operator sees and does: pages, limits, signals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::player::{Player, Read};
use crate::records::{Record, event, request};
use crate::relay::{NO_RATES, PATIENCE, Place, Relay, Setup, corelay, exit_status};
use crate::socket::{RawClient, comes_true, connect};

#[test]
fn the_admin_pages_answer() {
    let relay = Relay::start_shards(3, "");
    assert_eq!(relay.fetch("/livez"), (200, "ok\n".into()));
    assert_eq!(relay.fetch("/readyz"), (200, "ok\n".into()));
    let version: serde_json::Value = serde_json::from_str(&relay.fetch("/version").1).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["shards"], 3);
    assert_eq!(version["driver"], relay.driver.as_str());
    assert_eq!(relay.fetch("/nowhere").0, 404);

    let player = Player::join(&relay, "/play/arena");
    let metrics = relay.fetch("/metrics").1;
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(relay.metric("corelay_connections", &["state=\"open\""]), 1);
    assert_eq!(relay.metric("corelay_accepts_total", &[]), 1);
    assert!(relay.metric("corelay_loop_turn_seconds_count", &[]) > 0);
    assert!(relay.metric("process_resident_memory_bytes", &[]) > 1 << 20);
    // A ring has all its receive buffers from the beginning.
    let rings_bytes = if relay.driver == "io_uring" { 1 << 20 } else { 1 << 12 };
    assert!(relay.metric("corelay_memory_bytes", &["part=\"rings\""]) > rings_bytes, "receive buffers");
    player.leave();
    relay.await_metric("corelay_connections", &[], |connections| connections == 0);
    assert_eq!((relay.metric("corelay_games", &[]), relay.metric("corelay_seats", &[])), (0, 0));
}

/// Opens so many connections to the admin pages, and says `text` on each.
fn visitors(relay: &Relay, count: usize, text: &str) -> Vec<TcpStream> {
    let visit = |_| {
        let mut stream = TcpStream::connect(relay.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    (0..count).map(visit).collect()
}

#[test]
fn visitors_of_the_admin_pages_that_never_end_are_not_in_the_way() {
    let whole = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for text in ["GET /livez HTTP/1.1\r\n", whole, ""] {
        let relay = Relay::set_up(Setup { shell_prefix: "ulimit -n 256;", ..Setup::default() });
        let visitors = visitors(&relay, 300, text);
        let started = Instant::now();
        assert_eq!(relay.fetch("/livez"), (200, "ok\n".into()), "{text:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{text:?}: {:?}", started.elapsed());
        if text != whole {
            relay.await_log("too many visitors at once");
        }
        drop(visitors);
    }
}

#[test]
fn a_visit_to_the_admin_pages_has_an_end() {
    let relay = Relay::start("");
    let half = visitors(&relay, 1, "GET /livez HTTP/1.1\r\n");
    // A form that is announced and never comes, and a client that would like to ask again later.
    let form = visitors(
        &relay,
        1,
        "POST /users/ann/disconnect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    );
    let kept =
        visitors(&relay, 1, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    for (mut stream, answer) in [half, form, kept].into_iter().flatten().zip(["", "200", "200"]) {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the relay ends the connection");
        assert!(text.contains(answer), "{answer:?}: {text}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let relay = Relay::start("");
    let place = Place::new();
    let listen = relay.listen.to_string();
    let mut second = corelay(&place, "");
    second.args(["--listen", &listen, "--admin", "127.0.0.1:0", "--log-format", "json"]);
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    for text in ["another process listens on", listen.as_str(), "--listen"] {
        assert!(log.contains(text), "{text:?} is missing in {log}");
    }
    Player::join(&relay, "/play/arena").catch_up();
}

#[test]
fn a_wrong_key_is_refused_with_the_right_one() {
    let place = Place::new();
    let config = place.file("corelay.toml", "conections_max = 10\n");
    let output = corelay(&place, "").args(["--config", &config]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("did you mean `connections_max`"), "{text}");
}

#[test]
fn an_address_has_so_many_connections_and_again_after_one_leaves() {
    let relay = Relay::start_shards(4, "connections_per_address = 2");
    let ann = Player::join(&relay, "/play/arena");
    let mut bob = Player::join(&relay, "/play/other");
    for refusals in 1..=3 {
        let (status, text) = RawClient::request(&relay, "/play/arena").refused();
        assert_eq!(status, 429, "{text}");
        assert!(text.contains("too many connections from this address"), "{text}");
        relay.await_refusals("address_limit", refusals);
    }
    ann.leave();
    relay.await_metric("corelay_connections", &[], |connections| connections == 1);
    Player::join(&relay, "/play/arena").leave();
    bob.catch_up();
}

#[test]
fn a_full_relay_refuses_and_serves_again() {
    let arguments = ["--shards", "1", "--connections-max", "3"].map(String::from).to_vec();
    let relay = Relay::set_up(Setup { arguments, ..Setup::default() });
    let mut players: Vec<_> = (0..3).map(|_| Player::join(&relay, "/play/arena")).collect();
    let (status, text) = RawClient::request(&relay, "/play/arena").refused();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("Retry-After: ") && text.contains("every connection"), "{text}");
    relay.await_refusals("full", 1);

    players.pop().unwrap().leave();
    relay.await_metric("corelay_connections", &["state=\"open\""], |open| open == 2);
    players.push(Player::join(&relay, "/play/arena"));
    players.iter_mut().for_each(Player::catch_up);
}

#[test]
fn a_nearly_full_descriptor_table_stops_accepting_before_anybody_is_lost() {
    const DESCRIPTORS: usize = 200;
    let relay = Relay::set_up(Setup {
        shell_prefix: "ulimit -n 200;",
        toml: "upgrade_timeout_ms = 60000".into(),
        ..Setup::default()
    });
    let mut players: Vec<_> = (0..20).map(|_| Player::join(&relay, "/play/arena")).collect();
    // Connections that say nothing fill the table; more come than it has room for.
    let mut silent: Vec<_> = (0..DESCRIPTORS).map(|_| RawClient::connect(&relay)).collect();
    relay.await_metric("corelay_accept_paused", &[], |paused| paused == 1);
    relay.await_log("descriptor table nearly full: accepting stops");
    let accepted = relay.metric("corelay_connections", &[]) as usize;
    // With epoll the relay keeps a hundred for itself.
    assert!((DESCRIPTORS * 2 / 5..DESCRIPTORS).contains(&accepted), "{accepted} accepted");
    assert_eq!(relay.metric("corelay_accept_failures_total", &[]), 0);

    // Whoever was connected plays on. Whoever was not waits, and is not turned away.
    let mut late = connect(relay.listen, None);
    let mut waiting = RawClient::request(&relay, "/play/arena");
    players.iter_mut().for_each(Player::catch_up);
    assert_eq!(relay.metric("corelay_connections", &[]) as usize, accepted);
    assert_eq!(relay.metric("corelay_connections", &["state=\"open\""]) as usize, players.len());

    // Others leave: those that wait are served, in the order they came.
    silent.truncate(10);
    waiting.upgraded();
    late.write_all(request("/play/arena").as_bytes()).unwrap();
    assert!(comes_true(
        || relay.metric("corelay_connections", &["state=\"open\""]) == players.len() as u64 + 2
    ));
    assert_eq!(relay.metric("corelay_accept_paused", &[]), 0);
    for client in &mut silent {
        client.send(request("/play/arena").as_bytes());
        client.upgraded();
    }
    players.iter_mut().for_each(Player::catch_up);
    assert_eq!(relay.metric("corelay_closes_total", &[]), 0);
}

#[test]
fn a_drain_tells_closes_and_ends() {
    let relay = Relay::start_shards(2, NO_RATES);
    let mut players: Vec<_> = (0..10).map(|game| Player::join(&relay, &format!("/play/{game}"))).collect();
    // One that neither reads nor answers, and one whose socket is full besides.
    let _deaf = RawClient::join(&relay, "/play/deaf");
    let _stuffed = Player::join_with(&relay, "/play/stuffed", Some(4096));
    let mut talker = Player::join(&relay, "/play/stuffed");
    while relay.metric("corelay_outbox_bytes", &[]) < 50_000 {
        talker.send(event(0, 1, 0, &[0; 1024]));
    }
    let started = Instant::now();
    relay.signal(Signal::TERM);
    for player in &mut players {
        let (timeout_ms, retry_after_ms) = player.until("the notice", |_, record| match record {
            Record::Notice { reason: 2, timeout_ms, retry_after_ms, .. } => {
                Some((*timeout_ms, *retry_after_ms))
            }
            _ => None,
        });
        assert_eq!((timeout_ms, retry_after_ms), (30_000, 1_000));
    }
    assert_eq!(relay.fetch("/readyz"), (503, "draining\n".into()));
    assert!(comes_true(|| relay.log_count("stopped listening") == 2));
    assert!(TcpStream::connect(relay.listen).is_err(), "nobody listens any more");
    for player in &mut players {
        assert_eq!(player.closed(), (1012, "drain".into()));
        assert_eq!(player.read(), Read::Ended);
    }
    assert_eq!(relay.exit_status().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    relay.await_log("\"message\":\"drained\"");
}

#[test]
fn a_second_signal_ends_at_once() {
    let relay = Relay::start_shards(2, "");
    let mut player = Player::join(&relay, "/play/arena");
    relay.signal(Signal::TERM);
    player.until("the notice", |_, record| matches!(record, Record::Notice { reason: 2, .. }).then_some(()));
    let started = Instant::now();
    relay.signal(Signal::TERM);
    assert_eq!(relay.exit_status().code(), Some(143));
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "before the first close: {:?}",
        started.elapsed()
    );
}

#[test]
fn the_next_relay_takes_the_port_while_the_last_one_drains() {
    // One close per 100 ms.
    let old = Relay::start("[drain]\nbatch = 20");
    let mut players: Vec<_> = (0..30).map(|_| Player::join(&old, "/play/arena")).collect();
    old.signal(Signal::TERM);
    old.await_log("stopped listening");
    let new = Relay::set_up(Setup { listen: old.listen, ..Setup::default() });
    let mut newcomer = Player::join(&new, "/play/arena");
    newcomer.catch_up();
    // The last one is still served by the old relay, until its turn comes.
    let last = players.last_mut().unwrap();
    last.catch_up();
    for player in &mut players {
        assert_eq!(player.closed(), (1012, "drain".into()));
    }
    drop(players);
    assert_eq!(old.exit_status().code(), Some(0));
    assert_eq!(new.metric("corelay_connections", &["state=\"open\""]), 1);
    newcomer.catch_up();
}

#[test]
fn an_idle_relay_drains_at_once() {
    let place = Place::new();
    let relay = Relay::start_shards(4, "");
    let started = Instant::now();
    relay.signal(Signal::INT);
    assert_eq!(relay.exit_status().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    // And a signal while it starts is obeyed.
    let mut command = corelay(&place, "");
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    exit_status(&mut child, Duration::from_secs(10));
}
