//! How many sockets may be open: those of the drivers of a process together, and those of one driver.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts down from the limit. Without that of a process, clients could take the descriptors that the store and the admin pages
/// need; without that of a driver, other shards could hand over more than its shard has room for.
#[derive(Debug)]
pub struct SocketBudget(AtomicU64);

impl SocketBudget {
    /// So many sockets may be open.
    pub fn new(sockets_max: u64) -> Self {
        Self(AtomicU64::new(sockets_max))
    }

    /// Returns whether one more may be opened, which then counts.
    pub(super) fn take(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// One is closed, or was not opened after all.
    pub(super) fn give_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
