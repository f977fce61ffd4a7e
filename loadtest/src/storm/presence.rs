//! The presence messages of each client of the storm: whether and when its state came, and how many came in any second.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::crowd::Listener;
use crate::dialect::{Event, Presence};
use crate::views::microseconds;

const SECOND_NS: u64 = 1_000_000_000;

pub struct Accounts {
    begun_ns: u64,
    interval_ns: f64,
    clients: Vec<Client>,
    last_join_ns: u64,
    /// From the intended time to the join reply, in µs.
    pub join_us: Histogram<u64>,
    /// From the intended time to the first `presence_state` after the join reply, in µs.
    pub state_us: Histogram<u64>,
    pub states: u64,
    pub diffs: u64,
    pub counts: u64,
}

#[derive(Clone, Default)]
struct Client {
    joined: bool,
    informed: bool,
    presence: SlidingSecond,
}

impl Accounts {
    /// For clients that mean to connect one every `interval_ns`, the first at `begun_ns`.
    pub fn new(clients: u32, begun_ns: u64, interval_ns: f64) -> Self {
        Self {
            begun_ns,
            interval_ns,
            clients: vec![Client::default(); clients as usize],
            last_join_ns: begun_ns,
            join_us: microseconds(),
            state_us: microseconds(),
            states: 0,
            diffs: 0,
            counts: 0,
        }
    }

    pub fn joined(&self) -> u64 {
        self.join_us.len()
    }

    /// Clients that have joined and got their state.
    pub fn informed(&self) -> u64 {
        self.state_us.len()
    }

    /// From the first client's time to the last join.
    pub fn join_time_ns(&self) -> u64 {
        self.last_join_ns - self.begun_ns
    }

    /// Most presence messages that one client got in any second.
    pub fn per_second_max(&self) -> u32 {
        self.clients.iter().map(|client| client.presence.max).max().unwrap_or(0)
    }
}

impl Listener for Accounts {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        let client = &mut self.clients[slot as usize];
        let intended_ns = self.begun_ns + (f64::from(slot) * self.interval_ns) as u64;
        let since_intended_us = now_ns.saturating_sub(intended_ns) / 1000;
        match event {
            Event::Joined if !client.joined => {
                client.joined = true;
                self.last_join_ns = now_ns;
                self.join_us.saturating_record(since_intended_us);
            }
            Event::Joined | Event::Positions(_) | Event::Record(_) | Event::Stream(_) => {}
            Event::Presence(presence) => {
                client.presence.count(now_ns);
                match presence {
                    Presence::State => self.states += 1,
                    Presence::Diff => self.diffs += 1,
                    Presence::Count => self.counts += 1,
                }
                if presence == Presence::State && client.joined && !client.informed {
                    client.informed = true;
                    self.state_us.saturating_record(since_intended_us);
                }
            }
        }
    }
}

/// The most events of any second: half-open, beginning anywhere.
#[derive(Clone, Default)]
struct SlidingSecond {
    /// Those of the second that ends with the newest.
    times_ns: VecDeque<u64>,
    max: u32,
}

impl SlidingSecond {
    /// Takes one at `now_ns`, which never falls.
    fn count(&mut self, now_ns: u64) {
        while self.times_ns.front().is_some_and(|&time_ns| now_ns - time_ns >= SECOND_NS) {
            self.times_ns.pop_front();
        }
        self.times_ns.push_back(now_ns);
        self.max = self.max.max(self.times_ns.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::random;

    const MS: u64 = 1_000_000;

    fn max_of(times_ms: impl IntoIterator<Item = u64>) -> u32 {
        let mut second = SlidingSecond::default();
        times_ms.into_iter().for_each(|time_ms| second.count(time_ms * MS));
        second.max
    }

    #[test]
    fn the_maximum_is_that_of_any_second_not_of_clock_seconds() {
        assert_eq!(max_of([]), 0);
        assert_eq!(max_of([5]), 1);
        // Ten at the end of one second and ten at the start of the next are twenty within one.
        assert_eq!(max_of((990..1000).chain(1000..1010)), 20);
        for seed in 0..50 {
            let mut times: Vec<u64> = (0..200).map(|number| random(seed, number) % 10_000).collect();
            times.sort_unstable();
            let from =
                |&start: &u64| times.iter().filter(|&&time| (start..start + 1000).contains(&time)).count();
            let expected = times.iter().map(from).max().unwrap() as u32;
            assert_eq!(max_of(times.iter().copied()), expected, "seed {seed}");
        }
    }

    #[test]
    fn latencies_run_from_the_intended_time_and_only_a_state_after_the_join_counts() {
        let mut accounts = Accounts::new(3, 1000 * MS, 2.0 * MS as f64);
        let mut tell = |slot, event, now_ms: u64| accounts.handle_event(slot, event, now_ms * MS);
        // Client 2 was meant to begin at 1004 ms.
        tell(2, Event::Presence(Presence::State), 1010);
        tell(2, Event::Joined, 1014);
        tell(2, Event::Joined, 1020);
        tell(0, Event::Joined, 1030);
        tell(0, Event::Presence(Presence::Diff), 1031);
        tell(0, Event::Presence(Presence::State), 1040);
        tell(0, Event::Presence(Presence::State), 1050);
        tell(1, Event::Presence(Presence::Count), 1060);
        assert_eq!((accounts.joined(), accounts.informed(), accounts.last_join_ns), (2, 1, 1030 * MS));
        assert_eq!((accounts.states, accounts.diffs, accounts.counts), (3, 1, 1));
        assert!(accounts.join_us.equivalent(accounts.join_us.min(), 10_000));
        assert!(accounts.join_us.equivalent(accounts.join_us.max(), 30_000));
        assert!(accounts.state_us.equivalent(accounts.state_us.max(), 40_000));
        assert_eq!(accounts.per_second_max(), 3);
    }
}
