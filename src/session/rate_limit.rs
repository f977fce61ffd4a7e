//! Rate limits of one player (section 7 of the protocol): so many at once, so many per second, and what happens to a client
//! that goes on regardless. The limits go along with the seat when it is resumed.

use std::time::Duration;

use crate::limits::{
    self, ABUSE_FACTOR, ABUSE_WINDOW, MALFORMED_MAX, MALFORMED_WINDOW, RATE_LIMITED_NOTICE_INTERVAL,
    READING_STOP_MAX,
};
use crate::memory::Allocated;
use crate::reasons::RateClass;
use crate::time::Instant;

/// So many per second on average, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Allowed per second; at least 1.
    pub per_s: u32,
    /// Allowed at once; at least 1.
    pub burst: u32,
}

impl From<(u32, u32)> for Rate {
    fn from((per_s, burst): (u32, u32)) -> Self {
        Self { per_s, burst }
    }
}

/// The rate of every class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Rates {
    /// Move and HostMoves.
    pub moves: Rate,
    /// PutObject and RemoveObject.
    pub objects: Rate,
    pub events: Rate,
    pub pings: Rate,
    pub bytes: Rate,
    /// `phx_join`.
    pub joins: Rate,
    /// `presence_update`.
    pub presence: Rate,
    /// `operation`.
    pub operations: Rate,
    /// `cursor`.
    pub cursors: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            moves: limits::MOVE_RATE.into(),
            objects: limits::MOVE_RATE.into(),
            events: limits::EVENT_RATE.into(),
            pings: limits::PING_RATE.into(),
            bytes: limits::BYTES_RATE.into(),
            joins: limits::JOIN_RATE.into(),
            presence: limits::PRESENCE_RATE.into(),
            operations: limits::OPERATION_RATE.into(),
            cursors: limits::CURSOR_RATE.into(),
        }
    }
}

impl Rates {
    /// The rate of `class`.
    pub fn of(&self, class: RateClass) -> Rate {
        match class {
            RateClass::Move => self.moves,
            RateClass::Object => self.objects,
            RateClass::Event => self.events,
            RateClass::Ping => self.pings,
            RateClass::Bytes => self.bytes,
        }
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is handled.
    Admitted,
    /// It is dropped.
    Dropped {
        /// Then one will be taken.
        retry_after: Duration,
        /// Whether to say so by itself: at most once per `RATE_LIMITED_NOTICE_INTERVAL` and class.
        tell: bool,
    },
    /// The client is closed.
    Abuse,
}

/// One token bucket, stored as what is missing from it: a new one is all zeros, and full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    missing: f32,
    refilled_at_ms: u32,
    told_at_ms: u32,
    window_started_at_ms: u32,
    attempts: u32,
}

impl Bucket {
    /// Asks for one token; `Err`: there is none, and when there will be one.
    pub fn admit(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let now_ms = now.as_millis_u32();
        if u128::from(now_ms.wrapping_sub(self.window_started_at_ms)) > ABUSE_WINDOW.as_millis() {
            (self.window_started_at_ms, self.attempts) = (now_ms, 0);
        }
        self.attempts = self.attempts.saturating_add(1);
        self.has_one(rate, now)?;
        self.charge(1);
        Ok(())
    }

    /// Whether there is a token, for what is charged when its cost is known; `Err`: when there will be one.
    pub fn has_one(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let now_ms = now.as_millis_u32();
        let back = now_ms.wrapping_sub(self.refilled_at_ms) as f32 * rate.per_s as f32 / 1000.0;
        self.refilled_at_ms = now_ms;
        self.missing = (self.missing - back).max(0.0);
        let lacking = self.missing + 1.0 - rate.burst as f32;
        if lacking <= 0.0 { Ok(()) } else { Err(Duration::from_secs_f32(lacking / rate.per_s as f32)) }
    }

    /// Takes tokens, perhaps more than there are.
    pub fn charge(&mut self, count: u32) {
        self.missing += count as f32;
    }

    /// Whether there were `ABUSE_FACTOR` times as many attempts in this window as the rate allows.
    pub fn is_abused(&self, rate: Rate) -> bool {
        self.attempts > rate.per_s.saturating_mul(ABUSE_FACTOR * ABUSE_WINDOW.as_secs() as u32)
    }

