//! Phoenix Channels as a client sees them, written from the protocol.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::records::GameUpdate;

/// One message from the relay.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The answer to a message of the client.
    Reply { join_ref: Value, reference: Value, topic: String, ok: bool, response: Value },
    /// What the topic tells; `join_ref` is null in a broadcast. The `ref` is null, but of `phx_close`.
    Told { join_ref: Value, topic: String, event: String, payload: Value },
    /// `game_update` in binary.
    Update(GameUpdate),
}

impl Message {
    /// Reads a text of serializer V2, which has exactly five elements.
    pub fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let [join_ref, reference, topic, event, payload] = &value.as_array().expect("an array")[..] else {
            panic!("not five elements: {text}")
        };
        assert!(payload.is_object(), "a payload is an object: {text}");
        assert!(is_compact(text), "{text}");
        let (join_ref, topic) = (join_ref.clone(), topic.as_str().expect("a topic").to_owned());
        let event = event.as_str().expect("an event");
        if event == "phx_reply" {
            assert_eq!(payload.as_object().map(serde_json::Map::len), Some(2), "{text}");
            let ok = match payload["status"].as_str() {
                Some("ok") => true,
                Some("error") => false,
                other => panic!("status {other:?}"),
            };
            let response = payload["response"].clone();
            return Self::Reply { join_ref, reference: reference.clone(), topic, ok, response };
        }
        match event {
            "phx_close" | "phx_error" => assert_eq!(*reference, join_ref, "{text}"),
            _ => assert!(reference.is_null(), "{text}"),
        }
        Self::Told { join_ref, topic, event: event.to_owned(), payload: payload.clone() }
    }

    /// The payload, if it tells of `event`.
    pub fn told(&self, event: &str) -> Option<&Value> {
        match self {
            Self::Told { event: told, payload, .. } if told == event => Some(payload),
            Self::Told { .. } | Self::Reply { .. } | Self::Update(_) => None,
        }
    }

    /// The response, if it answers `reference`.
    pub fn answer(&self, reference: &Value) -> Option<(bool, &Value)> {
        match self {
            Self::Reply { reference: answered, ok, response, .. } if answered == reference => {
                Some((*ok, response))
            }
            Self::Reply { .. } | Self::Told { .. } | Self::Update(_) => None,
        }
    }

    /// What it is, in a word: the event, `ok`, `error`, or `game_update`.
    pub fn word(&self) -> &str {
        match self {
            Self::Reply { ok: true, .. } => "ok",
            Self::Reply { ok: false, .. } => "error",
            Self::Told { event, .. } => event,
            Self::Update(_) => "game_update",
        }
    }
}

impl Message {
    /// The topic that it came on; none of a binary update.
    pub fn topic(&self) -> &str {
        match self {
            Self::Reply { topic, .. } | Self::Told { topic, .. } => topic,
            Self::Update(_) => "",
        }
    }
}

/// Whether there is no whitespace outside of strings.
fn is_compact(json: &str) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    json.chars().all(|letter| {
        (in_string, escaped) = match letter {
            _ if escaped => (in_string, false),
            '\\' => (in_string, true),
            '"' => (!in_string, false),
            _ => (in_string, false),
        };
        in_string || !letter.is_whitespace()
    })
}

/// Who is in a topic, as phoenix.js 1.8 keeps it (`syncState` and `syncDiff` of its presence.js): metas by user. It also is a
/// client that compares no `phx_ref` when somebody joins: that one must not be told of a meta twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PresenceList {
    pub metas: BTreeMap<String, Vec<Value>>,
}

impl PresenceList {
    /// Takes in a message, if it is about presence.
    pub fn hear(&mut self, message: &Message) {
        if let Some(state) = message.told("presence_state") {
            let new = Self::read(state);
            let (joins, leaves) = (new.without(self), self.without(&new));
            self.sync(joins, &leaves);
        }
        if let Some(diff) = message.told("presence_diff") {
            assert_eq!(diff.as_object().map(serde_json::Map::len), Some(2));
            let joins = Self::read(&diff["joins"]);
            for (user, metas) in &joins.metas {
                let known = self.metas.get(user).map_or(&[][..], Vec::as_slice);
                assert!(metas.iter().all(|meta| !has(known, meta)), "{user} joins twice: {diff}");
            }
            self.sync(joins, &Self::read(&diff["leaves"]));
        }
    }

    /// The statuses of a user's metas.
    pub fn statuses(&self, user: &str) -> Vec<&str> {
        let metas = self.metas.get(user).into_iter().flatten();
        metas.map(|meta| meta["status"].as_str().expect("a status")).collect()
    }

    pub fn users(&self) -> Vec<&str> {
        self.metas.keys().map(String::as_str).collect()
    }

    /// The list with the metas of each user in an order of their own: equal for lists that came in different orders.
    pub fn sorted(&self) -> Value {
        let mut metas = self.metas.clone();
        metas.values_mut().for_each(|metas| metas.sort_by_key(|meta| meta["phx_ref"].to_string()));
        json!(metas)
    }

    fn read(users: &Value) -> Self {
        let users = users.as_object().expect("users").iter();
        let metas = |(user, entry): (&String, &Value)| {
            (user.clone(), entry["metas"].as_array().expect("metas").clone())
        };
        Self { metas: users.map(metas).collect() }
    }

    fn without(&self, known: &Self) -> Self {
        let none = Vec::new();
        let lists = self.metas.iter().map(|(user, metas)| {
            let known = known.metas.get(user).unwrap_or(&none);
            (user.clone(), metas.iter().filter(|meta| !has(known, meta)).cloned().collect())
        });
        Self { metas: lists.filter(|(_, metas): &(_, Vec<Value>)| !metas.is_empty()).collect() }
    }

    fn sync(&mut self, joins: Self, leaves: &Self) {
        for (user, joined) in joins.metas {
            let known = self.metas.entry(user).or_default();
            known.retain(|meta| !has(&joined, meta));
            known.extend(joined);
        }
        for (user, left) in &leaves.metas {
            let Some(known) = self.metas.get_mut(user) else { continue };
            known.retain(|meta| !has(left, meta));
            if known.is_empty() {
                self.metas.remove(user);
            }
        }
    }
}

fn has(metas: &[Value], meta: &Value) -> bool {
    metas.iter().any(|other| other["phx_ref"] == meta["phx_ref"])
}
