//! The clients' sockets on one io_uring: connect, multishot receive, one send at a time. The only unsafe code.
//!
//! A connection is a slot of the ring's table of direct descriptors; a slot is used once, so a completion can only be its
//! own. Buffers that the kernel reads or writes belong to the ring: `Drop` waits until it has let go of them.
#![allow(unsafe_code, reason = "memory is shared with the kernel here")]

mod buffers;
mod completion;
mod sockets;
mod teardown;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use slab::Slab;
use socket2::SockAddr;

pub use buffers::Lent;
use buffers::{BUFFER_BYTES, BufferRing, GROUP};
pub use completion::{Completion, ReceiveEnd};
pub use sockets::{Opening, in_own_session};

const SUBMISSION_ENTRIES: u32 = 4096;
/// Completions that are taken in one go: as many sends may be answered before their buffers are free again.
const BATCH_MAX: usize = 4096;
/// See the module documentation. Push operations, `wait`, then take completions until there are none.
pub struct Ring {
    // Dropped in this order: the kernel must be done with the ring before its memory goes.
    ring: IoUring,
    buffers: BufferRing,
    /// Bytes that the kernel may read until their send completes.
    sends: Slab<Box<[u8]>>,
    /// Connections that wait on a poll, by slot.
    parked: Vec<bool>,
    target: Box<SockAddr>,
    batch: Vec<cqueue::Entry>,
    /// Invariant: batch entries before `taken` have been handed out.
    taken: usize,
    /// The last `wait` left completions in the queue.
    more: bool,
    /// Operations whose last completion has not come.
    outstanding: usize,
}

