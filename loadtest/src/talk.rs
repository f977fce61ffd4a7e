//! What the members of rooms say: each message at its time, whatever the relay does, and what became of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use crate::clock;
use crate::crowd::{Crowd, Listener, Pushed};
use crate::dialect::{Event, Stream};
use crate::ledger::{Ledger, Seating};
use crate::outcomes::Outcomes;

/// Messages that waited for a busy socket go into one send up to so many bytes.
const WAITING_BYTES_ENOUGH: usize = 16 * 1024;
/// A client that has no connection.
const AWAY: u32 = u32::MAX;

/// What is said, and when.
#[derive(Clone, Debug)]
pub struct Script {
    pub seating: Seating,
    /// Messages a second, of all rooms together, at even times.
    pub rate: f64,
    pub body_bytes: usize,
}

/// See the module documentation. `begin`, then `send_due` again and again, and `send_freed` after each turn of the crowd, which
/// tells this of its events.
pub struct Talk {
    pub ledger: Ledger,
    pub outcomes: Outcomes,
    /// Acknowledged messages that members, who came back without recovery, were not told of.
    pub not_recovered: u64,
    interval_ns: f64,
    body_bytes: usize,
    start_ns: u64,
    window_ns: Range<u64>,
    /// The next message. Those from `end` on are not said.
    next: u32,
    end: u32,
    /// Connection of each client, or `AWAY`.
    slots: Vec<u32>,
    /// Client of each connection.
    clients: Vec<u32>,
    /// Messages that wait for their sender's socket, by connection.
    waiting: BTreeMap<u32, Vec<u32>>,
    payload: String,
    frames: Vec<u8>,
}

impl Talk {
    /// `clients` in all, of which the first ones sit in the script's rooms. A client is connection of the same number.
    pub fn new(script: &Script, clients: u32) -> Self {
        Self {
            ledger: Ledger::new(script.seating),
            outcomes: Outcomes::default(),
            not_recovered: 0,
            interval_ns: 1e9 / script.rate,
            body_bytes: script.body_bytes,
            start_ns: u64::MAX,
            window_ns: 0..0,
            next: 0,
            end: 0,
            slots: (0..clients).collect(),
            clients: (0..clients).collect(),
            waiting: BTreeMap::new(),
            payload: String::new(),
            frames: Vec::new(),
        }
    }

    /// The first message is meant for `start_ns`; they go on until `stop`, or until `messages` have come due.
    pub fn begin(&mut self, start_ns: u64, window_ns: Range<u64>, messages: u32) {
        (self.start_ns, self.window_ns, self.end) = (start_ns, window_ns, messages);
    }

    /// Nothing more is said.
    pub fn stop(&mut self) {
        self.end = self.next;
    }

    /// Messages that have come due, or will.
    pub fn planned(&self) -> u32 {
        self.end
    }

    pub fn next_ns(&self) -> Option<u64> {
        (self.next < self.end).then(|| self.intended_ns(self.next))
    }

    fn intended_ns(&self, number: u32) -> u64 {
        self.start_ns.saturating_add((f64::from(number) * self.interval_ns) as u64)
    }

    pub fn client_of(&self, slot: u32) -> u32 {
        self.clients[slot as usize]
    }

    pub fn is_here(&self, client: u32) -> bool {
        self.slots[client as usize] != AWAY
    }

    /// The connection of a client has ended: what it has not sent stays unsent.
    pub fn handle_gone(&mut self, slot: u32) {
        let client = self.client_of(slot);
        if self.slots[client as usize] == slot {
            self.slots[client as usize] = AWAY;
        }
        self.outcomes.unsent += self.waiting.remove(&slot).map_or(0, |messages| messages.len() as u64);
    }

    /// Connection `slot`, the next one that is started, is `client`, which comes back.
    pub fn handle_come_back(&mut self, slot: u32, client: u32) {
        debug_assert_eq!(self.clients.len(), slot as usize);
        self.clients.push(client);
    }

    pub fn send_due(&mut self, crowd: &mut Crowd, now_ns: u64) -> anyhow::Result<()> {
        while self.next_ns().is_some_and(|next_ns| next_ns <= now_ns) {
            let number = self.next;
            self.next += 1;
            match self.slots[self.ledger.seating().sender_of(number) as usize] {
                AWAY => self.outcomes.unsent += 1,
                slot => self.send(crowd, slot, &[number], now_ns)?,
            }
        }
        Ok(())
    }

