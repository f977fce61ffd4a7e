//! The store's thread: a party that keeps on disk what topics say. What comes while a commit runs is the next one.
//!
//! Whoever asks is answered once. A refusal means that nothing was written: when a commit fails, the file is opened again and looked
//! at before anybody is told.

pub mod check;
mod compact;
mod database;
pub mod document;
mod document_lines;
#[cfg(test)]
mod document_tests;
pub mod erase;
pub mod error;
pub mod export;
pub mod file;
mod hold;
pub mod import;
mod lines;
pub mod settings;
pub mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tools_tests;

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::file::{StoreFile, unavailable};
pub use self::hold::Draining;
use crate::ids::{Party, RequestNumber};
use crate::impossible;
use crate::limits::{DRAIN_NOTICE, STORE_APPENDS_MAX, STORE_READS_MAX};
use crate::mailbox::{Endpoint, Letter, Posted};
use crate::metrics::StoreMetrics;
use crate::room::stored::{StoreAction, StoreAnswer, StoreRequest, Unavailable};
use crate::service::ReadClock;
use crate::shard::peer::{Answer, Order, PeerMessage, Question};
use crate::time::Instant;

/// How long the thread sleeps when something must be tried again: a full mailbox, …
const RETRY: Duration = Duration::from_millis(1);
/// … a file that could not be opened, …
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);
/// … a write that has failed. What comes before is refused without a try: each costs the file a repair.
const RETRY_WRITE: Duration = Duration::from_millis(500);
/// How often it looks whether another relay has given the file away.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(20);
/// How often it looks whether guests need further numbers.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// So many numbers of guests are taken at once. Half of them are there when more are taken.
pub const GUESTS_AT_ONCE: u64 = 100_000;

/// See the module documentation.
pub struct Store {
    mailbox: Endpoint,
    file: StoreFile,
    metrics: Arc<StoreMetrics>,
    clock: ReadClock,
    /// Appends whose commit has failed: nobody knows yet whether they are on disk.
    unsettled: Vec<Asked>,
    /// Why it has.
    why: Unavailable,
    reopen_at: Instant,
    /// After a failure nothing is written before.
    writes_at: Instant,
    /// The error that the log was last told of, until something is written.
    complained_of: String,
    /// Answers for which a mailbox had no room, in order.
    answers: VecDeque<(Party, RequestNumber, StoreAnswer)>,
    guests: Guests,
    /// The relay drains: then it gives the file away.
    gives_away_at: Instant,
}

/// The numbers of guests that this process may give.
pub struct Guests {
    /// So many guests have been named by this process.
    pub named: Box<dyn Fn() -> u64 + Send>,
    /// Their numbers are above this one.
    pub before: u64,
    /// So many may be named before more numbers are taken.
    pub taken: u64,
}

/// A question that is not answered.
struct Asked {
    source: Party,
    number: RequestNumber,
    request: StoreRequest,
}

impl Store {
    /// Still to be run.
    pub fn new(
        mailbox: Endpoint,
        file: StoreFile,
        metrics: Arc<StoreMetrics>,
        clock: ReadClock,
        guests: Guests,
    ) -> Self {
        Self {
            mailbox,
            file,
            metrics,
            clock,
            unsettled: Vec::new(),
            why: Unavailable::Failed,
            reopen_at: Instant::default(),
            writes_at: Instant::default(),
            complained_of: String::new(),
            answers: VecDeque::new(),
            guests,
            gives_away_at: Instant::NEVER,
        }
    }

    /// Answers until every shard has ended.
    pub fn run(mut self) {
        let eventfd = self.mailbox.eventfd();
        loop {
            self.take_over();
            let has_worked = self.file.held_by().is_none() && self.turn();
            if self.have_shards_ended() && (!self.mailbox.has_mail() || self.file.held_by().is_some()) {
                return;
            }
            if has_worked {
                continue;
            }
            let timeout = self.sleeps_for();
            let (tv_sec, tv_nsec) = (timeout.as_secs() as i64, timeout.subsec_nanos().into());
            let timeout = Timespec { tv_sec, tv_nsec };
            let mut woken = [PollFd::new(&*eventfd, PollFlags::IN)];
            // Whatever it says: a turn that finds nothing does nothing.
            if poll(&mut woken, Some(&timeout)).is_ok_and(|ready| ready > 0) {
                let _ = rustix::io::read(&*eventfd, &mut [0; 8]);
            }
        }
    }

    fn sleeps_for(&self) -> Duration {
        if self.file.held_by().is_some() {
            return TAKE_OVER_INTERVAL;
        }
        if !self.answers.is_empty() {
            return RETRY;
        }
        let waits_to_give = self.unsettled.is_empty() && !self.file.is_given_away();
        let gives_away_in =
            if waits_to_give { self.gives_away_at.since((self.clock)()) } else { Duration::MAX };
        LOOK_INTERVAL.min(self.reopen_in()).min(gives_away_in)
    }

