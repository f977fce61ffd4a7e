//! Queues between threads: bounded, one writer and one reader each, and a doorbell that is rung once however much was posted.
//!
//! The queues know no driver. A shard that posted to another asks `must_ring` and, if so, wakes it through its own driver;
//! the service thread has none and writes to an eventfd that the shard's driver watches.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use crate::ids::{ConnId, ShardId};
use crate::limits::{MAILBOX_LETTERS_MAX, SHARDS_MAX};
use crate::shard::peer::{HandOver, Order, PeerMessage};

/// Names one hand-over: a shard does not use a number again before 2^32 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The shard that gives the connection away.
    pub source: ShardId,
    /// Its number there.
    pub number: u32,
}

/// What one thread posts to another.
#[derive(Debug)]
pub enum Letter {
    /// For the core, from another party.
    Peer(PeerMessage),
    /// For the core, from this process.
    Order(Order),
    /// A connection whose descriptor comes by way of the drivers under the same ticket. Posted before the descriptor is sent.
    Connection {
        /// Matches it with its descriptor.
        ticket: Ticket,
        /// What it is called where it comes from.
        conn: ConnId,
        /// For the core.
        state: Box<HandOver>,
        /// Where the client is, if connections per address are counted: the target counts it down at its end.
        address: Option<IpAddr>,
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
    /// It will be read; the reader still has to be woken.
    Queued,
    /// The queue is full, or its reader is gone: here it is back.
    Refused(Letter),
}

/// One shard's end of all queues.
pub struct Endpoint {
    id: ShardId,
    /// By source shard; the last is the service thread's.
    inboxes: Box<[Consumer<Letter>]>,
    /// Those in which letters may be.
    with_mail: Sources,
    /// The one that is looked at next.
    next: usize,
    outboxes: Box<[Producer<Letter>]>,
    doorbells: Arc<[Doorbell]>,
    wake: Arc<OwnedFd>,
}

/// The service thread's end.
pub struct ServiceSender {
    outboxes: Box<[Producer<Letter>]>,
    doorbells: Arc<[Doorbell]>,
    wakes: Box<[Arc<OwnedFd>]>,
}

/// The service thread's end, for everybody outside the shards: the main thread, the signals, the admin pages.
#[derive(Clone)]
pub struct SharedSender(Arc<Mutex<ServiceSender>>);

/// Whether somebody has rung and the shard has not answered yet, and who has. A cache line each: every shard writes to every
/// other's.
#[derive(Default)]
#[repr(align(64))]
struct Doorbell {
    is_rung: AtomicBool,
    sources: [AtomicU64; SOURCE_WORDS],
}

const SOURCE_WORDS: usize = (SHARDS_MAX as usize + 1).div_ceil(64);
const _: () = assert!(size_of::<Doorbell>() == 64, "one cache line");

impl Doorbell {
    /// To be called after the push: whoever answers later sees it. True: nobody else has rung since the last answer.
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

/// Some of the inboxes: a bit each, so that a look for letters costs what has arrived and not how many could have sent some.
#[derive(Default)]
struct Sources([u64; SOURCE_WORDS]);

impl Sources {
    fn is_empty(&self) -> bool {
        self.0 == [0; SOURCE_WORDS]
    }

