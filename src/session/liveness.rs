//! Silence: after a while a ping, later a warning, in the end a close (section 6 of the protocol). Only inbound bytes prove
//! life.

use std::time::Duration;

use crate::limits;
use crate::time::Instant;

/// How long a `/play` connection may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Then the relay pings.
    pub ping_after: Duration,
    /// Then it closes with 1001 `idle`.
    pub close_after: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { ping_after: limits::PLAY_PING_AFTER, close_after: limits::PLAY_CLOSE_AFTER }
    }
}

impl Liveness {
    /// Silence after which the client is warned that a ping was not answered: half-way from the ping to the close.
    pub fn warn_after(&self) -> Duration {
        self.ping_after + self.close_after.saturating_sub(self.ping_after) / 2
    }
}

/// When a client was last heard, and what has been done about its silence since.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    heard_at_ms: u32,
    done: Step,
}

/// What silence leads to, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Send a ping.
    Ping,
    /// Tell the client when it will be closed.
    Warn,
    /// Close it.
    Close,
}

impl Silence {
    /// The client was heard.
    pub fn broken(now: Instant) -> Self {
        Self { heard_at_ms: now.as_millis_u32(), done: Step::Wait }
    }

    /// What is to be done now: each step once per silence.
    pub fn step(&mut self, liveness: &Liveness, now: Instant) -> Step {
        let silent = self.lasts(now);
        let reached = match silent {
            _ if silent >= liveness.close_after => Step::Close,
            _ if silent >= liveness.warn_after() => Step::Warn,
            _ if silent >= liveness.ping_after => Step::Ping,
            _ => Step::Wait,
        };
        if reached <= self.done {
            return Step::Wait;
        }
        self.done = reached;
        reached
    }

    /// When `step` has something to say next, if the client stays silent.
    pub fn next_step_at(&self, liveness: &Liveness, now: Instant) -> Instant {
        let after = match self.done {
            Step::Wait => liveness.ping_after,
            Step::Ping => liveness.warn_after(),
            Step::Warn | Step::Close => liveness.close_after,
        };
        // Rounded up: a look in the last fraction of a millisecond would find nothing to do.
        now + after.saturating_sub(self.lasts(now)) + Duration::from_millis(1)
    }

    fn lasts(&self, now: Instant) -> Duration {
        Duration::from_millis(now.as_millis_u32().wrapping_sub(self.heard_at_ms).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn each_step_is_taken_once_per_silence() {
        let liveness = Liveness::default();
        let mut silence = Silence::broken(s(100));
        let steps: Vec<_> = (100..=116).map(|at| silence.step(&liveness, s(at))).collect();
        assert_eq!(
            steps.iter().enumerate().filter(|(_, step)| **step != Step::Wait).collect::<Vec<_>>(),
            [(5, &Step::Ping), (10, &Step::Warn), (15, &Step::Close)]
        );
        let mut silence = Silence::broken(s(200));
        assert_eq!(silence.step(&liveness, s(204)), Step::Wait);
        assert_eq!(silence.next_step_at(&liveness, s(204)), s(205) + Duration::from_millis(1));
    }
}
