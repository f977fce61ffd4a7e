//! What packages and containers use of the binary: a health check, completions, manual pages.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;

use crate::player::Player;
use crate::relay::{PATIENCE, Place, Relay, Setup};
use crate::socket::comes_true;

/// The binary where no configuration file is.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelay"));
    command.env_clear().current_dir("/");
    command
}

fn healthcheck(admin: SocketAddr, flags: &[&str]) -> Output {
    let admin = admin.to_string();
    command().args(["healthcheck", "--admin", &admin]).args(flags).output().unwrap()
}

fn outcome(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_health_check_says_whether_the_relay_is_well() {
    let relay = Relay::start("");
    for flags in [&[][..], &["--ready"]] {
        assert_eq!(outcome(&healthcheck(relay.admin, flags)), (Some(0), "ok\n".into()), "{flags:?}");
    }
    let by_variable =
        command().arg("healthcheck").env("CORELAY_ADMIN", relay.admin.to_string()).output().unwrap();
    assert_eq!(outcome(&by_variable).0, Some(0));
    // Somebody plays, so the drain lasts.
    let _player = Player::join(&relay, "/play/arena");
    relay.signal(Signal::TERM);
    relay.await_log("draining");
    assert_eq!(outcome(&healthcheck(relay.admin, &[])), (Some(0), "draining\n".into()), "it is alive");
    assert_eq!(outcome(&healthcheck(relay.admin, &["--ready"])), (Some(1), "draining\n".into()));
}

#[test]
fn a_health_check_of_anything_else_fails_and_says_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = outcome(&healthcheck(nobody, &[]));
    assert!(code == Some(1) && text.contains(&format!("no relay answers on {nobody}")), "{text}");
    for (answer, says) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "is no relay's admin page: HTTP/1.1 404"),
        ("hello\r\n", "speaks no HTTP"),
        ("", "speaks no HTTP"),
    ] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let (code, text) = outcome(&healthcheck(address, &[]));
        assert!(code == Some(1) && text.contains(says), "{answer:?}: {text}");
        answering.join().unwrap();
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, text) = outcome(&healthcheck(silent.local_addr().unwrap(), &[]));
    assert!(code == Some(1) && text.contains("does not answer /livez within 3s"), "{text}");
    let wrong = command().args(["healthcheck", "--admin", "nowhere"]).output().unwrap();
    assert_eq!(outcome(&wrong).0, Some(2));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = outcome(&command().args(["completions", shell]).output().unwrap());
        assert!(
            script.0 == Some(0) && script.1.contains("healthcheck") && script.1.contains("jwt-key-file"),
            "{shell}"
        );
    }
    let pages = std::env::temp_dir().join(format!("corelay-man-{}", std::process::id()));
    std::fs::create_dir_all(&pages).unwrap();
    let written = command().args(["man", "--out-dir"]).arg(&pages).output().unwrap();
    assert_eq!(outcome(&written), (Some(0), String::new()));
    for page in
        ["corelay.1", "corelay-token.1", "corelay-store.1", "corelay-store-check.1", "corelay-healthcheck.1"]
    {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        let title =
            format!(".TH {} 1  \"corelay {}\"", page.trim_end_matches(".1"), env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&title) && text.len() > 300, "{page}: {text}");
        // No name is hyphenated, and the lines of examples are as they are written.
        assert!(text.contains("\n.nh\n") && !text.contains(".SH EXTRA"), "{page}: {text}");
        let [begins, ends] = ["\n.SH NOTES\n.nf\n", "\n.fi\n"].map(|tag| text.matches(tag).count());
        assert_eq!((begins, ends), (1, 1), "{page}: {text}");
    }
    std::fs::remove_dir_all(&pages).unwrap();
    let (code, text) = outcome(&command().args(["man", "--out-dir", "/proc/nowhere"]).output().unwrap());
    assert!(code == Some(1) && text.contains("cannot write the pages into /proc/nowhere"), "{text}");
    let (code, text) = outcome(&command().arg("man").output().unwrap());
    assert!(code == Some(0) && text.contains("SIGHUP"), "{text}");
}

#[test]
fn systemd_is_told_of_the_start_of_turning_loops_and_of_the_end() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path().join("notify")).unwrap();
    let told = |patience| {
        let mut buffer = [0; 256];
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.recv(&mut buffer).ok().map(|bytes| String::from_utf8_lossy(&buffer[..bytes]).trim().to_owned())
    };
    let environment = format!("NOTIFY_SOCKET={}/notify WATCHDOG_USEC=200000", place.path().display());
    let relay =
        Relay::set_up(Setup { shell_prefix: format!("export {environment};").leak(), ..Setup::default() });
    let mut heard: Vec<String> = (0..6).map(|_| told(PATIENCE).unwrap()).collect();
    assert_eq!(heard.iter().filter(|text| *text == "READY=1").count(), 1, "{heard:?}");
    heard.retain(|text| text != "READY=1");
    assert!(heard.iter().all(|text| text == "WATCHDOG=1"), "{heard:?}");
    // Stopped as a whole, it tells nothing, so systemd would end it.
    relay.signal(Signal::STOP);
    while told(Duration::from_millis(50)).is_some() {}
    assert_eq!(told(Duration::from_millis(500)), None);
    relay.signal(Signal::CONT);
    assert_eq!(told(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    let _player = Player::join(&relay, "/play/arena");
    relay.signal(Signal::TERM);
    assert!(comes_true(|| told(PATIENCE).as_deref() == Some("STOPPING=1")));
}
