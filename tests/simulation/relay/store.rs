//! The store: a party that outlives the process. It is slow, it refuses, and it may be cut off before or behind a commit.

use std::collections::VecDeque;
use std::time::Duration;

use corelay::ids::{Party, RequestNumber, Topic};
use corelay::room::stored::{StoreAction, StoreAnswer, StoreRequest, Unavailable};
use corelay::shard::peer::{Answer, PeerMessage, Question};
use corelay::time::Instant;

use super::letters::Letter;
use super::{Later, Relay};
use crate::faults::{Branch, Fault};
use crate::store::StoreModel;

/// How long a slow commit takes at most, in ms.
const COMMIT_MS_MAX: usize = 400;

/// The store's end of the mail, and its disk.
#[derive(Default)]
pub(super) struct Store {
    /// Inboxes by source.
    pub(super) inboxes: Vec<VecDeque<Letter>>,
    pub(super) disk: StoreModel,
    /// The questions that are worked on, in order.
    work: VecDeque<Work>,
}

struct Work {
    source: usize,
    number: RequestNumber,
    request: Box<StoreRequest>,
    /// When the work is on disk.
    done_at: Instant,
    /// What is told after that, perhaps later; `None`: it is not done yet.
    answer: Option<StoreAnswer>,
}

impl Store {
    pub(super) fn new(parties: usize, disk: StoreModel) -> Self {
        let inboxes = (0..parties).map(|_| VecDeque::new()).collect();
        Self { inboxes, disk, work: VecDeque::new() }
    }
}

impl Relay {
    /// Reads its mail, commits the work whose time has come, and answers.
    pub(super) fn turn_of_store(&mut self) {
        self.take_questions();
        while let Some(mut work) = self.next_work() {
            let Some(answer) = work.answer.take() else {
                work.answer = Some(self.commit(&work.request));
                work.done_at = self.now.instant + self.delay();
                self.store.work.push_front(work);
                continue;
            };
            let (store, source) = (self.index_of(Party::Store), work.source);
            if self.is_gone(source) {
                continue;
            }
            if !self.has_room(store, source) {
                // The answer is told when there is room.
                work.answer = Some(answer);
                self.store.work.push_front(work);
                return;
            }
            let answer = Answer::Store(Box::new(answer));
            let letter = Letter::Peer(PeerMessage::Answer { request: work.number, answer });
            self.inbox(store, source).push_back(letter);
        }
    }

    /// The next work whose time has come.
    fn next_work(&mut self) -> Option<Work> {
        self.store.work.pop_front_if(|work| work.done_at <= self.now.instant)
    }

    fn commit(&mut self, request: &StoreRequest) -> StoreAnswer {
        if self.random.chance(self.plan.of(Fault::StoreRefuses)) {
            self.counts.fault(Fault::StoreRefuses);
            let why = [Unavailable::Busy, Unavailable::Full, Unavailable::Failed];
            return StoreAnswer::Refused(self.random.one_of(&why));
        }
        let is_of_document = matches!(*request.topic, Topic::Document(_));
        let is_append = matches!(request.action, StoreAction::Append { .. });
        if is_of_document && is_append && self.random.chance(self.plan.of(Fault::StoreConflicts)) {
            self.counts.fault(Fault::StoreConflicts);
            return StoreAnswer::Conflict;
        }
        self.store.disk.answer(request)
    }

    /// How long the store takes for something.
    fn delay(&mut self) -> Duration {
        if !self.random.chance(self.plan.of(Fault::SlowStore)) {
            return Duration::ZERO;
        }
        self.counts.fault(Fault::SlowStore);
        let delay = Duration::from_millis(self.random.below(COMMIT_MS_MAX) as u64);
        self.later(delay, Later::Wake);
        delay
    }

    fn take_questions(&mut self) {
        for source in 0..self.store.inboxes.len() {
            while let Some(letter) = self.store.inboxes[source].pop_front() {
                let Letter::Peer(PeerMessage::Ask { request: number, question: Question::Store(request) }) =
                    letter
                else {
                    panic!("the store is asked: {letter:?}");
                };
                let done_at = self.now.instant + self.delay();
                self.store.work.push_back(Work { source, number, request, done_at, answer: None });
            }
        }
    }

    /// The process ends: what is not on disk is lost, and so is what was not told.
    pub(super) fn cut_off_store(&mut self) {
        for work in std::mem::take(&mut self.store.work) {
            let branch = match work.answer {
                Some(_) => Branch::CutBehindCommit,
                None => Branch::CutBeforeCommit,
            };
            self.counts.branch(branch);
        }
    }

    /// What outlives the process.
    pub fn disk(&self) -> &StoreModel {
        &self.store.disk
    }

    /// Epoch and number of the last message of a room on disk.
    pub fn on_disk(&self, topic: &str) -> Option<(u64, u64)> {
        self.store.disk.end_of(topic)
    }
}
