//! Connections on their way between two shards: who left, who is announced, and whose descriptor has come.
//!
//! The letter is posted before the descriptor is sent; while the mailbox is full the letter waits, and the connection with it. One
//! with TLS goes the other way round: its TLS goes with the letter, and until the descriptor has found room at the target, the
//! client may have to be answered here. At the target either may be seen first.

use std::collections::HashMap;
use std::net::IpAddr;

use rustix::io::Errno;

use super::Loop;
use super::driver::{Descriptor, Driver};
use super::sockets::State;
use crate::ids::{ConnId, Party, ShardId};
use crate::mailbox::{Letter, Posted, Ticket};
use crate::shard::peer::HandOver;
use crate::surplus::Surplus;
use crate::tls::Connection;

/// After so many sweeps without its letter a descriptor is closed: the letter will not come, or too late for its client …
const SWEEPS_WITHOUT_LETTER_MAX: u8 = 10;
/// … and after so many it is forgotten.
const SWEEPS_REMEMBERED: u8 = u8::MAX;

/// A connection that leaves: its letter waits, or its descriptor is on the way to another shard.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) target: ShardId,
    pub(super) ticket: Ticket,
    /// The client's address, to be counted here again if the handover fails.
    pub(super) address: Option<IpAddr>,
    /// What its letter will say, if that follows the descriptor.
    pub(super) letter: Option<Box<HandOver>>,
}

/// What a letter said about a connection.
pub(super) struct Announced {
    pub(super) state: Box<HandOver>,
    pub(super) address: Option<IpAddr>,
    pub(super) tls: Option<Box<Connection>>,
}

/// A descriptor that has come before its letter was read.
struct Early {
    /// `None`: it was closed.
    descriptor: Option<Descriptor>,
    sweeps: u8,
}

/// The connections that leave this shard or arrive at it.
pub(super) struct Handovers {
    id: ShardId,
    tickets: u32,
    leaving: HashMap<ConnId, Leaving>,
    announced: HashMap<Ticket, Announced>,
    early: HashMap<Ticket, Early>,
}

impl Handovers {
    pub(super) fn new(id: ShardId) -> Self {
        Self { id, tickets: 0, leaving: HashMap::new(), announced: HashMap::new(), early: HashMap::new() }
    }

    /// A ticket for the next handover.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket { source: self.id, number: self.tickets }
    }

    /// A connection leaves: its letter is written.
    pub(super) fn depart(&mut self, conn: ConnId, leaving: Leaving) {
        self.leaving.insert(conn, leaving);
    }

    pub(super) fn leaving(&self, conn: ConnId) -> Option<&Leaving> {
        self.leaving.get(&conn)
    }

    /// Forgets a connection that leaves: the kernel has answered for its descriptor, or it will never be sent.
    pub(super) fn departed(&mut self, conn: ConnId) -> Option<Leaving> {
        self.leaving.remove(&conn)
    }

    /// A letter has come. Returns both halves if the descriptor is there already; an error if it was here, and is closed.
    pub(super) fn announce(
        &mut self,
        ticket: Ticket,
        announced: Announced,
    ) -> Result<Option<(Descriptor, Announced)>, Announced> {
        match self.early.remove(&ticket) {
            Some(Early { descriptor: Some(descriptor), .. }) => Ok(Some((descriptor, announced))),
            Some(Early { descriptor: None, .. }) => Err(announced),
            None => {
                self.announced.insert(ticket, announced);
                Ok(None)
            }
        }
    }

    /// A descriptor has come. Returns both halves if its letter was read already.
    pub(super) fn arrive(
        &mut self,
        ticket: Ticket,
        descriptor: Descriptor,
    ) -> Option<(Descriptor, Announced)> {
        if let Some(announced) = self.announced.remove(&ticket) {
            return Some((descriptor, announced));
        }
        self.early.insert(ticket, Early { descriptor: Some(descriptor), sweeps: 0 });
        None
    }

    /// The source has withdrawn a handover: its descriptor will not come.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.announced.remove(&ticket);
    }

    /// Counts a sweep, and returns descriptors whose letters do not come.
    pub(super) fn sweep(&mut self) -> Vec<Descriptor> {
        let mut closed = Vec::new();
        self.early.retain(|_, early| {
            early.sweeps += 1;
            if early.sweeps > SWEEPS_WITHOUT_LETTER_MAX {
                closed.extend(early.descriptor.take());
            }
            early.sweeps < SWEEPS_REMEMBERED
        });
        closed
    }

    /// Frees what a larger number of handovers needed.
    pub(super) fn give_back(&mut self) {
        self.leaving.give_back(0);
        self.announced.give_back(0);
        self.early.give_back(0);
    }
}

