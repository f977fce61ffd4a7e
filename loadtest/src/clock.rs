//! The two clocks: time that passes, and processor time that this process used.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the monotonic clock. Only differences mean anything; all threads see the same clock.
pub fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds of processor time, user and kernel, that all threads of this process have used.
pub fn own_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
