//! Load test for corelay: io_uring clients, an open loop, latency from the intended send time.
//!
//! Bottom up: bytes (`handshake`, `frames`; `tokens` and the `dialect`s; `client`); what is measured (`counters`, `schedule`,
//! `views`, `told`, `figures`, `assertions`); the kernel (`clock`, `uring`, `server`, `limits`); the connections of a thread
//! (`crowd`, `moves`); the scenarios (`play`, `rooms` and its `summary`; `idle`; `storm`; `million`, which gives a `measurement`)
//! and their `report`; and several of them, on one server after the other (`scaling`, `compare`).
#![deny(unsafe_code)]
#![allow(unreachable_pub, reason = "a binary has no outside: pub is for its other modules")]

mod assertions;
mod cli;
mod client;
mod clock;
mod compare;
mod counters;
mod crowd;
mod dialect;
mod figures;
mod frames;
mod handshake;
mod idle;
mod limits;
mod machine;
mod measurement;
mod million;
mod moves;
mod play;
mod report;
mod rooms;
mod scaling;
mod schedule;
mod server;
mod storm;
mod summary;
mod target;
mod tokens;
mod told;
mod uring;
mod views;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the one place that tells why nothing could be measured")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

/// Whether whoever started this process has it ignore the signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

fn run(cli: &Cli) -> anyhow::Result<bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    // What nohup has made this process ignore stays ignored.
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)) {
        // In this order: the first signal sets the flag, the second finds it set and ends the process.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    match &cli.command {
        Command::Rooms(arguments) => rooms::run(arguments, &interrupted),
        Command::Idle(arguments) => idle::run(arguments, &interrupted),
        Command::Storm(arguments) => storm::run(arguments, &interrupted),
        Command::Million(arguments) => million::run(arguments, &interrupted),
        Command::Scaling(arguments) => scaling::run(arguments, &interrupted),
        Command::Compare(arguments) => compare::run(arguments, &interrupted),
    }
}
