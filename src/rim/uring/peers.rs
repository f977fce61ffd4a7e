//! Where the kernel writes the addresses of clients that are accepted one by one.

use std::net::IpAddr;

use socket2::{SockAddr, SockAddrStorage};

use crate::limits::SINGLE_ACCEPTS_MAX;

/// A place for each accept, at an address that does not change.
pub(super) struct Peers(Box<[Peer]>);

struct Peer {
    storage: SockAddrStorage,
    bytes: libc::socklen_t,
    /// The kernel may write to it.
    in_flight: bool,
}

impl Peers {
    pub(super) fn new() -> Self {
        let peer = || Peer { storage: SockAddrStorage::zeroed(), bytes: 0, in_flight: false };
        Self((0..SINGLE_ACCEPTS_MAX).map(|_| peer()).collect())
    }

    /// Lends a place to the kernel, until `returned`.
    pub(super) fn lend(&mut self, number: u8) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let peer = &mut self.0[usize::from(number)];
        assert!(!peer.in_flight, "accept {number} is in flight already");
        peer.in_flight = true;
        peer.bytes = size_of::<SockAddrStorage>() as libc::socklen_t;
        ((&raw mut peer.storage).cast(), &raw mut peer.bytes)
    }

    /// The accept has completed.
    pub(super) fn returned(&mut self, number: u8) {
        self.0[usize::from(number)].in_flight = false;
    }

    /// The address that the kernel wrote last.
    pub(super) fn address(&self, number: u8) -> Option<IpAddr> {
        let peer = &self.0[usize::from(number)];
        if peer.in_flight {
            return None;
        }
        // SAFETY: the storage is plain bytes, of which the kernel has written `bytes` as an address; before that it is zero, an
        // unspecified family.
        let address = unsafe { SockAddr::new(std::ptr::read(&raw const peer.storage), peer.bytes) };
        address.as_socket().map(|address| address.ip())
    }

    /// Keeps the memory for ever: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.0));
    }
}
