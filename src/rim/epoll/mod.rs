//! The driver on epoll, for machines that refuse io_uring. The kernel only says that a socket is ready; the driver then makes the
//! call itself and queues a completion, so that the loop sees no difference.
//!
//! * A send is tried at once. What the socket does not take waits until it is writable.
//! * A receive and an accept are made when the loop asks for the next completion, one buffer or one client at a time and in turn,
//!   so a flood on one socket holds up no other, and a buffer is used again while it is still in the processor's cache.
//! * Every socket is registered once, edge-triggered. The driver remembers what is ready until a call says that it is not.

mod accepts;
mod budget;
mod buffers;
#[cfg(test)]
mod conformance_tests;
mod door;
mod driver;
#[cfg(test)]
mod driver_tests;
mod places;
mod poller;
mod sends;

pub use budget::SocketBudget;
pub use driver::{EpollDriver, EpollSettings};
pub use poller::EpollError;