/// Leaving for another shard.
impl<D: Driver> Loop<D> {
    pub(super) fn hand_over(&mut self, conn: ConnId, target: ShardId, state: Box<HandOver>) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open {
            return;
        }
        if socket.is_mute() {
            // No answer of the other shard would reach it either.
            self.metrics.hand_overs_refused.increment();
            self.end_of_stream(conn);
            return;
        }
        if let Some(secure) = self.transports.find(conn).filter(|secure| secure.sends_reply) {
            // It would complete here; and the other shard's first send could overtake it.
            socket.state = State::HandingOver;
            secure.hand_over = Some((target, state));
            return;
        }
        if socket.in_flight > 0 {
            // What is in flight would complete here, with bytes that belong to the other shard.
            tracing::error!(
                in_flight = socket.in_flight,
                "a connection in use cannot be handed over (a bug)"
            );
            self.refuse_hand_over(conn);
            return;
        }
        let ticket = self.handovers.ticket();
        let address = self.take_address(conn);
        let party = Party::Shard(target);
        // A letter that follows its descriptor must not wait for long.
        let may_wait = match self.transports.find(conn) {
            Some(_) => self.waits_for_nothing(party),
            None => self.has_room_to_wait(party),
        };
        if self.mailbox.is_gone(party) || !may_wait {
            self.keep_address(conn, address);
            self.refuse_hand_over(conn);
            return;
        }
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.state = State::HandingOver;
        if self.transports.find(conn).is_some() {
            self.handovers.depart(conn, Leaving { target, ticket, address, letter: Some(state) });
            self.send_descriptor(conn);
        } else {
            self.handovers.depart(conn, Leaving { target, ticket, address, letter: None });
            let letter = Letter::Connection { ticket, conn, state, address, tls: None };
            self.post_or_wait(Party::Shard(target), letter);
        }
    }

    /// The descriptor of a connection that leaves goes to the other shard, if it has not gone yet.
    pub(super) fn send_descriptor(&mut self, conn: ConnId) {
        let Some(&Leaving { target, ticket, .. }) = self.handovers.leaving(conn) else { return };
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.in_flight += 1;
        self.driver.hand_over(conn, socket.descriptor, target, ticket);
    }

    /// The other shard ended before it could read the letter.
    pub(super) fn give_up_hand_over(&mut self, conn: ConnId, address: Option<IpAddr>) {
        if self.handovers.departed(conn).is_none() {
            // Its descriptor went ahead of the letter, and has ended with that shard.
            address.inspect(|&address| self.settings.addresses.leave(address));
            return;
        }
        self.come_back(conn, address);
    }

    /// The connection is not handed over: it goes on here, to be told so, unless it has ended meanwhile.
    fn come_back(&mut self, conn: ConnId, address: Option<IpAddr>) {
        self.keep_address(conn, address);
        let Some(socket) = self.sockets.find(conn) else { return };
        if std::mem::replace(&mut socket.state, State::Open) == State::GivenUp {
            self.end(conn);
        } else {
            self.refuse_hand_over(conn);
            self.queue_receive(conn);
        }
    }

    /// The kernel has answered; only now the descriptor here may be closed.
    pub(super) fn departed(&mut self, conn: ConnId, outcome: Result<(), Errno>) {
        let Some(leaving) = self.handovers.departed(conn) else { return };
        let Some(socket) = self.sockets.find(conn) else { return };
        let Err(errno) = outcome else {
            socket.state = State::Closing;
            self.metrics.hand_overs_out.increment();
            self.post_behind_descriptor(conn, leaving);
            self.settle(conn);
            return;
        };
        // At debug: clients can make this happen at will. `hand_overs_refused` counts it.
        tracing::debug!(target = leaving.target.0, %errno, "the other shard could not take a connection");
        if leaving.letter.is_none() {
            self.withdraw(Party::Shard(leaving.target), leaving.ticket);
        }
        self.come_back(conn, leaving.address);
        self.settle(conn);
    }

    /// The other shard has the descriptor of a connection with TLS: the letter follows.
    fn post_behind_descriptor(&mut self, conn: ConnId, leaving: Leaving) {
        let Leaving { target, ticket, address, letter: Some(state) } = leaving else { return };
        let tls = self.transports.remove(conn);
        self.post_or_wait(Party::Shard(target), Letter::Connection { ticket, conn, state, address, tls });
    }

    fn refuse_hand_over(&mut self, conn: ConnId) {
        self.metrics.hand_overs_refused.increment();
        self.shard.handle_hand_over_refused(conn, self.now);
    }

    /// Tells the target that a descriptor will not come. The letter must arrive, however full the mailbox is.
    pub(super) fn withdraw(&mut self, target: Party, ticket: Ticket) {
        match self.mailbox.post(target, Letter::Withdrawn { ticket }) {
            Posted::Queued => self.must_ring(target),
            // A shard that has ended waits for no descriptor.
            Posted::Refused(_) if self.mailbox.is_gone(target) => {}
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
                let both = self.handovers.arrive(ticket, descriptor);
                self.take_over(both);
            }
            Err(errno) => tracing::error!(%errno, "a descriptor was announced without having come (a bug)"),
        }
    }

    pub(super) fn announced(&mut self, ticket: Ticket, announced: Announced) {
        match self.handovers.announce(ticket, announced) {
            Ok(both) => self.take_over(both),
            Err(Announced { address, .. }) => {
                address.inspect(|&address| self.settings.addresses.leave(address));
            }
        }
    }

    fn take_over(&mut self, both: Option<(Descriptor, Announced)>) {
        let Some((descriptor, Announced { state, address, tls })) = both else { return };
        self.metrics.hand_overs_in.increment();
        let conn = self.shard.handle_handed_over(*state, self.now);
        self.open_or_discard(conn, descriptor, address);
        if let (Some(conn), Some(tls)) = (conn, tls) {
            let peer_closed = tls.peer_closed();
            self.transports.insert_established(conn, tls);
            if peer_closed {
                self.end_of_stream(conn);
            }
        }
    }

    /// Closes descriptors whose letters never came.
    pub(super) fn sweep_handovers(&mut self) {
        for descriptor in self.handovers.sweep() {
            tracing::error!(
                "a descriptor has come without its letter and is closed (a bug, or a shard that does not keep up)"
            );
            self.discard(descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::upgrade::{Route, Upgrade};

    fn announced(number: u8) -> Announced {
        let upgrade =
            Upgrade { route: Route::Echo, token: None, accept_key: "key".into(), subprotocol: None };
        let state = Box::new(HandOver { upgrade, token: None, unread: vec![number] });
        Announced { state, address: None, tls: None }
    }

    #[test]
    fn a_descriptor_finds_its_letter_whichever_is_seen_first_and_a_withdrawn_one_finds_none() {
        let mut source = Handovers::new(ShardId(1));
        let [first, second, third] = [(); 3].map(|()| source.ticket());
        let mut target = Handovers::new(ShardId(0));
        let found = |both: Option<(Descriptor, Announced)>| {
            both.map(|(descriptor, announced)| (descriptor, announced.state.unread[0]))
        };
        let announce = |target: &mut Handovers, ticket, number| {
            found(target.announce(ticket, announced(number)).unwrap_or_else(|_| panic!("it is late")))
        };
        assert_eq!(announce(&mut target, first, 1), None);
        assert_eq!(found(target.arrive(third, Descriptor(30))), None);
        assert_eq!(announce(&mut target, second, 2), None);
        target.withdraw(second);
        assert_eq!(found(target.arrive(second, Descriptor(20))), None);
        assert_eq!(announce(&mut target, third, 3), Some((Descriptor(30), 3)));
        assert_eq!(found(target.arrive(first, Descriptor(10))), Some((Descriptor(10), 1)));

        let forgotten: Vec<Vec<Descriptor>> =
            (0..=SWEEPS_WITHOUT_LETTER_MAX).map(|_| target.sweep()).collect();
        let (last, earlier) = forgotten.split_last().unwrap();
        assert!(earlier.iter().all(Vec::is_empty));
        assert_eq!(last.as_slice(), [Descriptor(20)], "nobody asks for it any more");
    }

    #[test]
    fn a_letter_that_comes_too_late_finds_that_and_leaves_nothing() {
        let mut target = Handovers::new(ShardId(0));
        let mut source = Handovers::new(ShardId(1));
        let [late, never] = [(); 2].map(|()| source.ticket());
        for (ticket, descriptor) in [(late, 1), (never, 2)] {
            assert!(target.arrive(ticket, Descriptor(descriptor)).is_none());
        }
        let closed: usize = (0..=SWEEPS_WITHOUT_LETTER_MAX).map(|_| target.sweep().len()).sum();
        assert_eq!(closed, 2);
        assert!(target.announce(late, announced(1)).is_err());
        assert!(target.announced.is_empty());
        (0..SWEEPS_REMEMBERED).for_each(|_| assert!(target.sweep().is_empty()));
        assert!(target.early.is_empty());
    }

    #[test]
    fn a_connection_departs_once() {
        let mut handovers = Handovers::new(ShardId(0));
        let conn = ConnId { slot: 4, generation: 2 };
        let ticket = handovers.ticket();
        handovers.depart(conn, Leaving { target: ShardId(1), ticket, address: None, letter: None });
        assert!(handovers.departed(ConnId { slot: 4, generation: 3 }).is_none());
        assert_eq!(handovers.departed(conn).map(|leaving| leaving.ticket), Some(ticket));
        assert!(handovers.departed(conn).is_none());
    }
}
