//! `idle`: members that join and are silent; what one of them costs the relay in memory.

mod arguments;
mod figures;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};

use crate::assertions;
use crate::clock;
use crate::crowd::{Blind, Crowd, Listener, Plan, Pushed};
use crate::dialect::{DialectName, Members, News, Presence};
use crate::figures::fill;
use crate::handshake::Handshake;
use crate::limits::{explain_ring_error, make_room};
use crate::report::Report;
use crate::server::Server;
use crate::target::Target;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use figures::FIGURES;

/// How long goodbyes may take.
const GOODBYE_NS: u64 = 2_000_000_000;
/// Every player's first moves are spread over this time, so that no tick carries all of them.
const MOVES_SPREAD_NS: u64 = 1_000_000_000;
/// Completions after which a wait ends before its time.
const WANT: usize = 64;

/// How long members wait for their `presence_state`, after the last has joined.
const STATES_NS: u64 = 10_000_000_000;

/// Who has been told who else is there.
struct Informed {
    slots: Vec<bool>,
    count: u32,
}

impl Listener for Informed {
    fn handle_news(&mut self, slot: u32, news: News<'_>, _now_ns: u64) {
        if let News::Presence(Presence::State) = news {
            self.count += u32::from(!self.slots[slot as usize]);
            self.slots[slot as usize] = true;
        }
    }
}

/// Memory at one number of members.
struct Step {
    open: u32,
    rss_bytes: f64,
}

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.common.assertions, FIGURES)?;
    measure(arguments, interrupted)?.finish(&assertions, arguments.common.json.as_deref())
}

/// Runs the scenario, and writes nothing.
pub fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let target = Target::parse(&arguments.common.url)?;
    let metrics_url = arguments.common.metrics.clone().unwrap_or_else(|| target.default_metrics_url());
    let server = Server { metrics_url, pid: arguments.common.server_pid };
    let rising = arguments.connections.is_sorted_by(|a, b| a < b) && arguments.connections.len() >= 2;
    let Some(&most) = arguments.connections.last().filter(|_| rising) else {
        bail!("--connections: at least two rising numbers are needed, as in 2000,15000");
    };
    let tokens = arguments.common.tokens()?;
    make_room(most, 1, target.address)?;

    let &Arguments { seed, players, dialect, .. } = arguments;
    let topic_of = |slot: u32| match dialect {
        DialectName::Native | DialectName::Raw => dialect.room_topic("idle", seed, slot / players),
        DialectName::Phoenix => format!("{}{}", arguments.topic_prefix, slot / players),
    };
    let plan = Plan {
        target: target.address,
        handshake: Handshake::new(target.authority),
        connections: most,
        stalled_from: most,
        dialect: dialect.dialect(Members::new(most, tokens, topic_of, |slot| slot)),
        ramp_per_s: arguments.ramp,
    };
    let mut informed = Informed { slots: vec![false; most as usize], count: 0 };
    let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
    let mut steps = Vec::new();
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {elapsed}")
        .expect("the template is constant and valid");
    let bar = ProgressBar::new(u64::from(most)).with_style(style);
    let mut first = 0;
    for &connections in &arguments.connections {
        bar.set_prefix("joining");
        if !join(&mut crowd, &mut informed, connections, interrupted, &bar)? {
            break;
        }
        bar.set_prefix("idle   ");
        match dialect {
            DialectName::Native | DialectName::Raw => move_once(&mut crowd, first..connections, players)?,
            DialectName::Phoenix => await_states(&mut crowd, &mut informed, interrupted)?,
        }
        first = connections;
        if !hold(&mut crowd, &mut informed, arguments.hold, interrupted)? {
            break;
        }
        let rss_bytes =
            server.sample().rss_bytes.map_err(anyhow::Error::msg).context("the relay's memory")?;
        steps.push(Step { open: crowd.open(), rss_bytes });
    }
    bar.finish_and_clear();
    crowd.close()?;
    let deadline_ns = clock::now_ns() + GOODBYE_NS;
    while !crowd.is_over() && clock::now_ns() < deadline_ns {
        crowd.turn(WANT, Duration::from_millis(10), &mut Blind)?;
    }
    report(arguments, &server, crowd, &informed, &steps)
}

/// `false`: interrupted.
fn join(
    crowd: &mut Crowd,
    informed: &mut Informed,
    connections: u32,
    interrupted: &AtomicBool,
    bar: &ProgressBar,
) -> anyhow::Result<bool> {
    let mut now_ns = clock::now_ns();
    while !crowd.ramp(connections, now_ns)? {
        if interrupted.load(Relaxed) {
            return Ok(false);
        }
        now_ns = crowd.turn(WANT, Duration::from_millis(1), informed)?;
        bar.set_position(u64::from(crowd.joined()));
    }
    Ok(true)
}

