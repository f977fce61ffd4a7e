//! What the kernel says about this process.

use std::time::Duration;

use rustix::time::ClockId;

/// CPU time of all threads, user and kernel.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory in bytes; `None` without `/proc`.
pub(super) fn resident_memory_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_used_cpu_and_memory() {
        assert!(cpu_time() > Duration::ZERO);
        let resident = resident_memory_bytes().unwrap();
        assert!((100_000..100_000_000_000).contains(&resident), "{resident}");
    }
}
