//! HTTP/1.1 request head to an upgrade or a refusal.

mod head;
mod origin;
pub mod query;
mod refusal;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::ids::{ResumeToken, TopicName};
use crate::limits::{NAME_BYTES_MAX, USER_ID_BYTES_MAX};
use crate::reasons::RefusalReason;
use crate::wire::phoenix::Serializer;
use head::Head;
pub use origin::pattern::{HostPattern, Misspelt, OriginPattern};
use query::Query;
pub use refusal::Refusal;
use refusal::{bad_request, refuse};

/// What the relay is configured to accept.
#[derive(Clone, Debug, Default)]
pub struct UpgradeRules {
    /// Empty: the request's own host only.
    pub allowed_origins: Vec<OriginPattern>,
    /// Development mode: loopback origins, and the own host on any port, are allowed as well.
    pub development: bool,
    /// `GET /echo` exists.
    pub echo: bool,
}

/// Where a request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/play/{game}`.
    Play {
        /// The game.
        game: TopicName,
        /// As the client says.
        who: Who,
        /// `resume=`: the seat to take again.
        resume: Option<ResumeToken>,
        /// `seq=`: last event seen.
        seq: Option<u64>,
        /// `layout=1`: it understands layouts other than the plain one.
        layout: bool,
        /// `ack=1`: it wants to be told which of its inputs were used.
        ack: bool,
    },
    /// `/socket/websocket`: Phoenix Channels.
    Socket {
        /// `vsn=`.
        serializer: Serializer,
        /// As the client says.
        who: Who,
    },
    /// `/echo`.
    Echo,
}

/// How a client calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// `user=`: the user id of a guest. With a key it says nothing: there tokens say who somebody is.
    pub user: Option<Box<str>>,
    /// `name=`: display name.
    pub name: Option<Box<str>>,
}

/// A request that may be upgraded, once its token is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// What the client wants to reach.
    pub route: Route,
    /// The token: from the subprotocol list, else from the query.
    pub token: Option<Box<str>>,
    /// Value of `Sec-WebSocket-Accept`.
    pub accept_key: Box<str>,
    /// Subprotocol to echo.
    pub subprotocol: Option<&'static str>,
}

/// Reads the request head at the start of `received`: the upgrade it asks for, and how many bytes it is long. What follows
/// are the first frames.
///
/// `Ok(None)`: the head is not complete; call again with more bytes behind it. Bytes that cannot become a request head, and a
/// head longer than `limits::REQUEST_HEAD_BYTES_MAX`, are refused as soon as they show it.
pub fn parse(received: &[u8], rules: &UpgradeRules) -> Result<Option<(Upgrade, usize)>, Refusal> {
    let Some(head) = head::parse(received)? else { return Ok(None) };
    let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
    let endpoint = find_endpoint(path, rules)?;
    if head.method != "GET" {
        return refuse(RefusalReason::Method, "a WebSocket is opened with GET");
    }
    check_upgrade_asked_for(&head)?;
    let accept_key = accept_key(&head)?;
    check_origin(&head, rules)?;

    let query = Query::new(query);
    let route = match endpoint {
        Endpoint::Play(game) => play(game, &query)?,
        Endpoint::Socket => Route::Socket { serializer: serializer(&query)?, who: who(&query)? },
        Endpoint::Echo => Route::Echo,
    };
    let spoken = match route {
        Route::Play { .. } => Some(SUBPROTOCOL),
        Route::Socket { .. } => Some(PHOENIX_SUBPROTOCOL),
        Route::Echo => None,
    };
    let subprotocol =
        spoken.filter(|spoken| head.list("Sec-WebSocket-Protocol").any(|offered| offered == *spoken));
    let token = match token_in_subprotocols(&head)? {
        Some(token) => Some(token),
        None => first(&query, "token")?.map(Box::from),
    };
    Ok(Some((Upgrade { route, token, accept_key, subprotocol }, head.bytes)))
}

impl Upgrade {
    /// The 101 response.
    pub fn response(&self) -> Vec<u8> {
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept_key
        );
        if let Some(subprotocol) = self.subprotocol {
            response.push_str("Sec-WebSocket-Protocol: ");
            response.push_str(subprotocol);
            response.push_str("\r\n");
        }
        response.push_str("\r\n");
        response.into_bytes()
    }
}

