//! The table of sockets: what is ready on each, and what is in flight.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;

use super::poller::Subject;
use super::sends::Sending;
use crate::ids::ConnId;
use crate::limits::PLACE_BYTES_MAX;
use crate::memory::Allocated;
use crate::rim::driver::{Descriptor, Receive};
use crate::surplus::{Surplus, is_surplus};

/// What is true of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// A receive may find something. Only a call that found less than it had room for says that nothing is left.
    ToRead = 1,
    /// A send may find room.
    ToWrite = 1 << 1,
    /// The peer sends nothing more, or the connection is broken: there is always something to read, even if it is the end.
    AtEnd = 1 << 2,
    /// Urgent data has come. A receive ends short in front of it, so only one that finds nothing says that nothing is left.
    Urgent = 1 << 3,
    /// A poll is in flight.
    Polled = 1 << 4,
    /// A send is in flight, and waits in `Places::sends`.
    Sending = 1 << 5,
    /// It is in the list of what has something to do.
    Queued = 1 << 6,
}

/// A socket, and what is in flight on it.
pub(super) struct Place {
    /// `None`: it was handed over, and waits to be closed; or the place is free.
    pub(super) socket: Option<OwnedFd>,
    /// Whose operations are in flight.
    pub(super) conn: ConnId,
    /// Which of the sockets that were in this place it is: an event may be older.
    generation: u16,
    pub(super) receive: Option<Receive>,
    marks: u8,
}

const _: () = assert!(size_of::<Place>() <= PLACE_BYTES_MAX);

impl Place {
    const FREE: Self = Self {
        socket: None,
        conn: ConnId { slot: 0, generation: 0 },
        generation: 0,
        receive: None,
        marks: Mark::ToWrite as u8,
    };

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("an operation on a socket that is closed or handed over").as_fd()
    }

    pub(super) fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }

    pub(super) fn set(&mut self, mark: Mark, holds: bool) {
        self.marks = if holds { self.marks | mark as u8 } else { self.marks & !(mark as u8) };
    }

    /// Sets a mark. Returns whether it was set already.
    pub(super) fn raise(&mut self, mark: Mark) -> bool {
        let before = self.is(mark);
        self.set(mark, true);
        before
    }

    /// Removes a mark. Returns whether it was set.
    pub(super) fn lower(&mut self, mark: Mark) -> bool {
        let before = self.is(mark);
        self.set(mark, false);
        before
    }

    /// Takes in what has become ready.
    pub(super) fn becomes(&mut self, events: EventFlags) {
        let broken = events.intersects(EventFlags::HUP | EventFlags::ERR);
        let raised = [
            (Mark::AtEnd, broken || events.contains(EventFlags::RDHUP)),
            (Mark::ToRead, broken || events.intersects(EventFlags::IN | EventFlags::RDHUP)),
            (Mark::ToWrite, broken || events.contains(EventFlags::OUT)),
            (Mark::Urgent, events.contains(EventFlags::PRI)),
        ];
        raised.into_iter().filter(|(_, holds)| *holds).for_each(|(mark, _)| self.set(mark, true));
    }

    /// Whether something in flight can go on.
    pub(super) fn can_go_on(&self) -> bool {
        self.receive == Some(Receive::Now)
            || self.is(Mark::ToRead) && (self.receive.is_some() || self.is(Mark::Polled))
            || self.is(Mark::ToWrite) && self.is(Mark::Sending)
    }
}

const CHUNK_PLACES: usize = 256;
type Chunk = [Place; CHUNK_PLACES];

/// The sockets by place. The table grows and shrinks by chunks, so that no place moves and nothing is reserved far ahead: a list
/// that doubles leaves behind what it was before, which the process keeps for long.
#[derive(Default)]
pub(super) struct Places {
    chunks: Vec<Box<Chunk>>,
    /// Places up to the last one that was ever taken. Invariant: `chunks` has room for them, and for less than a chunk more.
    len: usize,
    /// Free places; the lowest is taken first, so that the table can become shorter.
    free: BinaryHeap<Reverse<u32>>,
    /// By place, sends that wait until there is room for more, or for their turn. There are few.
    sends: BTreeMap<u32, Sending>,
    /// The generation of the next socket.
    generation: u16,
}

impl Places {
    /// Puts a socket into a free place. Its events come under the name that is returned.
    pub(super) fn open(&mut self, socket: OwnedFd) -> (Descriptor, Subject) {
        let place = match self.free.pop() {
            Some(Reverse(place)) => place,
            None => self.append(),
        };
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        *self.of(Descriptor(place)) = Place { socket: Some(socket), generation, ..Place::FREE };
        (Descriptor(place), Subject::Socket { place, generation })
    }