impl Ring {
    /// A ring for `connections` to `target`; unless it is `busy` hardly any of them has something to say at a time. All calls must
    /// come from the thread that made it.
    pub fn new(connections: u32, busy: bool, target: SocketAddr) -> io::Result<Self> {
        // One turn of the loop receives at most as often as there are buffers.
        let (receive_buffers, completions) = if busy { (1024, 64 * 1024) } else { (256, 16 * 1024) };
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions)
            .build(SUBMISSION_ENTRIES)?;
        ring.submitter().register_files_sparse(connections.max(1))?;
        let buffers = BufferRing::register(&ring, receive_buffers)?;
        Ok(Self {
            ring,
            buffers,
            sends: Slab::new(),
            parked: vec![false; connections as usize],
            target: Box::new(target.into()),
            batch: Vec::with_capacity(BATCH_MAX),
            taken: 0,
            more: false,
            outstanding: 0,
        })
    }

    pub fn connect(&mut self, slot: u32, opening: Opening) -> io::Result<()> {
        let socket = sockets::open(&self.target, opening)?;
        // The table holds the socket from here on; the process's own descriptor is closed at the end of this function.
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        let connect = opcode::Connect::new(Fixed(slot), self.target.as_ptr().cast(), self.target.len());
        self.push(connect.build(), user_data(CONNECT, slot))
    }

    /// Receives on `slot` until `stop_receive`. It must not be armed already.
    pub fn arm_receive(&mut self, slot: u32) -> io::Result<()> {
        self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), user_data(RECEIVE, slot))
    }

    /// Ends the receive of `slot`; bytes that came before are still delivered.
    pub fn stop_receive(&mut self, slot: u32) -> io::Result<()> {
        self.cancel(RECEIVE, slot)
    }

    /// Receives on `slot` until it ends, at the least cost in kernel memory while nothing comes: it waits on a poll, which takes
    /// 600 bytes less than a receive. To the caller it is an armed receive that cannot be stopped. It must not be armed already.
    pub fn park(&mut self, slot: u32) -> io::Result<()> {
        self.parked[slot as usize] = true;
        self.push_poll(slot)
    }

    /// The poll tells once. Armed while there is something to read, it tells at once, so that nothing is missed between the
    /// last receive and it.
    fn push_poll(&mut self, slot: u32) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fixed(slot), libc::POLLIN as u32).build();
        self.push(poll, user_data(POLL, slot))
    }

    fn push_take(&mut self, slot: u32) -> io::Result<()> {
        // Without waiting: a receive that waits takes the memory that parking saves.
        let receive = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), BUFFER_BYTES)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive, user_data(TAKE, slot))
    }

    fn cancel(&mut self, operation: u64, slot: u32) -> io::Result<()> {
        let target = CancelBuilder::user_data(user_data(operation, slot));
        self.push(opcode::AsyncCancel2::new(target).build(), user_data(OTHER, slot))
    }

    /// Sends `bytes`. The last send on `slot` must have completed.
    pub fn send(&mut self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let index = self.sends.insert(bytes.into());
        debug_assert!(index < 1 << INDEX_BITS);
        // WAITALL: it completes when all of it is sent, or never.
        let entry = opcode::Send::new(Fixed(slot), self.sends[index].as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL)
            .build();
        self.push(entry, user_data(SEND, slot) | (index as u64) << INDEX_SHIFT)
    }

    /// Ends both directions: what is armed on `slot` ends.
    pub fn shutdown(&mut self, slot: u32) -> io::Result<()> {
        let shutdown = opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR);
        self.push(shutdown.build(), user_data(OTHER, slot))
    }

    /// Frees `slot`'s socket. Nothing may be armed or in flight on it.
    pub fn close(&mut self, slot: u32) -> io::Result<()> {
        self.push(opcode::Close::new(Fixed(slot)).build(), user_data(OTHER, slot))
    }

    fn push(&mut self, entry: squeue::Entry, user_data: u64) -> io::Result<()> {
        let entry = entry.user_data(user_data);
        // SAFETY: what the entry points to is the target address (read while it is submitted), the bytes of a send (kept
        // until its completion) or the buffer ring; all live in `self` until `Drop` has seen the last completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submitter().submit()?;
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Submits what was pushed and waits for `want` completions, at most for `timeout`. Completions of the last wait must have
    /// been taken.
    pub fn wait(&mut self, want: usize, timeout: Duration) -> io::Result<()> {
        debug_assert_eq!(self.taken, self.batch.len(), "completions left behind");
        self.buffers.publish();
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        let entered = match self.more {
            true => self.ring.submitter().submit(),
            false => self.ring.submitter().submit_with_args(want, &arguments),
        };
        match entered {
            Ok(_) => {}
            // Time is up; a signal; the completion queue must be emptied first.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => {}
                _ => return Err(error),
            },
        }
        self.batch.clear();
        self.taken = 0;
        let mut queue = self.ring.completion();
        self.batch.extend(queue.by_ref().take(BATCH_MAX));
        self.more = !queue.is_empty();
        Ok(())
    }

    /// The next completion of the last `wait`.
    pub fn completion(&mut self) -> io::Result<Option<Completion>> {
        while let Some(entry) = self.batch.get(self.taken) {
            let (data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            self.taken += 1;
            let armed = cqueue::more(flags);
            self.outstanding -= usize::from(!armed);
            let slot = data as u32;
            let outcome = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) };
            let lent = cqueue::buffer_select(flags).map(|id| Lent::new(id, result.max(0).cast_unsigned()));
            let completion = match data >> OPERATION_SHIFT {
                CONNECT => Some(Completion::Connected(slot, outcome.map(drop))),
                RECEIVE => Some(received(slot, lent, outcome, armed)),
                SEND => {
                    self.sends.remove((data >> INDEX_SHIFT & INDEX_MASK) as usize);
                    Some(Completion::Sent(slot, outcome.map(drop)))
                }
                POLL => match outcome {
                    Ok(_) => self.push_take(slot).map(|()| None)?,
                    Err(error) => Some(Completion::ReceiveEnded(slot, ReceiveEnd::Failed(error))),
                },
                TAKE => self.handle_taken(slot, lent, outcome)?,
                _ => None,
            };
            if completion.is_some() {
                return Ok(completion);
            }
        }
        Ok(None)
    }

    fn handle_taken(
        &mut self,
        slot: u32,
        lent: Option<Lent>,
        outcome: io::Result<i32>,
    ) -> io::Result<Option<Completion>> {
        let completion = received(slot, lent, outcome, true);
        match completion {
            Completion::Received { lent, .. } if lent.is_empty() => {
                self.give_back(lent);
                Ok(Some(Completion::ReceiveEnded(slot, ReceiveEnd::Eof)))
            }
            Completion::Received { .. } => self.push_poll(slot).map(|()| Some(completion)),
            // Another poll tells at once, and buffers are back when its receive is submitted.
            Completion::ReceiveEnded(_, ReceiveEnd::NoBuffers) => self.push_poll(slot).map(|()| None),
            Completion::ReceiveEnded(_, ReceiveEnd::Failed(ref error))
                if error.kind() == io::ErrorKind::WouldBlock =>
            {
                self.push_poll(slot).map(|()| None)
            }
            Completion::ReceiveEnded(..) | Completion::Connected(..) | Completion::Sent(..) => {
                Ok(Some(completion))
            }
        }
    }

    pub fn bytes(&self, lent: &Lent) -> &[u8] {
        self.buffers.bytes(lent)
    }

    /// Lets the kernel fill the buffer again, from the next `wait` on.
    pub fn give_back(&mut self, lent: Lent) {
        self.buffers.give_back(lent);
    }
}

const CONNECT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
/// The poll of a parked connection, and one receive of it.
const POLL: u64 = 3;
const TAKE: u64 = 4;
/// Cancel, shutdown, close: nobody waits for their results.
const OTHER: u64 = 5;

// What a completion says it is of, from the lowest bit: slot, index of the send (24 bits), operation.
const INDEX_SHIFT: u32 = 32;
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const OPERATION_SHIFT: u32 = INDEX_SHIFT + INDEX_BITS;

fn user_data(operation: u64, slot: u32) -> u64 {
    operation << OPERATION_SHIFT | u64::from(slot)
}

fn received(slot: u32, lent: Option<Lent>, outcome: io::Result<i32>, armed: bool) -> Completion {
    if let Some(lent) = lent {
        return Completion::Received { slot, lent, armed };
    }
    let end = match outcome {
        Ok(_) => ReceiveEnd::Eof,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOBUFS) => ReceiveEnd::NoBuffers,
            Some(Errno::CANCELED) => ReceiveEnd::Stopped,
            _ => ReceiveEnd::Failed(error),
        },
    };
    Completion::ReceiveEnded(slot, end)
}

#[cfg(test)]
mod tests;
