//! The receive buffers of a ring: lent to the kernel through a provided-buffer ring, known by index, each with an owner.
//!
//! A buffer is with the kernel until a completion names it, then with the core for one call, then released. Only the code that
//! handles completions moves it. With `Protection::Quarantine` a released buffer is unmapped for a while before the kernel
//! gets it again, so that a write by anybody who no longer owns it fails (`EFAULT`) instead of corrupting a later message.

use std::collections::VecDeque;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use crate::rim::driver::Lent;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Distance of two buffers in quarantine mode: a multiple of every page size, since protection goes by page.
const GUARDED_STRIDE: usize = 64 * 1024;

/// What happens to a released buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// The kernel gets it back at once.
    Unguarded,
    /// A quarter of the buffers is kept back, out of reach for kernel and core.
    Quarantine,
}

impl Protection {
    /// Two system calls a message are for debug builds only.
    pub(super) fn of_this_build() -> Self {
        if cfg!(debug_assertions) { Self::Quarantine } else { Self::Unguarded }
    }
}

/// Who may touch a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody: it is in quarantine.
    Free,
    /// The kernel may write to it at any time.
    Kernel,
    /// A completion has named it, and it is not released yet.
    Core,
}

/// The receive buffers of one ring.
///
/// Invariant: every buffer between the kernel's head and the tail is the kernel's.
pub(super) struct Buffers {
    memory: Mapping,
    ring: Mapping,
    stride: usize,
    bytes: u32,
    owners: Box<[Owner]>,
    /// Entries ever written to the ring.
    tail: u16,
    with_kernel: u16,
    /// A buffer has been written to since the last `give_back`.
    written: bool,
    quarantine: Option<VecDeque<u16>>,
}

impl Buffers {
    /// `count` buffers (a power of two) of `bytes` bytes, all of them the kernel's once `register` is called.
    pub(super) fn new(count: u16, bytes: u32, protection: Protection) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "{count} receive buffers: the ring needs a power of two");
        let stride = match protection {
            Protection::Unguarded => bytes as usize,
            Protection::Quarantine => (bytes as usize).next_multiple_of(GUARDED_STRIDE),
        };
        let mut buffers = Self {
            memory: Mapping::new(stride * usize::from(count))?,
            ring: Mapping::new(size_of::<BufRingEntry>() * usize::from(count))?,
            stride,
            bytes,
            owners: vec![Owner::Free; usize::from(count)].into(),
            tail: 0,
            with_kernel: 0,
            written: false,
            quarantine: (protection == Protection::Quarantine).then(VecDeque::new),
        };
        (0..count).for_each(|id| buffers.provide(id));
        Ok(buffers)
    }

    /// Makes the buffers group `GROUP` of `ring`, which must be dropped, or at least drained, before them.
    pub(super) fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        let address = self.ring.start.as_ptr() as u64;
        // SAFETY: the mapping holds one entry per owner and lives until the ring has no operation left (see `RingDriver`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, self.owners.len() as u16, GROUP, 0)?;
        }
        self.publish();
        Ok(())
    }

    /// Takes in a buffer that a completion has named, with so many bytes in it.
    pub(super) fn take(&mut self, id: u16, bytes: usize) -> Lent {
        let owner = &mut self.owners[usize::from(id)];
        assert_eq!(*owner, Owner::Kernel, "the kernel returned receive buffer {id}, which it does not have");
        assert!(bytes <= self.bytes as usize, "the kernel wrote {bytes} bytes to a buffer of {}", self.bytes);
        *owner = Owner::Core;
        self.with_kernel -= 1;
        self.written = true;
        Lent { buffer: id, bytes: bytes as u16 }
    }

    pub(super) fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        let owner = self.owners[usize::from(lent.buffer)];
        assert_eq!(
            owner,
            Owner::Core,
            "receive buffer {} is read by somebody who does not have it",
            lent.buffer
        );
        assert!(u32::from(lent.bytes) <= self.bytes, "more bytes than a buffer has");
        // SAFETY: the kernel is done with a buffer once it has named it; `&mut self` keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.address(lent.buffer), usize::from(lent.bytes)) }
    }

    #[allow(clippy::needless_pass_by_value, reason = "whoever gives a buffer back has it no more")]
    pub(super) fn release(&mut self, lent: Lent) {
        let id = lent.buffer;
        let owner = self.owners[usize::from(id)];
        assert_eq!(owner, Owner::Core, "receive buffer {id} is released by somebody who does not have it");
        let Some(mut quarantine) = self.quarantine.take() else {
            self.provide(id);
            self.publish();
            return;
        };
        self.owners[usize::from(id)] = Owner::Free;
        self.protect(id, MprotectFlags::empty());
        quarantine.push_back(id);
        if quarantine.len() > self.owners.len() / 4
            && let Some(oldest) = quarantine.pop_front()
        {
            self.protect(oldest, MprotectFlags::READ | MprotectFlags::WRITE);
            self.provide(oldest);
            self.publish();
        }
        self.quarantine = Some(quarantine);
    }

    /// Publishes the tail, by which the kernel sees the buffers that were provided.
    fn publish(&self) {
        // SAFETY: the first entry was written by `new`; its last two bytes are the ring's tail, aligned, and shared with
        // the kernel by atomic access only.
        let tail = unsafe {
            let first = self.ring.start.as_ptr().cast::<BufRingEntry>();
            AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives the memory of the buffers back, and loses what is in them; it comes again as the kernel writes to them. Call it only
    /// when no receive is in flight and no completion that names a buffer is to come.
    pub(super) fn give_back(&mut self) {
        if !std::mem::take(&mut self.written) {
            return;
        }
        assert!(self.owners.iter().all(|owner| *owner != Owner::Core), "a buffer is being read");
        // SAFETY: the whole mapping is this value's own, nobody holds a reference to a buffer, and the kernel, which knows them
        // by address, finds zeroed pages there.
        let done =
            unsafe { madvise(self.memory.start.as_ptr().cast(), self.memory.bytes, Advice::LinuxDontNeed) };
        debug_assert!(done.is_ok(), "{done:?}");
    }

    /// Number of buffers that the kernel has, including those that a completion on its way will name.
    pub(super) fn with_kernel(&self) -> u16 {
        self.with_kernel
    }

    /// User memory, in bytes; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        // Without the space between two buffers in quarantine mode, which is never touched.
        self.owners.len() * (self.bytes as usize + size_of::<Owner>()) + self.ring.bytes
    }

    /// Keeps the memory for ever: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.memory.leaked = true;
        self.ring.leaked = true;
    }

    fn provide(&mut self, id: u16) {
        let index = usize::from(self.tail) & (self.owners.len() - 1);
        let address = self.address(id) as u64;
        // SAFETY: `index` is within the ring, and the kernel reads an entry only below the published tail. The tail lies in
        // the reserved bytes of the first entry, which the setters leave alone.
        unsafe {
            let entry = &mut *self.ring.start.as_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(address);
            entry.set_len(self.bytes);
            entry.set_bid(id);
        }
        self.owners[usize::from(id)] = Owner::Kernel;
        self.with_kernel += 1;
        self.tail = self.tail.wrapping_add(1);
    }

    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: `id` indexes `owners`, and the mapping has a stride per owner.
        unsafe { self.memory.start.as_ptr().add(usize::from(id) * self.stride) }
    }

    fn protect(&self, id: u16, flags: MprotectFlags) {
        // SAFETY: the whole stride belongs to buffer `id`, to which nobody holds a reference.
        let done = unsafe { mprotect(self.address(id).cast(), self.stride, flags) };
        done.expect("mprotect of an own mapping");
    }
}

