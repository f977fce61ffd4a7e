//! Where bytes of clients pass between the driver and the core. Those on `listen` pass unchanged. Those on `listen_tls` are opened
//! before the core gets them, and sealed when the driver is given them: until then a frame is shared by all that wait for it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use crate::ids::{ConnId, ShardId};
use crate::limits::{HANDSHAKES_WAITING_MAX, RECEIVE_BUFFER_BYTES};
use crate::memory::Allocated;
use crate::metrics::ShardMetrics;
use crate::shard::peer::HandOver;
use crate::shard::{Frames, Shard};
use crate::surplus::Surplus;
use crate::time::Now;
use crate::tls::{Connection, Opened, ServerConfig, TlsError};
use crate::wire::encoded::FramePool;

/// One client's TLS, and what waits because of it.
pub(super) struct Secure {
    pub(super) tls: Box<Connection>,
    /// Where it was accepted from, for the log; `None`: on another shard.
    pub(super) peer: Option<IpAddr>,
    /// The handshake is done.
    pub(super) established: bool,
    /// What has come for the next step of the handshake.
    pub(super) arrived: Vec<u8>,
    /// What TLS itself has to say, and the driver has not been given. It goes out before anything that is sealed later.
    pub(super) reply: Vec<u8>,
    /// The send in flight is such a reply, of which the core knows nothing.
    pub(super) sends_reply: bool,
    /// Frames of the core that wait for the end of that send.
    pub(super) held: Option<Frames>,
    /// The connection is handed over when that send has ended.
    pub(super) hand_over: Option<(ShardId, Box<HandOver>)>,
    /// Its part of `Transports::heap_bytes`.
    counted: usize,
}

impl Secure {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<Connection>()
            + self.tls.heap_bytes()
            + self.arrived.allocated_bytes()
            + self.reply.allocated_bytes()
    }
}

/// The connections on `listen_tls`.
pub(super) struct Transports {
    /// `None`: nobody listens for them.
    config: Option<Arc<ServerConfig>>,
    /// By slot; it is as long as the last of them needs.
    secure: Vec<Option<Box<Secure>>>,
    /// Those that wait for the next step of their handshake, in order.
    handshakes: VecDeque<ConnId>,
    /// So many wait that nobody is accepted.
    is_full: bool,
    /// What is being opened.
    plain: Vec<u8>,
    /// Buffers of records.
    records: FramePool,
    /// Of all connections.
    heap_bytes: usize,
}

