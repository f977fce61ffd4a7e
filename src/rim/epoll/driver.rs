//! Operations on sockets that epoll says are ready, told as completions.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, Shutdown};

use super::accepts::Accepts;
use super::budget::SocketBudget;
use super::buffers::Buffers;
use super::door::Door;
use super::places::{Mark, Place, Places};
use super::poller::{EpollError, Poller, Subject};
use super::sends::{Progress, Sending};
use crate::ids::{ConnId, ShardId};
use crate::limits::{FRUITLESS_STEPS_MAX, RECEIVE_BUFFER_BYTES, SENDS_AT_ONCE};
use crate::mailbox::Ticket;
use crate::memory::Allocated;
use crate::rim::Clock;
use crate::rim::driver::{
    Accept, Cancel, Completion, Counts, Descriptor, Driver, Lent, Receive, Received, SendId, ShutdownSides,
    Side,
};
use crate::rim::listener::Listener;
use crate::rim::uring;
use crate::shard::Frames;
use crate::surplus::Surplus;

/// How large a driver is.
#[derive(Clone, Debug)]
pub struct EpollSettings {
    /// Sockets that it has room for, accepted and handed over.
    pub descriptors: u32,
    /// Shared by the drivers of all shards, because descriptors belong to the process.
    pub sockets: Arc<SocketBudget>,
    /// Receive buffers.
    pub receive_buffers: u16,
    /// How long a busy driver lets things gather before a wait ends.
    pub gather_time: Duration,
}

/// What may have something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Listener(Side),
    Socket(Descriptor),
    Door,
}

/// The driver of one shard.
pub struct EpollDriver {
    pub(super) poller: Poller,
    door: Arc<Door>,
    /// The doors of all shards.
    peers: Vec<Arc<Door>>,
    places: Places,
    sockets: Arc<SocketBudget>,
    /// By `Side`.
    accepts: [Accepts; 2],
    buffers: Buffers,
    /// What the loop has not been told yet.
    completions: VecDeque<Completion>,
    /// What has something to do, in turn: a step of it is taken when the loop asks for a completion.
    ready: VecDeque<Source>,
    /// The door is in that list.
    is_door_queued: bool,
    /// Sends that are still made at once before the next wait.
    sends_left: usize,
    /// What wakes the driver from outside.
    eventfd: Option<Arc<OwnedFd>>,
    /// The loop has been told something since the last wait.
    busy: bool,
    counts: Counts,
}

impl EpollDriver {
    /// Makes an epoll instance and what others reach it by.
    pub fn new(settings: EpollSettings) -> Result<Self, EpollError> {
        Ok(Self {
            poller: Poller::new(settings.gather_time)?,
            door: Arc::new(Door::new(settings.descriptors)?),
            peers: Vec::new(),
            places: Places::default(),
            sockets: settings.sockets,
            accepts: Default::default(),
            buffers: Buffers::new(settings.receive_buffers),
            completions: VecDeque::new(),
            ready: VecDeque::new(),
            is_door_queued: false,
            sends_left: SENDS_AT_ONCE,
            eventfd: None,
            busy: false,
            counts: Counts::default(),
        })
    }

    /// Takes in what the last wait has found, and does nothing about it yet. Returns whether somebody has rung.
    fn take_events(&mut self) -> bool {
        let mut has_rung = false;
        let mut events = 0..;
        while let Some((subject, flags)) = events.next().and_then(|index| self.poller.event(index)) {
            match subject {
                Subject::Socket { place, generation } => {
                    if let Some(meant) = self.places.meant(place, generation) {
                        meant.becomes(flags);
                        self.queue(Descriptor(place));
                    }
                }
                Subject::Listener(side) => {
                    self.accepts[side as usize].is_ready = true;
                    self.queue_listener(side);
                }
                Subject::Doorbell => {
                    self.queue_door();
                    has_rung = true;
                }
                Subject::Watched => has_rung = true,
            }
        }
        has_rung
    }

    /// Goes on with what is in flight on a socket, as far as it is ready: tells of it, sends a part, receives one buffer.
    fn go_on(&mut self, descriptor: Descriptor) {
        let Some(place) = self.places.find(descriptor) else { return };
        place.lower(Mark::Queued);
        if place.socket.is_none() || !place.can_go_on() {
            return;
        }
        if place.is(Mark::ToRead) && place.lower(Mark::Polled) {
            self.completions.push_back(Completion::Polled { conn: place.conn });
        }
        if place.is(Mark::ToWrite)
            && let Some(send) = self.places.take_send(descriptor)
        {
            self.send_part(descriptor, send);
        }
        self.take_bytes(descriptor);
        self.queue(descriptor);
    }

