//! Who may use the admin pages: whoever shows the token, or has signed in with it (`sign_in`); if there is none, programs on this machine, but no web page of
//! strangers.
//!
//! A browser on this machine runs pages of strangers. Such a page could reach a loopback listener under a name of its own that
//! it lets point to 127.0.0.1 (DNS rebinding), hence the rule about `Host`; and it could send a form here, hence the rule about
//! `Origin`.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::sign_in::{self, Sessions};

/// What a request must show.
#[derive(Clone)]
pub enum Access {
    /// It must show this token, or be of a browser that has signed in.
    Token {
        /// The token.
        token: Arc<[u8]>,
        /// Browsers that have shown it.
        sessions: Arc<Sessions>,
    },
    /// It need show nothing, because only this machine can connect.
    Loopback,
}

/// Pages for load balancers and process supervisors, which say no more than one word, and where a browser signs in. They are open
/// to everybody.
const OPEN: [&str; 5] = ["/livez", "/readyz", sign_in::PATH, sign_in::SIGN_OUT, sign_in::STYLE];

impl Access {
    /// With a token it is demanded; without one the listener must be on a loopback address.
    pub fn new(token: Option<&[u8]>) -> Self {
        token.map_or(Self::Loopback, |token| Self::Token { token: token.into(), sessions: Arc::default() })
    }

    /// Why a request is refused; `None`: it is not.
    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let (headers, is_open) = (request.headers(), OPEN.contains(&request.uri().path()));
        let changes = ![Method::GET, Method::HEAD].contains(request.method());
        match self {
            // Also to sign in: nobody is to be signed in by a page of strangers.
            Self::Token { .. } if is_open => (changes && !is_own_page(request)).then_some(Refusal::Origin),
            Self::Loopback if is_open => None,
            Self::Token { token, sessions } => match bearer(headers) {
                Some(shown) if same(shown, token) => None,
                Some(_) => Some(Refusal::WrongToken),
                // A browser sends the cookie whatever page asks; only its own may.
                None if sessions.has(headers) => (!is_own_page(request)).then_some(Refusal::Origin),
                None if !changes && sign_in::is_browser(request) => Some(Refusal::SignIn),
                None => Some(Refusal::NoToken),
            },
            Self::Loopback => {
                let Some(host) = host(request).filter(|host| is_loopback(host)) else {
                    return Some(Refusal::Host);
                };
                (changes && !is_own_origin(headers, host)).then_some(Refusal::Origin)
            }
        }
    }
}

/// Checks each request before any page sees it.
pub(super) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    WrongToken,
    SignIn,
    Host,
    Origin,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let bearer = |challenge: &'static str, text: &'static str| {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], text).into_response()
        };
        // RFC 6750 section 3: no error code for whoever did not know that a token is needed.
        match self {
            Self::NoToken => bearer(
                "Bearer realm=\"corelay admin\"",
                "the admin token is needed: Authorization: Bearer <token>\n",
            ),
            Self::WrongToken => bearer(
                "Bearer realm=\"corelay admin\", error=\"invalid_token\"",
                "this is not the admin token\n",
            ),
            Self::SignIn => Redirect::to(sign_in::PATH).into_response(),
            Self::Host => (
                StatusCode::FORBIDDEN,
                "without an admin token these pages answer under localhost, 127.0.0.1 and [::1] only\n",
            )
                .into_response(),
            Self::Origin => {
                (StatusCode::FORBIDDEN, "web pages of other origins may do nothing here\n").into_response()
            }
        }
    }
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Compares in constant time, so that nobody can guess a token byte by byte. Its length is no secret.
pub(super) fn same(shown: &[u8], token: &[u8]) -> bool {
    if shown.len() != token.len() {
        return false;
    }
    let pairs = shown.iter().zip(token);
    pairs.fold(0, |difference, (a, b)| black_box(difference | (a ^ b))) == 0
}

