//! A relay of a few lines, for tests: it has rooms and games of Phoenix clients, and one fault on purpose.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use corelay::wire::frame::Opcode;
use serde_json::{Value as Json, json};
use tungstenite::Message;

use crate::frames::server_frame;

/// What it does wrong, once. Numbers are those of a room's messages; the first member of the room is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    Loses(usize),
    Repeats(usize),
    /// The next one comes first.
    Swaps(usize),
    Refuses(usize),
    /// The first `catch_up` that has more to tell than what was on its way when connections were cut leaves it out.
    ForgetsWhatWasMissed,
}

struct Relay {
    fault: Fault,
    topics: BTreeMap<String, Topic>,
}

#[derive(Default)]
struct Topic {
    /// Payloads of what was said.
    said: Vec<Json>,
    members: Vec<TcpStream>,
    /// What the victim is told later.
    held_back: Option<String>,
}

/// Starts one; its URL. It ends with the process.
pub fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let relay = Arc::new(Mutex::new(Relay { fault, topics: BTreeMap::new() }));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let relay = Arc::clone(&relay);
            thread::spawn(move || serve(&relay, stream));
        }
    });
    url
}

fn serve(relay: &Mutex<Relay>, stream: TcpStream) {
    let writer = stream.try_clone().unwrap();
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let message: Json = serde_json::from_str(&text).unwrap();
        relay.lock().unwrap().handle(&message, &writer);
    }
    // Members of topics are other names of the socket, which would keep it open.
    let _ = writer.shutdown(Shutdown::Both);
}

impl Relay {
    fn handle(&mut self, message: &Json, from: &TcpStream) {
        let (name, payload) = (message[2].as_str().unwrap(), &message[4]);
        let topic = self.topics.entry(name.to_owned()).or_default();
        let reply = |status: &str, response: Json| {
            let payload = json!({ "status": status, "response": response });
            tell(from, &json!([message[0], message[1], name, "phx_reply", payload]));
        };
        match message[3].as_str().unwrap() {
            "phx_join" => {
                let resumed = payload["resume_token"] == "ab";
                reply(
                    "ok",
                    json!({ "epoch": "3", "seq": topic.said.len(), "player_id": 1, "resume_token": "ab", "resumed": resumed }),
                );
                if let Some(seq) = payload["resume"]["seq"].as_u64() {
                    let catch_up = topic.catch_up(seq as usize, &mut self.fault);
                    tell(from, &json!([message[0], null, name, "catch_up", catch_up]));
                }
                topic.members.push(from.try_clone().unwrap());
            }
            "new_message" => {
                let seq = topic.said.len() + 1;
                if self.fault == Fault::Refuses(seq) {
                    self.fault = Fault::Nothing;
                    return reply("error", json!({ "reason": "overload", "retry_after": 1000 }));
                }
                let said = json!({ "id": seq.to_string(), "seq": seq, "body": payload["body"] });
                topic.said.push(said.clone());
                topic.broadcast(self.fault, seq, &json!([null, null, name, "new_message", said]).to_string());
                reply("ok", said);
            }
            _ => reply("ok", json!({})),
        }
    }
}

impl Topic {
    fn broadcast(&mut self, fault: Fault, seq: usize, text: &str) {
        for (index, member) in self.members.iter().enumerate() {
            let fault = if index == 0 { fault } else { Fault::Nothing };
            if fault == Fault::Swaps(seq) {
                self.held_back = Some(text.to_owned());
            } else if fault != Fault::Loses(seq) {
                send(member, text);
            }
            if fault == Fault::Repeats(seq) {
                send(member, text);
            }
            if index == 0 && fault != Fault::Swaps(seq) {
                self.held_back.take().into_iter().for_each(|text| send(member, &text));
            }
        }
    }

    fn catch_up(&self, seq: usize, fault: &mut Fault) -> Json {
        let missed = self.said[seq..].iter();
        let mut events: Vec<_> = missed
            .map(|said| json!({ "event": "new_message", "seq": said["seq"], "payload": said }))
            .collect();
        if *fault == Fault::ForgetsWhatWasMissed && events.len() > 3 {
            *fault = Fault::Nothing;
            events.clear();
        }
        json!({ "events": events, "recovered": true, "epoch": "3", "seq": self.said.len() })
    }
}

fn tell(member: &TcpStream, message: &Json) {
    send(member, &message.to_string());
}

/// One that has gone is told nothing.
fn send(mut member: &TcpStream, text: &str) {
    let _ = member.write_all(&server_frame(Opcode::Text, text.as_bytes()));
}
