//! The table of sockets: what is ready on each, and what is in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;

use super::poller::Subject;
use super::sends::Sending;
use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::rim::driver::{Descriptor, Receive};
use crate::surplus::{Surplus, is_surplus};

/// What is true of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    /// A receive may find something. Only a call that found less than it had room for says that nothing is left.
    pub(super) to_read: bool,
    /// A send may find room.
    pub(super) to_write: bool,
    /// The peer sends nothing more, or the connection is broken: there is always something to read, even if it is the end.
    pub(super) at_end: bool,
}

/// A socket, and what is in flight on it.
pub(super) struct Place {
    /// `None`: it was handed over, and waits to be closed; or the place is free.
    pub(super) socket: Option<OwnedFd>,
    /// Which of the sockets that were in this place it is: an event may be older.
    generation: u32,
    /// Whose operations are in flight.
    pub(super) conn: ConnId,
    pub(super) ready: Ready,
    pub(super) receive: Option<Receive>,
    pub(super) is_polled: bool,
    /// It is in the list of those that may be read.
    pub(super) is_queued: bool,
    pub(super) send: Option<Box<Sending>>,
}

const _: () = assert!(size_of::<Place>() <= 32);

impl Place {
    const FREE: Self = Self {
        socket: None,
        generation: 0,
        conn: ConnId { slot: 0, generation: 0 },
        ready: Ready { to_read: false, to_write: true, at_end: false },
        receive: None,
        is_polled: false,
        is_queued: false,
        send: None,
    };

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("an operation on a socket that is closed or handed over").as_fd()
    }

    /// Takes in what has become ready.
    pub(super) fn becomes(&mut self, events: EventFlags) {
        let broken = events.intersects(EventFlags::HUP | EventFlags::ERR);
        self.ready.at_end |= broken || events.contains(EventFlags::RDHUP);
        self.ready.to_read |= self.ready.at_end || events.contains(EventFlags::IN);
        self.ready.to_write |= broken || events.contains(EventFlags::OUT);
    }
}

/// The sockets by place. It reserves nothing ahead, as little as the loop's table does.
#[derive(Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// Free places; the lowest is taken first, so that the table can become shorter.
    free: BinaryHeap<Reverse<u32>>,
    /// The generation of the next socket.
    generation: u32,
}

impl Places {
    /// Puts a socket into a free place. Its events come under the name that is returned.
    pub(super) fn open(&mut self, socket: OwnedFd) -> (Descriptor, Subject) {
        let place = match self.free.pop() {
            Some(Reverse(place)) => place,
            None => {
                self.places.push(Place::FREE);
                self.places.len() as u32 - 1
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        self.places[place as usize] = Place { socket: Some(socket), generation, ..Place::FREE };
        (Descriptor(place), Subject::Socket { place, generation })
    }

    /// Puts back a socket that was taken out. Its events come under the name that is returned.
    pub(super) fn put_back(&mut self, descriptor: Descriptor, socket: OwnedFd) -> Subject {
        let place = self.of(descriptor);
        place.socket = Some(socket);
        Subject::Socket { place: descriptor.0, generation: place.generation }
    }

    /// Frees a place. Returns the socket, if it was not handed over.
    pub(super) fn remove(&mut self, descriptor: Descriptor) -> Option<OwnedFd> {
        let place = std::mem::replace(self.of(descriptor), Place::FREE);
        debug_assert!(
            place.receive.is_none() && !place.is_polled && place.send.is_none(),
            "a socket is closed while something is in flight on it"
        );
        self.free.push(Reverse(descriptor.0));
        place.socket
    }

    /// Panics if there is no such place: the loop knows only places that it was given.
    pub(super) fn of(&mut self, descriptor: Descriptor) -> &mut Place {
        &mut self.places[descriptor.0 as usize]
    }

    /// The place, if the table is so long.
    pub(super) fn find(&mut self, descriptor: Descriptor) -> Option<&mut Place> {
        self.places.get_mut(descriptor.0 as usize)
    }

    /// The socket that an event is about, if it is still there.
    pub(super) fn meant(&mut self, place: u32, generation: u32) -> Option<&mut Place> {
        let place = self.places.get_mut(place as usize)?;
        (place.socket.is_some() && place.generation == generation).then_some(place)
    }

    pub(super) fn in_use(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Frees what more than `connections` connections needed.
    pub(super) fn give_back(&mut self, connections: usize) {
        if is_surplus(self.places.len(), connections) {
            let mut free = std::mem::take(&mut self.free).into_sorted_vec();
            // In the order of `Reverse` the highest place comes first.
            let from_the_end = (0..self.places.len() as u32).rev();
            let surplus =
                free.iter().zip(from_the_end).take_while(|(Reverse(place), last)| place == last).count();
            free.drain(..surplus);
            self.places.truncate(self.places.len() - surplus);
            self.free = free.into();
        }
        self.places.give_back(connections);
        self.free.give_back(connections);
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let sends = self.places.iter().filter_map(|place| place.send.as_ref());
        self.places.allocated_bytes()
            + self.free.allocated_bytes()
            + sends.map(|send| send.allocated_bytes() + send.heap_bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn socket() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn another_generation_is_another_socket() {
        let mut places = Places::default();
        let (descriptor, Subject::Socket { place, generation }) = places.open(socket()) else { panic!() };
        assert!(places.meant(place, generation).is_some());
        places.remove(descriptor);
        assert!(places.meant(place, generation).is_none(), "a free place is nobody's");
        let (again, Subject::Socket { generation: next, .. }) = places.open(socket()) else { panic!() };
        assert_eq!(again, descriptor);
        assert!(places.meant(place, generation).is_none() && places.meant(place, next).is_some());
        assert!(places.meant(place + 1, next).is_none(), "beyond the table is nobody");
    }

    #[test]
    fn the_table_shrinks_to_its_last_socket_when_a_crowd_has_gone() {
        let mut places = Places::default();
        let all: Vec<Descriptor> = (0..600).map(|_| places.open(socket()).0).collect();
        let stays = [3, 20];
        for descriptor in &all {
            if !stays.contains(&descriptor.0) {
                places.remove(*descriptor);
            }
        }
        places.give_back(600);
        assert_eq!((places.places.len(), places.in_use()), (600, 2), "so many may come again");
        places.give_back(2);
        assert_eq!((places.places.len(), places.free.len(), places.in_use()), (21, 19, 2));
        assert!(places.places.capacity() < 600);
        let taken: Vec<u32> = (0..20).map(|_| places.open(socket()).0.0).collect();
        assert_eq!(taken[..4], [0, 1, 2, 4]);
        assert_eq!(taken[19], 21, "behind the last");
    }

    #[test]
    fn what_a_broken_connection_says_is_heard_by_whoever_reads_and_writes() {
        for (events, ready) in [
            (EventFlags::IN, Ready { to_read: true, ..Ready::default() }),
            (EventFlags::OUT, Ready { to_write: true, ..Ready::default() }),
            (EventFlags::RDHUP, Ready { to_read: true, at_end: true, to_write: false }),
            (EventFlags::HUP, Ready { to_read: true, at_end: true, to_write: true }),
            (EventFlags::ERR, Ready { to_read: true, at_end: true, to_write: true }),
        ] {
            let mut place = Place { ready: Ready::default(), ..Place::FREE };
            place.becomes(events);
            assert_eq!(place.ready, ready, "{events:?}");
        }
    }
}
