//! The relay under rough handling, from seeds: native players and Phoenix clients in the same games and rooms, over a network, a
//! kernel and mailboxes that fail in every way that they can. Whatever happens, nobody misses an event without being told, every
//! view ends as what a newcomer is told, everybody knows who is here, nothing grows beyond its bound, and nothing is left when all
//! have gone.
//!
//! A failing run names its seed; `CORELAY_SIM_SEED=7` repeats one, `CORELAY_SIM_TRACE=1` prints what happens in it, and
//! `CORELAY_SIM_SEEDS=20000` runs that many.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod client;
#[path = "../support/edits.rs"]
mod edits;
mod faults;
#[path = "../support/histories.rs"]
mod histories;
mod ledger;
#[path = "../support/phoenix.rs"]
mod phoenix;
#[cfg(feature = "planted")]
mod planted;
mod player;
mod random;
#[path = "../support/store.rs"]
mod store;
#[path = "../support/records.rs"]
mod records;
mod relay;
#[path = "../support/replica.rs"]
mod replica;
mod rest;
mod run;
mod runner;
mod socket;
mod topics;
mod trace;
mod wire;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 1_000;

#[test]
fn nothing_is_lost_in_silence_whatever_goes_wrong() {
    runner::run_seeds(SEEDS);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let [first, second] = [(); 2].map(|()| run::Run::new(seed).run().trace);
        assert_eq!(first, second, "seed {seed}");
    }
}
