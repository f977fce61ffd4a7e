//! `POST /users/{id}/disconnect`: every shard is told, and their answers are added up.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use crate::limits::{KICK_WAIT, USER_ID_BYTES_MAX};
use crate::shard::peer::{KickTally, Order};

/// How often the tally is looked at. A shard answers within a turn of its loop.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// 200 with the number of connections that were closed; 202 if not every shard could be told, or answered in time.
pub(super) async fn disconnect(State(pages): Shared, Path(user): Path<String>) -> Response {
    if !(1..=USER_ID_BYTES_MAX).contains(&user.len()) {
        let text = format!("a user id has 1 to {USER_ID_BYTES_MAX} bytes, this one has {}\n", user.len());
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let sender = &pages.admin.sender;
    let tally = Arc::new(KickTally::default());
    let order = Order::Kick { user: user.as_str().into(), tally: tally.clone() };
    let shards = sender.shards();
    let asked = shards - sender.send_all(&order).len();
    // Running out of time is an answer, too: the tally says how far it came.
    let _ = tokio::time::timeout(KICK_WAIT, everybody_answered(&tally, asked)).await;
    let (answered, disconnected) = (tally.answers() as usize, tally.disconnected());
    tracing::info!(user, disconnected, answered, shards, "kicked by an operator");
    if answered == shards {
        return json_body(StatusCode::OK, &json!({ "user": user, "disconnected": disconnected }));
    }
    let note = format!("asked {asked} of {shards} shards, {answered} have answered; ask again");
    let body = json!({ "user": user, "disconnected": disconnected, "note": note });
    json_body(StatusCode::ACCEPTED, &body)
}

async fn everybody_answered(tally: &KickTally, asked: usize) {
    while (tally.answers() as usize) < asked {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn json_body(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
