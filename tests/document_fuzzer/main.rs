//! A document under rough handling, from seeds: five clients edit it at once over connections that are slow and break, the relay
//! is killed and started over the same disk, the store stands still and refuses. When it is quiet, all have the same text, and
//! every edit that was acknowledged is in it once.
//!
//! `CORELAY_FUZZ_SEEDS=10000` runs that many seeds, `CORELAY_FUZZ_SEED=7` that one. The simulation (`tests/simulation/`) has rooms
//! and games around its documents, and a network that is worse; here there are more operations, up to snapshots and beyond what
//! is kept, in less time.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod author;
#[path = "../support/edits.rs"]
mod edits;
mod fuzz;
#[path = "../support/histories.rs"]
mod histories;
#[path = "../simulation/random.rs"]
mod random;
#[path = "../support/replica.rs"]
mod replica;
#[path = "../world/mod.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fuzz::{Counts, Fuzz};
use world::store;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

#[test]
#[allow(clippy::print_stdout, reason = "it is what a test has to say")]
fn all_have_the_text_in_which_every_acknowledged_edit_is_once() {
    if let Some(seed) = number("CORELAY_FUZZ_SEED") {
        return println!("{:?}", Fuzz::new(seed).run());
    }
    let seeds = number("CORELAY_FUZZ_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let counts: Mutex<Counts> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| Fuzz::new(seed).run())) {
                Ok(more) => counts.lock().expect("no panic under it").add(more),
                Err(_) => {
                    println!("seed {seed} failed");
                    failed.lock().expect("no panic under it").push(seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (failed, counts) = (failed.into_inner(), counts.into_inner().expect("no panic under it"));
    println!("{counts:?}");
    let failed = failed.expect("no panic under it");
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; one again: CORELAY_FUZZ_SEED=… cargo test --test document_fuzzer"
    );
    counts.check();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