    fn append(&mut self) -> u32 {
        if self.len == self.chunks.len() * CHUNK_PLACES {
            self.chunks.push(Box::new([const { Place::FREE }; CHUNK_PLACES]));
        }
        self.len += 1;
        self.len as u32 - 1
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
            place.receive.is_none() && !place.is(Mark::Polled) && !place.is(Mark::Sending),
            "a socket is closed while something is in flight on it"
        );
        self.free.push(Reverse(descriptor.0));
        place.socket
    }

    /// Panics if there is no such place: the loop knows only places that it was given.
    pub(super) fn of(&mut self, descriptor: Descriptor) -> &mut Place {
        let place = descriptor.0 as usize;
        &mut self.chunks[place / CHUNK_PLACES][place % CHUNK_PLACES]
    }

    /// The place, if the table is so long.
    pub(super) fn find(&mut self, descriptor: Descriptor) -> Option<&mut Place> {
        let place = descriptor.0 as usize;
        Some(&mut self.chunks.get_mut(place / CHUNK_PLACES)?[place % CHUNK_PLACES])
    }

    /// The socket that an event is about, if it is still there.
    pub(super) fn meant(&mut self, place: u32, generation: u16) -> Option<&mut Place> {
        let place = self.find(Descriptor(place))?;
        (place.socket.is_some() && place.generation == generation).then_some(place)
    }

    /// The rest of a send waits.
    pub(super) fn keep_send(&mut self, descriptor: Descriptor, send: Sending) {
        self.of(descriptor).set(Mark::Sending, true);
        self.sends.insert(descriptor.0, send);
    }

    /// The send that waits.
    pub(super) fn take_send(&mut self, descriptor: Descriptor) -> Option<Sending> {
        let waits = self.of(descriptor).lower(Mark::Sending);
        waits.then(|| self.sends.remove(&descriptor.0)).flatten()
    }

    /// Frees what more than `connections` connections needed.
    pub(super) fn give_back(&mut self, connections: usize) {
        if is_surplus(self.len, connections) {
            let mut free = std::mem::take(&mut self.free).into_sorted_vec();
            // In the order of `Reverse` the highest place comes first.
            let from_the_end = (0..self.len as u32).rev();
            let surplus =
                free.iter().zip(from_the_end).take_while(|(Reverse(place), last)| place == last).count();
            free.drain(..surplus);
            self.len -= surplus;
            self.chunks.truncate(self.len.div_ceil(CHUNK_PLACES));
            self.free = free.into();
        }
        self.chunks.give_back(connections / CHUNK_PLACES);
        self.free.give_back(connections);
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.allocated_bytes()
            + self.chunks.len() * size_of::<Chunk>()
            + self.free.allocated_bytes()
            + self.sends.allocated_bytes()
            + self.sends.values().map(Sending::heap_bytes).sum::<usize>()
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
        let beyond = CHUNK_PLACES as u32;
        assert!(places.meant(place + 1, next).is_none() && places.meant(beyond, next).is_none());
    }

    #[test]
    fn the_table_shrinks_to_its_last_socket_when_a_crowd_has_gone() {
        let mut places = Places::default();
        let all: Vec<Descriptor> = (0..600).map(|_| places.open(socket()).0).collect();
        assert_eq!(places.chunks.len(), 3);
        let stays = [3, 20];
        for descriptor in &all {
            if !stays.contains(&descriptor.0) {
                places.remove(*descriptor);
            }
        }
        let in_use = |places: &Places| places.len - places.free.len();
        places.give_back(600);
        assert_eq!((places.len, in_use(&places)), (600, 2), "so many may come again");
        places.give_back(2);
        assert_eq!((places.len, places.free.len(), in_use(&places)), (21, 19, 2));
        assert_eq!(places.chunks.len(), 1);
        let taken: Vec<u32> = (0..20).map(|_| places.open(socket()).0.0).collect();
        assert_eq!(taken[..4], [0, 1, 2, 4]);
        assert_eq!(taken[19], 21, "behind the last");
        let all_at_once = places.heap_bytes();
        (0..22).for_each(|place| drop(places.remove(Descriptor(place))));
        places.give_back(0);
        assert_eq!(places.heap_bytes(), 0, "{all_at_once} before");
    }

    #[test]
    fn what_a_broken_connection_says_is_heard_by_whoever_reads_and_writes() {
        use Mark::{AtEnd, ToRead, ToWrite, Urgent};
        for (events, marks) in [
            (EventFlags::IN, &[ToRead][..]),
            (EventFlags::OUT, &[ToWrite]),
            (EventFlags::PRI, &[Urgent]),
            (EventFlags::RDHUP, &[ToRead, AtEnd]),
            (EventFlags::HUP, &[ToRead, AtEnd, ToWrite]),
            (EventFlags::ERR, &[ToRead, AtEnd, ToWrite]),
        ] {
            let mut place = Place { marks: 0, ..Place::FREE };
            place.becomes(events);
            assert_eq!(place.marks, marks.iter().fold(0, |all, mark| all | *mark as u8), "{events:?}");
        }
    }

    #[test]
    fn only_what_is_in_flight_and_ready_goes_on() {
        for (marks, receive, goes_on) in [
            (Mark::ToRead as u8, None, false),
            (Mark::ToRead as u8, Some(Receive::One), true),
            (Mark::ToWrite as u8, Some(Receive::Many), false),
            (0, Some(Receive::Now), true),
            (Mark::Polled as u8, None, false),
            (Mark::Polled as u8 | Mark::ToRead as u8, None, true),
            (Mark::Sending as u8 | Mark::ToRead as u8, None, false),
            (Mark::Sending as u8 | Mark::ToWrite as u8, None, true),
        ] {
            let place = Place { marks, receive, ..Place::FREE };
            assert_eq!(place.can_go_on(), goes_on, "{marks:b} {receive:?}");
        }
    }
}
