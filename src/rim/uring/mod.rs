//! The driver on io_uring: a ring, and all memory that its operations use. `README.md` beside this file says what goes wrong on
//! io_uring sockets, and which guard stands against it.
#![allow(
    unsafe_code,
    reason = "the kernel is given addresses; each block says what keeps the memory alive, and until when"
)]

mod allocator;
mod buffers;
#[cfg(test)]
mod conformance_tests;
mod driver;
#[cfg(test)]
mod kernel_tests;
mod op;
mod peers;
mod probe;
mod ring;
mod sends;

pub(super) use allocator::give_back as give_back_freed_memory;
pub use driver::{RingDriver, RingSettings};
pub use probe::{Feature, Probe, RingError, io_uring_disabled, kernel_release, probe, table_entries_max};
