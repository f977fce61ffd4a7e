//! What a crowd is made of, and where it sends its events.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::dialect::{Dialect, Event};
use crate::handshake::Handshake;
use crate::secure::Trust;
use crate::target::Target;

/// Is told what arrives on the connections of a crowd.
pub trait Listener {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64);
}

pub struct NoListener;

impl Listener for NoListener {
    fn handle_event(&mut self, _slot: u32, _news: Event<'_>, _now_ns: u64) {}
}

pub struct Plan {
    pub target: SocketAddr,
    /// `None`: without TLS.
    pub trust: Option<Trust>,
    pub handshake: Handshake,
    pub dialect: Box<dyn Dialect>,
    pub connections: u32,
    /// Connections from this number on stop reading once they have joined.
    pub stalled_from: u32,
    /// Of the others, connections whose number is a multiple of this have a small receive buffer, which fills up soon when they
    /// pause.
    pub narrow_every: Option<u32>,
    /// So many connections, the first ones, are busy: a receive is armed on them. The others wait for bytes on a poll, which
    /// takes less memory.
    pub busy: u32,
    /// Where connections come from, if that is not the kernel's choice.
    pub sources: Option<Sources>,
}

impl Plan {
    /// Connections to `target` that are all busy and go on reading.
    pub fn new(target: &Target, dialect: Box<dyn Dialect>, connections: u32) -> Self {
        Self {
            target: target.address,
            trust: target.trust.clone(),
            handshake: Handshake::new(target.authority.clone()),
            dialect,
            connections,
            stalled_from: connections,
            narrow_every: None,
            busy: connections,
            sources: None,
        }
    }
}

/// Addresses of the loopback network from which connections come, so that each has its own ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Number in the whole run of the crowd's first connection.
    pub first: u32,
    pub per_address: u32,
}

impl Sources {
    /// The address of connection `slot`. 127.0.0.1 is left to everybody else.
    pub fn of(self, slot: u32) -> IpAddr {
        const FIRST: u32 = Ipv4Addr::new(127, 0, 0, 2).to_bits();
        Ipv4Addr::from_bits(FIRST + (self.first + slot) / self.per_address).into()
    }
}

/// What became of `try_send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    Sent,
    /// The socket is busy with an older one; `take_freed` will name the connection.
    Busy,
    /// The connection has not joined, or is gone.
    Gone,
}
