//! The topics of one client, as a Phoenix client keeps them: what it has joined, what it has seen, what it waits for.

mod documents;
mod hearing;

use std::collections::BTreeMap;
use std::time::Duration;

use corelay::time::Instant;
use serde_json::{Value, json};

use super::faults::{Branch, Counts};
use super::ledger::{Ledger, Scope, Stream};
use super::phoenix::{Message, PresenceList};
use super::random::Random;
use super::records::View;
use super::replica::Replica;
use super::wire::Serializer;

/// What a client needs of the run to take in what it is told.
pub struct Hearing<'a> {
    pub ledger: &'a mut Ledger,
    pub counts: &'a mut Counts,
    pub random: &'a mut Random,
    pub now: Instant,
    /// Until then a seat that is lost now cannot have been given up.
    pub sure_until: Instant,
}

impl Hearing<'_> {
    /// When a client tries again what did not work.
    pub fn soon(&mut self) -> Instant {
        self.now + Duration::from_millis(self.random.below(600) as u64)
    }
}

/// The topics of a connection. They outlive it: the next one joins them again.
#[derive(Debug)]
pub struct Topics {
    pub serializer: Serializer,
    pub all: Vec<Topic>,
    /// Who it says that it is; `None`: each connection is another guest.
    pub user: Option<String>,
    next_ref: u64,
    /// Messages that the relay has not answered yet, by `ref`.
    asked: BTreeMap<String, Asked>,
}

/// A message that wants an answer.
#[derive(Debug)]
struct Asked {
    topic: Option<usize>,
    join_ref: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Join,
    Leave,
    Message {
        body: String,
    },
    /// An edit, a deletion, or a read marker.
    Deed {
        is_marker: bool,
    },
    Event {
        number: usize,
    },
    History,
    Operation {
        op_id: String,
    },
    /// Operations that were missed.
    Operations,
    Reconnect,
    /// An event that there is not.
    Unknown,
    Other,
}

impl What {
    /// Whether it may be answered with an error for `reason`.
    fn may_be_refused(&self, reason: &str) -> bool {
        match self {
            // Other reasons to refuse these two are checked where they are heard.
            Self::Join | Self::Reconnect => true,
            Self::Unknown if reason.starts_with("unknown event") => true,
            // The event's receiver has gone, and its client does not know yet.
            Self::Event { .. } if reason.ends_with("is not in this game") => true,
            // The message is another's, or is gone, or its membership was another user.
            Self::Deed { .. } if matches!(reason, "forbidden" | "not_found") => true,
            // As much was written since as is kept.
            Self::Operation { .. } | Self::Operations if reason == "too_old" => true,
            Self::Leave => false,
            Self::Message { .. }
            | Self::Deed { .. }
            | Self::Event { .. }
            | Self::History
            | Self::Operation { .. }
            | Self::Operations
            | Self::Unknown
            | Self::Other => {
                matches!(
                    reason,
                    "rate_limited" | "overload" | "unmatched topic" | "storage_full" | "unavailable"
                )
            }
        }
    }
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    pub name: &'static str,
    pub state: State,
    pub kind: Kind,
    /// The `join_ref` of the present membership, or of the last one.
    join_ref: String,
    /// The `join_ref` of the membership before it on this connection, if there was one.
    join_ref_before: Option<String>,
    before: Before,
    /// A `catch_up` is to come.
    catches_up: Option<CatchUp>,
    pub epoch: String,
    /// The last event that was seen.
    pub seq: u64,
    pub user: String,
    pub presence: Presence,
    /// Messages of a room as they read, by number; `None`: it is deleted.
    pub messages: BTreeMap<u64, Option<String>>,
    /// How far its user has said that it has read.
    read: u64,
}

/// What a client has asked to be caught up with.
#[derive(Clone, Copy, Debug)]
struct CatchUp {
    /// The last event that it had seen.
    from: u64,
    /// The `catch_up` is part of the answer to a join, and nothing of the stream overtakes it.
    of_join: bool,
}

/// What a join takes the place of, on the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A membership that goes on being told until the answer.
    Membership,
    /// A join without an answer: nobody knows what has been told of it, or since when, so it is not listened to.
    UnansweredJoin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not joined; `again_at`: when it will be; `None`: it is not wanted.
    Out {
        again_at: Option<Instant>,
    },
    Joining,
    Joined,
    Leaving,
}

#[derive(Debug)]
pub enum Kind {
    Room,
    Game(Box<Game>),
    Document(Box<Replica>),
}

