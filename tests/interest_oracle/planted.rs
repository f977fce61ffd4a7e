//! The oracle finds each rule that is taken away.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use corelay::planted::{Bug, plant};

use super::run::Run;

/// So many seeds find every bug.
const SEEDS_MAX: u64 = 100;

#[test]
fn planted_bugs_are_found() {
    let hook = take_hook();
    set_hook(Box::new(move |info| {
        if !IS_LOOKING.get() {
            hook(info);
        }
    }));
    let missed: Vec<Bug> = Bug::INTEREST.iter().copied().filter(|bug| !is_found(*bug)).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}

thread_local! {
    /// A panic on this thread is what is looked for.
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Prints the first seed that finds the bug, and how.
#[allow(clippy::print_stdout, reason = "it is what a test has to say")]
fn is_found(bug: Bug) -> bool {
    IS_LOOKING.set(true);
    let fails = |seed: u64, bug: Option<Bug>| {
        plant(bug);
        let panic = catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())).err();
        plant(None);
        panic
    };
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let panic = fails(seed, Some(bug))?;
        fails(seed, None).is_none().then(|| (seed, said(&*panic)))
    });
    IS_LOOKING.set(false);
    if let Some((seed, oracle)) = &found {
        println!("{:<20} seed {seed:>3}  {oracle}", format!("{bug:?}"));
    }
    found.is_some()
}

/// The beginning of what a panic says, in one line.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(100).collect()
}

/// `CORELAY_INTEREST_BUG=HidesDepartures` plants that bug, to look at what it does.
pub fn plant_from_environment() {
    let name = std::env::var("CORELAY_INTEREST_BUG").unwrap_or_default();
    plant(Bug::INTEREST.iter().copied().find(|bug| format!("{bug:?}") == name));
}
