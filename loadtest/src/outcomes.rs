//! What became of what was sent: answered, refused, told to others, and how late.

use hdrhistogram::Histogram;

use crate::endings::Texts;
use crate::figures::{Value, latency};
use crate::views::microseconds;

/// What is sent later than this after its intended time is late.
const LATE_US: u64 = 1_000;
/// Share that left late from which latencies say more about this machine.
const LATE_SHARE_MAX: f64 = 0.01;

/// Latencies are those of what was meant for the window.
#[derive(Debug)]
pub struct Outcomes {
    pub sent: u64,
    /// Their sender was not there at their time.
    pub unsent: u64,
    /// Had to wait for their own busy socket.
    pub queued: u64,
    pub acknowledged: u64,
    pub acknowledged_in_window: u64,
    pub refusals: Texts,
    /// A member was told, for the first time.
    pub heard: u64,
    late: u64,
    ack_us: Histogram<u64>,
    heard_us: Histogram<u64>,
    lateness_us: Histogram<u64>,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self {
            sent: 0,
            unsent: 0,
            queued: 0,
            acknowledged: 0,
            acknowledged_in_window: 0,
            refusals: Texts::default(),
            heard: 0,
            late: 0,
            ack_us: microseconds(),
            heard_us: microseconds(),
            lateness_us: microseconds(),
        }
    }
}

impl Outcomes {
    /// It took this long from the intended time of something to its send.
    pub fn record_lateness(&mut self, us: u64) {
        self.late += u64::from(us > LATE_US);
        self.lateness_us.saturating_record(us);
    }

    /// … to its acknowledgement.
    pub fn record_acknowledged(&mut self, us: u64) {
        self.acknowledged_in_window += 1;
        self.ack_us.saturating_record(us);
    }

    /// … to its arrival at a member.
    pub fn record_heard(&mut self, us: u64) {
        self.heard_us.saturating_record(us);
    }

    /// Whether everything that was sent was answered.
    pub fn are_answered(&self) -> bool {
        self.acknowledged + self.refusals.total() >= self.sent
    }

    pub fn ack(&self, percentile: f64) -> Value {
        latency(&self.ack_us, percentile)
    }

    pub fn heard(&self, percentile: f64) -> Value {
        latency(&self.heard_us, percentile)
    }

    pub fn lateness(&self, percentile: f64) -> Value {
        latency(&self.lateness_us, percentile)
    }

    pub fn late_share(&self) -> f64 {
        self.late as f64 / self.lateness_us.len().max(1) as f64
    }

    /// What the report says of `what` was late, if it was much.
    pub fn much_late(&self, what: &str) -> Option<String> {
        let share = self.late_share();
        (share > LATE_SHARE_MAX).then(|| format!("{:.1} % of the {what} more than 1 ms late", share * 100.0))
    }
}
