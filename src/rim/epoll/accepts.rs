//! The accepts in flight on one listener, and the listener that they take clients from.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};

use crate::limits::SINGLE_ACCEPTS_MAX;
use crate::rim::driver::Accept;
use crate::rim::listener::Listener;

const _: () = assert!(SINGLE_ACCEPTS_MAX < u64::BITS as usize);
/// `Accept::Many` as a number; single accepts have the numbers below it.
const MANY: u8 = SINGLE_ACCEPTS_MAX as u8;

#[derive(Default)]
pub(super) struct Accepts {
    /// A bit for each accept in flight.
    in_flight: u64,
    /// Kept while an accept is in flight.
    listener: Option<Arc<Listener>>,
    /// Clients may be waiting.
    pub(super) is_ready: bool,
    /// The listener is in the list of what is ready.
    pub(super) is_queued: bool,
    addresses: [Option<IpAddr>; SINGLE_ACCEPTS_MAX],
}

impl Accepts {
    /// Returns whether the listener has not been used just before: it may have to be registered.
    pub(super) fn begin(&mut self, listener: &Arc<Listener>, accept: Accept) -> bool {
        if let Accept::One(number) = accept {
            self.addresses[usize::from(number)] = None;
        }
        self.in_flight |= bit(accept);
        let is_new = self.listener.is_none();
        self.listener = Some(listener.clone());
        is_new
    }

    /// Returns whether it was in flight.
    pub(super) fn end(&mut self, accept: Accept) -> bool {
        let was_in_flight = self.in_flight & bit(accept) != 0;
        self.in_flight &= !bit(accept);
        if self.in_flight == 0 {
            self.listener = None;
        }
        was_in_flight
    }

    /// The accept that gets the next client.
    pub(super) fn next(&self) -> Option<Accept> {
        let lowest = self.in_flight.trailing_zeros() as u8;
        match lowest {
            MANY => Some(Accept::Many),
            number => (number < MANY).then_some(Accept::One(number)),
        }
    }

    /// Takes a client from the listener.
    pub(super) fn take(&mut self, accept: Accept) -> Result<OwnedFd, Errno> {
        let Some(listener) = &self.listener else { return Err(Errno::CANCELED) };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept {
            Accept::Many => accept_with(listener.fd(), flags),
            Accept::One(number) => {
                let (socket, address) = acceptfrom_with(listener.fd(), flags)?;
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                self.addresses[usize::from(number)] = address.map(|address| address.ip());
                Ok(socket)
            }
        }
    }

    /// Whether a client waits, as far as the kernel tells: `accept` fails for want of a descriptor even if none does.
    pub(super) fn has_waiting(&self) -> bool {
        let Some(listener) = &self.listener else { return false };
        let found = poll(&mut [PollFd::new(&listener.fd(), PollFlags::IN)], Some(&Timespec::default()));
        found != Ok(0)
    }

    pub(super) fn address(&self, number: u8) -> Option<IpAddr> {
        self.addresses[usize::from(number)]
    }
}

fn bit(accept: Accept) -> u64 {
    match accept {
        Accept::Many => 1 << MANY,
        Accept::One(number) => 1 << number,
    }
}
