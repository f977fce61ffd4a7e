//! The service thread: a party that asks every shard to kick a user and gathers the answers. What it asks, and what it is
//! answered, may be refused, late, or lost.

use std::collections::VecDeque;

use corelay::ids::{Party, RequestNumber};
use corelay::limits::{QUESTION_WAIT, QUESTIONS_MAX};
use corelay::shard::peer::{Answer, PeerMessage, Question};
use corelay::shard::questions::{Closed, Questions};

use super::letters::Letter;
use super::{Later, Relay};
use crate::faults::{Branch, Fault};
use crate::socket::SocketId;

/// The service thread's end of the mail.
pub(super) struct Service {
    /// Inboxes by source.
    pub(super) inboxes: Vec<VecDeque<Letter>>,
    kicks: Questions<Kick>,
}

/// A kick that waits for answers.
struct Kick {
    /// Connections that must not be there when every shard has answered.
    sockets: Vec<SocketId>,
    answers: u32,
}

impl Service {
    pub(super) fn new(parties: usize) -> Self {
        Self {
            inboxes: (0..parties).map(|_| VecDeque::new()).collect(),
            kicks: Questions::at_most(QUESTIONS_MAX),
        }
    }
}

impl Relay {
    /// An operator kicks a user, who plays on these connections in the native dialect.
    pub fn kick(&mut self, user: &str, sockets: Vec<SocketId>) {
        let shards: Vec<Party> = self.all_parties().take(self.loops.len()).collect();
        let deadline = self.now.instant + QUESTION_WAIT;
        let kick = Kick { sockets, answers: 0 };
        let Ok(request) = self.service.kicks.ask(kick, shards.iter().copied(), deadline) else { return };
        self.later(QUESTION_WAIT, Later::Wake);
        for (number, shard) in shards.into_iter().enumerate() {
            let question = Question::Kick { user: user.into() };
            let letter = Letter::Peer(PeerMessage::Ask { request, question });
            let source = self.index_of(Party::Service);
            if self.loops[number].is_gone {
                let closed = self.service.kicks.answered(shard, request, |_| {});
                self.kicked(closed);
            } else if self.is_lost() {
                // Nobody knows that the letter is lost.
            } else if self.has_room(source, number) {
                self.inbox(source, number).push_back(letter);
            } else {
                let closed = self.service.kicks.not_reached(shard, request);
                self.kicked(closed);
            }
        }
    }

    /// Reads its mail, and gives up what is overdue.
    pub(super) fn turn_of_service(&mut self) {
        for source in 0..self.service.inboxes.len() {
            let Some(party) = self.all_parties().nth(source) else { continue };
            while let Some(letter) = self.service.inboxes[source].pop_front() {
                match letter {
                    Letter::Peer(PeerMessage::Answer { request, answer }) => {
                        if !self.is_lost() {
                            self.hear(party, request, &answer);
                        }
                    }
                    Letter::Ended => {
                        self.service.kicks.ended(party).into_iter().for_each(|kick| self.kicked([kick]));
                    }
                    other => panic!("the service thread is told answers only: {other:?}"),
                }
            }
        }
        self.service.kicks.expire(self.now.instant).into_iter().for_each(|kick| self.kicked([kick]));
    }

    fn hear(&mut self, party: Party, request: RequestNumber, answer: &Answer) {
        let closed = match answer {
            Answer::Kicked { .. } | Answer::Games(_) | Answer::Looked => {
                self.service.kicks.answered(party, request, |kick| kick.answers += 1)
            }
            Answer::Store(_) => panic!("the service thread asks the store nothing"),
            Answer::Renewed => panic!("no core says so"),
            Answer::Busy => self.service.kicks.not_reached(party, request),
        };
        self.kicked(closed);
    }

    /// A kick is over, one way or the other.
    fn kicked(&mut self, closed: impl IntoIterator<Item = Closed<Kick>>) {
        for Closed { waiter: Kick { sockets, answers }, unanswered } in closed {
            self.trace.note("kicked", || format!("{answers} answers, {unanswered} missing"));
            self.counts.branch(if unanswered == 0 { Branch::KickAnswered } else { Branch::KickUnanswered });
            if unanswered == 0 {
                self.must_be_gone.extend(sockets);
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        let is_lost = self.random.chance(self.plan.of(Fault::LostAnswer));
        if is_lost {
            self.counts.fault(Fault::LostAnswer);
        }
        is_lost
    }

    /// At rest: whoever was kicked is gone, and nobody waits for an answer.
    pub fn check_kicks(&self) {
        assert!(self.service.kicks.is_empty(), "a question was never closed");
        let left: Vec<&SocketId> = self.must_be_gone.iter().filter(|id| self.live.contains(id)).collect();
        assert!(left.is_empty(), "kicked, and still here: {left:?}");
    }
}
