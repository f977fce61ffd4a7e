//! How a crowd comes together before a run.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;

use crate::clock;
use crate::crowd::{Crowd, Listener};

/// From the last join to what follows: the last presence is on its way.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Longest wait of a turn. Arrivals are seen at most this late.
pub const TURN: Duration = Duration::from_micros(500);
/// Completions after which a wait ends before its time.
pub const WANT: usize = 128;

/// Lets the first `clients` join, `per_s` a second, and what is told to them arrive. An error: not all of them could.
pub fn assemble(
    crowd: &mut Crowd,
    clients: u32,
    per_s: f64,
    listener: &mut impl Listener,
    bar: &ProgressBar,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    bar.set_prefix("joining");
    let mut now_ns = clock::now_ns();
    while !crowd.ramp(clients, per_s, now_ns)? {
        if interrupted.load(Relaxed) {
            bail!("interrupted before everybody had joined");
        }
        now_ns = crowd.turn(WANT, TURN, listener)?;
        bar.set_position(u64::from(crowd.open()));
    }
    if crowd.joined() < clients {
        bail!("only {} of {clients} could join{}", crowd.joined(), crowd.endings.causes());
    }
    let settled_ns = now_ns + SETTLE_TIME.as_nanos() as u64;
    while crowd.turn(WANT, TURN, listener)? < settled_ns {}
    Ok(())
}
