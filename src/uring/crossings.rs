//! Connections between two shards: who left, who is announced, and whose descriptor has come.
//!
//! The letter is posted before the descriptor is sent, so that whoever gets a descriptor finds the letter in its mailbox.

use std::net::IpAddr;

use super::ring::Descriptor;
use crate::ids::{ConnId, ShardId};
use crate::mailbox::Ticket;
use crate::shard::peer::HandOver;

/// A connection whose descriptor is on the way to another ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) conn: ConnId,
    pub(super) target: ShardId,
    pub(super) ticket: Ticket,
    /// Counted here again if the hand-over fails.
    pub(super) address: Option<IpAddr>,
}

/// What a letter said about a connection.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) ticket: Ticket,
    pub(super) state: Box<HandOver>,
    pub(super) address: Option<IpAddr>,
}

/// A descriptor that has come, with what its letter said; without: nobody knows it, it must be closed.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) descriptor: Descriptor,
    pub(super) announced: Option<Announced>,
}

/// See the module documentation. Few connections cross at a time, so searches are linear.
pub(super) struct Crossings {
    id: ShardId,
    tickets: u32,
    leaving: Vec<Leaving>,
    announced: Vec<Announced>,
    arrived: Vec<(Ticket, Descriptor)>,
}

impl Crossings {
    pub(super) fn new(id: ShardId) -> Self {
        Self { id, tickets: 0, leaving: Vec::new(), announced: Vec::new(), arrived: Vec::new() }
    }

    /// A ticket for the next hand-over.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket { source: self.id, number: self.tickets }
    }

    /// The letter is posted.
    pub(super) fn depart(&mut self, leaving: Leaving) {
        self.leaving.push(leaving);
    }

    /// The kernel has answered the sending of the descriptor.
    pub(super) fn departed(&mut self, conn: ConnId) -> Option<Leaving> {
        let index = self.leaving.iter().position(|leaving| leaving.conn == conn)?;
        Some(self.leaving.swap_remove(index))
    }

    /// A letter has come.
    pub(super) fn announce(&mut self, announced: Announced) {
        self.announced.push(announced);
    }

    /// A letter has said that a descriptor will not come.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.announced.retain(|announced| announced.ticket != ticket);
    }

    /// A descriptor has come.
    pub(super) fn arrive(&mut self, ticket: Ticket, descriptor: Descriptor) {
        self.arrived.push((ticket, descriptor));
    }

    /// Descriptors wait for their letters: the mailbox must be read.
    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The next descriptor; to be asked after the mailbox was read to its end.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        let (ticket, descriptor) = self.arrived.pop()?;
        let index = self.announced.iter().position(|announced| announced.ticket == ticket);
        let announced = index.map(|index| self.announced.swap_remove(index));
        Some(Arrived { descriptor, announced })
    }
}