impl Transports {
    pub(super) fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self {
            config,
            secure: Vec::new(),
            handshakes: VecDeque::new(),
            is_full: false,
            plain: Vec::new(),
            records: FramePool::default(),
            heap_bytes: 0,
        }
    }

    /// Connections from now on get these certificates.
    pub(super) fn renew(&mut self, config: Arc<ServerConfig>) {
        self.config = Some(config);
    }

    /// The TLS of a client that was accepted.
    pub(super) fn begin(&self) -> Result<Option<Box<Connection>>, TlsError> {
        self.config.as_ref().map(|config| Connection::new(config).map(Box::new)).transpose()
    }

    /// A connection that was accepted has TLS.
    pub(super) fn insert(&mut self, conn: ConnId, tls: Box<Connection>, peer: Option<IpAddr>) {
        self.keep(conn, tls, false, peer);
    }

    /// A connection has TLS whose handshake is done, on another shard.
    pub(super) fn insert_established(&mut self, conn: ConnId, tls: Box<Connection>) {
        self.keep(conn, tls, true, None);
    }

    fn keep(&mut self, conn: ConnId, tls: Box<Connection>, established: bool, peer: Option<IpAddr>) {
        let slot = conn.slot as usize;
        if self.secure.len() <= slot {
            self.secure.resize_with(slot + 1, || None);
        }
        self.secure[slot] = Some(Box::new(Secure {
            tls,
            peer,
            established,
            arrived: Vec::new(),
            reply: Vec::new(),
            sends_reply: false,
            held: None,
            hand_over: None,
            counted: 0,
        }));
        self.count(conn);
    }

    /// The connection is gone, or goes to another shard.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Connection>> {
        let secure = self.secure.get_mut(conn.slot as usize)?.take()?;
        self.heap_bytes -= secure.counted;
        while self.secure.last().is_some_and(Option::is_none) {
            self.secure.pop();
        }
        Some(secure.tls)
    }

    /// The TLS of a connection that is here; `None`: it has none.
    pub(super) fn find(&mut self, conn: ConnId) -> Option<&mut Secure> {
        self.secure.get_mut(conn.slot as usize)?.as_deref_mut()
    }

    /// Bytes have come, and wait for the next step of the handshake.
    pub(super) fn wait(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(secure) = self.find(conn) {
            secure.arrived.extend_from_slice(bytes);
            self.handshakes.push_back(conn);
            self.count(conn);
        }
    }

    /// The next connection that has waited for a step of its handshake. It may be gone.
    pub(super) fn next_handshake(&mut self) -> Option<ConnId> {
        self.handshakes.pop_front()
    }

    /// How many wait for a step of their handshake.
    pub(super) fn handshakes_waiting(&self) -> usize {
        self.handshakes.len()
    }

    /// Whether clients are accepted.
    pub(super) fn takes_more(&mut self) -> bool {
        let stops_at = if self.is_full { HANDSHAKES_WAITING_MAX / 2 } else { HANDSHAKES_WAITING_MAX };
        self.is_full = self.handshakes.len() >= stops_at;
        !self.is_full
    }

    /// Opens what has come, and gives the core what it says.
    pub(super) fn open(
        &mut self,
        conn: ConnId,
        input: &mut [u8],
        shard: &mut Shard,
        metrics: &ShardMetrics,
        now: Now,
    ) -> Result<Opened, TlsError> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(secure) = self.find(conn) else { return Err(TlsError::Over) };
        let outcome = secure.tls.open(input, &mut plain, &mut secure.reply);
        let is_established = outcome.as_ref().is_ok_and(|opened| opened.established);
        if is_established && !std::mem::replace(&mut secure.established, true) {
            metrics.tls_handshakes.increment();
        }
        if !plain.is_empty() {
            if let Ok(opened) = &outcome {
                shard.handle_overhead(conn, opened.overhead_bytes, now);
            }
            shard.handle_received(conn, &mut plain, now);
        }
        if plain.capacity() <= 8 * RECEIVE_BUFFER_BYTES as usize {
            self.plain = plain;
        }
        self.count(conn);
        outcome
    }

    /// The frames as they go out, behind what TLS itself has to say. `None`: they cannot, or no more.
    pub(super) fn give_out(&mut self, conn: ConnId, frames: Frames) -> Option<Frames> {
        self.sealed(conn, frames, |_, _| {})
    }

    /// Like `give_out`, and behind the frames TLS says that nothing follows.
    pub(super) fn give_out_last(&mut self, conn: ConnId, frames: Frames) -> Option<Frames> {
        self.sealed(conn, frames, Connection::seal_close)
    }

    fn sealed(
        &mut self,
        conn: ConnId,
        frames: Frames,
        end: impl FnOnce(&mut Connection, &mut Vec<u8>),
    ) -> Option<Frames> {
        let Some(secure) = self.secure.get_mut(conn.slot as usize).and_then(Option::as_mut) else {
            return Some(frames);
        };
        let mut outcome = Ok(());
        let record = self.records.messages(|record| {
            record.extend_from_slice(&secure.reply);
            outcome = secure.tls.seal(frames.as_slice(), record);
            end(&mut secure.tls, record);
            0
        });
        if outcome.is_ok() {
            secure.reply = Vec::new();
        }
        self.count(conn);
        outcome.is_ok().then_some(Frames::One(record))
    }

    fn count(&mut self, conn: ConnId) {
        let Some(secure) = self.secure.get_mut(conn.slot as usize).and_then(Option::as_mut) else { return };
        let bytes = secure.heap_bytes();
        self.heap_bytes = self.heap_bytes + bytes - std::mem::replace(&mut secure.counted, bytes);
    }

    /// Frees what a larger number of connections needed, and buffers that no record has needed since the last call.
    pub(super) fn give_back(&mut self) {
        self.secure.give_back(0);
        self.handshakes.give_back(0);
        self.records.give_back();
        self.plain = Vec::new();
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
            + self.secure.allocated_bytes()
            + self.handshakes.allocated_bytes()
            + self.plain.allocated_bytes()
            + self.records.heap_bytes()
    }
}
