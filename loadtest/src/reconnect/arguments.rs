//! Arguments of `reconnect`.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use humantime::parse_duration;

use crate::arguments::positive;
use crate::ledger::Seating;
use crate::relay::Ending;
use crate::talk::Script;
use crate::venue::Venue;

pub const HELP: &str = "\
What is measured
  --clients Phoenix clients join, --in-rooms of them chat rooms, the others games, --members to
  each. In the rooms --rate messages a second are said, at even times. After --before all
  connections are cut at once, without a close frame; with --restart the relay is ended by
  SIGTERM instead, while everybody is connected, and started again on the same addresses and
  data; with --deploy the next one starts while it drains; with --kill it is ended by SIGKILL. Each client comes back after a random part of --jitter, with the position of the last
  event that it has seen and, in a game, the token of its seat. Those who are back speak again.
  When everybody is back, or after --limit, messages go on for --after.

  back_*    From when a client meant to connect again for the first time to its catch_up: the
            wait that it was asked for is not in it, refused attempts are.
  lost      Of each member that recovered, and each acknowledged message of its room, before,
            during or after the outage: it must be told once, in the order of seq, in catch_up
            or by itself. What a member missed that was told recovered: false is in
            not_recovered instead, by reason in unrecovered_*.
  unanswered  Messages whose sender was cut off from its answer: whether they were said,
            unanswered_said, only the others in the room know. They are not sent again.

  A game ends with the relay: after --restart, --deploy or --kill its players are unrecovered_epoch, with new seats.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Examples
  corelay-loadtest reconnect --assert 'back==5000,recovered==5000,lost==0,repeated==0'
  corelay-loadtest reconnect --restart --in-rooms 1 --assert 'recovered==5000,lost==0,repeated==0'
  corelay-loadtest reconnect --deploy --clients 4500 --in-rooms 0.56 --assert 'lost==0,repeated==0'
  corelay-loadtest reconnect --kill --in-rooms 1 --rate 5000 --assert 'lost==0,repeated==0,contradictions==0'
";

/// Most messages of a run: each takes memory here.
const MESSAGES_MAX: f64 = 100_000_000.0;
const BODY_BYTES: usize = 64;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub venue: Venue,
    /// Number of clients, each with one connection and one topic
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Share of them that is in rooms; whole rooms
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub in_rooms: f64,
    /// Members of each room, players of each game
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub members: u32,
    /// Messages per second, of all rooms together
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    pub rate: f64,
    /// End the relay by SIGTERM and start it again, instead of cutting connections
    #[arg(long, conflicts_with = "url")]
    pub restart: bool,
    /// The same, and the next relay starts at once, with the same port and data
    #[arg(long, conflicts_with_all = ["url", "restart"])]
    pub deploy: bool,
    /// End it by SIGKILL, as in a crash: nobody is told before
    #[arg(long, conflicts_with_all = ["url", "restart", "deploy"])]
    pub kill: bool,
    /// Clients come back after a random part of this; default: with --restart what the relay says in server_draining (counted
    /// from its retry_after), else 5s
    #[arg(long, value_parser = parse_duration)]
    pub jitter: Option<Duration>,
    /// Messages before the outage
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub before: Duration,
    /// Messages after the last client is back
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub after: Duration,
    /// How long everybody's return may take
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub limit: Duration,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides the names of the topics, and when clients come back
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Arguments {
    /// How the relay is ended; `None`: it is not.
    pub fn ending(&self) -> Option<Ending> {
        let restart = self.restart.then_some(Ending::Drain);
        let deploy = self.deploy.then_some(Ending::Deploy);
        restart.or(deploy).or(self.kill.then_some(Ending::Kill))
    }

    /// Who says what. There is at least one room, and each has a message before the outage: a room without one has another
    /// epoch each time it is entered.
    pub fn script(&self) -> anyhow::Result<Script> {
        let &Self { clients, in_rooms, members, rate, before, .. } = self;
        let rooms = (f64::from(clients) * in_rooms) as u32 / members;
        if rooms == 0 {
            bail!("--clients {clients} --in-rooms {in_rooms}: that is not one room of {members}");
        }
        if rate * before.as_secs_f64() < f64::from(rooms) {
            bail!(
                "--rate {rate} --before {} s: each of the {rooms} rooms needs a message before the outage",
                before.as_secs_f64()
            );
        }
        if rate * (before + self.limit + self.after).as_secs_f64() > MESSAGES_MAX {
            bail!("--rate {rate} for that long: more than {MESSAGES_MAX:.0} messages");
        }
        Ok(Script { seating: Seating { rooms, members_per_room: members }, rate, body_bytes: BODY_BYTES })
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("it must be a share above 0, at most 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::parsed;

    #[test]
    fn rooms_are_whole_and_each_has_a_message_before_the_outage() {
        let script = |line: &[&str]| parsed::<Arguments>(line).script();
        assert_eq!(script(&[]).unwrap().seating, Seating { rooms: 500, members_per_room: 5 });
        let rooms = script(&["--clients", "99", "--in-rooms", "1"]).unwrap().seating.rooms;
        assert_eq!(rooms, 19);
        assert!(script(&["--clients", "9"]).is_err(), "four and a half members");
        assert!(script(&["--before", "900ms"]).unwrap_err().to_string().contains("500 rooms"));
        assert!(share("0").is_err() && share("1.1").is_err() && share("1").is_ok());
    }
}