/// A game as one Phoenix client knows it.
#[derive(Debug, Default)]
pub struct Game {
    pub player: u32,
    pub token: String,
    pub view: View,
    pub stream: Stream,
    /// Until then the seat cannot have been given up; `NEVER` while it is taken.
    pub sure_until: Instant,
}

/// Who is in a topic, as a client is told.
#[derive(Debug, Default)]
pub struct Presence {
    pub list: PresenceList,
    /// How many members there are, while nobody says who.
    pub online: Option<u64>,
}

impl Presence {
    fn hear(&mut self, message: &Message, counts: &mut Counts) {
        if message.told("presence_state").is_some() && self.online.take().is_some() {
            counts.branch(Branch::ListBack);
        }
        if let Some(count) = message.told("presence_count") {
            if self.online.is_none() {
                counts.branch(Branch::ListOff);
            }
            self.online = count["online"].as_u64();
        }
        self.list.hear(message);
    }
}

impl Topic {
    /// `user`: who edits it, if it is a document.
    fn new(name: &'static str, user: &str) -> Self {
        Self {
            name,
            state: State::Out { again_at: Some(Instant::default()) },
            kind: match name.split_once(':') {
                Some(("room", _)) => Kind::Room,
                Some(("doc", _)) => Kind::Document(Box::new(Replica::new(user.to_owned()))),
                _ => Kind::Game(Box::default()),
            },
            join_ref: String::new(),
            join_ref_before: None,
            before: Before::Nothing,
            catches_up: None,
            epoch: String::new(),
            seq: 0,
            user: String::new(),
            presence: Presence::default(),
            messages: BTreeMap::new(),
            read: 0,
        }
    }

    pub fn game(&self) -> Option<&Game> {
        match &self.kind {
            Kind::Game(game) => Some(game),
            Kind::Room | Kind::Document(_) => None,
        }
    }

    fn game_mut(&mut self) -> Option<&mut Game> {
        match &mut self.kind {
            Kind::Game(game) => Some(game),
            Kind::Room | Kind::Document(_) => None,
        }
    }

    /// Players that its list of presence names.
    pub fn players(&self) -> Vec<u32> {
        let metas = self.presence.list.metas.values().flatten();
        metas.filter_map(|meta| Some(meta["player_id"].as_u64()? as u32)).collect()
    }

    pub fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    /// Whether what its topic tells all members may reach it now.
    fn is_member(&self) -> bool {
        match self.state {
            State::Joined | State::Leaving => true,
            State::Joining => self.before == Before::Membership,
            State::Out { .. } => false,
        }
    }

    /// Whether that is the membership that a join is about to take the place of.
    fn is_followed_as(&self, join_ref: &Value) -> bool {
        let is_before = self.join_ref_before.as_ref().is_some_and(|before| join_ref == before.as_str());
        is_before && self.before == Before::Membership
    }

    /// Whether what is told may be of a membership that is not followed.
    fn is_deaf(&self) -> bool {
        self.before == Before::UnansweredJoin
    }

    fn out(&mut self, again_at: Option<Instant>) {
        self.state = State::Out { again_at };
        self.before = Before::Nothing;
        self.catches_up = None;
        if let Some(document) = self.document_mut() {
            document.ends();
        }
    }

    /// Its seat is held from now on.
    fn loses_seat(&mut self, sure_until: Instant) {
        if let Kind::Game(game) = &mut self.kind {
            game.sure_until = game.sure_until.min(sure_until);
        }
    }
}

impl Topics {
    pub fn new(serializer: Serializer, names: Vec<&'static str>) -> Self {
        Self::of(serializer, names, None)
    }

    /// `user`: who it is on every connection.
    pub fn of(serializer: Serializer, names: Vec<&'static str>, user: Option<String>) -> Self {
        let author = user.as_deref().unwrap_or_default();
        let all = names.into_iter().map(|name| Topic::new(name, author)).collect();
        Self { serializer, all, user, next_ref: 0, asked: BTreeMap::new() }
    }

    /// The connection is gone: everything that is wanted is joined again on the next one.
    pub fn lost(&mut self, sure_until: Instant) {
        self.asked.clear();
        for topic in &mut self.all {
            topic.join_ref.clear();
            topic.loses_seat(sure_until);
            match topic.state {
                State::Leaving => topic.out(None),
                State::Out { again_at: None } => {}
                State::Out { .. } | State::Joining | State::Joined => topic.out(Some(Instant::default())),
            }
        }
    }

    /// Everything that the relay knew of this client is gone.
    pub fn forgotten(&mut self) {
        self.all.iter_mut().for_each(|topic| topic.loses_seat(Instant::default()));
    }

