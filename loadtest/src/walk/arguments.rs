//! Arguments of `walk`, and the game that they describe.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use humantime::parse_duration;

use crate::arguments::{Access, Output, positive};

pub const HELP: &str = "\
What is measured
  One game with a world of cells, --density players in each. Every player walks a way of its own at
  --speed and sends its place --hz times a second at a phase of its own, whatever the relay does (an
  open loop). Most go from one random point to another, and rest at a tenth of them, silent. One of
  ten oscillates over an edge between two cells, or leaps over it with every move. One of ten is in a
  train of ten that crosses edges together. --crowd P: that share of them stays in one cell.

  A relay is started for the run, and the game is played twice: without views, and with views
  (--no-views: the former alone). With --url it is played once, on a relay that runs already; what is
  allowed is then what its Welcome and its Layout say.

  Of --checked players, what they are shown is compared with the walks, four times a second each:

  missing   not seen, though in the cells of the view for 20 ticks, the 250 ms for which a view may
            lag behind its player, and --network, wherever the relay may have counted both
  ghosts    seen, though outside of the view all that time
  stale     seen at a place that was outdated (the player had sent the next one) for longer than the
            period of its ring, 2^min(ring, 2) ticks, and --network. At crowd level L, which frames
            tell, a period is 2^L times as long, 16 ticks at most. Without views it is one tick.
  late      the same, but all was right as of the tick of the player's last frame: frames are late.
            On a machine that is too busy there are some of these, and they say nothing of views
  age       for how long what is seen was outdated, by ring (age2: all that are farther than 1)

  --skip-permille P: so much of all players' time is spent in pauses of 4 s, in which a player that is
  checked reads nothing. It misses frames, and must be right again after it.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest walk --players 1000 --density 8 --cell 32 --radius 2 --seconds 20 \\
      --assert 'missing==0,ghosts==0,stale==0,closed==0,views.encodes_per_frame<=0.15'
  corelay-loadtest walk --players 1000 --crowd 0.5 --skip-permille 2 --number u16
  corelay-loadtest walk --players 200 --url ws://127.0.0.1:4000 --game arena --only-fill      (until Ctrl-C)
";

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// A relay that runs already; default: one is started for the run
    #[arg(long)]
    pub url: Option<String>,
    /// The relay to start; default: corelay beside this program, else $CORELAY
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub relay: Option<PathBuf>,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub output: Output,
    /// Name of the game
    #[arg(long, default_value = "walk")]
    pub game: String,
    /// Number of players
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub players: u32,
    /// Players per cell
    #[arg(long, default_value_t = 8.0, value_parser = positive)]
    pub density: f64,
    /// Side of a cell
    #[arg(long, default_value_t = 32.0, value_parser = positive)]
    pub cell: f64,
    /// How far a view reaches, in cells
    #[arg(long, default_value_t = 2)]
    pub radius: u8,
    /// Positions per frame that a view may have before it tells less often
    #[arg(long, default_value_t = 128)]
    pub budget: u32,
    /// How coordinates are told
    #[arg(long, value_enum, default_value = "f32")]
    pub number: Number,
    /// Moves a second of each player, and ticks of the relay that is started
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=120))]
    pub hz: u16,
    /// Distance that a player walks in a second
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub speed: f64,
    /// Share of the players that stay in one cell, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    pub crowd: f32,
    /// Time that players spend without reading, in thousandths
    #[arg(long, default_value_t = 0.0)]
    pub skip_permille: f64,
    /// How many players are checked
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub checked: u32,
    /// What the way to the relay and back may take
    #[arg(long, default_value = "250ms", value_parser = parse_duration)]
    pub network: Duration,
    /// Walking before the window; at least as long as checks look back
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Length of the measured window, in seconds
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub seconds: f64,
    /// Without views alone
    #[arg(long, conflicts_with = "url")]
    pub no_views: bool,
    /// Nothing is measured or checked: the players walk until they are ended
    #[arg(long, requires = "url")]
    pub only_fill: bool,
    /// New connections per second while joining
    #[arg(long, default_value_t = 1000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides everybody's way and phase
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `--number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Number {
    F32,
    U16,
}

impl Number {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::U16 => "u16",
        }
    }
}

impl Arguments {
    pub fn check(&self) -> anyhow::Result<()> {
        if !(0.0..=1.0).contains(&self.crowd) {
            bail!("--crowd {}: it must be a share, 0 to 1", self.crowd);
        }
        if !(0.0..=500.0).contains(&self.skip_permille) {
            bail!("--skip-permille {}: it must be 0 to 500", self.skip_permille);
        }
        Ok(())
    }

    /// Every so many players, one is checked.
    pub fn every(&self) -> u32 {
        (self.players / self.checked).max(1)
    }

    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Cells of the world in a row.
    pub fn cells(&self) -> u32 {
        ((f64::from(self.players) / self.density).sqrt().round() as u32).max(1)
    }

    /// The text of the configuration file of the relay that is started.
    pub fn configuration(&self, has_views: bool) -> String {
        let &Self { players, cell, radius, budget, hz, .. } = self;
        let (side, moves) = (f64::from(self.cells()) * cell, 2 * hz);
        let number = self.number.name();
        let view = format!(
            "view = {{ cell = {cell}, radius = {radius}, radius_max = {radius}, budget = {budget} }}\n"
        );
        format!(
            "[rates]\nmove_per_s = {moves}\nmove_burst = {moves}\nbytes_per_s = 1073741824\nbytes_burst = 1073741824\n\n\
             [[game]]\npattern = \"*\"\ntick_hz = {hz}\nplayers_max = {players}\nbounds = [0, 0, {side}, {side}]\n\
             state = {{ number = \"{number}\" }}\n{}",
            if has_views { &view } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parsed;

    #[test]
    fn the_world_is_a_square_with_so_many_players_in_a_cell() {
        let arguments: Arguments = parsed(&["--players", "1000"]);
        assert_eq!((arguments.cells(), arguments.every()), (11, 20));
        let text = arguments.configuration(true);
        assert!(text.contains("bounds = [0, 0, 352, 352]"), "{text}");
        assert!(text.contains("view = { cell = 32, radius = 2, radius_max = 2, budget = 128 }"), "{text}");
        assert!(!arguments.configuration(false).contains("view"));
        assert!(parsed::<Arguments>(&["--crowd", "1.5"]).check().is_err());
    }
}