/// The subprotocol of the native dialect.
const SUBPROTOCOL: &str = "corelay.v1";
/// The subprotocol of Phoenix Channels.
const PHOENIX_SUBPROTOCOL: &str = "phoenix";
/// Subprotocols that start so carry a token (phoenix.js 1.8 `authToken`).
const TOKEN_SUBPROTOCOL_PREFIX: &str = "base64url.bearer.phx.";

enum Endpoint<'a> {
    Play(&'a str),
    Socket,
    Echo,
}

fn find_endpoint<'a>(path: &'a str, rules: &UpgradeRules) -> Result<Endpoint<'a>, Refusal> {
    if !path.starts_with('/') {
        return Err(bad_request("the request target is not a path; send it as in `GET /play/{game}`"));
    }
    if let Some(game) = path.strip_prefix("/play/") {
        return Ok(Endpoint::Play(game));
    }
    match path {
        "/echo" if rules.echo => Ok(Endpoint::Echo),
        "/socket/websocket" => Ok(Endpoint::Socket),
        "/socket/longpoll" => refuse(
            RefusalReason::NotFound,
            "long polling is not spoken; Phoenix Channels is at /socket/websocket",
        ),
        _ => refuse(
            RefusalReason::NotFound,
            "nothing is here; games are at /play/{game}, Phoenix Channels at /socket/websocket",
        ),
    }
}

fn check_upgrade_asked_for(head: &Head<'_>) -> Result<(), Refusal> {
    let lists = |header, token: &str| head.list(header).any(|listed| listed.eq_ignore_ascii_case(token));
    if !lists("Connection", "upgrade") || !lists("Upgrade", "websocket") {
        return refuse(
            RefusalReason::UpgradeRequired,
            "this is a WebSocket endpoint; send `Connection: Upgrade` and `Upgrade: websocket`",
        );
    }
    if head.single("Sec-WebSocket-Version")? != Some("13") {
        return refuse(RefusalReason::UpgradeRequired, "the WebSocket version spoken here is 13 (RFC 6455)");
    }
    Ok(())
}

fn accept_key(head: &Head<'_>) -> Result<Box<str>, Refusal> {
    let key = head.single("Sec-WebSocket-Key")?.filter(|key| is_16_bytes_in_base64(key));
    let Some(key) = key else {
        return Err(bad_request("`Sec-WebSocket-Key` must be 16 bytes in base64"));
    };
    Ok(tungstenite::handshake::derive_accept_key(key.as_bytes()).into())
}

/// 22 digits and the padding. The last digit has four bits too many, which may be anything: nobody decodes a key.
fn is_16_bytes_in_base64(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.strip_suffix("==").is_some_and(|digits| digits.len() == 22 && digits.bytes().all(is_digit))
}

fn check_origin(head: &Head<'_>, rules: &UpgradeRules) -> Result<(), Refusal> {
    let Some(origin) = head.single("Origin")? else { return Ok(()) };
    if origin::is_allowed(origin, head.host, rules) {
        return Ok(());
    }
    refuse(RefusalReason::Origin, origin::refusal_text(origin, rules))
}

/// The first value of a parameter.
fn first(query: &Query<'_>, key: &str) -> Result<Option<String>, Refusal> {
    query.first(key).map_err(bad_request)
}

fn play(game: &str, query: &Query<'_>) -> Result<Route, Refusal> {
    let game = query::percent_decode(game).ok().and_then(|game| TopicName::parse(&game));
    let Some(game) = game else {
        return Err(bad_request("a game's name is 1 to 64 characters of `A-Z a-z 0-9 _ - .`"));
    };
    let resume = first(query, "resume")?.map(|text| {
        ResumeToken::from_hex(&text)
            .ok_or_else(|| bad_request("`resume` must be the 32 lower-case hex digits of a resume token"))
    });
    let seq = first(query, "seq")?.map(|text| {
        let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
        let seq = if digits_only { text.parse().ok() } else { None };
        seq.ok_or_else(|| bad_request("`seq` must be a decimal number below 2^64"))
    });
    let (layout, ack) = (is_one(query, "layout")?, is_one(query, "ack")?);
    let (resume, seq) = (resume.transpose()?, seq.transpose()?);
    Ok(Route::Play { game, who: who(query)?, resume, seq, layout, ack })
}