    /// Opens the file if a relay that was draining has given it away. What is asked meanwhile waits.
    fn take_over(&mut self) {
        let Some(other) = self.file.held_by().filter(|_| self.reopen_in() == Duration::ZERO) else { return };
        if let Err(error) = self.file.take_over() {
            // Games are played here by now: it is tried again.
            self.complain(&error);
            self.reopen_at = (self.clock)() + REOPEN_INTERVAL;
        } else if self.file.held_by().is_none() {
            tracing::info!(process = other.process, "the data directory was taken over: rooms go on");
            self.has_written();
        }
    }

    /// The relay drains. Those who are told of it may still say something as long as nobody is closed.
    fn begin_draining(&mut self) {
        self.gives_away_at = (self.clock)() + DRAIN_NOTICE;
        // More may have been named than were taken, while nothing could be written.
        let Guests { before, taken, named } = &self.guests;
        if let Err(error) = self.file.tell_draining(before + (*taken).max(named())) {
            tracing::warn!(%error, "the next relay cannot be told that this one ends: it will not start before then");
        }
    }

    /// Gives the file to the next relay, when it is time and nobody waits to hear what has become of a write.
    fn give_away(&mut self) {
        let is_time = self.gives_away_at <= (self.clock)() && self.unsettled.is_empty();
        if is_time && !self.file.is_given_away() {
            self.file.give_away();
            self.why = Unavailable::Busy;
            tracing::info!("the data directory is free: rooms refuse what is said from now on");
        }
    }

    /// Reads what has come, does it, and answers. False: nothing had come.
    fn turn(&mut self) -> bool {
        self.post_answers();
        self.reopen();
        self.take_guests();
        let (reads, appends) = self.take_questions();
        if reads.is_empty() && appends.is_empty() {
            self.give_away();
            return false;
        }
        self.busy(|store| store.append(appends));
        self.post_answers();
        self.busy(|store| store.read(reads));
        self.post_answers();
        self.give_away();
        true
    }

