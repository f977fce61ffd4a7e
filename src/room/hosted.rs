//! What a topic of any kind does: it is told who joins, pushes and leaves, and answers with effects.

use rand_chacha::ChaCha12Rng;

use super::audience::{Audience, JoinNumber};
use super::request::{Departure, Effect, Join};
use super::stored::StoreAnswer;
use crate::ids::{Address, Party, Ticket};
use crate::impossible;
use crate::metrics::ShardMetrics;
use crate::time::{Instant, Now};
use crate::wire::push::Push;

/// A kind of topic. Its methods decide and are told nothing of connections: whoever hosts the topic carries the effects out, in
/// order, and asks `due` and `is_needed` again after every call.
pub trait Hosted {
    /// A channel joins.
    fn join(&mut self, from: Address, join: Join, context: &mut Context<'_>);

    /// A channel pushes an event. It need not be a member: it may have gone meanwhile.
    fn push(&mut self, from: Address, push: Push, context: &mut Context<'_>);

    /// A channel goes.
    fn leave(&mut self, from: Address, departure: Departure, context: &mut Context<'_>);

    /// Members could not be told something. They are no members from now on, and may join again.
    fn give_up(&mut self, lost: Lost, context: &mut Context<'_>);

    /// What it has asked by `Effect::Ask` is answered.
    fn answered(&mut self, _ticket: Ticket, _answer: StoreAnswer, _context: &mut Context<'_>) {
        impossible!("only a topic that has asked is answered");
    }

    /// Somebody else has begun its stream in the store.
    fn begun_elsewhere(&mut self, _context: &mut Context<'_>) {}

    /// Does what is due.
    fn timeout(&mut self, context: &mut Context<'_>);

    /// When `timeout` has something to do next; `None`: not before something has happened.
    fn due(&self) -> Option<Instant>;

    /// Who gets its broadcasts; `None`: nobody.
    fn audience(&self) -> Option<&Audience>;

    /// Whether the topic must stay: somebody is in it, has a place in it, or waits to come in; or the store has still to answer.
    fn is_needed(&self) -> bool;

    /// Bytes allocated, without presence; see `memory`.
    fn heap_bytes(&self) -> usize;

    /// Bytes allocated for presence; see `memory`.
    fn presence_heap_bytes(&self) -> usize;
}

/// What a topic may use while it decides, and where it puts what it has decided.
pub struct Context<'a> {
    /// The time of the turn.
    pub now: Now,
    /// The shard's counters.
    pub metrics: &'a ShardMetrics,
    /// For names of streams and for tokens.
    pub random: &'a mut ChaCha12Rng,
    /// Nobody needs a token, so a user id says nothing about who somebody is.
    pub development: bool,
    /// Whether the log wants to hear of players.
    pub notes: bool,
    /// See `Presence`.
    pub presence_list_max: u32,
    /// Units of work that it took to decide, beyond one for each effect.
    pub work: usize,
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
}

/// Members that could not be told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// One member.
    One(Address),
    /// All members at a party, but for those that joined after what was lost: they did not miss it.
    AllAt {
        /// The party that could not be reached.
        party: Party,
        /// The last member that joined before the loss.
        joins: JoinNumber,
    },
}

impl Lost {
    /// Whether `member` is one of them, which joined under `number`.
    pub fn has(&self, member: &Address, number: JoinNumber) -> bool {
        match self {
            Self::One(lost) => lost == member,
            Self::AllAt { party, joins } => *party == member.party() && number.is_within(*joins),
        }
    }
}
