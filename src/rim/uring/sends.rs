//! Sends in flight: the frames, and the headers the kernel reads, at addresses that stay until the completion.

use std::num::NonZeroU32;
use std::ptr::null_mut;

use io_uring::{opcode, squeue, types};

use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::rim::driver::{Descriptor, SendId};
use crate::shard::Frames;
use crate::surplus::{Spares, Surplus, is_surplus};
use crate::wire::encoded::Encoded;

/// `WAITALL`: the kernel itself continues a send that found the socket's buffer full.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// How far a send has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel has taken everything.
    Done,
    /// It took a part: submit again.
    Short,
    /// It took a part, and the send was cancelled.
    Cancelled,
}

/// The pool of sends; a send's id is its place, counted from 1. In a steady state no send allocates. The pool is as large as the
/// most sends that were in flight at once: those of one turn, and those to clients that do not read. What only sends of several
/// frames need is kept apart.
#[derive(Default)]
pub(super) struct Sends {
    sends: Vec<Send>,
    free: Vec<SendId>,
    /// Gathers of sends that are finished. They go back into sends without a move: the kernel is given their addresses.
    gathers: Spares<Box<Gather>>,
}

/// Invariant: `sent <= bytes of frames`. The kernel holds addresses of the frames' bytes and of the gather, both of which stay
/// where they are when this value moves.
struct Send {
    /// Whose send it is. The connection may be gone.
    conn: ConnId,
    descriptor: Descriptor,
    /// `None`: the place is free.
    frames: Option<Frames>,
    sent: usize,
    /// The send is not continued when it ends short.
    cancelled: bool,
    gather: Option<Box<Gather>>,
}

/// The header of a `sendmsg`. Invariant: `header` points to `vectors`, and `vectors` into frames, from `entry` to the completion.
struct Gather {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

// SAFETY: the header points to what the gather itself owns, and to frames that may be on any thread; no thread is special.
unsafe impl std::marker::Send for Gather {}

impl Sends {
    /// Takes the frames in. `entry` gives the submission.
    pub(super) fn start(&mut self, conn: ConnId, descriptor: Descriptor, frames: Frames) -> SendId {
        let gather = match &frames {
            Frames::One(_) => None,
            Frames::Many(_) => Some(self.gathers.take().unwrap_or_default()),
        };
        let send = Send { conn, descriptor, frames: Some(frames), sent: 0, cancelled: false, gather };
        if let Some(id) = self.free.pop() {
            let place = self.send(id);
            debug_assert!(place.frames.is_none(), "a free send holds no frames");
            *place = send;
            return id;
        }
        self.sends.push(send);
        SendId(NonZeroU32::MIN.saturating_add(self.sends.len() as u32 - 1))
    }

    /// The submission that sends what is not sent yet. What it points to stays where it is until `finish`, and must not be
    /// asked for again before its completion.
    pub(super) fn entry(&mut self, id: SendId) -> squeue::Entry {
        self.send(id).entry()
    }

    /// The kernel took `bytes` more.
    pub(super) fn advance(&mut self, id: SendId, bytes: usize) -> Progress {
        let send = self.send(id);
        send.sent += bytes;
        let total = send.frames.as_ref().map_or(0, Frames::bytes);
        assert!(send.sent <= total, "the kernel took {} of {total} bytes", send.sent);
        match (send.sent == total, send.cancelled) {
            (true, _) => Progress::Done,
            (false, false) => Progress::Short,
            (false, true) => Progress::Cancelled,
        }
    }

    pub(super) fn is_cancelled(&self, id: SendId) -> bool {
        self.sends[index(id)].cancelled
    }

    /// A send is being cancelled, so it is not continued.
    pub(super) fn cancel(&mut self, id: SendId) {
        self.send(id).cancelled = true;
    }

    /// Lets go of the frames after the last completion. Returns whose send it was, and how many bytes the kernel has taken.
    pub(super) fn finish(&mut self, id: SendId) -> (ConnId, usize) {
        let send = self.send(id);
        send.frames = None;
        let whose = (send.conn, send.sent);
        let gather = send.gather.take();
        gather.into_iter().for_each(|gather| self.gathers.keep(gather));
        self.free.push(id);
        whose
    }

    /// Frees what more than `connections` connections needed, and gathers that no send has needed since the last call.
    pub(super) fn give_back(&mut self, connections: usize) {
        if is_surplus(self.sends.len(), connections) {
            let used = self.sends.iter().rposition(|send| send.frames.is_some()).map_or(0, |last| last + 1);
            self.sends.truncate(used);
            self.free.retain(|id| index(*id) < used);
        }
        self.sends.give_back(connections);
        self.free.give_back(connections);
        self.gathers.give_back();
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let in_flight = self.sends.iter().map(|send| {
            send.frames.as_ref().map_or(0, Frames::heap_bytes)
                + send.gather.as_ref().map_or(0, |gather| gather.heap_bytes())
        });
        self.sends.allocated_bytes()
            + self.free.allocated_bytes()
            + self.gathers.allocated_bytes()
            + in_flight.sum::<usize>()
            + self.gathers.iter().map(|gather| gather.heap_bytes()).sum::<usize>()
    }

