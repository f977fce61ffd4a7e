//! A run: a relay, its clients, and a seed that decides what they do and what goes wrong.

use std::time::Duration;

use corelay::limits::ROOM_WAITING_USER_MAX;
use corelay::room::chat::RoomRules;
use corelay::room::game::GameRules;
use corelay::session::liveness::Liveness;
use corelay::shard::peer::Order;
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};
use corelay::time::Instant;
use corelay::wire::layout::{Bounds, Layout};
use serde_json::json;

use super::client::{Around, Client};
use super::faults::{Counts, Fault, Plan};
use super::ledger::{Ledger, Scope};
use super::player::Player;
use super::random::Random;
use super::records::{Object, game_state, masked_frame, move_to, put_object, remove_object, set_state};
use super::relay::{Relay, Shape};
use super::socket::{Reading, SocketId};
use super::topics::{State, Topic, Topics};
use super::wire::Serializer;

pub const ROOMS: [&str; 3] = ["room:a", "room:b", "room:lobby"];
pub const DOCUMENTS: [&str; 2] = ["doc:a", "doc:lobby"];
pub const GAMES: [&str; 3] = ["game:arena", "game:cave", "game:lobby"];

/// Clients see what they were sent at least so often.
const SLICE: Duration = Duration::from_millis(100);
/// From the order to drain to its end, and a little for what is late.
const DRAIN_MAX: Duration = Duration::from_secs(31);

pub struct Run {
    pub random: Random,
    pub relay: Relay,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    counts: Counts,
    plan: Plan,
    /// In some runs everything is long.
    long: bool,
    /// Players set values.
    has_keys: bool,
    clients_max: usize,
    /// How often a client says all that it may at once, in permille.
    bursts: u32,
    /// How often a client edits a document as often as it may at once, in permille.
    busy_documents: u32,
    /// How often what is inserted into a document is repeated at most.
    insertions_max: usize,
    /// How many clients there were that say who they are.
    users: u32,
    drain_since: Option<Instant>,
}

pub struct Outcome {
    pub counts: Counts,
    pub trace: u64,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let shape = Shape::draw(&plan, &mut random);
        let settings = draw_settings(&mut random);
        let has_keys = settings.games.iter().any(|rules| rules.layout.keys > 0);
        let relay = Relay::new(settings, plan.clone(), shape, Random::new(!seed));
        Self {
            has_keys,
            long: random.chance(250),
            clients_max: 4 + random.below(8),
            bursts: random.one_of(&[5, 5, 25, 150]),
            busy_documents: if random.chance(60) { 300 } else { 0 },
            insertions_max: if random.chance(80) { 3_000 } else { 3 },
            users: 0,
            random,
            relay,
            clients: Vec::new(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            plan,
            drain_since: None,
        }
    }

    pub fn run(mut self) -> Outcome {
        for round in 0..2 {
            if round > 0 {
                self.go_on();
            }
            let steps = 40 + self.random.below(120);
            (0..steps).for_each(|_| self.step());
            self.come_to_rest();
            self.check_rest();
        }
        self.part();
        self.check_empty();
        self.relay.count_branches();
        let mut counts = self.counts;
        counts.add(&self.relay.counts);
        Outcome { counts, trace: self.relay.trace.hash() }
    }

    /// Other things go wrong from here on, and every shard runs again.
    fn go_on(&mut self) {
        if self.relay.running().len() < self.relay.shards() {
            self.forget_clients();
            self.relay.restart();
        }
        let plan = Plan::draw(&mut self.random);
        let shape = Shape::draw(&plan, &mut self.random);
        self.relay.trouble(plan.clone(), shape);
        self.plan = plan;
    }

    fn step(&mut self) {
        if self.clients.len() < 3 || self.clients.len() < self.clients_max && self.random.chance(60) {
            let client = self.newcomer();
            self.clients.push(client);
        }
        for _ in 0..1 + self.random.below(3) {
            self.act();
        }
        if self.random.chance(self.busy_documents) {
            self.edit_at_once();
        }
        for fault in Fault::ALL {
            if self.random.chance(self.plan.of(*fault)) {
                self.inflict(*fault);
            }
        }
        let ms = match self.random.below(100) {
            0..80 => self.random.below(60),
            80..96 => self.random.below(400),
            _ => self.random.below(3_000),
        };
        self.advance(Duration::from_millis(ms as u64));
    }

