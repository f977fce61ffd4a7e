//! Connections on their way between two shards: who left, who is announced, and whose descriptor has come.
//!
//! The letter is posted before the descriptor is sent, so that whoever gets a descriptor finds the letter in its mailbox. While
//! the mailbox is full the letter waits, and the connection with it.

use std::net::IpAddr;

use rustix::io::Errno;

use super::Loop;
use super::driver::{Descriptor, Driver};
use super::sockets::State;
use crate::ids::{ConnId, ShardId};
use crate::mailbox::{Letter, Posted, Ticket};
use crate::shard::peer::HandOver;
use crate::surplus::Surplus;

/// A connection that leaves: its letter waits, or its descriptor is on the way to another shard.
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

/// See the module documentation. Few connections are on their way at a time, so searches are linear.
pub(super) struct Handovers {
    id: ShardId,
    tickets: u32,
    leaving: Vec<Leaving>,
    announced: Vec<Announced>,
    arrived: Vec<(Ticket, Descriptor)>,
}

impl Handovers {
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

    /// Whose letter this ticket is on.
    pub(super) fn leaving(&self, ticket: Ticket) -> Option<Leaving> {
        self.leaving.iter().find(|leaving| leaving.ticket == ticket).copied()
    }

    /// The kernel has answered the sending of the descriptor, or it will never be sent.
    pub(super) fn departed(&mut self, conn: ConnId) -> Option<Leaving> {
        let index = self.leaving.iter().position(|leaving| leaving.conn == conn)?;
        Some(self.leaving.swap_remove(index))
    }

    /// Gives back what more hand-overs needed.
    pub(super) fn give_back(&mut self) {
        self.leaving.give_back(0);
        self.announced.give_back(0);
        self.arrived.give_back(0);
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

/// Leaving for another shard.
impl<D: Driver> Loop<D> {
    pub(super) fn hand_over(&mut self, conn: ConnId, target: ShardId, state: Box<HandOver>) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open {
            return;
        }
        if socket.in_flight > 0 {
            // Its completion would come here, with bytes that belong to the other shard.
            tracing::error!(
                in_flight = socket.in_flight,
                "a connection in use cannot be handed over (a bug)"
            );
            self.refuse_hand_over(conn);
            return;
        }
        let ticket = self.handovers.ticket();
        let address = self.take_address(conn);
        if self.mailbox.is_gone(target) || !self.has_room_to_wait(target) {
            self.keep_address(conn, address);
            self.refuse_hand_over(conn);
            return;
        }
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.state = State::HandingOver;
        self.handovers.depart(Leaving { conn, target, ticket, address });
        self.post_or_wait(target, Letter::Connection { ticket, state, address });
    }

    /// The letter is in the other shard's mailbox: the descriptor follows.
    pub(super) fn send_descriptor(&mut self, ticket: Ticket) {
        let Some(Leaving { conn, target, .. }) = self.handovers.leaving(ticket) else { return };
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.in_flight += 1;
        self.driver.hand_over(conn, socket.descriptor, target, ticket);
    }

    /// The other shard ended before it could read the letter.
    pub(super) fn give_up_hand_over(&mut self, ticket: Ticket) {
        let Some(Leaving { conn, address, .. }) = self.handovers.leaving(ticket) else { return };
        self.handovers.departed(conn);
        self.keep_address(conn, address);
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state == State::GivenUp {
            socket.state = State::Closing;
            self.close_descriptor_when_settled(conn);
        } else {
            socket.state = State::Open;
            self.refuse_hand_over(conn);
            self.queue_receive(conn);
        }
    }

    /// The kernel has answered; only now the descriptor here may be closed.
    pub(super) fn departed(&mut self, conn: ConnId, outcome: Result<(), Errno>) {
        let Some(leaving) = self.handovers.departed(conn) else { return };
        let Some(socket) = self.sockets.find(conn) else { return };
        let given_up = socket.state == State::GivenUp;
        let Err(errno) = outcome else {
            socket.state = State::Closing;
            self.metrics.hand_overs_out.increment();
            self.settle(conn);
            return;
        };
        socket.state = if given_up { State::Closing } else { State::Open };
        // At debug: clients can make this happen at will. `hand_overs_refused` counts it.
        tracing::debug!(target = leaving.target.0, %errno, "the other shard could not take a connection");
        self.keep_address(conn, leaving.address);
        self.withdraw(leaving.target, leaving.ticket);
        if !given_up {
            self.refuse_hand_over(conn);
        }
        self.settle(conn);
    }

    fn refuse_hand_over(&mut self, conn: ConnId) {
        self.metrics.hand_overs_refused.increment();
        self.shard.handle_hand_over_refused(conn, self.now);
    }

    /// The letter of a descriptor that will not come must be taken back, however full the mailbox is.
    pub(super) fn withdraw(&mut self, target: ShardId, ticket: Ticket) {
        match self.mailbox.post(target, Letter::Withdrawn { ticket }) {
            Posted::Queued => self.must_ring(target),
            Posted::Refused(_) => self.withdrawals.push((target, ticket)),
        }
    }
}

/// Coming from another shard.
impl<D: Driver> Loop<D> {
    pub(super) fn arrived(&mut self, ticket: Ticket, descriptor: Result<Descriptor, Errno>) {
        match descriptor {
            Ok(descriptor) => {
                self.acceptor.taken();
                self.handovers.arrive(ticket, descriptor);
            }
            Err(errno) => tracing::error!(%errno, "a descriptor was announced without having come (a bug)"),
        }
    }

