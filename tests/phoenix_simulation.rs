//! Seeded runs of Phoenix clients and native players in the same rooms and games: they join, leave, lose their connection, come
//! back, move, talk, type, in any order. Every chat message and event must have been seen once and in order, and in the end
//! every list of who is here and every state of a game must be what a newcomer is told. A failing run names its seed.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use corelay::room::game::GameRules;
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use world::World;
use world::client::{
    ClientId, Frame, GameUpdate, Message, Object, PresenceList, Record, View, close, event, game_state,
    move_to, put_object, remove_object,
};

const SEEDS: u64 = 60;
const STEPS: usize = 500;
const ROOMS: [&str; 3] = ["room:a", "room:b", "room:lobby"];
const GAMES: [&str; 3] = ["game:arena", "game:cave", "game:lobby"];

#[test]
fn every_client_ends_with_what_a_newcomer_is_told() {
    run_seeds(false);
}

#[test]
fn every_client_that_reads_slowly_ends_with_what_a_newcomer_is_told() {
    run_seeds(true);
}

fn run_seeds(slow_readers: bool) {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| Simulation::new(seed, slow_readers).run());
        assert!(run.is_ok(), "seed {seed} failed; see above");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [7, 8] {
        let transcript = || {
            let mut simulation = Simulation::new(seed, true);
            (0..STEPS).for_each(|_| simulation.step());
            simulation.transcript
        };
        let first = transcript();
        assert!(first.len() > 1_000, "{}", first.len());
        assert!(first == transcript());
    }
}

/// A room as one client knows it.
#[derive(Debug, Default)]
struct Room {
    topic: &'static str,
    join_ref: String,
    joined: bool,
    epoch: Value,
    seq: u64,
    list: PresenceList,
}

/// A game as one Phoenix client knows it.
#[derive(Debug, Default)]
struct Game {
    topic: &'static str,
    join_ref: String,
    joined: bool,
    epoch: Value,
    seq: u64,
    list: PresenceList,
    id: u32,
    token: String,
    /// Its seat is another than the one that it asked for.
    seated_anew: bool,
    view: View,
    events_seen: Vec<u64>,
    events_expected: Vec<u64>,
}

/// A Phoenix client. It keeps what it knows when its connection is lost.
#[derive(Debug, Default)]
struct Phoenix {
    client: Option<ClientId>,
    room: Option<Room>,
    game: Option<Game>,
}

/// A native player.
#[derive(Debug, Default)]
struct Native {
    client: Option<ClientId>,
    topic: &'static str,
    id: u32,
    token: String,
    view: View,
}

struct Simulation {
    random: ChaCha8Rng,
    world: World,
    slow_readers: bool,
    phoenix: Vec<Phoenix>,
    natives: Vec<Native>,
    next_ref: u64,
    next_event: u64,
    /// Bodies of the messages of all rooms, by topic, epoch and number.
    said: BTreeMap<(&'static str, String, u64), String>,
    transcript: Vec<String>,
}

impl Simulation {
    fn new(seed: u64, slow_readers: bool) -> Self {
        let settings = Settings {
            placement: Placement::known(if seed.is_multiple_of(2) { 1 } else { 3 }),
            // In some runs lists stop and come back.
            presence_list_max: if seed % 4 < 2 { 256 } else { 4 },
            games: vec![GameRules { seat_hold: Duration::from_secs(3), ..GameRules::default() }],
            ..Settings::default()
        };
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            world: World::new(settings),
            slow_readers,
            phoenix: Vec::new(),
            natives: Vec::new(),
            next_ref: 0,
            next_event: 0,
            said: BTreeMap::new(),
            transcript: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.end();
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.random.next_u32() % bound
    }

