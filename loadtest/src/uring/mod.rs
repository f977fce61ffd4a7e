//! The clients' sockets on one io_uring: connect, multishot receive, one send at a time. The only unsafe code.
//!
//! A connection is a slot of the ring's table of direct descriptors; a slot is used once, so a completion can only be its
//! own. Buffers that the kernel reads or writes belong to the ring: `Drop` waits until it has let go of them.
#![allow(unsafe_code, reason = "memory is shared with the kernel here")]

mod buffers;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub use buffers::Lent;
use buffers::{BufferRing, GROUP};

/// Bytes that can be sent at once on one connection: a request with a token, a few moves.
pub const SEND_BYTES_MAX: usize = 1084;
const SUBMISSION_ENTRIES: u32 = 4096;
const COMPLETION_ENTRIES: u32 = 64 * 1024;
/// How long `Drop` waits for the kernel before it gives the memory up.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module documentation. Push operations, `wait`, then take completions until there are none.
pub struct Ring {
    // Dropped in this order: the kernel must be done with the ring before its memory goes.
    ring: IoUring,
    buffers: BufferRing,
    sends: Box<[Send]>,
    target: Box<SockAddr>,
    batch: Vec<cqueue::Entry>,
    /// Invariant: batch entries before `taken` have been handed out.
    taken: usize,
    /// Operations whose last completion has not come.
    outstanding: usize,
}

/// What is being sent on one connection. Invariant: `sent <= length <= SEND_BYTES_MAX`; the kernel may read
/// `bytes[sent..length]` until the completion of its send.
#[derive(Clone)]
struct Send {
    bytes: [u8; SEND_BYTES_MAX],
    sent: u16,
    length: u16,
}

/// Something has happened on a connection.
#[derive(Debug)]
pub enum Completion {
    /// `connect` has ended.
    Connected(u32, io::Result<()>),
    /// Bytes came in. Give the buffer back. `armed`: more will come by itself.
    Received {
        /// The connection.
        slot: u32,
        /// The bytes; see `Ring::bytes`.
        lent: Lent,
        /// Whether the receive goes on.
        armed: bool,
    },
    /// The receive has ended.
    ReceiveEnded(u32, ReceiveEnd),
    /// All of the last `send` has been taken by the kernel, or it failed.
    Sent(u32, io::Result<()>),
}

/// Why a receive ended without bytes.
#[derive(Debug)]
pub enum ReceiveEnd {
    /// All buffers are in use: arm it again when they are back.
    NoBuffers,
    /// `stop_receive` ended it.
    Stopped,
    /// The server will send nothing more.
    Eof,
    /// The connection is broken.
    Failed(io::Error),
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Operation {
    Connect,
    Receive,
    Send,
    /// Cancel, shutdown, close: nobody waits for their results.
    Other,
}

impl Ring {
    /// A ring for `connections` connections to `target`. All calls must come from the thread that made it.
    pub fn new(connections: u32, target: SocketAddr) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        ring.submitter().register_files_sparse(connections.max(1))?;
        let buffers = BufferRing::register(&ring)?;
        let unsent = Send { bytes: [0; SEND_BYTES_MAX], sent: 0, length: 0 };
        Ok(Self {
            ring,
            buffers,
            sends: vec![unsent; connections as usize].into_boxed_slice(),
            target: Box::new(target.into()),
            batch: Vec::with_capacity(COMPLETION_ENTRIES as usize),
            taken: 0,
            outstanding: 0,
        })
    }

    /// Starts to connect `slot`. `receive_buffer_bytes`: a socket buffer of about this size instead of the default.
    pub fn connect(&mut self, slot: u32, receive_buffer_bytes: Option<usize>) -> io::Result<()> {
        let domain = if self.target.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        // A move must leave when it is sent, not when the last one has been acknowledged.
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        // The table holds the socket from here on; the process's own descriptor is closed at the end of this function.
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        let connect = opcode::Connect::new(Fixed(slot), self.target.as_ptr().cast(), self.target.len());
        self.push(connect.build(), Operation::Connect, slot)
    }