    /// Whether to tell the client now that it is over the rate: at most once per `RATE_LIMITED_NOTICE_INTERVAL`.
    pub fn tell(&mut self, now: Instant) -> bool {
        let now_ms = now.as_millis_u32().max(1);
        let told_before = self.told_at_ms != 0;
        let since = now_ms.wrapping_sub(self.told_at_ms);
        if told_before && u128::from(since) < RATE_LIMITED_NOTICE_INTERVAL.as_millis() {
            return false;
        }
        self.told_at_ms = now_ms;
        true
    }
}

/// How many signatures a connection may still have checked, of tokens that it brings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signatures {
    /// Of tokens that turn out to be good.
    pub good: Bucket,
    /// Of tokens that turn out to be forged.
    pub forged: Bucket,
}

/// A token bucket per class. They start full; a full bucket holds `burst` tokens, and `per_s` come back each second. The
/// buckets are stored as what is missing from them, so that a new connection is all zeros.
#[derive(Clone, Debug, Default)]
pub struct RateLimiter {
    missing: [f32; RateClass::COUNT],
    refilled_at_ms: u32,
    /// Only for clients that have been over a limit.
    offences: Option<Box<Offences>>,
}

impl RateLimiter {
    /// Asks for one token of `class`.
    pub fn admit(&mut self, class: RateClass, rates: &Rates, now: Instant) -> Verdict {
        self.admit_many(class, 1, rates, now)
    }

    /// Whether there are `count` tokens of `class`, of which none is taken.
    pub fn has(&mut self, class: RateClass, count: u32, rates: &Rates, now: Instant) -> bool {
        self.refill(rates, now);
        let burst = rates.of(class).burst;
        self.missing[class.index()] + count.min(burst) as f32 <= burst as f32
    }

    /// Takes `count` tokens of `class`, all or none. More than the bucket can hold are granted when it is full.
    pub fn admit_many(&mut self, class: RateClass, count: u32, rates: &Rates, now: Instant) -> Verdict {
        let admitted = self.has(class, count, rates, now);
        let rate = rates.of(class);
        let missing = &mut self.missing[class.index()];
        let wanted = count.min(rate.burst) as f32;
        if admitted {
            *missing += count as f32;
            match &self.offences {
                None => return Verdict::Admitted,
                Some(offences) if offences.are_forgotten(now) => {
                    self.offences = None;
                    return Verdict::Admitted;
                }
                Some(_) => {}
            }
        }
        let retry_after =
            Duration::from_secs_f32(((*missing + wanted - rate.burst as f32) / rate.per_s as f32).max(0.0));
        let offences = self.offences.get_or_insert_with(Box::default);
        if offences.attempt(class, now)
            > rate.per_s.saturating_mul(ABUSE_FACTOR * ABUSE_WINDOW.as_secs() as u32)
        {
            return Verdict::Abuse;
        }
        if admitted {
            return Verdict::Admitted;
        }
        Verdict::Dropped { retry_after, tell: offences.tell(class, now) }
    }

    /// Charges for `bytes` that were received; `Some`: reading stops for so long.
    pub fn charge_bytes(&mut self, bytes: usize, rates: &Rates, now: Instant) -> Option<Duration> {
        self.refill(rates, now);
        let (burst, per_s) = (rates.bytes.burst as f32, rates.bytes.per_s as f32);
        let missing = &mut self.missing[RateClass::Bytes.index()];
        *missing = (*missing + bytes as f32).min(burst + per_s * READING_STOP_MAX.as_secs_f32());
        let over = *missing - burst;
        (over > 0.0).then(|| Duration::from_secs_f32(over / per_s))
    }

    /// Whether nothing is missing from the byte budget.
    pub fn has_full_byte_budget(&self, rates: &Rates, now: Instant) -> bool {
        let elapsed_ms = now.as_millis_u32().wrapping_sub(self.refilled_at_ms);
        let back = elapsed_ms as f32 * rates.bytes.per_s as f32 / 1000.0;
        self.missing[RateClass::Bytes.index()] <= back
    }

    /// Whether to tell the client about `class` now.
    pub fn tell(&mut self, class: RateClass, now: Instant) -> bool {
        self.offences.get_or_insert_with(Box::default).tell(class, now)
    }

    /// Counts a malformed record; `true`: there have been too many.
    pub fn malformed(&mut self, now: Instant) -> bool {
        self.offences.get_or_insert_with(Box::default).malformed(now)
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.offences.allocated_bytes()
    }

