//! Queues between the parties of a process, the shards and the service thread: bounded, with one writer and one reader each. A
//! doorbell is rung once, however many letters were posted.
//!
//! The queues know no driver. Whoever has posted asks `must_ring` and, if so, wakes the reader: a shard wakes another one through
//! its driver, everybody else is woken by an eventfd.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use crate::ids::{ConnId, Party, RequestNumber, ShardId};
use crate::limits::{MAILBOX_LETTERS_MAX, SHARDS_MAX};
use crate::shard::peer::{HandOver, Order, PeerMessage};
use crate::tls::{Connection, ServerConfig};
use crate::wire::token::Verifier;

/// Names one handover: a shard does not use a number again before 2^32 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The shard that gives the connection away.
    pub source: ShardId,
    /// Its number there.
    pub number: u32,
}

/// What replaces what every shard has.
#[derive(Clone, Debug)]
pub enum New {
    /// The keys that joins and resumes are checked with.
    Keys(Arc<Verifier>),
    /// The certificates of connections that come from now on.
    Certificates(Arc<ServerConfig>),
}

/// What one thread posts to another.
#[derive(Debug)]
pub enum Letter {
    /// A message to the core from another party.
    Peer(PeerMessage),
    /// An order to the core.
    Order(Order),
    /// A connection whose descriptor comes by way of the drivers under the same ticket. Posted before the descriptor is sent, or
    /// with TLS when the descriptor has come.
    Connection {
        /// Its descriptor comes with the same ticket.
        ticket: Ticket,
        /// Its id on the source.
        conn: ConnId,
        /// What the core of the target needs to go on.
        state: Box<HandOver>,
        /// The client's address, if connections per address are counted: at the end of the connection the target subtracts it.
        address: Option<IpAddr>,
        /// Its TLS, if it has one.
        tls: Option<Box<Connection>>,
    },
    /// What is used from now on. It is answered by `Answer::Renewed`. Lost, the shard goes on with the old, and the log says so.
    Renewal {
        /// The answer has the same number.
        request: RequestNumber,
        /// In place of what there was.
        new: New,
    },
    /// The descriptor of this ticket will not come.
    Withdrawn {
        /// The ticket of a `Connection` posted earlier.
        ticket: Ticket,
    },
}

const _: () = assert!(
    size_of::<Letter>() <= 64,
    "a queue allocates up to MAILBOX_LETTERS_MAX of them per pair of shards"
);

/// What became of a posted letter.
#[derive(Debug)]
#[must_use]
pub enum Posted {
    /// The letter will be read. The reader still has to be woken.
    Queued,
    /// The queue is full, or its reader is gone: the letter comes back.
    Refused(Letter),
}

/// One party's end of all queues. A party that drops it has ended, and the others are woken.
pub struct Endpoint {
    party: Party,
    /// This party's index in all that is indexed by party.
    index: usize,
    parties: Arc<[Party]>,
    /// Queues to this party, by source.
    inboxes: Box<[Consumer<Letter>]>,
    /// The inboxes that may have letters.
    with_mail: Sources,
    /// The inbox that is looked at next.
    next: usize,
    outboxes: Box<[Producer<Letter>]>,
    doorbells: Arc<[Doorbell]>,
    wakes: Arc<[Arc<OwnedFd>]>,
}

/// Whether somebody has rung since the party answered last, and who. Each has a cache line of its own, because every party writes
/// to every other's.
#[derive(Default)]
#[repr(align(64))]
struct Doorbell {
    is_rung: AtomicBool,
    sources: [AtomicU64; SOURCE_WORDS],
}

const PARTIES_MAX: usize = SHARDS_MAX as usize + Party::OTHERS.len();
const SOURCE_WORDS: usize = PARTIES_MAX.div_ceil(64);
const _: () = assert!(size_of::<Doorbell>() == 64, "one cache line");

impl Doorbell {
    /// Call it after the push, so that whoever answers sees the letter. Returns whether nobody else has rung since the last
    /// answer.
    fn ring(&self, source: usize) -> bool {
        self.sources[source / 64].fetch_or(1 << (source % 64), Ordering::Release);
        !self.is_rung.swap(true, Ordering::AcqRel)
    }

    /// Moves those that have rung to `with_mail`.
    fn answer(&self, with_mail: &mut Sources) {
        if self.is_rung.load(Ordering::Relaxed) && self.is_rung.swap(false, Ordering::AcqRel) {
            for (rung, known) in self.sources.iter().zip(&mut with_mail.0) {
                *known |= rung.swap(0, Ordering::Acquire);
            }
        }
    }
}