    /// Sends a part, if there is room for it. What is left waits in its place.
    fn send_part(&mut self, descriptor: Descriptor, mut send: Sending) {
        let place = self.places.of(descriptor);
        let progress = if place.is(Mark::ToWrite) { send.go_on(place.fd()) } else { Progress::Full };
        let failed = match progress {
            Progress::Part | Progress::Full => {
                place.set(Mark::ToWrite, progress == Progress::Part);
                return self.places.keep_send(descriptor, send);
            }
            Progress::Done => None,
            Progress::Failed(errno) => Some(errno),
        };
        self.completions.push_back(Completion::Sent { conn: place.conn, bytes: send.sent(), failed });
    }

    /// Puts a socket into the list, if it has something to do.
    fn queue(&mut self, descriptor: Descriptor) {
        let place = self.places.of(descriptor);
        if place.can_go_on() && !place.raise(Mark::Queued) {
            self.ready.push_back(Source::Socket(descriptor));
        }
    }

    fn queue_door(&mut self) {
        if !std::mem::replace(&mut self.is_door_queued, true) {
            self.ready.push_back(Source::Door);
        }
    }

    fn queue_listener(&mut self, side: Side) {
        let accepts = &mut self.accepts[side as usize];
        if accepts.is_ready && accepts.next().is_some() && !std::mem::replace(&mut accepts.is_queued, true) {
            self.ready.push_back(Source::Listener(side));
        }
    }

    /// Accepts one client, if one waits.
    fn take_client(&mut self, side: Side) {
        let accepts = &mut self.accepts[side as usize];
        accepts.is_queued = false;
        let Some(accept) = accepts.next() else { return };
        let client = match self.take_room() {
            Ok(()) => {
                let taken = self.accepts[side as usize].take(accept).and_then(|socket| self.register(socket));
                taken.inspect_err(|_| self.give_room_back())
            }
            Err(errno) => Err(errno),
        };
        let is_lack = matches!(client, Err(Errno::MFILE | Errno::NFILE));
        match client {
            Err(Errno::AGAIN) => self.accepts[side as usize].is_ready = false,
            Err(Errno::INTR) => {}
            // Nobody lacks anything: whoever comes next is told of by an event.
            Err(_) if is_lack && !self.accepts[side as usize].has_waiting() => {
                self.accepts[side as usize].is_ready = false;
            }
            client => self.accepted(accept, client),
        }
        self.queue_listener(side);
    }

    /// One place in the table, and one socket of the process.
    fn take_room(&self) -> Result<(), Errno> {
        if !self.door.places.take() {
            return Err(Errno::NFILE);
        }
        if !self.sockets.take() {
            self.door.places.give_back();
            return Err(Errno::MFILE);
        }
        Ok(())
    }

    fn give_room_back(&self) {
        self.door.places.give_back();
        self.sockets.give_back();
    }

    fn accepted(&mut self, accept: Accept, client: Result<Descriptor, Errno>) {
        let more = accept == Accept::Many && client.is_ok();
        if !more {
            self.accepts[accept.side() as usize].end(accept);
        }
        self.completions.push_back(Completion::Accepted { accept, more, client });
    }

    fn register(&mut self, socket: OwnedFd) -> Result<Descriptor, Errno> {
        let (descriptor, subject) = self.places.open(socket);
        let added = self.poller.add(self.places.of(descriptor).fd(), subject);
        added.map(|()| descriptor).inspect_err(|_| drop(self.places.remove(descriptor)))
    }

