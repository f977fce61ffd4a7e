//! The life of a connection in the loop, from the arrival of its descriptor to the close of it.
//!
//! Never close first: if an io_uring has a receive in flight, a close completes nothing, the peer sees no end, and what it sends
//! still arrives while the descriptor belongs to the next connection. So the end is: shut down, wait for the last completion of
//! everything in flight, close the descriptor, wait for that, free the slot.

use std::net::IpAddr;

use rustix::io::Errno;

use super::Loop;
use super::driver::{Accept, Cancel, Descriptor, Driver, Receive, Received, ShutdownSides, Side};
use super::sockets::{Arming, Flag, State};
use crate::ids::ConnId;
use crate::reasons::CloseReason;
use crate::shard::{Admission, Frames};

/// Opening.
impl<D: Driver> Loop<D> {
    pub(super) fn accepted(&mut self, accept: Accept, more: bool, client: Result<Descriptor, Errno>) {
        let accepted = self.acceptor.completed(accept, more, client, &self.metrics, self.now.instant);
        let Some(descriptor) = accepted else { return };
        let address = match accept {
            Accept::One(number) => self.driver.accepted_address(number),
            Accept::Many => None,
        };
        let (admission, counted) = match (address, self.settings.listen_options.connections_per_address) {
            (Some(address), Some(limit)) => match self.settings.addresses.enter(address, limit) {
                Admission::Admitted => (Admission::Admitted, Some(address)),
                Admission::AddressLimit => (Admission::AddressLimit, None),
            },
            (None, _) | (_, None) => (Admission::Admitted, None),
        };
        let tls = if accept.side() == Side::Secure { self.transports.begin() } else { Ok(None) };
        let conn = match &tls {
            Ok(_) => self.shard.handle_accepted(admission, self.now),
            Err(error) => {
                tracing::error!(%error, "no TLS for a client (a bug)");
                None
            }
        };
        self.open_or_discard(conn, descriptor, counted);
        if let (Some(conn), Ok(Some(tls))) = (conn, tls) {
            self.transports.insert(conn, tls, address);
        }
    }

    pub(super) fn open_or_discard(
        &mut self,
        conn: Option<ConnId>,
        descriptor: Descriptor,
        address: Option<IpAddr>,
    ) {
        let Some(conn) = conn else {
            address.inspect(|&address| self.settings.addresses.leave(address));
            self.discard(descriptor);
            return;
        };
        tracing::debug!(slot = conn.slot, generation = conn.generation, "connection opened");
        self.sockets.open(conn, descriptor);
        self.keep_address(conn, address);
        self.queue_receive(conn);
    }

    pub(super) fn discard(&mut self, descriptor: Descriptor) {
        self.driver.discard(descriptor);
    }

    pub(super) fn keep_address(&mut self, conn: ConnId, address: Option<IpAddr>) {
        if self.settings.listen_options.connections_per_address.is_some() {
            let slot = conn.slot as usize;
            self.address_by_slot.resize(self.address_by_slot.len().max(slot + 1), None);
            self.address_by_slot[slot] = address;
        }
    }

    pub(super) fn take_address(&mut self, conn: ConnId) -> Option<IpAddr> {
        self.address_by_slot.get_mut(conn.slot as usize)?.take()
    }
}

/// Receiving.
impl<D: Driver> Loop<D> {
    pub(super) fn received(&mut self, conn: ConnId, what: Received, left_some: bool, more: bool) {
        let socket = self.sockets.find(conn);
        if socket.is_none() {
            self.metrics.completions_stale.increment();
        }
        let open = socket.is_some_and(|socket| {
            if left_some {
                socket.flags.raise(Flag::Readable);
            }
            if matches!(what, Received::Bytes(_)) {
                socket.flags.raise(Flag::Heard);
            }
            socket.state == State::Open && !socket.flags.has(Flag::Ended)
        });
        let starved = what == Received::Starved;
        match what {
            Received::Bytes(lent) => {
                if open {
                    let bytes = self.take_in(conn, &lent);
                    self.metrics.bytes_in.add(bytes as u64);
                }
                // The buffer goes back even if the connection is gone.
                self.driver.release(lent);
            }
            Received::End if open => self.end_of_stream(conn),
            Received::End | Received::Nothing | Received::Starved => {}
        }
        if !more {
            self.receive_completed(conn, starved);
        }
    }

