//! What a storm measured, as figures and warnings.

use super::presence::Accounts;
use crate::counters::Counters;
use crate::endings::Endings;
use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Rule, count, headline, latency, spec};
use crate::report::did_not_keep_up;
use crate::server::Lap;

/// The run, from the first connect to the end of the hold.
pub struct Measured {
    pub accounts: Accounts,
    pub clients: u32,
    pub received: Counters,
    pub endings: Endings,
    pub start_lateness_ns_max: u64,
    pub lap: Lap,
    pub complete: bool,
}

/// Figures of `storm`.
pub static FIGURES: &[Rule<Measured>] = &[
    headline("joined", Count, "clients whose join was answered with ok")
        .of(|run| count(run.accounts.joined())),
    spec("not_joined", Count, "clients whose join was not")
        .of(|run| count(u64::from(run.clients) - run.accounts.joined())),
    headline("closed", Count, "clients that joined and whose connection ended")
        .of(|run| count(run.endings.closes.total())),
    spec("states", Count, "clients that got a presence_state after their join reply")
        .of(|run| count(run.accounts.informed())),
    headline("stateless", Count, "joined - states")
        .of(|run| count(run.accounts.joined() - run.accounts.informed())),
    headline("presence_frames_per_s_max", Count, "most presence_* messages of one client in any second")
        .of(|run| count(run.accounts.per_second_max())),
    spec("join_time", Duration, "from the first client's time to the last join reply")
        .of(|run| Ok(run.accounts.join_time_ns() as f64 / 1e3)),
    spec("joins_per_s", Number, "joined / join_time")
        .of(|run| Ok(run.accounts.joined() as f64 / (run.accounts.join_time_ns().max(1) as f64 / 1e9))),
    spec("join_p50", Duration, "from when a client was meant to connect to its join reply")
        .of(|run| latency(&run.accounts.join_us, 50.0)),
    headline("join_p99", Duration, "99 % of the joins were answered within")
        .of(|run| latency(&run.accounts.join_us, 99.0)),
    spec("join_max", Duration, "the slowest join").of(|run| latency(&run.accounts.join_us, 100.0)),
    spec("state_p50", Duration, "from when a client was meant to connect to its state")
        .of(|run| latency(&run.accounts.state_us, 50.0)),
    spec("state_p99", Duration, "99 % of the states arrived within")
        .of(|run| latency(&run.accounts.state_us, 99.0)),
    spec("state_max", Duration, "the slowest state").of(|run| latency(&run.accounts.state_us, 100.0)),
    spec("start_lateness_max", Duration, "the latest connect, after its time")
        .of(|run| Ok(run.start_lateness_ns_max as f64 / 1e3)),
    spec("presence_states", Count, "presence_state messages received").of(|run| count(run.accounts.states)),
    spec("presence_diffs", Count, "presence_diff messages received").of(|run| count(run.accounts.diffs)),
    spec("presence_counts", Count, "presence_count messages received").of(|run| count(run.accounts.counts)),
    spec("window", Duration, "from the first connect to the end of --hold")
        .of(|run| Ok(run.lap.length_ns as f64 / 1e3)),
    spec("frames_received", Count, "WebSocket messages received, all of them")
        .of(|run| count(run.received.frames)),
    spec("bytes_received", Count, "bytes received").of(|run| count(run.received.bytes)),
    spec("rate_limited", Count, "rate_limited messages received").of(|run| count(run.received.rate_limited)),
    spec("errors", Count, "error replies received, besides those to joins")
        .of(|run| count(run.received.errors)),
    spec("notices", Count, "disconnect_warning and server_draining messages received")
        .of(|run| count(run.received.notices)),
    spec("malformed", Count, "messages received that are none of the protocol")
        .of(|run| count(run.received.malformed)),
    spec("client.cpu_cores", Number, "processor time of this load test / window")
        .of(|run| Ok(run.lap.own_cores())),
    spec("server.cpu_cores", Number, "processor time of the relay / window").of(|run| run.lap.server_cores()),
    headline("server.cpu_us_per_client", Number, "µs of it per client that joined")
        .of(|run| Ok(run.lap.server_cpu_s()? * 1e6 / run.accounts.joined().max(1) as f64)),
    spec("server.rss_bytes", Bytes, "resident memory of the relay at the end")
        .of(|run| run.lap.after.rss_bytes.clone()),
    spec("server.rss_growth_bytes", Bytes, "and how much it grew").of(|run| run.lap.rss_growth_bytes()),
];

impl Measured {
    pub fn warnings(&self) -> Vec<String> {
        let interrupted = "interrupted: not everybody had the time to join".to_owned();
        let interrupted = (!self.complete).then_some(interrupted);
        did_not_keep_up(self.lap.own_cores(), None).into_iter().chain(interrupted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::Listener;
    use crate::dialect::{Event, Presence};
    use crate::figures::{figures_of, value_of};

    #[test]
    fn those_without_a_state_are_counted() {
        let mut accounts = Accounts::new(4, 0, 1e6);
        for slot in 0..3 {
            accounts.handle_event(slot, Event::Joined, 500_000_000);
        }
        accounts.handle_event(1, Event::Presence(Presence::State), 600_000_000);
        let (received, endings) = (Counters::default(), Endings::default());
        let lap = Lap::unread(1_800_000_000, 2_000_000_000);
        let start_lateness_ns_max = 0;
        let measured =
            Measured { accounts, clients: 4, received, endings, start_lateness_ns_max, lap, complete: true };
        assert!(measured.warnings()[0].contains("90 %"));
        let figures = figures_of(FIGURES, &measured);
        let value = |name| value_of(&figures, name);
        assert_eq!((value("joined"), value("not_joined")), (Ok(3.0), Ok(1.0)));
        assert_eq!((value("states"), value("stateless")), (Ok(1.0), Ok(2.0)));
        assert_eq!((value("joins_per_s"), value("join_time")), (Ok(6.0), Ok(500_000.0)));
        assert_eq!(value("presence_frames_per_s_max"), Ok(1.0));
        assert!(value("server.cpu_cores").unwrap_err().contains("127.0.0.1:1"));
    }
}
