//! What operators use: `/livez`, `/readyz`, `/version`, `/metrics`, an order to kick a user, documents, and a playground at `/`, over
//! plain HTTP on an address of its own.
//!
//! The pages read what the shards publish in their metrics, and ask them questions. Questions are bounded in number, and a shard
//! answers them in parts of a turn, so nothing that a visitor does here can slow a game down. `access` says who may visit.

pub mod access;
pub mod certificates;
pub mod documents;
pub mod export;
mod games;
mod kick;
pub mod metrics;
mod playground;
mod process;
pub mod sign_in;
mod visitors;

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::limits::REFUSAL_RETRY_AFTER;
use crate::metrics::{ShardMetrics, StoreMetrics};
use crate::service::{Busy, ReadClock, ServiceHandle};
use crate::time::Instant;
use access::Access;
use certificates::Certificates;
use documents::Documents;
use export::Exports;
use metrics::RelayCollector;

/// A shard whose loop has not turned for this long counts as dead.
const LOOP_SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long after a loop seemed dead it is looked at a second time.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

/// What the process does at present; `server` sets it, `/readyz` reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every shard's loop runs yet.
    Starting,
    /// Players may come.
    Ready,
    /// Players are sent away.
    Draining,
}

/// The phase, shared between threads.
#[derive(Debug, Default)]
pub struct PhaseCell(AtomicU8);

impl PhaseCell {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// What the process is, for `/version` and `corelay_build_info`.
#[derive(Clone, Debug)]
pub struct About {
    /// The version of the relay.
    pub version: &'static str,
    /// Release of the running kernel.
    pub kernel: String,
    /// What the shards run on: `io_uring` or `epoll`.
    pub driver: &'static str,
    /// When the process started, in seconds since 1970.
    pub started_at_unix_s: f64,
}

/// What the pages show, and what they need for it.
pub struct Admin {
    /// One per shard, in order.
    pub shards: Vec<Arc<ShardMetrics>>,
    /// The metrics of the store's thread.
    pub store: Arc<StoreMetrics>,
    /// What the process does at present.
    pub phase: Arc<PhaseCell>,
    /// Versions and the start time.
    pub about: About,
    /// Where players connect.
    pub relay: SocketAddr,
    /// Where they connect by TLS.
    pub relay_tls: Option<SocketAddr>,
    /// Whether everybody is a guest.
    pub is_development: bool,
    /// The certificates of `listen_tls`.
    pub certificates: Certificates,
    /// The clock by which the shards' loops say when they turned.
    pub clock: ReadClock,
    /// Who may see the pages.
    pub access: Access,
    /// The way to ask the shards.
    pub service: ServiceHandle,
    /// The way to read the store, …
    pub exports: Exports,
    /// … also for one document.
    pub documents: Documents,
}

/// Answers requests for ever, in any tokio runtime.
pub async fn serve(listener: TcpListener, admin: Admin) -> Infallible {
    let clock = admin.clock.clone();
    visitors::receive(listener, router(admin), &*clock).await
}

struct Pages {
    admin: Admin,
    registry: Registry,
}

type Shared = State<Arc<Pages>>;

fn router(admin: Admin) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(RelayCollector::new(&admin)));
    let access = admin.access.clone();
    Router::new()
        .route("/help", get(help))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .route("/metrics", get(prometheus))
        .route("/games.json", get(games::games))
        .route("/export", get(export::export))
        .route("/docs/{id}", get(documents::show).put(documents::make))
        .route("/users/{id}/disconnect", post(kick::disconnect))
        .merge(playground::router())
        .merge(sign_in::router())
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        // After all routes and the fallback, so that it is checked before each of them.
        .layer(middleware::from_fn_with_state(access, access::check))
        .with_state(Arc::new(Pages { admin, registry }))
}