    fn receive_completed(&mut self, conn: ConnId, starved: bool) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.flags.lower(Flag::Receiving);
        if starved {
            socket.flags.raise(Flag::Readable);
            self.metrics.receive_buffers_exhausted.increment();
            if !socket.flags.raise(Flag::Queued) {
                self.starved.push_back(conn);
            }
        }
        self.settle(conn);
    }

    /// Tells the core, once, that nothing more will come.
    pub(super) fn end_of_stream(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if !socket.flags.raise(Flag::Ended) {
            self.shard.handle_eof(conn, self.now);
        }
    }

    pub(super) fn pause(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.flags.raise(Flag::Paused);
        socket.flags.raise(Flag::Metered);
        socket.flags.lower(Flag::Busy);
        if socket.flags.has(Flag::Receiving) {
            // What arrives before the receive has ended is still given to the core.
            self.driver.cancel(Cancel::Receive(conn, socket.descriptor));
        }
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.flags.lower(Flag::Paused);
        // While a cancelled receive has not ended, nothing is missing: its last completion queues the next one.
        if socket.missing().is_some() {
            self.queue_receive(conn);
        }
    }

    /// From here on the connection is not handed over, so a receive may stay in flight.
    pub(super) fn upgraded(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.find(conn) {
            socket.flags.raise(Flag::Upgraded);
        }
    }

    /// Something has come for a parked connection.
    pub(super) fn polled(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.find(conn) {
            socket.flags.lower(Flag::Polling);
            self.metrics.connections_parked.subtract(1);
            // If the poll failed, the receive will say why.
            socket.flags.raise(Flag::Readable);
            if socket.flags.has(Flag::Heard) && !socket.flags.has(Flag::Metered) {
                socket.flags.raise(Flag::Busy);
            }
        }
        self.settle(conn);
    }

    /// Ends the multishot receive of a connection that has been silent; a poll takes its place.
    pub(super) fn park(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.flags.lower(Flag::Busy) && socket.flags.has(Flag::Receiving) {
            self.driver.cancel(Cancel::Receive(conn, socket.descriptor));
        }
    }

    pub(super) fn queue_receive(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if !socket.flags.raise(Flag::Queued) {
            self.receives.push(conn);
        }
    }

    /// Submits the receives and polls that are due. It runs after the outputs, so that a connection that is handed over, paused
    /// or closed by what it just sent has none in flight.
    pub(super) fn arm_receives(&mut self) {
        // Without a free buffer a receive fails at once, so connections that found none wait until buffers are back.
        let with_buffer = self.starved.len().min(self.driver.free_buffers());
        self.receives.extend(self.starved.drain(..with_buffer));
        self.receives_now = false;
        for conn in self.receives.drain(..) {
            let Some(socket) = self.sockets.find(conn) else { continue };
            socket.flags.lower(Flag::Queued);
            let Some(arming) = socket.missing() else { continue };
            socket.in_flight += 1;
            let receive = match arming {
                Arming::One => Receive::One,
                Arming::Now => Receive::Now,
                Arming::Many => Receive::Many,
                Arming::Poll => {
                    socket.flags.raise(Flag::Polling);
                    self.metrics.connections_parked.add(1);
                    self.driver.poll(conn, socket.descriptor);
                    continue;
                }
            };
            self.receives_now |= arming == Arming::Now;
            socket.flags.lower(Flag::Readable);
            socket.flags.raise(Flag::Receiving);
            self.driver.receive(conn, socket.descriptor, receive);
        }
    }
}