/// A parameter that is 1, or absent.
fn is_one(query: &Query<'_>, key: &str) -> Result<bool, Refusal> {
    match first(query, key)?.as_deref() {
        None => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(bad_request(format!("`{key}` must be 1, or be left out"))),
    }
}

fn who(query: &Query<'_>) -> Result<Who, Refusal> {
    let shown = |key: &str, bytes_max: usize| {
        let text = first(query, key)?;
        if text.as_ref().is_some_and(|text| text.contains(char::is_control)) {
            return Err(bad_request(format!(
                "`{key}` holds a control character; it is shown to other players"
            )));
        }
        if text.as_ref().is_some_and(|text| text.len() > bytes_max) {
            return Err(bad_request(format!("`{key}` is longer than {bytes_max} bytes of UTF-8")));
        }
        Ok(text.map(Box::from))
    };
    Ok(Who { user: shown("user", USER_ID_BYTES_MAX)?, name: shown("name", NAME_BYTES_MAX)? })
}

/// `vsn`: `~> 2.0.0` or `~> 1.0.0` as Phoenix reads it, so the last number may be any; without it 1.0.0.
fn serializer(query: &Query<'_>) -> Result<Serializer, Refusal> {
    let version = first(query, "vsn")?;
    let version = version.as_deref().unwrap_or("1.0.0");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match version.split('.').collect::<Vec<_>>()[..] {
        ["2", "0", patch] if is_number(patch) => Ok(Serializer::V2),
        ["1", "0", patch] if is_number(patch) => Ok(Serializer::V1),
        _ => refuse(RefusalReason::Version, "`vsn` must be 2.0.0 or 1.0.0"),
    }
}

