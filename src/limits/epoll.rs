//! Bounds of the driver on epoll.

use super::{OUTBOUND_MESSAGE_BYTES_MAX, READS_PER_LOOK, SENDS_PER_TURN};

/// Events that a shard takes from epoll at a time. More are taken in the next turn, which follows at once.
pub const EVENTS_PER_WAIT: usize = 1024;
/// Steps in a row that bring no completion: sends that go on, accepts and receives that find nothing. The
/// rest goes on after the next turn, which follows at once.
pub const FRUITLESS_STEPS_MAX: usize = READS_PER_LOOK;
/// Sends that are made as soon as they are asked for, each a system call, between two waits. More wait for their turn
/// among all that is ready, where the loop looks at its clock.
pub const SENDS_AT_ONCE: usize = SENDS_PER_TURN / 4;
/// Bytes that the kernel is given for one connection before the others have their turn: a message of
/// `OUTBOUND_MESSAGE_BYTES_MAX` goes out at once. The rest follows in turn.
pub const SEND_BYTES_AT_ONCE: usize = 64 * 1024;
/// A player's place in the driver's table, on top of `IDLE_PLAYER_BYTES_MAX`.
pub const PLACE_BYTES_MAX: usize = 16;

const _: () = assert!(OUTBOUND_MESSAGE_BYTES_MAX < SEND_BYTES_AT_ONCE);