    /// Pairs descriptors with letters, after the mailbox was read to its end.
    pub(super) fn take_in_arrived(&mut self) {
        while let Some(arrived) = self.handovers.next() {
            let Some(Announced { state, address, ticket: _ }) = arrived.announced else {
                tracing::error!("a descriptor has come without its letter and is closed (a bug)");
                self.discard(arrived.descriptor);
                continue;
            };
            self.metrics.hand_overs_in.increment();
            let conn = self.shard.handle_handed_over(*state, self.now);
            self.open_or_discard(conn, arrived.descriptor, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::upgrade::{Route, Upgrade};

    fn announced(ticket: Ticket) -> Announced {
        let upgrade =
            Upgrade { route: Route::Echo, token: None, accept_key: "key".into(), subprotocol: None };
        let state = Box::new(HandOver { upgrade, claims: None, unread: vec![ticket.number as u8] });
        Announced { ticket, state, address: None }
    }

    #[test]
    fn a_descriptor_finds_its_letter_whatever_the_order_and_a_withdrawn_one_finds_none() {
        let mut source = Handovers::new(ShardId(1));
        let [first, second, third] = [(); 3].map(|()| source.ticket());
        let mut target = Handovers::new(ShardId(0));
        for ticket in [first, second, third] {
            target.announce(announced(ticket));
        }
        target.withdraw(second);
        target.arrive(third, Descriptor(30));
        target.arrive(second, Descriptor(20));
        assert!(target.has_arrived());
        let withdrawn = target.next().unwrap();
        assert_eq!((withdrawn.descriptor, withdrawn.announced.is_none()), (Descriptor(20), true));
        let arrived = target.next().unwrap();
        assert_eq!(arrived.descriptor, Descriptor(30));
        assert_eq!(arrived.announced.unwrap().state.unread, [third.number as u8]);
        assert!(!target.has_arrived());
    }

    #[test]
    fn a_connection_departs_once() {
        let mut handovers = Handovers::new(ShardId(0));
        let conn = ConnId { slot: 4, generation: 2 };
        let leaving = Leaving { conn, target: ShardId(1), ticket: handovers.ticket(), address: None };
        handovers.depart(leaving);
        assert_eq!(handovers.departed(ConnId { slot: 4, generation: 3 }), None);
        assert_eq!(handovers.departed(conn), Some(leaving));
        assert_eq!(handovers.departed(conn), None);
    }
}
