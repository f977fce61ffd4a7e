//! Load test for corelay: io_uring clients, an open loop, latency from the intended send time.
//!
//! The modules stand in reading order, which is also the order of the floors: a module may use itself and what stands above
//! it in this list, never what stands below; and no two files use each other, however many stand between
//! (`tests/layers/` of the relay checks both).
#![deny(unsafe_code)]
#![allow(unreachable_pub, reason = "a binary has no outside: pub is for its other modules")]

// Floor 1: time, numbers, and what is asked of them.
mod clock;
mod counters;
mod endings;
mod schedule;
mod alignment;
mod views;
mod figures;
mod assertions;
mod outcomes;
mod ledger;

// Floor 2: bytes <-> messages, without a socket.
mod frames;
mod handshake;
mod secure;
mod tokens;
mod dialect;
mod client;

// Floor 3: the kernel: sockets, limits, and what it tells of processes and of the machine.
mod uring;
mod process;
mod limits;
mod machine;
mod disk;
mod target;
mod server;
mod relay;

// Floor 4: the connections of one thread, their moves, what they say, and what they edit.
mod crowd;
mod moves;
mod talk;
mod edits;

// Floor 5: what scenarios have in common: what they are asked, how crowds come together, players that move, what they leave behind, and where they are.
mod arguments;
mod assembly;
mod players;
mod report;
mod venue;
#[cfg(test)]
mod pretend_relay;

// Floor 6: the scenarios, which never see each other.
mod rooms;
mod idle;
mod storm;
mod million;
mod chat;
mod documents;
mod reconnect;
mod walk;

// Floor 7: scenarios again and again: with more connections, or against one server after the other.
mod scaling;
mod compare;

// Floor 8: the command line.
mod cli;

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
        Command::Chat(arguments) => chat::run(arguments, &interrupted),
        Command::Documents(arguments) => documents::run(arguments, &interrupted),
        Command::Reconnect(arguments) => reconnect::run(arguments, &interrupted),
        Command::Walk(arguments) => walk::run(arguments, &interrupted),
        Command::Scaling(arguments) => scaling::run(arguments, &interrupted),
        Command::Compare(arguments) => compare::run(arguments, &interrupted),
    }
}
