//! Connections on `listen_tls`: their handshakes, and what TLS itself sends. Of that the core knows nothing: its own frames wait for
//! such a send, and so does a handover.

use super::driver::{Driver, Lent, ShutdownSides};
use super::sockets::{Flag, State};
use super::{Done, Loop, notes};
use crate::ids::ConnId;
use crate::limits::{HANDSHAKE_STEPS_PER_TURN, TLS_SILENT_RECORD_WORK};
use crate::shard::Frames;
use crate::tls::{Opened, TlsError};
use crate::wire::encoded::Encoded;

impl<D: Driver> Loop<D> {
    /// Gives the core bytes that have come, or lets them wait for a step of the handshake. Returns how many they are.
    pub(super) fn take_in(&mut self, conn: ConnId, lent: &Lent) -> usize {
        let bytes = self.driver.bytes(lent);
        let count = bytes.len();
        match self.transports.find(conn).map(|secure| secure.established) {
            None => self.shard.handle_received(conn, bytes, self.now),
            Some(true) => {
                let (shard, metrics) = (&mut self.shard, &self.metrics);
                let outcome = self.transports.open(conn, bytes, shard, metrics, self.now);
                self.opened(conn, outcome);
            }
            Some(false) => {
                self.transports.wait(conn, bytes);
                if let Some(socket) = self.sockets.find(conn) {
                    socket.flags.raise(Flag::Handshaking);
                }
            }
        }
        count
    }

    /// Takes a few steps of handshakes, which are dear, in the order in which they became due.
    pub(super) fn step_handshakes(&mut self) -> Done {
        for number in 0..HANDSHAKE_STEPS_PER_TURN {
            // A signature with a long RSA key takes 5 ms.
            if number > 0 && self.shard.next_due().is_some_and(|due| due <= self.clock.instant()) {
                break;
            }
            let Some(conn) = self.transports.next_handshake() else { break };
            let Some(socket) = self.sockets.find(conn) else { continue };
            socket.flags.lower(Flag::Handshaking);
            let Some(secure) = self.transports.find(conn) else { continue };
            let mut arrived = std::mem::take(&mut secure.arrived);
            if socket.state != State::Open || socket.flags.has(Flag::Ended) {
                continue;
            }
            let (shard, metrics) = (&mut self.shard, &self.metrics);
            let outcome = self.transports.open(conn, &mut arrived, shard, metrics, self.now);
            self.opened(conn, outcome);
            if self.sockets.find(conn).is_some_and(|socket| socket.missing().is_some()) {
                self.queue_receive(conn);
            }
        }
        let waiting = self.transports.handshakes_waiting();
        self.metrics.tls_handshakes_waiting.set(waiting as u64);
        if waiting == 0 { Done::All } else { Done::Part }
    }

    /// Sends what TLS has to say, and ends the connection if it is over.
    fn opened(&mut self, conn: ConnId, outcome: Result<Opened, TlsError>) {
        self.send_reply(conn);
        match outcome {
            Ok(Opened { peer_closed, records, silent_records, .. }) => {
                self.shard.spend_work((records + silent_records * TLS_SILENT_RECORD_WORK) as usize);
                if peer_closed {
                    self.end_of_stream(conn);
                }
            }
            Err(error) => {
                self.metrics.tls_failures.increment();
                let peer = self.transports.find(conn).and_then(|secure| secure.peer);
                notes::tell_tls_failure(&error, peer, self.shard.is_in_development(), self.now.instant);
                self.fall_silent(conn);
            }
        }
    }

