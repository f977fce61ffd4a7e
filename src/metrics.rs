//! Counters and histograms of a shard: the shard writes, anybody reads, nobody waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::impossible;
use crate::limits::STORE_HANG;
use crate::memory::MemoryByPart;
use crate::reasons::{CloseReason, CorrectionReason, ErrorCode, JoinRefusal, RateClass, RefusalReason};
use crate::time::Instant;

/// A number that only grows. One thread writes it, so an increment is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One thread writes it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away.
    pub fn subtract(&self, n: u64) {
        let left = self.0.load(Relaxed).checked_sub(n).unwrap_or_else(|| {
            impossible!("what is counted down has been counted up");
            0
        });
        self.0.store(left, Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that several threads change. For what is rare: each change waits for the others' caches.
#[derive(Debug, Default)]
pub struct SharedCount(AtomicU64);

impl SharedCount {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Takes one away.
    pub fn decrement(&self) {
        if self.0.fetch_sub(1, Relaxed) == 0 {
            // A count that wrapped to the largest number would make the relay full for everybody.
            self.0.fetch_add(1, Relaxed);
            impossible!("what is counted down has been counted up");
        }
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Durations in buckets whose bounds double: up to 1 µs, 2 µs, 4 µs … about 17 s, and beyond.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    buckets: [Counter; Self::BUCKETS],
    sum_us: Counter,
}

impl DurationHistogram {
    /// Number of buckets, the last one without an upper bound.
    pub const BUCKETS: usize = 26;

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        let bucket = (64 - us.saturating_sub(1).leading_zeros() as usize).min(Self::BUCKETS - 1);
        self.buckets[bucket].increment();
        self.sum_us.add(us);
    }

    /// Upper bound of bucket `index`, in µs; `None` for the last.
    pub fn upper_bound_us(index: usize) -> Option<u64> {
        (index + 1 < Self::BUCKETS).then(|| 1 << index)
    }

    /// Counts per bucket, not cumulated.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|index| self.buckets[index].value())
    }

    /// Sum of everything recorded, in µs.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// The metrics of the store's thread.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// When the present batch of work began, in µs since the process started; 0: the thread waits.
    busy_since_us: Gauge,
    /// 1 from a failure of the file to the next write that succeeds.
    pub failing: Gauge,
    /// Batches that are on disk.
    pub commits: Counter,
    /// Appends in these batches, at most one of each topic in a batch.
    pub appends: Counter,
    /// Rooms and pages that were read.
    pub reads: Counter,
    /// Questions that could not be answered.
    pub refused: Counter,
    /// From the begin of a commit to its end.
    pub commit_time: DurationHistogram,
}

impl StoreMetrics {
    /// The thread works on a batch from `now` on.
    pub fn begin_work(&self, now: Instant) {
        self.busy_since_us.set(now.as_micros());
    }

    /// The thread waits for questions.
    pub fn end_work(&self) {
        self.busy_since_us.set(0);
    }

    /// How long the thread has worked on its present batch; zero: it waits.
    pub fn busy_for(&self, now: Instant) -> Duration {
        match self.busy_since_us.value() {
            0 => Duration::ZERO,
            since => now.since(Instant::from_micros(since)),
        }
    }

    /// `busy_for`, if that is longer than `STORE_HANG`.
    pub fn hangs_for(&self, now: Instant) -> Option<Duration> {
        Some(self.busy_for(now)).filter(|time| *time > STORE_HANG)
    }
}

/// The metrics of one shard. Arrays are indexed by `index()` of their reason.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Connections whose request head is not complete.
    pub connections_upgrading: Gauge,
    /// Connections that are open.
    pub connections_open: Gauge,
    /// Connections that wait on a poll, because they are quiet.
    pub connections_parked: Gauge,
    /// Connections that wait for the end of their close.
    pub connections_closing: Gauge,
    /// Guests that were given a number.
    pub guests: Counter,
    /// Players of this shard's games, held seats included.
    pub seats: Gauge,
    /// Seats held for a lost player.
    pub seats_held: Gauge,
    /// Games of this shard.
    pub games: Gauge,

    /// Connections accepted.
    pub accepts: Counter,
    /// Accepts that failed, for want of a descriptor or of memory.
    pub accept_failures: Counter,
    /// 1 while accepting is stopped because the descriptor table is nearly full.
    pub accept_paused: Gauge,
    /// Upgrades refused.
    pub refusals: [Counter; RefusalReason::COUNT],
    /// Connections ended, by reason.
    pub closes: [Counter; CloseReason::COUNT],
    /// Seats given back to a client that resumed.
    pub resumes: Counter,

    /// WebSocket messages received (control frames included).
    pub frames_in: Counter,
    /// WebSocket messages handed to the kernel.
    pub frames_out: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Bytes the kernel took.
    pub bytes_out: Counter,

    /// Moves applied.
    pub moves: Counter,
    /// Object records applied.
    pub objects: Counter,
    /// Events received and accepted.
    pub events_in: Counter,
    /// Events queued for members.
    pub events_out: Counter,
    /// Deltas queued for members.
    pub deltas: Counter,
    /// Keyframes queued for members.
    pub keyframes: Counter,
    /// Tick frames a member did not get, because its socket was busy.
    pub frames_skipped: Counter,
    /// Tick frames encoded: at most one Delta and one Keyframe per game and tick.
    pub frames_encoded: Counter,
    /// Records over a rate limit; of the class `bytes`: receives over the budget.
    pub rate_limited: [Counter; RateClass::COUNT],
    /// Error records sent.
    pub errors: [Counter; ErrorCode::COUNT],
    /// Correction records sent.
    pub corrections: [Counter; CorrectionReason::COUNT],

    /// Topics joined by connections of this shard, or being joined or left.
    pub channels: Gauge,
    /// Chat rooms of this shard.
    pub rooms: Gauge,
    /// Documents of this shard.
    pub documents: Gauge,
    /// Joins of topics that were answered `ok`.
    pub joins: Counter,
    /// Joins that were answered `error`.
    pub joins_refused: [Counter; JoinRefusal::COUNT],
    /// Signatures of tokens that were checked.
    pub token_signatures: Counter,
    /// Phoenix messages received.
    pub messages_in: Counter,
    /// Phoenix messages dropped because their channel had gone meanwhile.
    pub messages_stale: Counter,
    /// Phoenix messages whose head could not be read.
    pub messages_malformed: Counter,
    /// Broadcasts of topics encoded: once per message and serializer that somebody speaks.
    pub broadcasts_encoded: Counter,
    /// Broadcasts queued for members on this shard.
    pub broadcasts_out: Counter,
    /// Letters to other shards that waited for room in a mailbox.
    pub letters_waited: Counter,
    /// Messages to other shards that were not taken because too many wait.
    pub forwards_refused: Counter,

    /// Bytes waiting in reliable lanes, as their bound counts them: `limits::OUTBOX_FRAME_BYTES` more for each frame.
    pub outbox_bytes: Gauge,
    /// `MemoryByPart::sessions`, in bytes.
    pub memory_sessions: Gauge,
    /// `MemoryByPart::outboxes`, in bytes.
    pub memory_outboxes: Gauge,
    /// `MemoryByPart::games`, in bytes.
    pub memory_games: Gauge,
    /// `MemoryByPart::rooms`, in bytes.
    pub memory_rooms: Gauge,
    /// `MemoryByPart::documents`, in bytes.
    pub memory_documents: Gauge,
    /// `MemoryByPart::presence`, in bytes.
    pub memory_presence: Gauge,
    /// `MemoryByPart::frames`, in bytes.
    pub memory_frames: Gauge,
    /// `MemoryByPart::tls`, in bytes.
    pub memory_tls: Gauge,
    /// `MemoryByPart::rings`, in bytes.
    pub memory_rings: Gauge,
    /// `MemoryByPart::mailboxes`, in bytes.
    pub memory_mailboxes: Gauge,
    /// From the time a tick was due to the time it ran.
    pub tick_lateness: DurationHistogram,
    /// How often the process, or its machine, stood still.
    pub standstills: Counter,
    /// Length of a turn of the loop, waiting excluded.
    pub loop_turn: DurationHistogram,
    /// When the loop last turned: `Instant::as_micros`, by the clock of the process.
    pub loop_turned_at_us: Gauge,

    /// Connections handed to another shard.
    pub hand_overs_out: Counter,
    /// Connections taken from another shard.
    pub hand_overs_in: Counter,
    /// Handshakes of TLS that were completed.
    pub tls_handshakes: Counter,
    /// Connections on `listen_tls` that ended because of what their client sent.
    pub tls_failures: Counter,
    /// Connections that wait for the next step of their handshake.
    pub tls_handshakes_waiting: Gauge,
    /// Handovers that the target could not take.
    pub hand_overs_refused: Counter,
    /// `io_uring_enter` calls.
    pub enters: Counter,
    /// Completions reaped.
    pub completions: Counter,
    /// Completions of a connection that was already gone.
    pub completions_stale: Counter,
    /// Completion queue overflows: a bug, or a queue sized wrong.
    pub completion_overflows: Counter,
    /// Receives that ended because no buffer was free.
    pub receive_buffers_exhausted: Counter,
    /// Live connections that were found with no receive in flight: a bug, repaired by the sweeper.
    pub receives_lost: Counter,
}

impl ShardMetrics {
    /// Shows what the shard's memory is used for.
    pub fn set_memory(&self, memory: &MemoryByPart) {
        for (gauge, bytes) in [
            (&self.memory_sessions, memory.sessions),
            (&self.memory_outboxes, memory.outboxes),
            (&self.memory_games, memory.games),
            (&self.memory_rooms, memory.rooms),
            (&self.memory_documents, memory.documents),
            (&self.memory_presence, memory.presence),
            (&self.memory_frames, memory.frames),
            (&self.memory_tls, memory.tls),
            (&self.memory_rings, memory.rings),
            (&self.memory_mailboxes, memory.mailboxes),
        ] {
            gauge.set(bytes as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = DurationHistogram::default();
        for us in [0, 1, 2, 3, 1 << 30] {
            histogram.record(Duration::from_micros(us));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[2], counts[DurationHistogram::BUCKETS - 1]), (2, 1, 1, 1));
        assert_eq!(DurationHistogram::upper_bound_us(2), Some(4));
        assert_eq!(DurationHistogram::upper_bound_us(DurationHistogram::BUCKETS - 1), None);
    }
}
