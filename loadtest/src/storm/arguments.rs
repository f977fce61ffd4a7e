//! Arguments of `storm`.

use std::time::Duration;

use clap::Args;

use crate::arguments::{Common, duration, topic};

pub const HELP: &str = "\
What is measured
  --clients Phoenix clients connect and join one --topic, one every --over / --clients, whatever
  the relay does. They stay, and are watched for --hold after the last one has joined.

  latency  From when a client was *meant* to connect to its join reply (join_*), and to the
           first presence_state after that reply (state_*). At most 512 clients are between
           connect and join reply at a time; one that therefore begins later has the waiting in
           its latency, and start_lateness_max tells of it.
  presence_frames_per_s_max
           Of each client the most presence_state, presence_diff and presence_count messages
           in any second (sliding, not clock seconds); of these the largest.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Example
  corelay-loadtest storm --clients 5000 --over 10s --topic room:lobby \\
      --assert 'joined==5000,stateless==0,presence_frames_per_s_max<=20,closed==0'
";

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// How many join
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// Over which time they are spread evenly
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub over: Duration,
    /// What they join
    #[arg(long, default_value = "room:lobby", value_parser = topic)]
    pub topic: String,
    /// How long they are watched after the last one has joined
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub hold: Duration,
}
