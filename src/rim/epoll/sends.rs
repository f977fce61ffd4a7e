//! A send: its frames, and how much of them has gone out.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::limits::{FRAMES_PER_SEND_MAX, SEND_BYTES_AT_ONCE};
use crate::shard::Frames;
use crate::wire::encoded::Encoded;

/// How far a send has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel has taken everything.
    Done,
    /// It has taken `SEND_BYTES_AT_ONCE`, and may have room for more.
    Part,
    /// It has taken what there was room for, and will say when there is more.
    Full,
    /// Nothing more goes out.
    Failed(Errno),
}

/// Invariant: `sent <= bytes of frames`.
#[derive(Debug)]
pub(super) struct Sending {
    frames: Frames,
    sent: usize,
}

impl Sending {
    pub(super) fn new(frames: Frames) -> Self {
        Self { frames, sent: 0 }
    }

    /// Bytes that have gone out.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    #[cfg(test)]
    pub(super) fn unsent(&self) -> usize {
        self.frames.bytes() - self.sent
    }

    /// Gives the kernel some of what is not sent yet.
    pub(super) fn go_on(&mut self, socket: BorrowedFd<'_>) -> Progress {
        let (end, pause_at) = (self.frames.bytes(), self.sent + SEND_BYTES_AT_ONCE);
        while self.sent < end {
            if self.sent == pause_at {
                return Progress::Part;
            }
            match send_from(socket, self.frames.as_slice(), self.sent, pause_at - self.sent) {
                Ok((bytes, offered)) => {
                    self.sent += bytes;
                    // A send that does not wait ends short because the socket's buffer is full.
                    if bytes < offered {
                        return Progress::Full;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Full,
                Err(errno) => return Progress::Failed(errno),
            }
        }
        Progress::Done
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.frames.heap_bytes()
    }
}

/// Sends some of the frames but for the first `skip` bytes, at most `limit` bytes: how much there was room for, and how much was
/// offered.
fn send_from(
    socket: BorrowedFd<'_>,
    frames: &[Encoded],
    mut skip: usize,
    mut limit: usize,
) -> Result<(usize, usize), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let begun = frames.iter().position(|frame| {
        let whole = frame.bytes().len() <= skip;
        skip -= if whole { frame.bytes().len() } else { 0 };
        !whole
    });
    let unsent = &frames[begun.unwrap_or(frames.len())..];
    let mut parts = unsent.iter().map(|frame| {
        let bytes = &frame.bytes()[std::mem::take(&mut skip)..];
        let part = &bytes[..bytes.len().min(limit)];
        limit -= part.len();
        part
    });
    if let [] | [_] = unsent {
        let bytes = parts.next().unwrap_or_default();
        return Ok((send(socket, bytes, flags)?, bytes.len()));
    }
    let mut slices = [IoSlice::new(&[]); FRAMES_PER_SEND_MAX];
    let (mut offered, mut count) = (0, 0);
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
        offered += part.len();
        count += 1;
    }
    Ok((sendmsg(socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags)?, offered))
}
