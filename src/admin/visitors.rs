//! Connections to the admin pages: one request each, a bounded number at once, each for a bounded time.
//!
//! The pages share a thread with the signals, and descriptors with the whole process. A visitor that stayed would take both from
//! health checks and from the keys that SIGHUP reads again. So a visit that lasts too long is ended, and when too many visitors
//! come, the visit that began first is.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

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
    let service = TowerToHyperService::new(pages);
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(ADMIN_VISIT_TIME_MAX, connection).await;
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