    /// Receives one buffer, if there is something.
    fn take_bytes(&mut self, descriptor: Descriptor) {
        let place = self.places.of(descriptor);
        let (Some(receive), Some(socket)) = (place.receive, &place.socket) else { return };
        if !place.is(Mark::ToRead) && receive != Receive::Now {
            return;
        }
        let received = self
            .buffers
            .fill(|buffer| net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes));
        let what = match received {
            None => Received::Starved,
            Some(Ok(Some(lent))) => {
                let full = u32::from(lent.bytes) == RECEIVE_BUFFER_BYTES;
                place.set(Mark::ToRead, full || place.is(Mark::AtEnd) || place.is(Mark::Urgent));
                Received::Bytes(lent)
            }
            Some(Err(Errno::INTR)) => return,
            Some(Err(Errno::AGAIN)) => {
                place.set(Mark::ToRead, false);
                place.set(Mark::Urgent, false);
                if receive != Receive::Now {
                    return;
                }
                Received::Nothing
            }
            Some(Ok(None) | Err(_)) => Received::End,
        };
        let bytes_came = matches!(what, Received::Bytes(_));
        let (left_some, more) =
            (bytes_came && place.is(Mark::ToRead), bytes_came && receive == Receive::Many);
        if !more {
            place.receive = None;
        }
        self.completions.push_back(Completion::Received { conn: place.conn, what, left_some, more });
    }

    /// Takes in a socket that another shard has left.
    fn take_arrival(&mut self) {
        self.is_door_queued = false;
        let Some(((ticket, socket), more)) = self.door.take() else { return };
        let (descriptor, subject) = self.places.open(socket);
        let place = self.places.of(descriptor);
        if let Err(errno) = self.poller.add(place.fd(), subject) {
            // Whoever reads it finds its end.
            tracing::warn!(%errno, "a connection that was handed over cannot be watched, and ends");
            shut_down(place, ShutdownSides::Both);
        }
        self.completions.push_back(Completion::Arrived { ticket, descriptor: Ok(descriptor) });
        if more {
            self.queue_door();
        }
    }

    /// Frees a place, and closes its socket, if that has not been handed over.
    fn close_place(&mut self, descriptor: Descriptor) {
        self.door.places.give_back();
        if let Some(socket) = self.places.remove(descriptor) {
            // One that could not be registered is closed nevertheless.
            let _ = self.poller.remove(&socket);
            self.sockets.give_back();
        }
    }

    /// Leaves a socket at the door of another shard, or keeps it.
    fn leave_at(&mut self, target: ShardId, ticket: Ticket, descriptor: Descriptor) -> Result<(), Errno> {
        // While it is registered here, its events come to this thread.
        self.poller.remove(self.places.of(descriptor).fd())?;
        let Some(socket) = self.places.of(descriptor).socket.take() else { return Err(Errno::BADF) };
        let Err((errno, socket)) = self.peers[usize::from(target.0)].leave(ticket, socket) else {
            return Ok(());
        };
        let subject = self.places.put_back(descriptor, socket);
        self.poller.add(self.places.of(descriptor).fd(), subject)?;
        Err(errno)
    }

    /// How much has something to do.
    #[cfg(test)]
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// How much of the send that waits is not sent yet.
    #[cfg(test)]
    pub(super) fn unsent_bytes(&mut self, descriptor: Descriptor) -> Option<usize> {
        let send = self.places.take_send(descriptor)?;
        let unsent = send.unsent();
        self.places.keep_send(descriptor, send);
        Some(unsent)
    }

    fn cancel_accept(&mut self, accept: Accept) {
        if self.accepts[accept.side() as usize].end(accept) {
            let client = Err(Errno::CANCELED);
            self.completions.push_back(Completion::Accepted { accept, more: false, client });
        }
    }

    fn cancel_send(&mut self, id: SendId) {
        let descriptor = Descriptor(id.0.get() - 1);
        if let Some(send) = self.places.take_send(descriptor) {
            let (conn, failed) = (self.places.of(descriptor).conn, Some(Errno::CANCELED));
            self.completions.push_back(Completion::Sent { conn, bytes: send.sent(), failed });
        }
    }
}

impl Driver for EpollDriver {
    type Error = EpollError;
    type Peer = Arc<Door>;

    fn peer(&self) -> Arc<Door> {
        self.door.clone()
    }

    fn enable(&mut self, peers: Vec<Arc<Door>>) -> Result<(), EpollError> {
        self.peers = peers;
        let added = self.poller.add(self.door.bell(), Subject::Doorbell);
        added.map_err(|errno| EpollError::Setup { step: "watching its doorbell", source: errno.into() })
    }

    fn accept(&mut self, listener: &Arc<Listener>, accept: Accept) {
        let side = accept.side();
        if self.accepts[side as usize].begin(listener, accept) {
            // An accept that waited would stop the shard.
            let added = rustix::io::ioctl_fionbio(listener.fd(), true)
                .and_then(|()| self.poller.add(listener.fd(), Subject::Listener(side)));
            match added {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return self.accepted(accept, Err(errno)),
            }
        }
        self.queue_listener(side);
    }

    fn accepted_address(&self, number: u8) -> Option<IpAddr> {
        self.accepts[Accept::One(number).side() as usize].address(number)
    }

    fn receive(&mut self, conn: ConnId, descriptor: Descriptor, receive: Receive) {
        let place = self.places.of(descriptor);
        (place.conn, place.receive) = (conn, Some(receive));
        self.queue(descriptor);
    }

    fn poll(&mut self, conn: ConnId, descriptor: Descriptor) {
        let place = self.places.of(descriptor);
        place.conn = conn;
        place.raise(Mark::Polled);
        self.queue(descriptor);
    }

    fn send(&mut self, conn: ConnId, descriptor: Descriptor, frames: Frames) -> SendId {
        let place = self.places.of(descriptor);
        assert!(!place.is(Mark::Sending), "a second send would land inside the first");
        place.conn = conn;
        match self.sends_left.checked_sub(1) {
            Some(left) => {
                self.sends_left = left;
                self.send_part(descriptor, Sending::new(frames));
            }
            None => self.places.keep_send(descriptor, Sending::new(frames)),
        }
        self.queue(descriptor);
        SendId(NonZeroU32::MIN.saturating_add(descriptor.0))
    }

