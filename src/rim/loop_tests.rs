//! Two loops and the kernel, for what only they show together.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::driver::Driver;
use super::epoll::{EpollDriver, EpollSettings, SocketBudget};
use super::troubled::{POISON, Trouble, Troubled};
use super::uring::{RingDriver, RingSettings};
use super::{Clock, ListenOptions, Listeners, Loop, LoopSettings, bind};
use crate::ids::{Party, ShardId, TopicName};
use crate::limits::CONNECTIONS_RESERVE;
use crate::mailbox::{Endpoint, Letter, mesh};
use crate::metrics::ShardMetrics;
use crate::session::liveness::Liveness;
use crate::session::rate_limit::{Rate, Rates};
use crate::shard::Shard;
use crate::shard::peer::Order;
use crate::shard::placement::Placement;
use crate::shard::settings::{ClientRules, Settings};
use crate::tls::ServerConfig;

const PATIENCE: Duration = Duration::from_secs(20);

/// A driver that the loops run with.
trait Tried: Driver<Error: Send> + Send + Sized + 'static {
    /// With room for so many connections.
    fn make(descriptors: u32) -> Self;
}

impl Tried for RingDriver {
    fn make(descriptors: u32) -> Self {
        let settings = RingSettings {
            descriptors,
            submissions: 256,
            completions: 4096,
            receive_buffers: RECEIVE_BUFFERS,
            gather_time: GATHER_TIME,
        };
        Self::new(settings).unwrap()
    }
}

impl Tried for EpollDriver {
    fn make(descriptors: u32) -> Self {
        let settings = EpollSettings {
            descriptors,
            sockets: Arc::new(SocketBudget::new(2 * u64::from(descriptors))),
            receive_buffers: RECEIVE_BUFFERS,
            gather_time: GATHER_TIME,
        };
        Self::new(settings).unwrap()
    }
}

/// Runs every test of this file with each driver.
macro_rules! for_each_driver {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { super::$name::<super::RingDriver>(); })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name::<super::EpollDriver>(); })*
        }
    };
}

for_each_driver! {
    a_quiet_connection_is_parked_a_busy_one_is_not_and_both_are_heard,
    a_connection_that_was_paused_is_read_like_any_other_once_its_budget_is_full,
    what_came_while_the_process_stood_still_is_read_before_anybody_is_judged,
}

mod leaving;
#[cfg(feature = "tls")]
mod secure;

const RECEIVE_BUFFERS: u16 = 64;
const GATHER_TIME: Duration = Duration::from_millis(20);

/// Two shards whose mailboxes have room for `letters`.
struct Relay {
    address: SocketAddr,
    metrics: Vec<Arc<ShardMetrics>>,
    service: Endpoint,
    /// A party that is there, and says nothing.
    _store: Endpoint,
    trouble: Arc<Trouble>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Relay {
    fn start<D: Tried>(letters: usize) -> Self {
        Self::start_with::<D>(letters, Settings::default())
    }

    fn start_with<D: Tried>(letters: usize, settings: Settings) -> Self {
        Self::start_all::<D>(letters, settings, None)
    }

    /// With `tls` the address is that of `listen_tls`.
    fn start_all<D: Tried>(letters: usize, settings: Settings, tls: Option<Arc<ServerConfig>>) -> Self {
        let (endpoints, [service, store]) = mesh(2, letters).unwrap();
        let listen = || bind("127.0.0.1:0".parse().unwrap(), 2, ListenOptions::default()).unwrap();
        let (plain, secure) = (listen(), listen());
        let address = if tls.is_some() { &secure } else { &plain }[0].local_addr();
        let has_tls = tls.is_some();
        let secure = secure.into_iter().map(|listener| has_tls.then(|| Arc::new(listener)));
        let listeners = plain.into_iter().map(Arc::new).zip(secure);
        let settings = Arc::new(Settings { placement: Placement::known(2), ..settings });
        let descriptors = settings.connections_per_shard_max + CONNECTIONS_RESERVE;
        let trouble: Arc<Trouble> = Arc::default();
        let metrics: Vec<Arc<ShardMetrics>> = vec![Arc::default(), Arc::default()];
        let clock = Clock::start();
        let loop_settings = LoopSettings {
            descriptors,
            listen_options: ListenOptions::default(),
            addresses: Arc::default(),
            tls,
        };
        let ends = (0..).zip(endpoints).zip(listeners).zip(metrics.clone());
        let make_loop = |(((id, endpoint), listener), metrics): (_, Arc<ShardMetrics>)| {
            let shard = Shard::new(ShardId(id), settings.clone(), metrics.clone(), [id as u8; 32]);
            let driver = Troubled::new(D::make(descriptors), trouble.clone());
            let (plain, secure) = listener;
            let listeners = Listeners { plain, secure };
            Loop::new(loop_settings.clone(), driver, listeners, endpoint, shard, metrics, clock)
        };
        let loops: Vec<Loop<Troubled<D>>> = ends.map(make_loop).collect();
        let peers: Vec<_> = loops.iter().map(Loop::peer).collect();
        let enabled = Arc::new(Barrier::new(loops.len()));
        let run = |shard_loop: Loop<Troubled<D>>| {
            let (peers, enabled) = (peers.clone(), enabled.clone());
            thread::spawn(move || shard_loop.run(peers, &enabled).unwrap())
        };
        let threads = loops.into_iter().map(run).collect();
        Self { address, metrics, service, _store: store, trouble, threads }
    }

    fn count(&self, counter: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| counter(metrics)).sum()
    }

