//! What operators use: `/livez`, `/readyz`, `/version`, `/metrics`, an order to kick a user, and a playground at `/`, over plain
//! HTTP on an address of its own.
//!
//! The pages read what the shards publish in their metrics, and ask them questions. Questions are bounded in number, and a shard
//! answers them in parts of a turn, so nothing that a visitor does here can slow a game down. `access` says who may visit.

pub mod access;
pub mod export;
mod games;
mod kick;
pub mod metrics;
mod playground;
mod process;
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
    /// The clock by which the shards' loops say when they turned.
    pub clock: ReadClock,
    /// Who may see the pages.
    pub access: Access,
    /// The way to ask the shards.
    pub service: ServiceHandle,
    /// The way to read the store.
    pub exports: Exports,
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
        .route("/users/{id}/disconnect", post(kick::disconnect))
        .merge(playground::router())
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
     GET  /livez                  200 while every shard's loop turns, else 503 and which one does not\n\
     GET  /readyz                 200 while players may come, 503 while starting or draining, or while the store hangs\n\
     GET  /version                version, kernel, number of shards (JSON)\n\
     GET  /metrics                for Prometheus (OpenMetrics text)\n\
     GET  /games.json             the games that run, those with most players first (JSON)\n\
     GET  /export                 what is said in rooms, for `corelay store import` (NDJSON); ?topic=room:lobby for one room\n\
     POST /users/{id}/disconnect  close every connection of a user and free its seats (JSON)\n"
);

async fn help() -> &'static str {
    HELP
}

async fn nowhere(State(pages): Shared, uri: Uri) -> Response {
    let path = uri.path();
    let players = if path.starts_with("/play/") || path.starts_with("/socket") {
        format!(" (players connect to another port: {})", pages.admin.relay)
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
    let mut silent = silent_loops(&pages.admin);
    if !silent.is_empty() {
        // The whole process may have stood still. Then the loops begin to turn again now, as this thread does.
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        silent = silent_loops(&pages.admin);
    }
    if silent.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, silent).into_response()
}

