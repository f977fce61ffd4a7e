//! The simulation finds each of the bugs that are planted on purpose, and soon.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use corelay::planted::{Bug, plant};

use super::run::Run;

/// So many seeds find every bug.
const SEEDS_MAX: u64 = 500;

#[test]
#[allow(clippy::print_stdout, reason = "it is what a test has to say")]
fn planted_bugs_are_found() {
    let hook = take_hook();
    set_hook(Box::new(move |info| {
        if !IS_LOOKING.get() {
            hook(info);
        }
    }));
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(Bug, Option<Finding>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let finding = first_finding(*bug);
                    found.lock().expect("no panic under it").push((*bug, finding));
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic under it");
    for (bug, finding) in &found {
        if let Some(Finding { seed, oracle }) = finding {
            println!("{:<20} seed {seed:>3}  {oracle}", format!("{bug:?}"));
        }
    }
    let missed: Vec<Bug> = found.iter().filter(|(_, found)| found.is_none()).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}

struct Finding {
    seed: u64,
    /// The beginning of the failed assertion's text.
    oracle: String,
}

thread_local! {
    /// A panic on this thread is what is looked for.
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

fn first_finding(bug: Bug) -> Option<Finding> {
    IS_LOOKING.set(true);
    let fails = |seed: u64, bug: Option<Bug>| {
        plant(bug);
        catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())).err()
    };
    let mut findings = (0..SEEDS_MAX).filter_map(|seed| {
        let panic = fails(seed, Some(bug))?;
        fails(seed, None).is_none().then(|| Finding { seed, oracle: said(&*panic) })
    });
    let finding = findings.next();
    IS_LOOKING.set(false);
    finding
}

/// The beginning of what a panic says, in one line.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(100).collect()
}

/// `CORELAY_SIM_BUG=KeepsTopic` plants that bug, to look at what it does.
pub fn plant_from_environment() {
    let name = std::env::var("CORELAY_SIM_BUG").unwrap_or_default();
    plant(Bug::ALL.iter().copied().find(|bug| format!("{bug:?}") == name));
}