    /// Keeps the memory for ever: the kernel may still read it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sends));
    }

    fn send(&mut self, id: SendId) -> &mut Send {
        &mut self.sends[index(id)]
    }
}

fn index(id: SendId) -> usize {
    id.0.get() as usize - 1
}

impl Send {
    fn entry(&mut self) -> squeue::Entry {
        let descriptor = types::Fixed::from(self.descriptor);
        let frames = self.frames.as_ref().map_or(&[][..], Frames::as_slice);
        let mut skip = self.sent;
        let begun = frames.iter().position(|frame| {
            let whole = frame.bytes().len() <= skip;
            skip -= if whole { frame.bytes().len() } else { 0 };
            !whole
        });
        let unsent = &frames[begun.unwrap_or(frames.len())..];
        match (&mut self.gather, unsent) {
            (Some(gather), [_, _, ..]) => {
                let header = gather.point_to(unsent, skip);
                opcode::SendMsg::new(descriptor, header).flags(FLAGS as u32).build()
            }
            (_, unsent) => {
                let bytes = unsent.first().map_or(&[][..], |frame| &frame.bytes()[skip..]);
                opcode::Send::new(descriptor, bytes.as_ptr(), bytes.len() as u32).flags(FLAGS).build()
            }
        }
    }
}

impl Gather {
    /// Bytes of the gather, its own place included.
    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.vectors.allocated_bytes()
    }

    /// A header for the bytes of `frames` but the first `skip`.
    fn point_to(&mut self, frames: &[Encoded], mut skip: usize) -> *const libc::msghdr {
        self.vectors.clear();
        self.vectors.extend(frames.iter().map(|frame| {
            let bytes = &frame.bytes()[std::mem::take(&mut skip)..];
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        }));
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &raw const self.header
    }
}

impl Default for Gather {
    fn default() -> Self {
        let header = libc::msghdr {
            msg_name: null_mut(),
            msg_namelen: 0,
            msg_iov: null_mut(),
            msg_iovlen: 0,
            msg_control: null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Self { header, vectors: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(texts: &[&str]) -> Frames {
        Frames::Many(texts.iter().map(|text| Encoded::raw(text.as_bytes().to_vec())).collect())
    }

    const CONN: ConnId = ConnId { slot: 3, generation: 7 };

    fn start(sends: &mut Sends, frames: Frames) -> SendId {
        sends.start(CONN, Descriptor(0), frames)
    }

    fn unsent(sends: &mut Sends, id: SendId) -> Vec<usize> {
        let _entry = sends.entry(id);
        let gather = sends.send(id).gather.as_ref().unwrap();
        gather.vectors.iter().map(|vector| vector.iov_len).collect()
    }

    #[test]
    fn a_short_send_continues_within_the_frame_it_ended_in() {
        let mut sends = Sends::default();
        let id = start(&mut sends, frames(&["abc", "defgh", "ij"]));
        assert_eq!(unsent(&mut sends, id), [3, 5, 2]);
        assert_eq!(sends.advance(id, 2), Progress::Short);
        assert_eq!(unsent(&mut sends, id), [1, 5, 2]);
        assert_eq!(sends.advance(id, 1), Progress::Short);
        assert_eq!(unsent(&mut sends, id), [5, 2], "the first frame is done");
        assert_eq!(sends.advance(id, 7), Progress::Done);
        assert_eq!(sends.finish(id), (CONN, 10));
    }

    #[test]
    fn a_pool_of_many_sends_shrinks_to_those_in_flight() {
        let mut sends = Sends::default();
        let ids: Vec<SendId> = (0..5_000).map(|_| start(&mut sends, frames(&["abc", "de"]))).collect();
        let (in_flight, finished) = (ids[3], [&ids[..3], &ids[4..]].concat());
        let sizes = unsent(&mut sends, in_flight);
        for id in finished {
            sends.finish(id);
        }
        sends.give_back(2_000);
        assert_eq!(sends.sends.len(), 5_000, "so many connections may send again");
        (0..2).for_each(|_| sends.give_back(100));
        assert_eq!((sends.sends.len(), sends.free.len(), sends.gathers.count()), (4, 3, 0));
        assert!(sends.sends.capacity() < 1_000 && sends.free.capacity() < 1_000);
        assert_eq!(unsent(&mut sends, in_flight), sizes);
        let next: Vec<SendId> = (0..4).map(|_| start(&mut sends, frames(&["x"]))).collect();
        assert!(next.iter().all(|id| *id != in_flight) && sends.sends.len() == 5);
    }

    #[test]
    fn a_finished_send_is_used_again() {
        let mut sends = Sends::default();
        let first = start(&mut sends, frames(&["abc", "def"]));
        let address = &raw const **sends.sends[0].gather.as_ref().unwrap();
        let second = start(&mut sends, Frames::One(Encoded::raw(vec![1])));
        assert!(second != first && sends.send(second).gather.is_none());
        sends.finish(first);
        assert_eq!(start(&mut sends, frames(&["x", "y"])), first);
        assert_eq!(&raw const **sends.sends[0].gather.as_ref().unwrap(), address);
    }
}
