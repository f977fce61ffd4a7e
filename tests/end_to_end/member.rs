//! A member of a chat room, or of a document, over a real connection.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::relay::{PATIENCE, Relay};

/// A member of one topic.
pub struct Member {
    socket: WebSocket<TcpStream>,
    topic: String,
    next_ref: u64,
}

impl Member {
    /// Joins as the next guest, with this payload. Returns the member, and what it is told until the join is over, the answer first.
    pub fn join(relay: &Relay, topic: &str, payload: &Value) -> (Self, Vec<Value>) {
        Self::try_join(relay.listen, "", topic, payload).expect("the relay lets it in")
    }

    /// Joins as this user. `None`: the relay is not there, is going, or refuses.
    pub fn try_join(
        listen: SocketAddr,
        user: &str,
        topic: &str,
        payload: &Value,
    ) -> Option<(Self, Vec<Value>)> {
        let stream = TcpStream::connect(listen).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let url = format!("ws://{listen}/socket/websocket?vsn=2.0.0&user={user}");
        let (socket, _) = tungstenite::client(url, stream).ok()?;
        let mut member = Self { socket, topic: topic.into(), next_ref: 1 };
        member.push("phx_join", payload);
        let mut told = Vec::new();
        loop {
            let message = member.next()?;
            let event = message[3].as_str()?;
            if event == "phx_reply" && message[4]["status"] == "error" {
                return None;
            }
            let is_last = match event {
                "doc_state" => message[4]["part"] == message[4]["parts"],
                _ => ["room_state", "catch_up", "operations"].contains(&event),
            };
            told.push(message);
            if is_last {
                return Some((member, told));
            }
        }
    }

    pub fn push(&mut self, event: &str, payload: &Value) -> String {
        let reference = self.next_ref.to_string();
        self.next_ref += 1;
        let text = json!(["1", reference, self.topic, event, payload]).to_string();
        // If the relay is gone, `next` finds that out.
        let _ = self.socket.send(Message::text(text));
        reference
    }

    /// The next message; `None`: the relay is gone.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.read().ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Waits for an event, and returns its payload.
    pub fn told(&mut self, event: &str) -> Option<Value> {
        loop {
            let message = self.next()?;
            if message[3] == event {
                return Some(message[4].clone());
            }
        }
    }

    /// Waits for the answer to a push.
    pub fn answer(&mut self, reference: &str) -> Option<Value> {
        loop {
            let message = self.next()?;
            if message[3] == "phx_reply" && message[1] == reference {
                return Some(message[4].clone());
            }
        }
    }
}
