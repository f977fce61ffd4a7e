//! The life of a connection in the loop, from its descriptor's coming to its descriptor's end.
//!
//! Never close first: `close` with a receive in flight gives no completion, the peer sees no end, and what it sends arrives
//! beside the descriptor's next connection. So the end is: shut down, wait for the last completion of everything in flight,
//! close the descriptor, wait for that, free the slot.

use std::net::IpAddr;

use rustix::io::Errno;

use super::Loop;
use super::op::{Operation, Token};
use super::ring::{Completion, Descriptor, Receive, ShutdownSides};
use super::sends::Progress;
use super::sockets::{Arming, Flag, State};
use crate::ids::ConnId;
use crate::limits;
use crate::reasons::CloseReason;
use crate::shard::{Admission, Frames};

/// Coming.
impl Loop {
    pub(super) fn accepted(&mut self, completion: &Completion) {
        let accepted = self.driver.acceptor.completed(completion, &self.metrics, self.now.instant);
        let Some(accepted) = accepted else { return };
        let (admission, counted) = match (accepted.address, self.settings.connections_per_address) {
            (Some(address), Some(limit)) => match self.addresses.enter(address, limit) {
                Admission::Admitted => (Admission::Admitted, Some(address)),
                Admission::AddressLimit => (Admission::AddressLimit, None),
            },
            (None, _) | (_, None) => (Admission::Admitted, None),
        };
        let conn = self.shard.handle_accepted(admission, self.now);
        self.open_or_discard(conn, accepted.descriptor, counted);
    }

    pub(super) fn open_or_discard(
        &mut self,
        conn: Option<ConnId>,
        descriptor: Descriptor,
        address: Option<IpAddr>,
    ) {
        let Some(conn) = conn else {
            address.inspect(|&address| self.addresses.leave(address));
            self.discard(descriptor);
            return;
        };
        tracing::debug!(slot = conn.slot, generation = conn.generation, "connection opened");
        self.sockets.open(conn, descriptor);
        self.keep_address(conn, address);
        self.queue_receive(conn);
    }

    pub(super) fn discard(&mut self, descriptor: Descriptor) {
        self.driver.ring.close(descriptor, Token::numbered(Operation::Discard, descriptor.0));
    }

    pub(super) fn keep_address(&mut self, conn: ConnId, address: Option<IpAddr>) {
        if self.settings.connections_per_address.is_some() {
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
impl Loop {
    pub(super) fn received(&mut self, conn: ConnId, completion: &Completion) {
        let socket = self.sockets.find(conn);
        if socket.is_none() {
            self.metrics.completions_stale.increment();
        }
        let open = socket.is_some_and(|socket| {
            // A receive that filled its buffer, or was told so, has left something behind.
            let full = completion.result.max(0) as u32 == limits::RECEIVE_BUFFER_BYTES;
            if full || completion.left_some() {
                socket.flags.raise(Flag::Readable);
            }
            if completion.result > 0 {
                socket.flags.raise(Flag::Heard);
            }
            socket.state == State::Open && !socket.flags.has(Flag::Ended)
        });
        let bytes = completion.result.max(0) as usize;
        // A completion that names a buffer returns it, whatever became of the connection and of the operation.
        if let Some(buffer) = completion.buffer() {
            let received = self.driver.buffers.take(buffer, bytes);
            if open && bytes > 0 {
                self.metrics.bytes_in.add(bytes as u64);
                self.shard.handle_received(conn, received, self.now);
            }
            self.driver.buffers.release(buffer);
        }
        let error = completion.error();
        let starved = error == Some(Errno::NOBUFS);
        let passing = [Errno::CANCELED, Errno::NOBUFS, Errno::INTR, Errno::AGAIN];
        let ended = error.map_or(bytes == 0, |errno| !passing.contains(&errno));
        if open && ended {
            self.end_of_stream(conn);
        }
        if !completion.more() {
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

    /// The core learns once that nothing more will come.
    fn end_of_stream(&mut self, conn: ConnId) {
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
            self.driver.ring.cancel(Token::of(Operation::Receive, conn));
        }
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.flags.lower(Flag::Paused);
        // A receive whose cancel is under way is followed by what comes next when it has ended.
        if socket.missing().is_some() {
            self.queue_receive(conn);
        }
    }

    /// From here on nothing hands the connection over, so something may stay in flight.
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
            // If it failed, the receive will tell.
            socket.flags.raise(Flag::Readable);
            if socket.flags.has(Flag::Heard) && !socket.flags.has(Flag::Metered) {
                socket.flags.raise(Flag::Busy);
            }
        }
        self.settle(conn);
    }

    /// Ends the receive of a connection that has been silent; its poll follows.
    pub(super) fn park(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.flags.lower(Flag::Busy) && socket.flags.has(Flag::Receiving) {
            self.driver.ring.cancel(Token::of(Operation::Receive, conn));
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
        // Without a buffer a receive fails at once: those that found none wait until some have come back.
        let with_buffer = self.starved.len().min(usize::from(self.driver.buffers.with_kernel()));
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
                    self.driver.ring.poll(socket.descriptor, Token::of(Operation::Poll, conn));
                    continue;
                }
            };
            self.receives_now |= arming == Arming::Now;
            socket.flags.lower(Flag::Readable);
            socket.flags.raise(Flag::Receiving);
            self.driver.ring.receive(socket.descriptor, receive, Token::of(Operation::Receive, conn));
        }
    }
}

