//! The command line.

mod million;
mod scaling;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::compare::{self, ExtraPeer};
use crate::dialect::DialectName;
use crate::tokens::Tokens;

pub use million::{Load, Million};
pub use scaling::Scaling;

/// Load test for corelay: many players on io_uring, each sending at its own pace whatever the relay does.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 measured, and every --assert holds; 1 an --assert does not hold; 2 it could not run, or failed before its end.";

const ROOMS_HELP: &str = "\
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

  Timeline: join (--ramp), --warmup, the measured window of --duration, --grace; then every
  player says goodbye. Ctrl-C ends the window at once and reports what was measured; a second
  one ends everything.

  --dialect phoenix: the same players in the same games as Phoenix clients. Each joins
  game:NAME on /socket/websocket?vsn=2.0.0, moves with binary game_state pushes, reads binary
  game_update messages, and sends a heartbeat every 30 s. Figures that this dialect does not
  tell are named as not available.

  --dialect raw: for any server. Each connects to /room/N, has joined when the upgrade is
  answered, and moves with a binary message of one 12-byte record; the server relays it to the
  room, alone or with others in one message.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

const ROOMS_EXAMPLE: &str = "
Examples
  corelay-loadtest rooms --rooms 40 --players 50 --hz 20 --duration 30s --seed 1 \\
      --assert 'reach>=0.999,p99<=75ms,closed==0' --json result.json
  corelay-loadtest rooms --dialect phoenix --rooms 40 --players 50 --assert 'reach>=0.999'
  corelay-loadtest rooms --token-key-file corelay.key      (a relay with tokens)
";

const IDLE_HELP: &str = "\
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

const IDLE_EXAMPLE: &str = "
Examples
  corelay-loadtest idle --connections 2000,15000 --assert 'slope<=320,closed==0'
  corelay-loadtest idle --dialect phoenix --topic-prefix room:idle- --per-topic 50 \\
      --connections 2000,15000 --assert 'slope<=1500,stateless==0,closed==0'
";

const STORM_HELP: &str = "\
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

const STORM_EXAMPLE: &str = "
Example
  corelay-loadtest storm --clients 5000 --over 10s --topic room:lobby \\
      --assert 'joined==5000,stateless==0,presence_frames_per_s_max<=20,closed==0'
";

const COMPARE_HELP: &str = "\
What is measured
  In each of --rounds the load of `rooms` runs against one server after the other: corelay
  (native dialect), fastwebsockets and tokio-tungstenite (raw dialect), bare (a loop that only
  receives and sends, native dialect), and every --peer (raw dialect). Each but the --peers is
  started here, in a session of its own, and ended; it is looked for beside this program. Each
  round begins with the next of them, so that a machine whose speed drifts does not always
  favour the same. Then memory is measured once per server, as `idle` does it.

  Ratios are corelay's value / that of the server, of the same round; the table tells the
  median, the least and the most of the rounds. corelay does better where deliveries_ratio is
  above 1, and where p50_ratio, p99_ratio and memory_ratio are below. A server that relays
  every message singly delivers more and smaller frames: compare positions_ratio then.

  Ctrl-C ends everything and tells of the rounds that are complete.

Figures, in the table, in --assert and in --json (NAME: corelay, fastwebsockets, …; a
ratio also with _min and _max):
";

const COMPARE_EXAMPLE: &str = "
Examples
  corelay-loadtest compare --assert 'fastwebsockets.deliveries_ratio>=1.5,bare.deliveries_ratio>=0.87'
  corelay-loadtest compare --only bare --threads 1
  corelay-loadtest compare --only fastwebsockets --peer mine=ws://127.0.0.1:9000@$(pidof mine)
";

/// The scenarios.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rooms full of players that move: reach, latency, and what a delivered frame costs
    #[command(after_long_help = help(ROOMS_HELP, crate::figures::ROOMS, ROOMS_EXAMPLE))]
    Rooms(Rooms),
    /// Players that joined and are silent: memory per player
    #[command(after_long_help = help(IDLE_HELP, crate::figures::IDLE, IDLE_EXAMPLE))]
    Idle(Idle),
    /// Thousands of Phoenix clients join one topic at once: join latency, presence messages
    #[command(after_long_help = help(STORM_HELP, crate::figures::STORM, STORM_EXAMPLE))]
    Storm(Storm),
    /// A million players in one relay, most of them silent: memory, processor time and latency
    #[command(after_long_help = help(million::HELP, crate::figures::MILLION, million::EXAMPLE))]
    Million(Million),
    /// One run for each number of connections up to a million: what grows, as a page of charts
    #[command(after_long_help = help(scaling::HELP, crate::figures::SCALING, scaling::EXAMPLE))]
    #[command(mut_arg("active_games", |argument| argument.default_value(scaling::ACTIVE_GAMES)))]
    Scaling(Scaling),
    /// corelay beside relays on other libraries: deliveries per CPU second, latency, memory, as ratios
    #[command(after_long_help = format!("{COMPARE_HELP}{}{COMPARE_EXAMPLE}\n{EXIT_CODES}", compare::help()))]
    Compare(Compare),
}