    /// Checks that, at rest, everything has been answered that must be.
    pub fn check_answered(&self) {
        for (reference, asked) in &self.asked {
            let is_answered = match (asked.topic.map(|topic| &self.all[topic]), &asked.what) {
                (_, What::Join | What::Leave) | (None, _) => false,
                // What answers it may come for other reasons; that it has come is seen below.
                (Some(topic), What::Reconnect) if topic.document().is_some() => true,
                // It was asked in a membership that has ended meanwhile.
                (Some(topic), _) => topic.state != State::Joined || topic.join_ref != asked.join_ref,
            };
            assert!(is_answered, "{reference} was never answered: {asked:?} {:?}", self.all);
        }
        for topic in &self.all {
            assert!(!topic.is_joined() || topic.catches_up.is_none(), "no catch_up came: {topic:?}");
        }
    }

    // ── What it writes ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Joins what is wanted and not joined, in one burst.
    pub fn join_wanted(&mut self, now: Instant, random: &mut Random) -> Vec<u8> {
        let mut bytes = Vec::new();
        for index in 0..self.all.len() {
            if matches!(self.all[index].state, State::Out { again_at: Some(at) } if at <= now) {
                bytes.extend(self.join(index, Instant::NEVER, random));
            }
        }
        bytes
    }

    /// Joins a topic, perhaps again: then its seat is lost until the answer.
    pub fn join(&mut self, index: usize, sure_until: Instant, random: &mut Random) -> Vec<u8> {
        let reference = self.next_ref();
        let topic = &mut self.all[index];
        let mut payload = json!({"layout": 1});
        let knows_its_place = topic.catches_up.take().is_none() && !topic.epoch.is_empty();
        if !topic.epoch.is_empty() && random.chance(800) {
            payload["resume"] = json!({"epoch": topic.epoch, "seq": topic.seq});
            topic.catches_up = Some(CatchUp { from: topic.seq, of_join: true });
        }
        if self.serializer == Serializer::V2Text {
            payload["binary"] = json!(false);
        }
        if random.chance(100) {
            payload["meta"] = json!({"n": random.below(5)});
        }
        let token = topic.game().map(|game| game.token.clone()).filter(|token| !token.is_empty());
        match token.filter(|_| random.chance(900)) {
            Some(token) => {
                payload["resume_token"] = json!(token);
                topic.loses_seat(sure_until);
            }
            None => topic.loses_seat(Instant::default()),
        }
        topic.before = match topic.state {
            State::Joined | State::Leaving if knows_its_place => Before::Membership,
            State::Joining | State::Joined | State::Leaving => Before::UnansweredJoin,
            State::Out { .. } => Before::Nothing,
        };
        if topic.before != Before::Membership
            && let Some(document) = topic.document_mut()
        {
            document.ends();
        }
        topic.state = State::Joining;
        topic.join_ref_before = Some(std::mem::replace(&mut topic.join_ref, reference.clone()));
        let name = topic.name;
        self.ask(Some(index), &reference, What::Join);
        self.serializer.text(&json!(reference), &json!(reference), name, "phx_join", &payload)
    }

    pub fn leave(&mut self, index: usize) -> Vec<u8> {
        let topic = &mut self.all[index];
        topic.state = State::Leaving;
        topic.loses_seat(Instant::default());
        self.push_asking(index, "phx_leave", &json!({}), What::Leave)
    }

    pub fn heartbeat(&mut self) -> Vec<u8> {
        let reference = self.next_ref();
        self.ask(None, &reference, What::Other);
        self.serializer.text(&Value::Null, &json!(reference), "phoenix", "heartbeat", &json!({}))
    }

    /// Heartbeats that are longer than they need be.
    pub fn flood(&mut self) -> Vec<u8> {
        let padding = json!({"padding": "x".repeat(4000)});
        let mut bytes = Vec::new();
        for _ in 0..40 {
            let reference = self.next_ref();
            self.ask(None, &reference, What::Other);
            bytes.extend(self.serializer.text(
                &Value::Null,
                &json!(reference),
                "phoenix",
                "heartbeat",
                &padding,
            ));
        }
        bytes
    }

    pub fn talk(&mut self, index: usize, long: bool, again: bool) -> Vec<u8> {
        let body = if long { format!("{} {}", self.next_ref(), "x".repeat(4000)) } else { self.next_ref() };
        // References of two clients are alike; what they say is not.
        let body = format!("{} {body}", self.all[index].user);
        let payload = json!({"body": body, "client_id": self.next_ref.to_string()});
        let mut bytes =
            self.push_asking(index, "new_message", &payload, What::Message { body: body.clone() });
        if again {
            bytes.extend(self.push_asking(index, "new_message", &payload, What::Message { body }));
        }
        bytes
    }

