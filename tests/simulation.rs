//! Seeded runs of a small world under rough handling: players join, move, put things, send events, stop reading, lose their
//! connection, resume, go, in any order. Whatever happens, every player's view must end as what a newcomer is told, and
//! every event must have reached whom it was meant for, once and in order. A failing run names its seed.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use world::World;
use world::client::{ClientId, Frame, Record, View, event, move_to, put_object, remove_object};

const SEEDS: u64 = 60;
const STEPS: usize = 400;
const GAMES: [&str; 3] = ["arena", "lobby", "cave"];

#[test]
fn every_view_ends_as_a_newcomers() {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run());
        assert!(run.is_ok(), "seed {seed} failed; see above");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let transcript = || {
        let mut simulation = Simulation::new(7);
        simulation.run();
        simulation.transcript
    };
    assert!(transcript() == transcript());
}

/// What a player has been told, and what it should have been.
#[derive(Debug, Default)]
struct Player {
    client: Option<ClientId>,
    game: &'static str,
    id: u32,
    resume_token: String,
    seq: u64,
    view: View,
    events_seen: Vec<u32>,
    events_expected: Vec<u32>,
}

struct Simulation {
    random: ChaCha8Rng,
    world: World,
    players: Vec<Player>,
    next_event: u32,
    transcript: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let shards = if seed.is_multiple_of(2) { 1 } else { 3 };
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            world: World::new(Settings { placement: Placement::known(shards), ..Settings::default() }),
            players: Vec::new(),
            next_event: 0,
            transcript: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
            let pause = u64::from(self.below(60));
            self.world.advance_ms(pause);
            self.read_all();
        }
        self.end();
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.random.next_u32() % bound
    }

    fn step(&mut self) {
        if self.players.len() < 3 {
            return self.join();
        }
        let index = self.below(self.players.len() as u32) as usize;
        match (self.below(100), self.players[index].client) {
            (0..10, _) if self.players.len() < 40 => self.join(),
            (10..15, Some(client)) => self.world.set_reading(client, false),
            (15..25, Some(client)) => self.world.set_reading(client, true),
            (25..30, Some(client)) => self.lose(index, client),
            (30..50, None) => self.resume(index),
            (50..53, Some(client)) => self.leave(index, client),
            (53..60, Some(client)) => {
                let object =
                    put_object(self.players[index].id * 10 + self.below(3), 1, 0, self.below(9) as f32, 0.0);
                self.world.send(client, &object);
            }
            (60..64, Some(client)) => {
                self.world.send(client, &remove_object(self.players[index].id * 10 + 1));
            }
            (64..75, Some(client)) => self.send_event(index, client),
            (75.., Some(client)) => {
                let record = move_to(0, self.below(1000) as f32, self.below(1000) as f32);
                self.world.send(client, &record);
            }
            _ => {}
        }
    }

    fn join(&mut self) {
        let game = GAMES[self.below(GAMES.len() as u32) as usize];
        let client = self.world.request(&format!("/play/{game}"));
        self.world.client(client).response();
        let player = Player { client: Some(client), game, ..Player::default() };
        self.players.push(player);
        self.read(self.players.len() - 1);
    }

    fn lose(&mut self, index: usize, client: ClientId) {
        self.read(index);
        if self.players[index].client.is_some() {
            self.world.hang_up(client);
            self.players[index].client = None;
        }
    }

    fn leave(&mut self, index: usize, client: ClientId) {
        self.world.send_raw(client, &world::client::close(1000, ""));
        self.players.remove(index);
    }

    fn resume(&mut self, index: usize) {
        let Player { game, resume_token, seq, .. } = &self.players[index];
        let client = self.world.request(&format!("/play/{game}?resume={resume_token}&seq={seq}"));
        self.world.client(client).response();
        self.players[index].client = Some(client);
        self.read(index);
    }

    fn send_event(&mut self, index: usize, client: ClientId) {
        let sender = (self.players[index].game, self.players[index].id);
        let target = self.below(self.players.len() as u32) as usize;
        let scope = self.below(3) as u8;
        if scope == 2 && self.players[target].game != sender.0 {
            return;
        }
        let number = self.next_event;
        self.next_event += 1;
        let target_id = self.players[target].id;
        let accepted = self.world.count(|metrics| metrics.events_in.value());
        self.world.send(client, &event(scope, 0, target_id, &number.to_be_bytes()));
        if self.world.count(|metrics| metrics.events_in.value()) == accepted {
            // The relay had closed this client, and it has not read that yet; or the target is gone.
            return;
        }
        for player in self.players.iter_mut().filter(|player| player.game == sender.0) {
            let meant = match scope {
                0 => player.id != sender.1,
                1 => true,
                _ => player.id == target_id,
            };
            if meant {
                player.events_expected.push(number);
            }
        }
    }

    fn read_all(&mut self) {
        (0..self.players.len()).for_each(|index| self.read(index));
    }

    /// Reads what a player was sent, as a client would.
    fn read(&mut self, index: usize) {
        let Some(client) = self.players[index].client else { return };
        let player = &mut self.players[index];
        for frame in self.world.client(client).frames() {
            self.transcript.push(format!("{client:?} {frame:?}"));
            match frame {
                Frame::Record(Record::Welcome(welcome)) => {
                    if welcome.flags & 1 == 0 {
                        assert_eq!(welcome.flags & 2, 0, "a new seat has missed nothing");
                        player.events_expected.clear();
                        player.events_seen.clear();
                    }
                    if welcome.flags & 2 == 0 {
                        player.seq = welcome.seq;
                        player.events_expected.clone_from(&player.events_seen);
                    }
                    player.id = welcome.player_id;
                    player.resume_token = welcome.resume_token;
                }
                Frame::Record(Record::Event { seq, payload, .. }) => {
                    assert!(seq > player.seq, "event {seq} after {}", player.seq);
                    player.seq = seq;
                    let number: [u8; 4] = payload.try_into().expect("four bytes");
                    player.events_seen.push(u32::from_be_bytes(number));
                }
                Frame::Record(
                    record @ (Record::Keyframe { .. } | Record::Delta { .. } | Record::Roster { .. }),
                ) => {
                    player.view.apply(&record);
                }
                Frame::Record(Record::Error { code, text }) => panic!("error {code}: {text}"),
                Frame::Close(_) => player.client = None,
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everybody comes back and reads; then nobody may differ from a newcomer.
    fn end(&mut self) {
        for index in 0..self.players.len() {
            match self.players[index].client {
                Some(client) => self.world.set_reading(client, true),
                None => self.resume(index),
            }
        }
        self.world.advance_ms(200);
        self.read_all();
        for game in GAMES {
            let newcomer = self.world.request(&format!("/play/{game}"));
            self.world.client(newcomer).response();
            let mut truth = View::default();
            let mut own_id = 0;
            for record in self.world.client(newcomer).records() {
                if let Record::Welcome(welcome) = &record {
                    own_id = welcome.player_id;
                }
                truth.apply(&record);
            }
            truth.roster.remove(&own_id);
            for player in self.players.iter().filter(|player| player.game == game) {
                assert_eq!(player.view, truth, "player {} of {game}", player.id);
                assert_eq!(player.events_seen, player.events_expected, "player {} of {game}", player.id);
            }
        }
        // Who left without reading its close is ended by now.
        self.world.advance_ms(3_000);
        let outboxes = self.world.count(|metrics| metrics.outbox_bytes.value());
        assert_eq!(outboxes, 0, "everything was read or dropped");
    }
}
