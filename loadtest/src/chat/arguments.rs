//! Arguments of `chat`.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use humantime::parse_duration;

use crate::arguments::positive;
use crate::ledger::Seating;
use crate::talk::Script;
use crate::venue::Venue;

pub const HELP: &str = "\
What is measured
  --rooms chat rooms of --members Phoenix clients each. --rate messages a second are said, all
  rooms together, at even times, whatever the relay does (an open loop): in one room after the
  other, by the members of a room in turn. A message is acknowledged when it is on disk.

  latency   From when a message was *meant* to be sent to its acknowledgement (ack_*), and to
            each member that is told of it, the sender included (heard_*). Messages that were
            meant for --seconds count; those of --warmup do not.
  lost      Each member of a room must be told of each acknowledged message of the room, once,
            and in the order of seq, without a gap from its join on. lost, repeated, gaps and
            reordered count what is not so, of all messages, those of --warmup included.
  ack_bound The larger of --ack-bound and three times fsync_p99: what the disk did before the
            run, with 4 KiB appended and fdatasync called again and again for a second.
            ack_share is ack_p99 as a multiple of it.

  Without --url a relay is started for the run, with its data on this disk and with limits that
  allow the rate. A relay that runs already needs a [[room]] table with messages_per_minute of
  at least 60 × --rate / (--rooms × --members); the default is 10.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest chat --rooms 1000 --members 5 --rate 10000 --seconds 15 \\
      --assert 'lost==0,repeated==0,gaps==0,refused==0,ack_share<=1' --json result.json
  corelay-loadtest chat --url ws://127.0.0.1:4000 --rooms 10 --rate 5     (a relay that runs already)
";

/// Most messages of a run: each takes memory here.
const MESSAGES_MAX: f64 = 100_000_000.0;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub venue: Venue,
    /// Number of rooms
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: u32,
    /// Members of each room
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub members: u32,
    /// Messages per second, of all rooms together
    #[arg(long, default_value_t = 10_000.0, value_parser = positive)]
    pub rate: f64,
    /// Messages before the window
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Length of the measured window, in seconds
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    pub seconds: f64,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(12..=4096))]
    pub body_bytes: u16,
    /// How long answers and messages that are still on their way are waited for in the end
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub grace: Duration,
    /// What ack_bound is at least
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    pub ack_bound: Duration,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides the names of the rooms
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Arguments {
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Who says what, and how many messages come due in warm-up and window.
    pub fn script(&self) -> anyhow::Result<(Script, u32)> {
        let seating = Seating { rooms: self.rooms, members_per_room: self.members };
        if self.rooms.checked_mul(self.members).is_none() {
            bail!("--rooms {} --members {}: more members than can be counted", self.rooms, self.members);
        }
        let messages = self.rate * (self.warmup + self.window()).as_secs_f64();
        if messages > MESSAGES_MAX {
            bail!("--rate {} for that long: {messages:.0} messages; at most {MESSAGES_MAX:.0}", self.rate);
        }
        Ok((Script { seating, rate: self.rate, body_bytes: self.body_bytes.into() }, messages as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parsed;

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let script = |line: &[&str]| parsed::<Arguments>(line).script();
        let (script_of_defaults, messages) = script(&[]).unwrap();
        assert_eq!((script_of_defaults.seating.members(), messages), (5_000, 320_000));
        assert!(script(&["--rooms", "1000000", "--members", "10000"]).is_err());
        assert!(script(&["--rate", "1000000", "--seconds", "1000"]).is_err());
    }
}
