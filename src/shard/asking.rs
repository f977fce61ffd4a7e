//! Questions of topics to the store. Each is answered once; one that cannot be asked is answered here, by a refusal.

use super::peer::{Answer, PeerMessage, Question};
use super::questions::Closed;
use super::topics::TopicIndex;
use super::{Output, Shard};
use crate::ids::{Party, RequestNumber, Ticket};
use crate::impossible;
use crate::limits::WORK_BYTES;
use crate::room::stored::{StoreAnswer, StoreRequest, Unavailable};
use crate::time::{Instant, Now};

/// A topic that has asked the store. It stays until it is answered, so its place is not another's.
#[derive(Debug)]
pub(super) struct Asker {
    topic: TopicIndex,
    ticket: Ticket,
    answer: StoreAnswer,
}

impl Shard {
    pub(super) fn ask(&mut self, topic: TopicIndex, ticket: Ticket, request: Box<StoreRequest>) {
        let asker = Asker { topic, ticket, answer: StoreAnswer::Refused(Unavailable::Busy) };
        // Only the store knows what it has not done, so its answer is waited for, however long that takes.
        match self.asked.ask(asker, [Party::Store], Instant::NEVER) {
            Ok(number) => {
                let message = PeerMessage::Ask { request: number, question: Question::Store(request) };
                self.outputs.push_back(Output::Forward { target: Party::Store, message });
            }
            Err(asker) => self.not_asked.push_back(asker),
        }
    }

    pub(super) fn answered(&mut self, from: Party, request: RequestNumber, answer: Answer, now: Now) {
        let Answer::Store(answer) = answer else { return impossible!("a shard asks the store alone") };
        let closed = self.asked.answered(from, request, |asker| asker.answer = *answer);
        self.tell_asker(closed, now);
    }

    /// The store's mailbox is full.
    pub(super) fn question_refused(&mut self, request: RequestNumber, now: Now) {
        let closed = self.asked.not_reached(Party::Store, request);
        self.tell_asker(closed, now);
    }

    fn tell_asker(&mut self, closed: Option<Closed<Asker>>, now: Now) {
        let Some(Closed { waiter, .. }) = closed else { return impossible!("a question is answered once") };
        self.tell_topic(waiter, now);
    }

    /// Answers the questions for which there was no room.
    pub(super) fn refuse_questions(&mut self, now: Now) {
        while self.work.is_left()
            && let Some(asker) = self.not_asked.pop_front()
        {
            self.work.spend(1);
            self.tell_topic(asker, now);
        }
    }

    fn tell_topic(&mut self, asker: Asker, now: Now) {
        let Asker { topic, ticket, answer } = asker;
        self.work.spend(answer.bytes() / WORK_BYTES);
        let told = self.decide(topic, now, |kind, context| kind.hosted().answered(ticket, answer, context));
        if told.is_none() {
            impossible!("a topic that waits for an answer is there");
        }
    }
}
