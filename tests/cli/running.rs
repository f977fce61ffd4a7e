//! How it starts, what it logs, and how it ends.

use super::*;

#[test]
fn flags_win_over_variables_over_the_file() {
    let folder = Folder::new("precedence");
    folder.write("corelay.toml", "shards = 1\n");
    folder.write("other.toml", "shards = 4\n");
    for (file, shards) in [("", 1), ("other.toml", 4)] {
        let mut command = folder.corelay(&[]);
        command.env("CORELAY_CONFIG", file);
        assert_eq!(Relay::start(command).ready["shards"], shards, "{file:?}");
    }
    assert_eq!(folder.start(&[]).ready["shards"], 1);
    let mut command = folder.corelay(&["serve"]);
    command.env("CORELAY_SHARDS", "2");
    assert_eq!(Relay::start(command).ready["shards"], 2);
    let mut command = folder.corelay(&["--shards", "3"]);
    command.env("CORELAY_SHARDS", "2");
    assert_eq!(Relay::start(command).ready["shards"], 3);
}

#[test]
fn it_starts_serves_the_admin_pages_and_ends_when_told() {
    let folder = Folder::new("life");
    let mut relay = folder.start(&["--shards", "2", "--connections-max", "1000"]);
    assert_eq!(relay.ready["connections_max"], 1000);
    for (path, expected) in [("/readyz", "ok"), ("/livez", "ok"), ("/version", "\"shards\":2")] {
        let answer = relay.fetch(path);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(expected), "{path}: {answer}");
    }
    let metrics = relay.fetch("/metrics");
    assert!(metrics.contains("corelay_connections{shard=\"1\",state=\"open\"} 0"), "{metrics}");
    relay.signal(Signal::TERM);
    relay.log_until("draining");
    relay.log_until("drained");
    assert_eq!(relay.exit_code(), 0);
}

/// The head of a request that joins a game.
fn upgrade(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
    )
}

/// Asks the relay, and returns the status of its answer.
fn answered(relay: &Relay, head: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(relay.address("listen")).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    (stream, text(&answer))
}

#[test]
fn a_developer_sees_who_comes_and_who_may_not() {
    let folder = Folder::new("players");
    let mut relay = folder.start(&["--shards", "2"]);
    let (player, status) = answered(&relay, &upgrade("/play/arena?name=Ann", ""));
    assert_eq!(status, "HTTP/1.1 101");
    let joined = relay.log_until("joined");
    let said = ["level", "game", "name"].map(|field| joined[field].as_str().unwrap().to_owned());
    assert_eq!(said, ["INFO", "arena", "Ann"].map(String::from));
    assert!(joined["user"].as_str().unwrap().starts_with("guest-"), "{joined}");
    assert_eq!(joined["player"], 1);
    drop(player);
    assert_eq!(relay.log_until("lost")["name"], "Ann");
    for page in ["null", "http://elsewhere.example"] {
        let (_, status) = answered(&relay, &upgrade("/play/arena", &format!("Origin: {page}\r\n")));
        assert_eq!(status, "HTTP/1.1 403");
    }
    let refused = relay.log_until("refused");
    assert_eq!((refused["level"].as_str(), refused["reason"].as_str()), (Some("WARN"), Some("origin")));
    assert!(refused["message"].as_str().unwrap().contains("python3 -m http.server"), "{refused}");
    relay.signal(Signal::TERM);
    assert_eq!(relay.log_count_until("refused", "drained"), 0, "the second one is within the minute");
}

#[test]
fn with_a_key_the_log_is_silent_about_players_unless_asked() {
    let folder = Folder::new("players-key");
    folder.write("corelay.key", &"k".repeat(32));
    for (filter, lines) in [("info", 0), ("info,corelay::players=debug", 1)] {
        let mut command = folder.corelay(&["--shards", "1", "--jwt-key-file", "corelay.key"]);
        command.env("RUST_LOG", filter);
        let mut relay = Relay::start(command);
        assert_eq!(answered(&relay, &upgrade("/play/arena", "")).1, "HTTP/1.1 403");
        relay.signal(Signal::TERM);
        assert_eq!(relay.log_count_until("refused", "drained"), lines, "{filter}");
    }
}

#[test]
fn a_player_is_drained_and_a_second_signal_does_not_wait() {
    let folder = Folder::new("second-signal");
    let mut relay = folder.start(&["--shards", "1"]);
    let (_player, status) = answered(&relay, &upgrade("/play/arena", ""));
    assert_eq!(status, "HTTP/1.1 101");

    relay.signal(Signal::TERM);
    let draining = relay.log_until("draining");
    assert_eq!((draining["signal"].as_str(), draining["connections"].as_u64()), (Some("Terminate"), Some(1)));
    let refused = relay.fetch("/readyz");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("draining\n"), "{refused}");
    relay.signal(Signal::TERM);
    relay.log_until("second signal");
    assert_eq!(relay.exit_code(), 143);
}

#[test]
fn a_taken_port_is_named() {
    let folder = Folder::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in
        [["--listen", &address, "--admin", "127.0.0.1:0"], ["--admin", &address, "--listen", "127.0.0.1:0"]]
    {
        let output = folder.run(&arguments);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
        for part in [&address, arguments[0], "another process", "ss -tlnp"] {
            assert!(log.contains(part), "{arguments:?}: {part:?} is missing in {log}");
        }
        assert!(!log.contains("os error"), "{log}");
    }
}

#[test]
fn the_ready_line_says_where_to_go() {
    let folder = Folder::new("ready");
    let relay = folder.start(&["--shards", "1"]);
    let (players, pages) = (relay.address("listen"), relay.address("admin"));
    assert_eq!(relay.ready["games"], format!("ws://{players}/play/{{game}}"));
    assert_eq!(relay.ready["phoenix"], format!("ws://{players}/socket"));
    assert_eq!(relay.ready["playground"], format!("http://{pages}/"));
    assert!(relay.fetch("/").contains("<html"));
}

#[test]
fn what_cannot_be_logged_or_read_of_the_log_filter_is_no_reason_to_end() {
    let folder = Folder::new("log-filter");
    let mut command = folder.corelay(&["--shards", "1"]);
    command.env("RUST_LOG", "corelay=loud,info");
    let mut relay = Relay::start(command);
    relay.signal(Signal::TERM);
    relay.log_until("drained");
    // Nothing can be written here.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command =
        folder.corelay(&["--shards", "1", "--listen", "127.0.0.1:0", "--admin", &free.to_string()]);
    let mut child = command.env("RUST_LOG", "corelay=loud,[").stderr(full).spawn().unwrap();
    let is_up = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(free).is_ok()
    });
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_up && ended.is_none(), "{ended:?}");
}

#[test]
fn an_idle_relay_stays_alive() {
    let folder = Folder::new("idle");
    let relay = folder.start(&["--shards", "1"]);
    std::thread::sleep(Duration::from_millis(5_500));
    let answer = relay.fetch("/livez");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
