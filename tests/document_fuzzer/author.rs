//! One client: a connection with latency, its membership in the document, and what it keeps of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use corelay::time::Instant;
use serde_json::{Value, json};

use super::histories::History;
use super::random::Random;
use super::replica::Replica;
use super::world::World;
use super::world::client::{ClientId, Frame, Message};

/// How often a client says that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Asked {
    Join { resumes: bool },
    Operation { op_id: String },
    Operations,
    Other,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Author {
    topic: String,
    user: String,
    pub replica: Replica,
    connection: Option<ClientId>,
    /// When it connects, or joins, again.
    again_at: Instant,
    is_joined: bool,
    join_ref: String,
    next_ref: u64,
    /// By `ref`: in which membership, and what.
    asked: BTreeMap<String, (String, Asked)>,
    /// What is on its way to the relay, and from it, and when it arrives.
    up: VecDeque<(Instant, String)>,
    down: VecDeque<(Instant, Frame)>,
    heard_at: Instant,
    /// In ms, at most.
    latency: usize,
}

/// What a client needs to live.
pub struct Around<'a> {
    pub world: &'a mut World,
    pub random: &'a mut Random,
    pub history: &'a mut History,
}

impl Author {
    pub fn new(user: &str, topic: &str, latency: usize) -> Self {
        Self {
            topic: topic.to_owned(),
            user: user.to_owned(),
            replica: Replica::new(user.to_owned()),
            connection: None,
            again_at: Instant::default(),
            is_joined: false,
            join_ref: String::new(),
            next_ref: 0,
            asked: BTreeMap::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            heard_at: Instant::default(),
            latency,
        }
    }

    /// Whether it has nothing left to say or to hear.
    pub fn is_at_rest(&self) -> bool {
        let mut asked = self.asked.values().filter(|(join_ref, _)| *join_ref == self.join_ref);
        self.is_joined && asked.all(|(_, asked)| matches!(asked, Asked::Other)) && self.replica.is_at_rest()
    }

    /// The connection is gone. `is_known`: the relay sees that, too.
    pub fn lose(&mut self, is_known: bool, around: &mut Around<'_>) {
        let Some(connection) = self.connection.take() else { return };
        if is_known && around.world.clients.contains_key(&connection) {
            if around.random.chance(500) {
                // What was on its way arrives before the end.
                for (_, text) in std::mem::take(&mut self.up) {
                    around.world.say(connection, &text);
                }
            }
            around.world.hang_up(connection);
        }
        self.out(around.random.below(1_500), around.world.now.instant);
        self.up.clear();
        self.down.clear();
        self.asked.clear();
    }

    fn out(&mut self, after_ms: usize, now: Instant) {
        self.replica.ends();
        self.is_joined = false;
        self.join_ref.clear();
        self.again_at = now + Duration::from_millis(after_ms as u64);
    }

    /// Lets arrive what has arrived, and says what is to be said.
    pub fn live(&mut self, around: &mut Around<'_>) {
        let now = around.world.now.instant;
        let Some(connection) = self.connection else {
            if self.again_at <= now {
                let shard = around.random.below(around.world.metrics.len());
                self.connection = Some(around.world.socket_on(shard, &format!("&user={}", self.user)));
                self.heard_at = now;
            }
            return;
        };
        while self.up.front().is_some_and(|(at, _)| *at <= now) {
            let (_, text) = self.up.pop_front().expect("it was just there");
            around.world.say(connection, &text);
        }
        for frame in around.world.client(connection).frames() {
            let at = now + self.delay(around.random);
            let before = self.down.back().map_or(now, |(at, _)| *at);
            self.down.push_back((at.max(before), frame));
        }
        while self.down.front().is_some_and(|(at, _)| *at <= now) {
            let (_, frame) = self.down.pop_front().expect("it was just there");
            if !self.hear(frame, around) {
                return self.lose(true, around);
            }
        }
        if around.world.client(connection).ended.is_some() {
            return self.lose(false, around);
        }
        self.speak(around);
    }