    /// Lets time pass, and clients do what they do by themselves.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.relay.now.instant + duration;
        loop {
            let left = end.since(self.relay.now.instant);
            self.relay.advance(left.min(SLICE));
            self.relay.check_bounds();
            self.each_client(|client, around| {
                client.recover(around);
                client.live(around);
            });
            self.go_on_draining();
            if left <= SLICE {
                return;
            }
        }
    }

    /// Lets everything that is on its way arrive, and nothing new begin.
    pub fn listen(&mut self) {
        for _ in 0..3 {
            self.relay.advance(SLICE);
            self.each_client(Client::listen);
        }
    }

    /// Whatever the relay knew of clients may be gone.
    fn forget_clients(&mut self) {
        let now = self.relay.now.instant;
        self.clients.iter_mut().for_each(|client| client.forgotten(now));
    }

    fn each_client(&mut self, mut act: impl FnMut(&mut Client, &mut Around<'_>)) {
        let Self { random, relay, clients, ledger, counts, .. } = self;
        let mut around = Around { relay, ledger, counts, random };
        clients.iter_mut().for_each(|client| act(client, &mut around));
    }

    pub fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut Around<'_>)) {
        let Self { random, relay, clients, ledger, counts, .. } = self;
        act(&mut clients[index], &mut Around { relay, ledger, counts, random });
    }

    // ── Clients ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn newcomer(&mut self) -> Client {
        let random = &mut self.random;
        let some_of = |names: [&'static str; 3], random: &mut Random| {
            let first = random.below(3);
            names.into_iter().cycle().skip(first).take(random.below(3)).collect::<Vec<_>>()
        };
        let rooms = some_of(ROOMS, random);
        if random.chance(400) {
            let player = Player::new(random.one_of(&GAMES));
            return Client::new(Some(player), Topics::new(Serializer::V2, rooms));
        }
        let mut topics = [rooms, some_of(GAMES, random)].concat();
        let mut user = None;
        if random.chance(500) || self.busy_documents > 0 {
            let first = random.below(DOCUMENTS.len());
            topics.extend(DOCUMENTS.into_iter().skip(first));
            self.users += 1;
            user = Some(format!("user-{}", self.users));
        }
        if topics.is_empty() {
            topics.push(random.one_of(&GAMES));
        }
        let serializer = random.one_of(&[Serializer::V1, Serializer::V2, Serializer::V2, Serializer::V2Text]);
        Client::new(None, Topics::of(serializer, topics, user))
    }

    /// Some client does something.
    fn act(&mut self) {
        let index = self.random.below(self.clients.len());
        if self.clients[index].is_gone() {
            if self.random.chance(300) {
                self.clients[index] = self.newcomer();
            }
            return;
        }
        let now = self.relay.now.instant;
        let client = &self.clients[index];
        let Some(socket) = client.open().filter(|_| client.frozen_until <= now) else { return };
        if self.random.chance(10) {
            return self.with_client(index, Client::say_goodbye);
        }
        if self.random.chance(8) {
            let bytes = self.clients[index].topics.flood();
            return self.relay.write(socket, &bytes);
        }
        if self.random.chance(self.bursts) {
            return self.burst(index, socket);
        }
        if self.clients[index].player.is_some() && self.random.chance(800) {
            self.play(index, socket);
        } else if !self.clients[index].topics.all.is_empty() {
            let topic = self.random.below(self.clients[index].topics.all.len());
            self.push(index, topic, socket);
        }
    }

    /// As many events as one may send at once, so that there is more to catch up with than fits.
    fn burst(&mut self, index: usize, socket: SocketId) {
        for _ in 0..35 {
            if self.clients[index].player.is_some() {
                self.send_native_event(index, socket, Scope::All);
                continue;
            }
            let topics = &mut self.clients[index].topics;
            let Some(game) = topics.all.iter().position(|topic| topic.is_joined() && topic.game().is_some())
            else {
                return;
            };
            let bytes = topics.send_event(game, Scope::All, self.long, &mut self.ledger);
            self.relay.write(socket, &bytes);
        }
    }

    fn play(&mut self, index: usize, socket: SocketId) {
        let random = &mut self.random;
        let Some(player) = &self.clients[index].player else { return };
        let (id, number, x, y) =
            (player.id, random.below(3) as u32, random.below(1200) as f32, random.below(1000) as f32);
        let object = id.wrapping_mul(10) + number;
        let bytes = match random.below(100) {
            0..40 => masked_frame(0x82, &move_to(random.below(100) as u16, x, y)),
            40..46 if self.has_keys => {
                let value = random.one_of(&["", "red", "blue", "a longer one"]);
                masked_frame(0x82, &set_state(1 + number as u8, value.as_bytes()))
            }
            40..58 => masked_frame(0x82, &put_object(object, 1, 0, x, y)),
            58..70 => masked_frame(0x82, &remove_object(object)),
            70..74 => match &mut self.clients[index].player {
                Some(player) => player.ping(),
                None => return,
            },
            74..76 => masked_frame(0x89, b"ping"),
            _ => {
                let scope = self.scope(&self.player_ids(index));
                return self.send_native_event(index, socket, scope);
            }
        };
        self.relay.write(socket, &bytes);
    }

    pub fn send_native_event(&mut self, index: usize, socket: SocketId, scope: Scope) {
        let Some(player) = &self.clients[index].player else { return };
        let number = self.ledger.send(player.game, player.id, scope);
        let record = player.send_event(scope, number, self.long);
        self.relay.write(socket, &masked_frame(0x82, &record));
    }

    /// Players that a client knows of.
    fn player_ids(&self, index: usize) -> Vec<u32> {
        let player = self.clients[index].player.as_ref();
        player.map(|player| player.users.keys().copied().collect()).unwrap_or_default()
    }

    fn scope(&mut self, players: &[u32]) -> Scope {
        match self.random.below(3) {
            0 => Scope::Others,
            1 if !players.is_empty() => Scope::Only(self.random.one_of(players)),
            _ => Scope::All,
        }
    }

    fn push(&mut self, index: usize, topic: usize, socket: SocketId) {
        let sure_until = self.clients[index].sure_until(&self.relay);
        let now = self.relay.now.instant;
        let (long, what) = (self.long, self.random.below(100));
        let random = &mut self.random;
        let topics = &mut self.clients[index].topics;
        let is_v1 = topics.serializer == Serializer::V1;
        let (state, seq) = (topics.all[topic].state, topics.all[topic].seq);
        if state == (State::Out { again_at: None }) {
            if random.chance(200) {
                topics.all[topic].state = State::Out { again_at: Some(now) };
            }
            return;
        }
        let bytes = match (state, what) {
            // Without `join_ref` a client cannot tell what belongs to the membership before.
            (State::Joined | State::Joining, 0..5) if !is_v1 => topics.join(topic, sure_until, random),
            (State::Joined, 5..9) => topics.leave(topic),
            // Perhaps its document is read again.
            (State::Joined, _) if topics.all[topic].is_refused_an_edit() && random.chance(400) => {
                topics.leave(topic)
            }
            (State::Joining, 5..12) if !is_v1 => topics.leave(topic),
            (State::Joined, 9..14) if !is_v1 => {
                let seen = match random.below(10) {
                    0 => seq + 100,
                    // Much of it is gone by now, or more than fits.
                    9 => 0,
                    1..4 => seq.saturating_sub(random.below(4) as u64),
                    _ => seq,
                };
                topics.reconnect(topic, seen)
            }
            (State::Joined, 14..20) => {
                let payload =
                    json!({"n": random.below(5), "status": random.one_of(&["online", "busy", "away"])});
                topics.ask_other(topic, "presence_update", &payload)
            }
            (State::Joined, 23..25) => topics.push_too_late(topic),
            (State::Joined, 20..23) => topics.ask_other(topic, "heartbeat", &json!({})),
            (State::Joined, 25..27) => topics.ask_unknown(topic),
            (State::Joined, _) => return self.push_to_kind(index, topic, socket, long),
            _ => return,
        };
        self.relay.write(socket, &bytes);
    }

    /// Some client edits a document as often as it may at once.
    fn edit_at_once(&mut self) {
        let index = self.random.below(self.clients.len());
        let topics = &mut self.clients[index].topics;
        let joined = topics.all.iter_mut().filter(|topic| topic.is_joined());
        if let Some(document) = joined.filter_map(Topic::document_mut).next() {
            document.edit_at_once(&mut self.random, ROOM_WAITING_USER_MAX);
        }
    }

    fn push_to_document(&mut self, index: usize, topic: usize, socket: SocketId) {
        let Self { random, clients, ledger, relay, .. } = self;
        let topics = &mut clients[index].topics;
        let Some(document) = topics.all[topic].document_mut() else { return };
        let bytes = match random.below(100) {
            0..70 => {
                document.edit(random, self.insertions_max);
                topics.say_of_documents(relay.now.instant, random, ledger)
            }
            _ => topics.meddle(topic, random, ledger),
        };
        relay.write(socket, &bytes);
    }

    fn push_to_kind(&mut self, index: usize, topic: usize, socket: SocketId, long: bool) {
        if self.clients[index].topics.all[topic].document().is_some() {
            return self.push_to_document(index, topic, socket);
        }
        let Self { random, clients, ledger, .. } = self;
        let topics = &mut clients[index].topics;
        let (x, y) = (random.below(1200), random.below(1000));
        let Some(player) = topics.all[topic].game().map(|game| game.player) else {
            let bytes = match random.below(100) {
                0..20 => topics.push(topic, "typing", &json!({"typing": random.chance(700)})),
                20..28 => topics.history(topic),
                28..48 => topics.change_message(topic, random, ledger),
                48..55 => topics.mark_read(topic),
                _ => topics.talk(topic, long, random.chance(150)),
            };
            return self.relay.write(socket, &bytes);
        };
        let bytes = match random.below(100) {
            0..6 if self.has_keys => {
                let value = random.one_of(&["", "cmVk", "Ymx1ZQ=="]);
                topics.ask_other(topic, "set_state", &json!({"key": 1 + random.below(3), "value": value}))
            }
            0..45 => topics.push(topic, "move", &json!({"x": x, "y": y})),
            45..65 if topics.serializer == Serializer::V2 => {
                let id = player.wrapping_mul(10) + random.below(3) as u32;
                let object = Object { id, kind: 1, flags: 0, x: x as f32, y: y as f32 };
                let state = game_state(topics.binary_head(topic), &[(player, x as f32, y as f32)], &[object]);
                masked_frame(0x82, &state)
            }
            _ => {
                let players = topics.all[topic].players();
                let scope = match random.below(3) {
                    0 => Scope::Others,
                    1 if !players.is_empty() => Scope::Only(random.one_of(&players)),
                    _ => Scope::All,
                };
                topics.send_event(topic, scope, long, ledger)
            }
        };
        self.relay.write(socket, &bytes);
    }

    // ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────

    fn inflict(&mut self, fault: Fault) {
        let index = self.random.below(self.clients.len());
        let Some(socket) = self.clients[index].socket() else { return };
        let is_frozen = self.clients[index].frozen_until > self.relay.now.instant;
        match fault {
            Fault::StuckReader => self.trouble_reader(index, socket, Reading::Nothing),
            Fault::SlowReader => {
                let reading = Reading::Slowly(1 + self.random.below(200));
                self.trouble_reader(index, socket, reading);
            }
            Fault::Freeze => self.freeze(index, socket),
            Fault::Reset if !is_frozen => self.reset(index, socket),
            Fault::EndOfStream if !is_frozen => self.lose(index, |relay| relay.finish(socket)),
            Fault::Vanish if !is_frozen => {
                self.lose(index, |relay| relay.set_reading(socket, Reading::Nothing));
            }
            Fault::TakeOver if !is_frozen => self.take_over(index),
            Fault::StandStill => self.stand_still(),
            Fault::AllStandStill => self.all_stand_still(),
            Fault::Kick => {
                let Some(user) = self.clients[index].user() else { return };
                self.kick(&user);
            }
            Fault::ShardEnd if self.relay.running().len() > 1 && self.drain_since.is_none() => {
                self.end_shard();
            }
            Fault::Crash if self.drain_since.is_none() => {
                self.forget_clients();
                self.relay.restart();
            }
            Fault::Drain if self.drain_since.is_none() => self.drain(),
            // The relay draws these itself, or they were not possible.
            Fault::CutSegment
            | Fault::LateBytes
            | Fault::LateSent
            | Fault::Reset
            | Fault::EndOfStream
            | Fault::Vanish
            | Fault::TakeOver
            | Fault::FullMailbox
            | Fault::RefusedForward
            | Fault::LateHandOver
            | Fault::RefusedHandOver
            | Fault::LostAnswer
            | Fault::SlowStore
            | Fault::StoreRefuses
            | Fault::StoreConflicts
            | Fault::ShortTurn
            | Fault::ShardEnd
            | Fault::Crash
            | Fault::Drain => return,
        }
        self.counts.fault(fault);
    }

    fn duration_below(&mut self, ms: usize) -> Duration {
        Duration::from_millis(self.random.below(ms) as u64)
    }

    fn trouble_reader(&mut self, index: usize, socket: SocketId, reading: Reading) {
        self.clients[index].troubled_until = self.relay.now.instant + self.duration_below(6_000);
        self.relay.set_reading(socket, reading);
    }

    fn freeze(&mut self, index: usize, socket: SocketId) {
        let until = self.relay.now.instant + self.duration_below(9_000);
        self.clients[index].frozen_until = until;
        self.clients[index].troubled_until = until;
        self.relay.set_reading(socket, Reading::Nothing);
    }

    fn reset(&mut self, index: usize, socket: SocketId) {
        let sure_until = self.clients[index].sure_until(&self.relay);
        self.clients[index].resets(sure_until);
        self.relay.reset(socket);
    }

    /// The client goes, and the relay sees of it what `go` does.
    fn lose(&mut self, index: usize, go: impl FnOnce(&mut Relay)) {
        let sure_until = self.clients[index].sure_until(&self.relay);
        go(&mut self.relay);
        self.with_client(index, |client, around| client.lose(sure_until, around));
    }

    fn take_over(&mut self, index: usize) {
        let sure_until = self.clients[index].sure_until(&self.relay);
        self.with_client(index, |client, around| client.take_over(sure_until, around));
    }

    fn stand_still(&mut self) {
        let shard = self.random.one_of(&self.relay.running());
        let longest = if self.random.chance(100) { 20_000 } else { 3_000 };
        let duration = self.duration_below(longest);
        self.relay.stand_still(shard, duration);
    }

    fn all_stand_still(&mut self) {
        let duration = self.duration_below(8_000);
        (0..self.relay.shards()).for_each(|shard| self.relay.stand_still(shard, duration));
    }

    fn kick(&mut self, user: &str) {
        self.forget_clients();
        let plays_as = |client: &&Client| client.plays_as().is_some_and(|name| name == user);
        let sockets = self.clients.iter().filter(plays_as).filter_map(Client::open).collect();
        self.relay.kick(user, sockets);
    }

    fn end_shard(&mut self) {
        self.forget_clients();
        let shard = self.random.one_of(&self.relay.running());
        self.relay.end_shard(shard);
    }

    fn drain(&mut self) {
        self.drain_since = Some(self.relay.now.instant);
        (0..self.relay.shards()).for_each(|shard| self.relay.order(shard, Order::Drain));
    }

    /// A relay that has drained is followed by another.
    pub fn go_on_draining(&mut self) {
        let Some(since) = self.drain_since else { return };
        self.forget_clients();
        let now = self.relay.now.instant;
        if self.relay.has_drained() {
            self.relay.restart();
            self.drain_since = None;
        } else {
            let late = self.relay.stood_still_until.since(since);
            assert!(now.since(since) < DRAIN_MAX + late, "it does not drain");
        }
    }

    pub fn is_draining(&self) -> bool {
        self.drain_since.is_some()
    }
}

