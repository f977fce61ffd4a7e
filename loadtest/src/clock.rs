//! The clocks: time that passes, processor time that this process used, and the date.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the monotonic clock. Only differences mean anything; all threads see the same clock.
pub fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds of processor time, user and kernel, that all threads of this process have used.
pub fn own_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

/// Seconds since 1970, for what expires.
pub fn unix_s() -> u64 {
    read(ClockId::Realtime) / 1_000_000_000
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
