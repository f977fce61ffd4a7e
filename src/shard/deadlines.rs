//! When to look at which connection again: buckets of 50 ms, filled once per look, not once per message.

use std::collections::BTreeMap;
use std::vec;

use crate::ids::ConnId;
use crate::memory::Allocated;
use crate::time::Instant;

const BUCKET_US: u64 = 50_000;

/// A connection is in at most one bucket that counts: `Connection::check_bucket` names it, and an entry elsewhere is stale.
/// A deadline that moves away costs nothing: the connection is looked at, and put into a later bucket.
///
/// Whoever expires them need not take all at once: the rest of a bucket stays due. Nothing is put into a bucket that is
/// over, so what is taken is never looked at twice.
#[derive(Debug, Default)]
pub struct Deadlines {
    buckets: BTreeMap<u32, Vec<ConnId>>,
    /// The bucket that is being worked off, and the rest of it. Its memory goes with its last connection.
    expiring: Option<(u32, vec::IntoIter<ConnId>)>,
}

impl Deadlines {
    /// Looks at `conn` at `at`, which is not in the past, or up to a bucket later, unless it is looked at before.
    pub fn schedule(&mut self, conn: ConnId, check_bucket: &mut u32, at: Instant) {
        let bucket = u32::try_from(at.as_micros() / BUCKET_US + 1).unwrap_or(u32::MAX);
        if *check_bucket != 0 && *check_bucket <= bucket {
            return;
        }
        *check_bucket = bucket;
        let conns = self.buckets.entry(bucket).or_default();
        if conns.len() == conns.capacity() {
            // Grows by an eighth instead of doubling: every one of a million players is in here.
            conns.reserve_exact(4.max(conns.len() / 8));
        }
        conns.push(conn);
    }

    /// The next connection of the buckets that are over, with the bucket it must be in to count.
    pub fn expire(&mut self, now: Instant) -> Option<(u32, ConnId)> {
        loop {
            if let Some((bucket, conns)) = &mut self.expiring
                && let Some(conn) = conns.next()
            {
                return Some((*bucket, conn));
            }
            self.expiring = None;
            let first = self.buckets.first_entry().filter(|first| Self::end_of(*first.key()) <= now)?;
            let (bucket, conns) = first.remove_entry();
            self.expiring = Some((bucket, conns.into_iter()));
        }
    }

    /// When the next bucket is over.
    pub fn next(&self) -> Option<Instant> {
        let expiring = self.expiring.as_ref().filter(|(_, conns)| conns.len() > 0).map(|(bucket, _)| bucket);
        expiring.or(self.buckets.keys().next()).map(|bucket| Self::end_of(*bucket))
    }

    /// Bytes of all buckets but the one that is being worked off; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.buckets.allocated_bytes() + self.buckets.values().map(Vec::allocated_bytes).sum::<usize>()
    }

    fn end_of(bucket: u32) -> Instant {
        Instant::from_micros(u64::from(bucket) * BUCKET_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    #[test]
    fn the_earliest_look_counts_and_none_is_early() {
        let mut deadlines = Deadlines::default();
        let mut bucket = 0;
        deadlines.schedule(conn(1), &mut bucket, Instant::from_micros(1_000_000));
        deadlines.schedule(conn(1), &mut bucket, Instant::from_micros(2_000_000));
        assert_eq!(deadlines.next(), Some(Instant::from_micros(1_050_000)));
        deadlines.schedule(conn(1), &mut bucket, Instant::from_micros(500_001));
        assert_eq!(deadlines.expire(Instant::from_micros(549_999)), None);
        assert_eq!(deadlines.expire(Instant::from_micros(550_000)), Some((bucket, conn(1))));
        let stale = deadlines.expire(Instant::from_micros(5_000_000)).unwrap();
        assert_ne!(stale.0, bucket);
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.expire(Instant::from_micros(5_000_000)), None);
    }

    #[test]
    fn the_rest_of_a_bucket_stays_due_before_whatever_is_scheduled_meanwhile() {
        let mut deadlines = Deadlines::default();
        let now = Instant::from_micros(1_050_000);
        for slot in 0..3 {
            deadlines.schedule(conn(slot), &mut 0, Instant::from_micros(1_000_000));
        }
        let mut bucket = 0;
        assert_eq!(deadlines.expire(now), Some((21, conn(0))));
        deadlines.schedule(conn(0), &mut bucket, now);
        assert_eq!((bucket, deadlines.next()), (22, Some(now)));
        let rest = [(); 3].map(|()| deadlines.expire(now));
        assert_eq!(rest, [Some((21, conn(1))), Some((21, conn(2))), None], "the first one is not due again");
        assert_eq!(deadlines.next(), Some(Instant::from_micros(1_100_000)));
    }

    #[test]
    fn a_full_bucket_has_an_eighth_to_spare_at_most_and_leaves_nothing_behind() {
        let mut deadlines = Deadlines::default();
        (0..10_000).for_each(|slot| deadlines.schedule(conn(slot), &mut 0, Instant::from_micros(1_000_000)));
        let capacity = deadlines.buckets[&21].capacity();
        assert!((10_000..=11_250).contains(&capacity), "{capacity}");
        let now = Instant::from_micros(1_050_000);
        assert_eq!(std::iter::from_fn(|| deadlines.expire(now)).count(), 10_000);
        assert!(deadlines.buckets.is_empty() && deadlines.expiring.is_none());
    }
}
