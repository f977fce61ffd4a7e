//! Queues between threads: bounded, one writer and one reader each, and a doorbell that is rung once however much was posted.
//!
//! The queues know no driver. A shard that posted to another asks `must_ring` and, if so, wakes it through its own driver;
//! the service thread has none and writes to an eventfd that the shard's driver watches.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use crate::ids::ShardId;
use crate::limits::MAILBOX_LETTERS_MAX;
use crate::shard::peer::{HandOver, Order, PeerMessage};

/// Names one hand-over: a shard does not use a number again before 2^32 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Whether somebody has rung and the shard has not answered yet. A cache line each: every shard writes to every other's.
#[derive(Default)]
#[repr(align(64))]
struct Doorbell(AtomicBool);

impl Doorbell {
    /// To be called after the push: whoever answers later sees it.
    fn must_ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
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
        self.doorbells[usize::from(target.0)].must_ring()
    }

    /// True when somebody has rung. Then, and before `take`, the bell must be answered. A loop that asks every turn loses no
    /// letter even if the ringing itself fails.
    pub fn is_rung(&self) -> bool {
        self.doorbells[usize::from(self.id.0)].0.load(Ordering::Relaxed)
    }

    /// Answers the doorbell: whatever is posted from here on rings it again.
    pub fn answer(&self) {
        self.doorbells[usize::from(self.id.0)].0.swap(false, Ordering::AcqRel);
    }

    /// The next letter; those of one source come in the order they were posted.
    pub fn take(&mut self) -> Option<Letter> {
        self.inboxes.iter_mut().find_map(|inbox| inbox.pop().ok())
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
            && self.doorbells[shard].must_ring()
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
        assert!(target.is_rung() && !source.is_rung());
        target.answer();
        assert_eq!([(); 4].map(|()| number(target.take())), [Some(1), Some(2), Some(3), None]);
        assert!(matches!(source.post(ShardId(1), withdrawn(4)), Posted::Queued));
        assert!(source.must_ring(ShardId(1)), "an answered bell rings again");
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
