//! `storm`: thousands of clients join one topic within seconds; how late each gets its presence, and how much of it.

mod presence;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use humantime::parse_duration;
use serde_json::json;

use crate::arguments::{Common, topic};
use crate::clock;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::figures::{figures_of, specs};
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::report::{self, Report};
use crate::server::{Server, Stopwatch};
use presence::Accounts;
use summary::Measured;

pub use summary::FIGURES;

pub const HELP: &str = "\
What is measured
  --clients Phoenix clients connect and join one --topic, one every --over / --clients, whatever
  the relay does. They stay, and are watched for --hold after the last one has joined.

  latency  From when a client was *meant* to connect to its join reply (join_*), and to the
           first presence_state after that reply (state_*).
  presence_frames_per_s_max
           Of each client the most presence_state, presence_diff and presence_count messages
           in any second (sliding, not clock seconds); of these the largest.

Figures, as in the table, in --assert and (durations with _us, in µs) in --json:
";

pub const EXAMPLE: &str = "
Example
  corelay-loadtest storm --clients 5000 --over 10s --topic room:lobby \\
      --assert 'joined==5000,stateless==0,presence_frames_per_s_max<=20,closed==0'
";

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// How many join
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// Over which time they are spread evenly
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub over: Duration,
    /// What they join
    #[arg(long, default_value = "room:lobby", value_parser = topic)]
    pub topic: String,
    /// How long they are watched after the last one has joined
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    pub hold: Duration,
}

/// Longest wait for arrivals; so much later a client may begin than it was meant to.
const TURN: Duration = Duration::from_micros(500);
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.common.output, &specs(FIGURES), || {
        let site = arguments.common.site()?;
        make_room(arguments.clients, 1, site.target.address)?;
        let members = Members::new(arguments.clients, site.tokens, |_| arguments.topic.clone(), |slot| slot);
        let plan = Plan::new(&site.target, DialectName::Phoenix.dialect(members), arguments.clients);
        let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
        let measured = measure(arguments, &mut crowd, &site.server, interrupted)?;
        // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
        let _ = crowd.say_goodbye(GOODBYE_TIME);
        if measured.accounts.joined() == 0 {
            bail!("nobody could join {}{}", arguments.topic, measured.endings.causes());
        }
        Ok(summarize(arguments, site.server.cpu_source(), measured))
    })
}

fn measure(
    arguments: &Arguments,
    crowd: &mut Crowd,
    server: &Server,
    interrupted: &AtomicBool,
) -> anyhow::Result<Measured> {
    let interval_ns = (arguments.over.as_nanos() as f64 / f64::from(arguments.clients)).max(1.0);
    let bar = bar(arguments.clients);
    bar.set_prefix("joining");
    let stopwatch = Stopwatch::start(server);
    let begun_ns = clock::now_ns();
    let mut accounts = Accounts::new(arguments.clients, begun_ns, interval_ns);
    let mut now_ns = begun_ns;
    let mut joining = true;
    let mut hold_end_ns = u64::MAX;
    while now_ns < hold_end_ns && !interrupted.load(Relaxed) {
        if joining && crowd.ramp(arguments.clients, 1e9 / interval_ns, now_ns)? {
            joining = false;
            hold_end_ns = now_ns + arguments.hold.as_nanos() as u64;
        }
        now_ns = crowd.turn(WANT, TURN, &mut accounts)?;
        bar.set_position(accounts.joined());
    }
    bar.finish_and_clear();
    Ok(Measured {
        accounts,
        clients: arguments.clients,
        received: crowd.counters,
        endings: crowd.endings.clone(),
        start_lateness_ns_max: crowd.start_lateness_ns_max,
        lap: stopwatch.lap(server),
        complete: now_ns >= hold_end_ns,
    })
}

fn summarize(arguments: &Arguments, cpu_source: &'static str, measured: Measured) -> Report {
    let common = &arguments.common;
    let (over_s, hold_s) = (arguments.over.as_secs_f64(), arguments.hold.as_secs_f64());
    Report {
        command: "storm",
        title: format!(
            "{}: {} clients into {} over {over_s:.1} s, then {hold_s:.1} s of watching",
            common.url, arguments.clients, arguments.topic,
        ),
        settings: json!({
            "url": common.url, "clients": arguments.clients, "over_s": over_s, "topic": arguments.topic,
            "hold_s": hold_s, "dialect": DialectName::Phoenix.as_str(), "tokens": common.tokens_label(),
        }),
        complete: measured.complete,
        driver: measured.lap.driver(),
        cpu_source: measured.lap.server_cpu_s().is_ok().then_some(cpu_source),
        warnings: measured.warnings(),
        figures: figures_of(FIGURES, &measured),
        endings: measured.endings,
        ..Report::default()
    }
}
