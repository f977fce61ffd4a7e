//! `GET /export`: what is said in rooms, as text. The store is read by a thread of the export's own, part by part, as fast as the
//! visitor takes it; so neither a disk that hangs nor a visitor that reads slowly holds up the other pages.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::{Semaphore, mpsc};

use super::visitors::Visit;
use super::{Shared, unavailable};
use crate::ids::Topic;
use crate::limits::{EXPORT_PARTS_AHEAD, REFUSAL_RETRY_AFTER};
use crate::wire::upgrade::query::Query;

/// The parts of an export, each of whole lines. An error ends it.
pub type Parts = Box<dyn Iterator<Item = Result<String, String>> + Send>;

/// Begins an export, of one topic or of all. `Ok(None)`: nothing is kept about the topic.
pub type BeginExport = Arc<dyn Fn(Option<&str>) -> Result<Option<Parts>, String> + Send + Sync>;

/// The exports of a relay: one at a time.
pub struct Exports {
    begin: BeginExport,
    turn: Arc<Semaphore>,
}

impl Exports {
    /// Nobody reads yet.
    pub fn new(begin: BeginExport) -> Self {
        Self { begin, turn: Arc::new(Semaphore::new(1)) }
    }
}

/// What the thread tells the visitor's task.
enum Read {
    Part(String),
    /// Everything was read. Without it, the export is cut off.
    End,
    NoTopic,
    Failed(String),
}

pub(super) async fn export(State(pages): Shared, Extension(visit): Extension<Visit>, uri: Uri) -> Response {
    let exports = &pages.admin.exports;
    let topic = match uri.query().map(topic).transpose() {
        Ok(topic) => topic,
        Err(text) => return (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response(),
    };
    let Ok(turn) = exports.turn.clone().try_acquire_owned() else {
        return unavailable(
            "another export is being read; one goes at a time: try again when it is over\n",
            REFUSAL_RETRY_AFTER,
        );
    };
    let (sender, mut parts) = mpsc::channel(EXPORT_PARTS_AHEAD);
    let (begin, name) = (exports.begin.clone(), topic.clone());
    let body = move || {
        let end = read(&begin, name.as_deref(), &sender);
        // Whoever has seen the end may ask again.
        drop(turn);
        // A visitor that has gone needs no end.
        let _ = sender.blocking_send(end);
    };
    if let Err(error) = thread::Builder::new().name("export".into()).spawn(body) {
        return unavailable(&format!("cannot start a thread for the export: {error}\n"), REFUSAL_RETRY_AFTER);
    }
    match parts.recv().await {
        Some(Read::Part(first)) => {
            let body = ExportBody { first: Some(first), parts, visit };
            ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(body)).into_response()
        }
        Some(Read::NoTopic) => {
            let text = format!("nothing is kept about {}\n", topic.unwrap_or_default());
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Some(Read::Failed(error)) => {
            unavailable(&format!("the store cannot be read: {error}\n"), REFUSAL_RETRY_AFTER)
        }
        Some(Read::End) | None => unavailable("the store cannot be read: see the log\n", REFUSAL_RETRY_AFTER),
    }
}

/// Whoever misspells the parameter wants no export of everything.
fn topic(query: &str) -> Result<String, String> {
    let topic = Query::new(query).first("topic")?;
    let topic = topic.ok_or("the only parameter is `topic`: /export?topic=room:lobby")?;
    if Topic::parse(&topic).is_none() {
        return Err(format!("{topic:?} is no topic: topics are like room:lobby"));
    }
    Ok(topic)
}

/// Reads until everything is read, or the visitor has gone. Returns how it ended.
fn read(begin: &BeginExport, topic: Option<&str>, sender: &mpsc::Sender<Read>) -> Read {
    let parts = match begin(topic) {
        Ok(Some(parts)) => parts,
        Ok(None) => return Read::NoTopic,
        Err(error) => return Read::Failed(error),
    };
    for part in parts {
        match part {
            Ok(text) => {
                if sender.blocking_send(Read::Part(text)).is_err() {
                    return Read::End;
                }
            }
            Err(error) => {
                tracing::warn!("an export was cut off: the store cannot be read: {error}");
                return Read::Failed(error);
            }
        }
    }
    Read::End
}

/// What the visitor is sent. A part that is taken gives the visit time for the next.
struct ExportBody {
    first: Option<String>,
    parts: mpsc::Receiver<Read>,
    visit: Visit,
}

impl HttpBody for ExportBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        let read = match body.first.take() {
            Some(first) => Some(Read::Part(first)),
            None => std::task::ready!(body.parts.poll_recv(context)),
        };
        Poll::Ready(match read {
            Some(Read::Part(text)) => {
                body.visit.prolong();
                Some(Ok(Frame::data(text.into())))
            }
            Some(Read::End) => None,
            Some(Read::NoTopic | Read::Failed(_)) | None => Some(Err(io::Error::other("it was cut off"))),
        })
    }
}
