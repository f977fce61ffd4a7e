//! Arguments of `idle`.

use std::time::Duration;

use clap::Args;

use crate::arguments::{Common, duration, positive, topic};
use crate::dialect::DialectName;

pub const HELP: &str = "\
What is measured
  For each number of --connections: so many players join (in rooms of --players), each sends one
  Move, then all are silent for --hold (pings are answered), then the relay's resident memory is
  read. The slope between the first and the last number is what one idle player costs: its
  connection, its seat and its roster entry.

  --dialect phoenix: the members join topics --topic-prefix0, 1, 2, … on /socket/websocket,
  --per-topic of them each; none sends anything but its join and heartbeats. The memory is
  read when everybody has its join reply and presence_state, and --hold is over.

Figures, as in the table and in --assert:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest idle --connections 2000,15000 --assert 'slope<=320,closed==0'
  corelay-loadtest idle --dialect phoenix --topic-prefix room:idle- --per-topic 50 \\
      --connections 2000,15000 --assert 'slope<=1500,stateless==0,closed==0'
";

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// What the members speak
    #[arg(long, value_enum, default_value_t = DialectName::Native)]
    pub dialect: DialectName,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Phoenix dialect: the topics are this and a number
    #[arg(long, default_value = "room:idle-", value_parser = topic)]
    pub topic_prefix: String,
    /// Numbers of members, rising
    #[arg(long, default_value = "2000,15000", value_delimiter = ',')]
    pub connections: Vec<u32>,
    /// Members of each room or topic
    #[arg(long, visible_alias = "per-topic", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub players: u32,
    /// Silence before the memory is read
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub hold: Duration,
    /// Decides the names of the games
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
