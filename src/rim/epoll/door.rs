//! How the drivers of other shards reach this one: they ring, and leave sockets at the door. A descriptor belongs to the whole
//! process, so its number is all that changes hands.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::poller::EpollError;
use crate::mailbox::Ticket;

/// A driver's door, which outlives the driver.
#[derive(Debug)]
pub struct Door {
    /// Never read: its edge-triggered registration tells of every write, and 2⁶⁴ of them fit.
    bell: OwnedFd,
    /// `None`: the driver has ended. Others hold the lock for as long as they put one in, and the driver for as long as it takes
    /// them all out. Descriptors are bounded, and so are these.
    arrivals: Mutex<Option<Vec<(Ticket, OwnedFd)>>>,
}

impl Door {
    pub(super) fn new() -> Result<Self, EpollError> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| EpollError::of_descriptor("an eventfd", errno))?;
        Ok(Self { bell, arrivals: Mutex::new(Some(Vec::new())) })
    }

    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    pub(super) fn ring(&self) {
        let rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        debug_assert!(rung.is_ok(), "{rung:?}");
    }

    /// Leaves a socket at the door. If the driver has ended, it comes back.
    pub(super) fn leave(&self, ticket: Ticket, socket: OwnedFd) -> Result<(), (Errno, OwnedFd)> {
        let mut arrivals = self.lock();
        let Some(waiting) = &mut *arrivals else { return Err((Errno::PIPE, socket)) };
        waiting.push((ticket, socket));
        let is_first = waiting.len() == 1;
        drop(arrivals);
        if is_first {
            self.ring();
        }
        Ok(())
    }

    /// What others have left.
    pub(super) fn take(&self) -> Vec<(Ticket, OwnedFd)> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Ends it: what is there is closed, and nothing more is taken.
    pub(super) fn shut(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<(Ticket, OwnedFd)>>> {
        // Whoever panicked while holding it had either put one in or not.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
