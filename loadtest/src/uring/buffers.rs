//! The receive buffers that all connections of a ring share: a provided buffer ring.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

pub(super) const GROUP: u16 = 0;
/// A tick frame of 300 players fits; longer ones take several.
pub(super) const BUFFER_BYTES: u32 = 4096;

/// A buffer. The kernel wants the ring of descriptions to be aligned like this.
#[repr(C, align(4096))]
struct Page([u8; BUFFER_BYTES as usize]);

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

/// The ring of buffer descriptions and the buffers themselves. What the kernel may write is only touched by pointers.
pub(super) struct BufferRing {
    entries: Vec<MaybeUninit<Page>>,
    memory: Vec<MaybeUninit<Page>>,
    /// How many; a power of two.
    count: u16,
    /// Where the next buffer is put. The kernel sees it after `publish`.
    tail: u16,
}

impl BufferRing {
    /// Gives the kernel all of `count` buffers, a power of two.
    pub(super) fn register(ring: &IoUring, count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "indices are masked");
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        // Zeroed, and not touched before they are used.
        let entries = Box::new_zeroed_slice(entries_bytes.div_ceil(size_of::<Page>())).into_vec();
        let memory = Box::new_zeroed_slice(count.into()).into_vec();
        let mut buffers = Self { entries, memory, count, tail: 0 };
        // SAFETY: the address is page-aligned and holds `count` entries; it lives until the `BufferRing` is dropped, which comes
        // after the ring (see the order of `Ring`'s fields), or is leaked.
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.entries() as u64, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give_back(Lent { id, length: 0 }));
        buffers.publish();
        Ok(buffers)
    }

    fn entries(&mut self) -> *mut BufRingEntry {
        self.entries.as_mut_ptr().cast()
    }

    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        // SAFETY: `Lent` exists once per buffer the kernel has handed over, and the kernel does not touch the buffer before
        // it is given back, which consumes the `Lent`. Its length is the kernel's, at most BUFFER_BYTES.
        unsafe {
            std::slice::from_raw_parts(
                self.memory[usize::from(lent.id)].as_ptr().cast(),
                lent.length as usize,
            )
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "who gives a buffer back must not read it any more")]
    pub(super) fn give_back(&mut self, lent: Lent) {
        let Lent { id, .. } = lent;
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.memory[usize::from(id)..].as_mut_ptr() as u64;
        // SAFETY: the index is within the ring; the kernel reads entries only before the tail it has been told, and this one
        // is behind it. Writes go to the three fields of a buffer, not to the tail, which shares the first entry.
        unsafe {
            let entry = &mut *self.entries().add(index);
            entry.set_addr(address);
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
            let tail = BufRingEntry::tail(self.entries()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Keeps the memory for ever.
    pub(super) fn leak(&mut self) {
        std::mem::forget((std::mem::take(&mut self.entries), std::mem::take(&mut self.memory)));
    }
}
