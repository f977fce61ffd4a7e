//! A ring together with all memory that its operations use, so that neither can outlive the other in the wrong order.

use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{opcode, types};

use super::accepting::Acceptor;
use super::buffers::{Buffers, Protection};
use super::listener::Listener;
use super::op::{Operation, Token};
use super::ring::{Descriptor, Ring, RingSizes};
use super::sends::{SendId, Sends};
use super::{LoopSettings, RingError};
use crate::limits;
use crate::mailbox::Endpoint;

/// How long the end of the loop waits for the last completions.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The fields drop in order: the ring first, and only after `drop` has drained it.
pub(super) struct Driver {
    pub(super) ring: Ring,
    pub(super) buffers: Buffers,
    pub(super) sends: Sends,
    pub(super) acceptor: Acceptor,
    /// Where the eventfd of the service thread is read to.
    wake_count: Box<[u8; 8]>,
}

impl Driver {
    pub(super) fn new(settings: LoopSettings, listener: Listener) -> Result<Self, RingError> {
        let mut ring = Ring::new(RingSizes {
            submissions: settings.submissions,
            completions: settings.completions,
            descriptors: settings.connections,
        })?;
        ring.gather(settings.gather_time, settings.receive_buffers);
        let failed = |step| move |source| RingError::Setup { step, source };
        let bytes = limits::RECEIVE_BUFFER_BYTES;
        let mut buffers = Buffers::new(settings.receive_buffers, bytes, Protection::of_this_build())
            .map_err(RingError::NoMemory)?;
        buffers.register(ring.io_uring()).map_err(failed("registering the receive buffers"))?;
        let wants_addresses = settings.connections_per_address.is_some();
        let acceptor = Acceptor::new(listener, settings.connections, wants_addresses);
        Ok(Self { ring, buffers, sends: Sends::default(), acceptor, wake_count: Box::new([0; 8]) })
    }

    /// Submits what is unsent of a send.
    pub(super) fn send(&mut self, id: SendId, descriptor: Descriptor, token: Token) {
        let entry = self.sends.entry(id, descriptor);
        // SAFETY: the frames' bytes and the gather are on the heap: they do not move with `sends`, and stay until `finish`,
        // which follows the completion.
        unsafe { self.ring.push(entry, token) }
    }

    /// Waits for the service thread to ring. `mailbox` lives as long as the loop, and the kernel holds its eventfd.
    pub(super) fn await_wake(&mut self, mailbox: &Endpoint) {
        let fd = types::Fd(mailbox.wake().as_raw_fd());
        let entry = opcode::Read::new(fd, self.wake_count.as_mut_ptr(), 8).build();
        // SAFETY: the boxed count outlives the ring's operations, and only one read of it is in flight.
        unsafe { self.ring.push(entry, Token::numbered(Operation::Wake, 0)) }
    }
}

impl Drop for Driver {
    /// Cancels everything and waits, also when the thread panics: the kernel must not write into freed memory.
    fn drop(&mut self) {
        if self.ring.drain(DRAIN_PATIENCE) {
            return;
        }
        let in_flight = self.ring.in_flight();
        tracing::error!(in_flight, "the kernel does not end all operations; their memory is kept (a bug)");
        self.buffers.leak();
        self.sends.leak();
        self.acceptor.leak();
        std::mem::forget(std::mem::take(&mut self.wake_count));
    }
}