/// Zeroed pages of its own.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    leaked: bool,
}

// SAFETY: pages belong to the process, and a mapping has its own; whoever holds it may use them, on any thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping overlaps nothing.
        let start = unsafe {
            mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0 unasked");
        Ok(Self { start, bytes, leaked: false })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: the mapping is this value's own, and whoever drops it knows that the kernel is done with it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(protection: Protection) -> Buffers {
        Buffers::new(8, 4096, protection).unwrap()
    }

    #[test]
    fn a_buffer_has_one_owner_at_a_time() {
        let mut buffers = buffers(Protection::Unguarded);
        assert_eq!(buffers.with_kernel(), 8);
        let lent = buffers.take(3, 10);
        buffers.bytes(&lent).fill(1);
        assert_eq!(buffers.with_kernel(), 7);
        buffers.release(lent);
        assert_eq!(buffers.with_kernel(), 8);
    }

    #[test]
    #[should_panic(expected = "which it does not have")]
    fn a_completion_cannot_name_a_buffer_twice() {
        let mut buffers = buffers(Protection::Unguarded);
        let _lent = buffers.take(3, 10);
        let _again = buffers.take(3, 10);
    }

    #[test]
    #[should_panic(expected = "by somebody who does not have it")]
    fn a_buffer_is_not_released_twice() {
        let mut buffers = buffers(Protection::Unguarded);
        let lent = buffers.take(3, 10);
        buffers.release(lent);
        buffers.release(Lent { buffer: 3, bytes: 10 });
    }

    #[test]
    fn buffers_that_were_given_back_are_empty_and_can_be_used_again() {
        let mut buffers = buffers(Protection::Unguarded);
        for byte in [1, 2] {
            let lent = buffers.take(3, 4096);
            assert_eq!(buffers.bytes(&lent), [0; 4096]);
            buffers.bytes(&lent).fill(byte);
            buffers.release(lent);
            buffers.give_back();
        }
        assert_eq!(buffers.with_kernel(), 8);
    }

    #[test]
    fn a_quarantined_buffer_comes_back_after_a_quarter_of_the_others() {
        let mut buffers = buffers(Protection::Quarantine);
        for id in 0..3 {
            let lent = buffers.take(id, 1);
            buffers.release(lent);
        }
        assert_eq!(buffers.owners[..4], [Owner::Kernel, Owner::Free, Owner::Free, Owner::Kernel]);
        let lent = buffers.take(0, 4096);
        buffers.bytes(&lent).fill(7);
    }
}