/// A set of inboxes, a bit each, so that looking for letters takes time in the number of inboxes that have some, and not of all.
#[derive(Default)]
struct Sources([u64; SOURCE_WORDS]);

impl Sources {
    fn is_empty(&self) -> bool {
        self.0 == [0; SOURCE_WORDS]
    }

    /// The first inbox of the set from `start` on, wrapping around at the end.
    fn next(&self, start: usize) -> Option<usize> {
        let (first, bit) = (start / 64 % SOURCE_WORDS, start % 64);
        let in_word = |word: usize, mask: u64| {
            let bits = self.0[word] & mask;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        };
        let mut others = (1..SOURCE_WORDS).map(|step| (first + step) % SOURCE_WORDS);
        in_word(first, u64::MAX << bit)
            .or_else(|| others.find_map(|word| in_word(word, u64::MAX)))
            .or_else(|| in_word(first, u64::MAX))
    }

    fn remove(&mut self, source: usize) {
        self.0[source / 64] &= !(1 << (source % 64));
    }
}

/// No queues could be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot create the eventfd that wakes {party:?}: {source}; each shard needs one descriptor below RLIMIT_NOFILE"
)]
pub struct MeshError {
    party: Party,
    source: io::Error,
}

/// The ends of the parties that are no shards, in the order of `Party::OTHERS`.
pub type OtherEnds = [Endpoint; Party::OTHERS.len()];

/// Makes the queues from each party to each. Those that shards write to have room for `letters`, the others for
/// `MAILBOX_LETTERS_MAX`. Returns the ends of the shards, in order, and of the others.
pub fn mesh(shards: u16, letters: usize) -> Result<(Vec<Endpoint>, OtherEnds), MeshError> {
    let parties: Arc<[Party]> = Party::all(shards).collect();
    let doorbells: Arc<[Doorbell]> = parties.iter().map(|_| Doorbell::default()).collect();
    let wake = |party: &Party| {
        let created = eventfd(0, EventfdFlags::CLOEXEC);
        created.map(Arc::new).map_err(|errno| MeshError { party: *party, source: errno.into() })
    };
    let wakes: Arc<[Arc<OwnedFd>]> = parties.iter().map(wake).collect::<Result<_, _>>()?;

    let mut inboxes: Vec<Vec<Consumer<Letter>>> = parties.iter().map(|_| Vec::new()).collect();
    let mut outboxes_of = |source: &Party| -> Box<[Producer<Letter>]> {
        let letters = if matches!(source, Party::Shard(_)) { letters } else { MAILBOX_LETTERS_MAX };
        let queue = |inbox: &mut Vec<Consumer<Letter>>| {
            let (producer, consumer) = RingBuffer::new(letters);
            inbox.push(consumer);
            producer
        };
        inboxes.iter_mut().map(queue).collect()
    };
    let outboxes: Vec<_> = parties.iter().map(&mut outboxes_of).collect();

    let mut ends =
        parties.iter().enumerate().zip(inboxes).zip(outboxes).map(|(((index, party), inboxes), outboxes)| {
            Endpoint {
                party: *party,
                index,
                parties: parties.clone(),
                inboxes: inboxes.into(),
                with_mail: Sources::default(),
                next: 0,
                outboxes,
                doorbells: doorbells.clone(),
                wakes: wakes.clone(),
            }
        });
    let of_shards = ends.by_ref().take(shards.into()).collect();
    let others = Party::OTHERS.map(|_| ends.next().expect("every party has an end"));
    Ok((of_shards, others))
}

impl Endpoint {
    /// The party whose end this is.
    pub fn party(&self) -> Party {
        self.party
    }

    /// Every party, this one included.
    pub fn parties(&self) -> &[Party] {
        &self.parties
    }

    /// A party's index in `parties`.
    pub fn index_of(&self, party: Party) -> usize {
        party.index(self.shards())
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        (self.parties.len() - Party::OTHERS.len()) as u16
    }

    /// Puts a letter into a party's queue. Wakes nobody: see `must_ring`.
    pub fn post(&mut self, target: Party, letter: Letter) -> Posted {
        let target = self.index_of(target);
        push(&mut self.outboxes[target], letter)
    }

    /// Whether the party has ended and reads nothing any more.
    pub fn is_gone(&self, target: Party) -> bool {
        self.outboxes[self.index_of(target)].is_abandoned()
    }