fn move_once(crowd: &mut Crowd, slots: std::ops::Range<u32>, players: u32) -> anyhow::Result<()> {
    let begun_ns = clock::now_ns();
    let count = u64::from(slots.end - slots.start).max(1);
    let (mut slots, mut sent, mut frame) = (slots, 0, Vec::new());
    loop {
        let due =
            (u128::from(clock::now_ns() - begun_ns) * u128::from(count) / u128::from(MOVES_SPREAD_NS)) as u64;
        while sent < due {
            let Some(slot) = slots.next() else { return Ok(()) };
            sent += 1;
            // Fresh connections are not busy; one that is gone has no seat to pay for.
            frame.clear();
            crowd.write_move(slot, slot % players, 1, &mut frame);
            let _: Pushed = crowd.try_send(slot, &frame)?;
        }
        crowd.turn(WANT, Duration::from_millis(1), &mut Blind)?;
    }
}

/// Until every member has its state; who has none after a while is in the figures.
fn await_states(crowd: &mut Crowd, informed: &mut Informed, interrupted: &AtomicBool) -> anyhow::Result<()> {
    let deadline_ns = clock::now_ns() + STATES_NS;
    while informed.count < crowd.joined() && clock::now_ns() < deadline_ns && !interrupted.load(Relaxed) {
        crowd.turn(WANT, Duration::from_millis(10), informed)?;
    }
    Ok(())
}

/// `false`: interrupted.
fn hold(
    crowd: &mut Crowd,
    informed: &mut Informed,
    length: Duration,
    interrupted: &AtomicBool,
) -> anyhow::Result<bool> {
    let end_ns = clock::now_ns() + length.as_nanos() as u64;
    while clock::now_ns() < end_ns {
        if interrupted.load(Relaxed) {
            return Ok(false);
        }
        crowd.turn(WANT, Duration::from_millis(50), informed)?;
    }
    Ok(true)
}

fn report(
    arguments: &Arguments,
    server: &Server,
    crowd: Crowd,
    informed: &Informed,
    steps: &[Step],
) -> anyhow::Result<Report> {
    let Some((first, last)) = steps.first().zip(steps.last()) else {
        let causes = crowd.failures.lines().map(|(text, count)| format!("\n  {count} × {text}"));
        bail!("interrupted before the first number of connections was reached{}", causes.collect::<String>());
    };
    let players = f64::from(last.open) - f64::from(first.open);
    let slope = if players > 0.0 {
        Ok((last.rss_bytes - first.rss_bytes) / players)
    } else {
        Err("there were no more members at the last step than at the first".to_owned())
    };
    let dialect = arguments.dialect;
    let stateless = if dialect.tells_presence() {
        Ok(f64::from(crowd.joined().saturating_sub(informed.count)))
    } else {
        Err(format!("not told in the {} dialect", dialect.as_str()))
    };
    let mut details = Map::new();
    let step = |step: &Step| json!({ "connections": step.open, "rss_bytes": step.rss_bytes });
    details.insert("steps".into(), steps.iter().map(step).collect());
    let texts: Vec<_> = steps
        .iter()
        .map(|step| format!("{} members: {:.0} KiB", step.open, step.rss_bytes / 1024.0))
        .collect();
    Ok(Report {
        command: "idle",
        title: format!(
            "{}: idle, {} dialect, resident memory: {}",
            arguments.common.url,
            dialect.as_str(),
            texts.join(", ")
        ),
        settings: json!({
            "url": arguments.common.url, "connections": arguments.connections, "players": arguments.players,
            "hold_s": arguments.hold.as_secs_f64(), "seed": arguments.seed, "ramp": arguments.ramp,
            "dialect": dialect.as_str(), "topic_prefix": dialect.tells_presence().then_some(&arguments.topic_prefix),
            "tokens": arguments.common.tokens_label(),
        }),
        complete: steps.len() == arguments.connections.len(),
        figures: fill(
            FIGURES,
            &[
                ("joined", Ok(f64::from(crowd.joined()))),
                ("not_joined", Ok(crowd.failures.total() as f64)),
                ("closed", Ok(crowd.closes.total() as f64)),
                ("stateless", stateless),
                ("rss_first_bytes", Ok(first.rss_bytes)),
                ("rss_last_bytes", Ok(last.rss_bytes)),
                ("slope", slope),
            ],
        ),
        cpu_source: Some(server.cpu_source()),
        failures: crowd.failures,
        closes: crowd.closes,
        stalled_closes: crowd.stalled_closes,
        errors: crowd.errors,
        warnings: Vec::new(),
        details,
    })
}