    /// Sends what TLS itself has to say, if nothing else is being sent; else it goes out with what is sent next.
    pub(super) fn send_reply(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        let may_say = match socket.state {
            State::Open | State::HandingOver => true,
            State::Closing => socket.flags.has(Flag::LastWords),
            State::Free | State::GivenUp | State::ClosingDescriptor => false,
        };
        let may_send = may_say && socket.send.is_none() && !socket.flags.has(Flag::Broken);
        let Some(secure) = self.transports.find(conn).filter(|secure| may_send && !secure.reply.is_empty())
        else {
            return;
        };
        let reply = Encoded::raw(std::mem::take(&mut secure.reply));
        secure.sends_reply = true;
        socket.in_flight += 1;
        socket.send = Some(self.driver.send(conn, socket.descriptor, Frames::One(reply)));
    }

    /// Says that nothing more is sent, behind what is being sent.
    pub(super) fn send_close(&mut self, conn: ConnId) {
        if let Some(secure) = self.transports.find(conn) {
            secure.tls.seal_close(&mut secure.reply);
            self.send_reply(conn);
        }
    }

    /// The send in flight has ended well: the core is told, unless it was TLS's own. Then what has waited is sent.
    pub(super) fn sent_whole(&mut self, conn: ConnId) {
        let secure = self.transports.find(conn);
        let (was_reply, held) = secure
            .map_or((false, None), |secure| (std::mem::take(&mut secure.sends_reply), secure.held.take()));
        if !was_reply {
            self.shard.handle_sent(conn, self.now);
        }
        match held.filter(|_| self.sockets.find(conn).is_some_and(|socket| !socket.is_mute())) {
            Some(frames) => self.send(conn, frames),
            None => self.send_reply(conn),
        }
    }

    /// Whether a connection that ends waits for the send in flight, so that TLS can say something behind it. Who is ended because
    /// it takes nothing is not waited for, which is nobody whose own end is known.
    pub(super) fn has_last_words(&mut self, conn: ConnId) -> bool {
        let has_reply = self.transports.find(conn).is_some_and(|secure| !secure.reply.is_empty());
        self.sockets.find(conn).is_some_and(|socket| {
            let has = |flag| socket.flags.has(flag);
            has_reply && socket.send.is_some() && has(Flag::Ended) && !has(Flag::Broken)
        })
    }

    /// A send of a connection that is closing has ended. Whatever TLS has still to say goes out, and then nothing more. If the send
    /// is `lost`, nothing may follow it.
    pub(super) fn say_last_words(&mut self, conn: ConnId, lost: bool) {
        let Some(socket) = self.sockets.find(conn).filter(|socket| socket.flags.has(Flag::LastWords)) else {
            return;
        };
        if lost {
            socket.flags.raise(Flag::Broken);
        }
        self.send_reply(conn);
        if let Some(socket) = self.sockets.find(conn) {
            socket.flags.lower(Flag::LastWords);
        }
        self.submit_shutdown(conn, ShutdownSides::Both);
    }

    /// A send of TLS for which a handover waits has ended. If it is `lost`, nothing may follow it.
    pub(super) fn sent_before_leaving(&mut self, conn: ConnId, lost: bool) {
        if let Some(secure) = self.transports.find(conn) {
            secure.sends_reply = false;
        }
        if let Some(socket) = self.sockets.find(conn).filter(|_| lost) {
            socket.flags.raise(Flag::Broken);
        }
        self.send_reply(conn);
    }

    /// Nothing can be sealed (any more): TLS has failed, the handshake is not done, or the keys are used up.
    pub(super) fn fall_silent(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.find(conn) {
            socket.flags.raise(Flag::LastWords);
        }
        self.end_of_stream(conn);
        self.shard.handle_send_failed(conn, self.now);
    }

    /// What TLS had to say is sent, or lost: the handover that waited for it goes on.
    pub(super) fn go_on_handing_over(&mut self, conn: ConnId) {
        let waited = self.transports.find(conn).and_then(|secure| secure.hand_over.take());
        let (Some((target, state)), Some(socket)) = (waited, self.sockets.find(conn)) else { return };
        if std::mem::replace(&mut socket.state, State::Open) == State::GivenUp {
            self.end(conn);
        } else {
            self.hand_over(conn, target, state);
        }
    }
}