const HELP: &str = concat!(
    "corelay ",
    env!("CARGO_PKG_VERSION"),
    "\n\n\
     GET  /                       a playground: join a game in the browser\n\
     GET  /sign-in                a form for the admin token, where there is one: a browser gets a cookie; POST /sign-out ends it\n\
     GET  /livez                  200 while every shard's loop turns, else 503 and which one does not\n\
     GET  /readyz                 200 while players may come, 503 while starting or draining, or while the store hangs\n\
     GET  /version                version, kernel, driver, number of shards (JSON)\n\
     GET  /metrics                for Prometheus (OpenMetrics text)\n\
     GET  /games.json             the games that run, those with most players first (JSON)\n\
     GET  /export                 what is said in rooms, for `corelay store import` (NDJSON); ?topic=room:lobby for one room\n\
     GET  /docs/{id}              a document as it is on disk: id, epoch, version, length, text (JSON)\n\
     PUT  /docs/{id}              make a document that does not exist; its text is the body, UTF-8\n\
     POST /users/{id}/disconnect  close every connection of a user and free its seats (JSON)\n"
);

async fn help() -> &'static str {
    HELP
}

async fn nowhere(State(pages): Shared, uri: Uri) -> Response {
    let path = uri.path();
    let players = if path.starts_with("/play/") || path.starts_with("/socket") {
        let tls = pages.admin.relay_tls.map(|at| format!(", by TLS {at}")).unwrap_or_default();
        format!(" (players connect to another port: {}{tls})", pages.admin.relay)
    } else {
        String::new()
    };
    (StatusCode::NOT_FOUND, format!("there is no page {path}{players}\n\n{HELP}")).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let text = format!("{} does not take {method}\n\n{HELP}", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}

async fn livez(State(pages): Shared) -> Response {
    // At the start a loop has not turned yet, and a shard that has drained turns no more. Neither is dead, and both phases have a
    // deadline of their own.
    match pages.admin.phase.phase() {
        Phase::Starting => return "starting\n".into_response(),
        Phase::Draining => return "draining\n".into_response(),
        Phase::Ready => {}
    }
    let mut silent = silent_loops(&pages.admin.shards, (pages.admin.clock)());
    if !silent.is_empty() {
        // The whole process may have stood still. Then the loops begin to turn again now, as this thread does.
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        silent = silent_loops(&pages.admin.shards, (pages.admin.clock)());
    }
    if silent.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, silent).into_response()
}

/// A line for each loop that has not turned for too long.
pub fn silent_loops(shards: &[Arc<ShardMetrics>], now: Instant) -> String {
    let mut silent = String::new();
    for (index, shard) in shards.iter().enumerate() {
        let silence = now.since(Instant::from_micros(shard.loop_turned_at_us.value()));
        if silence > LOOP_SILENCE_MAX {
            // Writing to a String cannot fail.
            let _ =
                writeln!(silent, "shard {index}: its loop last turned {:.1} s ago", silence.as_secs_f64());
        }
    }
    silent
}

async fn readyz(State(pages): Shared) -> Response {
    match pages.admin.phase.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Ready => match pages.admin.store.hangs_for((pages.admin.clock)()) {
            Some(time) => {
                let text =
                    format!("the store hangs: it has worked on one batch for {:.1} s\n", time.as_secs_f64());
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
            None => "ok\n".into_response(),
        },
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}

async fn version(State(pages): Shared) -> Response {
    let Admin { about, shards, .. } = &pages.admin;
    let About { version, kernel, driver, .. } = about;
    let body =
        serde_json::json!({ "version": version, "kernel": kernel, "driver": driver, "shards": shards.len() });
    json_body(StatusCode::OK, &body)
}

async fn prometheus(State(pages): Shared, request: HeaderMap) -> Response {
    // A browser would download what it does not know; Prometheus does not ask for HTML.
    let accepts = request.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    let is_browser = accepts.contains("text/html");
    let content_type = if is_browser { "text/plain; charset=utf-8" } else { metrics::CONTENT_TYPE };
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json_body(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// 503: too many questions to the shards wait already.
fn busy() -> Response {
    unavailable(&format!("{Busy}; try again\n"), REFUSAL_RETRY_AFTER)
}

/// 503: it is worth another try after this time.
fn unavailable(text: &str, retry_after: Duration) -> Response {
    let retry_after = [(header::RETRY_AFTER, retry_after.as_secs().to_string())];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after, text.to_owned()).into_response()
}

#[cfg(test)]
mod tests;
