//! `storm`: very many clients join one topic within seconds; whether each is told who is there, and how much of it.

mod arguments;
mod figures;
mod presence;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};

use crate::assertions;
use crate::clock;
use crate::crowd::{Crowd, Plan};
use crate::dialect::{DialectName, Members};
use crate::figures::{Figure, Value, difference, fill};
use crate::handshake::Handshake;
use crate::limits::{explain_ring_error, make_room};
use crate::report::{Report, SATURATED};
use crate::server::{Sample, Server};
use crate::target::Target;
use presence::Accounts;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use figures::FIGURES;

/// Longest wait for arrivals; so much later a client may begin than it was meant to.
const TURN: Duration = Duration::from_micros(500);
/// Completions after which a wait ends before its time.
const WANT: usize = 128;
/// How long goodbyes may take.
const GOODBYE_NS: u64 = 5_000_000_000;

/// The run, from the first connect to the end of the hold.
struct Measured {
    accounts: Accounts,
    before: Sample,
    after: Sample,
    begun_ns: u64,
    length_ns: u64,
    own_cpu_ns: u64,
    complete: bool,
}

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&arguments.common.assertions, FIGURES)?;
    let target = Target::parse(&arguments.common.url)?;
    let metrics_url = arguments.common.metrics.clone().unwrap_or_else(|| target.default_metrics_url());
    let server = Server { metrics_url, pid: arguments.common.server_pid };
    let tokens = arguments.common.tokens()?;
    let &Arguments { clients, over, .. } = arguments;
    make_room(clients, 1, target.address)?;

    let interval_ns = (over.as_nanos() as f64 / f64::from(clients)).max(1.0);
    let members = Members::new(clients, tokens, |_| arguments.topic.clone(), |slot| slot);
    let plan = Plan {
        target: target.address,
        handshake: Handshake::new(target.authority),
        dialect: DialectName::Phoenix.dialect(members),
        connections: clients,
        stalled_from: clients,
        ramp_per_s: 1e9 / interval_ns,
    };
    let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
    let measured = measure(arguments, &mut crowd, interval_ns, &server, interrupted)?;
    if measured.accounts.joined() == 0 {
        let causes = crowd.failures.lines().map(|(text, count)| format!("\n  {count} × {text}"));
        bail!("nobody could join {}{}", arguments.topic, causes.collect::<String>());
    }
    report(arguments, &server, crowd, &measured).finish(&assertions, arguments.common.json.as_deref())
}

fn measure(
    arguments: &Arguments,
    crowd: &mut Crowd,
    interval_ns: f64,
    server: &Server,
    interrupted: &AtomicBool,
) -> anyhow::Result<Measured> {
    let style = ProgressStyle::with_template("joining {bar:30} {pos}/{len} {elapsed}")
        .expect("the template is constant and valid");
    let bar = ProgressBar::new(u64::from(arguments.clients)).with_style(style);
    let (before, own_cpu_before_ns) = (server.sample(), clock::own_cpu_ns());
    let begun_ns = clock::now_ns();
    let mut accounts = Accounts::new(arguments.clients, begun_ns, interval_ns);
    let mut now_ns = begun_ns;
    let mut joining = true;
    let mut hold_end_ns = u64::MAX;
    while now_ns < hold_end_ns && !interrupted.load(Relaxed) {
        if joining && crowd.ramp(arguments.clients, now_ns)? {
            joining = false;
            hold_end_ns = now_ns + arguments.hold.as_nanos() as u64;
        }
        now_ns = crowd.turn(WANT, TURN, &mut accounts)?;
        bar.set_position(accounts.joined());
    }
    bar.finish_and_clear();
    let own_cpu_ns = clock::own_cpu_ns() - own_cpu_before_ns;
    let (after, length_ns) = (server.sample(), now_ns - begun_ns);
    let complete = now_ns >= hold_end_ns;
    let measured = Measured { accounts, before, after, begun_ns, length_ns, own_cpu_ns, complete };
    Ok(measured)
}

fn report(arguments: &Arguments, server: &Server, mut crowd: Crowd, measured: &Measured) -> Report {
    let figures = figures(&crowd, measured);
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = say_goodbye(&mut crowd);
    Report {
        command: "storm",
        title: format!(
            "{}: {} clients into {} over {:.1} s, then {:.1} s of watching{}",
            arguments.common.url,
            arguments.clients,
            arguments.topic,
            arguments.over.as_secs_f64(),
            arguments.hold.as_secs_f64(),
            if measured.complete { "" } else { ", interrupted" },
        ),
        settings: json!({
            "url": arguments.common.url, "clients": arguments.clients, "over_s": arguments.over.as_secs_f64(),
            "topic": arguments.topic, "hold_s": arguments.hold.as_secs_f64(), "dialect": DialectName::Phoenix.as_str(),
            "tokens": arguments.common.tokens_label(),
        }),
        complete: measured.complete,
        cpu_source: difference(&measured.after.cpu_s, &measured.before.cpu_s)
            .is_ok()
            .then(|| server.cpu_source()),
        warnings: warnings(measured),
        figures,
        failures: crowd.failures,
        closes: crowd.closes,
        stalled_closes: crowd.stalled_closes,
        errors: crowd.errors,
        details: Map::new(),
    }
}