    /// The first one from `start` on, around the end.
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
    "cannot create the eventfd that wakes shard {shard}: {source}; each shard needs one descriptor below RLIMIT_NOFILE"
)]
pub struct MeshError {
    shard: u16,
    source: io::Error,
}

/// The queues between `shards` shards, with room for `letters` each, and from the service thread to each, which has full size.
pub fn mesh(shards: u16, letters: usize) -> Result<(Vec<Endpoint>, ServiceSender), MeshError> {
    let doorbells: Arc<[Doorbell]> = (0..shards).map(|_| Doorbell::default()).collect();
    let wakes: Vec<Arc<OwnedFd>> = (0..shards)
        .map(|shard| {
            let created = eventfd(0, EventfdFlags::CLOEXEC);
            created.map(Arc::new).map_err(|errno| MeshError { shard, source: errno.into() })
        })
        .collect::<Result<_, _>>()?;

    let mut inboxes: Vec<Vec<Consumer<Letter>>> = (0..shards).map(|_| Vec::new()).collect();
    let mut writer = |letters: usize| -> Box<[Producer<Letter>]> {
        let queue = |inbox: &mut Vec<Consumer<Letter>>| {
            let (producer, consumer) = RingBuffer::new(letters);
            inbox.push(consumer);
            producer
        };
        inboxes.iter_mut().map(queue).collect()
    };
    let outboxes: Vec<_> = (0..shards).map(|_| writer(letters)).collect();
    let service_outboxes = writer(MAILBOX_LETTERS_MAX);

    let endpoints =
        (0..shards).zip(inboxes).zip(outboxes).zip(&wakes).map(|(((shard, inboxes), outboxes), wake)| {
            Endpoint {
                id: ShardId(shard),
                inboxes: inboxes.into(),
                with_mail: Sources::default(),
                next: 0,
                outboxes,
                doorbells: doorbells.clone(),
                wake: wake.clone(),
            }
        });
    let endpoints = endpoints.collect();
    Ok((endpoints, ServiceSender { outboxes: service_outboxes, doorbells, wakes: wakes.into() }))
}

impl Endpoint {
    /// Whose end it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Number of shards, this one included.
    pub fn shards(&self) -> usize {
        self.outboxes.len()
    }

    /// Puts a letter into a shard's queue. Wakes nobody: see `must_ring`.
    pub fn post(&mut self, target: ShardId, letter: Letter) -> Posted {
        push(&mut self.outboxes[usize::from(target.0)], letter)
    }

    /// Whether the shard has ended: nothing is read there any more.
    pub fn is_gone(&self, target: ShardId) -> bool {
        self.outboxes[usize::from(target.0)].is_abandoned()
    }

    /// To be asked once after one or more `post`s to `target`: true when nobody else has rung since it last answered.
    #[must_use]
    pub fn must_ring(&self, target: ShardId) -> bool {
        self.doorbells[usize::from(target.0)].ring(usize::from(self.id.0))
    }

    /// Whether there may be letters. A loop that asks every turn loses none even if the ringing itself fails.
    pub fn has_mail(&self) -> bool {
        self.doorbells[usize::from(self.id.0)].is_rung.load(Ordering::Relaxed) || !self.with_mail.is_empty()
    }

    /// Answers the doorbell, if it was rung, and takes the next letter: one of each source in turn, and those of one source in the order they were posted. What is not taken is
    /// mail still.
    pub fn take(&mut self) -> Option<Letter> {
        self.doorbells[usize::from(self.id.0)].answer(&mut self.with_mail);
        loop {
            let source = self.with_mail.next(self.next)?;
            if let Ok(letter) = self.inboxes[source].pop() {
                self.next = source + 1;
                return Some(letter);
            }
            self.with_mail.remove(source);
        }
    }

    /// Memory of the queues to this shard, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let letters = self.inboxes.iter().map(|inbox| inbox.buffer().capacity()).sum::<usize>();
        letters * size_of::<Letter>()
    }

    /// Becomes readable (eight bytes) when the service thread rings.
    pub fn wake(&self) -> Arc<OwnedFd> {
        self.wake.clone()
    }
}

impl ServiceSender {
    /// Gives an order to a shard and wakes it.
    pub fn send(&mut self, target: ShardId, order: Order) -> Posted {
        let shard = usize::from(target.0);
        let posted = push(&mut self.outboxes[shard], Letter::Order(order));
        if matches!(posted, Posted::Queued)
            && self.doorbells[shard].ring(self.outboxes.len())
            && let Err(errno) = rustix::io::write(&*self.wakes[shard], &1u64.to_ne_bytes())
        {
            // The shard looks at its doorbell whenever its loop turns, so the letter comes late, not never.
            tracing::warn!(shard, %errno, "cannot write to the eventfd that wakes the shard");
        }
        posted
    }
}

impl SharedSender {
    /// Shares it.
    pub fn new(sender: ServiceSender) -> Self {
        Self(Arc::new(Mutex::new(sender)))
    }

    /// Gives an order to every shard and wakes it. Returns those that could not take it.
    pub fn send_all(&self, order: &Order) -> Vec<ShardId> {
        // Whoever panicked with the lock has at worst posted to some shards and not to others.
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = (0..sender.outboxes.len()).map(|shard| ShardId(shard as u16));
        shards.filter(|shard| matches!(sender.send(*shard, order.clone()), Posted::Refused(_))).collect()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).outboxes.len()
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

