//! When to look at which connection again: buckets of 50 ms, filled once per look, not once per message.

use std::collections::BTreeMap;

use crate::ids::ConnId;
use crate::time::Instant;

const BUCKET_US: u64 = 50_000;

/// A connection is in at most one bucket that counts: `Connection::check_bucket` names it, and an entry elsewhere is stale.
/// A deadline that moves away costs nothing: the connection is looked at, and put into a later bucket.
#[derive(Debug, Default)]
pub struct Deadlines {
    buckets: BTreeMap<u32, Vec<ConnId>>,
}

impl Deadlines {
    /// Looks at `conn` at `at` or up to a bucket later, unless it is looked at before.
    pub fn schedule(&mut self, conn: ConnId, check_bucket: &mut u32, at: Instant) {
        let bucket = u32::try_from(at.as_micros() / BUCKET_US + 1).unwrap_or(u32::MAX);
        if *check_bucket != 0 && *check_bucket <= bucket {
            return;
        }
        *check_bucket = bucket;
        self.buckets.entry(bucket).or_default().push(conn);
    }

    /// The connections of the first bucket that is over, with the bucket they must be in to count.
    pub fn expire(&mut self, now: Instant) -> Option<(u32, Vec<ConnId>)> {
        let first = self.buckets.first_entry()?;
        (Self::end_of(*first.key()) <= now).then(|| first.remove_entry())
    }

    /// When `expire` has something to say next.
    pub fn next(&self) -> Option<Instant> {
        self.buckets.first_key_value().map(|(bucket, _)| Self::end_of(*bucket))
    }

    fn end_of(bucket: u32) -> Instant {
        Instant::from_micros(u64::from(bucket) * BUCKET_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_look_counts_and_none_is_early() {
        let conn = ConnId { slot: 1, generation: 0 };
        let mut deadlines = Deadlines::default();
        let mut bucket = 0;
        deadlines.schedule(conn, &mut bucket, Instant::from_micros(1_000_000));
        deadlines.schedule(conn, &mut bucket, Instant::from_micros(2_000_000));
        assert_eq!(deadlines.next(), Some(Instant::from_micros(1_050_000)));
        deadlines.schedule(conn, &mut bucket, Instant::from_micros(500_001));
        assert_eq!(deadlines.expire(Instant::from_micros(549_999)), None);
        assert_eq!(deadlines.expire(Instant::from_micros(550_000)), Some((bucket, vec![conn])));
        let stale = deadlines.expire(Instant::from_micros(5_000_000)).unwrap();
        assert_ne!(stale.0, bucket);
        assert_eq!(deadlines.next(), None);
    }
}
