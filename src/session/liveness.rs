//! Silence: after a while a ping, later a warning, in the end a close (section 6 of the protocol). Only inbound bytes prove
//! life.

use std::time::Duration;

use crate::limits::{self, SILENCE_LATE_MAX};
use crate::time::Instant;

/// How long clients may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Silence after which a client on `/play` is pinged.
    pub ping_after: Duration,
    /// Silence after which a client on `/play` is closed with 1001 `idle`.
    pub close_after: Duration,
    /// Silence after which a client on `/socket` is warned.
    pub socket_warn_after: Duration,
    /// Silence after which a client on `/socket` is closed with 1001 `idle`.
    pub socket_close_after: Duration,
}

/// How long one kind of client may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence before a ping; `None`: no ping, because the client sends heartbeats.
    ping_after: Option<Duration>,
    /// Silence before a warning.
    pub warn_after: Duration,
    /// Silence before the close.
    pub close_after: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            ping_after: limits::PLAY_PING_AFTER,
            close_after: limits::PLAY_CLOSE_AFTER,
            socket_warn_after: limits::SOCKET_WARN_AFTER,
            socket_close_after: limits::SOCKET_CLOSE_AFTER,
        }
    }
}

impl Liveness {
    /// With players, who are warned half-way from the ping to the close.
    pub fn with_players(&self) -> Patience {
        let warn_after = self.ping_after + self.close_after.saturating_sub(self.ping_after) / 2;
        Patience { ping_after: Some(self.ping_after), warn_after, close_after: self.close_after }
    }

    /// With Phoenix clients, who send heartbeats.
    pub fn with_sockets(&self) -> Patience {
        let (warn_after, close_after) = (self.socket_warn_after, self.socket_close_after);
        Patience { ping_after: None, warn_after, close_after }
    }
}

/// When a client was last heard, and what has been done about its silence since.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    heard_at_ms: u32,
    done: Step,
}

/// What silence leads to, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// The step that is due now. Each step comes once per silence, and only after the step before it, which gave the client its
    /// chance to answer. If a step came late, so do those after it.
    pub fn step(&mut self, patience: &Patience, now: Instant) -> Step {
        let (step, after) = self.next_step(patience);
        let Some(late) = self.lasts(now).checked_sub(after) else { return Step::Wait };
        if self.done == Step::Close {
            return Step::Wait;
        }
        if late > SILENCE_LATE_MAX {
            self.heard_at_ms = self.heard_at_ms.wrapping_add(late.as_millis() as u32);
        }
        self.done = step;
        step
    }

    /// When the next step is due, if the client stays silent.
    pub fn next_step_at(&self, patience: &Patience, now: Instant) -> Instant {
        let (_, after) = self.next_step(patience);
        // Rounded up: a look in the last fraction of a millisecond would find nothing to do.
        now + after.saturating_sub(self.lasts(now)) + Duration::from_millis(1)
    }

    /// The next step, and the silence after which it is due.
    fn next_step(&self, patience: &Patience) -> (Step, Duration) {
        match (self.done, patience.ping_after) {
            (Step::Wait, Some(ping_after)) => (Step::Ping, ping_after),
            (Step::Wait, None) | (Step::Ping, _) => (Step::Warn, patience.warn_after),
            (Step::Warn | Step::Close, _) => (Step::Close, patience.close_after),
        }
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
        let liveness = Liveness::default().with_players();
        let mut silence = Silence::broken(s(100));
        let steps: Vec<_> = (100..=116).map(|at| silence.step(&liveness, s(at))).collect();
        assert_eq!(
            steps.iter().enumerate().filter(|(_, step)| **step != Step::Wait).collect::<Vec<_>>(),
            [(5, &Step::Ping), (10, &Step::Warn), (15, &Step::Close)]
        );
        let mut silence = Silence::broken(s(200));
        assert_eq!(silence.step(&liveness, s(204)), Step::Wait);
        assert_eq!(silence.next_step_at(&liveness, s(204)), s(205) + Duration::from_millis(1));

        let patience = Liveness::default().with_sockets();
        let mut silence = Silence::broken(s(300));
        assert_eq!(silence.next_step_at(&patience, s(300)), s(360) + Duration::from_millis(1));
        let steps: Vec<_> = (300..=391).map(|at| silence.step(&patience, s(at))).collect();
        assert_eq!(
            steps.iter().enumerate().filter(|(_, step)| **step != Step::Wait).collect::<Vec<_>>(),
            [(60, &Step::Warn), (90, &Step::Close)]
        );
    }

    #[test]
    fn whoever_is_looked_at_late_is_pinged_and_given_the_time_to_answer() {
        let liveness = Liveness::default().with_players();
        let mut silence = Silence::broken(s(100));
        let steps = |silence: &mut Silence, from: u64| {
            let steps = (from..from + 12).map(|at| (at, silence.step(&liveness, s(at))));
            steps.filter(|(_, step)| *step != Step::Wait).collect::<Vec<_>>()
        };
        assert_eq!(
            steps(&mut silence, 1_000),
            [(1_000, Step::Ping), (1_005, Step::Warn), (1_010, Step::Close)]
        );
        // Late for the warning only.
        let mut silence = Silence::broken(s(100));
        assert_eq!(silence.step(&liveness, s(105)), Step::Ping);
        assert_eq!(steps(&mut silence, 200), [(200, Step::Warn), (205, Step::Close)]);

        let sockets = Liveness::default().with_sockets();
        let mut silence = Silence::broken(s(100));
        assert_eq!(silence.step(&sockets, s(900)), Step::Warn);
        assert_eq!(silence.next_step_at(&sockets, s(900)), s(930) + Duration::from_millis(1));
    }
}
