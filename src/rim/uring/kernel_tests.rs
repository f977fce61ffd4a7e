//! What this code believes about the kernel, one small test each. When one fails on a new kernel, the guard it stands for needs
//! another look.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, types};
use rustix::io::Errno;

use super::buffers::{Buffers, Protection};
use super::driver::{RingDriver, RingSettings};
use super::op::{Operation, Token};
use super::ring::{Reaped, Ring, RingSizes};
use crate::ids::{ConnId, ShardId};
use crate::mailbox::{Ticket, mesh};
use crate::rim::Clock;
use crate::rim::driver::{Accept, Completion, Descriptor, Driver, Receive, ShutdownSides};
use crate::rim::listener::{ListenOptions, Listener, bind};
use crate::rim::sockets::Sockets;

/// For what must happen, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what should not happen to have happened.
const SILENCE: Duration = Duration::from_millis(30);

/// A ring with buffers and a listener, driven by hand.
struct Rig {
    ring: Ring,
    buffers: Buffers,
    listener: Listener,
    reaped: Vec<Reaped>,
}

impl Rig {
    fn new() -> Self {
        Self::with_sizes(RingSizes { submissions: 64, completions: 256, descriptors: 16 }, 8)
    }

    fn with_sizes(sizes: RingSizes, buffers: u16) -> Self {
        let ring = Ring::new(sizes).unwrap();
        ring.enable().unwrap();
        let mut buffers = Buffers::new(buffers, 4096, Protection::Unguarded).unwrap();
        buffers.register(ring.io_uring()).unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, ListenOptions::default()).unwrap().remove(0);
        Self { ring, buffers, listener, reaped: Vec::new() }
    }

    /// Everything that completes within `patience`, until `enough`.
    fn reap(&mut self, patience: Duration, enough: impl Fn(&Reaped) -> bool) -> Option<Reaped> {
        let deadline = Clock::start();
        loop {
            if let Some(index) = self.reaped.iter().position(&enough) {
                return Some(self.reaped.remove(index));
            }
            if deadline.instant().as_micros() >= patience.as_micros() as u64 {
                return None;
            }
            self.ring.wait(Duration::from_millis(5)).unwrap();
            self.reaped.extend(std::iter::from_fn(|| self.ring.reap()));
        }
    }

    fn next(&mut self, operation: Operation) -> Reaped {
        let completion = self.reap(PATIENCE, |completion| completion.token.operation == operation);
        completion.unwrap_or_else(|| panic!("no completion of {operation:?}"))
    }

    fn silent(&mut self, operation: Operation) -> bool {
        self.reap(SILENCE, |completion| completion.token.operation == operation).is_none()
    }

    fn accept_many(&mut self) {
        let accept =
            opcode::AcceptMulti::new(types::Fd(self.listener.fd().as_raw_fd())).allocate_file_index(true);
        // SAFETY: the entry points at no memory.
        unsafe { self.ring.push(accept.build(), Token::numbered(Operation::Accept, 0)) }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listener.local_addr()).unwrap()
    }

    /// A client and its descriptor here.
    fn pair(&mut self) -> (TcpStream, Descriptor) {
        let client = self.connect();
        let accept = opcode::Accept::new(
            types::Fd(self.listener.fd().as_raw_fd()),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
        .file_index(Some(types::DestinationSlot::auto_target()));
        // SAFETY: the entry points at no memory.
        unsafe { self.ring.push(accept.build(), Token::numbered(Operation::Accept, 1)) }
        let accepted = self.next(Operation::Accept);
        assert!(accepted.error().is_none(), "{accepted:?}");
        (client, Descriptor(accepted.result as u32))
    }

    fn receive_many(&mut self, descriptor: Descriptor, conn: ConnId) {
        self.ring.receive(descriptor, Receive::Many, Token::of(Operation::Receive, conn));
    }

    /// The bytes of a completion; gives the buffer back.
    fn bytes(&mut self, completion: &Reaped) -> Vec<u8> {
        let buffer = completion.buffer().expect("data comes in a buffer");
        let lent = self.buffers.take(buffer, completion.result as usize);
        let bytes = self.buffers.bytes(&lent).to_vec();
        self.buffers.release(lent);
        bytes
    }
}

const FIRST: ConnId = ConnId { slot: 3, generation: 7 };
const SECOND: ConnId = ConnId { slot: 3, generation: 8 };

