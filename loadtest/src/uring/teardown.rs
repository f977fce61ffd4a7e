//! The end of a ring: its memory goes when the kernel has let go of it, or never.

use std::io;
use std::time::Duration;

use io_uring::cqueue;

use super::{BATCH_MAX, POLL, RECEIVE, Ring, SUBMISSION_ENTRIES};

/// How long `Drop` waits for the next completion before it gives the memory up.
const TEARDOWN_WAIT: Duration = Duration::from_millis(20);

impl Drop for Ring {
    fn drop(&mut self) {
        if self.cancel_slots().is_err() || self.outstanding > 0 {
            // The kernel may still use it: better lost than written to after it was freed.
            self.buffers.leak();
            std::mem::forget(std::mem::take(&mut self.sends));
        }
    }
}

impl Ring {
    /// Cancels what is armed on every slot, one by one: to cancel everything the kernel looks through all that is armed for each
    /// operation that it cancels, and 19,000 polls take 5 s.
    pub(super) fn cancel_slots(&mut self) -> io::Result<()> {
        self.taken = self.batch.len();
        for slot in 0..self.parked.len() as u32 {
            let operation = if self.parked[slot as usize] { POLL } else { RECEIVE };
            self.cancel(operation, slot)?;
            if slot % SUBMISSION_ENTRIES == SUBMISSION_ENTRIES - 1 {
                self.forget()?;
            }
        }
        let mut before = usize::MAX;
        while self.outstanding > 0 && self.outstanding < before {
            before = self.outstanding;
            self.forget()?;
        }
        Ok(())
    }

    /// Waits a little for everything, and counts completions without looking at them.
    fn forget(&mut self) -> io::Result<()> {
        self.wait(self.outstanding.min(BATCH_MAX), TEARDOWN_WAIT)?;
        self.outstanding -= self.batch.iter().filter(|entry| !cqueue::more(entry.flags())).count();
        self.taken = self.batch.len();
        Ok(())
    }
}
