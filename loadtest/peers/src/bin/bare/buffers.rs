//! The receive buffers of the bare loop.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use corelay::limits;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;

const BUFFERS: u16 = limits::RECEIVE_BUFFERS;
const BUFFER_BYTES: usize = limits::RECEIVE_BUFFER_BYTES as usize;

/// Receive buffers and the ring that lends them to the kernel.
pub struct Buffers {
    memory: Vec<u8>,
    ring: Box<PageAligned>,
    tail: u16,
}

#[repr(align(4096))]
struct PageAligned([u8; BUFFERS as usize * size_of::<BufRingEntry>()]);

impl Buffers {
    pub fn new(ring: &IoUring) -> io::Result<Self> {
        let zeroed = PageAligned([0; BUFFERS as usize * size_of::<BufRingEntry>()]);
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut buffers = Self { memory, ring: Box::new(zeroed), tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        let address = buffers.ring.0.as_ptr() as u64;
        // SAFETY: the memory is the server's, which lives as long as the process serves.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, BUFFERS, 0, 0)? };
        buffers.publish();
        Ok(buffers)
    }

    pub fn bytes(&self, buffer: u16, bytes: usize) -> &[u8] {
        &self.memory[usize::from(buffer) * BUFFER_BYTES..][..bytes]
    }

    pub fn give_back(&mut self, buffer: u16) {
        let address = self.memory[usize::from(buffer) * BUFFER_BYTES..].as_mut_ptr() as u64;
        // SAFETY: the index is within the ring.
        let entry = unsafe {
            let entries = self.ring.0.as_mut_ptr().cast::<BufRingEntry>();
            &mut *entries.add(usize::from(self.tail & (BUFFERS - 1)))
        };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    pub fn publish(&self) {
        // SAFETY: the ring's tail lies in its first entry and is shared with the kernel by atomic access only.
        let tail = unsafe {
            let first = self.ring.0.as_ptr().cast::<BufRingEntry>();
            AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }
}