fn hears_the_end(client: &mut TcpStream, patience: Duration) -> bool {
    client.set_read_timeout(Some(patience)).unwrap();
    loop {
        match client.read(&mut [0; 16]) {
            Ok(bytes) => return bytes == 0,
            // Work that another ring, or the end of one, gives this thread interrupts its system calls.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Guard: never close first.
#[test]
fn a_close_with_a_receive_in_flight_is_noticed_by_nobody_and_its_bytes_still_come() {
    let mut rig = Rig::new();
    let (mut client, descriptor) = rig.pair();
    rig.receive_many(descriptor, FIRST);
    assert!(rig.silent(Operation::Receive));
    rig.ring.close(descriptor, Token::of(Operation::Close, FIRST));
    assert!(rig.next(Operation::Close).error().is_none());
    assert!(rig.silent(Operation::Receive), "the receive goes on");
    assert!(!hears_the_end(&mut client, SILENCE), "the peer is told nothing");

    // The descriptor gets another connection; what the first client sends comes under the first one's token.
    let (mut second, reused) = rig.pair();
    assert_eq!(reused, descriptor);
    rig.receive_many(reused, SECOND);
    client.write_all(b"late").unwrap();
    let late = rig.next(Operation::Receive);
    assert_eq!((late.token.conn(), rig.bytes(&late).as_slice()), (FIRST, &b"late"[..]));
    second.write_all(b"own").unwrap();
    let own = rig.next(Operation::Receive);
    assert_eq!((own.token.conn(), rig.bytes(&own).as_slice()), (SECOND, &b"own"[..]));

    // The generation is what tells them apart.
    let mut sockets = Sockets::default();
    sockets.open(SECOND, reused);
    assert!(sockets.find(late.token.conn()).is_none() && sockets.find(own.token.conn()).is_some());
}

/// Guard: shut down, wait for the last completion, close.
#[test]
fn a_shutdown_ends_the_receive_and_a_close_after_it_ends_the_connection() {
    for receive in [Receive::One, Receive::Many] {
        let mut rig = Rig::new();
        let (mut client, descriptor) = rig.pair();
        rig.ring.receive(descriptor, receive, Token::of(Operation::Receive, FIRST));
        assert!(rig.silent(Operation::Receive));
        rig.ring.shutdown(descriptor, ShutdownSides::Both, Token::of(Operation::Shutdown, FIRST));
        let received = rig.next(Operation::Receive);
        assert_eq!((received.result, received.more()), (0, false));
        assert_eq!(rig.next(Operation::Shutdown).result, 0);
        rig.ring.close(descriptor, Token::of(Operation::Close, FIRST));
        assert_eq!(rig.next(Operation::Close).result, 0);
        assert!(hears_the_end(&mut client, PATIENCE));
        assert_eq!(rig.ring.in_flight(), 0);
    }
}

/// Guard: the next poll is armed after the receive; one receive takes at most a buffer, and says whether it left something.
#[test]
fn a_poll_tells_once_of_what_is_there_or_comes() {
    let mut rig = Rig::new();
    let (mut client, descriptor) = rig.pair();
    let (poll, receive) = (Token::of(Operation::Poll, FIRST), Token::of(Operation::Receive, FIRST));
    client.write_all(&[1; 5000]).unwrap();
    std::thread::sleep(SILENCE);
    for left in [5000, 904] {
        rig.ring.poll(descriptor, poll);
        let told = rig.next(Operation::Poll);
        assert!(!told.more() && told.result & i32::from(libc::POLLIN) != 0, "{told:?}");
        rig.ring.receive(descriptor, Receive::Now, receive);
        let received = rig.next(Operation::Receive);
        assert_eq!((received.result, received.left_some()), (left.min(4096), left > 4096));
    }
    rig.ring.receive(descriptor, Receive::Now, receive);
    assert_eq!(rig.next(Operation::Receive).error(), Some(Errno::AGAIN));
    rig.ring.poll(descriptor, poll);
    assert!(rig.silent(Operation::Poll));
    client.write_all(b"more").unwrap();
    rig.next(Operation::Poll);
    client.write_all(b"and more").unwrap();
    assert!(rig.silent(Operation::Poll), "it is over");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    rig.ring.poll(descriptor, poll);
    let ended = rig.next(Operation::Poll);
    assert!(ended.result & i32::from(libc::POLLRDHUP) != 0, "{ended:?}");
}

/// Guard: a parked connection is shut down before its descriptor is closed.
#[test]
fn a_shutdown_ends_a_poll_and_a_close_does_not() {
    let mut rig = Rig::new();
    let (mut client, descriptor) = rig.pair();
    rig.ring.poll(descriptor, Token::of(Operation::Poll, FIRST));
    rig.ring.shutdown(descriptor, ShutdownSides::Both, Token::of(Operation::Shutdown, FIRST));
    assert!(!rig.next(Operation::Poll).more());

    let (mut other, descriptor) = rig.pair();
    rig.ring.poll(descriptor, Token::of(Operation::Poll, SECOND));
    rig.ring.close(descriptor, Token::of(Operation::Close, SECOND));
    assert_eq!(rig.next(Operation::Close).result, 0);
    assert!(!hears_the_end(&mut other, SILENCE), "the poll keeps the connection open");
    rig.ring.cancel(Token::of(Operation::Poll, SECOND));
    assert_eq!(rig.next(Operation::Poll).error(), Some(Errno::CANCELED));
    assert!(hears_the_end(&mut other, PATIENCE) && hears_the_end(&mut client, PATIENCE));
}

/// Guard: a stuck send holds its memory, and its connection, until the shutdown has ended it.
#[test]
fn a_shutdown_ends_a_send_that_nobody_reads_in_the_middle() {
    let mut rig = Rig::new();
    let (_client, descriptor) = rig.pair();
    let frame = vec![7; 32 * 1024 * 1024];
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let send = opcode::Send::new(types::Fixed(descriptor.0), frame.as_ptr(), frame.len() as u32).flags(flags);
    // SAFETY: the frame lives until the completion below.
    unsafe { rig.ring.push(send.build(), Token::of(Operation::Send, FIRST)) }
    assert!(rig.silent(Operation::Send), "the client's buffers are full");
    rig.ring.shutdown(descriptor, ShutdownSides::Both, Token::of(Operation::Shutdown, FIRST));
    let sent = rig.next(Operation::Send);
    assert!(
        sent.result > 0 && (sent.result as usize) < frame.len(),
        "a short send, also with WAITALL: {sent:?}"
    );
}

/// Guard: terminal completions are counted; a cancel's own completion decides nothing.
#[test]
fn a_cancel_answers_for_itself_and_the_receive_for_itself_and_no_byte_is_lost() {
    let mut rig = Rig::new();
    let (mut client, descriptor) = rig.pair();
    let receive = Token::of(Operation::Receive, FIRST);
    rig.receive_many(descriptor, FIRST);
    assert!(rig.silent(Operation::Receive));
    // The bytes are there before the cancel is.
    client.write_all(b"in between").unwrap();
    rig.ring.cancel(receive);
    let _found_or_late = rig.next(Operation::Cancel);
    let mut received = Vec::new();
    loop {
        let completion = rig.next(Operation::Receive);
        if completion.buffer().is_some() {
            received.extend(rig.bytes(&completion));
        }
        if !completion.more() {
            assert_eq!(completion.error(), Some(Errno::CANCELED));
            break;
        }
    }
    rig.receive_many(descriptor, FIRST);
    client.write_all(b".").unwrap();
    while received != b"in between." {
        let completion = rig.next(Operation::Receive);
        received.extend(rig.bytes(&completion));
    }
}

/// Guard: starved connections wait until buffers have come back.
#[test]
fn a_receive_without_buffers_ends_and_loses_nothing_and_fails_at_once_when_armed_again() {
    let mut rig = Rig::with_sizes(RingSizes { submissions: 64, completions: 256, descriptors: 4 }, 2);
    let (mut client, descriptor) = rig.pair();
    let sent: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&sent).unwrap();
    rig.receive_many(descriptor, FIRST);
    let filled = [rig.next(Operation::Receive), rig.next(Operation::Receive)];
    let starved = rig.next(Operation::Receive);
    assert_eq!((starved.error(), starved.more()), (Some(Errno::NOBUFS), false));
    rig.receive_many(descriptor, FIRST);
    assert_eq!(rig.next(Operation::Receive).error(), Some(Errno::NOBUFS));

    let mut received: Vec<u8> = filled.iter().flat_map(|completion| rig.bytes(completion)).collect();
    rig.receive_many(descriptor, FIRST);
    while received.len() < sent.len() {
        let completion = rig.next(Operation::Receive);
        match completion.buffer() {
            Some(_) => received.extend(rig.bytes(&completion)),
            None => rig.receive_many(descriptor, FIRST),
        }
    }
    assert!(received == sent, "the bytes stay in order");
}

/// Guard: accepting stops while descriptors are left.
#[test]
fn an_accept_into_a_full_table_drops_the_client_and_ends() {
    let mut rig = Rig::with_sizes(RingSizes { submissions: 64, completions: 256, descriptors: 2 }, 2);
    rig.accept_many();
    let _seated = [rig.connect(), rig.connect()];
    assert!(rig.next(Operation::Accept).more() && rig.next(Operation::Accept).more());
    let mut dropped = rig.connect();
    let refused = rig.next(Operation::Accept);
    assert_eq!((refused.error(), refused.more()), (Some(Errno::NFILE), false));
    assert!(hears_the_end(&mut dropped, PATIENCE));
}

/// Guard: the source closes its descriptor only after its own completion; the target finds the place in the result.
#[test]
fn a_descriptor_sent_to_another_ring_arrives_with_its_place_and_the_source_hears_of_it_later() {
    let (mut source, mut target) = (Rig::new(), Rig::new());
    // The target's first free place is not the source's.
    let (_other, taken) = target.pair();
    let (mut client, descriptor) = source.pair();
    let ticket = Ticket { source: ShardId(9), number: 77 };
    source.ring.send_descriptor(
        descriptor,
        target.ring.fd(),
        Token::handed_over(ticket),
        Token::of(Operation::HandOver, FIRST),
    );
    // SAFETY: the entry points at no memory.
    unsafe { source.ring.push(opcode::Nop::new().build(), Token::numbered(Operation::Wake, 0)) }
    source.silent(Operation::Accept);
    let order: Vec<_> = source.reaped.iter().map(|completion| completion.token.operation).collect();
    assert_eq!(
        order.first(),
        Some(&Operation::Wake),
        "what was submitted later completes earlier: {order:?}"
    );
    let arrived = target.next(Operation::HandedOver);
    assert_eq!((arrived.token.ticket(), arrived.more()), (ticket, false));
    let place = Descriptor(arrived.result as u32);
    assert_ne!(place, taken);
    assert!(source.next(Operation::HandOver).error().is_none());
    source.ring.close(descriptor, Token::of(Operation::Close, FIRST));
    assert_eq!(source.next(Operation::Close).result, 0);

    target.receive_many(place, SECOND);
    client.write_all(b"hello").unwrap();
    let received = target.next(Operation::Receive);
    assert_eq!(target.bytes(&received), b"hello", "the connection lives on in its new place");
}

/// Guard: a refused handover leaves the connection where it was.
#[test]
fn a_descriptor_sent_to_a_full_table_is_refused_at_the_source_and_the_target_hears_nothing() {
    let mut source = Rig::new();
    let mut target = Rig::with_sizes(RingSizes { submissions: 8, completions: 64, descriptors: 1 }, 2);
    let (_seated, _taken) = target.pair();
    let (mut client, descriptor) = source.pair();
    let notice = Token::handed_over(Ticket { source: ShardId(0), number: 1 });
    let token = Token::of(Operation::HandOver, FIRST);
    source.ring.send_descriptor(descriptor, target.ring.fd(), notice, token);
    assert!(target.silent(Operation::HandedOver));
    assert_eq!(source.next(Operation::HandOver).error(), Some(Errno::NFILE));
    source.receive_many(descriptor, FIRST);
    client.write_all(b"still here").unwrap();
    let received = source.next(Operation::Receive);
    assert_eq!(source.bytes(&received), b"still here");
}

/// Guard: every completion without MORE leads to the decision about the next receive.
#[test]
fn an_overflow_of_the_completion_queue_ends_a_receive_and_loses_nothing() {
    let mut rig = Rig::with_sizes(RingSizes { submissions: 8, completions: 16, descriptors: 4 }, 8);
    let (mut client, descriptor) = rig.pair();
    rig.receive_many(descriptor, FIRST);
    assert!(rig.silent(Operation::Receive));
    // More completions than fit, and nobody reaps.
    for _ in 0..40 {
        // SAFETY: the entry points at no memory.
        unsafe { rig.ring.push(opcode::Nop::new().build(), Token::numbered(Operation::Wake, 0)) }
    }
    rig.ring.wait(Duration::ZERO).unwrap();
    client.write_all(b"a").unwrap();
    rig.ring.wait(Duration::from_millis(5)).unwrap();
    client.write_all(b"b").unwrap();
    rig.ring.wait(Duration::from_millis(5)).unwrap();

    let mut received = Vec::new();
    let mut ended = false;
    while received.len() < 2 {
        let completion = rig.next(Operation::Receive);
        received.extend(rig.bytes(&completion));
        if !completion.more() {
            ended = true;
            rig.receive_many(descriptor, FIRST);
        }
    }
    assert_eq!((received.as_slice(), ended), (&b"ab"[..], true));
    assert!(rig.ring.counts().overflows > 0, "and it is counted");
    let nops = rig.reaped.iter().filter(|completion| completion.token.operation == Operation::Wake);
    assert_eq!(nops.count(), 40);
}

/// Guard: what does not fit the submission queue waits in order.
#[test]
fn more_submissions_than_the_queue_holds_are_done_in_order() {
    let mut rig = Rig::with_sizes(RingSizes { submissions: 8, completions: 2048, descriptors: 4 }, 8);
    for number in 0..1000 {
        // SAFETY: the entry points at no memory.
        unsafe { rig.ring.push(opcode::Nop::new().build(), Token::numbered(Operation::Wake, number)) }
    }
    let numbers: Vec<u32> = (0..1000).map(|_| rig.next(Operation::Wake).token.slot).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

/// Guard: the debug pool shows a write to a buffer that is nobody's.
#[test]
fn a_late_write_to_a_released_buffer_is_an_error_and_the_bytes_stay_in_the_socket() {
    let mut rig = Rig::new();
    let (mut client, descriptor) = rig.pair();
    let mut guarded = Buffers::new(8, 4096, Protection::Quarantine).unwrap();
    let lent = guarded.take(0, 4096);
    let address = guarded.bytes(&lent).as_mut_ptr();
    guarded.release(lent);
    client.write_all(b"late").unwrap();
    let receive = opcode::Recv::new(types::Fixed(descriptor.0), address, 4096);
    // SAFETY: the memory is mapped, without access, until the completion below.
    unsafe { rig.ring.push(receive.build(), Token::of(Operation::Receive, FIRST)) }
    assert_eq!(rig.next(Operation::Receive).error(), Some(Errno::FAULT));
    rig.receive_many(descriptor, FIRST);
    let received = rig.next(Operation::Receive);
    assert_eq!(rig.bytes(&received), b"late");
}

/// Guard: the ring is drained before its memory goes.
#[test]
fn a_dropped_driver_leaves_nothing_in_flight() {
    let listener = bind("127.0.0.1:0".parse().unwrap(), 1, ListenOptions::default()).unwrap().remove(0);
    let (address, listener) = (listener.local_addr(), Arc::new(listener));
    let settings = RingSettings {
        descriptors: 8,
        submissions: 64,
        completions: 256,
        receive_buffers: 8,
        gather_time: Duration::from_millis(1),
    };
    let mut driver = RingDriver::new(settings).unwrap();
    driver.enable(Vec::new()).unwrap();
    let (endpoints, _others) = mesh(1, 16).unwrap();
    driver.watch(endpoints[0].eventfd());
    driver.accept(&listener, Accept::One(0));
    let mut client = TcpStream::connect(address).unwrap();
    driver.wait(PATIENCE).unwrap();
    let Some(Completion::Accepted { client: Ok(descriptor), .. }) = driver.next_completion() else {
        panic!("nobody was accepted");
    };
    driver.accept(&listener, Accept::One(0));
    driver.receive(FIRST, descriptor, Receive::Many);
    driver.wait(Duration::ZERO).unwrap();
    assert_eq!(driver.ring.in_flight(), 3);
    assert!(driver.ring.drain(PATIENCE), "{} in flight", driver.ring.in_flight());
    drop(driver);
    assert!(hears_the_end(&mut client, PATIENCE));
}
