//! `storm`: thousands of clients join one topic within seconds; how late each gets its presence, and how much of it.

mod arguments;
mod figures;
mod presence;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::bail;
use serde_json::{Map, json};

use crate::clock;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::figures::{Figure, Value, fill};
use crate::limits::{explain_ring_error, make_room};
use crate::players::bar;
use crate::report::{self, Report, SATURATED};
use crate::server::{Lap, Server, Stopwatch};
use presence::Accounts;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use figures::FIGURES;

/// Longest wait for arrivals; so much later a client may begin than it was meant to.
const TURN: Duration = Duration::from_micros(500);
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// The run, from the first connect to the end of the hold.
struct Measured {
    accounts: Accounts,
    lap: Lap,
    begun_ns: u64,
    complete: bool,
}

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.common.output, FIGURES, || {
        let site = arguments.common.site()?;
        make_room(arguments.clients, 1, site.target.address)?;
        let members = Members::new(arguments.clients, site.tokens, |_| arguments.topic.clone(), |slot| slot);
        let plan = Plan::new(&site.target, DialectName::Phoenix.dialect(members), arguments.clients);
        let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
        let measured = measure(arguments, &mut crowd, &site.server, interrupted)?;
        if measured.accounts.joined() == 0 {
            bail!("nobody could join {}{}", arguments.topic, crowd.endings.causes());
        }
        Ok(summarize(arguments, site.server.cpu_source(), crowd, &measured))
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
    Ok(Measured { accounts, lap: stopwatch.lap(server), begun_ns, complete: now_ns >= hold_end_ns })
}

fn summarize(
    arguments: &Arguments,
    cpu_source: &'static str,
    mut crowd: Crowd,
    measured: &Measured,
) -> Report {
    let figures = figures(&crowd, measured);
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = crowd.say_goodbye(GOODBYE_TIME);
    let common = &arguments.common;
    let (over_s, hold_s) = (arguments.over.as_secs_f64(), arguments.hold.as_secs_f64());
    Report {
        command: "storm",
        title: format!(
            "{}: {} clients into {} over {over_s:.1} s, then {hold_s:.1} s of watching{}",
            common.url,
            arguments.clients,
            arguments.topic,
            if measured.complete { "" } else { ", interrupted" },
        ),
        settings: json!({
            "url": common.url, "clients": arguments.clients, "over_s": over_s, "topic": arguments.topic,
            "hold_s": hold_s, "dialect": DialectName::Phoenix.as_str(), "tokens": common.tokens_label(),
        }),
        complete: measured.complete,
        cpu_source: measured.lap.server_cpu_s().is_ok().then_some(cpu_source),
        warnings: warnings(measured),
        figures,
        endings: crowd.endings,
        details: Map::new(),
    }
}

