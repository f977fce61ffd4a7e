//! Arguments of `documents`.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use humantime::parse_duration;

use crate::arguments::positive;
use crate::edits::Script;
use crate::ledger::Seating;
use crate::venue::Venue;

pub const HELP: &str = "\
What is measured
  --documents of --editors Phoenix clients each. Every editor edits --rate times a second at a
  phase of its own, whatever the relay does (an open loop): it inserts or deletes up to 8
  characters, a third of the time at one place where all others do, too. It is a client as people
  have it: it sees its own edits at once, has at most one operation on its way, made against the
  version that it has then, and makes one operation of what it edits until that is answered
  (merged). Texts stay about --characters long. An operation is acknowledged when it is on disk.

  latency   From when an edit was *meant* to be made to the acknowledgement of its operation
            (ack_*), and to each other editor that is told of it (heard_*). Edits that were meant
            for --seconds count; those of --warmup do not.
  lost      Each editor must be told of each version once, in order, without a gap: of its own by
            the answer, of the others' by an operation, which has the op_id that it was sent with
            and the version that was answered. lost, repeated, gaps, reordered and contradictions
            count what is not so, of all operations, those of --warmup included.
  diverged  When all is quiet a newcomer joins each document. Every editor must have the text and
            the version that the newcomer is told. Editors that have gone, and those of documents
            whose newcomer is told nothing, are unchecked; while there are any, lost and diverged
            are not known to be 0, and --assert 'diverged==0' fails.

  With --beside-players a game goes on on the same relay, in rooms of 50 at 20 Hz: alone for
  --warmup and --seconds, then beside the edits for as long, --turns times. game.alone_* and
  game.beside_* are as `rooms` defines them. The editors stay connected, and are quiet meanwhile.

  Without --url a relay is started for the run, with its data on this disk and with limits that
  allow the rate. A relay that runs already takes 50 operations a second of each editor.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest documents --documents 1 --editors 50 --rate 2 --seconds 30 \\
      --assert 'diverged==0,lost==0,repeated==0,gaps==0,reordered==0,refused==0'
  corelay-loadtest documents --documents 1000 --editors 3 --rate 1 --beside-players 2000 --json result.json
  corelay-loadtest documents --url ws://127.0.0.1:4000 --documents 10      (a relay that runs already)
";

/// Most edits of a run: each takes memory here.
const EDITS_MAX: f64 = 100_000_000.0;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub venue: Venue,
    /// Number of documents
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub documents: u32,
    /// Editors of each document
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub editors: u32,
    /// Edits per second of each editor
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub rate: f64,
    /// Edits before the window
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Length of a measured window, in seconds
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    pub seconds: f64,
    /// How long texts are, in characters; one editor of each fills it up, with 8,000 at a time
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..=60_000))]
    pub characters: u32,
    /// How long answers and operations that are still on their way are waited for in the end
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub grace: Duration,
    /// Players of a game on the same relay, alone and beside the edits in turns
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub beside_players: u32,
    /// So often, with --beside-players
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub turns: u32,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides what is edited, everybody's phase, and the names of the documents
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Arguments {
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How often everybody edits for a while.
    pub fn spells(&self) -> u32 {
        if self.beside_players > 0 { self.turns } else { 1 }
    }

    /// Who edits what.
    pub fn script(&self) -> anyhow::Result<Script> {
        let &Self { documents, editors, rate, characters, seed, .. } = self;
        // A newcomer joins each.
        if documents.checked_mul(editors).and_then(|clients| clients.checked_add(documents)).is_none() {
            bail!("--documents {documents} --editors {editors}: more editors than can be counted");
        }
        let seating = Seating { rooms: documents, members_per_room: editors };
        let rounds = rate * (self.warmup + self.window()).as_secs_f64() * f64::from(self.spells());
        let edits = rounds * f64::from(seating.members());
        if edits > EDITS_MAX {
            bail!("--rate {rate} of each editor for that long: {edits:.0} edits; at most {EDITS_MAX:.0}");
        }
        Ok(Script { seating, rate, characters, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parsed;

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let script = |line: &[&str]| parsed::<Arguments>(line).script();
        assert_eq!(script(&[]).unwrap().seating.members(), 300);
        assert!(script(&["--documents", "1000000", "--editors", "5000"]).is_err());
        let busy = ["--documents", "1000", "--rate", "20", "--seconds", "1000"];
        assert!(script(&busy).is_ok());
        assert!(script(&[&busy[..], &["--beside-players", "50"]].concat()).is_err());
    }
}
