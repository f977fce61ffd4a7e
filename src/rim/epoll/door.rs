//! How the drivers of other shards reach this one: they ring, and leave sockets at the door, if a place is free for them. A
//! descriptor belongs to the whole process, so its number is all that changes hands.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::budget::SocketBudget;
use super::poller::EpollError;
use crate::mailbox::Ticket;
use crate::surplus::Surplus;

/// A driver's door, which outlives the driver.
#[derive(Debug)]
pub struct Door {
    /// Never read: its edge-triggered registration tells of every write, and 2⁶⁴ of them fit.
    bell: OwnedFd,
    /// Places of the driver that are free. Whoever leaves a socket takes one for it.
    pub(super) places: SocketBudget,
    /// `None`: the driver has ended. Everybody holds the lock for as long as one is put in or taken out. Each has a place, so they
    /// are bounded.
    arrivals: Mutex<Option<Arrivals>>,
}

type Arrivals = VecDeque<(Ticket, OwnedFd)>;

impl Door {
    /// That of a driver with so many places.
    pub(super) fn new(places: u32) -> Result<Self, EpollError> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| EpollError::of_descriptor("an eventfd", errno))?;
        let places = SocketBudget::new(places.into());
        Ok(Self { bell, places, arrivals: Mutex::new(Some(VecDeque::new())) })
    }

    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    pub(super) fn ring(&self) {
        let rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        debug_assert!(rung.is_ok(), "{rung:?}");
    }

    /// Leaves a socket at the door. If the driver has ended, or has no place for it, it comes back.
    pub(super) fn leave(&self, ticket: Ticket, socket: OwnedFd) -> Result<(), (Errno, OwnedFd)> {
        let mut arrivals = self.lock();
        let Some(waiting) = &mut *arrivals else { return Err((Errno::PIPE, socket)) };
        if !self.places.take() {
            return Err((Errno::NFILE, socket));
        }
        waiting.push_back((ticket, socket));
        let is_first = waiting.len() == 1;
        drop(arrivals);
        if is_first {
            self.ring();
        }
        Ok(())
    }

    /// The first that others have left, and whether there are more.
    pub(super) fn take(&self) -> Option<((Ticket, OwnedFd), bool)> {
        let mut arrivals = self.lock();
        let waiting = arrivals.as_mut()?;
        let first = waiting.pop_front()?;
        Some((first, !waiting.is_empty()))
    }

    /// Frees the memory that a larger number of arrivals needed.
    pub(super) fn give_back(&self) {
        self.lock().iter_mut().for_each(|waiting| waiting.give_back(0));
    }

    /// Ends it: what is there is closed, and nothing more is taken.
    pub(super) fn shut(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arrivals>> {
        // Whoever panicked while holding it had either put one in or not.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
