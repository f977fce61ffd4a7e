//! Arguments of `rooms`.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use crate::arguments::{Common, positive};
use crate::dialect::DialectName;

pub const HELP: &str = "\
What is measured
  Every player sends a Move --hz times a second at a phase of its own (an open loop: nothing
  that the relay does slows it down). The position carries who sent it and which move it is.

  latency  Of a move at another player of the room: from when the move was *meant* to be sent to
           the arrival of the first frame that holds it or a newer one of the same player. With
           ticks of 50 ms it lies between 0 and 50 ms, plus what the relay and this machine add.
           Arrivals are seen at most 0.5 ms late.
  reach    fresh / expected. Expected: for each move that was meant for the measured window, one
           view for each other player of the room (also for players that could not join, or were
           closed). Fresh: that move, or a newer one of the same player, arrived at most --grace
           after its intended time.

  --aligned: in the middle of --warmup each player moves its phase so that its moves arrive 3 ms,
  and twice their jitter, before its tick, as a client library does by what Acks tell.

  Timeline: join (--ramp), --warmup, the measured window of --duration, --grace; then every
  player says goodbye. Ctrl-C ends the window at once and reports what was measured; a second
  one ends everything.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest rooms --rooms 40 --players 50 --hz 20 --duration 30s --seed 1 \\
      --assert 'reach>=0.999,p99<=75ms,closed==0' --json result.json
  corelay-loadtest rooms --rooms 40 --players 50 --aligned
  corelay-loadtest rooms --dialect phoenix --rooms 40 --players 50 --assert 'reach>=0.999'
  corelay-loadtest rooms --token-key-file corelay.key      (a relay with tokens)
  corelay-loadtest rooms --url wss://localhost:4443 --tls-ca localhost.crt      (a relay with TLS)
";

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub load: Load,
    /// What the players speak
    #[arg(long, value_enum, default_value_t = DialectName::Native)]
    pub dialect: DialectName,
    /// Send just before the ticks of the game, where Acks say that they are (native dialect); else each player at a phase of
    /// its own
    #[arg(long)]
    pub aligned: bool,
    /// Threads, each with a ring of its own; a room stays on one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Extra members of the first room that join and then never read again
    #[arg(long, default_value_t = 0)]
    pub stalled: u32,
}

/// What the players do, against any server.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Number of rooms
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Players in each room
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub players: u32,
    /// Moves per second of each player
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub hz: f64,
    /// Length of the measured window
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Load before the window
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// How long after its intended time a move may arrive and still be fresh
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub grace: Duration,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides every player's phase, and the names of the games
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