/// A line for each loop that has not turned for too long.
fn silent_loops(admin: &Admin) -> String {
    let now = (admin.clock)();
    let mut silent = String::new();
    for (index, shard) in admin.shards.iter().enumerate() {
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
    let body =
        serde_json::json!({ "version": about.version, "kernel": about.kernel, "shards": shards.len() });
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
    let retry_after = [(header::RETRY_AFTER, REFUSAL_RETRY_AFTER.as_secs().to_string())];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after, format!("{Busy}; try again\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::ids::{Party, RequestNumber, TopicName};
    use crate::limits::QUESTIONS_MAX;
    use crate::mailbox::{self, Endpoint, Letter, Posted};
    use crate::service::Service;
    use crate::shard::peer::{Answer, GameList, PeerMessage, Question, RunningGame};

    struct Fixture {
        address: std::net::SocketAddr,
        shards: Vec<Arc<ShardMetrics>>,
        store_metrics: Arc<StoreMetrics>,
        phase: Arc<PhaseCell>,
        now_us: Arc<AtomicU64>,
        endpoints: Vec<Endpoint>,
        /// A party that is there, and says nothing.
        _store: Endpoint,
    }

    /// Serves the pages on the runtime they live in, on a thread that ends with the test process.
    fn serve_pages(access: Access) -> Fixture {
        let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
        let phase = Arc::new(PhaseCell::default());
        let store_metrics: Arc<StoreMetrics> = Arc::default();
        let now_us = Arc::new(AtomicU64::new(1));
        let clock_us = now_us.clone();
        let (endpoints, [mailbox, store]) = mailbox::mesh(2, 16).unwrap();
        let began = tokio::time::Instant::now();
        let clock = move || Instant::from_micros(began.elapsed().as_micros() as u64);
        let (service, handle) = Service::new(mailbox, Arc::new(clock));
        let admin = Admin {
            shards: shards.clone(),
            store: store_metrics.clone(),
            phase: phase.clone(),
            about: About { version: "1.2.3", kernel: "6.18".into(), started_at_unix_s: 1.5e9 },
            relay: ([127, 0, 0, 1], 4000).into(),
            clock: Arc::new(move || Instant::from_micros(clock_us.load(Ordering::Relaxed))),
            access,
            service: handle,
            exports: Exports::new(Arc::new(|topic| Ok(parts_of(topic)))),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            tokio_uring::start(async move {
                tokio_uring::spawn(async move { service.run().await.map(|never| match never {}) });
                match serve(TcpListener::from_std(listener).unwrap(), admin).await {}
            })
        });
        Fixture { address, shards, store_metrics, phase, now_us, endpoints, _store: store }
    }

    /// An export of four parts; of one topic, nothing is kept, and that of another fails in the middle.
    fn parts_of(topic: Option<&str>) -> Option<export::Parts> {
        let part = |letter: &str| Ok(format!("{}\n", letter.repeat(4 * 1024 * 1024)));
        let cut = topic == Some("room:cut");
        let parts = ["a", "b", "c", "d"].map(|letter| match letter {
            "c" if cut => Err("no disk".to_owned()),
            letter => part(letter),
        });
        (topic != Some("room:none")).then(|| Box::new(parts.into_iter()) as export::Parts)
    }

    impl Fixture {
        fn fetch(&self, path: &str) -> (u16, String) {
            let (status, _, body) = self.ask(&format!("GET {path}"), "Host: localhost");
            (status, body)
        }

        /// Status, head and body.
        fn ask(&self, request: &str, header: &str) -> (u16, String, String) {
            let mut stream = std::net::TcpStream::connect(self.address).unwrap();
            write!(stream, "{request} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), head.into(), body.into())
        }
    }

    /// The next question in a shard's mailbox.
    fn asked(shard: &mut Endpoint) -> (RequestNumber, Question) {
        let mut count = [0; 8];
        rustix::io::read(shard.eventfd(), &mut count).unwrap();
        match shard.take() {
            Some((Party::Service, Letter::Peer(PeerMessage::Ask { request, question }))) => {
                (request, question)
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(shard: &mut Endpoint, answer: PeerMessage) {
        assert!(matches!(shard.post(Party::Service, Letter::Peer(answer)), Posted::Queued));
        if shard.must_ring(Party::Service) {
            shard.wake(Party::Service);
        }
    }

    #[test]
    fn readiness_follows_the_phase() {
        let fixture = serve_pages(Access::Loopback);
        assert_eq!(fixture.fetch("/readyz"), (503, "starting\n".into()));
        fixture.phase.enter(Phase::Ready);
        assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
        fixture.phase.enter(Phase::Draining);
        assert_eq!(fixture.fetch("/readyz"), (503, "draining\n".into()));
    }

    #[test]
    fn a_store_that_hangs_is_named() {
        let fixture = serve_pages(Access::Loopback);
        fixture.phase.enter(Phase::Ready);
        fixture.store_metrics.begin_work(Instant::from_micros(2_000_000));
        fixture.now_us.store(7_000_000, Ordering::Relaxed);
        assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
        fixture.now_us.store(7_100_000, Ordering::Relaxed);
        let hangs = "the store hangs: it has worked on one batch for 5.1 s\n";
        assert_eq!(fixture.fetch("/readyz"), (503, hangs.into()));
        fixture.store_metrics.end_work();
        assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
    }

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let fixture = serve_pages(Access::Loopback);
        fixture.phase.enter(Phase::Ready);
        fixture.now_us.store(6_000_000, Ordering::Relaxed);
        fixture.shards[0].loop_turned_at_us.set(1_000_000);
        fixture.shards[1].loop_turned_at_us.set(900_000);
        assert_eq!(fixture.fetch("/livez"), (503, "shard 1: its loop last turned 5.1 s ago\n".into()));
        fixture.shards[1].loop_turned_at_us.set(5_900_000);
        assert_eq!(fixture.fetch("/livez"), (200, "ok\n".into()));
        fixture.shards[0].loop_turned_at_us.set(0);
        fixture.phase.enter(Phase::Draining);
        assert_eq!(fixture.fetch("/livez"), (200, "draining\n".into()));
    }

    #[test]
    fn a_process_that_stood_still_is_alive() {
        let fixture = serve_pages(Access::Loopback);
        fixture.phase.enter(Phase::Ready);
        fixture.now_us.store(60_000_000, Ordering::Relaxed);
        let shards = fixture.shards.clone();
        let loops = std::thread::spawn(move || {
            std::thread::sleep(SECOND_LOOK_AFTER / 10);
            shards.iter().for_each(|shard| shard.loop_turned_at_us.set(60_000_000));
        });
        assert_eq!(fixture.fetch("/livez"), (200, "ok\n".into()));
        loops.join().unwrap();
    }

    #[test]
    fn the_pages_say_what_runs() {
        let fixture = serve_pages(Access::Loopback);
        let (status, body) = fixture.fetch("/version");
        let version: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, version),
            (200, serde_json::json!({"version": "1.2.3", "kernel": "6.18", "shards": 2}))
        );
        let (status, body) = fixture.fetch("/help");
        assert!(status == 200 && body.contains("/users/{id}/disconnect"), "{body}");
        let relay = fixture.fetch("/playground.json");
        assert_eq!(relay, (200, "{\"relay\":\"127.0.0.1:4000\",\"version\":\"1.2.3\"}\n".into()));
        let (status, body) = fixture.fetch("/");
        assert!(status == 200 && body.contains("/metrics"), "{body}");
        let (status, body) = fixture.fetch("/nowhere?a=b");
        assert!(status == 404 && body.starts_with("there is no page /nowhere\n"), "{body}");
        assert!(body.contains("GET  /metrics") && body.contains("POST /users/{id}/disconnect"), "{body}");
        let (status, body) = fixture.fetch("/play/arena");
        assert!(status == 404 && body.contains("another port: 127.0.0.1:4000"), "{body}");
        fixture.shards[1].frames_in.add(7);
        let (status, body) = fixture.fetch("/metrics");
        assert_eq!(status, 200);
        assert!(body.contains("corelay_frames_in_total{shard=\"1\"} 7\n"), "{body}");
        for (accept, content_type) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; charset=utf-8"),
            ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", metrics::CONTENT_TYPE),
        ] {
            let (_, head, _) = fixture.ask("GET /metrics", &format!("Host: localhost\r\nAccept: {accept}"));
            assert!(head.contains(&format!("content-type: {content_type}\r\n")), "{head}");
        }
    }

    #[test]
    fn a_kick_is_answered_by_every_shard() {
        let mut fixture = serve_pages(Access::Loopback);
        let mut endpoints = std::mem::take(&mut fixture.endpoints);
        let shards = std::thread::spawn(move || {
            for (endpoint, disconnected) in endpoints.iter_mut().zip(1..) {
                let (request, question) = asked(endpoint);
                assert!(matches!(question, Question::Kick { user } if &*user == "ann/1 ü"));
                answer(endpoint, PeerMessage::Answer { request, answer: Answer::Kicked { disconnected } });
            }
        });
        let (status, head, body) = fixture.ask("POST /users/ann%2F1%20%C3%BC/disconnect", "Host: localhost");
        assert_eq!((status, body.as_str()), (200, "{\"disconnected\":3,\"user\":\"ann/1 ü\"}\n"), "{head}");
        shards.join().unwrap();
        let (status, _, body) = fixture.ask("POST /users/ann/disconnect", "Host: localhost");
        assert_eq!(
            (status, body.as_str()),
            (200, "{\"disconnected\":0,\"user\":\"ann\"}\n"),
            "they have ended"
        );
        for wrong in ["POST /users/%ff/disconnect", &format!("POST /users/{}/disconnect", "x".repeat(129))] {
            assert_eq!(fixture.ask(wrong, "Host: localhost").0, 400, "{wrong}");
        }
        let (status, head, body) = fixture.ask("GET /users/ann/disconnect", "Host: localhost");
        assert!(status == 405 && head.contains("allow: POST"), "{head}");
        assert!(body.starts_with("/users/ann/disconnect does not take GET\n"), "{body}");
    }

    #[test]
    fn the_games_of_every_shard_are_listed() {
        let mut fixture = serve_pages(Access::Loopback);
        let mut endpoints = std::mem::take(&mut fixture.endpoints);
        let shards = std::thread::spawn(move || {
            for (endpoint, (name, players)) in endpoints.iter_mut().zip([("arena", 2), ("cave", 12)]) {
                let (request, question) = asked(endpoint);
                assert!(matches!(question, Question::Games));
                let games = vec![RunningGame { name: TopicName::parse(name).unwrap(), players }];
                let list = Box::new(GameList { games, is_cut: false });
                answer(endpoint, PeerMessage::Answer { request, answer: Answer::Games(list) });
            }
        });
        let (status, head, body) = fixture.ask("GET /games.json", "Host: localhost");
        shards.join().unwrap();
        let expected = r#"{"cut":false,"games":[{"name":"cave","players":12},{"name":"arena","players":2}]}"#;
        assert_eq!((status, body.trim_end()), (200, expected));
        assert!(head.contains("cache-control: no-store") && head.contains("application/json"), "{head}");
    }

    #[test]
    fn an_export_is_sent_as_fast_as_it_is_taken_one_at_a_time() {
        let fixture = serve_pages(Access::Loopback);
        let mut slow = std::net::TcpStream::connect(fixture.address).unwrap();
        write!(slow, "GET /export?topic=room%3Aa HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = [0; 15];
        slow.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        let (status, second) = fixture.fetch("/export");
        assert!(status == 503 && second.contains("another export is being read"), "{second}");
        assert_eq!(fixture.fetch("/version").0, 200, "whoever reads slowly holds up no other page");
        let mut rest = String::new();
        slow.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("\r\n0\r\n\r\n") && rest.contains("ddd\n"), "{}", rest.len());
        let (_, head, body) = fixture.ask("GET /export", "Host: localhost");
        assert!(head.contains("content-type: application/x-ndjson\r\n"), "{head}");
        assert!(body.len() > 16 * 1024 * 1024);
    }

    #[test]
    fn an_export_that_fails_is_not_taken_for_a_whole_one() {
        let fixture = serve_pages(Access::Loopback);
        let (_, _, body) = fixture.ask("GET /export?topic=room:cut", "Host: localhost");
        assert!(!body.ends_with("0\r\n\r\n"), "it has no end");
        let none = (404, "nothing is kept about room:none\n".to_owned());
        assert_eq!(fixture.fetch("/export?topic=room:none"), none);
        for wrong in ["/export?topic=lobby", "/export?room=lobby", "/export?topic=%zz", "/export?topic="] {
            assert_eq!(fixture.fetch(wrong).0, 400, "{wrong}");
        }
    }

    #[test]
    fn a_shard_that_does_not_answer_is_not_waited_for_long() {
        let fixture = serve_pages(Access::Loopback);
        let (status, _, body) = fixture.ask("POST /users/ann/disconnect", "Host: localhost");
        assert_eq!(status, 202);
        assert!(body.contains("2 of 2 shards have not answered"), "{body}");
    }

    #[test]
    fn who_asks_when_too_many_questions_wait_is_told_when_to_come_back() {
        let fixture = serve_pages(Access::Loopback);
        let ask = |_| {
            let mut stream = std::net::TcpStream::connect(fixture.address).unwrap();
            write!(stream, "POST /users/ann/disconnect HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        };
        let answer = |mut stream: std::net::TcpStream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answers: Vec<String> =
            (0..QUESTIONS_MAX + 1).map(ask).collect::<Vec<_>>().into_iter().map(answer).collect();
        let refused: Vec<&String> = answers.iter().filter(|answer| !answer.contains(" 202 ")).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].starts_with("HTTP/1.1 503 ") && refused[0].contains("retry-after: 5\r\n"),
            "{refused:?}"
        );
        assert!(refused[0].ends_with("wait already; try again\n"), "{refused:?}");
    }

    #[test]
    fn nothing_but_health_is_open_behind_a_token() {
        let fixture = serve_pages(Access::new(Some(b"0123456789abcdef")));
        fixture.phase.enter(Phase::Ready);
        assert_eq!(fixture.fetch("/readyz").0, 200);
        for request in [
            "GET /metrics",
            "GET /help",
            "GET /games.json",
            "GET /export",
            "GET /nowhere",
            "POST /users/ann/disconnect",
        ] {
            let (status, head, _) = fixture.ask(request, "Host: relay");
            assert!(status == 401 && head.contains("www-authenticate: Bearer realm="), "{request}: {head}");
        }
        let shown = "Host: relay\r\nAuthorization: Bearer 0123456789abcdef";
        assert_eq!(fixture.ask("GET /metrics", shown).0, 200);
        assert_eq!(fixture.ask("GET /nowhere", shown).0, 404);
    }
}
