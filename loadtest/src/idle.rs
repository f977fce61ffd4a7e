//! `idle`: members that join and are silent; what one of them costs the relay in memory.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use humantime::parse_duration;
use indicatif::ProgressBar;
use serde_json::{Map, json};

use crate::arguments::{Common, positive, topic};
use crate::clock;
use crate::crowd::{Crowd, Listener, NoListener, Plan, Pushed};
use crate::dialect::{DialectName, Event, Members, Presence};
use crate::endings::Endings;
use crate::figures::Unit::{Bytes, Count, Number};
use crate::figures::{Rule, count, figures_of, headline, spec, specs};
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::report::{self, Report};

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
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub hold: Duration,
    /// Decides the names of the games
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// Every player's first moves are spread over this time, so that no tick carries all of them.
const MOVES_SPREAD_NS: u64 = 1_000_000_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 64;
/// How long members wait for their `presence_state`, after the last has joined.
const STATES_NS: u64 = 10_000_000_000;

/// The members that have received their `presence_state`.
struct Informed(HashSet<u32>);

impl Listener for Informed {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, _now_ns: u64) {
        if let Event::Presence(Presence::State) = event {
            self.0.insert(slot);
        }
    }
}

/// Memory at one number of members.
#[derive(Clone, Copy)]
struct Step {
    open: u32,
    rss_bytes: f64,
}

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.common.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
pub fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let &Arguments { seed, players, dialect, .. } = arguments;
    let site = arguments.common.site()?;
    let rising = arguments.connections.is_sorted_by(|a, b| a < b) && arguments.connections.len() >= 2;
    let Some(&most) = arguments.connections.last().filter(|_| rising) else {
        bail!("--connections: at least two rising numbers are needed, as in 2000,15000");
    };
    make_room(most, 1, site.target.address)?;
    let topic_of = |slot: u32| match dialect {
        DialectName::Native | DialectName::Raw => dialect.room_topic("idle", seed, slot / players),
        DialectName::Phoenix => format!("{}{}", arguments.topic_prefix, slot / players),
    };
    let members = Members::new(most, site.tokens, topic_of, |slot| slot);
    let crowd = Crowd::new(Plan::new(&site.target, dialect.dialect(members), most));
    let informed = Informed(HashSet::new());
    let mut run =
        Run { arguments, crowd: crowd.map_err(explain_ring_error)?, informed, bar: bar(most), interrupted };

    let (mut steps, mut driver) = (Vec::new(), None);
    let mut first = 0;
    for &connections in &arguments.connections {
        if !run.step(first..connections)? {
            break;
        }
        first = connections;
        let sample = site.server.sample();
        driver = driver.or(sample.driver);
        let rss_bytes = sample.rss_bytes.map_err(anyhow::Error::msg).context("the relay's memory")?;
        steps.push(Step { open: run.crowd.open(), rss_bytes });
    }
    run.bar.finish_and_clear();
    run.crowd.say_goodbye(GOODBYE_TIME)?;
    let (crowd, informed) = (run.crowd, run.informed.0.len() as u32);
    let (Some(&first), Some(&last)) = (steps.first(), steps.last()) else {
        bail!("interrupted before the first number of connections was reached{}", crowd.endings.causes());
    };
    let measured =
        Measured { dialect, joined: crowd.joined(), informed, endings: crowd.endings, first, last };
    let report = report(arguments, site.server.cpu_source(), measured, &steps);
    Ok(Report { driver, ..report })
}

struct Run<'a> {
    arguments: &'a Arguments,
    crowd: Crowd,
    informed: Informed,
    bar: ProgressBar,
    interrupted: &'a AtomicBool,
}