    fn one_of(&mut self, topics: [&'static str; 3]) -> &'static str {
        topics[self.below(3) as usize]
    }

    fn step(&mut self) {
        if self.natives.is_empty() || self.below(100) < 20 {
            self.step_of_native();
        } else if self.phoenix.len() < 3 {
            self.come();
        } else {
            self.step_of_phoenix();
        }
        let pause = u64::from(self.below(40));
        self.world.advance_ms(pause);
        self.read_all();
    }

    // ── Phoenix clients ─────────────────────────────────────────────────────────────────────────────────────────────

    fn step_of_phoenix(&mut self) {
        let index = self.below(self.phoenix.len() as u32) as usize;
        let what = self.below(100);
        let Some(client) = self.phoenix[index].client else {
            return if what < 40 {
                self.come_back(index);
            };
        };
        let reading = self.world.client(client).reading;
        match what {
            0..8 if self.phoenix.len() < 25 => self.come(),
            8..14 if self.slow_readers => self.world.set_reading(client, false),
            14..28 => self.world.set_reading(client, true),
            28..33 if reading => {
                self.read(index);
                self.world.hang_up(client);
                self.phoenix[index].client = None;
            }
            33..35 if reading => {
                self.world.send_raw(client, &close(1000, ""));
                self.phoenix.remove(index);
            }
            35..40 if reading => self.leave_or_join_room(index, client),
            40..44 if reading => self.leave_or_join_game(index, client),
            44..56 => self.talk(index, client),
            56..62 => {
                let typing = self.below(3) > 0;
                self.push_to_room(index, client, "typing", &json!({ "typing": typing }));
            }
            62..67 => {
                let n = self.below(5);
                self.push_to_room(index, client, "presence_update", &json!({ "n": n }));
                self.push_to_game(index, client, "presence_update", &json!({ "n": n }));
            }
            67..75 => self.send_event_of(index, client),
            75..80 => {
                let number = self.below(3);
                let x = self.below(9) as f32;
                let Some(game) = &self.phoenix[index].game else { return };
                let object = Object { id: game.id * 10 + number, kind: 1, flags: 0, x, y: 0.0 };
                let head = [game.join_ref.clone(), game.topic.to_owned()];
                self.world
                    .send(client, &game_state([&head[0], "", &head[1]], &[(game.id, x, 1.0)], &[object]));
            }
            _ => {
                let (x, y) = (self.below(1000), self.below(1000));
                self.push_to_game(index, client, "move", &json!({ "x": x, "y": y }));
            }
        }
    }

    fn come(&mut self) {
        let shard = self.below(u32::from(self.world.settings.placement.shards)) as usize;
        let client = self.world.socket_on(shard, "");
        self.phoenix.push(Phoenix { client: Some(client), ..Phoenix::default() });
        let index = self.phoenix.len() - 1;
        self.leave_or_join_room(index, client);
        if self.below(3) > 0 {
            self.leave_or_join_game(index, client);
        }
    }

    /// A new connection joins what the one before had joined, in one burst.
    fn come_back(&mut self, index: usize) {
        let shard = self.below(u32::from(self.world.settings.placement.shards)) as usize;
        let client = self.world.socket_on(shard, "");
        let (room_ref, game_ref) = (self.new_ref(), self.new_ref());
        let phoenix = &mut self.phoenix[index];
        phoenix.client = Some(client);
        let mut joins = Vec::new();
        if let Some(room) = &mut phoenix.room {
            (room.join_ref, room.joined) = (room_ref.clone(), false);
            let payload = json!({"resume": {"epoch": room.epoch, "seq": room.seq}});
            joins.push(format!(r#"["{room_ref}","{room_ref}","{}","phx_join",{payload}]"#, room.topic));
        }
        if let Some(game) = &mut phoenix.game {
            (game.join_ref, game.joined) = (game_ref.clone(), false);
            let payload =
                json!({"resume_token": game.token, "resume": {"epoch": game.epoch, "seq": game.seq}});
            joins.push(format!(r#"["{game_ref}","{game_ref}","{}","phx_join",{payload}]"#, game.topic));
        }
        self.world.say_at_once(client, &joins.iter().map(String::as_str).collect::<Vec<_>>());
        self.read(index);
    }

    fn leave_or_join_room(&mut self, index: usize, client: ClientId) {
        self.read(index);
        if self.phoenix[index].client.is_none() {
            return;
        }
        let reference = self.new_ref();
        // Sometimes it joins what it has joined.
        let again = self.below(3) == 0;
        match &mut self.phoenix[index].room {
            Some(room) if !again => {
                let text =
                    format!(r#"["{}","{reference}","{}","phx_leave",{{}}]"#, room.join_ref, room.topic);
                self.world.say(client, &text);
                self.read(index);
                assert!(self.phoenix[index].room.is_none(), "it was told that it is closed");
            }
            Some(room) => {
                (room.join_ref, room.joined) = (reference.clone(), false);
                let text = format!(r#"["{reference}","{reference}","{}","phx_join",{{}}]"#, room.topic);
                self.world.say(client, &text);
                self.read(index);
            }
            None => {
                let topic = self.one_of(ROOMS);
                let room = Room { topic, join_ref: reference.clone(), ..Room::default() };
                self.phoenix[index].room = Some(room);
                self.world
                    .say(client, &format!(r#"["{reference}","{reference}","{topic}","phx_join",{{}}]"#));
                self.read(index);
                assert!(self.phoenix[index].room.as_ref().is_some_and(|room| room.joined));
            }
        }
    }

    fn leave_or_join_game(&mut self, index: usize, client: ClientId) {
        self.read(index);
        if self.phoenix[index].client.is_none() {
            return;
        }
        let reference = self.new_ref();
        match &mut self.phoenix[index].game {
            Some(game) => {
                let text =
                    format!(r#"["{}","{reference}","{}","phx_leave",{{}}]"#, game.join_ref, game.topic);
                self.world.say(client, &text);
                self.read(index);
                assert!(self.phoenix[index].game.is_none(), "it was told that it is closed");
            }
            None => {
                let topic = self.one_of(GAMES);
                let game = Game { topic, join_ref: reference.clone(), ..Game::default() };
                self.phoenix[index].game = Some(game);
                self.world
                    .say(client, &format!(r#"["{reference}","{reference}","{topic}","phx_join",{{}}]"#));
                self.read(index);
                assert!(self.phoenix[index].game.as_ref().is_some_and(|game| game.joined));
            }
        }
    }

    fn talk(&mut self, index: usize, client: ClientId) {
        let body = self.new_ref();
        let payload = json!({"body": body, "client_id": body});
        self.push_to_room(index, client, "new_message", &payload);
        if self.below(3) == 0 {
            self.push_to_room(index, client, "new_message", &payload);
        }
    }

    fn push_to_room(&mut self, index: usize, client: ClientId, event: &str, payload: &Value) {
        let Some(room) = &self.phoenix[index].room else { return };
        let text = format!(r#"["{}","0","{}","{event}",{payload}]"#, room.join_ref, room.topic);
        self.world.say(client, &text);
    }

    fn push_to_game(&mut self, index: usize, client: ClientId, event: &str, payload: &Value) {
        let Some(game) = &self.phoenix[index].game else { return };
        let text = format!(r#"["{}","0","{}","{event}",{payload}]"#, game.join_ref, game.topic);
        self.world.say(client, &text);
    }

    fn send_event_of(&mut self, index: usize, client: ClientId) {
        let Some(game) = &self.phoenix[index].game else { return };
        let (topic, id) = (game.topic, game.id);
        let (to, scope) = match self.below(3) {
            0 => (json!("others"), 0),
            1 => (json!("all"), 1),
            _ => (json!(id), 2),
        };
        let number = self.next_event;
        let accepted = self.world.count(|metrics| metrics.events_in.value());
        let payload = json!({"code": 1, "to": to, "payload": number});
        self.push_to_game(index, client, "game_event", &payload);
        self.expect_event(topic, id, scope, accepted);
    }

    /// The event that was just sent is for these, unless it was not taken (the relay had closed the sender).
    fn expect_event(&mut self, topic: &str, sender: u32, scope: u8, accepted: u64) {
        if self.world.count(|metrics| metrics.events_in.value()) == accepted {
            return;
        }
        let number = self.next_event;
        self.next_event += 1;
        let games = self.phoenix.iter_mut().filter_map(|phoenix| phoenix.game.as_mut());
        for game in games.filter(|game| game.topic == topic) {
            if scope == 1 || (scope == 0) == (game.id != sender) {
                game.events_expected.push(number);
            }
        }
    }

    fn new_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }

    // ── Native players ──────────────────────────────────────────────────────────────────────────────────────────────

    fn step_of_native(&mut self) {
        let what = self.below(100);
        if self.natives.is_empty() || what < 10 && self.natives.len() < 8 {
            let topic = self.one_of(GAMES);
            let client = self.world.request(&topic.replace("game:", "/play/"));
            self.world.client(client).response();
            return self.natives.push(Native { client: Some(client), topic, ..Native::default() });
        }
        let index = self.below(self.natives.len() as u32) as usize;
        let Native { client, topic, id, .. } = self.natives[index];
        let Some(client) = client else {
            if what < 60 {
                let Native { topic, token, .. } = &self.natives[index];
                let target = format!("{}?resume={token}", topic.replace("game:", "/play/"));
                let client = self.world.request(&target);
                self.world.client(client).response();
                self.natives[index].client = Some(client);
            }
            return;
        };
        let (x, number) = (self.below(1000) as f32, self.below(3));
        match what {
            0..20 => self.world.send(client, &put_object(id * 10 + number, 1, 0, x, 0.0)),
            20..30 => self.world.send(client, &remove_object(id * 10 + number)),
            30..45 => {
                let accepted = self.world.count(|metrics| metrics.events_in.value());
                let number = self.next_event;
                self.world.send(client, &event(0, 1, 0, number.to_string().as_bytes()));
                self.expect_event(topic, id, 0, accepted);
            }
            45..55 => {
                self.read_native(index);
                self.world.hang_up(client);
                self.natives[index].client = None;
            }
            55..58 => {
                self.world.send_raw(client, &close(1000, ""));
                self.natives.remove(index);
            }
            _ => self.world.send(client, &move_to(0, x, 2.0)),
        }
    }

    fn read_native(&mut self, index: usize) {
        let native = &mut self.natives[index];
        let Some(client) = native.client else { return };
        for frame in self.world.client(client).frames() {
            self.transcript.push(format!("{client:?} {frame:?}"));
            match frame {
                Frame::Record(Record::Welcome(welcome)) => {
                    (native.id, native.token) = (welcome.player_id, welcome.resume_token);
                }
                Frame::Record(record) => native.view.apply(&record),
                Frame::Close(_) => native.client = None,
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    // ── What clients are told ───────────────────────────────────────────────────────────────────────────────────────

    fn read_all(&mut self) {
        (0..self.phoenix.len()).for_each(|index| self.read(index));
        (0..self.natives.len()).for_each(|index| self.read_native(index));
    }

    fn read(&mut self, index: usize) {
        let Some(client) = self.phoenix[index].client else { return };
        for frame in self.world.client(client).frames() {
            self.transcript.push(format!("{client:?} {frame:?}"));
            let message = match frame {
                Frame::Text(text) => Message::parse(&text),
                Frame::Binary(bytes) => Message::Update(GameUpdate::parse(&bytes)),
                Frame::Close(_) => {
                    self.phoenix[index].client = None;
                    return;
                }
                other => panic!("{other:?}"),
            };
            let phoenix = &mut self.phoenix[index];
            let topic = match &message {
                Message::Reply { topic, .. } | Message::Told { topic, .. } => topic,
                Message::Update(update) => &update.topic,
            };
            if topic.starts_with("room:") {
                let room = phoenix.room.as_mut().expect("a room that it has not left");
                if room.hear(&message, &mut self.said) {
                    phoenix.room = None;
                }
            } else {
                let game = phoenix.game.as_mut().expect("a game that it has not left");
                if game.hear(&message) {
                    phoenix.game = None;
                }
            }
        }
    }

    /// Everybody comes back and reads; then nobody may differ from a newcomer.
    fn end(&mut self) {
        for index in 0..self.phoenix.len() {
            match self.phoenix[index].client {
                Some(client) => self.world.set_reading(client, true),
                None => self.come_back(index),
            }
        }
        self.read_all();
        for index in 0..self.phoenix.len() {
            if self.phoenix[index].client.is_none() {
                self.come_back(index);
            }
        }
        // Seats of who does not come back are given up, and what is typed ends.
        self.world.advance_ms(3_500);
        self.read_all();
        for topic in ROOMS.into_iter().chain(GAMES) {
            self.compare_with_newcomer(topic);
        }
        self.world.advance_ms(3_000);
        let outboxes = self.world.count(|metrics| metrics.outbox_bytes.value());
        assert_eq!(outboxes, 0, "everything was read or dropped");
    }

    fn compare_with_newcomer(&mut self, topic: &'static str) {
        let client = self.world.socket("");
        self.phoenix.push(Phoenix { client: Some(client), ..Phoenix::default() });
        let newcomer = &mut self.phoenix.last_mut().expect("it was just pushed");
        if topic.starts_with("room:") {
            newcomer.room = Some(Room { topic, join_ref: "x".into(), ..Room::default() });
        } else {
            newcomer.game = Some(Game { topic, join_ref: "x".into(), ..Game::default() });
        }
        self.world.say(client, &format!(r#"["x","x","{topic}","phx_join",{{}}]"#));
        let counts = self.world.client(client).inbox.windows(14).any(|bytes| bytes == b"presence_count");
        self.world.advance_ms(200);
        self.read_all();
        let newcomer = self.phoenix.pop().expect("it is the last one");
        for phoenix in &self.phoenix {
            if let (Some(truth), Some(room)) = (&newcomer.room, &phoenix.room)
                && room.topic == topic
            {
                assert!(room.joined, "{phoenix:?}");
                assert_eq!((&room.epoch, room.seq), (&truth.epoch, truth.seq), "{phoenix:?}");
                if !counts {
                    assert_eq!(room.list.sorted(), truth.list.sorted(), "{:?} of {topic}", phoenix.client);
                }
            }
            if let (Some(truth), Some(game)) = (&newcomer.game, &phoenix.game)
                && game.topic == topic
            {
                assert!(game.joined, "{phoenix:?}");
                assert_eq!(game.view, truth.view, "{:?} of {topic}", phoenix.client);
                assert_eq!(game.events_seen, game.events_expected, "{:?} of {topic}", phoenix.client);
                if !counts {
                    assert_eq!(game.list.sorted(), truth.list.sorted(), "{:?} of {topic}", phoenix.client);
                }
            }
        }
        if let Some(truth) = &newcomer.game {
            for native in
                self.natives.iter().filter(|native| native.topic == topic && native.client.is_some())
            {
                let View { positions, objects, .. } = &native.view;
                assert_eq!((positions, objects), (&truth.view.positions, &truth.view.objects), "{native:?}");
            }
        }
        self.world.hang_up(client);
        self.world.advance_ms(3_500);
        self.read_all();
    }
}

impl Room {
    /// Takes in a message; `true`: it is closed.
    fn hear(&mut self, message: &Message, said: &mut BTreeMap<(&'static str, String, u64), String>) -> bool {
        match message {
            Message::Reply { join_ref, reference, ok, response, .. } => {
                if *join_ref == self.join_ref && reference == join_ref {
                    assert!(*ok && !self.joined, "{message:?}");
                    self.joined = true;
                    if self.epoch != response["epoch"] {
                        (self.epoch, self.seq) = (response["epoch"].clone(), 0);
                    }
                }
                return false;
            }
            Message::Told { join_ref, event, .. } if event == "phx_close" => {
                return *join_ref == self.join_ref;
            }
            Message::Told { join_ref, event, payload, .. } => {
                assert!(self.joined || join_ref.is_null(), "the reply comes first: {message:?}");
                match &**event {
                    "new_message" => self.hear_said(payload, said),
                    "catch_up" if payload["recovered"] == true => {
                        for event in payload["events"].as_array().expect("an array") {
                            self.hear_said(&event["payload"], said);
                        }
                        assert_eq!(payload["seq"], self.seq, "all that was missed");
                    }
                    "room_state" => self.seq = payload["seq"].as_u64().expect("a number"),
                    _ => {}
                }
            }
            Message::Update(_) => panic!("{message:?}"),
        }
        self.list.hear(message);
        false
    }

    fn hear_said(&mut self, payload: &Value, said: &mut BTreeMap<(&'static str, String, u64), String>) {
        let seq = payload["seq"].as_u64().expect("a number");
        assert_eq!(seq, self.seq + 1, "each message once, and in order");
        self.seq = seq;
        let body = payload["body"].as_str().expect("a string").to_owned();
        let key = (self.topic, self.epoch.to_string(), seq);
        let first = said.entry(key).or_insert_with(|| body.clone());
        assert_eq!(*first, body, "everybody is told the same");
    }
}

impl Game {
    /// Takes in a message; `true`: it is closed.
    fn hear(&mut self, message: &Message) -> bool {
        match message {
            Message::Reply { join_ref, reference, ok, response, .. } => {
                if *join_ref == self.join_ref && reference == join_ref {
                    assert!(*ok && !self.joined, "{message:?}");
                    self.take_seat(response);
                }
                return false;
            }
            Message::Told { join_ref, event, .. } if event == "phx_close" => {
                return *join_ref == self.join_ref;
            }
            Message::Told { event, payload, .. } => match &**event {
                "game_event" => self.hear_event(payload),
                "catch_up" => {
                    for event in payload["events"].as_array().expect("an array") {
                        self.hear_event(&event["payload"]);
                    }
                    self.seq = payload["seq"].as_u64().expect("a number");
                    if payload["recovered"] == false || self.seated_anew {
                        self.events_expected.clone_from(&self.events_seen);
                    }
                }
                "players_removed" => {
                    payload["ids"].as_array().expect("an array").iter().for_each(|id| {
                        self.view.positions.remove(&(id.as_u64().expect("a number") as u32));
                    });
                }
                "objects_removed" => {
                    payload["ids"].as_array().expect("an array").iter().for_each(|id| {
                        self.view.objects.remove(&(id.as_u64().expect("a number") as u32));
                    });
                }
                _ => {}
            },
            Message::Update(update) => {
                self.view.positions.extend(update.positions.iter().map(|(id, x, y)| (*id, (*x, *y))));
                let objects =
                    update.objects.iter().map(|object| (object.id, (object.kind, object.x, object.y)));
                self.view.objects.extend(objects);
            }
        }
        self.list.hear(message);
        false
    }

    fn take_seat(&mut self, response: &Value) {
        self.joined = true;
        if self.epoch.is_null() {
            self.seq = response["seq"].as_u64().expect("a number");
        }
        self.epoch = response["epoch"].clone();
        self.id = response["player_id"].as_u64().expect("a number") as u32;
        self.token = response["resume_token"].as_str().expect("a string").to_owned();
        self.view = View::default();
        self.seated_anew = response["resumed"] == false;
        if self.seated_anew {
            // What a player before it has missed is not its business.
            self.events_seen.clear();
            self.events_expected.clear();
        }
    }

    fn hear_event(&mut self, payload: &Value) {
        let seq = payload["seq"].as_u64().expect("a number");
        assert!(seq > self.seq, "event {seq} after {}", self.seq);
        self.seq = seq;
        let number = match payload["payload"].as_u64() {
            Some(number) => number,
            None => number_in_base64(payload["payload_b64"].as_str().expect("a string")),
        };
        self.events_seen.push(number);
    }
}

/// The decimal number whose digits are in base64.
fn number_in_base64(text: &str) -> u64 {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    String::from_utf8(bytes).expect("digits").parse().expect("a number")
}