fn say_goodbye(crowd: &mut Crowd) -> std::io::Result<()> {
    crowd.close()?;
    let deadline_ns = clock::now_ns() + GOODBYE_NS;
    while !crowd.is_over() && clock::now_ns() < deadline_ns {
        crowd.turn(WANT, Duration::from_millis(10), &mut crate::crowd::Blind)?;
    }
    Ok(())
}

fn figures(crowd: &Crowd, measured: &Measured) -> Vec<Figure> {
    let Measured { accounts, before, after, begun_ns, length_ns, own_cpu_ns, .. } = measured;
    let count = |number: u64| -> Value { Ok(number as f64) };
    let per_client = |number: u64| -> Value { Ok(number as f64 / accounts.joined().max(1) as f64) };
    let join_ns = accounts.last_join_ns - begun_ns;
    let (join, state) = (&accounts.join_us, &accounts.state_us);
    let stated = |us: u64| -> Value {
        if state.is_empty() { Err("nobody got a presence_state".to_owned()) } else { Ok(us as f64) }
    };
    let seconds = *length_ns as f64 / 1e9;
    let server_cpu_s = difference(&after.cpu_s, &before.cpu_s);
    let received = crowd.counters;
    fill(
        FIGURES,
        &[
            ("joined", count(accounts.joined())),
            ("not_joined", Ok(f64::from(crowd.connections()) - accounts.joined() as f64)),
            ("closed", count(crowd.closes.total())),
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
            ("window", Ok(*length_ns as f64 / 1e3)),
            ("frames_received", count(received.frames)),
            ("bytes_received", count(received.bytes)),
            ("frames_per_client", per_client(received.frames)),
            ("bytes_per_client", per_client(received.bytes)),
            ("rate_limited", count(received.rate_limited)),
            ("errors", count(received.errors)),
            ("notices", count(received.notices)),
            ("malformed", count(received.malformed)),
            ("client.cpu_cores", Ok(*own_cpu_ns as f64 / 1e9 / seconds)),
            ("server.cpu_cores", server_cpu_s.clone().map(|cpu_s| cpu_s / seconds)),
            (
                "server.cpu_us_per_client",
                server_cpu_s.map(|cpu_s| cpu_s * 1e6 / accounts.joined().max(1) as f64),
            ),
            ("server.rss_bytes", after.rss_bytes.clone()),
            ("server.rss_growth_bytes", difference(&after.rss_bytes, &before.rss_bytes)),
        ],
    )
}

fn warnings(measured: &Measured) -> Vec<String> {
    let own_share = measured.own_cpu_ns as f64 / measured.length_ns as f64;
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
    use crate::crowd::Listener;
    use crate::dialect::{News, Presence};
    use crate::tokens::Tokens;

    fn measured() -> Measured {
        let nowhere = Server { metrics_url: "http://127.0.0.1:1/metrics".into(), pid: None };
        let mut accounts = Accounts::new(4, 0, 1e6);
        for slot in 0..3 {
            accounts.handle_news(slot, News::Joined, 500_000_000);
        }
        accounts.handle_news(1, News::Presence(Presence::State), 600_000_000);
        Measured {
            accounts,
            before: nowhere.sample(),
            after: nowhere.sample(),
            begun_ns: 0,
            length_ns: 2_000_000_000,
            own_cpu_ns: 1_800_000_000,
            complete: true,
        }
    }

    fn crowd() -> Crowd {
        let target = "127.0.0.1:9".parse().unwrap();
        let members = Members::new(4, Tokens::None, |_| "room:lobby".into(), |slot| slot);
        Crowd::new(Plan {
            target,
            handshake: Handshake::new("relay".into()),
            dialect: DialectName::Phoenix.dialect(members),
            connections: 4,
            stalled_from: 4,
            ramp_per_s: 1e6,
        })
        .unwrap()
    }

    #[test]
    fn every_figure_is_there_and_those_without_a_state_are_counted() {
        let figures = figures(&crowd(), &measured());
        let value =
            |name: &str| figures.iter().find(|figure| figure.spec.name == name).unwrap().value.clone();
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
        assert!(warnings(&measured())[0].contains("90 %"));
        assert_eq!(warnings(&Measured { own_cpu_ns: 1_600_000_000, ..measured() }).len(), 0);
    }
}
