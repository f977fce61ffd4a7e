//! Rough handling of everything at once: players move, build, talk, stop reading, lose their connection, come back, go, in
//! any order. Every view must end as what a newcomer is told, and every event must have come once, in order.
//!
//! The kernel decides when what arrives, so a seed is not a run; but each seed is another mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::player::{Player, Read};
use crate::records::{Record, View, event, move_to, put_object, remove_object};
use crate::relay::{NO_RATES, Relay};

const GAMES: [&str; 3] = ["arena", "lobby", "cave"];
const PLAYERS: usize = 12;
const STEPS: usize = 2_000;
const PACE: Duration = Duration::from_millis(1);
/// For so many steps a fourth of the players does not read, in turn.
const NAP_STEPS: usize = 300;

#[test]
fn views_and_events_survive_rough_handling() {
    // Small buffers and many ticks: whoever does not read for a while is skipped.
    let toml = format!("send_buffer_bytes = 4096\n{NO_RATES}\n[[game]]\npattern = '*'\ntick_hz = 120");
    let relay = Relay::start_shards(4, &toml);
    let mut run = Run::new(&relay, 1);
    for step in 0..STEPS {
        run.step(step);
        // Some 300 ticks pass meanwhile.
        std::thread::sleep(PACE);
    }
    run.end();
    for (metric, what) in [
        ("corelay_frames_skipped_total", "skipped frames"),
        ("corelay_resumes_total", "resumed seats"),
        ("corelay_hand_overs_in_total", "handovers"),
    ] {
        assert!(relay.metric(metric, &[]) > 0, "no {what}: the run was not rough");
    }
    assert_eq!(relay.metric("corelay_hand_overs_refused_total", &[]), 0);
}

struct Run<'a> {
    relay: &'a Relay,
    random: ChaCha8Rng,
    players: Vec<(usize, Player)>,
    /// Events by game and seq, as their first reader has read them.
    events: BTreeMap<(usize, u64), Vec<u8>>,
    told: u32,
}

impl<'a> Run<'a> {
    fn new(relay: &'a Relay, seed: u64) -> Self {
        let join = |index| (index % GAMES.len(), join(relay, index % GAMES.len()));
        Self {
            relay,
            random: ChaCha8Rng::seed_from_u64(seed),
            players: (0..PLAYERS).map(join).collect(),
            events: BTreeMap::new(),
            told: 0,
        }
    }

    fn below(&mut self, end: u32) -> u32 {
        self.random.next_u32() % end
    }

    fn step(&mut self, step: usize) {
        let index = self.below(PLAYERS as u32) as usize;
        let (x, y, object) = (self.below(100) as f32, self.below(100) as f32, self.below(33));
        let action = self.below(1_000);
        let (game, player) = &mut self.players[index];
        // Objects have an owner: each player has numbers of its own, and puts many at a time, so that frames are large.
        let object = 64 * player.id() + object;
        match action {
            0..400 => player.send(move_to(1, x, y)),
            400..550 => (object..object + 32).for_each(|object| player.send(put_object(object, 1, 0, x, y))),
            550..600 => player.send(remove_object(object)),
            600..780 => {
                self.told += 1;
                player.send(event(1, 0, 0, &self.told.to_be_bytes()));
            }
            780..970 if (step / NAP_STEPS) % 4 == index % 4 => {}
            780..970 => self.read(index),
            970..985 => {
                let target = player.resume_target(GAMES[*game]);
                let again = resume(self.relay, player, &target);
                std::mem::replace(player, again).reset();
            }
            985..995 => {
                let target = player.resume_target(GAMES[*game]);
                // Whether the relay hears of the reset before the resume is left to chance.
                crate::socket::reset(player.socket.get_ref().tcp());
                player.socket.get_ref().tcp().shutdown(std::net::Shutdown::Both).unwrap();
                *player = resume(self.relay, player, &target);
            }
            _ => {
                let newcomer = join(self.relay, *game);
                std::mem::replace(player, newcomer).leave();
            }
        }
    }

    fn read(&mut self, index: usize) {
        while let Some(read) = self.players[index].1.read_if_any() {
            match read {
                Read::Record(record) => self.check(index, &record),
                end => panic!("player {index}: {end:?}"),
            }
        }
    }

    /// Events come one by one, and are the same for everybody.
    fn check(&mut self, index: usize, record: &Record) {
        let (game, player) = &mut self.players[index];
        match record {
            Record::Event { seq, payload, .. } => {
                assert_eq!(*seq, player.seq + 1, "player {index}");
                player.seq = *seq;
                let first_read = self.events.entry((*game, *seq)).or_insert_with(|| payload.clone());
                assert_eq!(first_read, payload, "event {seq} of {}", GAMES[*game]);
            }
            Record::Error { text, .. } => panic!("player {index}: {text}"),
            _ => {}
        }
    }

    fn end(&mut self) {
        // An answered ping: what was sent before it is in the game.
        for index in 0..PLAYERS {
            self.read(index);
            let nonce = u32::MAX;
            self.players[index].1.send(crate::records::ping(nonce, 0));
            loop {
                match self.players[index].1.read() {
                    Read::Record(Record::Pong { nonce: u32::MAX, .. }) => break,
                    Read::Record(record) => self.check(index, &record),
                    end => panic!("player {index}: {end:?}"),
                }
            }
        }
        for game in 0..GAMES.len() {
            let newcomer = join(self.relay, game);
            for index in (0..PLAYERS).filter(|index| index % GAMES.len() == game) {
                let up_to_date =
                    |player: &Player, view: &View| player.view == *view && player.seq == newcomer.welcome.seq;
                while !up_to_date(&self.players[index].1, &newcomer.view) {
                    match self.players[index].1.read() {
                        Read::Record(record) => self.check(index, &record),
                        end => panic!("player {index}: {end:?}"),
                    }
                }
            }
        }
        // An event that a client sent in its last moment may be lost with its connection, but none comes twice.
        let different: BTreeSet<_> = self.events.values().collect();
        assert_eq!(different.len(), self.events.len());
        assert!(self.events.len() > self.told as usize * 9 / 10, "{} of {}", self.events.len(), self.told);
    }
}

fn join(relay: &Relay, game: usize) -> Player {
    Player::join_with(relay, &format!("/play/{}", GAMES[game]), Some(2304))
}

/// Takes the seat of `old` on a new connection, which goes on where `old` has read to.
#[track_caller]
fn resume(relay: &Relay, old: &Player, target: &str) -> Player {
    let mut again = Player::join_with(relay, target, Some(2304));
    assert_eq!((again.id(), again.welcome.flags), (old.id(), 1 | 2 | 4), "the seat, and all missed events");
    again.seq = old.seq;
    again
}
