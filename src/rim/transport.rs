//! Where bytes of clients pass between the driver and the core: all that arrive go through `take_in`, all that leave through
//! `give_out`. They pass unchanged. A transport that changes them, and sends messages of its own (TLS), belongs here and nowhere
//! else.

use super::driver::{Descriptor, Driver, Lent, SendId};
use crate::ids::ConnId;
use crate::shard::{Frames, Shard};
use crate::time::Now;

/// Gives bytes to the core, as they came. Returns how many they were.
pub(super) fn take_in(
    driver: &mut impl Driver,
    lent: &Lent,
    shard: &mut Shard,
    conn: ConnId,
    now: Now,
) -> usize {
    let bytes = driver.bytes(lent);
    let count = bytes.len();
    shard.handle_received(conn, bytes, now);
    count
}

/// Gives frames of the core to the driver, as they go out.
pub(super) fn give_out(
    driver: &mut impl Driver,
    conn: ConnId,
    descriptor: Descriptor,
    frames: Frames,
) -> SendId {
    driver.send(conn, descriptor, frames)
}