    /// Sends what waited for sockets that are free now.
    pub fn send_freed(&mut self, crowd: &mut Crowd) -> anyhow::Result<()> {
        for slot in crowd.take_freed() {
            if let Some(numbers) = self.waiting.remove(&slot) {
                self.send(crowd, slot, &numbers, clock::now_ns())?;
            }
        }
        Ok(())
    }

    fn send(&mut self, crowd: &mut Crowd, slot: u32, numbers: &[u32], now_ns: u64) -> anyhow::Result<()> {
        self.frames.clear();
        let mut written = 0;
        while written < numbers.len() && self.frames.len() < WAITING_BYTES_ENOUGH {
            self.payload.clear();
            let body = format!("{} ", numbers[written]);
            let _ = write!(self.payload, r#"{{"body":"{body:.<width$}"}}"#, width = self.body_bytes);
            crowd.write_push(slot, numbers[written], "new_message", &self.payload, &mut self.frames);
            written += 1;
        }
        let rest = match crowd.try_send(slot, &self.frames)? {
            Pushed::Sent => {
                numbers[..written].iter().for_each(|&number| self.count_sent(number, now_ns));
                if written < numbers.len() {
                    // The socket is busy now; the rest goes when it no longer is.
                    return self.send(crowd, slot, &numbers[written..], now_ns);
                }
                &[][..]
            }
            Pushed::Busy => numbers,
            Pushed::Gone => {
                self.outcomes.unsent += numbers.len() as u64;
                &[]
            }
        };
        if !rest.is_empty() {
            self.outcomes.queued += rest.len() as u64;
            self.waiting.entry(slot).or_default().extend(rest);
        }
        Ok(())
    }

    fn count_sent(&mut self, number: u32, now_ns: u64) {
        self.ledger.handle_sent(number);
        self.outcomes.sent += 1;
        if let Some(us) = self.since_intended_us(number, now_ns) {
            self.outcomes.record_lateness(us);
        }
    }

    /// `None`: the message was not meant for the window.
    fn since_intended_us(&self, number: u32, now_ns: u64) -> Option<u64> {
        let intended_ns = self.intended_ns(number);
        let counts = self.window_ns.contains(&intended_ns);
        counts.then(|| now_ns.saturating_sub(intended_ns) / 1000)
    }

    /// Whether everything that was sent was answered, and everything that was acknowledged was heard by everybody here.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
            && self.outcomes.are_answered()
            && self.ledger.is_complete(|client| self.is_here(client))
    }

    fn handle_stream(&mut self, client: u32, stream: Stream<'_>, now_ns: u64) {
        if client >= self.ledger.seating().members() {
            return;
        }
        match stream {
            // Who comes back goes on behind what it has heard, if it can catch up.
            Stream::Opened { seq, .. } if !self.ledger.has_joined(client) => {
                self.ledger.handle_join(client, seq);
            }
            Stream::CaughtUp { seq, missed: Err(_) } => {
                self.not_recovered += self.ledger.handle_join(client, seq);
            }
            Stream::Heard { seq, body } => {
                let number = body.split(' ').next().and_then(|number| number.parse().ok());
                if self.ledger.handle_heard(client, seq, number) {
                    self.outcomes.heard += 1;
                    let us = number.and_then(|number| self.since_intended_us(number, now_ns));
                    us.into_iter().for_each(|us| self.outcomes.record_heard(us));
                }
            }
            Stream::Acknowledged { number, seq } => {
                if self.ledger.handle_acknowledged(client, number, seq) {
                    self.outcomes.acknowledged += 1;
                    if let Some(us) = self.since_intended_us(number, now_ns) {
                        self.outcomes.record_acknowledged(us);
                    }
                }
            }
            Stream::Refused { number, reason } => {
                if self.ledger.handle_refused(client, number) {
                    self.outcomes.refusals.count(reason);
                }
            }
            Stream::Opened { .. }
            | Stream::Text { .. }
            | Stream::Edited { .. }
            | Stream::CaughtUp { .. }
            | Stream::Draining { .. } => {}
        }
    }
}