/// Sending.
impl<D: Driver> Loop<D> {
    pub(super) fn send(&mut self, conn: ConnId, frames: Frames) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open || socket.is_mute() {
            return;
        }
        if let Some(secure) = self.transports.find(conn).filter(|secure| secure.sends_reply) {
            secure.held = Some(frames);
            return;
        }
        assert!(socket.send.is_none(), "a second send in flight would land inside the first");
        let Some(frames) = self.transports.give_out(conn, frames) else { return self.fall_silent(conn) };
        socket.in_flight += 1;
        socket.send = Some(self.driver.send(conn, socket.descriptor, frames));
    }

    pub(super) fn sent(&mut self, conn: ConnId, bytes: usize, failed: Option<Errno>) {
        self.metrics.bytes_out.add(bytes as u64);
        let Some(socket) = self.sockets.find(conn) else {
            self.metrics.completions_stale.increment();
            return;
        };
        socket.send = None;
        match (socket.state, failed) {
            (State::Open, None) => {
                self.sent_whole(conn);
                self.shut_down_behind_send(conn);
            }
            (State::Open, Some(errno)) => self.break_off(conn, errno),
            (State::HandingOver | State::GivenUp, failed) => self.sent_before_leaving(conn, failed.is_some()),
            (State::Closing, failed) => self.say_last_words(conn, failed.is_some()),
            (State::ClosingDescriptor | State::Free, _) => {}
        }
        self.settle(conn);
    }

    /// A send failed, perhaps in the middle of a frame, so nothing may follow it. The core is told of an end of stream, if it was
    /// not yet, and closes the connection when it has read what came before.
    fn break_off(&mut self, conn: ConnId, errno: Errno) {
        let Some(socket) = self.sockets.find(conn) else { return };
        tracing::debug!(slot = conn.slot, generation = conn.generation, %errno, "send failed");
        socket.flags.raise(Flag::Broken);
        let ended = socket.flags.has(Flag::Ended);
        if socket.listens() {
            self.submit_shutdown(conn, ShutdownSides::Both);
        }
        if ended {
            self.shard.handle_send_failed(conn, self.now);
        } else {
            self.end_of_stream(conn);
        }
    }

    /// Tells the peer that nothing more comes, after what is being sent.
    pub(super) fn shut_down(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open {
            return;
        }
        socket.flags.raise(Flag::ShutdownAfterSend);
        self.send_close(conn);
        self.shut_down_behind_send(conn);
    }

    fn shut_down_behind_send(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.send.is_none() && socket.flags.lower(Flag::ShutdownAfterSend) {
            self.submit_shutdown(conn, ShutdownSides::Write);
        }
    }

    pub(super) fn submit_shutdown(&mut self, conn: ConnId, sides: ShutdownSides) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.in_flight += 1;
        self.driver.shutdown(conn, socket.descriptor, sides);
    }
}

/// Ending.
impl<D: Driver> Loop<D> {
    pub(super) fn close(&mut self, conn: ConnId, reason: Option<CloseReason>) {
        let Some(socket) = self.sockets.find(conn) else { return };
        tracing::debug!(
            slot = conn.slot,
            generation = conn.generation,
            reason = reason.map(CloseReason::label),
            "connection closes"
        );
        match socket.state {
            State::Open => self.end(conn),
            State::HandingOver | State::GivenUp => socket.state = State::GivenUp,
            State::Free | State::Closing | State::ClosingDescriptor => {}
        }
    }

    /// Ends an open connection.
    pub(super) fn end(&mut self, conn: ConnId) {
        self.send_close(conn);
        let waits = self.has_last_words(conn);
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.state = State::Closing;
        if waits {
            // `say_last_words` goes on, or the sweeper.
            socket.flags.raise(Flag::LastWords);
            return;
        }
        socket.flags.lower(Flag::LastWords);
        if socket.listens() || socket.send.is_some() {
            self.submit_shutdown(conn, ShutdownSides::Both);
        }
        self.close_descriptor_when_settled(conn);
    }

    /// Called for the last completion of each submission of a connection: the one place that decides what follows.
    pub(super) fn settle(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else {
            self.metrics.completions_stale.increment();
            return;
        };
        socket.in_flight -= 1;
        match socket.state {
            State::Open if socket.missing().is_some() => self.queue_receive(conn),
            State::Closing => self.close_descriptor_when_settled(conn),
            State::HandingOver | State::GivenUp if socket.in_flight == 0 => self.go_on_handing_over(conn),
            State::Open | State::HandingOver | State::GivenUp | State::Free | State::ClosingDescriptor => {}
        }
    }

    pub(super) fn close_descriptor_when_settled(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.in_flight == 0 {
            socket.state = State::ClosingDescriptor;
            socket.in_flight = 1;
            self.driver.close(conn, socket.descriptor);
        }
    }

    pub(super) fn descriptor_closed(&mut self, conn: ConnId) {
        self.settle(conn);
        self.sockets.release(conn);
        self.transports.remove(conn);
        if let Some(address) = self.take_address(conn) {
            self.settings.addresses.leave(address);
        }
        self.acceptor.given_back();
        self.shard.handle_closed(conn, self.now);
    }
}