fn figures(crowd: &Crowd, measured: &Measured) -> Vec<Figure> {
    let Measured { accounts, lap, begun_ns, .. } = measured;
    let count = |number: u64| -> Value { Ok(number as f64) };
    let per_client = |number: u64| -> Value { Ok(number as f64 / accounts.joined().max(1) as f64) };
    let join_ns = accounts.last_join_ns - begun_ns;
    let (join, state) = (&accounts.join_us, &accounts.state_us);
    let stated = |us: u64| -> Value {
        if state.is_empty() { Err("nobody got a presence_state".to_owned()) } else { Ok(us as f64) }
    };
    let received = crowd.counters;
    let joined = accounts.joined().max(1) as f64;
    fill(
        FIGURES,
        [
            ("joined", count(accounts.joined())),
            ("not_joined", Ok(f64::from(crowd.connections()) - accounts.joined() as f64)),
            ("closed", count(crowd.endings.closes.total())),
            ("states", count(accounts.informed())),
            ("stateless", count(accounts.joined() - accounts.informed())),
            ("presence_frames_per_s_max", Ok(f64::from(accounts.per_second_max()))),
            ("join_time", Ok(join_ns as f64 / 1e3)),
            ("joins_per_s", Ok(accounts.joined() as f64 / (join_ns.max(1) as f64 / 1e9))),
            ("join_p50", count(join.value_at_percentile(50.0))),
            ("join_p99", count(join.value_at_percentile(99.0))),
            ("join_max", count(join.max())),
            ("state_p50", stated(state.value_at_percentile(50.0))),
            ("state_p99", stated(state.value_at_percentile(99.0))),
            ("state_max", stated(state.max())),
            ("start_lateness_max", Ok(crowd.start_lateness_ns_max as f64 / 1e3)),
            ("presence_states", count(accounts.states)),
            ("presence_diffs", count(accounts.diffs)),
            ("presence_counts", count(accounts.counts)),
            ("window", Ok(lap.length_ns as f64 / 1e3)),
            ("frames_received", count(received.frames)),
            ("bytes_received", count(received.bytes)),
            ("frames_per_client", per_client(received.frames)),
            ("bytes_per_client", per_client(received.bytes)),
            ("rate_limited", count(received.rate_limited)),
            ("errors", count(received.errors)),
            ("notices", count(received.notices)),
            ("malformed", count(received.malformed)),
            ("client.cpu_cores", Ok(lap.own_cores())),
            ("server.cpu_cores", lap.server_cores()),
            ("server.cpu_us_per_client", lap.server_cpu_s().map(|cpu_s| cpu_s * 1e6 / joined)),
            ("server.rss_bytes", lap.after.rss_bytes.clone()),
            ("server.rss_growth_bytes", lap.rss_growth_bytes()),
        ],
    )
}

fn warnings(measured: &Measured) -> Vec<String> {
    let own_share = measured.lap.own_cores();
    let mut warnings = Vec::new();
    if own_share > SATURATED {
        warnings.push(format!(
            "this machine did not keep up ({:.0} % of the client's thread used): read the latencies and the frames per second \
             as upper bounds",
            own_share * 100.0
        ));
    }
    if !measured.complete {
        warnings.push("interrupted: not everybody had the time to join".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions;
    use crate::crowd::Listener;
    use crate::dialect::{Event, Presence};
    use crate::figures::value_of;
    use crate::target::Target;
    use crate::tokens::Tokens;

    fn measured(own_cpu_ns: u64) -> Measured {
        let mut accounts = Accounts::new(4, 0, 1e6);
        for slot in 0..3 {
            accounts.handle_event(slot, Event::Joined, 500_000_000);
        }
        accounts.handle_event(1, Event::Presence(Presence::State), 600_000_000);
        Measured { accounts, lap: Lap::unread(own_cpu_ns, 2_000_000_000), begun_ns: 0, complete: true }
    }

    fn crowd() -> Crowd {
        let members = Members::new(4, Tokens::None, |_| "room:lobby".into(), |slot| slot);
        let target = Target { authority: "relay".into(), address: "127.0.0.1:9".parse().unwrap() };
        Crowd::new(Plan::new(&target, DialectName::Phoenix.dialect(members), 4)).unwrap()
    }

    #[test]
    fn every_figure_is_there_and_those_without_a_state_are_counted() {
        let figures = figures(&crowd(), &measured(0));
        let value = |name| value_of(&figures, name);
        assert_eq!((value("joined"), value("not_joined")), (Ok(3.0), Ok(1.0)));
        assert_eq!((value("states"), value("stateless")), (Ok(1.0), Ok(2.0)));
        assert_eq!((value("joins_per_s"), value("join_time")), (Ok(6.0), Ok(500_000.0)));
        assert_eq!(value("presence_frames_per_s_max"), Ok(1.0));
        assert!(value("server.cpu_cores").unwrap_err().contains("127.0.0.1:1"));
        let holds = |list| {
            let mut assertions = assertions::parse(list, FIGURES).unwrap().into_iter();
            assertions.all(|assertion| assertion.check(&figures).is_ok())
        };
        assert!(holds("presence_frames_per_s_max<=20,closed==0,join_max<=501ms"));
        assert!(!holds("stateless==0") && !holds("joined==4"));
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_told() {
        assert!(warnings(&measured(1_800_000_000))[0].contains("90 %"));
        assert_eq!(warnings(&measured(1_600_000_000)).len(), 0);
    }
}