fn draw_settings(random: &mut Random) -> Settings {
    let edge = random.one_of(&[f32::MAX, f32::MAX, 1_000.0]);
    let rules = GameRules {
        seat_hold: Duration::from_secs(random.one_of(&[0, 1, 3, 3])),
        bounds: Bounds { min: [-edge, -edge, f32::MIN], max: [edge, edge, f32::MAX] },
        max_speed: random.one_of(&[f32::INFINITY, f32::INFINITY, 2_000.0]),
        players_max: random.one_of(&[4, 1_000, 1_000, 1_000]),
        tick_hz: random.one_of(&[5, 20, 60]),
        layout: Layout { keys: random.one_of(&[0, 4]), ..Layout::PLAIN },
        ..GameRules::default()
    };
    let seconds = Duration::from_secs;
    Settings {
        placement: Placement::known(random.one_of(&[1, 2, 3, 4])),
        clients: ClientRules {
            // Lists stop and come back.
            presence_list_max: random.one_of(&[3, 5, 256, 256]),
            outbox_bytes_max: random.one_of(&[1, 4, 16, 256]) * 1024,
            ..ClientRules::default()
        },
        connections_per_shard_max: random.one_of(&[6, 10_000, 10_000, 10_000]),
        liveness: Liveness {
            ping_after: seconds(1),
            close_after: seconds(4),
            socket_warn_after: seconds(3),
            socket_close_after: seconds(6),
        },
        games: vec![rules],
        rooms: vec![RoomRules { messages_kept: random.one_of(&[3, 20, 10_000]), ..RoomRules::default() }],
        ..Settings::default()
    }
}