    fn stop(mut self) {
        (0..2).for_each(|shard| drain(&mut self.service, shard));
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn age(clock: Clock) -> Duration {
    clock.instant().since(crate::time::Instant::default())
}

fn drain(service: &mut Endpoint, shard: u16) {
    let shard = Party::Shard(ShardId(shard));
    let _posted = service.post(shard, Letter::Order(Order::Drain));
    if service.must_ring(shard) {
        service.wake(shard);
    }
}

/// A game on each shard.
fn game_names() -> [String; 2] {
    [0, 1].map(|shard| {
        let names = (0..).map(|number| format!("game-{number}"));
        let lives_there =
            |name: &String| Placement::known(2).shard_of(&TopicName::parse(name).unwrap()) == ShardId(shard);
        names.into_iter().find(lives_there).unwrap()
    })
}

fn request(game: &str) -> String {
    format!(
        "GET /play/{game} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked ping, and the pong that answers it.
const PING: [u8; 7] = [0x89, 0x81, 0, 0, 0, 0, b'!'];
const PONG: [u8; 3] = [0x8A, 1, b'!'];

/// Reads until the last bytes are a pong.
fn await_pong(mut client: &TcpStream) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.ends_with(&PONG) {
        let bytes = client.read(&mut buffer).unwrap();
        assert!(bytes > 0, "the relay has ended the connection");
        received.extend(&buffer[..bytes]);
    }
}

fn a_quiet_connection_is_parked_a_busy_one_is_not_and_both_are_heard<D: Tried>() {
    let relay = Relay::start::<D>(16);
    let mut client = TcpStream::connect(relay.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(request("arena").as_bytes()).unwrap();
    let parked = || relay.count(|metrics| metrics.connections_parked.value());
    let becomes = |expected: u64| {
        let started = Clock::start();
        while parked() != expected {
            assert!(age(started) < PATIENCE, "{} parked", parked());
            thread::sleep(Duration::from_millis(5));
        }
    };
    becomes(1);
    for _ in 0..2 {
        client.write_all(&PING).unwrap();
        await_pong(&client);
        // More than one receive takes, in one go and while it is parked: a record of no known kind, then a ping.
        let nonsense = [&[0x82, 0xFE, 0x13, 0x88, 0, 0, 0, 0], &[0; 5000][..], &PING].concat();
        client.write_all(&nonsense).unwrap();
        await_pong(&client);
        // Heard twice within a sweep it is busy, however many pings that takes on a slow machine.
        let started = Clock::start();
        let mut is_busy = false;
        while !is_busy {
            assert!(age(started) < PATIENCE, "it stays parked");
            client.write_all(&PING).unwrap();
            await_pong(&client);
            thread::sleep(Duration::from_millis(20));
            is_busy = parked() == 0;
        }
        becomes(1);
    }
    drop(client);
    becomes(0);
    assert_eq!(relay.count(|metrics| metrics.receives_lost.value()), 0);
    relay.stop();
}

fn a_connection_that_was_paused_is_read_like_any_other_once_its_budget_is_full<D: Tried>() {
    let rate = Rate { per_s: 64 * 1024, burst: 64 * 1024 };
    let relay = Relay::start_with::<D>(
        16,
        Settings { rates: Rates { bytes: rate, ..Rates::default() }, ..Settings::default() },
    );
    let mut client = TcpStream::connect(relay.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(request("arena").as_bytes()).unwrap();
    // Records of no known kind, half a budget too much: reading stops for half a second, and the budget is full a second later.
    let began = Clock::start();
    let nonsense = [&[0x82, 0xFE, 0x4B, 0, 0, 0, 0, 0], &[0; 0x4B00][..]].concat();
    client.write_all(&nonsense.repeat(5)).unwrap();
    let mut is_parked_behind_a_ping = || {
        client.write_all(&PING).unwrap();
        await_pong(&client);
        thread::sleep(Duration::from_millis(50));
        relay.count(|metrics| metrics.connections_parked.value()) == 1
    };
    // Where the machine is busy, fewer looks end before the budget can be full.
    loop {
        let is_parked = is_parked_behind_a_ping();
        if age(began) > Duration::from_millis(1_400) {
            break;
        }
        assert!(is_parked, "it may send too much again");
    }
    let started = Clock::start();
    let mut unparked_in_a_row = 0;
    while unparked_in_a_row < 5 {
        unparked_in_a_row = if is_parked_behind_a_ping() { 0 } else { unparked_in_a_row + 1 };
        assert!(age(started) < PATIENCE, "each message costs a poll and a receive for ever");
    }
    drop(client);
    relay.stop();
}

fn join(relay: &Relay, game: &str) -> TcpStream {
    let mut client = TcpStream::connect(relay.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(request(game).as_bytes()).unwrap();
    client.write_all(&PING).unwrap();
    await_pong(&client);
    client
}

/// The first byte of the first control frame that comes. Roster and Keyframe of newcomers may come before it.
fn first_control_frame(client: &mut TcpStream) -> u8 {
    loop {
        let mut head = [0; 2];
        client.read_exact(&mut head).unwrap();
        if head[0] & 0x08 != 0 {
            return head[0];
        }
        let mut extended = [0; 2];
        let length = match head[1] {
            126 => {
                client.read_exact(&mut extended).unwrap();
                u16::from_be_bytes(extended)
            }
            length => length.into(),
        };
        client.read_exact(&mut vec![0; length.into()]).unwrap();
    }
}

fn what_came_while_the_process_stood_still_is_read_before_anybody_is_judged<D: Tried>() {
    let standstill = Duration::from_millis(2_000);
    let liveness = Liveness {
        ping_after: Duration::from_millis(400),
        close_after: Duration::from_millis(1_200),
        ..Liveness::default()
    };
    let clients = ClientRules { upgrade_timeout: Duration::from_millis(1_000), ..ClientRules::default() };
    let settings = Settings { liveness, clients, ..Settings::default() };
    let relay = Relay::start_with::<D>(16, settings);
    let games = game_names();
    let mut idle = games.clone().map(|game| join(&relay, &game));
    let late: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(relay.address).unwrap()).collect();
    while relay.count(|metrics| metrics.connections_upgrading.value()) < 8 {
        thread::sleep(Duration::from_millis(1));
    }
    relay.trouble.stand_still(standstill);
    thread::sleep(standstill / 2);
    for mut client in &late {
        client.write_all(request(&games[0]).as_bytes()).unwrap();
    }
    for mut client in &late {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
    }
    for client in &mut idle {
        assert_eq!(first_control_frame(client), 0x89, "nobody is let go without having been asked");
    }
    let alone = relay.metrics.iter().map(|metrics| metrics.standstills.value());
    assert!(alone.min() >= Some(1), "each shard finds it by itself");
    relay.stop();
}