    fn refill(&mut self, rates: &Rates, now: Instant) {
        let now_ms = now.as_millis_u32();
        let elapsed_ms = now_ms.wrapping_sub(self.refilled_at_ms);
        if elapsed_ms == 0 {
            return;
        }
        self.refilled_at_ms = now_ms;
        for class in RateClass::ALL {
            let back = elapsed_ms as f32 * rates.of(*class).per_s as f32 / 1000.0;
            let missing = &mut self.missing[class.index()];
            *missing = (*missing - back).max(0.0);
        }
    }
}

/// The record of a client that has been over a limit, until nothing in it counts any more.
#[derive(Clone, Debug, Default)]
struct Offences {
    window_started: Option<Instant>,
    attempts: [u32; RateClass::COUNT],
    told_at: [Option<Instant>; RateClass::COUNT],
    /// When the last malformed records came; a ring.
    malformed_at: [Option<Instant>; MALFORMED_MAX as usize],
    malformed_next: usize,
}

impl Offences {
    /// Counts an attempt, admitted or not, and says how many there have been in this window.
    fn attempt(&mut self, class: RateClass, now: Instant) -> u32 {
        if self.window_started.is_none_or(|started| now.since(started) > ABUSE_WINDOW) {
            self.window_started = Some(now);
            self.attempts = Default::default();
        }
        self.attempts[class.index()] += 1;
        self.attempts[class.index()]
    }

    fn are_forgotten(&self, now: Instant) -> bool {
        let over = |at: &Option<Instant>, after: Duration| at.is_none_or(|at| now.since(at) > after);
        over(&self.window_started, ABUSE_WINDOW)
            && self.told_at.iter().all(|at| over(at, RATE_LIMITED_NOTICE_INTERVAL))
            && self.malformed_at.iter().all(|at| over(at, MALFORMED_WINDOW))
    }

    fn tell(&mut self, class: RateClass, now: Instant) -> bool {
        let told_at = &mut self.told_at[class.index()];
        let due = told_at.is_none_or(|told| now.since(told) >= RATE_LIMITED_NOTICE_INTERVAL);
        if due {
            *told_at = Some(now);
        }
        due
    }

    fn malformed(&mut self, now: Instant) -> bool {
        self.malformed_at[self.malformed_next] = Some(now);
        self.malformed_next = (self.malformed_next + 1) % self.malformed_at.len();
        let oldest = self.malformed_at[self.malformed_next];
        oldest.is_some_and(|oldest| now.since(oldest) <= MALFORMED_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + ms * 1000)
    }

    fn admitted(limiter: &mut RateLimiter, class: RateClass, count: u32, at: u64) -> u32 {
        let admit = |_: &u32| limiter.admit(class, &Rates::default(), ms(at)) == Verdict::Admitted;
        (0..count).filter(admit).count() as u32
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        let mut limiter = RateLimiter::default();
        assert_eq!(admitted(&mut limiter, RateClass::Move, 100, 0), 60);
        assert_eq!(admitted(&mut limiter, RateClass::Move, 100, 500), 30);
        assert_eq!(admitted(&mut limiter, RateClass::Object, 100, 500), 60, "classes are apart");
        assert_eq!(admitted(&mut limiter, RateClass::Move, 100, 10_000), 60);
    }

    #[test]
    fn a_single_bucket_says_when_the_next_is_taken_and_tells_once_a_second() {
        let rate = Rate { per_s: 20, burst: 100 };
        let mut bucket = Bucket::default();
        assert!((0..100).all(|_| bucket.admit(rate, ms(0)).is_ok()));
        let wait = bucket.admit(rate, ms(0)).unwrap_err();
        assert!((49..=51).contains(&wait.as_millis()), "{wait:?}");
        assert!(bucket.admit(rate, ms(51)).is_ok() && bucket.admit(rate, ms(52)).is_err());
        assert_eq!([0, 500, 1001].map(|at| bucket.tell(ms(at))), [true, false, true]);
        assert!(!bucket.is_abused(rate));
        let admitted = (0..4_000).filter(|n| bucket.admit(rate, ms(*n)).is_ok()).count();
        assert!((170..=190).contains(&admitted), "{admitted} in 4 s");
        assert!(bucket.is_abused(rate));
    }

