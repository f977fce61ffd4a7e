//! Interest against a plain model, from seeds: clients that miss frames, join, leave, come back, teleport and crowd together. After
//! every frame a client sees exactly who is in its view's cells, no position is older than its period allows, and when all rest,
//! everything that a client has is what is.
//!
//! A failing run names its seed; `CORELAY_INTEREST_SEED=7` repeats one, `CORELAY_INTEREST_TICKS=1000000` runs that many ticks.

mod client;
mod engages;
#[cfg(feature = "planted")]
mod planted;
#[path = "../simulation/random.rs"]
mod random;
mod run;
mod viewpoint;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use run::{Counts, Run};

/// Ticks of an ordinary test run.
const TICKS: u64 = 100_000;

#[test]
fn clients_see_exactly_who_is_in_view_and_nothing_old() {
    if let Some(seed) = number("CORELAY_INTEREST_SEED") {
        #[cfg(feature = "planted")]
        planted::plant_from_environment();
        return println!("{:?}", Run::new(seed).run());
    }
    let ticks = number("CORELAY_INTEREST_TICKS").unwrap_or(TICKS);
    let next = AtomicU64::new(0);
    let counts = Mutex::new(Counts::default());
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let work = || {
        while counts.lock().unwrap().ticks < ticks && failed.lock().unwrap().is_empty() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            match catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
                Ok(of_run) => counts.lock().unwrap().add(&of_run),
                Err(_) => failed.lock().unwrap().push(seed),
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    let (counts, failed) = (counts.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("{counts:?}");
    let repeat =
        "CORELAY_INTEREST_SEED=… cargo test --no-default-features --test interest_oracle clients_see";
    assert!(failed.is_empty(), "seeds {failed:?} failed, see above; one again: {repeat}");
    assert_eq!(counts.never(), Vec::<&str>::new(), "it never happened");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        assert_eq!(Run::new(seed).run(), Run::new(seed).run(), "seed {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