impl Listener for Talk {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        let client = self.client_of(slot);
        match event {
            Event::Joined => self.slots[client as usize] = slot,
            Event::Stream(stream) => self.handle_stream(client, stream, now_ns),
            Event::Positions(_) | Event::Record(_) | Event::Presence(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Value;

    const MS: u64 = 1_000_000;

    /// Two rooms of two and a client in none; a message each 10 ms, of which those from 20 ms on count.
    fn talk() -> Talk {
        let seating = Seating { rooms: 2, members_per_room: 2 };
        let mut talk = Talk::new(&Script { seating, rate: 100.0, body_bytes: 8 }, 5);
        (0..5).for_each(|slot| tell(&mut talk, slot, Stream::Opened { seq: 0, resumed: false }, 900));
        talk.begin(1000 * MS, 1020 * MS..1100 * MS, 10);
        (0..4).for_each(|number| talk.count_sent(number, (1001 + 10 * u64::from(number)) * MS));
        talk
    }

    fn tell(talk: &mut Talk, slot: u32, stream: Stream<'_>, now_ms: u64) {
        talk.handle_event(slot, Event::Stream(stream), now_ms * MS);
    }

    #[test]
    fn latency_runs_from_the_intended_time_of_messages_of_the_window() {
        let mut talk = talk();
        // 0 was meant for 1000 ms, before the window; 2 for 1020 ms, and its sender is client 1.
        for (seq, body, now_ms) in [(1, "0 ......", 1010), (2, "2 ......", 1027)] {
            (0..2).for_each(|slot| tell(&mut talk, slot, Stream::Heard { seq, body }, now_ms));
        }
        tell(&mut talk, 0, Stream::Acknowledged { number: 0, seq: 1 }, 1010);
        tell(&mut talk, 1, Stream::Acknowledged { number: 2, seq: 2 }, 1030);
        let outcomes = &talk.outcomes;
        assert_eq!((outcomes.sent, outcomes.acknowledged, outcomes.acknowledged_in_window), (4, 2, 1));
        assert_eq!((outcomes.heard, outcomes.late_share()), (4, 0.0));
        let is_about = |value: Value, us: f64| (value.unwrap() - us).abs() < 10.0;
        assert!([0.0, 100.0].into_iter().all(|percentile| is_about(outcomes.heard(percentile), 7_000.0)));
        assert!([0.0, 100.0].into_iter().all(|percentile| is_about(outcomes.ack(percentile), 10_000.0)));
        assert!(!talk.is_settled(), "1 and 3 are not answered");
        tell(&mut talk, 2, Stream::Refused { number: 1, reason: "overload" }, 1030);
        tell(&mut talk, 3, Stream::Refused { number: 3, reason: "rate_limited" }, 1030);
        assert!(talk.is_settled());
        assert_eq!(talk.outcomes.refusals.total(), 2);
        assert_eq!(talk.ledger.faults(|_| true), crate::ledger::Faults::default());
    }

    #[test]
    fn who_comes_back_has_missed_nothing_that_it_is_told_and_nothing_that_nobody_promised() {
        let mut talk = talk();
        talk.handle_gone(1);
        assert!(!talk.is_here(1) && talk.is_here(0));
        tell(&mut talk, 0, Stream::Heard { seq: 1, body: "0 ......" }, 1010);
        tell(&mut talk, 0, Stream::Acknowledged { number: 0, seq: 1 }, 1010);
        talk.handle_come_back(5, 1);
        tell(&mut talk, 5, Stream::Opened { seq: 1, resumed: false }, 1050);
        talk.handle_event(5, Event::Joined, 1050 * MS);
        assert_eq!(talk.ledger.faults(|client| talk.is_here(client)).lost, 1, "it is not caught up yet");
        tell(&mut talk, 5, Stream::CaughtUp { seq: 1, missed: Err("too_old") }, 1060);
        assert_eq!((talk.not_recovered, talk.ledger.faults(|_| true).lost), (1, 0));
        // The client in no room has a game's stream.
        tell(&mut talk, 4, Stream::Heard { seq: 9, body: "" }, 1060);
        assert_eq!(talk.outcomes.heard, 1);
    }
}
