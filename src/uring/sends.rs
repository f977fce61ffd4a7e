//! Sends in flight: the frames, and the headers the kernel reads, at addresses that stay until the completion.

use std::num::NonZeroU32;
use std::ptr::null_mut;

use io_uring::{opcode, squeue, types};

use super::ring::Descriptor;
use crate::shard::Frames;

/// `WAITALL`: the kernel itself continues a send that found the socket's buffer full.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Which send of the pool, from 1: "none" takes no room in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendId(NonZeroU32);

/// How far a send is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel has taken everything.
    Done,
    /// It took a part: submit again.
    Short,
}

/// The pool. In a steady state no send allocates.
#[derive(Default)]
pub(super) struct Sends {
    /// Boxed: the kernel holds addresses of what is in them while the pool grows.
    #[allow(clippy::vec_box, reason = "the addresses must not change")]
    sends: Vec<Box<Send>>,
    free: Vec<SendId>,
}

/// Invariant: `sent <= bytes of frames`; `header` points to `vectors`, and `vectors` into `frames`, from `entry` to the
/// completion.
struct Send {
    frames: Option<Frames>,
    sent: usize,
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

impl Sends {
    /// Takes the frames in. `entry` gives the submission.
    pub(super) fn start(&mut self, frames: Frames) -> SendId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.sends.push(Box::new(Send::new()));
            SendId(NonZeroU32::MIN.saturating_add(self.sends.len() as u32 - 1))
        });
        let send = self.send(id);
        debug_assert!(send.frames.is_none(), "a free send holds no frames");
        send.frames = Some(frames);
        send.sent = 0;
        id
    }

    /// The submission that sends what is not sent yet. What it points to stays where it is until `finish`, and must not be
    /// asked for again before its completion.
    pub(super) fn entry(&mut self, id: SendId, descriptor: Descriptor) -> squeue::Entry {
        self.send(id).entry(descriptor.into())
    }

    /// The kernel took `bytes` more.
    pub(super) fn advance(&mut self, id: SendId, bytes: usize) -> Progress {
        let send = self.send(id);
        send.sent += bytes;
        let total = send.frames.as_ref().map_or(0, Frames::bytes);
        assert!(send.sent <= total, "the kernel took {} of {total} bytes", send.sent);
        if send.sent == total { Progress::Done } else { Progress::Short }
    }

    /// Lets go of the frames after the last completion.
    pub(super) fn finish(&mut self, id: SendId) {
        let send = self.send(id);
        send.frames = None;
        send.vectors.clear();
        self.free.push(id);
    }

    /// Keeps the memory for ever: the kernel may still read it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sends));
    }

    fn send(&mut self, id: SendId) -> &mut Send {
        &mut self.sends[id.0.get() as usize - 1]
    }
}

impl Send {
    fn new() -> Self {
        let header = libc::msghdr {
            msg_name: null_mut(),
            msg_namelen: 0,
            msg_iov: null_mut(),
            msg_iovlen: 0,
            msg_control: null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Self { frames: None, sent: 0, header, vectors: Vec::new() }
    }

    fn entry(&mut self, descriptor: types::Fixed) -> squeue::Entry {
        let (first, rest, mut skip) = match &self.frames {
            Some(Frames::One(frame)) => (frame.bytes(), &[][..], self.sent),
            Some(Frames::Many(frames)) => {
                let mut sent = self.sent;
                let begun = frames.iter().position(|frame| {
                    let whole = frame.bytes().len() <= sent;
                    sent -= if whole { frame.bytes().len() } else { 0 };
                    !whole
                });
                match begun.and_then(|begun| frames[begun..].split_first()) {
                    Some((first, rest)) => (first.bytes(), rest, sent),
                    None => (&[][..], &[][..], 0),
                }
            }
            None => (&[][..], &[][..], 0),
        };
        if rest.is_empty() {
            let unsent = &first[skip..];
            return opcode::Send::new(descriptor, unsent.as_ptr(), unsent.len() as u32).flags(FLAGS).build();
        }
        self.vectors.clear();
        for bytes in std::iter::once(first).chain(rest.iter().map(|frame| frame.bytes())) {
            let unsent = &bytes[std::mem::take(&mut skip)..];
            self.vectors
                .push(libc::iovec { iov_base: unsent.as_ptr().cast_mut().cast(), iov_len: unsent.len() });
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        let header: *const libc::msghdr = &raw const self.header;
        opcode::SendMsg::new(descriptor, header).flags(FLAGS as u32).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encoded::Encoded;

    fn frames(texts: &[&str]) -> Frames {
        Frames::Many(texts.iter().map(|text| Encoded::raw(text.as_bytes().to_vec())).collect())
    }

    fn unsent(sends: &mut Sends, id: SendId) -> Vec<usize> {
        let _entry = sends.entry(id, Descriptor(0));
        sends.send(id).vectors.iter().map(|vector| vector.iov_len).collect()
    }

    #[test]
    fn a_short_send_continues_within_the_frame_it_ended_in() {
        let mut sends = Sends::default();
        let id = sends.start(frames(&["abc", "defgh", "ij"]));
        assert_eq!(unsent(&mut sends, id), [3, 5, 2]);
        assert_eq!(sends.advance(id, 2), Progress::Short);
        assert_eq!(unsent(&mut sends, id), [1, 5, 2]);
        assert_eq!(sends.advance(id, 1), Progress::Short);
        assert_eq!(unsent(&mut sends, id), [5, 2]);
        assert_eq!(sends.advance(id, 7), Progress::Done);
    }

    #[test]
    fn a_finished_send_is_used_again() {
        let mut sends = Sends::default();
        let first = sends.start(frames(&["abc", "def"]));
        let address = &raw const *sends.sends[0];
        let second = sends.start(frames(&["x"]));
        sends.finish(first);
        assert_eq!(sends.start(frames(&["y"])), first);
        assert_ne!(first, second);
        assert_eq!(&raw const *sends.sends[0], address);
    }
}
