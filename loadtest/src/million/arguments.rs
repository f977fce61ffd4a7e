//! Arguments of `million`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use super::layout::ActiveGames;
use crate::arguments::{Output, positive};

pub const HELP: &str = "\
What is measured
  A relay is started for the run. Whole games of --players join at --ramp connections a second,
  in an open loop. Then nobody moves for --quiet; then the players of --active-games move at --hz
  for --hold, while all others answer pings. In the end everybody says goodbye. The relay pings
  after 60 s of silence, so --quiet and --hold should be whole multiples of that: each then holds
  as many pings of every silent player as any other 60 s.

  latency  Of a move at another player of its game: from when the move was *meant* to be sent
           to the arrival of the first frame that holds it or a newer one.
  reach    Of the moves meant for the hold, at each other player of the game: those that
           arrived, or a newer one did, at most 1 s late / all.

  What does not fit on this machine is told before the first connection. Ctrl-C ends the run and
  reports what was measured.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest million --json million.json \\
      --assert 'joined==1000000,dropped==0,reach>=0.999,p99<=300ms,user_bytes_per_player<=320'
  corelay-loadtest million --connections 20000 --quiet 5s --hold 10s --active-games 20
";

/// What the players do, at any number of them.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Players of each game
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub players: u32,
    /// New connections per second
    #[arg(long, default_value_t = 20_000.0, value_parser = positive)]
    pub ramp: f64,
    /// How long everybody is silent; a window of 60 s holds one ping of every silent player
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub quiet: Duration,
    /// How long the active games move; the same holds of the others
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub hold: Duration,
    /// Games that move: a share of all below 1, or how many (all, if there are fewer)
    #[arg(long, default_value = "0.005", value_parser = active_games)]
    pub active_games: ActiveGames,
    /// Moves per second of each player of an active game
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub hz: f64,
    /// Decides when they move, and the names of the games
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The relay to start; default: corelay beside this program, else $CORELAY
    #[arg(long, value_name = "FILE")]
    pub relay: Option<PathBuf>,
    /// Connections at the top; whole games
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub connections: u32,
    #[command(flatten)]
    pub load: Load,
    #[command(flatten)]
    pub output: Output,
}

/// `0.005` of all games, or `20` games.
fn active_games(text: &str) -> Result<ActiveGames, String> {
    match (text.parse::<u32>(), text.parse::<f64>()) {
        (Ok(games), _) if games > 0 => Ok(ActiveGames::Games(games)),
        (_, Ok(share)) if share > 0.0 && share < 1.0 => Ok(ActiveGames::Share(share)),
        _ => Err("it must be a share above 0 and below 1, or a whole number of games".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_games_are_a_share_or_a_number() {
        assert_eq!(active_games("0.005"), Ok(ActiveGames::Share(0.005)));
        assert_eq!(active_games("20"), Ok(ActiveGames::Games(20)));
        for bad in ["0", "1.5", "-0.1", "all"] {
            assert!(active_games(bad).is_err(), "{bad}");
        }
    }
}
