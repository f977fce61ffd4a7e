//! Letters between shards, and connections that move from one to another: what waits, what is refused, what comes late.

use corelay::ids::{ConnId, Party};
use corelay::shard::peer::{HandOver, PeerMessage};

use super::{Completion, Relay};
use crate::faults::Fault;
use crate::socket::{SocketId, State};

/// What lies in an inbox.
#[derive(Debug)]
pub(super) enum Letter {
    Peer(PeerMessage),
    /// The socket's descriptor follows.
    Connection(SocketId, Box<HandOver>),
    /// The socket's descriptor will not come.
    Withdrawn(SocketId),
    /// The last letter of a party that is no more.
    Ended,
}

impl Relay {
    pub(super) fn read_mail(&mut self, number: usize) {
        while let Some(order) = self.loops[number].orders.pop_front() {
            self.loops[number].shard.handle_order(order, self.now);
        }
        for _ in 0..self.shape.letters_per_turn {
            let own = &mut self.loops[number];
            let inboxes = own.inboxes.len();
            let Some(source) =
                (0..inboxes).map(|n| (own.next_inbox + n) % inboxes).find(|n| !own.inboxes[*n].is_empty())
            else {
                break;
            };
            own.next_inbox = (source + 1) % inboxes;
            let Some(party) = self.all_parties().nth(source) else { break };
            let own = &mut self.loops[number];
            match own.inboxes[source].pop_front() {
                Some(Letter::Peer(message)) => own.shard.handle_peer(party, message, self.now),
                Some(Letter::Connection(id, state)) => {
                    own.announced.insert(id, state);
                }
                Some(Letter::Withdrawn(id)) => {
                    own.announced.remove(&id);
                }
                Some(Letter::Ended) => {
                    own.shard.handle_party_ended(party, self.now);
                }
                None => {}
            }
        }
        self.take_in_arrived(number);
    }

    /// Opens connections whose letter and descriptor are both there.
    pub(super) fn take_in_arrived(&mut self, number: usize) {
        for id in self.loops[number].arrived.clone() {
            let own = &mut self.loops[number];
            let Some(state) = own.announced.remove(&id) else { continue };
            own.arrived.remove(&id);
            let conn = own.shard.handle_handed_over(*state, self.now);
            self.open(number, id, conn);
        }
    }

    pub(super) fn forward(&mut self, source: usize, party: Party, message: PeerMessage) {
        let target = self.index_of(party);
        let has_room = self.loops[source].overflow[target].len() < self.shape.overflow_max;
        let message = if (has_room || message.must_arrive()) && !self.is_gone(target) {
            Some(message)
        } else {
            self.counts.fault(Fault::RefusedForward);
            self.trace.note("refused", || format!("{source} to {target}: {message:?}"));
            self.loops[source].shard.handle_forward_refused(party, message, self.now)
        };
        if let Some(message) = message.filter(|_| !self.is_gone(target)) {
            self.post_or_wait(source, target, Letter::Peer(message));
        }
    }

    fn post_or_wait(&mut self, source: usize, target: usize, letter: Letter) {
        if self.loops[source].overflow[target].is_empty() && self.has_room(source, target) {
            self.post(source, target, letter);
        } else {
            self.counts.fault(Fault::FullMailbox);
            self.loops[source].overflow[target].push_back(letter);
        }
    }

    pub(super) fn post_overflow(&mut self, source: usize) {
        for target in 0..self.loops[source].overflow.len() {
            if self.is_gone(target) {
                for letter in std::mem::take(&mut self.loops[source].overflow[target]) {
                    if let Letter::Connection(id, _) = letter {
                        self.stay(source, id);
                    }
                }
            }
            while self.has_room(source, target) {
                let Some(letter) = self.loops[source].overflow[target].pop_front() else { break };
                self.post(source, target, letter);
            }
        }
        for (target, id) in std::mem::take(&mut self.loops[source].withdrawals) {
            self.withdraw(source, target, id);
        }
    }

    fn post(&mut self, source: usize, target: usize, letter: Letter) {
        if let Letter::Connection(id, _) = &letter {
            self.send_descriptor(source, target, *id);
        }
        self.inbox(source, target).push_back(letter);
    }

    // ── Handovers ──────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn hand_over(&mut self, source: usize, conn: ConnId, target: usize, state: Box<HandOver>) {
        let Some(id) = self.loops[source].by_conn.get(&conn).copied() else { return };
        if self.socket(id).state != State::Open {
            return;
        }
        assert!(!self.socket(id).receives && self.socket(id).sending.is_none(), "it is in use");
        let has_room = self.loops[source].overflow[target].len() < self.shape.overflow_max;
        if self.loops[target].is_gone || !has_room {
            self.counts.fault(Fault::RefusedForward);
            self.loops[source].shard.handle_hand_over_refused(conn, self.now);
            return;
        }
        self.socket(id).state = State::HandingOver;
        self.post_or_wait(source, target, Letter::Connection(id, state));
    }

    /// The letter is in the other shard's mailbox: the descriptor follows.
    fn send_descriptor(&mut self, source: usize, target: usize, id: SocketId) {
        let Some(conn) = self.socket(id).conn else { return };
        if self.random.chance(self.plan.of(Fault::RefusedHandOver)) || self.loops[target].is_gone {
            self.counts.fault(Fault::RefusedHandOver);
            self.complete(source, Completion::Stayed { id, target });
        } else {
            self.complete_at_times(target, Completion::Arrived(id), Fault::LateHandOver, 300);
            self.complete_at_times(source, Completion::Departed(conn), Fault::LateHandOver, 300);
        }
    }

    /// A connection that could not be handed over goes on where it is.
    pub(super) fn stay(&mut self, source: usize, id: SocketId) {
        let socket = self.socket(id);
        let Some(conn) = socket.conn else { return };
        if socket.state == State::GivenUp {
            socket.state = State::Closing;
            return self.complete(source, Completion::Closed(id, conn));
        }
        socket.state = State::Open;
        self.loops[source].shard.handle_hand_over_refused(conn, self.now);
        self.receive(id);
    }

    pub(super) fn withdraw(&mut self, source: usize, target: usize, id: SocketId) {
        if self.has_room(source, target) {
            self.loops[target].inboxes[source].push_back(Letter::Withdrawn(id));
        } else {
            self.loops[source].withdrawals.push((target, id));
        }
    }
}
