//! `GET /docs/{id}`: a document as it is on disk. A thread of its own reads it, so that a disk that hangs holds up no other page.
//!
//! `PUT /docs/{id}`: the store is asked to begin the document, as a topic would ask: if it is there, it answers `Conflict`, whoever
//! was first. Then the shards are told, so that members who are in the document, which was empty, see the text at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use axum::body::{Body, HttpBody};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::{Shared, busy, json_body, unavailable};
use crate::ids::{Topic, TopicName};
use crate::impossible;
use crate::limits::{
    DOCUMENT_BYTES_MAX, DOCUMENT_READS_MAX, DOCUMENT_UPLOAD_BYTES_MAX, QUESTION_WAIT, REFUSAL_RETRY_AFTER,
};
use crate::room::document_archive;
use crate::room::stored::{StoreAnswer, Unavailable};
use crate::service::{Answers, Busy, ServiceHandle};
use crate::shard::peer::{Answer, Question};
use crate::wire::json::{Object, object_of};

/// A document as it is kept.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ShownDocument {
    pub epoch: u64,
    pub version: u64,
    /// In characters.
    pub length: u64,
    pub text: String,
}

/// With what a document is made, besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// Names the stream; never used before.
    pub epoch: u64,
    /// When it is made, in unix ms.
    pub at_ms: u64,
}

/// Reads a document. `Ok(None)`: there is none.
pub type ReadDocument = Arc<dyn Fn(&Topic) -> Result<Option<ShownDocument>, String> + Send + Sync>;

/// What the next document that is made begins with.
pub type BeginDocument = Arc<dyn Fn() -> Result<Beginning, String> + Send + Sync>;

/// The documents of a relay, as the pages see them.
pub struct Documents {
    read: ReadDocument,
    begin: BeginDocument,
    turns: Arc<Semaphore>,
}

impl Documents {
    /// Nobody reads yet.
    pub fn new(read: ReadDocument, begin: BeginDocument) -> Self {
        Self { read, begin, turns: Arc::new(Semaphore::new(DOCUMENT_READS_MAX)) }
    }

    /// The document as JSON, read by a thread of its own, when there is a turn for it.
    async fn json(&self, id: &str, topic: Topic) -> Result<Option<String>, String> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let (sender, receiver) = oneshot::channel();
        let (read, id) = (self.read.clone(), id.to_owned());
        let body = move || {
            let document = read(&topic).map(|document| document.map(|document| whole(&id, &document)));
            drop(turn);
            // A visitor that has gone needs nothing.
            let _ = sender.send(document);
        };
        let spawned = thread::Builder::new().name("document".into()).spawn(body);
        spawned.map_err(|error| format!("cannot start a thread for it: {error}"))?;
        receiver.await.unwrap_or_else(|_| Err("see the log".into()))
    }
}

