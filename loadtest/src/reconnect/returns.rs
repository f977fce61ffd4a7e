//! Who comes back when, and what it finds: of each client from the outage to its `catch_up`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::dialect::Stream;
use crate::schedule::random;
use crate::views::microseconds;

/// Over which time clients come back that were told nothing.
const JITTER: Duration = Duration::from_secs(5);
/// How long a client waits that was refused, half of it by chance; twice as long after each further refusal.
const RETRY_NS: u64 = 1_000_000_000;
/// Refusals after which the wait grows no more.
const GROWING_REFUSALS: u32 = 3;

/// See the module documentation. `begin`, then each end of a connection, and `take_due` for who is to connect.
#[derive(Debug)]
pub struct Returns {
    seed: u64,
    /// What was asked for; else what the relay says.
    jitter: Option<Duration>,
    draining: Option<(u32, u32)>,
    clients: Vec<Client>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    begun_ns: Option<u64>,
    last_back_ns: u64,
    /// From when clients meant to connect for the first time to their `catch_up`, in µs.
    pub back_us: Histogram<u64>,
    /// Attempts that ended before the `catch_up`, whatever the reason.
    pub failed_attempts: u64,
    /// Clients whose connection ended after they had come back.
    pub gone_again: u64,
}

#[derive(Clone, Debug)]
struct Client {
    state: State,
    /// The connection that has ended.
    gone: u32,
    first_due_ns: u64,
    refusals: u32,
    seat_resumed: bool,
    found: Option<Found>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Here,
    Away,
    /// It has connected, and waits for what it missed.
    Coming,
    /// There is no connection left for it.
    GivenUp,
}

/// What a client was told when it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Recovered,
    Epoch,
    TooOld,
    Ahead,
    /// A reason that the protocol does not know.
    Other,
}

impl Found {
    fn of(missed: Result<(), &str>) -> Self {
        match missed {
            Ok(()) => Self::Recovered,
            Err("epoch") => Self::Epoch,
            Err("too_old") => Self::TooOld,
            Err("ahead") => Self::Ahead,
            Err(_) => Self::Other,
        }
    }
}

impl Returns {
    /// `clients` that are all there.
    pub fn new(clients: u32, jitter: Option<Duration>, seed: u64) -> Self {
        let client = Client {
            state: State::Here,
            gone: 0,
            first_due_ns: 0,
            refusals: 0,
            seat_resumed: false,
            found: None,
        };
        Self {
            seed,
            jitter,
            draining: None,
            clients: vec![client; clients as usize],
            due: BinaryHeap::new(),
            begun_ns: None,
            last_back_ns: 0,
            back_us: microseconds(),
            failed_attempts: 0,
            gone_again: 0,
        }
    }

    /// The outage begins: who is gone from now on comes back.
    pub fn begin(&mut self, now_ns: u64) {
        (self.begun_ns, self.last_back_ns) = (Some(now_ns), now_ns);
    }

    /// The pause before anybody comes back, and the time over which all do.
    fn pauses_ns(&self) -> (u64, u64) {
        let (retry_after_ms, jitter_ms) = self.draining.unwrap_or((0, JITTER.as_millis() as u32));
        let jitter_ns = self.jitter.map(|jitter| jitter.as_nanos() as u64);
        (u64::from(retry_after_ms) * 1_000_000, jitter_ns.unwrap_or(u64::from(jitter_ms) * 1_000_000))
    }

    /// Over which time clients come back.
    pub fn jitter_ns(&self) -> u64 {
        self.pauses_ns().1
    }

    /// The last connection of `client`, `slot`, has ended. Before the outage it stays away.
    pub fn handle_gone(&mut self, client: u32, slot: u32, now_ns: u64) {
        let (pause_ns, jitter_ns) = self.pauses_ns();
        let returns = self.begun_ns.is_some();
        let entry = &mut self.clients[client as usize];
        let chance = random(self.seed ^ u64::from(entry.refusals + 1) << 32, client);
        let due_ns = match entry.state {
            State::Here => {
                self.gone_again += u64::from(entry.found.is_some());
                entry.first_due_ns = now_ns + pause_ns + chance % jitter_ns.max(1);
                entry.first_due_ns
            }
            State::Coming => {
                self.failed_attempts += 1;
                let wait_ns = RETRY_NS << entry.refusals.min(GROWING_REFUSALS);
                entry.refusals += 1;
                now_ns + wait_ns / 2 + chance % (wait_ns / 2)
            }
            State::Away | State::GivenUp => return,
        };
        entry.gone = slot;
        entry.state = if returns { State::Away } else { State::GivenUp };
        if returns {
            self.due.push(Reverse((due_ns, client)));
        }
    }

    /// A client whose time has come, and its connection that has ended.
    pub fn take_due(&mut self, now_ns: u64) -> Option<(u32, u32)> {
        let Reverse((_, client)) = *self.due.peek().filter(|Reverse((due_ns, _))| *due_ns <= now_ns)?;
        self.due.pop();
        let entry = &mut self.clients[client as usize];
        entry.state = State::Coming;
        Some((client, entry.gone))
    }

    pub fn give_up(&mut self, client: u32) {
        self.clients[client as usize].state = State::GivenUp;
    }

