//! `POST /users/{id}/disconnect`: every shard is asked, and their answers are added up.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Shared, busy, json_body};
use crate::limits::{QUESTION_WAIT, USER_ID_BYTES_MAX};
use crate::service::{Answers, Busy};
use crate::shard::peer::{Answer, Question};

/// Answers 200 with the number of connections that were closed, or 202 if a shard has not answered in time.
pub(super) async fn disconnect(State(pages): Shared, Path(user): Path<String>) -> Response {
    if !(1..=USER_ID_BYTES_MAX).contains(&user.len()) {
        let text = format!("a user id has 1 to {USER_ID_BYTES_MAX} bytes, this one has {}\n", user.len());
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let question = Question::Kick { user: user.as_str().into() };
    let Answers { answers, unanswered } = match pages.admin.service.ask(question, QUESTION_WAIT).await {
        Ok(answers) => answers,
        Err(Busy) => return busy(),
    };
    let disconnected: u32 = answers.iter().filter_map(disconnected).sum();
    tracing::info!(user, disconnected, unanswered, "kicked by an operator");
    if unanswered == 0 {
        return json_body(StatusCode::OK, &json!({ "user": user, "disconnected": disconnected }));
    }
    let note = format!("{unanswered} of {} shards have not answered; ask again", pages.admin.shards.len());
    let body = json!({ "user": user, "disconnected": disconnected, "note": note });
    json_body(StatusCode::ACCEPTED, &body)
}

fn disconnected(answer: &Answer) -> Option<u32> {
    match answer {
        Answer::Kicked { disconnected } => Some(*disconnected),
        Answer::Games(_) | Answer::Looked | Answer::Renewed | Answer::Store(_) | Answer::Busy => None,
    }
}
