//! Questions to other parties that are not answered yet: who waits for the answers, who has yet to answer, and until when.

use std::collections::BTreeMap;

use crate::ids::{Party, RequestNumber};
use crate::time::Instant;

/// The questions of one asker. `W` is what waits for a question and gathers its answers.
///
/// `ask`, then the question is sent to the parties. From then on, in any order: `answered`, `not_reached`, `ended`, `expire`. Each
/// question comes to its end once, as `Closed`, and at its deadline at the latest.
#[derive(Debug)]
pub struct Questions<W> {
    open_max: usize,
    next: RequestNumber,
    open: BTreeMap<RequestNumber, Open<W>>,
}

/// A question that is at its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<W> {
    /// The one that has waited for the answers.
    pub waiter: W,
    /// How many of those that were asked have not answered, and have not ended either.
    pub unanswered: u32,
}

#[derive(Debug)]
struct Open<W> {
    waiter: W,
    /// Parties that have yet to answer.
    waits_for: Vec<Party>,
    /// Parties that will not answer.
    unanswered: u32,
    deadline: Instant,
}

impl<W> Questions<W> {
    /// At most so many are open at a time.
    pub fn at_most(open_max: usize) -> Self {
        Self { open_max, next: RequestNumber::default(), open: BTreeMap::new() }
    }

    /// Takes a question in. `Err`: too many are open, and here is the waiter back.
    pub fn ask(
        &mut self,
        waiter: W,
        parties: impl IntoIterator<Item = Party>,
        deadline: Instant,
    ) -> Result<RequestNumber, W> {
        if self.open.len() >= self.open_max {
            return Err(waiter);
        }
        let request = self.next;
        self.next = request.next();
        let waits_for = parties.into_iter().collect();
        self.open.insert(request, Open { waiter, waits_for, unanswered: 0, deadline });
        Ok(request)
    }

    /// A party has answered: `gather` tells who waits. Nobody does any more if the answer is late, or was given before.
    pub fn answered(
        &mut self,
        from: Party,
        request: RequestNumber,
        gather: impl FnOnce(&mut W),
    ) -> Option<Closed<W>> {
        let open = self.open.get_mut(&request)?;
        if open.strike_out(from) {
            gather(&mut open.waiter);
        }
        self.close_if_done(request)
    }

    /// The question could not be given to a party, or that one will not answer it.
    pub fn not_reached(&mut self, party: Party, request: RequestNumber) -> Option<Closed<W>> {
        let open = self.open.get_mut(&request)?;
        open.unanswered += u32::from(open.strike_out(party));
        self.close_if_done(request)
    }

    /// A party has ended: nothing is left that it could answer for.
    pub fn ended(&mut self, party: Party) -> Vec<Closed<W>> {
        let requests: Vec<RequestNumber> = self.open.keys().copied().collect();
        let mut closed = Vec::new();
        for request in requests {
            if self.open.get_mut(&request).is_some_and(|open| open.strike_out(party)) {
                closed.extend(self.close_if_done(request));
            }
        }
        closed
    }

    /// Closes the questions whose deadline has come.
    pub fn expire(&mut self, now: Instant) -> Vec<Closed<W>> {
        let due = self.open.extract_if(.., |_, open| open.deadline <= now);
        due.map(|(_, open)| open.close()).collect()
    }

    /// When `expire` has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// Whether an answer of this party is waited for.
    pub fn wait_for(&self, party: Party) -> bool {
        self.open.values().any(|open| open.waits_for.contains(&party))
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn close_if_done(&mut self, request: RequestNumber) -> Option<Closed<W>> {
        if !self.open.get(&request)?.waits_for.is_empty() {
            return None;
        }
        self.open.remove(&request).map(Open::close)
    }
}

impl<W> Open<W> {
    /// A party is not waited for any more. `false`: it was not before.
    fn strike_out(&mut self, party: Party) -> bool {
        let place = self.waits_for.iter().position(|waited_for| *waited_for == party);
        place.map(|place| self.waits_for.swap_remove(place)).is_some()
    }

