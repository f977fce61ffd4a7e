//! What a crowd is made of, and what it hands on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::dialect::{Dialect, News};
use crate::handshake::Handshake;

/// Who wants to know what arrives.
pub trait Listener {
    /// Something came to connection `slot`.
    fn handle_news(&mut self, slot: u32, news: News<'_>, now_ns: u64);
}

/// Nobody does.
pub struct Blind;

impl Listener for Blind {
    fn handle_news(&mut self, _slot: u32, _news: News<'_>, _now_ns: u64) {}
}

/// What the connections of a crowd are.
pub struct Plan {
    /// Where to connect.
    pub target: SocketAddr,
    /// How to upgrade.
    pub handshake: Handshake,
    /// How to speak, and who each connection is.
    pub dialect: Box<dyn Dialect>,
    /// How many there can be.
    pub connections: u32,
    /// Connections from this number on stop reading once they have joined.
    pub stalled_from: u32,
    /// New connections a second.
    pub ramp_per_s: f64,
}

/// How a crowd of a million saves memory and ports. The default does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frugal {
    /// So many connections, the first ones, are busy: a receive is armed on them. The others wait for bytes on a poll, which
    /// takes less. `None`: all are busy.
    pub busy: Option<u32>,
    /// Where connections come from, if that is not the kernel's choice.
    pub sources: Option<Sources>,
}

/// Addresses of the loopback network from which connections come, so that each has its own ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Number in the whole run of the crowd's first connection.
    pub first: u32,
    /// Connections from one address.
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
    /// It is on its way.
    Sent,
    /// The socket is busy with an older one; `take_freed` will name the connection.
    Busy,
    /// The connection has not joined, or is gone.
    Gone,
}