/// Which relay, and what to do with the result.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The relay
    #[arg(long, default_value = "ws://127.0.0.1:4000")]
    pub url: String,
    /// The relay's metrics; default: port 4001 of the same host
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
    /// Read processor time and memory of this process from /proc instead, for servers without /metrics
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The token of all connections; default: none, for a relay in development mode
    #[arg(long, value_name = "JWT")]
    pub token: Option<String>,
    /// Sign a token per connection with this HS256 key: sub load-N, its own topic only, valid for an hour
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_key_file: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Conditions on the result, such as 'reach>=0.999,p99<100ms' (>= <= < > ==; durations in us, ms, s)
    #[arg(long = "assert", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub assertions: String,
}

impl Common {
    /// What `--token` and `--token-key-file` say.
    pub fn tokens(&self) -> anyhow::Result<Tokens> {
        Tokens::new(self.token.as_deref(), self.token_key_file.as_deref())
    }

    /// As in the JSON's settings: which kind of tokens, not the tokens.
    pub fn tokens_label(&self) -> &'static str {
        match (&self.token, &self.token_key_file) {
            (Some(_), _) => "same",
            (None, Some(_)) => "signed",
            (None, None) => "none",
        }
    }
}

/// Arguments of `rooms`.
#[derive(Clone, Debug, Args)]
pub struct Rooms {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub common: Common,
    /// What the players speak
    #[arg(long, value_enum, default_value_t = DialectName::Native)]
    pub dialect: DialectName,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
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
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Load before the window
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// How long after its intended time a move may arrive and still be fresh
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub grace: Duration,
    /// Decides every player's phase, and the names of the games
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, each with a ring of its own; a room stays on one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Extra members of the first room that join and then never read again
    #[arg(long, default_value_t = 0)]
    pub stalled: u32,
    /// Write the latencies as a percentile table (.hgrm), in ms
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

/// Arguments of `idle`.
#[derive(Clone, Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
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

/// Arguments of `storm`.
#[derive(Clone, Debug, Args)]
pub struct Storm {
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
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

/// Arguments of `compare`.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// How often each server has its turn: many short ones, since a virtual machine's speed changes within minutes
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Compare with these only: fastwebsockets, tokio-tungstenite, bare
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// A server that runs already and speaks the raw dialect; with its process id also its processor time and memory are known
    #[arg(long = "peer", value_name = "NAME=URL[@PID]")]
    pub peers: Vec<ExtraPeer>,
    /// Shards of corelay, and worker threads of the peers (bare has one) [default: one per processor]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: Option<u32>,
    /// Where the servers are [default: where this program is]
    #[arg(long, value_name = "DIRECTORY")]
    pub bin_dir: Option<PathBuf>,
    /// Number of rooms
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Players in each room
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub players: u32,
    /// Moves per second of each player
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub hz: f64,
    /// Length of each measured window
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub duration: Duration,
    /// Load before each window
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub warmup: Duration,
    /// How long after its intended time a move may arrive and still be fresh
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub grace: Duration,
    /// New connections per second while joining
    #[arg(long, default_value_t = 5000.0, value_parser = positive)]
    pub ramp: f64,
    /// Decides every player's phase
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the load test
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub client_threads: u32,
    /// Numbers of idle connections between which memory is compared, rising
    #[arg(long, default_value = "1000,8000", value_delimiter = ',')]
    pub idle: Vec<u32>,
    /// Silence before memory is read
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub hold: Duration,
    /// Do not measure memory
    #[arg(long)]
    pub skip_memory: bool,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Conditions on the result, such as 'fastwebsockets.deliveries_ratio>=1.5,corelay.p99<100ms'
    #[arg(long = "assert", value_name = "LIST", default_value = "", hide_default_value = true)]
    pub assertions: String,
}

fn help(about: &str, specs: &[crate::figures::Spec], example: &str) -> String {
    let figures: String = specs.iter().map(|spec| format!("  {:<28}{}\n", spec.name, spec.about)).collect();
    format!("{about}{figures}{example}\n{EXIT_CODES}")
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number <= 1e6 => Ok(number),
        _ => Err("it must be a number above 0, at most 1,000,000".to_owned()),
    }
}

/// `room:lobby`: what the relay accepts, and JSON and queries need no escapes for.
fn topic(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match text.split_once(':') {
        Some(("game" | "room" | "doc", id)) if (1..=64).contains(&id.len()) && id.bytes().all(plain) => {
            Ok(text.to_owned())
        }
        _ => Err("it must be game:, room: or doc: and 1 to 64 letters, digits, '-', '_', '.'".to_owned()),
    }
}

/// `30s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("it must have a unit: 500ms, 30s, 2m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is no number"))?;
    let total = Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())?;
    if total > Duration::from_secs(24 * 3600) { Err("at most a day".to_owned()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn topics_are_those_of_the_relay() {
        assert_eq!(topic("room:idle-"), Ok("room:idle-".to_owned()));
        for bad in ["room:", "lobby", "chat:x", "room:a b", "room:\"", &format!("room:{}", "x".repeat(65))] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_given_or_signed_not_both() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["corelay-loadtest", "storm"], arguments].concat());
        assert!(parse(&["--token", "a.b.c"]).is_ok());
        assert!(parse(&["--token-key-file", "key"]).is_ok());
        assert!(parse(&["--token", "a.b.c", "--token-key-file", "key"]).is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("30").unwrap_err().contains("30s"));
        assert!(duration("s").is_err());
    }
}