    /// Ask once after one or more `post`s to `target`. Returns whether it must be woken, because nobody else has rung since it
    /// last answered.
    #[must_use]
    pub fn must_ring(&self, target: Party) -> bool {
        self.doorbells[self.index_of(target)].ring(self.index)
    }

    /// Wakes a party that `must_ring` says must be woken.
    pub fn wake(&self, target: Party) {
        if let Err(errno) = rustix::io::write(&*self.wakes[self.index_of(target)], &1_u64.to_ne_bytes()) {
            // A party looks at its doorbell whenever its loop turns, so the letter comes late, not never.
            tracing::warn!(?target, %errno, "cannot write to an eventfd that wakes a thread");
        }
    }

    /// Whether there may be letters. A loop that asks every turn loses none even if the ringing itself fails.
    pub fn has_mail(&self) -> bool {
        self.doorbells[self.index].is_rung.load(Ordering::Relaxed) || !self.with_mail.is_empty()
    }

    /// Answers the doorbell, if it was rung, and takes the next letter, with its source: one letter of each source in turn, and
    /// those of one source in the order they were posted.
    pub fn take(&mut self) -> Option<(Party, Letter)> {
        self.doorbells[self.index].answer(&mut self.with_mail);
        loop {
            let source = self.with_mail.next(self.next)?;
            if let Ok(letter) = self.inboxes[source].pop() {
                self.next = source + 1;
                return Some((self.parties[source], letter));
            }
            self.with_mail.remove(source);
        }
    }

    /// Memory of the queues to this party, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let letters = self.inboxes.iter().map(|inbox| inbox.buffer().capacity()).sum::<usize>();
        letters * size_of::<Letter>()
    }

    /// Becomes readable (eight bytes) when `wake` is called for this party.
    pub fn eventfd(&self) -> Arc<OwnedFd> {
        self.wakes[self.index].clone()
    }
}

/// Wakes the others, so that whoever waits for an answer of this party learns that none comes.
impl Drop for Endpoint {
    fn drop(&mut self) {
        // Before the others are woken, so that they find that nobody reads any more.
        self.inboxes = Box::default();
        for party in self.parties.iter().filter(|party| **party != self.party) {
            if self.must_ring(*party) {
                self.wake(*party);
            }
        }
    }
}