    pub fn handle_stream(&mut self, client: u32, stream: Stream<'_>, now_ns: u64) {
        let entry = &mut self.clients[client as usize];
        match stream {
            Stream::Opened { resumed, .. } => entry.seat_resumed = resumed,
            Stream::CaughtUp { missed, .. } if entry.state == State::Coming => {
                entry.state = State::Here;
                entry.found = Some(Found::of(missed));
                self.last_back_ns = now_ns;
                self.back_us.saturating_record(now_ns.saturating_sub(entry.first_due_ns) / 1000);
            }
            Stream::Draining { retry_after_ms, jitter_ms } => {
                self.draining = Some((retry_after_ms, jitter_ms));
            }
            Stream::CaughtUp { .. }
            | Stream::Heard { .. }
            | Stream::Text { .. }
            | Stream::Edited { .. }
            | Stream::Acknowledged { .. }
            | Stream::Refused { .. } => {}
        }
    }

    /// Whether everybody has gone, and everybody who may is back.
    pub fn are_over(&self) -> bool {
        let settled = |client: &Client| match client.state {
            State::Here => client.found.is_some(),
            State::GivenUp => true,
            State::Away | State::Coming => false,
        };
        self.clients.iter().all(settled)
    }

    /// Clients that have come back, whether or not they stayed.
    pub fn back(&self) -> u64 {
        self.clients.iter().filter(|client| client.found.is_some()).count() as u64
    }

    /// Clients that were told so in the end.
    pub fn found(&self, found: Found) -> u64 {
        self.clients.iter().filter(|client| client.found == Some(found)).count() as u64
    }

    /// Clients from `first` on, players, that are back on the seat that they had, or on another one.
    pub fn seats(&self, first: u32, resumed: bool) -> u64 {
        let players = self.clients[first as usize..].iter().filter(|client| client.found.is_some());
        players.filter(|client| client.seat_resumed == resumed).count() as u64
    }

    /// From the outage's begin to the last return.
    pub fn length_ns(&self) -> u64 {
        self.begun_ns.map_or(0, |begun_ns| self.last_back_ns - begun_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const CAUGHT_UP: Stream<'_> = Stream::CaughtUp { seq: 9, missed: Ok(()) };

    /// Times at which two hundred clients that are gone at 1000 ms come back.
    fn due_ms(mut returns: Returns) -> Vec<u64> {
        returns.begin(1000 * MS);
        (0..200).for_each(|client| returns.handle_gone(client, client, 1000 * MS));
        let mut times = Vec::new();
        for now_ms in 1000..20_000 {
            while returns.take_due(now_ms * MS).is_some() {
                times.push(now_ms);
            }
        }
        times
    }

    #[test]
    fn clients_come_back_spread_over_the_jitter_behind_the_pause_that_they_were_told() {
        let spread = |times: &[u64]| (times.len(), times[0] / 100, times[199] / 100);
        assert_eq!(spread(&due_ms(Returns::new(200, None, 1))), (200, 10, 59));
        assert_eq!(spread(&due_ms(Returns::new(200, Some(Duration::from_secs(1)), 1))), (200, 10, 19));
        let mut told = Returns::new(200, None, 1);
        told.handle_stream(7, Stream::Draining { retry_after_ms: 1000, jitter_ms: 2000 }, 0);
        assert_eq!(spread(&due_ms(told)), (200, 20, 39));
        let mut told = Returns::new(200, Some(Duration::ZERO), 1);
        told.handle_stream(7, Stream::Draining { retry_after_ms: 1000, jitter_ms: 2000 }, 0);
        assert_eq!(spread(&due_ms(told)), (200, 20, 20));
    }

    #[test]
    fn a_refused_client_tries_again_later_and_its_time_runs_from_the_first_attempt() {
        let mut returns = Returns::new(2, Some(Duration::ZERO), 1);
        returns.begin(0);
        returns.handle_gone(0, 0, 0);
        assert_eq!(returns.take_due(0), Some((0, 0)));
        returns.handle_gone(0, 2, 10 * MS);
        assert_eq!(returns.take_due(500 * MS), None);
        assert_eq!(returns.take_due(1010 * MS), Some((0, 2)), "after half a second to a second");
        returns.handle_stream(0, Stream::Opened { seq: 9, resumed: true }, 1020 * MS);
        assert_eq!(returns.back(), 0);
        returns.handle_stream(0, CAUGHT_UP, 1030 * MS);
        assert!(!returns.are_over(), "the other one has not even gone");
        assert_eq!((returns.back(), returns.failed_attempts), (1, 1));
        assert_eq!((returns.seats(0, true), returns.seats(1, true)), (1, 0));
        assert!(returns.back_us.equivalent(returns.back_us.max(), 1_030_000));
        returns.handle_gone(1, 1, 1040 * MS);
        assert_eq!(returns.take_due(1040 * MS), Some((1, 1)));
        returns.handle_stream(1, Stream::CaughtUp { seq: 9, missed: Err("too_old") }, 1050 * MS);
        assert!(returns.are_over());
        assert_eq!((returns.found(Found::Recovered), returns.found(Found::TooOld)), (1, 1));
        assert_eq!(returns.length_ns(), 1050 * MS);
        returns.handle_gone(1, 3, 1060 * MS);
        assert_eq!((returns.gone_again, returns.back()), (1, 2));
    }

    #[test]
    fn who_is_gone_before_the_outage_stays_away() {
        let mut returns = Returns::new(1, None, 1);
        returns.handle_gone(0, 0, 5);
        returns.begin(10);
        assert_eq!(returns.take_due(u64::MAX), None);
        assert!(returns.are_over());
        assert_eq!(returns.back(), 0);
    }
}
