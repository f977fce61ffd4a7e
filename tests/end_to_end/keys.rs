//! Keys that change under a running relay, operators that kick, and who may be one.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use corelay::wire::token::{Algorithm, Claims, TopicPattern, sign_as};
use rustix::process::Signal;

use crate::player::Player;
use crate::records::{Frame, masked_frame};
use crate::relay::{Relay, Setup};
use crate::socket::RawClient;

const OLD: &str = "the old secret of at least thirty-two bytes";
const NEW: &str = "the new secret of at least thirty-two bytes";
const ADMIN_TOKEN: &str = "0123456789abcdef";

const OLD_KEY: &str = "[[key]]\nkid = 'old'\nfile = 'old.key'\n";
const NEW_KEY: &str = "[[key]]\nkid = 'new'\nfile = 'new.key'\n";

fn start(toml: &str, admin: SocketAddr) -> Relay {
    Relay::set_up(Setup {
        arguments: vec!["--shards".into(), "2".into()],
        toml: toml.into(),
        files: vec![("old.key", format!("{OLD}\n")), ("new.key", format!("{NEW}\n"))],
        admin,
        expected_error: Some("the new keys cannot be used"),
        ..Setup::default()
    })
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn target(game: &str, user: &str, kid: Option<&str>, secret: &str) -> String {
    let claims = Claims {
        user: user.into(),
        expires_at_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600,
        name: None,
        topics: [TopicPattern::new("game:*")].into(),
        host: false,
        moderator: false,
    };
    let token = sign_as(kid, Algorithm::Hs256, secret.as_bytes(), &claims).unwrap();
    format!("/play/{game}?token={token}")
}

#[track_caller]
fn refused(relay: &Relay, target: &str, named: &str) {
    let (status, text) = RawClient::request(relay, target).refused();
    assert!(status == 403 && text.contains(named), "{status} {text}");
}

#[test]
fn keys_are_rotated_without_a_restart() {
    let relay = start(OLD_KEY, loopback());
    let (by_old, by_new) = (target("a", "ann", Some("old"), OLD), target("b", "bob", Some("new"), NEW));
    let mut ann = Player::join(&relay, &by_old);
    refused(&relay, &by_new, "`kid` names no key");

    // The new key stands beside the old one.
    relay.place.file("corelay.toml", &format!("{OLD_KEY}{NEW_KEY}"));
    relay.signal(Signal::HUP);
    let line = relay.await_log("\"message\":\"keys read again\"");
    assert!(line.contains("\"keys\":2") && line.contains("\"kids\":\"old, new\""), "{line}");
    for game in ["a", "b", "c", "d"] {
        Player::join(&relay, &target(game, "bob", Some("new"), NEW));
        Player::join(&relay, &target(game, "bob", None, OLD));
    }

    // A key that cannot be used changes nothing.
    relay.place.file("new.key", "short");
    relay.signal(Signal::HUP);
    let line = relay.await_log("the new keys cannot be used");
    assert!(
        line.contains("\"level\":\"ERROR\"") && line.contains("new.key cannot be used: a secret for HS256"),
        "{line}"
    );
    Player::join(&relay, &by_new);

    // The old key goes. Who plays goes on, but cannot come back with the old token.
    relay.place.file("new.key", NEW);
    relay.place.file("corelay.toml", NEW_KEY);
    relay.signal(Signal::HUP);
    relay.await_log("\"kids\":\"new\"");
    Player::join(&relay, &by_new);
    ann.catch_up();
    let resumed = format!("{by_old}&resume={}&seq=0", ann.welcome.resume_token);
    refused(&relay, &resumed, "`kid` names no key");
    refused(&relay, &target("a", "ann", None, OLD), "signature");
}

#[test]
fn a_relay_of_guests_stays_one() {
    let relay = start("", loopback());
    relay.place.file("corelay.toml", OLD_KEY);
    relay.signal(Signal::HUP);
    relay.await_log("in development mode there are no keys to read again");
    Player::join(&relay, "/play/a");
}

#[test]
fn who_comes_without_a_token_joins_soon_or_goes() {
    let relay = start(&format!("socket_join_timeout_ms = 300\n{OLD_KEY}"), loopback());
    let stranger = || {
        let mut client = RawClient::request(&relay, "/socket/websocket?vsn=2.0.0");
        assert_eq!(client.answer().0, 101);
        client
    };
    let (mut ann, by_token) = (stranger(), target("a", "ann", None, OLD));
    let (_, token) = by_token.split_once("token=").unwrap();
    let join = format!(r#"["1","1","game:a","phx_join",{{"token":"{token}"}}]"#);
    ann.send(&masked_frame(0x81, join.as_bytes()));
    // Refused: nothing has changed.
    let mut bob = stranger();
    bob.send(&masked_frame(0x81, br#"["1","1","game:a","phx_join",{}]"#));
    assert_eq!(bob.closed(), (1008, "unauthorized".into()));
    relay.await_closes("unauthorized", 1);
    ann.send(&masked_frame(0x81, br#"[null,"still here","phoenix","heartbeat",{}]"#));
    ann.until("an answer", |frame| matches!(frame, Frame::Text(text) if text.contains("still here")));

    let relay = Relay::set_up(Setup {
        shell_prefix: "CORELAY_SOCKET_TOKEN_REQUIRED=true",
        toml: OLD_KEY.into(),
        files: vec![("old.key", OLD.into())],
        ..Setup::default()
    });
    refused(&relay, "/socket/websocket?vsn=2.0.0", "a token is required");
    let mut ann = RawClient::request(&relay, &format!("/socket/websocket?vsn=2.0.0&token={token}"));
    assert_eq!(ann.answer().0, 101);
}

#[test]
fn a_kicked_user_leaves_every_game() {
    let relay = start(OLD_KEY, loopback());
    // Names enough to fall on both shards.
    let games = ["a", "b", "c", "d", "e", "f"];
    let mut anns: Vec<Player> =
        games.iter().map(|game| Player::join(&relay, &target(game, "ann/1", None, OLD))).collect();
    let mut bob = Player::join(&relay, &target("a", "bob", None, OLD));
    let (status, body) = relay.ask_admin("POST /users/ann%2F1/disconnect", "Host: localhost");
    assert_eq!((status, body.as_str()), (200, "{\"disconnected\":6,\"user\":\"ann/1\"}\n"));
    for ann in &mut anns {
        assert_eq!(ann.closed(), (1001, "kicked".into()));
    }
    relay.await_closes("kicked", 6);
    bob.catch_up();
    let (status, body) = relay.ask_admin("POST /users/nobody/disconnect", "Host: localhost");
    assert_eq!((status, body.as_str()), (200, "{\"disconnected\":0,\"user\":\"nobody\"}\n"));
}

#[test]
fn operators_beyond_loopback_show_a_token() {
    let toml = format!("admin_token = '{ADMIN_TOKEN}'\n{OLD_KEY}");
    let relay = start(&toml, SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut ann = Player::join(&relay, &target("a", "ann", None, OLD));
    let kick = "POST /users/ann/disconnect";
    assert_eq!(relay.ask_admin("GET /livez", "Host: probe").0, 200);
    assert_eq!(relay.ask_admin("GET /metrics", "Host: localhost").0, 401);
    assert_eq!(relay.ask_admin(kick, "Host: localhost").0, 401);
    let wrong = "Host: relay\r\nAuthorization: Bearer 0123456789abcdeX";
    assert_eq!(relay.ask_admin(kick, wrong).0, 401);
    ann.catch_up();
    let right = format!("Host: relay\r\nAuthorization: Bearer {ADMIN_TOKEN}");
    assert_eq!(relay.ask_admin("GET /metrics", &right).0, 200);
    assert_eq!(relay.ask_admin(kick, &right).0, 200);
    assert_eq!(ann.closed(), (1001, "kicked".into()));
}

#[test]
fn pages_of_strangers_do_not_reach_the_admin_listener() {
    let relay = start(OLD_KEY, loopback());
    assert_eq!(relay.ask_admin("GET /metrics", "Host: rebound.example").0, 403);
    assert_eq!(relay.ask_admin("GET /readyz", "Host: rebound.example").0, 200);
    let form = "Host: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0";
    assert_eq!(relay.ask_admin("POST /users/ann/disconnect", form).0, 403);
}
