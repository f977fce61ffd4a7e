//! What cannot happen, unless a table of the relay is broken.
//!
//! Where a lookup must succeed, a silent `else { return }` turns a broken table into "nothing happens", and a panic ends every
//! game of the process. `impossible!` does neither: it counts, names its place once for the log, and the caller goes on without;
//! in debug builds it panics, so that a test or a simulation finds it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits::IMPOSSIBLE_PLACES_MAX;

/// Says that an invariant does not hold: `let Some(seat) = … else { return impossible!("a member has a seat") }`.
#[macro_export]
macro_rules! impossible {
    ($invariant:literal) => {{
        static PLACE: $crate::impossible::Place =
            $crate::impossible::Place::new($invariant, ::std::file!(), ::std::line!());
        PLACE.reached()
    }};
}

/// A place in the code that is never reached.
#[derive(Debug)]
pub struct Place {
    /// What should hold.
    pub invariant: &'static str,
    /// Source file.
    pub file: &'static str,
    /// Line in it.
    pub line: u32,
    times: AtomicU64,
}

/// How often a place of this process was reached.
static TIMES: AtomicU64 = AtomicU64::new(0);
/// The places that were reached, in the order of their first time.
static REACHED: [OnceLock<&'static Place>; IMPOSSIBLE_PLACES_MAX] =
    [const { OnceLock::new() }; IMPOSSIBLE_PLACES_MAX];
/// How many places were reached, including those for which `REACHED` has no room.
static PLACES: AtomicUsize = AtomicUsize::new(0);

impl Place {
    /// For `impossible!`.
    pub const fn new(invariant: &'static str, file: &'static str, line: u32) -> Self {
        Self { invariant, file, line, times: AtomicU64::new(0) }
    }

    /// Counts that the place was reached.
    ///
    /// # Panics
    /// In debug builds.
    #[cold]
    #[inline(never)]
    pub fn reached(&'static self) {
        self.count();
        debug_assert!(false, "broken invariant: {} ({}:{})", self.invariant, self.file, self.line);
    }

    fn count(&'static self) {
        TIMES.fetch_add(1, Ordering::Relaxed);
        if self.times.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        if let Some(entry) = REACHED.get(PLACES.fetch_add(1, Ordering::Relaxed)) {
            // Every entry is given to one place only.
            let _ = entry.set(self);
        }
    }
}

/// How often any place of this process was reached.
pub fn times() -> u64 {
    TIMES.load(Ordering::Relaxed)
}

/// The place that was reached for the first time after `earlier` others; `None`: none yet.
pub fn reached(earlier: usize) -> Option<&'static Place> {
    REACHED.get(earlier)?.get().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_each_time_and_is_named_once() {
        static ONE: Place = Place::new("one", "a.rs", 1);
        static OTHER: Place = Place::new("other", "b.rs", 2);
        for place in [&ONE, &ONE, &OTHER, &ONE] {
            place.count();
        }
        assert_eq!((ONE.times.load(Ordering::Relaxed), OTHER.times.load(Ordering::Relaxed)), (3, 1));
        assert!(times() >= 4);
        let named: Vec<u32> =
            (0..).map_while(reached).filter(|place| place.file.len() == 4).map(|place| place.line).collect();
        assert_eq!(named, [1, 2]);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "broken invariant: one is two (src/impossible.rs:"))]
    fn a_debug_build_stops_there() {
        let earlier = times();
        let Some(()) = None::<()> else {
            impossible!("one is two");
            return assert!(times() > earlier);
        };
    }
}