fn token_in_subprotocols(head: &Head<'_>) -> Result<Option<Box<str>>, Refusal> {
    let mut encoded_tokens = head
        .list("Sec-WebSocket-Protocol")
        .filter_map(|offered| offered.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX));
    let Some(encoded) = encoded_tokens.next() else { return Ok(None) };
    if encoded_tokens.next().is_some() {
        return refuse(RefusalReason::Token, "more than one subprotocol carries a token; offer one");
    }
    // phoenix.js writes the standard alphabet, others the one for URLs.
    let standard = encoded.replace('-', "+").replace('_', "/");
    let token = STANDARD_NO_PAD.decode(standard).ok();
    match token.and_then(|token| String::from_utf8(token).ok()) {
        Some(token) => Ok(Some(token.into())),
        None => refuse(
            RefusalReason::Token,
            "the token behind `base64url.bearer.phx.` must be unpadded base64 of the token's text",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};

    const HEADERS: &str = "Host: relay.example:4000\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn rules() -> UpgradeRules {
        UpgradeRules { echo: true, ..UpgradeRules::default() }
    }

    fn parse_text(text: &str) -> Result<Upgrade, Refusal> {
        let upgrade = parse(text.as_bytes(), &rules())?;
        let (upgrade, bytes) = upgrade.expect("the head is complete");
        assert_eq!(bytes, text.len());
        Ok(upgrade)
    }

    fn get(target: &str, more_headers: &str) -> Result<Upgrade, Refusal> {
        parse_text(&format!("GET {target} HTTP/1.1\r\n{HEADERS}{more_headers}\r\n"))
    }

    /// The usual request with one thing replaced.
    fn get_with(from: &str, to: &str) -> Result<Upgrade, Refusal> {
        let text = format!("GET /play/arena HTTP/1.1\r\n{HEADERS}\r\n");
        assert!(text.contains(from), "{from}");
        parse_text(&text.replacen(from, to, 1))
    }

    #[track_caller]
    fn assert_refused(result: Result<Upgrade, Refusal>, reason: RefusalReason, text: &str) {
        let refusal = result.expect_err("it must be refused");
        assert_eq!(refusal.reason, reason, "{}", refusal.text);
        assert!(refusal.text.contains(text), "{:?} does not say {text:?}", refusal.text);
    }

    #[test]
    fn a_play_request_is_read() {
        let resume = "00112233445566778899aabbccddeeff";
        let upgrade = get(
            &format!(
                "/play/arena-1.b_C?token=T&name=J%C3%B6+&resume={resume}&seq=42&name=x&user=u%2F1&layout=1"
            ),
            "",
        )
        .unwrap();
        let route = Route::Play {
            game: TopicName::parse("arena-1.b_C").unwrap(),
            who: Who { user: Some("u/1".into()), name: Some("Jö ".into()) },
            resume: ResumeToken::from_hex(resume),
            seq: Some(42),
            layout: true,
            ack: false,
        };
        assert_eq!(upgrade.route, route);
        assert_eq!(upgrade.token.as_deref(), Some("T"));
        assert_eq!(upgrade.subprotocol, None);
        assert_eq!(
            String::from_utf8(upgrade.response()).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
    }

    #[test]
    fn a_parameter_that_nobody_reads_may_be_anything() {
        for target in ["/play/a?x=%zz&name=Ann", "/play/a?%zz=1&name=Ann", "/play/a?name=Ann&vsn=%"] {
            let Route::Play { who, .. } = get(target, "").unwrap().route else { panic!("{target}") };
            assert_eq!(who.name.as_deref(), Some("Ann"), "{target}");
        }
        assert!(get("/socket/websocket?seq=%zz&resume=%C3", "").is_ok());
        for target in
            ["/play/a?name=%zz", "/play/a?token=%zz", "/play/a?seq=%zz", "/socket/websocket?vsn=%zz"]
        {
            assert_refused(get(target, ""), RefusalReason::BadRequest, "%");
        }
    }

    #[test]
    fn a_socket_request_names_its_serializer() {
        for (query, serializer) in [
            ("?vsn=2.0.0", Serializer::V2),
            ("?token=a%20b&vsn=2.0.7", Serializer::V2),
            ("?vsn=1.0.0", Serializer::V1),
            ("?vsn=", Serializer::V1),
            ("", Serializer::V1),
        ] {
            let upgrade =
                get(&format!("/socket/websocket{query}"), "Sec-WebSocket-Protocol: phoenix\r\n").unwrap();
            assert_eq!(upgrade.route, Route::Socket { serializer, who: Who::default() }, "{query}");
            assert_eq!(upgrade.subprotocol, Some("phoenix"));
        }
        for version in ["3.0.0", "2.1.0", "2.0", "2.0.x", "1.1.0", "2.0.0.0"] {
            let refused = get(&format!("/socket/websocket?vsn={version}"), "");
            assert_refused(refused, RefusalReason::Version, "`vsn`");
        }
        assert_refused(get("/socket/websocket?name=%07", ""), RefusalReason::BadRequest, "`name`");
        let long = format!("/play/a?user={}", "u".repeat(129));
        assert_refused(get(&long, ""), RefusalReason::BadRequest, "`user` is longer than 128 bytes");
    }

    #[test]
    fn empty_parameters_are_absent() {
        let upgrade = get("/play/arena?token=&name=&user=&resume=&seq=", "").unwrap();
        let game = TopicName::parse("arena").unwrap();
        assert_eq!(
            upgrade.route,
            Route::Play { game, who: Who::default(), resume: None, seq: None, layout: false, ack: false }
        );
        assert_eq!(upgrade.token, None);
    }

    #[test]
    fn the_head_may_come_in_any_pieces_and_frames_may_follow() {
        let head = format!("GET /echo HTTP/1.1\r\n{HEADERS}\r\n");
        for end in 0..head.len() {
            assert_eq!(parse(&head.as_bytes()[..end], &rules()), Ok(None), "{end} bytes");
        }
        let mut with_frame = head.clone().into_bytes();
        with_frame.extend_from_slice(b"\x82\x80\n\n\n\n");
        with_frame.resize(2 * REQUEST_HEAD_BYTES_MAX, b'\n');
        let (upgrade, bytes) = parse(&with_frame, &rules()).unwrap().unwrap();
        assert_eq!((upgrade.route, bytes), (Route::Echo, head.len()));
    }

    #[test]
    fn parameters_that_are_wrong_are_named() {
        use RefusalReason::BadRequest;
        assert_refused(get(&format!("/play/a?name={}", "x".repeat(65)), ""), BadRequest, "`name`");
        assert!(get(&format!("/play/a?name={}", "x".repeat(64)), "").is_ok());
        for resume in ["0", "00112233445566778899AABBCCDDEEFF", "00112233445566778899aabbccddeeff00"] {
            assert_refused(get(&format!("/play/a?resume={resume}"), ""), BadRequest, "`resume`");
        }
        for seq in ["-1", "%2B1", "x", "18446744073709551616"] {
            assert_refused(get(&format!("/play/a?seq={seq}"), ""), BadRequest, "`seq`");
        }
        assert_refused(get("/play/a?name=%zz", ""), BadRequest, "hex digits");
        assert_refused(get("/play/a?name=%FF", ""), BadRequest, "UTF-8");
        for game in ["", "a/b", "a%20b", "%C3%A4", &"x".repeat(65)] {
            assert_refused(get(&format!("/play/{game}"), ""), BadRequest, "A-Z a-z 0-9 _ - .");
        }
        assert!(get("/play/%61%2D1", "").is_ok());
    }

    #[test]
    fn a_token_in_the_subprotocols_comes_before_the_query() {
        // "a.b?c>d" in both alphabets.
        for encoded in ["YS5iP2M+ZA", "YS5iP2M-ZA"] {
            let header =
                format!("Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.{encoded},corelay.v1\r\n");
            let upgrade = get("/play/arena?token=other", &header).unwrap();
            assert_eq!(upgrade.token.as_deref(), Some("a.b?c>d"));
            assert_eq!(upgrade.subprotocol, Some("corelay.v1"));
            assert!(
                String::from_utf8(upgrade.response())
                    .unwrap()
                    .contains("\r\nSec-WebSocket-Protocol: corelay.v1\r\n")
            );
        }
        for bad in ["YQ==", "Y", "!!!!", "_w"] {
            let header = format!("Sec-WebSocket-Protocol: base64url.bearer.phx.{bad}\r\n");
            assert_refused(get("/play/arena?token=other", &header), RefusalReason::Token, "base64");
        }
        let twice = "Sec-WebSocket-Protocol: base64url.bearer.phx.YQ\r\n".repeat(2);
        assert_refused(get("/play/arena", &twice), RefusalReason::Token, "more than one");
        let on_echo = get("/echo", "Sec-WebSocket-Protocol: corelay.v1\r\n").unwrap();
        assert_eq!(on_echo.subprotocol, None);
    }

    #[test]
    fn paths_and_methods() {
        for path in ["/", "/play", "/Play/a", "/echo/", "/metrics"] {
            assert_refused(get(path, ""), RefusalReason::NotFound, "/play/{game}");
        }
        assert_refused(get("/socket/longpoll", ""), RefusalReason::NotFound, "long polling");
        for target in ["http://relay.example/play/a", "*", "relay.example:80"] {
            assert_refused(get(target, ""), RefusalReason::BadRequest, "not a path");
        }
        for method in ["POST", "HEAD", "get", "CONNECT"] {
            let refused = get_with("GET", method);
            assert_refused(refused, RefusalReason::Method, "GET");
        }
        let echo = format!("GET /echo HTTP/1.1\r\n{HEADERS}\r\n");
        let refused = parse(echo.as_bytes(), &UpgradeRules::default());
        assert_eq!(refused.unwrap_err().reason, RefusalReason::NotFound);
    }

    #[test]
    fn an_upgrade_must_be_asked_for() {
        use RefusalReason::UpgradeRequired;
        assert_refused(get_with("Upgrade: websocket\r\n", ""), UpgradeRequired, "Upgrade: websocket");
        assert_refused(get_with("Upgrade: websocket", "Upgrade: h2c"), UpgradeRequired, "Upgrade: websocket");
        assert_refused(get_with(", Upgrade", ", upgraded"), UpgradeRequired, "Connection: Upgrade");
        assert!(get_with(", Upgrade", "\r\nconnection: UPGRADE").is_ok());
        assert!(get_with("Upgrade: websocket", "upgrade: h2c,WebSocket").is_ok());
        assert_refused(get_with("Version: 13", "Version: 8"), UpgradeRequired, "13");
        assert_refused(get_with("Sec-WebSocket-Version: 13\r\n", ""), UpgradeRequired, "13");
    }

    #[test]
    fn a_key_is_16_bytes_in_base64_and_comes_once() {
        use RefusalReason::BadRequest;
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        for bad in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "d_hlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_refused(get_with(key, bad), BadRequest, "Sec-WebSocket-Key");
        }
        assert_refused(
            get_with(&format!("Sec-WebSocket-Key: {key}\r\n"), ""),
            BadRequest,
            "Sec-WebSocket-Key",
        );
        let twice = format!("Sec-WebSocket-Key: {key}\r\n");
        assert_refused(get("/play/a", &twice), BadRequest, "more than once");
    }

    #[test]
    fn heads_that_are_not_http_1_1_are_refused() {
        use RefusalReason::BadRequest;
        for (from, to, text) in [
            ("HTTP/1.1", "HTTP/1.0", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2.0", "HTTP/1.1"),
            ("Host: relay.example:4000\r\n", "", "`Host`"),
            ("Host: relay.example:4000\r\n", "Host: a\r\nHost: a\r\n", "`Host`"),
            ("Upgrade: w", "Content-Length: 1\r\nUpgrade: w", "body"),
            ("Upgrade: w", "Content-Length: 0\r\nContent-Length: 0\r\nUpgrade: w", "Content-Length"),
            ("Upgrade: w", "Transfer-Encoding: identity\r\nUpgrade: w", "body"),
            ("Upgrade: w", " folded\r\nUpgrade: w", "folded"),
            ("Upgrade: w", "Upgrade : w", "space"),
            ("Upgrade: w", "Upgrade\0: w", "header line"),
            ("Upgrade: w", "Upgrade: \0w", "control character"),
            ("websocket\r\n", "websocket\n", "LF"),
            ("websocket\r\n", "websocket\rX: y\r\n", "control character"),
            ("HTTP/1.1\r\n", "HTTP/1.1\n", "LF"),
            ("GET", "\nGET", "LF"),
            ("GET ", "G\0T ", "not HTTP"),
        ] {
            assert_refused(get_with(from, to), BadRequest, text);
        }
        assert!(get_with("Upgrade: w", "Content-Length: 0\r\nUpgrade: w").is_ok());
    }

    #[test]
    fn what_cannot_become_http_is_refused_at_once() {
        let refusal = |bytes: &[u8]| parse(bytes, &rules()).expect_err("it must be refused");
        assert!(refusal(&[0x16]).text.contains("TLS"));
        assert!(refusal(&[0x16, 3, 1, 2, 0, 1, 0]).text.contains("TLS"));
        assert!(refusal(&[0x82, 0x80, 1, 2, 3, 4]).text.contains("not HTTP"));
        assert_eq!(refusal(b"\0").reason, RefusalReason::BadRequest);
        assert_eq!(refusal(b"GET / HTTP/1.1\n").reason, RefusalReason::BadRequest);
    }

    #[test]
    fn a_head_has_a_length_and_a_number_of_headers() {
        let pad = |bytes: usize| {
            let start = format!("GET /echo HTTP/1.1\r\n{HEADERS}X: ");
            let fill = "x".repeat(bytes - start.len() - 4);
            format!("{start}{fill}\r\n\r\n")
        };
        assert!(parse_text(&pad(REQUEST_HEAD_BYTES_MAX)).is_ok());
        assert_refused(parse_text(&pad(REQUEST_HEAD_BYTES_MAX + 1)), RefusalReason::HeadTooLarge, "8192");
        let incomplete = pad(3 * REQUEST_HEAD_BYTES_MAX);
        let verdict = parse(&incomplete.as_bytes()[..REQUEST_HEAD_BYTES_MAX], &rules());
        assert_eq!(verdict.unwrap_err().reason, RefusalReason::HeadTooLarge);

        assert!(get("/echo", &"X: y\r\n".repeat(REQUEST_HEADERS_MAX - 5)).is_ok());
        let too_many = get("/echo", &"X: y\r\n".repeat(REQUEST_HEADERS_MAX - 4));
        assert_refused(too_many, RefusalReason::HeadTooLarge, "64 header lines");
    }

    #[test]
    fn foreign_pages_are_refused() {
        assert!(get("/play/a", "Origin: http://relay.example:4000\r\n").is_ok());
        for origin in ["http://evil.example", "null"] {
            let refused = get("/play/a", &format!("Origin: {origin}\r\n"));
            assert_refused(refused, RefusalReason::Origin, origin);
        }
    }
}
