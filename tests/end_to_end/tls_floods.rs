//! Crowds on the port of TLS that want nothing but to be greeted, beside a game.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::player::Player;
use crate::records::move_to;
use crate::relay::Relay;
use crate::socket;
use crate::stream::client_config;
use crate::tls::{join, start};

/// Of all ticks so many may be late by more than a tick: on a busy machine the relay itself has to wait for its turn.
const LATE_TICKS_MAX: f64 = 0.2;
/// A bound of the relay's histogram, in seconds.
const LATE_BY: &str = "le=\"0.065536\"";

/// Two players of one game, on the port without TLS.
struct Game {
    ann: Player,
    bob: Player,
    moves: u16,
}

impl Game {
    fn start(relay: &Relay) -> Self {
        let [ann, bob] = [0; 2].map(|_| Player::join(relay, "/play/beside"));
        Self { ann, bob, moves: 0 }
    }

    /// One moves, and the other is told, with the next tick.
    fn play(&mut self) {
        self.moves += 1;
        let at = (f32::from(self.moves), 1.0);
        self.ann.send(move_to(self.moves, at.0, at.1));
        self.bob.until_at(self.ann.id(), at);
        self.ann.until_at(self.ann.id(), at);
    }
}

fn assert_ticks_were_in_time(relay: &Relay) {
    let all = relay.metric("corelay_tick_lateness_seconds_count", &[]) as f64;
    let in_time = relay.metric("corelay_tick_lateness_seconds_bucket", &[LATE_BY]) as f64;
    assert!(all > 20.0, "{all} ticks");
    let late = 1.0 - in_time / all;
    assert!(late <= LATE_TICKS_MAX, "{late} of {all} ticks were late");
}

fn resident_bytes(relay: &Relay) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Half of a hello, of which the other half never comes.
fn half_a_hello(address: SocketAddr) -> TcpStream {
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(300, 7);
    let mut stream = socket::connect(address, None);
    stream.write_all(&hello).unwrap();
    stream
}

#[test]
fn hellos_that_never_finish_are_borne_beside_a_game_and_end_in_time() {
    const WAVES: usize = 4;
    const WAVE_MAX: u64 = 5_000;
    /// Descriptors of tests that run beside this one, and of the relay itself.
    const OTHERS: u64 = 600;
    /// Of the relay, for one of them: its connection, its TLS and its half of a hello.
    const BYTES_MAX: u64 = 8 * 1024;
    /// What two shards let wait for a step, with those whose accept was in flight and those accepted in the turn before.
    const WAITING_MAX: u64 = 2 * (256 + 3 * 16);

    let (relay, address, certificate) = start("upgrade_timeout_ms = 12000");
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wave = limit.saturating_sub(OTHERS).min(WAVE_MAX);
    assert!(wave >= 200, "RLIMIT_NOFILE is too low for this test: {limit}");
    let mut game = Game::start(&relay);
    game.play();
    let before = resident_bytes(&relay);
    let is_upgrading = ["state=\"upgrading\""];
    for number in 0..WAVES {
        let mut silent = Vec::new();
        while (silent.len() as u64) < wave {
            silent.extend((0..wave.min(500)).map(|_| half_a_hello(address)));
            game.play();
            let waiting = relay.metric("corelay_tls_handshakes_waiting", &[]);
            assert!(waiting <= WAITING_MAX, "{waiting}");
        }
        let all = silent.len() as u64;
        relay.await_metric("corelay_connections", &is_upgrading, |upgrading| upgrading >= all * 9 / 10);
        let taken = resident_bytes(&relay).saturating_sub(before);
        assert!(taken <= all * BYTES_MAX + 8 * 1024 * 1024, "{taken} bytes for {all}");
        if number + 1 < WAVES {
            drop(silent);
        }
        // The last ones stay until the relay ends them.
        while relay.metric("corelay_connections", &is_upgrading) > 0 {
            game.play();
        }
    }
    assert_ticks_were_in_time(&relay);
    assert_eq!(relay.metric("corelay_tls_handshakes_total", &[]), 0);
    let mut player = join(address, &client_config(&certificate, &TLS13), "beside");
    player.until_at(game.ann.id(), (f32::from(game.moves), 1.0));
    game.play();
}

/// Shakes hands and leaves, again and again. Returns how often.
fn shake_hands_until(stop: &AtomicBool, address: SocketAddr, config: &Arc<ClientConfig>) -> u64 {
    let mut handshakes = 0;
    while !stop.load(Ordering::Relaxed) {
        let client =
            ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, socket::connect(address, None));
        // Nothing to send is an empty write, behind which the handshake is done.
        stream.flush().unwrap();
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        handshakes += 1;
    }
    handshakes
}

#[test]
fn a_flood_of_handshakes_beside_a_game_leaves_its_ticks_in_time() {
    const FLOOD: Duration = Duration::from_secs(3);
    const FLOODERS: usize = 3;

    let (relay, address, certificate) = start("");
    let config = client_config(&certificate, &TLS13);
    let mut game = Game::start(&relay);
    let mut cat = join(address, &config, "beside");
    let stop = AtomicBool::new(false);
    let handshakes: u64 = thread::scope(|scope| {
        let flooders: Vec<_> =
            (0..FLOODERS).map(|_| scope.spawn(|| shake_hands_until(&stop, address, &config))).collect();
        let started = Instant::now();
        while started.elapsed() < FLOOD {
            game.play();
            cat.until_at(game.ann.id(), (f32::from(game.moves), 1.0));
        }
        stop.store(true, Ordering::Relaxed);
        flooders.into_iter().map(|flooder| flooder.join().unwrap()).sum()
    });
    assert!(handshakes > 100, "{handshakes} handshakes are no flood");
    // 20 ticks a second: each move is seen with the next but one at the latest, but for the late ones.
    assert!(game.moves >= 15, "{} moves beside {handshakes} handshakes", game.moves);
    assert_ticks_were_in_time(&relay);
    relay.await_metric("corelay_tls_handshakes_total", &[], |done| done >= handshakes);
    relay.await_metric("corelay_connections", &[], |connections| connections == 3);
    assert_eq!(relay.metric("corelay_tls_failures_total", &[]), 0);
}