/// Answers 200 with the document.
pub(super) async fn show(State(pages): Shared, Path(id): Path<String>) -> Response {
    let topic = match topic(&id) {
        Ok(topic) => topic,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    match timeout(QUESTION_WAIT, pages.admin.documents.json(&id, topic)).await {
        Ok(Ok(Some(json))) => {
            ([(header::CACHE_CONTROL, "no-store")], as_json(StatusCode::OK, json)).into_response()
        }
        Ok(Ok(None)) => {
            let text = format!("there is no document {id}; PUT /docs/{id} makes one\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Ok(Err(error)) => unavailable(&format!("the store cannot be read: {error}\n"), REFUSAL_RETRY_AFTER),
        Err(_) => unavailable("the store has not answered in time; try again\n", REFUSAL_RETRY_AFTER),
    }
}

/// Answers 201 with what there is now, but for the text; 409 if there is a document already; 202 if the store has not answered in
/// time.
pub(super) async fn make(State(pages): Shared, Path(id): Path<String>, body: Body) -> Response {
    let topic = match topic(&id) {
        Ok(topic) => Arc::new(topic),
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let text = match text_of(body).await {
        Ok(text) => text,
        Err(refusal) => return refusal.into_response(),
    };
    let Beginning { epoch, at_ms } = match (pages.admin.documents.begin)() {
        Ok(beginning) => beginning,
        Err(error) => return unavailable(&format!("{error}\n"), REFUSAL_RETRY_AFTER),
    };
    let request = document_archive::begin(topic.clone(), epoch, &text, at_ms);
    let question = Question::Store(Box::new(request));
    let answer = match pages.admin.service.ask(question, QUESTION_WAIT).await {
        Ok(Answers { answers, .. }) => answers.into_iter().find_map(of_store),
        Err(Busy) => return busy(),
    };
    let version = match answer {
        Some(StoreAnswer::Appended(_)) => document_archive::first_version(&text),
        Some(StoreAnswer::Conflict) => return exists_already(&id),
        Some(StoreAnswer::Refused(why)) => return refused(why),
        Some(StoreAnswer::Loaded { .. } | StoreAnswer::Page { .. }) => {
            impossible!("an answer is one to its question");
            return refused(Unavailable::Failed);
        }
        None => return not_answered(&id),
    };
    tracing::info!(document = id, bytes = text.len(), "made by an operator");
    tell_members(&pages.admin.service, topic).await;
    let length = text.chars().count() as u64;
    let made = ShownDocument { epoch, version, length, text };
    as_json(StatusCode::CREATED, object_of(JSON_BYTES, |json| without_text(json, &id, &made)))
}

/// A shard that is not reached finds out by itself when a member writes.
async fn tell_members(service: &ServiceHandle, topic: Arc<Topic>) {
    let question = Question::LookAgain { topic: topic.clone() };
    let unanswered = match service.ask(question, QUESTION_WAIT).await {
        Ok(Answers { unanswered, .. }) => unanswered > 0,
        Err(Busy) => true,
    };
    if unanswered {
        tracing::warn!(%topic, "its members may not see yet that an operator has made it: the shards are busy");
    }
}

fn of_store(answer: Answer) -> Option<StoreAnswer> {
    match answer {
        Answer::Store(answer) => Some(*answer),
        Answer::Kicked { .. } | Answer::Games(_) | Answer::Looked | Answer::Renewed | Answer::Busy => None,
    }
}

/// # Errors
/// What a name may be.
fn topic(id: &str) -> Result<Topic, String> {
    TopicName::parse(id).map(Topic::Document).ok_or_else(|| {
        let bytes_max = TopicName::BYTES_MAX;
        format!("{id:?} is no name of a document: it has 1 to {bytes_max} of A-Z a-z 0-9 _ - .\n")
    })
}

/// The body as the text of a document.
async fn text_of(mut body: Body) -> Result<String, (StatusCode, String)> {
    let (mut bytes, mut count) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let data = match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => data,
            // Trailers say nothing here.
            Ok(Err(_)) => continue,
            Err(error) => return Err((StatusCode::BAD_REQUEST, format!("the text was cut off: {error}\n"))),
        };
        count += data.len();
        // What is too much is read nevertheless: whoever is still sending does not see an answer.
        if count <= DOCUMENT_BYTES_MAX {
            bytes.extend_from_slice(&data);
        } else if count > DOCUMENT_UPLOAD_BYTES_MAX {
            break;
        }
    }
    if count > DOCUMENT_BYTES_MAX {
        let text = format!("a document has at most {DOCUMENT_BYTES_MAX} bytes of UTF-8\n");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text =
            format!("the body is the text of the document, in UTF-8; from its byte {at} on it is not\n");
        (StatusCode::BAD_REQUEST, text)
    })
}

fn exists_already(id: &str) -> Response {
    let text = format!("there is a document {id} already: GET /docs/{id} shows it; its members change it\n");
    (StatusCode::CONFLICT, text).into_response()
}

fn refused(why: Unavailable) -> Response {
    let text = match why {
        Unavailable::Busy => "the store takes nothing now: too much waits for it, or this relay is ending",
        Unavailable::Full => "the disk is full",
        Unavailable::Failed => "the disk fails: see the log",
    };
    unavailable(&format!("{text}; nothing was made: try again\n"), why.retry_after())
}

fn not_answered(id: &str) -> Response {
    let note = "the store has not answered in time; it may be made yet: GET says so";
    json_body(StatusCode::ACCEPTED, &json!({ "id": id, "note": note }))
}

/// What the JSON of a document has besides its text, mostly.
const JSON_BYTES: usize = 192;

fn without_text(json: &mut Object<'_>, id: &str, document: &ShownDocument) {
    json.text("id", id).plain("epoch", document.epoch);
    json.number("version", document.version).number("length", document.length);
}

fn whole(id: &str, document: &ShownDocument) -> String {
    object_of(document.text.len() + JSON_BYTES, |json| {
        without_text(json, id, document);
        json.text("text", &document.text);
    })
}

fn as_json(status: StatusCode, json: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json + "\n").into_response()
}
