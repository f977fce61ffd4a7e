//! Arguments of `scaling`.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::Output;
use crate::million::Load;

/// Games that move at every size: each is to have the same load.
const ACTIVE_GAMES: &str = "100";

pub const HELP: &str = "\
What is measured
  The run of 'million' once for each number of connections: 1000, 10000, 100000, 1000000, as far
  as --to goes. At every size as many games move (--active-games), so that only the silent
  players grow; a size with fewer games moves all it has (1000 players are 20 games). The windows
  of 60 s (--quiet, --hold) hold one ping of every silent player at every size. The result is one
  HTML page with charts, all numbers and what is needed to repeat it, and a JSON with the same
  name beside it, which is written anew after each size; Ctrl-C leaves out the size that is being
  measured.

Figures, as in the table and in --assert; of the largest size where nothing else is said:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest scaling --to 1000000 \\
      --assert 'flat<=1.5,kernel<=4300,user<=320,p99<=300ms,reach>=0.999,refused==0'
  corelay-loadtest scaling --to 10000 --active-games 20 --out small.html
  corelay-loadtest scaling --from-json corelay-scaling.json --charts docs/scaling   (draws again)
";

#[derive(Clone, Debug, Args)]
#[command(mut_arg("active_games", |argument| argument.default_value(ACTIVE_GAMES)))]
pub struct Arguments {
    /// Largest number of connections; the sizes are 1000, 10000, … below it, and this
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub to: u32,
    /// The relay to start for each size; default: corelay beside this program, else $CORELAY
    #[arg(long, value_name = "FILE")]
    pub relay: Option<PathBuf>,
    #[command(flatten)]
    pub load: Load,
    /// The page; the JSON goes beside it [default: corelay-scaling.html; with --from-json, beside that]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write each chart as an SVG too, into this directory
    #[arg(long, value_name = "DIR")]
    pub charts: Option<PathBuf>,
    /// Measure nothing; draw what an earlier run measured
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub from_json: Option<PathBuf>,
    /// Conditions on the result, such as 'flat<=1.5,p99<=300ms' (>= <= < > ==; durations in us, ms, s)
    #[arg(long = "assert", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub assertions: String,
}

impl Arguments {
    /// The JSON is the record's.
    pub fn output(&self) -> Output {
        Output { json: None, assertions: self.assertions.clone() }
    }
}