    fn speak(&mut self, around: &mut Around<'_>) {
        let now = around.world.now.instant;
        if now.since(self.heard_at) >= HEARTBEAT_INTERVAL {
            self.heard_at = now;
            let reference = self.ask(Asked::Other);
            self.send(format!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#), around);
        }
        if self.join_ref.is_empty() && self.again_at <= now {
            self.join(around);
        }
        if !self.is_joined {
            return;
        }
        for (op_id, payload) in self.replica.operations_due(now, around.random, around.history) {
            self.push("operation", &payload, Asked::Operation { op_id }, around);
        }
        if let Some(after) = self.replica.page_due(now) {
            self.push("operations", &json!({"after": after}), Asked::Operations, around);
        }
    }

    fn join(&mut self, around: &mut Around<'_>) {
        let resumes = self.replica.is_known && around.random.chance(850);
        let payload = match resumes {
            true => json!({"resume": {"epoch": self.replica.epoch, "seq": self.replica.version}}),
            false => json!({}),
        };
        let reference = self.ask(Asked::Join { resumes });
        self.join_ref.clone_from(&reference);
        self.send(format!(r#"["{reference}","{reference}","{}","phx_join",{payload}]"#, self.topic), around);
    }

    /// Does something that is not its turn by itself.
    pub fn meddle(&mut self, around: &mut Around<'_>) {
        if !self.is_joined {
            return;
        }
        match around.random.below(10) {
            0..3 => {
                let again = self.replica.operation_again(around.random, around.history);
                let Some((op_id, payload)) = again else { return };
                self.push("operation", &payload, Asked::Operation { op_id }, around);
            }
            3 => {
                let Some(after) = self.replica.page_again(around.random) else { return };
                self.push("operations", &json!({"after": after}), Asked::Operations, around);
            }
            _ => {
                let Some(cursor) = self.replica.cursor(around.random) else { return };
                self.send(
                    format!(r#"["{}",null,"{}","cursor",{cursor}]"#, self.join_ref, self.topic),
                    around,
                );
            }
        }
    }

    fn push(&mut self, event: &str, payload: &Value, asked: Asked, around: &mut Around<'_>) {
        let reference = self.ask(asked);
        self.send(
            format!(r#"["{}","{reference}","{}","{event}",{payload}]"#, self.join_ref, self.topic),
            around,
        );
    }

    fn ask(&mut self, asked: Asked) -> String {
        self.next_ref += 1;
        self.asked.insert(self.next_ref.to_string(), (self.join_ref.clone(), asked));
        self.next_ref.to_string()
    }

    fn send(&mut self, text: String, around: &mut Around<'_>) {
        let now = around.world.now.instant;
        let before = self.up.back().map_or(now, |(at, _)| *at);
        self.up.push_back(((now + self.delay(around.random)).max(before), text));
    }

    fn delay(&self, random: &mut Random) -> Duration {
        Duration::from_millis(random.below(self.latency + 1) as u64)
    }

    // ── What it is told ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes something in. `false`: the connection ends.
    fn hear(&mut self, frame: Frame, around: &mut Around<'_>) -> bool {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Close(_) => return false,
            other => panic!("no text: {other:?}"),
        };
        match Message::parse(&text) {
            Message::Reply { reference, ok, response, .. } => {
                self.hear_reply(&reference, ok, &response, around);
            }
            Message::Told { join_ref, event, payload, .. } => {
                if join_ref.is_null() && self.is_joined || join_ref == self.join_ref {
                    self.hear_event(&event, &payload, around);
                }
            }
            Message::Update(update) => panic!("of a game: {update:?}"),
        }
        true
    }

    fn hear_event(&mut self, event: &str, payload: &Value, around: &mut Around<'_>) {
        match event {
            "phx_error" => self.out(around.random.below(500), around.world.now.instant),
            "doc_state" | "operations" | "operation" | "cursor" => {
                self.replica.hear(event, payload, around.world.now.instant, around.history);
            }
            _ => {}
        }
    }

    fn hear_reply(&mut self, reference: &Value, ok: bool, response: &Value, around: &mut Around<'_>) {
        let Some(name) = reference.as_str() else {
            // A cursor in a membership that has ended meanwhile.
            return assert_eq!(response["reason"], "unmatched topic");
        };
        let (join_ref, asked) =
            self.asked.remove(name).unwrap_or_else(|| panic!("{name} was answered twice: {response}"));
        let now = around.world.now.instant;
        let version = response["version"].as_u64();
        let is_present = join_ref == self.join_ref;
        match asked {
            Asked::Join { .. } if name != self.join_ref => {}
            Asked::Join { resumes } if ok => {
                self.is_joined = true;
                self.replica.joined(&self.user, version.expect("a number"), resumes);
            }
            Asked::Join { .. } => {
                let wait = response["retry_after"].as_u64().unwrap_or(100) as usize;
                self.out(wait + around.random.below(200), now);
            }
            Asked::Operation { op_id } if ok => {
                let told = (is_present && self.is_joined, now);
                self.replica.acknowledged(&op_id, version.expect("a number"), told, around.history);
            }
            Asked::Operation { op_id } => {
                let gives_up = around.random.chance(50);
                self.replica.refused(&op_id, response, gives_up, now, around.history);
            }
            Asked::Operations if !is_present => {}
            Asked::Operations if ok => self.replica.hear_page(response, now, around.history),
            Asked::Operations => self.replica.page_refused(now + Duration::from_millis(300)),
            Asked::Other => assert!(ok, "{response}"),
        }
    }
}
