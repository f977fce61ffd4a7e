//! Signing in with a browser: whoever shows the admin token in a form gets a cookie that stands for it.
//!
//! The cookie names a session that this process keeps, so it says nothing of the token, and is worth nothing behind a sign-out or
//! a restart. It is `HttpOnly` and `SameSite=Strict`; `access` demands besides that its request comes from these pages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Router, extract::rejection::FormRejection};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Deserialize;
use tokio::time::Instant;

use super::access::{Access, same};
use super::{Pages, Shared};
use crate::limits::{ADMIN_SESSION_TIME, ADMIN_SESSIONS_MAX, ADMIN_SIGN_IN_BYTES_MAX, ADMIN_SIGN_IN_PAUSE};

/// Where a browser signs in and out; open to everybody.
pub(super) const PATH: &str = "/sign-in";
pub(super) const SIGN_OUT: &str = "/sign-out";
pub(super) const STYLE: &str = "/sign-in.css";

const COOKIE: &str = "corelay_admin";
const SESSION_BYTES: usize = 32;
const PAGE: &str = include_str!("sign_in/page.html");
/// In the page, what became of the last attempt.
const PLACE_OF_NEWS: &str = "{{news}}";
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Who is signed in, the longest of all in front.
#[derive(Default)]
pub struct Sessions(Mutex<VecDeque<Session>>);

struct Session {
    id: [u8; SESSION_BYTES],
    ends_at: Instant,
}

impl Sessions {
    /// A new session, as the value of a cookie; `None`: no random bytes are to be had.
    fn begin(&self) -> Option<String> {
        let mut id = [0; SESSION_BYTES];
        getrandom(&mut id, GetRandomFlags::empty()).ok().filter(|bytes| *bytes == SESSION_BYTES)?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.ends_at > Instant::now());
        while sessions.len() >= ADMIN_SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(Session { id, ends_at: Instant::now() + ADMIN_SESSION_TIME });
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether a request shows a session that has not ended.
    pub(super) fn has(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = cookie(headers) else { return false };
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().any(|session| session.ends_at > Instant::now() && same(&shown, &session.id))
    }

    fn end(&self, headers: &HeaderMap) {
        let Some(shown) = cookie(headers) else { return };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| !same(&shown, &session.id));
    }
}

/// The session that a request shows.
fn cookie(headers: &HeaderMap) -> Option<[u8; SESSION_BYTES]> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let text = pairs.into_iter().find_map(|(name, value)| (name == COOKIE).then_some(value))?;
    let digits = text.as_bytes().as_chunks::<2>().0;
    let bytes: Option<Vec<u8>> =
        digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[derive(Deserialize)]
struct Shown {
    token: String,
}

pub(super) fn router() -> Router<Arc<Pages>> {
    Router::new()
        .route(PATH, get(form).post(sign_in))
        .route(SIGN_OUT, get(form).post(sign_out))
        .route(STYLE, get(style))
        .layer(DefaultBodyLimit::max(ADMIN_SIGN_IN_BYTES_MAX))
}

/// Whether a request is a person's who opens a page with a browser.
pub(super) fn is_browser(request: &Request) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

async fn form(State(pages): Shared, headers: HeaderMap) -> Response {
    match &pages.admin.access {
        Access::Loopback => Redirect::to("/").into_response(),
        Access::Token { sessions, .. } if sessions.has(&headers) => page(
            StatusCode::OK,
            "<p>You are signed in. <a href=\"/\">To the playground</a></p>\
             <form method=\"post\" action=\"/sign-out\"><button>Sign out</button></form>",
        ),
        Access::Token { .. } => page(StatusCode::OK, ""),
    }
}

async fn sign_in(
    State(pages): Shared,
    headers: HeaderMap,
    form: Result<Form<Shown>, FormRejection>,
) -> Response {
    let Access::Token { token, sessions } = &pages.admin.access else {
        return Redirect::to("/").into_response();
    };
    let is_right = form.is_ok_and(|form| same(form.token.trim().as_bytes(), token));
    if !is_right {
        // Whoever guesses is slow, and may be one of few visitors at once.
        tokio::time::sleep(ADMIN_SIGN_IN_PAUSE).await;
        return page(StatusCode::FORBIDDEN, "<p class=\"wrong\">This is not the admin token.</p>");
    }
    let Some(session) = sessions.begin() else {
        return page(StatusCode::SERVICE_UNAVAILABLE, "<p class=\"wrong\">No random bytes; try again.</p>");
    };
    answer_with_cookie("/", &session, ADMIN_SESSION_TIME.as_secs(), &headers)
}

async fn sign_out(State(pages): Shared, headers: HeaderMap) -> Response {
    if let Access::Token { sessions, .. } = &pages.admin.access {
        sessions.end(&headers);
    }
    answer_with_cookie(PATH, "", 0, &headers)
}

fn answer_with_cookie(to: &str, session: &str, seconds: u64, headers: &HeaderMap) -> Response {
    // The browser says how it got here; behind a proxy that ends TLS this listener does not know.
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let secure = if origin.is_some_and(|origin| origin.starts_with("https://")) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
}

fn page(status: StatusCode, news: &str) -> Response {
    let headers =
        [(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY), (header::CACHE_CONTROL, "no-store")];
    (status, headers, Html(PAGE.replace(PLACE_OF_NEWS, news))).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("sign_in/style.css")).into_response()
}