    fn withdrawn(number: u32) -> Letter {
        Letter::Withdrawn { ticket: Ticket { source: ShardId(0), number } }
    }

    fn number(letter: Option<Letter>) -> Option<u32> {
        match letter? {
            Letter::Withdrawn { ticket } => Some(ticket.number),
            Letter::Peer(_) | Letter::Order(_) | Letter::Connection { .. } => None,
        }
    }

    #[test]
    fn letters_arrive_in_order_and_the_bell_rings_once() {
        let (mut endpoints, _service) = mesh(2, MAILBOX_LETTERS_MAX).unwrap();
        let mut target = endpoints.pop().unwrap();
        let mut source = endpoints.pop().unwrap();
        let rings = [1, 2, 3].map(|n| {
            assert!(matches!(source.post(ShardId(1), withdrawn(n)), Posted::Queued));
            source.must_ring(ShardId(1))
        });
        assert_eq!(rings, [true, false, false]);
        assert!(target.has_mail() && !source.has_mail());
        assert_eq!([(); 4].map(|()| number(target.take())), [Some(1), Some(2), Some(3), None]);
        assert!(matches!(source.post(ShardId(1), withdrawn(4)), Posted::Queued));
        assert!(source.must_ring(ShardId(1)), "an answered bell rings again");
    }

    #[test]
    fn letters_are_read_from_each_source_in_turn_and_what_is_not_taken_stays() {
        let (mut endpoints, mut service) = mesh(3, MAILBOX_LETTERS_MAX).unwrap();
        for (source, letters) in [(0, 4), (1, 1), (2, 2)] {
            for n in 0..letters {
                let letter = withdrawn(10 * source as u32 + n);
                assert!(matches!(endpoints[source].post(ShardId(0), letter), Posted::Queued));
            }
            let _rings = endpoints[source].must_ring(ShardId(0));
        }
        assert!(matches!(service.send(ShardId(0), Order::Drain), Posted::Queued));
        let target = &mut endpoints[0];
        let mut taken = |letters: usize| -> Vec<Option<u32>> {
            (0..letters).map(|_| target.take().map(|letter| number(Some(letter)).unwrap_or(99))).collect()
        };
        assert_eq!(taken(3), [Some(0), Some(10), Some(20)]);
        assert_eq!(taken(6), [Some(99), Some(1), Some(21), Some(2), Some(3), None]);
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
        let (mut endpoints, _service) = mesh(2, 16).unwrap();
        for n in 0..16 {
            assert!(matches!(endpoints[0].post(ShardId(1), withdrawn(n)), Posted::Queued));
        }
        let Posted::Refused(letter) = endpoints[0].post(ShardId(1), withdrawn(999)) else {
            panic!("took more than its bound");
        };
        assert_eq!(number(Some(letter)), Some(999));
        let _rings = endpoints[0].must_ring(ShardId(1));
        assert_eq!(number(endpoints[1].take()), Some(0));
        assert!(matches!(endpoints[0].post(ShardId(1), withdrawn(999)), Posted::Queued));
    }

    #[test]
    fn the_service_thread_wakes_a_shard_through_its_eventfd() {
        let (mut endpoints, mut service) = mesh(1, MAILBOX_LETTERS_MAX).unwrap();
        assert!(matches!(service.send(ShardId(0), Order::Drain), Posted::Queued));
        assert!(matches!(service.send(ShardId(0), Order::Drain), Posted::Queued));
        let mut count = [0; 8];
        rustix::io::read(&*endpoints[0].wake(), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "rung once for two letters");
        assert!(matches!(endpoints[0].take(), Some(Letter::Order(Order::Drain))));
        drop(endpoints);
        assert!(matches!(service.send(ShardId(0), Order::Drain), Posted::Refused(_)));
    }

    #[test]
    fn everybody_is_told_who_can_be() {
        let (mut endpoints, service) = mesh(3, MAILBOX_LETTERS_MAX).unwrap();
        let sender = SharedSender::new(service);
        drop(endpoints.remove(1));
        assert_eq!(sender.send_all(&Order::Drain), [ShardId(1)]);
        for endpoint in &mut endpoints {
            assert!(matches!(endpoint.take(), Some(Letter::Order(Order::Drain))));
        }
    }
}
