//! Connections to the admin pages: one request each, a bounded number at once, each for a bounded time.
//!
//! The pages share a thread with the signals, and descriptors with the whole process. A visitor that stayed would take both from
//! health checks and from the keys that SIGHUP reads again. So a visit that lasts too long is ended, and when too many visitors
//! come, the visit that began first is. An export lasts as long as its parts are taken.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant as Deadline;

use crate::limits::{ADMIN_VISIT_TIME_MAX, ADMIN_VISITORS_MAX, LOG_REPEAT_INTERVAL};
use crate::time::{Instant, Throttle};

/// Pause after an accept that failed: its cause stays for a while, so the next one would fail at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts visitors and gives each an answer.
pub(super) async fn receive(
    listener: TcpListener,
    pages: Router,
    clock: &(dyn Fn() -> Instant + Send + Sync),
) -> Infallible {
    let mut visits = Visits::default();
    let mut crowded = Throttle::new(LOG_REPEAT_INTERVAL);
    let mut failing = Throttle::new(LOG_REPEAT_INTERVAL);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if visits.make_room()
                    && let Some(before) = crowded.admit(clock())
                {
                    tracing::warn!(
                        visitors = ADMIN_VISITORS_MAX,
                        before,
                        "admin pages: too many visitors at once, who came first is sent away"
                    );
                }
                visits.running.push_back(tokio::spawn(visit(stream, pages.clone())));
            }
            // The visitor has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(before) = failing.admit(clock()) {
                    tracing::warn!(before, "admin pages: cannot accept a visitor: {error}");
                }
                // Most likely the process has no descriptor left. This gives one back.
                visits.end_first();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Reads one request and answers it. If that fails, only the visitor needs to know.
async fn visit(stream: TcpStream, pages: Router) {
    let visit = Visit::begin();
    let pages = TowerToHyperService::new(pages);
    let answer = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(visit.clone());
        pages.call(request)
    };
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut connection = pin!(connection);
    while !visit.is_over() {
        if tokio::time::timeout_at(visit.deadline(), &mut connection).await.is_ok() {
            return;
        }
    }
}

/// How long a visit may go on. A page whose answer is long knows it as an extension of the request.
#[derive(Clone)]
pub(super) struct Visit(Arc<Mutex<Deadline>>);

impl Visit {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new(Deadline::now() + ADMIN_VISIT_TIME_MAX)))
    }

    /// The visitor has taken something: it has the whole time for the next.
    pub(super) fn prolong(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Deadline::now() + ADMIN_VISIT_TIME_MAX;
    }

    fn deadline(&self) -> Deadline {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        Deadline::now() >= self.deadline()
    }
}

/// The visits that are going on, the first one in front.
#[derive(Default)]
struct Visits {
    running: VecDeque<JoinHandle<()>>,
}

impl Visits {
    /// Makes room for one more visit. Returns whether another one was ended for it.
    fn make_room(&mut self) -> bool {
        self.running.retain(|visit| !visit.is_finished());
        let crowded = self.running.len() >= ADMIN_VISITORS_MAX;
        if crowded {
            self.end_first();
        }
        crowded
    }

    fn end_first(&mut self) {
        if let Some(visit) = self.running.pop_front() {
            visit.abort();
        }
    }
}