fn push(outbox: &mut Producer<Letter>, letter: Letter) -> Posted {
    if outbox.is_abandoned() {
        return Posted::Refused(letter);
    }
    match outbox.push(letter) {
        Ok(()) => Posted::Queued,
        Err(PushError::Full(letter)) => Posted::Refused(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD_0: Party = Party::Shard(ShardId(0));
    const SHARD_1: Party = Party::Shard(ShardId(1));

    fn withdrawn(number: u32) -> Letter {
        Letter::Withdrawn { ticket: Ticket { source: ShardId(0), number } }
    }

    /// The number of the next letter, and who has posted it.
    fn next(endpoint: &mut Endpoint) -> Option<(Party, u32)> {
        match endpoint.take()? {
            (source, Letter::Withdrawn { ticket }) => Some((source, ticket.number)),
            (
                _,
                letter @ (Letter::Peer(_)
                | Letter::Order(_)
                | Letter::Renewal { .. }
                | Letter::Connection { .. }),
            ) => {
                panic!("{letter:?}")
            }
        }
    }

    fn post(source: &mut Endpoint, target: Party, number: u32) {
        assert!(matches!(source.post(target, withdrawn(number)), Posted::Queued));
    }

    #[test]
    fn letters_arrive_in_order_and_the_bell_rings_once() {
        let (mut endpoints, _others) = mesh(2, MAILBOX_LETTERS_MAX).unwrap();
        let mut target = endpoints.pop().unwrap();
        let mut source = endpoints.pop().unwrap();
        let rings = [1, 2, 3].map(|number| {
            post(&mut source, SHARD_1, number);
            source.must_ring(SHARD_1)
        });
        assert_eq!(rings, [true, false, false]);
        assert!(target.has_mail() && !source.has_mail());
        let taken = [(); 4].map(|()| next(&mut target));
        assert_eq!(taken, [Some((SHARD_0, 1)), Some((SHARD_0, 2)), Some((SHARD_0, 3)), None]);
        post(&mut source, SHARD_1, 4);
        assert!(source.must_ring(SHARD_1), "an answered bell rings again");
    }

    #[test]
    fn everybody_may_write_to_everybody() {
        let (mut endpoints, others) = mesh(2, 16).unwrap();
        endpoints.extend(others);
        let parties = endpoints[0].parties().to_vec();
        assert_eq!(parties, [SHARD_0, SHARD_1, Party::Service, Party::Store]);
        assert!(endpoints.iter().zip(&parties).all(|(end, party)| end.party() == *party));
        for (endpoint, number) in endpoints.iter_mut().zip(0..) {
            for target in &parties {
                post(endpoint, *target, number);
                let _rung = endpoint.must_ring(*target);
            }
        }
        for endpoint in &mut endpoints {
            let taken: Vec<_> = std::iter::from_fn(|| next(endpoint)).collect();
            assert_eq!(taken, parties.iter().copied().zip(0..).collect::<Vec<_>>());
        }
    }

    #[test]
    fn letters_are_read_from_each_source_in_turn_and_what_is_not_taken_stays() {
        let (mut endpoints, others) = mesh(3, MAILBOX_LETTERS_MAX).unwrap();
        endpoints.extend(others);
        for (source, letters) in [(0, 4), (1, 1), (2, 2), (3, 1)] {
            (0..letters).for_each(|n| post(&mut endpoints[source], SHARD_0, 10 * source as u32 + n));
            let _rings = endpoints[source].must_ring(SHARD_0);
        }
        let target = &mut endpoints[0];
        let mut taken = |letters: usize| -> Vec<Option<u32>> {
            (0..letters).map(|_| next(target).map(|(_, number)| number)).collect()
        };
        assert_eq!(taken(3), [Some(0), Some(10), Some(20)]);
        assert_eq!(taken(6), [Some(30), Some(1), Some(21), Some(2), Some(3), None]);
        assert!(!target.has_mail());
    }

    #[test]
    fn the_next_source_is_found_around_the_end() {
        let all = [0, 3, 63, 64, 200, 256];
        let mut sources = Sources::default();
        for source in all {
            sources.0[source / 64] |= 1 << (source % 64);
        }
        for start in 0..=SHARDS_MAX.into() {
            let expected = all.into_iter().find(|source| *source >= start).unwrap_or(0);
            assert_eq!(sources.next(start), Some(expected), "from {start}");
        }
        all.into_iter().for_each(|source| sources.remove(source));
        assert_eq!((sources.next(7), sources.is_empty()), (None, true));
    }

    #[test]
    fn a_full_queue_gives_the_letter_back() {
        let (mut endpoints, _others) = mesh(2, 16).unwrap();
        (0..16).for_each(|number| post(&mut endpoints[0], SHARD_1, number));
        let Posted::Refused(letter) = endpoints[0].post(SHARD_1, withdrawn(999)) else {
            panic!("took more than its bound");
        };
        assert!(matches!(letter, Letter::Withdrawn { ticket: Ticket { number: 999, .. } }));
        let _rings = endpoints[0].must_ring(SHARD_1);
        assert_eq!(next(&mut endpoints[1]), Some((SHARD_0, 0)));
        post(&mut endpoints[0], SHARD_1, 999);
    }

    /// Reads how often an eventfd was written to. It blocks if that is never.
    fn wakes(endpoint: &Endpoint) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(&*endpoint.eventfd(), &mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn a_party_is_woken_through_its_eventfd() {
        let (endpoints, [mut service, _store]) = mesh(1, MAILBOX_LETTERS_MAX).unwrap();
        for number in 0..2 {
            post(&mut service, SHARD_0, number);
            if service.must_ring(SHARD_0) {
                service.wake(SHARD_0);
            }
        }
        assert_eq!(wakes(&endpoints[0]), 1, "rung once for two letters");
    }

    #[test]
    fn a_party_that_ends_wakes_the_others_and_what_it_has_posted_is_read() {
        let (mut endpoints, [mut service, _store]) = mesh(2, MAILBOX_LETTERS_MAX).unwrap();
        let mut ended = endpoints.remove(0);
        post(&mut ended, Party::Service, 7);
        assert!(!service.is_gone(SHARD_0));
        drop(ended);
        assert_eq!((wakes(&service), wakes(&endpoints[0])), (1, 1));
        assert_eq!([(); 2].map(|()| next(&mut service)), [Some((SHARD_0, 7)), None]);
        assert!(service.is_gone(SHARD_0) && !service.is_gone(SHARD_1));
        assert!(matches!(service.post(SHARD_0, withdrawn(0)), Posted::Refused(_)));
    }
}
