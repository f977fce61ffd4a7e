//! Many seeds, over all CPUs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::faults::Counts;
use super::run::Run;

/// Seeds that fail before the rest is not run any more.
const FAILURES_MAX: usize = 5;

/// Runs `seeds` seeds, or what the environment asks for. Every fault and every branch must have happened.
#[allow(clippy::print_stdout, reason = "it is what a test has to say")]
pub fn run_seeds(seeds: u64) {
    if let Some(seed) = number("CORELAY_SIM_SEED") {
        #[cfg(feature = "planted")]
        super::planted::plant_from_environment();
        println!("{}", Run::new(seed).run().counts.table());
        return;
    }
    let seeds = number("CORELAY_SIM_SEEDS").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let counts = Mutex::new(Counts::default());
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let work = || {
        #[cfg(feature = "planted")]
        super::planted::plant_from_environment();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.lock().expect("no panic under it").len() >= FAILURES_MAX {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
                Ok(outcome) => counts.lock().expect("no panic under it").add(&outcome.counts),
                Err(_) => {
                    println!("seed {seed} failed");
                    failed.lock().expect("no panic under it").push(seed);
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|number| drop(spawn(scope, number, &work))));
    let failed = failed.into_inner().expect("no panic under it");
    let counts = counts.into_inner().expect("no panic under it");
    println!("{}", counts.table());
    let repeat = "CORELAY_SIM_SEED=… cargo nextest run -p corelay --test simulation nothing_is_lost";
    assert!(failed.is_empty(), "seeds {failed:?} failed, see above; one again: {repeat}");
    assert!(counts.missing().is_empty(), "in {seeds} seeds there never was: {:?}", counts.missing());
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    number: usize,
    work: &'scope (impl Fn() + Sync),
) -> thread::ScopedJoinHandle<'scope, ()> {
    let thread = thread::Builder::new().name(format!("seeds-{number}"));
    thread.spawn_scoped(scope, work).expect("a thread")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
