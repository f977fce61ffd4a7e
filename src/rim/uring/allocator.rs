//! What the allocator keeps of freed memory.

/// Gives memory that has been free for a second back to the kernel. `mimalloc` does so by itself only on the way of further
/// allocations, which a shard that everybody has left does not make. With another allocator (in tests) nothing happens.
pub(in crate::rim) fn give_back() {
    // SAFETY: any thread may call it at any time: it looks at memory that is free.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
