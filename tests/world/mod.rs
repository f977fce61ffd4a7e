//! Shards without a kernel: virtual time, and clients that are byte buffers. What a test does is what a rim would do.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod client;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, ShardId};
use corelay::metrics::ShardMetrics;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard, peer::PeerMessage};
use corelay::time::{Instant, Now};

use client::{Client, ClientId};

/// Unix time at which every world begins, in seconds.
pub const STARTED_AT_S: u64 = 1_800_000_000;

/// Shards, clients, and the time.
pub struct World {
    pub now: Now,
    pub metrics: Vec<Arc<ShardMetrics>>,
    pub settings: Arc<Settings>,
    pub clients: BTreeMap<ClientId, Client>,
    /// Shards that have finished their drain.
    pub drained: Vec<usize>,
    /// Shards that were told to stop accepting.
    pub stopped_accepting: Vec<usize>,
    shards: Vec<Shard>,
    next_client: u32,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let metrics: Vec<Arc<ShardMetrics>> = (0..settings.shards).map(|_| Arc::default()).collect();
        let shard = |id: u16| {
            let metrics = metrics[usize::from(id)].clone();
            Shard::new(ShardId(id), settings.clone(), metrics, [id as u8 + 1; 32])
        };
        Self {
            now: Now { instant: Instant::from_micros(1_000_000), unix_us: STARTED_AT_S * 1_000_000 },
            shards: (0..settings.shards).map(shard).collect(),
            metrics: metrics.clone(),
            settings,
            clients: BTreeMap::new(),
            drained: Vec::new(),
            stopped_accepting: Vec::new(),
            next_client: 0,
        }
    }

    /// The sum of a counter over all shards.
    pub fn count(&self, value: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| value(metrics)).sum()
    }

    /// A TCP connection to shard `shard`, nothing sent yet.
    pub fn dial_shard(&mut self, shard: usize, admission: Admission) -> ClientId {
        let conn = self.shards[shard].handle_accepted(admission, self.now).expect("the table has room");
        let id = ClientId(self.next_client);
        self.next_client += 1;
        self.clients.insert(id, Client::new(shard, conn));
        id
    }

    /// A TCP connection to shard 0.
    pub fn dial(&mut self) -> ClientId {
        self.dial_shard(0, Admission::Admitted)
    }

    /// A WebSocket client that asked for `target`; its answer is not looked at.
    pub fn request(&mut self, target: &str) -> ClientId {
        let client = self.dial();
        self.send_raw(client, client::request(target).as_bytes());
        client
    }

    /// A player that joined: its Welcome, Roster and Keyframe are read.
    pub fn join(&mut self, target: &str) -> ClientId {
        let client = self.request(target);
        self.client(client).upgraded();
        client
    }

    pub fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("a client of this world")
    }

    /// Bytes from a client, as they are.
    pub fn send_raw(&mut self, id: ClientId, bytes: &[u8]) {
        let client = &self.clients[&id];
        let (shard, conn) = (client.shard, client.conn);
        self.shards[shard].handle_received(conn, &mut bytes.to_vec(), self.now);
        self.run();
    }

    /// A binary message from a client.
    pub fn send(&mut self, id: ClientId, payload: &[u8]) {
        self.send_raw(id, &client::masked_frame(0x82, payload));
    }

    /// The client's end of stream, without a close frame.
    pub fn hang_up(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        let (shard, conn) = (client.shard, client.conn);
        self.shards[shard].handle_eof(conn, self.now);
        self.run();
    }

    /// From now on the client's socket takes nothing (`false`), or everything again.
    pub fn set_reading(&mut self, id: ClientId, reading: bool) {
        let client = self.client(id);
        client.reading = reading;
        if reading && let Some(in_flight) = client.in_flight.take() {
            client.inbox.extend(in_flight);
            let (shard, conn) = (client.shard, client.conn);
            self.shards[shard].handle_sent(conn, self.now);
        }
        self.run();
    }

    pub fn tell_shards(&mut self, message: &PeerMessage) {
        for shard in &mut self.shards {
            shard.handle_peer(message.clone(), self.now);
        }
        self.run();
    }

    /// Lets time pass, with everything that becomes due in it at its time.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        loop {
            let due = self.shards.iter().filter_map(Shard::poll_timeout).min().filter(|due| *due <= end);
            let until = due.unwrap_or(end).max(self.now.instant);
            self.now.unix_us += until.since(self.now.instant).as_micros() as u64;
            self.now.instant = until;
            if due.is_none() {
                return;
            }
            for shard in &mut self.shards {
                shard.handle_timeout(self.now);
            }
            self.run();
        }
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// Carries out what the shards want done, until they want nothing.
    fn run(&mut self) {
        while let Some((shard, output)) = self.next_output() {
            match output {
                Output::Send { conn, frames } => self.deliver(shard, conn, &frames),
                Output::Shutdown { conn } => self.by_conn(shard, conn, |client| client.half_closed = true),
                Output::Close { conn, reason } => {
                    self.by_conn(shard, conn, |client| client.ended = Some(reason));
                    self.shards[shard].handle_closed(conn, self.now);
                }
                Output::HandOver { conn, target, state } => {
                    let target = usize::from(target.0);
                    let at_target = self.shards[target].handle_handed_over(*state, self.now);
                    match at_target {
                        Some(at_target) => {
                            self.by_conn(shard, conn, |client| {
                                client.shard = target;
                                client.conn = at_target;
                                client.handed_over = true;
                            });
                            self.shards[shard].handle_closed(conn, self.now);
                        }
                        None => self.shards[shard].handle_hand_over_refused(conn, self.now),
                    }
                }
                Output::Forward { target, message } => {
                    self.shards[usize::from(target.0)].handle_peer(message, self.now);
                }
                Output::Pause { conn } => self.by_conn(shard, conn, |client| client.paused = true),
                Output::Resume { conn } => self.by_conn(shard, conn, |client| client.paused = false),
                Output::Upgraded { conn } => {
                    self.by_conn(shard, conn, |client| client.upgraded_by_shard = true);
                }
                Output::StopAccepting => self.stopped_accepting.push(shard),
                Output::Drained => self.drained.push(shard),
            }
        }
    }

    fn next_output(&mut self) -> Option<(usize, Output)> {
        self.shards.iter_mut().enumerate().find_map(|(shard, world)| Some((shard, world.poll_output()?)))
    }

    fn deliver(&mut self, shard: usize, conn: ConnId, frames: &corelay::shard::Frames) {
        let mut taken = false;
        self.by_conn(shard, conn, |client| {
            assert!(client.in_flight.is_none(), "two sends in flight");
            let bytes: Vec<u8> = frames.as_slice().iter().flat_map(|frame| frame.bytes()).copied().collect();
            if client.reading {
                client.inbox.extend(bytes);
                taken = true;
            } else {
                client.in_flight = Some(bytes);
            }
        });
        if taken {
            self.shards[shard].handle_sent(conn, self.now);
        }
    }

    fn by_conn(&mut self, shard: usize, conn: ConnId, act: impl FnOnce(&mut Client)) {
        let client = self.clients.values_mut().find(|client| client.shard == shard && client.conn == conn);
        act(client.expect("the shards know no connection that the world does not"));
    }
}
