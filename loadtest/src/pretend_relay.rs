//! A relay of a few lines, for tests: it has rooms, documents and games of Phoenix clients, and one fault on purpose.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use corelay::room::ot::{Tie, apply, compose, transform};
use corelay::wire::frame::Opcode;
use corelay::wire::operation::Operation;
use ropey::Rope;
use serde_json::{Value as Json, json};
use tungstenite::Message;

use crate::frames::server_frame;

/// What it does wrong, once. Numbers are those of what is said in a topic; its first member, or the second if the first has said
/// it, is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    Loses(usize),
    Repeats(usize),
    /// The next one comes first.
    Swaps(usize),
    Refuses(usize),
    /// The victim is told of an operation that inserts more.
    Garbles(usize),
    /// All connections end, and whoever comes is turned away.
    Dies(usize),
    /// The first `catch_up` that has more to tell than what was on its way when connections were cut leaves it out.
    ForgetsWhatWasMissed,
}

struct Relay {
    fault: Fault,
    is_dead: bool,
    topics: BTreeMap<String, Topic>,
}

#[derive(Default)]
struct Topic {
    /// Payloads of what was said.
    said: Vec<Json>,
    members: Vec<TcpStream>,
    /// What a member is told later.
    held_back: Option<(usize, String)>,
    /// Of a document: its text, and what made it.
    text: Rope,
    operations: Vec<Operation>,
}

/// Starts one; its URL. It ends with the process.
pub fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let relay = Arc::new(Mutex::new(Relay { fault, is_dead: false, topics: BTreeMap::new() }));
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
        let mut relay = relay.lock().unwrap();
        relay.handle(&message, &writer);
        if relay.is_dead {
            relay.topics.values().flat_map(|topic| &topic.members).for_each(hang_up);
            break;
        }
    }
    // Members of topics are other names of the socket, which would keep it open.
    hang_up(&writer);
}

fn hang_up(member: &TcpStream) {
    let _ = member.shutdown(Shutdown::Both);
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
                if name.starts_with("doc:") {
                    let state = topic.doc_state();
                    tell(from, &json!([message[0], null, name, "doc_state", state]));
                }
                topic.members.push(from.try_clone().unwrap());
            }
            "new_message" | "operation" if self.fault == Fault::Refuses(topic.said.len() + 1) => {
                self.fault = Fault::Nothing;
                reply("error", json!({ "reason": "overload", "retry_after": 1000 }));
            }
            "operation" => match topic.edit(payload) {
                None => reply("error", json!({ "reason": "it reaches beyond the end" })),
                Some(version) => {
                    self.is_dead |= self.fault == Fault::Dies(version);
                    topic.tell_edited(self.fault, version, (name, payload), from);
                    reply("ok", json!({ "version": version }));
                }
            },
            "new_message" => {
                let seq = topic.said.len() + 1;
                let said = json!({ "id": seq.to_string(), "seq": seq, "body": payload["body"] });
                topic.said.push(said.clone());
                let text = json!([null, null, name, "new_message", said]).to_string();
                topic.broadcast(self.fault, seq, (&text, &text), None);
                reply("ok", said);
            }
            _ => reply("ok", json!({})),
        }
    }
}

impl Topic {
    /// Tells everybody but `except` of number `seq`, and the victim what is wrong.
    fn broadcast(
        &mut self,
        fault: Fault,
        seq: usize,
        (text, garbled): (&str, &str),
        except: Option<&TcpStream>,
    ) {
        let peer = |member: &TcpStream| member.peer_addr().ok();
        let told =
            |(_, member): &(usize, &TcpStream)| except.is_none_or(|except| peer(except) != peer(member));
        for (nth, (index, member)) in self.members.iter().enumerate().filter(told).enumerate() {
            let fault = if nth == 0 { fault } else { Fault::Nothing };
            let late = self.held_back.take_if(|(victim, _)| *victim == index);
            if fault == Fault::Swaps(seq) {
                self.held_back = Some((index, text.to_owned()));
            } else if fault != Fault::Loses(seq) {
                send(member, if fault == Fault::Garbles(seq) { garbled } else { text });
            }
            if fault == Fault::Repeats(seq) {
                send(member, text);
            }
            late.into_iter().for_each(|(_, text)| send(member, &text));
        }
    }

    fn doc_state(&self) -> Json {
        json!({ "version": self.said.len(), "epoch": "3", "content": String::from(&self.text), "part": 1, "parts": 1 })
    }

    /// The version that an operation makes.
    fn edit(&mut self, payload: &Json) -> Option<usize> {
        let operation = Operation::read(&payload["op"].to_string())?;
        let since = &self.operations[payload["version"].as_u64()? as usize..];
        let operation =
            since.iter().fold(operation, |operation, over| transform(&operation, over, Tie::Right));
        if operation.reach() > self.text.len_chars() as u64 {
            return None;
        }
        apply(&operation, &mut self.text);
        self.operations.push(operation);
        self.said.push(Json::Null);
        Some(self.said.len())
    }

    fn tell_edited(
        &mut self,
        fault: Fault,
        version: usize,
        (name, payload): (&str, &Json),
        from: &TcpStream,
    ) {
        let operation = &self.operations[version - 1];
        let mut longer = Operation::default();
        longer.insert("!", 1);
        let texts = [operation, &compose(operation, &longer.end())].map(|operation| {
            let op: Json = serde_json::from_str(&operation.to_json()).unwrap();
            let told = json!({ "op": op, "version": version, "user_id": "a", "op_id": payload["op_id"] });
            json!([null, null, name, "operation", told]).to_string()
        });
        self.broadcast(fault, version, (&texts[0], &texts[1]), Some(from));
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
