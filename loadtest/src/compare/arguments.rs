//! Arguments of `compare`.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use super::contender::Contender;
use super::figures;
use crate::arguments::{EXIT_CODES, Output};
use crate::rooms::Load;

const HELP: &str = "\
What is measured
  In each of --rounds the load of `rooms` runs against one server after the other: corelay and
  bare (a loop that only receives and sends) in the native dialect, fastwebsockets,
  tokio-tungstenite and every --peer in the raw one. Each but the --peers is started here and
  ended; it is looked for beside this program. Then memory is measured once per server, as `idle`
  does it.

  Ratios are corelay's value / that of the server, of the same round. corelay does better where
  deliveries_ratio is above 1, and where p50_ratio, p99_ratio and memory_ratio are below. A
  server that relays every message singly delivers more and smaller frames: compare
  positions_ratio then. Ctrl-C ends everything and tells of the rounds that are complete.

Figures, in the table, in --assert and in --json (NAME: corelay, fastwebsockets, …; each is a
median, and also there with _min and _max):
";

const EXAMPLE: &str = "
Examples
  corelay-loadtest compare --assert 'fastwebsockets.deliveries_ratio>=1.5,bare.deliveries_ratio>=0.87'
  corelay-loadtest compare --only bare --threads 1
  corelay-loadtest compare --only fastwebsockets --peer mine=ws://127.0.0.1:9000@$(pidof mine)
";

#[derive(Clone, Debug, Args)]
#[command(mut_arg("duration", |argument| argument.default_value("3s")))]
#[command(mut_arg("warmup", |argument| argument.default_value("500ms")))]
#[command(mut_arg("grace", |argument| argument.default_value("500ms")))]
pub struct Arguments {
    #[command(flatten)]
    pub load: Load,
    /// How often each server has its turn: many short ones, since a virtual machine's speed changes within minutes
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Compare with these only: fastwebsockets, tokio-tungstenite, bare
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// A server that runs already and speaks the raw dialect; with its process id also its processor time and memory are known
    #[arg(long = "peer", value_name = "NAME=URL[@PID]")]
    pub peers: Vec<Contender>,
    /// Shards of corelay, and worker threads of the peers (bare has one) [default: one per processor]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: Option<u32>,
    /// Threads of the load test
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub client_threads: u32,
    /// Numbers of idle connections between which memory is compared, rising
    #[arg(long, default_value = "1000,8000", value_delimiter = ',')]
    pub idle: Vec<u32>,
    /// Silence before memory is read
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub hold: Duration,
    /// Do not measure memory
    #[arg(long)]
    pub skip_memory: bool,
    #[command(flatten)]
    pub output: Output,
}

/// What `--help` says behind the options.
pub fn help() -> String {
    format!("{HELP}{}{EXAMPLE}\n{EXIT_CODES}", figures::help())
}