    #[test]
    fn what_is_charged_afterwards_may_be_more_than_there_was() {
        let rate = Rate { per_s: 5, burst: 10 };
        let mut bucket = Bucket::default();
        assert!((0..3).all(|_| bucket.has_one(rate, ms(0)).is_ok()), "asking takes nothing");
        bucket.charge(9);
        assert!(bucket.has_one(rate, ms(0)).is_ok());
        bucket.charge(16);
        let wait = bucket.has_one(rate, ms(0)).unwrap_err();
        assert!((3_199..=3_201).contains(&wait.as_millis()), "{wait:?}");
        assert!(bucket.has_one(rate, ms(3_100)).is_err() && bucket.has_one(rate, ms(3_201)).is_ok());
    }

    #[test]
    fn sixty_a_second_is_never_over_the_limit() {
        let mut limiter = RateLimiter::default();
        let late: u32 =
            (0..6000).map(|n| 1 - admitted(&mut limiter, RateClass::Move, 1, n * 1000 / 60)).sum();
        assert_eq!(late, 0);
    }

    #[test]
    fn the_client_is_told_once_a_second_and_when_to_try_again() {
        let mut limiter = RateLimiter::default();
        admitted(&mut limiter, RateClass::Event, 40, 0);
        let verdicts: Vec<_> =
            [0, 10, 20].map(|at| limiter.admit(RateClass::Event, &Rates::default(), ms(at))).to_vec();
        let Verdict::Dropped { retry_after, tell: true } = verdicts[0] else { panic!("{verdicts:?}") };
        assert!((49..=51).contains(&retry_after.as_millis()), "{retry_after:?}");
        let are_silent =
            verdicts[1..].iter().all(|verdict| matches!(verdict, Verdict::Dropped { tell: false, .. }));
        assert!(are_silent, "{verdicts:?}");
        admitted(&mut limiter, RateClass::Event, 100, 900);
        assert!(matches!(
            limiter.admit(RateClass::Event, &Rates::default(), ms(1001)),
            Verdict::Dropped { tell: true, .. } | Verdict::Admitted
        ));
    }

    #[test]
    fn twenty_times_the_limit_for_ten_seconds_is_abuse() {
        let mut limiter = RateLimiter::default();
        let rates = Rates::default();
        let verdict_of = |limiter: &mut RateLimiter, per_s: u64| {
            let attempts =
                (0..per_s * 11).map(|n| limiter.admit(RateClass::Move, &rates, ms(n * 1000 / per_s)));
            attempts.filter(|verdict| *verdict == Verdict::Abuse).count()
        };
        assert_eq!(verdict_of(&mut limiter, 60 * 19), 0);
        assert!(verdict_of(&mut RateLimiter::default(), 60 * 22) > 0);
    }

    #[test]
    fn bytes_over_the_budget_stop_the_reading_until_it_is_back() {
        let mut limiter = RateLimiter::default();
        assert_eq!(limiter.charge_bytes(128 * 1024, &Rates::default(), ms(0)), None);
        assert_eq!(limiter.charge_bytes(64 * 1024, &Rates::default(), ms(0)), Some(Duration::from_secs(1)));
        assert_eq!(limiter.charge_bytes(1024, &Rates::default(), ms(1100)), None);
        let stop = limiter.charge_bytes(100 << 20, &Rates::default(), ms(1100));
        assert_eq!(stop, Some(READING_STOP_MAX), "a client that is not read from is not heard to go");
        let is_full = |at: u64| limiter.has_full_byte_budget(&Rates::default(), ms(at));
        assert_eq!(
            [3_100, 5_099, 5_101].map(is_full),
            [false, false, true],
            "2 s over, and 2 s of the burst"
        );
    }

    #[test]
    fn a_client_that_keeps_to_its_limits_again_costs_what_it_cost_before() {
        let mut limiter = RateLimiter::default();
        assert_eq!(admitted(&mut limiter, RateClass::Move, 100, 0), 60);
        assert!(limiter.heap_bytes() > 0 && !limiter.malformed(ms(1_000)));
        for (at, is_remembered) in [(9_000, true), (60_900, true), (72_000, false)] {
            assert_eq!(admitted(&mut limiter, RateClass::Move, 1, at), 1);
            assert_eq!(limiter.heap_bytes() > 0, is_remembered, "after {at} ms");
        }
    }

    #[test]
    fn the_tenth_malformed_record_within_a_minute_is_one_too_many() {
        let mut limiter = RateLimiter::default();
        let within: Vec<_> = (1..=10).map(|n| limiter.malformed(ms(n * 5_000))).collect();
        assert_eq!(within.iter().position(|over| *over), Some(9));
        let mut limiter = RateLimiter::default();
        assert!((1..=100).all(|n| !limiter.malformed(ms(n * 7_000))));
    }
}
