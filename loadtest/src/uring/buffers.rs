//! The receive buffers that all connections of a ring share: a provided buffer ring.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

pub(super) const GROUP: u16 = 0;
/// A tick frame of 300 players fits; longer ones take several.
pub(super) const BUFFER_BYTES: u32 = 4096;
const PAGE_BYTES: usize = 4096;

/// A buffer that the kernel has filled and that is the caller's until `Ring::give_back`.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost"]
pub struct Lent {
    id: u16,
    length: u32,
}

impl Lent {
    pub(super) fn new(id: u16, length: u32) -> Self {
        Self { id, length }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// The ring of buffer descriptions and the buffers themselves, in one allocation each.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// How many; a power of two.
    count: u16,
    /// Where the next buffer is put. The kernel sees it after `publish`.
    tail: u16,
    leaked: bool,
}

impl BufferRing {
    /// Gives the kernel all of `count` buffers, a power of two.
    pub(super) fn register(ring: &IoUring, count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "indices are masked");
        let entries = allocate(entries_layout(count)).cast();
        let memory = allocate(memory_layout(count));
        let mut buffers = Self { entries, memory, count, tail: 0, leaked: false };
        // SAFETY: the address is page-aligned and holds `count` entries; it lives until `drop`, which comes after the
        // ring's (see the order of `Ring`'s fields), or is leaked.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give_back(Lent { id, length: 0 }));
        buffers.publish();
        Ok(buffers)
    }

    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        // SAFETY: `Lent` exists once per buffer the kernel has handed over, and the kernel does not touch the buffer before
        // it is given back, which consumes the `Lent`. Its length is the kernel's, at most BUFFER_BYTES.
        unsafe { std::slice::from_raw_parts(self.buffer(lent.id), lent.length as usize) }
    }

    #[allow(clippy::needless_pass_by_value, reason = "who gives a buffer back must not read it any more")]
    pub(super) fn give_back(&mut self, lent: Lent) {
        let Lent { id, .. } = lent;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is within the ring; the kernel reads entries only before the tail it has been told, and this one
        // is behind it. Writes go to the three fields of a buffer, not to the tail, which shares the first entry.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(BUFFER_BYTES);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel the buffers that were given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies within the entries' memory and is aligned; the kernel only reads it. Release: the entries'
        // fields are written before it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Keeps the memory for ever.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: the offset is within the allocation of `count` × BUFFER_BYTES.
        unsafe { self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES as usize) }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with these layouts; the ring, and with it the kernel's use of them, is gone.
            unsafe {
                dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
                dealloc(self.memory.as_ptr(), memory_layout(self.count));
            }
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    Layout::array::<BufRingEntry>(usize::from(count))
        .and_then(|layout| layout.align_to(PAGE_BYTES))
        .expect("a layout far below the limit")
}

fn memory_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * BUFFER_BYTES as usize, PAGE_BYTES)
        .expect("a layout far below the limit")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout has size zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