    /// Does something with the file, and lets everybody see for how long.
    fn busy<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.metrics.begin_work((self.clock)());
        let outcome = act(self);
        self.metrics.end_work();
        outcome
    }

    /// What is only read, and what is to be written.
    fn take_questions(&mut self) -> (Vec<Asked>, Vec<Asked>) {
        let (mut reads, mut appends) = (Vec::new(), Vec::new());
        while reads.len() < STORE_READS_MAX && appends.len() < STORE_APPENDS_MAX {
            let Some((source, letter)) = self.mailbox.take() else { break };
            let (number, request) = match letter {
                Letter::Peer(PeerMessage::Ask { request, question: Question::Store(asked) }) => {
                    (request, asked)
                }
                Letter::Order(Order::Drain) => {
                    self.begin_draining();
                    continue;
                }
                Letter::Peer(_)
                | Letter::Order(Order::Keys(_))
                | Letter::Connection { .. }
                | Letter::Renewal { .. }
                | Letter::Withdrawn { .. } => {
                    impossible!("the store is asked for what it keeps, and told to drain");
                    continue;
                }
            };
            let is_append = matches!(request.action, StoreAction::Append { .. });
            let list = if is_append { &mut appends } else { &mut reads };
            list.push(Asked { source, number, request: *request });
        }
        (reads, appends)
    }

    fn read(&mut self, asked: Vec<Asked>) {
        if asked.is_empty() {
            return;
        }
        self.metrics.reads.add(asked.len() as u64);
        let (whose, requests): (Vec<_>, Vec<_>) = asked.into_iter().map(Asked::split).unzip();
        let answers = match self.file.read(&requests) {
            Ok(answers) => answers,
            // Only `reopen` opens it: what is not settled comes first.
            Err(_) if !self.file.is_open() => self.refuse_all(requests.len()),
            Err(error) => {
                self.complain(&error);
                requests.iter().map(|request| self.read_alone(request)).collect()
            }
        };
        self.answer(whose, answers);
    }

    /// Reads by itself what could not be read with others: one room that is damaged does not cost the others theirs.
    fn read_alone(&mut self, request: &StoreRequest) -> StoreAnswer {
        self.file.close();
        let read = self.file.reopen().and_then(|()| self.file.read(std::slice::from_ref(request)));
        match read.map(|mut answers| answers.pop()) {
            Ok(Some(answer)) => answer,
            Ok(None) => StoreAnswer::Refused(Unavailable::Failed),
            Err(error) => {
                self.complain(&error);
                self.file.close();
                StoreAnswer::Refused(unavailable(&error))
            }
        }
    }

    fn append(&mut self, asked: Vec<Asked>) {
        if asked.is_empty() {
            return;
        }
        let (whose, requests): (Vec<_>, Vec<_>) = asked.into_iter().map(Asked::split).unzip();
        if !self.file.is_open() || self.writes_at.since((self.clock)()) > Duration::ZERO {
            let answers = self.refuse_all(requests.len());
            return self.answer(whose, answers);
        }
        let began_at = (self.clock)();
        match self.file.append(&requests) {
            Ok(answers) => {
                self.has_written();
                self.metrics.commits.increment();
                self.metrics.appends.add(answers.len() as u64);
                self.metrics.commit_time.record((self.clock)().since(began_at));
                self.answer(whose, answers);
            }
            Err(error) => {
                self.unsettled = Asked::join(whose, requests);
                self.fail(&error);
                self.reopen();
            }
        }
    }

    /// The file cannot be used any more as it is.
    fn fail(&mut self, error: &redb::Error) {
        self.why = unavailable(error);
        self.file.close();
        self.reopen_at = Instant::default();
        self.writes_at = (self.clock)() + RETRY_WRITE;
        self.complain(error);
    }

    /// Says what is wrong, once until something is written again.
    fn complain(&mut self, error: &dyn Display) {
        self.metrics.failing.set(1);
        let text = error.to_string();
        if self.complained_of != text {
            tracing::error!(
                error = text,
                "the store cannot be used: rooms refuse what is said until it can; games go on"
            );
            self.complained_of = text;
        }
    }

    fn has_written(&mut self) {
        if self.metrics.failing.value() > 0 {
            self.metrics.failing.set(0);
            self.complained_of.clear();
            tracing::info!("the store can be written to again");
        }
    }

    /// Opens the file again, and tells those whose appends were under way what has become of them.
    fn reopen(&mut self) {
        if self.file.is_open() || self.file.is_given_away() || self.reopen_in() > Duration::ZERO {
            return;
        }
        let asked = std::mem::take(&mut self.unsettled);
        let (whose, requests): (Vec<_>, Vec<_>) = asked.into_iter().map(Asked::split).unzip();
        let settle =
            |store: &mut Self| store.file.reopen().and_then(|()| store.file.settle(&requests, store.why));
        match self.busy(settle) {
            Ok(answers) => self.answer(whose, answers),
            Err(error) => {
                self.complain(&error);
                self.file.close();
                self.unsettled = Asked::join(whose, requests);
                self.reopen_at = (self.clock)() + REOPEN_INTERVAL;
            }
        }
    }

    fn reopen_in(&self) -> Duration {
        if self.file.is_open() || self.file.is_given_away() {
            return Duration::MAX;
        }
        self.reopen_at.since((self.clock)())
    }

    /// Numbers of guests are on disk before they are given: no later process gives them again.
    fn take_guests(&mut self) {
        let named = (self.guests.named)();
        let can_write = self.file.is_open() && self.writes_at <= (self.clock)();
        let is_draining = self.gives_away_at != Instant::NEVER;
        if named + GUESTS_AT_ONCE / 2 < self.guests.taken || !can_write || is_draining {
            return;
        }
        // More may have been named while nothing could be written.
        let count = (named + GUESTS_AT_ONCE).saturating_sub(self.guests.taken);
        match self.busy(|store| store.file.take_guests(count)) {
            Ok(_) => {
                self.guests.taken += count;
                self.has_written();
            }
            Err(error) => self.fail(&error),
        }
    }

    fn refuse_all(&self, count: usize) -> Vec<StoreAnswer> {
        vec![StoreAnswer::Refused(self.why); count]
    }

    fn answer(&mut self, whose: Vec<(Party, RequestNumber)>, answers: Vec<StoreAnswer>) {
        let refused = answers.iter().filter(|answer| matches!(answer, StoreAnswer::Refused(_))).count();
        // What the next relay will do is not refused for good.
        if !self.file.is_given_away() {
            self.metrics.refused.add(refused as u64);
        }
        let answers = whose.into_iter().zip(answers);
        self.answers.extend(answers.map(|((source, number), answer)| (source, number, answer)));
    }

    /// Gives answers to the shards, in order. One that has ended needs none.
    fn post_answers(&mut self) {
        let mut told: Vec<Party> = Vec::new();
        let mut full: Vec<Party> = Vec::new();
        for (source, number, answer) in std::mem::take(&mut self.answers) {
            if full.contains(&source) {
                self.answers.push_back((source, number, answer));
                continue;
            }
            let message = PeerMessage::Answer { request: number, answer: Answer::Store(Box::new(answer)) };
            match self.mailbox.post(source, Letter::Peer(message)) {
                Posted::Queued if told.contains(&source) => {}
                Posted::Queued => told.push(source),
                Posted::Refused(_) if self.mailbox.is_gone(source) => {}
                Posted::Refused(letter) => {
                    let Letter::Peer(PeerMessage::Answer { request, answer: Answer::Store(answer) }) = letter
                    else {
                        continue;
                    };
                    full.push(source);
                    self.answers.push_back((source, request, *answer));
                }
            }
        }
        for shard in told {
            if self.mailbox.must_ring(shard) {
                self.mailbox.wake(shard);
            }
        }
    }

    fn have_shards_ended(&self) -> bool {
        let mut shards = self.mailbox.parties().iter().filter(|party| matches!(party, Party::Shard(_)));
        shards.all(|shard| self.mailbox.is_gone(*shard))
    }
}

impl Asked {
    fn split(self) -> ((Party, RequestNumber), StoreRequest) {
        ((self.source, self.number), self.request)
    }

    fn join(whose: Vec<(Party, RequestNumber)>, requests: Vec<StoreRequest>) -> Vec<Self> {
        let asked = whose.into_iter().zip(requests);
        asked.map(|((source, number), request)| Self { source, number, request }).collect()
    }
}