/// Sending.
impl Loop {
    pub(super) fn send(&mut self, conn: ConnId, frames: Frames) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open || socket.flags.has(Flag::Broken) {
            return;
        }
        assert!(socket.send.is_none(), "a second send in flight would land inside the first");
        let id = self.driver.sends.start(frames);
        socket.send = Some(id);
        socket.in_flight += 1;
        self.driver.send(id, socket.descriptor, Token::of(Operation::Send, conn));
    }

    pub(super) fn sent(&mut self, conn: ConnId, completion: &Completion) {
        let Some(socket) = self.sockets.find(conn) else {
            self.metrics.completions_stale.increment();
            return;
        };
        let Some(id) = socket.send else { return };
        let open = socket.state == State::Open;
        let progress = match completion.error() {
            None => {
                self.metrics.bytes_out.add(completion.result as u64);
                Some(self.driver.sends.advance(id, completion.result as usize))
                    .filter(|&progress| progress == Progress::Done || completion.result > 0)
            }
            Some(Errno::INTR | Errno::AGAIN) => Some(Progress::Short),
            Some(_) => None,
        };
        if progress == Some(Progress::Short) && open {
            self.driver.send(id, socket.descriptor, Token::of(Operation::Send, conn));
            return;
        }
        socket.send = None;
        self.driver.sends.finish(id);
        if open {
            match progress {
                Some(_) => {
                    let shutdown = socket.flags.lower(Flag::ShutdownAfterSend);
                    self.shard.handle_sent(conn, self.now);
                    if shutdown {
                        self.submit_shutdown(conn, ShutdownSides::Write);
                    }
                }
                None => self.break_off(conn, completion.error()),
            }
        }
        self.settle(conn);
    }

    /// A send failed, perhaps in the middle of a frame: nothing may follow it. The core hears of an end of stream, and will
    /// close.
    fn break_off(&mut self, conn: ConnId, error: Option<Errno>) {
        let Some(socket) = self.sockets.find(conn) else { return };
        tracing::debug!(slot = conn.slot, generation = conn.generation, ?error, "send failed");
        socket.flags.raise(Flag::Broken);
        if socket.flags.has(Flag::Ended) {
            // The core has heard of the end, and waits for this send. There is nothing left to wait for.
            socket.state = State::Closing;
            if socket.listens() {
                self.submit_shutdown(conn, ShutdownSides::Both);
            }
            return;
        }
        if socket.listens() {
            self.submit_shutdown(conn, ShutdownSides::Both);
        }
        self.end_of_stream(conn);
    }

    /// Tells the peer that nothing more comes, after what is being sent.
    pub(super) fn shut_down(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.state != State::Open {
            return;
        }
        if socket.send.is_some() {
            socket.flags.raise(Flag::ShutdownAfterSend);
        } else {
            self.submit_shutdown(conn, ShutdownSides::Write);
        }
    }

    fn submit_shutdown(&mut self, conn: ConnId, sides: ShutdownSides) {
        let Some(socket) = self.sockets.find(conn) else { return };
        socket.in_flight += 1;
        self.driver.ring.shutdown(socket.descriptor, sides, Token::of(Operation::Shutdown, conn));
    }
}

/// Ending.
impl Loop {
    pub(super) fn close(&mut self, conn: ConnId, reason: Option<CloseReason>) {
        let Some(socket) = self.sockets.find(conn) else { return };
        tracing::debug!(
            slot = conn.slot,
            generation = conn.generation,
            reason = reason.map(CloseReason::label),
            "connection closes"
        );
        match socket.state {
            State::Open => {
                socket.state = State::Closing;
                if socket.listens() || socket.send.is_some() {
                    self.submit_shutdown(conn, ShutdownSides::Both);
                }
                self.close_descriptor_when_settled(conn);
            }
            State::HandingOver | State::GivenUp => socket.state = State::GivenUp,
            State::Free | State::Closing | State::ClosingDescriptor => {}
        }
    }

    /// Every last completion of a connection's submission comes through here, and here alone it is decided what follows.
    pub(super) fn settle(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else {
            self.metrics.completions_stale.increment();
            return;
        };
        socket.in_flight -= 1;
        match socket.state {
            State::Open if socket.missing().is_some() => self.queue_receive(conn),
            State::Closing => self.close_descriptor_when_settled(conn),
            State::Open | State::HandingOver | State::GivenUp | State::Free | State::ClosingDescriptor => {}
        }
    }

    pub(super) fn close_descriptor_when_settled(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.find(conn) else { return };
        if socket.in_flight == 0 {
            socket.state = State::ClosingDescriptor;
            socket.in_flight = 1;
            self.driver.ring.close(socket.descriptor, Token::of(Operation::Close, conn));
        }
    }

    pub(super) fn descriptor_closed(&mut self, conn: ConnId) {
        self.settle(conn);
        self.sockets.release(conn);
        if let Some(address) = self.take_address(conn) {
            self.addresses.leave(address);
        }
        self.driver.acceptor.given_back();
        self.shard.handle_closed(conn, self.now);
    }
}
