//! The driver on epoll, for machines that refuse io_uring. The kernel only says that a socket is ready; the driver then makes the
//! call itself and queues a completion, so that the loop sees no difference.
//!
//! * A send is tried at once, as far as `SEND_BYTES_AT_ONCE`, but for those beyond `SENDS_AT_ONCE`. What is left, or not taken, waits
//!   for its turn, or for room.
//! * All else is done when the loop asks for the next completion, in turn: one buffer that is received, one client that is accepted,
//!   one socket that was handed over, one part of a send. So a flood on one socket holds up no other, the loop can look at its
//!   clock in between, and a buffer is used again while it is still in the processor's cache.
//! * Every socket is registered once, edge-triggered. The driver remembers what is ready until a call says that it is not. A receive
//!   that ends short says so, but not in front of urgent data, which the kernel tells of by itself (`EPOLLPRI`).
//! * `accept` fails for want of a descriptor even if no client waits. The loop is told only if one does.

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
