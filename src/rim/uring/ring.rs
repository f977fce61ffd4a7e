//! One io_uring instance: set up, fed through an ordered backlog, waited for, and reaped.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;

use super::buffers::GROUP;
use super::op::{Operation, Token};
use super::probe::RingError;
use crate::limits::{COMPLETIONS_PER_TURN, TURN_GATHER_TIME};
use crate::rim::driver::{Counts, Descriptor, Receive, ShutdownSides};
use crate::surplus::Surplus;

/// Up to so many submissions cost less than the enter that would submit them early.
const SUBMITTED_AT_ONCE: usize = 8;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSizes {
    pub(super) submissions: u32,
    pub(super) completions: u32,
    /// Entries of the descriptor table.
    pub(super) descriptors: u32,
}

impl From<Descriptor> for types::Fixed {
    fn from(descriptor: Descriptor) -> Self {
        Self(descriptor.0)
    }
}

/// An entry of the completion queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) token: Token,
    /// What the system call would return; below zero: an errno.
    pub(super) result: i32,
    flags: u32,
}

impl Reaped {
    /// Further completions of the same submission follow.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// More was there than this receive took.
    pub(super) fn left_some(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }

    /// The receive buffer that the completion returns.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The error, if the operation failed.
    pub(super) fn error(&self) -> Option<Errno> {
        (self.result < 0).then(|| Errno::from_raw_os_error(-self.result))
    }

    /// What the system call would return.
    pub(super) fn outcome(&self) -> Result<u32, Errno> {
        self.error().map_or(Ok(self.result as u32), Err)
    }
}

/// One io_uring instance. It belongs to the thread that enables it (`SINGLE_ISSUER`).
pub(super) struct Ring {
    ring: IoUring,
    /// Submissions that found the queue full, in order. They go before any newer one.
    backlog: VecDeque<squeue::Entry>,
    /// Submissions whose last completion has not been reaped.
    in_flight: usize,
    /// A wait ends when so many completions are there, or `gather_time` is over.
    completions_per_turn: usize,
    /// How long a wait gathers completions at most.
    gather_time: Duration,
    /// The kernel can gather completions for a while (Linux 6.12).
    gathers: bool,
    /// Something was reaped since the last wait.
    busy: bool,
    overflowing: bool,
    counts: Counts,
}

