//! The disk under the relay's data: how long a write takes to be on it.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::fs::statfs;

use crate::clock;
use crate::views::microseconds;

/// Bytes of each write.
const WRITE_BYTES: usize = 4096;
/// `f_type` of tmpfs and ramfs: what is written there is on no disk (statfs(2)).
const TYPES_IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58F6];

/// Appends to a file in `folder` for `length`, each write followed by `fdatasync`: how long both took, in µs.
pub fn sync_us(folder: &Path, length: Duration) -> io::Result<Histogram<u64>> {
    let mut file = tempfile::tempfile_in(folder)?;
    let (mut us, end_ns) = (microseconds(), clock::now_ns() + length.as_nanos() as u64);
    loop {
        let begun_ns = clock::now_ns();
        if begun_ns >= end_ns {
            return Ok(us);
        }
        file.write_all(&[0x5A; WRITE_BYTES])?;
        file.sync_data()?;
        us.saturating_record((clock::now_ns() - begun_ns) / 1000);
    }
}

/// Whether what is written to `folder` stays in memory.
pub fn is_in_memory(folder: &Path) -> io::Result<bool> {
    Ok(TYPES_IN_MEMORY.contains(&(statfs(folder)?.f_type as i64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_timed_and_leave_nothing_behind() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let us = sync_us(folder.path(), Duration::from_millis(50)).unwrap();
        assert!(!us.is_empty() && us.max() < 60_000_000);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(sync_us(&folder.path().join("nowhere"), Duration::ZERO).is_err());
        assert!(!is_in_memory(Path::new("/proc")).unwrap());
    }
}