    fn close(self) -> Closed<W> {
        Closed { waiter: self.waiter, unanswered: self.unanswered + self.waits_for.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    const A: Party = Party::Shard(ShardId(0));
    const B: Party = Party::Shard(ShardId(1));
    const DEADLINE: Instant = Instant::from_micros(100);

    fn ask(questions: &mut Questions<u32>, deadline: Instant) -> RequestNumber {
        questions.ask(0, [A, B], deadline).unwrap()
    }

    fn closed(waiter: u32, unanswered: u32) -> Closed<u32> {
        Closed { waiter, unanswered }
    }

    #[test]
    fn a_question_closes_with_the_last_answer_and_each_party_counts_once() {
        let mut questions = Questions::at_most(8);
        let [first, second] = [(); 2].map(|()| ask(&mut questions, DEADLINE));
        assert_eq!(questions.answered(A, first, |sum| *sum += 3), None);
        assert_eq!(questions.answered(A, first, |sum| *sum += 1000), None, "it has answered before");
        assert_eq!(questions.answered(Party::Service, first, |sum| *sum += 1000), None, "nobody asked it");
        assert_eq!(questions.answered(B, first, |sum| *sum += 4), Some(closed(7, 0)));
        assert_eq!(questions.answered(B, first, |sum| *sum += 1000), None, "nobody waits any more");
        assert_eq!(questions.answered(B, second, |sum| *sum += 1), None);
        assert_eq!(questions.answered(A, second, |sum| *sum += 1), Some(closed(2, 0)));
        assert!(questions.is_empty());
    }

    #[test]
    fn who_could_not_be_asked_is_counted_and_who_has_ended_is_not() {
        let mut questions = Questions::at_most(8);
        let request = ask(&mut questions, DEADLINE);
        assert_eq!(questions.not_reached(A, request), None);
        assert!(questions.wait_for(B) && !questions.wait_for(A));
        assert_eq!(questions.ended(A), []);
        assert_eq!(questions.ended(B), [closed(0, 1)]);
        assert_eq!(questions.not_reached(B, request), None);

        let request = ask(&mut questions, DEADLINE);
        assert_eq!(questions.ended(A), []);
        assert_eq!(questions.answered(B, request, |sum| *sum += 5), Some(closed(5, 0)));
    }

    #[test]
    fn at_its_deadline_a_question_closes_with_what_has_come() {
        let mut questions = Questions::at_most(8);
        assert_eq!(questions.deadline(), None);
        let later = DEADLINE + std::time::Duration::from_secs(1);
        let [late, soon] = [later, DEADLINE].map(|deadline| ask(&mut questions, deadline));
        assert_eq!(questions.answered(B, soon, |sum| *sum += 2), None);
        assert_eq!(questions.deadline(), Some(DEADLINE));
        assert_eq!(questions.expire(Instant::from_micros(99)), []);
        assert_eq!(questions.expire(DEADLINE), [closed(2, 1)]);
        assert_eq!(questions.answered(A, soon, |_| panic!("it is closed")), None);
        assert_eq!(questions.deadline(), Some(later));
        assert_eq!(questions.answered(A, late, |sum| *sum += 1), None);
        assert_eq!(questions.expire(later), [closed(1, 1)]);
    }

    #[test]
    fn one_too_many_is_given_back_and_takes_nobodys_number() {
        let mut questions = Questions::at_most(8);
        let requests: Vec<RequestNumber> = (0..8).map(|_| ask(&mut questions, DEADLINE)).collect();
        assert_eq!(questions.ask(77, [A], DEADLINE), Err(77));
        assert_eq!(questions.not_reached(A, requests[0]), None);
        assert_eq!(questions.not_reached(B, requests[0]), Some(closed(0, 2)));
        let next = questions.ask(77, [A], DEADLINE).unwrap();
        assert!(!requests.contains(&next));
    }
}