    fn shutdown(&mut self, conn: ConnId, descriptor: Descriptor, sides: ShutdownSides) {
        // What waits because of `SENDS_AT_ONCE` could not go out any more.
        if let Some(send) = self.places.take_send(descriptor) {
            self.send_part(descriptor, send);
        }
        shut_down(self.places.of(descriptor), sides);
        self.completions.push_back(Completion::ShutDown { conn });
        self.queue(descriptor);
    }

    fn close(&mut self, conn: ConnId, descriptor: Descriptor) {
        self.close_place(descriptor);
        self.completions.push_back(Completion::Closed { conn });
    }

    fn discard(&mut self, descriptor: Descriptor) {
        self.close_place(descriptor);
        self.completions.push_back(Completion::Discarded);
    }

    fn cancel(&mut self, what: Cancel) {
        match what {
            Cancel::Accept(accept) => self.cancel_accept(accept),
            Cancel::Receive(conn, descriptor) => {
                if self.places.of(descriptor).receive.take().is_some() {
                    let (what, left_some, more) = (Received::Nothing, false, false);
                    self.completions.push_back(Completion::Received { conn, what, left_some, more });
                }
            }
            Cancel::Poll(conn, descriptor) => {
                if self.places.of(descriptor).lower(Mark::Polled) {
                    self.completions.push_back(Completion::Polled { conn });
                }
            }
            Cancel::Send(id) => self.cancel_send(id),
        }
    }

    fn hand_over(&mut self, conn: ConnId, descriptor: Descriptor, target: ShardId, ticket: Ticket) {
        let outcome = self.leave_at(target, ticket, descriptor);
        self.completions.push_back(Completion::HandedOver { conn, outcome });
    }

    fn ring(&mut self, target: ShardId) {
        self.peers[usize::from(target.0)].ring();
    }

    fn watch(&mut self, eventfd: Arc<OwnedFd>) {
        if let Err(errno) = self.poller.add(&*eventfd, Subject::Watched) {
            tracing::error!(%errno, "nobody but other shards can wake this one");
        }
        self.eventfd = Some(eventfd);
    }

    fn submit(&mut self) -> Result<(), EpollError> {
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), EpollError> {
        self.counts.enters += 1;
        self.sends_left = SENDS_AT_ONCE;
        let began = Clock::start();
        let (mut left, mut busy) = (timeout, std::mem::take(&mut self.busy));
        loop {
            let waiting = self.completions.len() + self.ready.len();
            // What is ready is not kept waiting until more has gathered.
            self.poller.wait(left, waiting, busy && self.ready.is_empty())?;
            let has_rung = self.take_events();
            left = timeout.saturating_sub(Duration::from_micros(began.instant().as_micros()));
            let is_silent = self.completions.is_empty() && self.ready.is_empty() && !has_rung;
            if !is_silent || self.poller.event(0).is_none() || left.is_zero() {
                return Ok(());
            }
            // Only sockets that nobody waits for have become ready.
            busy = false;
        }
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let mut steps = 0;
        while self.completions.is_empty() {
            if steps == FRUITLESS_STEPS_MAX {
                return None;
            }
            steps += 1;
            match self.ready.pop_front()? {
                Source::Listener(side) => self.take_client(side),
                Source::Socket(descriptor) => self.go_on(descriptor),
                Source::Door => self.take_arrival(),
            }
        }
        self.busy = true;
        self.counts.completions += 1;
        self.completions.pop_front()
    }

    fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        self.buffers.bytes(lent)
    }

    fn release(&mut self, lent: Lent) {
        self.buffers.release(lent);
    }

    fn free_buffers(&self) -> usize {
        self.buffers.free()
    }

    fn give_back(&mut self, connections: usize) {
        self.places.give_back(connections);
        self.completions.give_back(connections);
        self.ready.give_back(connections);
        self.door.give_back();
        if connections == 0 {
            self.buffers.give_back();
        }
        uring::give_back_freed_memory();
    }

    fn heap_bytes(&self) -> usize {
        self.places.heap_bytes()
            + self.buffers.heap_bytes()
            + self.poller.heap_bytes()
            + self.completions.allocated_bytes()
            + self.ready.allocated_bytes()
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

impl Drop for EpollDriver {
    /// Sockets that are on their way here end with those that are here.
    fn drop(&mut self) {
        self.door.shut();
    }
}

fn shut_down(place: &mut Place, sides: ShutdownSides) {
    let sides_shut = match sides {
        ShutdownSides::Write => Shutdown::Write,
        ShutdownSides::Both => Shutdown::Both,
    };
    // It fails if the connection is broken already.
    let _ = net::shutdown(place.fd(), sides_shut);
    if sides == ShutdownSides::Both {
        place.becomes(EventFlags::HUP);
    }
}