impl Run<'_> {
    /// Lets connections join until there are `slots.end`, of which `slots` are new, and be silent. `false`: interrupted.
    fn step(&mut self, slots: Range<u32>) -> anyhow::Result<bool> {
        self.bar.set_prefix("joining");
        let mut now_ns = clock::now_ns();
        while !self.crowd.ramp(slots.end, self.arguments.ramp, now_ns)? {
            if self.interrupted.load(Relaxed) {
                return Ok(false);
            }
            now_ns = self.crowd.turn(WANT, Duration::from_millis(1), &mut self.informed)?;
            self.bar.set_position(u64::from(self.crowd.joined()));
        }
        self.bar.set_prefix("idle");
        match self.arguments.dialect {
            DialectName::Native | DialectName::Raw => self.move_once(slots)?,
            DialectName::Phoenix => {
                // Members that have none after this time are counted as stateless.
                self.turn_until(STATES_NS, |run| run.informed.0.len() >= run.crowd.joined() as usize)?;
            }
        }
        self.turn_until(self.arguments.hold.as_nanos() as u64, |_| false)
    }

    fn move_once(&mut self, mut slots: Range<u32>) -> anyhow::Result<()> {
        let begun_ns = clock::now_ns();
        let count = u128::from(slots.end - slots.start).max(1);
        let (mut sent, mut frame) = (0, Vec::new());
        loop {
            let elapsed_ns = u128::from(clock::now_ns() - begun_ns);
            let due = elapsed_ns * count / u128::from(MOVES_SPREAD_NS);
            while sent < due {
                let Some(slot) = slots.next() else { return Ok(()) };
                sent += 1;
                frame.clear();
                self.crowd.write_move(slot, slot % self.arguments.players, 1, &mut frame);
                // Fresh connections are not busy; one that is gone has no seat to pay for.
                let _: Pushed = self.crowd.try_send(slot, &frame)?;
            }
            self.crowd.turn(WANT, Duration::from_millis(1), &mut NoListener)?;
        }
    }

    /// Turns for `length_ns`, or until `done`. `false`: interrupted.
    fn turn_until(&mut self, length_ns: u64, done: impl Fn(&Self) -> bool) -> anyhow::Result<bool> {
        let end_ns = clock::now_ns() + length_ns;
        while clock::now_ns() < end_ns && !done(self) {
            if self.interrupted.load(Relaxed) {
                return Ok(false);
            }
            self.crowd.turn(WANT, Duration::from_millis(10), &mut self.informed)?;
        }
        Ok(true)
    }
}

/// What was seen, the steps in their order.
pub struct Measured {
    dialect: DialectName,
    joined: u32,
    informed: u32,
    endings: Endings,
    first: Step,
    last: Step,
}

/// Figures of `idle`.
pub static FIGURES: &[Rule<Measured>] = &[
    headline("joined", Count, "members that are in their game or topic").of(|run| count(run.joined)),
    spec("not_joined", Count, "members that are not").of(|run| count(run.endings.failures.total())),
    headline("closed", Count, "members whose connection ended").of(|run| count(run.endings.closes.total())),
    spec("stateless", Count, "members that joined and got no presence_state").of(|run| {
        if run.dialect.has_presence() {
            count(run.joined.saturating_sub(run.informed))
        } else {
            Err(format!("not told in the {} dialect", run.dialect.as_str()))
        }
    }),
    spec("rss_first_bytes", Bytes, "resident memory of the relay at the first step")
        .of(|run| Ok(run.first.rss_bytes)),
    spec("rss_last_bytes", Bytes, "resident memory of the relay at the last step")
        .of(|run| Ok(run.last.rss_bytes)),
    headline("slope", Number, "bytes per member between the first and the last step").of(
        |run| match f64::from(run.last.open) - f64::from(run.first.open) {
            members @ 1.0.. => Ok((run.last.rss_bytes - run.first.rss_bytes) / members),
            _ => Err("there were no more members at the last step than at the first".to_owned()),
        },
    ),
];

fn report(arguments: &Arguments, cpu_source: &'static str, measured: Measured, steps: &[Step]) -> Report {
    let (common, dialect) = (&arguments.common, arguments.dialect);
    let step = |step: &Step| json!({ "connections": step.open, "rss_bytes": step.rss_bytes });
    let text = |step: &Step| format!("{} members: {:.0} KiB", step.open, step.rss_bytes / 1024.0);
    let texts: Vec<_> = steps.iter().map(text).collect();
    Report {
        command: "idle",
        title: format!(
            "{}: idle, {} dialect, resident memory: {}",
            common.url,
            dialect.as_str(),
            texts.join(", ")
        ),
        settings: json!({
            "url": common.url, "connections": arguments.connections, "players": arguments.players,
            "hold_s": arguments.hold.as_secs_f64(), "seed": arguments.seed, "ramp": arguments.ramp,
            "dialect": dialect.as_str(), "tokens": common.tokens_label(),
            "topic_prefix": dialect.has_presence().then_some(&arguments.topic_prefix),
        }),
        complete: steps.len() == arguments.connections.len(),
        figures: figures_of(FIGURES, &measured),
        cpu_source: Some(cpu_source),
        endings: measured.endings,
        details: Map::from_iter([("steps".to_owned(), steps.iter().map(step).collect())]),
        ..Report::default()
    }
}
