//! Questions of other parties to this shard. An answer takes a walk over everything, which goes on for as many turns as its work
//! needs. Questions are answered in the order in which they came.

use std::sync::Arc;

use super::kick::Kick;
use super::listing::Listing;
use super::peer::{Answer, PeerMessage, Question};
use super::{Output, Shard};
use crate::ids::{Party, RequestNumber, Topic};
use crate::impossible;
use crate::limits::INQUIRIES_MAX;
use crate::time::Now;

/// Slots that a walk passes before it looks how much work is left.
pub(super) const SLOTS_AT_ONCE: usize = 64;

/// A question that is not answered yet.
#[derive(Debug)]
pub(super) struct Inquiry {
    asker: Party,
    request: RequestNumber,
    walk: Walk,
}

/// How far the walk for an answer is.
#[derive(Debug)]
enum Walk {
    Kick(Kick),
    Games(Listing),
    /// No walk: one topic is told something.
    LookAgain(Arc<Topic>),
}

impl Shard {
    pub(super) fn inquire(&mut self, asker: Party, request: RequestNumber, question: Question) {
        if self.inquiries.len() >= INQUIRIES_MAX {
            return self.answer(asker, request, Answer::Busy);
        }
        let walk = match question {
            Question::Kick { user } => Walk::Kick(Kick::of(user)),
            Question::Games => Walk::Games(Listing::default()),
            Question::LookAgain { topic } => Walk::LookAgain(topic),
            Question::Store(_) => {
                impossible!("only the store is asked for what is kept");
                return self.answer(asker, request, Answer::Busy);
            }
        };
        self.inquiries.push_back(Inquiry { asker, request, walk });
    }

    /// Goes on with the question that came first.
    pub(super) fn go_on_answering(&mut self, now: Now) {
        while self.work.is_left()
            && let Some(mut inquiry) = self.inquiries.pop_front()
        {
            let answer = match &mut inquiry.walk {
                Walk::Kick(kick) => self.go_on_kicking(kick, now),
                Walk::Games(listing) => self.go_on_listing(listing),
                Walk::LookAgain(topic) => Some(self.look_again(topic, now)),
            };
            match answer {
                Some(answer) => self.answer(inquiry.asker, inquiry.request, answer),
                None => self.inquiries.push_front(inquiry),
            }
        }
    }

    fn look_again(&mut self, topic: &Topic, now: Now) -> Answer {
        self.work.spend(1);
        if let Some(index) = self.topics.find(topic) {
            self.decide(index, now, |kind, context| kind.hosted().begun_elsewhere(context));
        }
        Answer::Looked
    }

    fn answer(&mut self, asker: Party, request: RequestNumber, answer: Answer) {
        let message = PeerMessage::Answer { request, answer };
        self.outputs.push_back(Output::Forward { target: asker, message });
    }
}