    /// Edits or deletes a message of which it knows, its own or another's.
    pub fn change_message(&mut self, index: usize, random: &mut Random, ledger: &mut Ledger) -> Vec<u8> {
        let reference = self.next_ref();
        let topic = &self.all[index];
        let known: Vec<u64> = topic.messages.keys().rev().take(5).copied().collect();
        if known.is_empty() {
            return Vec::new();
        }
        let Ok(epoch) = topic.epoch.parse::<u64>() else { return Vec::new() };
        let (name, id) = (topic.name, format!("{epoch:x}-{}", random.one_of(&known)));
        if random.chance(300) {
            ledger.delete(name, &id);
            let what = What::Deed { is_marker: false };
            return self.push_asking(index, "delete_message", &json!({"id": id}), what);
        }
        let body = format!("{} instead {reference}", topic.user);
        ledger.edit(name, &id, &body);
        let what = What::Deed { is_marker: false };
        self.push_asking(index, "edit_message", &json!({"id": id, "body": body}), what)
    }

    /// Says that everything is read that was told.
    pub fn mark_read(&mut self, index: usize) -> Vec<u8> {
        let seq = self.all[index].seq;
        self.push_asking(index, "read_marker", &json!({"seq": seq}), What::Deed { is_marker: true })
    }

    pub fn history(&mut self, index: usize) -> Vec<u8> {
        self.push_asking(index, "history", &json!({"limit": 20}), What::History)
    }

    /// Asks for what was missed since `seen`.
    pub fn reconnect(&mut self, index: usize, seen: u64) -> Vec<u8> {
        let topic = &mut self.all[index];
        if topic.catches_up.is_some() {
            return Vec::new();
        }
        topic.catches_up = Some(CatchUp { from: seen, of_join: false });
        let payload = json!({"last_seen": {"epoch": topic.epoch, "seq": seen}});
        self.push_asking(index, "reconnect", &payload, What::Reconnect)
    }

    pub fn send_event(&mut self, index: usize, scope: Scope, long: bool, ledger: &mut Ledger) -> Vec<u8> {
        let topic = &self.all[index];
        let Some(game) = topic.game() else { return Vec::new() };
        let number = ledger.send(topic.name, game.player, scope);
        let to = match scope {
            Scope::Others => json!("others"),
            Scope::All => json!("all"),
            Scope::Only(player) => json!(player),
        };
        let inner = if long { json!([number, "x".repeat(1000)]) } else { json!(number) };
        let payload = json!({"code": 1, "to": to, "payload": inner});
        self.push_asking(index, "game_event", &payload, What::Event { number })
    }

    /// A push that no topic knows.
    pub fn ask_unknown(&mut self, index: usize) -> Vec<u8> {
        self.push_asking(index, "no_such_event", &json!({}), What::Unknown)
    }

    /// A push that is answered, whatever the answer is.
    pub fn ask_other(&mut self, index: usize, event: &str, payload: &Value) -> Vec<u8> {
        self.push_asking(index, event, payload, What::Other)
    }

    /// A push that wants no answer.
    pub fn push(&mut self, index: usize, event: &str, payload: &Value) -> Vec<u8> {
        let topic = &self.all[index];
        self.serializer.text(&json!(topic.join_ref), &Value::Null, topic.name, event, payload)
    }

    /// A push to the membership before: nobody hears it.
    pub fn push_too_late(&mut self, index: usize) -> Vec<u8> {
        let topic = &self.all[index];
        let Some(join_ref) = topic.join_ref_before.as_ref().filter(|name| !name.is_empty()) else {
            return Vec::new();
        };
        self.serializer.text(&json!(join_ref), &Value::Null, topic.name, "typing", &json!({"typing": true}))
    }

    /// The head of a binary push.
    pub fn binary_head(&self, index: usize) -> [&str; 3] {
        let topic = &self.all[index];
        [&topic.join_ref, "", topic.name]
    }

    fn push_asking(&mut self, index: usize, event: &str, payload: &Value, what: What) -> Vec<u8> {
        let reference = self.next_ref();
        self.ask(Some(index), &reference, what);
        let topic = &self.all[index];
        self.serializer.text(&json!(topic.join_ref), &json!(reference), topic.name, event, payload)
    }

    fn ask(&mut self, topic: Option<usize>, reference: &str, what: What) {
        let join_ref = topic.map(|topic| self.all[topic].join_ref.clone()).unwrap_or_default();
        self.asked.insert(reference.to_owned(), Asked { topic, join_ref, what });
    }

    fn next_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }
}