/// The host, with the port, that the client wanted to reach: `Host`, or that of an absolute target (RFC 9112 section 3.2.2).
fn host(request: &Request) -> Option<&str> {
    let target = request.uri().authority().map(|authority| authority.as_str());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let header = first.filter(|_| second.is_none()).and_then(|host| host.to_str().ok());
    target.or(header)
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, each with or without a port.
fn is_loopback(host: &str) -> bool {
    let has_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if has_port(port) && !name.ends_with(':') => name,
        Some(_) | None => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = inner.unwrap_or(name).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a request that a browser makes comes from these pages, or from whoever typed their address. What changes something
/// must say so; how the browser got here, with TLS or without, a listener behind a proxy does not know.
fn is_own_page(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site");
    if site.is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return false;
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter().peekable();
    let has_origin = origins.peek().is_some();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        origin.zip(host(request)).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    };
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    origins.all(is_own) && (reads || has_origin || site == Some("same-origin"))
}

/// Programs send no `Origin`; browsers do, and it must be that of this listener's own pages.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let own =
        |origin: &str| origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(own))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_token_is_demanded_of_everybody_but_health_checks() {
        let access = Access::new(Some(TOKEN.as_bytes()));
        let ask = |path, value: &str| {
            access.refusal(&request("GET", path, &[("authorization", value), ("host", "evil.example")]))
        };
        assert_eq!(ask("/metrics", "Bearer 0123456789abcdef"), None);
        assert_eq!(ask("/metrics", "bearer 0123456789abcdef"), None, "schemes have no case");
        for wrong in
            ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer "]
        {
            assert_eq!(ask("/metrics", wrong), Some(Refusal::WrongToken), "{wrong}");
        }
        for none in ["Basic 0123456789abcdef", "Bearer", "", TOKEN] {
            assert_eq!(ask("/metrics", none), Some(Refusal::NoToken), "{none}");
        }
        assert_eq!(ask("/nowhere", "Bearer x"), Some(Refusal::WrongToken), "what exists is not told either");
        assert_eq!((ask("/livez", ""), ask("/readyz", "")), (None, None));
        assert_eq!(ask("/livez/", ""), Some(Refusal::NoToken));
        assert_eq!(access.refusal(&request("GET", "/", &[])), Some(Refusal::NoToken));
    }

    #[test]
    fn without_a_token_the_host_is_this_machine() {
        for own in [
            "localhost",
            "LOCALHOST:4001",
            "127.0.0.1",
            "127.0.0.1:4001",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:4001",
            "[::ffff:127.0.0.1]:4001",
        ] {
            let asked = request("GET", "/metrics", &[("host", own)]);
            assert_eq!(Access::Loopback.refusal(&asked), None, "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:4001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:4001",
            "localhost:",
            "localhost:4001:1",
            "127.1",
            "",
            "0.0.0.0:4001",
        ] {
            let asked = request("GET", "/metrics", &[("host", other)]);
            assert_eq!(Access::Loopback.refusal(&asked), Some(Refusal::Host), "{other}");
        }
        assert_eq!(Access::Loopback.refusal(&request("GET", "/metrics", &[])), Some(Refusal::Host));
        let two = request("GET", "/metrics", &[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(Access::Loopback.refusal(&two), Some(Refusal::Host));
        let absolute = request("GET", "http://evil.example/metrics", &[("host", "localhost")]);
        assert_eq!(Access::Loopback.refusal(&absolute), Some(Refusal::Host));
        assert_eq!(Access::Loopback.refusal(&request("GET", "/readyz", &[("host", "probe")])), None);
    }

    #[test]
    fn pages_of_others_change_nothing() {
        let post = |origin: &str| {
            let headers = [("host", "localhost:4001"), ("origin", origin)];
            Access::Loopback.refusal(&request("POST", "/users/ann/disconnect", &headers))
        };
        assert_eq!(post("http://localhost:4001"), None);
        for other in ["http://evil.example", "null", "http://localhost:9999", "https://localhost:4001", ""] {
            assert_eq!(post(other), Some(Refusal::Origin), "{other}");
        }
        let program = request("POST", "/users/ann/disconnect", &[("host", "localhost:4001")]);
        assert_eq!(Access::Loopback.refusal(&program), None);
    }
}
