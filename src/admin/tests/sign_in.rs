//! Signing in with a browser, and what a page of strangers can do with its cookie.

use super::*;
use crate::limits::{ADMIN_SESSIONS_MAX, ADMIN_SIGN_IN_BYTES_MAX};

const TOKEN: &str = "0123456789abc+ef";
const OWN: &str =
    "Host: relay.example:4001\r\nOrigin: https://relay.example:4001\r\nSec-Fetch-Site: same-origin";
const BROWSER: &str = "Host: relay.example:4001\r\nAccept: text/html,*/*\r\nSec-Fetch-Site: none";

fn keyed() -> Fixture {
    serve_pages(Access::new(Some(TOKEN.as_bytes())))
}

impl Fixture {
    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\n{headers}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        Self::answer(stream)
    }

    /// The cookie of somebody who signs in.
    fn signed_in(&self) -> String {
        let (status, head, _) = self.post("/sign-in", OWN, "token=0123456789abc%2Bef");
        assert_eq!(status, 303, "{head}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        for part in ["; HttpOnly", "; SameSite=Strict", "; Secure", "; Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains(TOKEN));
        format!("Cookie: other=1; {}", cookie.split(';').next().unwrap())
    }
}

#[test]
fn a_browser_is_sent_to_the_form_and_a_program_is_told_of_the_token() {
    let fixture = keyed();
    let (status, head, _) = fixture.ask("GET /", BROWSER);
    assert!(status == 303 && head.contains("location: /sign-in"), "{head}");
    let (status, head, body) = fixture.ask("GET /sign-in", BROWSER);
    assert!(
        status == 200 && head.contains("form-action 'self'") && body.contains("type=\"password\""),
        "{body}"
    );
    assert_eq!(fixture.ask("GET /sign-in.css", BROWSER).0, 200);
    let (status, head, _) = fixture.ask("GET /metrics", "Host: relay.example:4001");
    assert!(status == 401 && head.contains("www-authenticate: Bearer"), "{head}");
}

#[test]
fn whoever_shows_the_token_sees_the_pages_until_it_signs_out() {
    let fixture = keyed();
    for wrong in [
        "token=0123456789abc-ef",
        "token=",
        "tok=0123456789abc%2Bef",
        &"x".repeat(ADMIN_SIGN_IN_BYTES_MAX + 1),
    ] {
        let (status, head, body) = fixture.post("/sign-in", OWN, wrong);
        assert!(status == 403 && body.contains("not the admin token"), "{wrong}: {head}");
        assert!(!head.contains("set-cookie"), "{head}");
    }
    let cookie = fixture.signed_in();
    for page in ["/", "/metrics", "/games.json", "/playground/style.css"] {
        assert_ne!(fixture.ask(&format!("GET {page}"), &format!("{OWN}\r\n{cookie}")).0, 401, "{page}");
    }
    let (status, _, body) = fixture.ask("GET /version", &format!("{BROWSER}\r\n{cookie}"));
    assert!(status == 200 && body.contains("1.2.3"), "{body}");
    let (_, _, body) = fixture.ask("GET /sign-in", &format!("{BROWSER}\r\n{cookie}"));
    assert!(body.contains("Sign out"), "{body}");
    let (status, head, _) = fixture.post("/sign-out", &format!("{OWN}\r\n{cookie}"), "");
    assert!(status == 303 && head.contains("Max-Age=0"), "{head}");
    let (status, _, _) = fixture.ask("GET /version", &format!("Host: x\r\n{cookie}"));
    assert_eq!(status, 401, "the session is over, whoever kept the cookie");
}

#[test]
fn a_stolen_cookie_is_of_no_use_to_pages_of_others() {
    let fixture = keyed();
    let cookie = fixture.signed_in();
    let host = "Host: relay.example:4001";
    for (from, reads, changes) in [
        ("Origin: https://evil.example", 403, 403),
        ("Origin: null", 403, 403),
        ("Sec-Fetch-Site: cross-site", 403, 403),
        ("Sec-Fetch-Site: same-site", 403, 403),
        ("Origin: https://relay.example:4000", 403, 403),
        // A browser says where what changes something comes from.
        ("X-Nothing: 1", 200, 403),
    ] {
        let headers = format!("{host}\r\n{from}\r\n{cookie}");
        assert_eq!(fixture.ask("GET /version", &headers).0, reads, "{from}");
        assert_eq!(fixture.post("/users/ann/disconnect", &headers, "").0, changes, "{from}");
    }
    let forged = format!("{host}\r\nCookie: corelay_admin={}", "0".repeat(64));
    assert_eq!(fixture.ask("GET /version", &forged).0, 401);
    for broken in ["corelay_admin=", "corelay_admin=zz", "corelay_admin", "=", ";;"] {
        assert_eq!(fixture.ask("GET /version", &format!("{host}\r\nCookie: {broken}")).0, 401, "{broken}");
    }
    let (status, head, _) = fixture.post(
        "/sign-in",
        &format!("{host}\r\nOrigin: https://evil.example"),
        "token=0123456789abc%2Bef",
    );
    assert!(status == 403 && !head.contains("set-cookie"), "nobody is signed in by a page of strangers");
}

#[test]
fn the_browser_that_signed_in_first_makes_room() {
    let fixture = keyed();
    let cookies: Vec<String> = (0..=ADMIN_SESSIONS_MAX).map(|_| fixture.signed_in()).collect();
    let status = |cookie: &String| fixture.ask("GET /version", &format!("Host: x\r\n{cookie}")).0;
    assert_eq!([&cookies[0], &cookies[1], &cookies[ADMIN_SESSIONS_MAX]].map(status), [401, 200, 200]);
}

#[test]
fn without_a_token_there_is_nothing_to_sign_in_to() {
    let fixture = serve_pages(Access::Loopback);
    let (status, head, _) = fixture.ask("GET /sign-in", "Host: localhost");
    assert!(status == 303 && head.contains("location: /"), "{head}");
}
