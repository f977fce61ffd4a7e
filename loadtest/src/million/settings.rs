//! What a run is asked to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::layout::ActiveGames;
use crate::tokens::Tokens;

/// Name of the relay's binary, beside this one.
const RELAY_BINARY: &str = "corelay";

/// What a run is.
#[derive(Clone)]
pub struct MillionSettings {
    /// Which relay.
    pub relay: RelayChoice,
    /// Connections at the top; whole games.
    pub connections: u32,
    /// Players of each game.
    pub players: u32,
    /// New connections per second.
    pub ramp_per_s: f64,
    /// Everybody is silent.
    pub quiet: Duration,
    /// Then the active games move.
    pub hold: Duration,
    /// These.
    pub active_games: ActiveGames,
    /// Moves per second of each of their players.
    pub hz: f64,
    /// Decides when they move, and the names of the games.
    pub seed: u64,
    /// Who the players say they are.
    pub tokens: Tokens,
}

/// Which relay is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayChoice {
    /// One of our own, started for the run and ended with it.
    Start(PathBuf),
    /// One that is there.
    Running {
        /// `ws://host:port`.
        url: String,
        /// Its metrics; `None`: port 4001 of the same host.
        metrics_url: Option<String>,
        /// Its process, if it is on this machine and has no metrics.
        pid: Option<u32>,
    },
}

/// The binary to start: `given`, `corelay` beside this program, or what `$CORELAY` names.
pub fn relay_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("the name of this program")?;
    let beside = own.with_file_name(RELAY_BINARY);
    let named = std::env::var_os("CORELAY").map(PathBuf::from);
    if beside.is_file() {
        return Ok(beside);
    }
    named.with_context(|| {
        format!(
            "there is no relay to start: no {}, and $CORELAY is not set. Build it (cargo build --release), name it with --relay, \
             or point to one that runs with --url",
            beside.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_is_given_is_taken() {
        let given = relay_binary(Some(Path::new("/x/corelay"))).unwrap();
        assert_eq!(given, Path::new("/x/corelay"));
    }
}