impl Ring {
    /// A ring that does nothing before `enable`.
    pub(super) fn new(sizes: RingSizes) -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_r_disabled()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(sizes.completions)
            .build(sizes.submissions)
            .map_err(RingError::of_setup)?;
        ring.submitter()
            .register_files_sparse(sizes.descriptors)
            .map_err(|source| RingError::of_table(sizes.descriptors, source))?;
        let gathers = ring.params().is_feature_min_timeout();
        Ok(Self {
            ring,
            backlog: VecDeque::new(),
            in_flight: 0,
            completions_per_turn: COMPLETIONS_PER_TURN,
            gather_time: TURN_GATHER_TIME,
            gathers,
            busy: false,
            overflowing: false,
            counts: Counts::default(),
        })
    }

    /// Gives the ring to the calling thread, which alone may submit and wait from now on. Until then, messages from other rings
    /// fail.
    pub(super) fn enable(&self) -> Result<(), RingError> {
        let failed = |step| move |source| RingError::Setup { step, source };
        let submitter = self.ring.submitter();
        submitter.register_enable_rings().map_err(failed("enabling it"))?;
        // Only `shutdown` runs on kernel worker threads, and it never waits: one thread is enough.
        submitter.register_iowq_max_workers(&mut [1, 1]).map_err(failed("limiting its worker threads"))
    }

    /// Sets how long completions are gathered, and how many: at most half as many as there are receive buffers, because one enter
    /// may run twice as many receives as are waited for.
    pub(super) fn gather(&mut self, time: Duration, receive_buffers: u16) {
        self.gather_time = time;
        self.completions_per_turn = COMPLETIONS_PER_TURN.min(usize::from(receive_buffers) / 2);
    }

    pub(super) fn io_uring(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Submissions whose memory the kernel may still use.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Queues a submission, behind those that did not fit earlier.
    ///
    /// # Safety
    /// Memory that `entry` points to must stay valid, and unmoved, until the last completion of this submission is reaped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        let entry = entry.user_data(token.encode());
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: as the caller promises.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        // The queue is full. Completions are not reaped here (the caller may be in the middle of one); if the kernel
        // refuses too, the turn ends, reaps, and comes back to the backlog.
        self.counts.enters += 1;
        let submitted = self.ring.submit();
        // SAFETY: as the caller promises.
        if submitted.is_err() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Receives into a provided buffer, or buffers.
    pub(super) fn receive(&mut self, descriptor: Descriptor, receive: Receive, token: Token) {
        let descriptor = types::Fixed::from(descriptor);
        let one = |flags| {
            let receive = opcode::Recv::new(descriptor, std::ptr::null_mut(), 0).buf_group(GROUP);
            receive.flags(flags).build().flags(squeue::Flags::BUFFER_SELECT)
        };
        let entry = match receive {
            Receive::One => one(0),
            Receive::Now => one(libc::MSG_DONTWAIT),
            Receive::Many => opcode::RecvMulti::new(descriptor, GROUP).build(),
        };
        // SAFETY: the entry points at no memory; the buffers of the group outlive the ring's operations (see `RingDriver`).
        unsafe { self.push(entry, token) }
    }

    /// Tells once that something is there, or has come: bytes, the end of the stream, an error.
    pub(super) fn poll(&mut self, descriptor: Descriptor, token: Token) {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let poll = opcode::PollAdd::new(types::Fixed::from(descriptor), events);
        // SAFETY: the entry points at no memory.
        unsafe { self.push(poll.build(), token) }
    }

    pub(super) fn shutdown(&mut self, descriptor: Descriptor, sides: ShutdownSides, token: Token) {
        let how = match sides {
            ShutdownSides::Write => libc::SHUT_WR,
            ShutdownSides::Both => libc::SHUT_RDWR,
        };
        // SAFETY: the entry points at no memory.
        unsafe { self.push(opcode::Shutdown::new(types::Fixed::from(descriptor), how).build(), token) }
    }

    /// Closes a descriptor. Nothing may be in flight on it.
    pub(super) fn close(&mut self, descriptor: Descriptor, token: Token) {
        // SAFETY: the entry points at no memory.
        unsafe { self.push(opcode::Close::new(types::Fixed::from(descriptor)).build(), token) }
    }

    /// Asks for the end of the submission with token `target`, which answers for itself.
    pub(super) fn cancel(&mut self, target: Token) {
        let token = Token { operation: Operation::Cancel, ..target };
        // SAFETY: the entry points at no memory.
        unsafe { self.push(opcode::AsyncCancel::new(target.encode()).build(), token) }
    }

    /// Puts a copy of the descriptor into a free place of another ring's table and tells that ring by `notice`, whose result
    /// is the place.
    pub(super) fn send_descriptor(
        &mut self,
        descriptor: Descriptor,
        target_ring: RawFd,
        notice: Token,
        token: Token,
    ) {
        let entry = opcode::MsgRingSendFd::new(
            types::Fd(target_ring),
            types::Fixed::from(descriptor),
            types::DestinationSlot::auto_target(),
            notice.encode(),
        );
        // SAFETY: the entry points at no memory.
        unsafe { self.push(entry.build(), token) }
    }

    /// Rings another ring's doorbell.
    pub(super) fn ring_doorbell(&mut self, target_ring: RawFd, token: Token) {
        let bell = Token::numbered(Operation::Doorbell, 0).encode();
        // SAFETY: the entry points at no memory.
        unsafe {
            self.push(opcode::MsgRingData::new(types::Fd(target_ring), 0, bell, None).build(), token);
        }
    }

    /// Submits what is queued, if it is so much that submitting it takes time.
    pub(super) fn submit(&mut self) -> Result<(), RingError> {
        self.flush_backlog();
        if self.ring.submission().len() < SUBMITTED_AT_ONCE {
            return Ok(());
        }
        self.counts.enters += 1;
        ignore_temporary(self.ring.submit())
    }

    /// Submits what is queued and sleeps until something completes, at most for `timeout`. Completions that come close
    /// together are waited for together.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.flush_backlog();
        let gather_time = timeout.min(self.gather_time);
        let busy = std::mem::take(&mut self.busy);
        let (want, timeout) = match (self.backlog.is_empty(), self.gathers, busy) {
            (false, _, _) => (0, timeout),
            (true, true, _) => (self.completions_per_turn, timeout),
            (true, false, true) => (self.completions_per_turn, gather_time),
            (true, false, false) => (1, timeout),
        };
        let timespec = Timespec::from(timeout);
        let mut arguments = SubmitArgs::new().timespec(&timespec);
        if self.gathers {
            arguments = arguments.min_wait_usec(gather_time.as_micros() as u32);
        }
        self.counts.enters += 1;
        let waited = self.ring.submitter().submit_with_args(want, &arguments);
        self.count_overflow();
        ignore_temporary(waited)
    }

    /// The next completion.
    pub(super) fn reap(&mut self) -> Option<Reaped> {
        loop {
            let entry = self.ring.completion().next()?;
            self.busy = true;
            self.counts.completions += 1;
            let token = Token::decode(entry.user_data());
            debug_assert!(token.is_some(), "every user_data is a Token");
            let Some(token) = token else { continue };
            let reaped = Reaped { token, result: entry.result(), flags: entry.flags() };
            if !reaped.more() && !token.operation.is_posted() {
                self.in_flight -= 1;
            }
            return Some(reaped);
        }
    }

    /// Frees what the submissions of more than `connections` connections needed.
    pub(super) fn give_back(&mut self, connections: usize) {
        self.backlog.give_back(connections);
    }

    /// Ends everything in flight and waits until it has ended, but no longer than `patience`; throws completions away. True:
    /// the kernel uses no memory of ours any more.
    pub(super) fn drain(&mut self, patience: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(10);
        self.in_flight -= std::mem::take(&mut self.backlog).len();
        // What is still in the queue must be submitted to be cancelled.
        self.counts.enters += 1;
        let submitted = ignore_temporary(self.ring.submit());
        let mut patience_left = patience;
        while submitted.is_ok() && self.in_flight > 0 && !patience_left.is_zero() {
            let in_flight_before = self.in_flight;
            // Not found, or not done within the step: the next round looks again.
            let _unfinished =
                self.ring.submitter().register_sync_cancel(Some(STEP.into()), CancelBuilder::any().all());
            if self.wait(STEP).is_err() {
                break;
            }
            while self.reap().is_some() {}
            if self.in_flight >= in_flight_before {
                // Only steps without progress are counted: a large table takes as long as it takes.
                patience_left = patience_left.saturating_sub(STEP);
            }
        }
        self.in_flight == 0
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: whoever pushed it promised that its memory lives until its completion.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn count_overflow(&mut self) {
        let overflowing = self.ring.submission().cq_overflow();
        if overflowing && !self.overflowing {
            self.counts.overflows += 1;
        }
        self.overflowing = overflowing;
    }
}

/// A timeout, a signal, and a completion queue that must be reaped first are no errors of the ring.
fn ignore_temporary(entered: io::Result<usize>) -> Result<(), RingError> {
    let Err(source) = entered else { return Ok(()) };
    match Errno::from_io_error(&source) {
        Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => Ok(()),
        _ => Err(RingError::Enter(source)),
    }
}