    /// Receives on `slot` until told otherwise. It must not be armed already.
    pub fn arm_receive(&mut self, slot: u32) -> io::Result<()> {
        self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), Operation::Receive, slot)
    }

    /// Ends the receive of `slot`; bytes that came before are still delivered.
    pub fn stop_receive(&mut self, slot: u32) -> io::Result<()> {
        let receive = CancelBuilder::user_data(user_data(Operation::Receive, slot));
        self.push(opcode::AsyncCancel2::new(receive).build(), Operation::Other, slot)
    }

    /// Sends `bytes`, at most `SEND_BYTES_MAX`. The last send on `slot` must have completed.
    pub fn send(&mut self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let send = &mut self.sends[slot as usize];
        debug_assert!(send.sent == send.length, "one send at a time");
        send.bytes[..bytes.len()].copy_from_slice(bytes);
        (send.sent, send.length) = (0, bytes.len() as u16);
        self.push_send(slot)
    }

    fn push_send(&mut self, slot: u32) -> io::Result<()> {
        let send = &self.sends[slot as usize];
        let unsent = &send.bytes[send.sent as usize..send.length as usize];
        let entry = opcode::Send::new(Fixed(slot), unsent.as_ptr(), unsent.len() as u32).build();
        self.push(entry, Operation::Send, slot)
    }

    /// Ends both directions: what is armed on `slot` ends.
    pub fn shutdown(&mut self, slot: u32) -> io::Result<()> {
        const BOTH_DIRECTIONS: i32 = 2;
        let shutdown = opcode::Shutdown::new(Fixed(slot), BOTH_DIRECTIONS);
        self.push(shutdown.build(), Operation::Other, slot)
    }

    /// Frees `slot`'s socket. Nothing may be armed or in flight on it.
    pub fn close(&mut self, slot: u32) -> io::Result<()> {
        self.push(opcode::Close::new(Fixed(slot)).build(), Operation::Other, slot)
    }

    fn push(&mut self, entry: squeue::Entry, operation: Operation, slot: u32) -> io::Result<()> {
        let entry = entry.user_data(user_data(operation, slot));
        // SAFETY: what the entry points to is the target address (read while it is submitted), the slot's `Send` (kept
        // until the send completes) or the buffer ring; all live in `self` until `Drop` has seen the last completion.
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
        match self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&timeout)) {
            Ok(_) => {}
            // Time is up; a signal; the completion queue must be emptied first.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => {}
                _ => return Err(error),
            },
        }
        self.batch.clear();
        self.taken = 0;
        let Self { ring, batch, .. } = self;
        batch.extend(ring.completion());
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
            match data >> 32 {
                CONNECT => return Ok(Some(Completion::Connected(slot, outcome.map(drop)))),
                RECEIVE => {
                    let lent =
                        cqueue::buffer_select(flags).map(|id| Lent::new(id, result.max(0).cast_unsigned()));
                    return Ok(Some(received(slot, lent, outcome, armed)));
                }
                SEND => {
                    let send = &mut self.sends[slot as usize];
                    let outcome = match outcome {
                        Ok(sent) => {
                            send.sent += sent as u16;
                            if send.sent < send.length {
                                self.push_send(slot)?;
                                continue;
                            }
                            Ok(())
                        }
                        Err(error) => {
                            send.sent = send.length;
                            Err(error)
                        }
                    };
                    return Ok(Some(Completion::Sent(slot, outcome)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The received bytes.
    pub fn bytes(&self, lent: &Lent) -> &[u8] {
        self.buffers.bytes(lent)
    }

    /// Lets the kernel fill the buffer again, from the next `wait` on.
    pub fn give_back(&mut self, lent: Lent) {
        self.buffers.give_back(lent);
    }
}

const CONNECT: u64 = Operation::Connect as u64;
const RECEIVE: u64 = Operation::Receive as u64;
const SEND: u64 = Operation::Send as u64;

fn user_data(operation: Operation, slot: u32) -> u64 {
    (operation as u64) << 32 | u64::from(slot)
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

impl Drop for Ring {
    fn drop(&mut self) {
        self.taken = self.batch.len();
        let cancel_all = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        let mut failed = self.push(cancel_all, Operation::Other, 0).is_err();
        let mut turns = TEARDOWN_TIMEOUT.as_millis() / 10;
        while self.outstanding > 0 && turns > 0 && !failed {
            failed = self.wait(self.outstanding, Duration::from_millis(10)).is_err();
            self.outstanding -= self.batch.iter().filter(|entry| !cqueue::more(entry.flags())).count();
            self.taken = self.batch.len();
            turns -= 1;
        }
        if self.outstanding > 0 {
            // The kernel may still use it: better lost than written to after it was freed.
            self.buffers.leak();
            std::mem::forget(std::mem::take(&mut self.sends));
        }
    }
}

#[cfg(test)]
mod tests;
