//! What every driver does, whatever interface of the kernel it is made of: the loop relies on this and on nothing else. A driver's
//! folder runs it by `suite!`. What only one interface does, or only it can get wrong, is tested there.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::Clock;
use super::driver::{
    Accept, Cancel, Completion, Descriptor, Driver, Lent, Receive, Received, SendId, ShutdownSides,
};
use super::listener::{ListenOptions, Listener, bind};
use crate::ids::ConnId;
use crate::limits::FRAMES_PER_SEND_MAX;
use crate::shard::Frames;
use crate::wire::encoded::Encoded;

mod between;
pub(super) use between::*;

/// For what must happen, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what should not happen to have happened.
pub(super) const SILENCE: Duration = Duration::from_millis(30);
pub(super) const CONN: ConnId = ConnId { slot: 3, generation: 7 };
pub(super) const OTHER: ConnId = ConnId { slot: 3, generation: 8 };

/// Connections that a driver of these tests has room for.
pub(super) const ROOM: u32 = 16;

/// A driver that can be made for a test.
pub(super) trait Tested: Driver + Sized {
    /// With room for `ROOM` connections.
    fn with_buffers(receive_buffers: u16) -> Self;
}

/// Runs every test of this file for one driver.
macro_rules! suite {
    ($driver:ty) => {
        $crate::rim::conformance::suite!($driver:
            clients_are_taken_in_one_by_one_with_their_addresses,
            clients_are_taken_in_one_after_the_other,
            a_cancelled_accept_ends_and_leaves_or_brings_its_client,
            a_client_that_is_discarded_hears_the_end,
            a_receive_of_one_waits_and_takes_a_buffer_at_most,
            a_receive_of_what_is_there_does_not_wait,
            a_receive_of_many_goes_on_until_the_end,
            the_end_right_behind_bytes_is_told_of,
            a_cancelled_receive_ends_and_no_byte_is_lost,
            without_a_buffer_a_receive_starves_and_no_byte_is_lost,
            a_poll_tells_once_of_bytes_and_of_the_end,
            frames_arrive_whole_and_in_order_and_are_told_of_once,
            a_shutdown_of_the_sending_side_ends_what_is_sent_not_what_is_received,
            a_shutdown_of_both_sides_ends_what_is_in_flight,
            a_connection_that_was_shut_down_and_closed_is_over_on_both_ends,
            a_send_into_a_broken_connection_fails,
            a_stuck_send_can_be_cancelled,
            a_socket_that_is_handed_over_lives_on_in_its_new_place,
            a_socket_that_the_other_shard_has_no_room_for_lives_on_where_it_is,
            a_full_driver_is_silent_until_somebody_comes,
            urgent_data_hides_no_bytes,
            completions_that_were_not_asked_for_yet_stay_in_order,
            a_wait_lasts_until_something_happens,
            shards_and_eventfds_wake_a_driver,
            a_dropped_driver_ends_its_connections
        );
    };
    ($driver:ty: $($name:ident),*) => {
        $(#[test] fn $name() { $crate::rim::conformance::$name::<$driver>(); })*
    };
}
pub(super) use suite;

/// A driver, a listener, and what has completed and was not asked for yet.
pub(super) struct Rig<D> {
    pub(super) driver: D,
    pub(super) listener: Arc<Listener>,
    completed: Vec<Completion>,
}

impl<D: Tested> Rig<D> {
    pub(super) fn new() -> Self {
        Self::alone(D::with_buffers(8))
    }

    pub(super) fn alone(mut driver: D) -> Self {
        let peers = vec![driver.peer()];
        driver.enable(peers).unwrap();
        Self::enabled(driver)
    }

    fn enabled(driver: D) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, ListenOptions::default()).unwrap().remove(0);
        Self { driver, listener: Arc::new(listener), completed: Vec::new() }
    }

    /// Two that know each other: shards 0 and 1.
    pub(super) fn two() -> [Self; 2] {
        let mut drivers = [(); 2].map(|()| D::with_buffers(8));
        let peers: Vec<_> = drivers.iter().map(Driver::peer).collect();
        drivers.iter_mut().for_each(|driver| driver.enable(peers.clone()).unwrap());
        drivers.map(Self::enabled)
    }

    /// The first that is `wanted`, if it comes within `patience`.
    fn find(&mut self, patience: Duration, wanted: impl Fn(&Completion) -> bool) -> Option<Completion> {
        let clock = Clock::start();
        loop {
            if let Some(index) = self.completed.iter().position(&wanted) {
                return Some(self.completed.remove(index));
            }
            if u128::from(clock.instant().as_micros()) >= patience.as_micros() {
                return None;
            }
            self.driver.wait(Duration::from_millis(5)).unwrap();
            self.completed.extend(std::iter::from_fn(|| self.driver.next_completion()));
        }
    }

    pub(super) fn next(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        self.find(PATIENCE, wanted).expect("it completes")
    }

    /// Whether nothing completes for a while.
    pub(super) fn is_silent(&mut self) -> bool {
        self.find(SILENCE, |_| true).is_none()
    }

    pub(super) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A client that has connected, and the socket accepted for it.
    pub(super) fn pair(&mut self) -> (TcpStream, Descriptor) {
        let client = self.connect();
        self.driver.accept(&self.listener, Accept::One(0));
        (client, self.next_client().1)
    }

    fn next_client(&mut self) -> (Accept, Descriptor) {
        match self.next(|completion| matches!(completion, Completion::Accepted { .. })) {
            Completion::Accepted { accept, client: Ok(descriptor), .. } => (accept, descriptor),
            other => panic!("{other:?}"),
        }
    }

    /// What the next completion of a receive says: what came, whether it left something, whether it goes on.
    pub(super) fn next_received(&mut self) -> (Received, bool, bool) {
        match self.next(|completion| matches!(completion, Completion::Received { .. })) {
            Completion::Received { conn: CONN, what, left_some, more } => (what, left_some, more),
            other => panic!("{other:?}"),
        }
    }

    /// The bytes in a buffer, which goes back.
    pub(super) fn take(&mut self, lent: Lent) -> Vec<u8> {
        let bytes = self.driver.bytes(&lent).to_vec();
        self.driver.release(lent);
        bytes
    }

    /// Receives buffer by buffer until so many bytes have come.
    fn receive_all(&mut self, descriptor: Descriptor, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            self.driver.receive(CONN, descriptor, Receive::One);
            let (Received::Bytes(lent), ..) = self.next_received() else { panic!("{} came", all.len()) };
            all.extend(self.take(lent));
        }
        all
    }

    /// How many bytes the next send sent, and why it failed.
    fn next_sent(&mut self) -> (usize, Option<Errno>) {
        match self.next(|completion| matches!(completion, Completion::Sent { .. })) {
            Completion::Sent { conn: CONN, bytes, failed } => (bytes, failed),
            other => panic!("{other:?}"),
        }
    }

    /// Begins a send that the client does not read to its end.
    fn stick(&mut self, descriptor: Descriptor) -> SendId {
        let frames = Frames::One(Encoded::raw(vec![7; STUCK_BYTES]));
        let id = self.driver.send(CONN, descriptor, frames);
        assert!(self.is_silent(), "the client's buffers are full");
        id
    }
}

/// More than all buffers between two sockets take.
const STUCK_BYTES: usize = 32 * 1024 * 1024;

fn hears_the_end(client: &mut TcpStream) -> bool {
    loop {
        match client.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

fn bytes_of(count: usize) -> Vec<u8> {
    (0..count as u32).map(|number| (number % 251) as u8).collect()
}

pub(super) fn clients_are_taken_in_one_by_one_with_their_addresses<D: Tested>() {
    let mut rig = Rig::<D>::new();
    rig.driver.accept(&rig.listener, Accept::One(0));
    rig.driver.accept(&rig.listener, Accept::One(1));
    assert!(rig.is_silent());
    let clients = [rig.connect(), rig.connect()];
    let mut accepts = [rig.next_client().0, rig.next_client().0];
    accepts.sort_by_key(|accept| *accept == Accept::One(1));
    assert_eq!(accepts, [Accept::One(0), Accept::One(1)]);
    for number in [0, 1] {
        let address = clients[0].local_addr().unwrap().ip();
        assert_eq!(rig.driver.accepted_address(number), Some(address));
    }
    let _waits = rig.connect();
    assert!(rig.is_silent(), "each takes one client");
}

pub(super) fn clients_are_taken_in_one_after_the_other<D: Tested>() {
    let mut rig = Rig::<D>::new();
    rig.driver.accept(&rig.listener, Accept::Many);
    for _ in 0..3 {
        let _client = rig.connect();
        let accepted = rig.next(|completion| matches!(completion, Completion::Accepted { .. }));
        let goes_on =
            matches!(accepted, Completion::Accepted { accept: Accept::Many, more: true, client: Ok(_) });
        assert!(goes_on, "{accepted:?}");
    }
}

pub(super) fn a_cancelled_accept_ends_and_leaves_or_brings_its_client<D: Tested>() {
    let mut rig = Rig::<D>::new();
    rig.driver.accept(&rig.listener, Accept::Many);
    assert!(rig.is_silent());
    let _client = rig.connect();
    rig.driver.cancel(Cancel::Accept(Accept::Many));
    let mut brought = false;
    loop {
        match rig.next(|completion| matches!(completion, Completion::Accepted { .. })) {
            Completion::Accepted { client: Ok(_), more, .. } => {
                brought = true;
                if !more {
                    break;
                }
            }
            Completion::Accepted { client: Err(Errno::CANCELED), more: false, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    if !brought {
        rig.driver.accept(&rig.listener, Accept::One(0));
        rig.next_client();
    }
}

pub(super) fn a_client_that_is_discarded_hears_the_end<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.discard(descriptor);
    rig.next(|completion| matches!(completion, Completion::Discarded));
    assert!(hears_the_end(&mut client));
}

pub(super) fn a_receive_of_one_waits_and_takes_a_buffer_at_most<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::One);
    assert!(rig.is_silent());
    client.write_all(b"one").unwrap();
    let (Received::Bytes(lent), _, more) = rig.next_received() else { panic!("no bytes") };
    assert_eq!((rig.take(lent).as_slice(), more), (&b"one"[..], false));
    client.write_all(&bytes_of(5000)).unwrap();
    std::thread::sleep(SILENCE);
    for (bytes, left_some) in [(4096, true), (904, false)] {
        rig.driver.receive(CONN, descriptor, Receive::One);
        let (Received::Bytes(lent), left, more) = rig.next_received() else { panic!("no bytes") };
        assert_eq!((rig.take(lent).len(), left, more), (bytes, left_some, false));
    }
    assert!(rig.is_silent(), "nobody asks");
}

pub(super) fn a_receive_of_what_is_there_does_not_wait<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Now);
    assert_eq!(rig.next_received(), (Received::Nothing, false, false));
    client.write_all(b"there").unwrap();
    std::thread::sleep(SILENCE);
    rig.driver.receive(CONN, descriptor, Receive::Now);
    let (Received::Bytes(lent), _, more) = rig.next_received() else { panic!("no bytes") };
    assert_eq!((rig.take(lent).as_slice(), more), (&b"there"[..], false));
}

pub(super) fn a_receive_of_many_goes_on_until_the_end<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    for text in [&b"first"[..], b"second"] {
        client.write_all(text).unwrap();
        let (Received::Bytes(lent), _, more) = rig.next_received() else { panic!("no bytes") };
        assert_eq!((rig.take(lent).as_slice(), more), (text, true));
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.next_received(), (Received::End, false, false));
}

pub(super) fn urgent_data_hides_no_bytes<D: Tested>() {
    for receive in [Receive::One, Receive::Now, Receive::Many] {
        let mut rig = Rig::<D>::new();
        let (mut client, descriptor) = rig.pair();
        client.write_all(b"before").unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        client.write_all(b"behind").unwrap();
        std::thread::sleep(SILENCE);
        let (mut received, mut goes_on) = (Vec::new(), false);
        while received.len() < 12 {
            if !goes_on {
                rig.driver.poll(CONN, descriptor);
                rig.next(|completion| matches!(completion, Completion::Polled { .. }));
                rig.driver.receive(CONN, descriptor, receive);
            }
            let (Received::Bytes(lent), _, more) = rig.next_received() else { panic!("{received:?}") };
            received.extend(rig.take(lent));
            goes_on = more;
        }
        assert_eq!(received, b"beforebehind", "what is urgent is not part of the stream");
        if !goes_on {
            rig.driver.receive(CONN, descriptor, Receive::One);
        }
        assert!(rig.is_silent(), "nothing is left");
        client.write_all(b".").unwrap();
        let (Received::Bytes(lent), ..) = rig.next_received() else { panic!("no bytes") };
        assert_eq!(rig.take(lent), b".");
    }
}

pub(super) fn the_end_right_behind_bytes_is_told_of<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(SILENCE);
    assert_eq!(rig.receive_all(descriptor, 4), b"last");
    rig.driver.receive(CONN, descriptor, Receive::One);
    assert_eq!(rig.next_received(), (Received::End, false, false));
}

pub(super) fn a_cancelled_receive_ends_and_no_byte_is_lost<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    assert!(rig.is_silent());
    // The bytes are there before the cancel is.
    client.write_all(b"in between").unwrap();
    rig.driver.cancel(Cancel::Receive(CONN, descriptor));
    let mut received = Vec::new();
    loop {
        match rig.next_received() {
            (Received::Bytes(lent), _, more) => {
                received.extend(rig.take(lent));
                if !more {
                    break;
                }
            }
            (Received::Nothing, _, false) => break,
            other => panic!("{other:?}"),
        }
    }
    client.write_all(b".").unwrap();
    let missing = b"in between.".len() - received.len();
    received.extend(rig.receive_all(descriptor, missing));
    assert_eq!(received, b"in between.");
}

pub(super) fn without_a_buffer_a_receive_starves_and_no_byte_is_lost<D: Tested>() {
    let mut rig = Rig::<D>::alone(D::with_buffers(2));
    let (mut client, descriptor) = rig.pair();
    let sent = bytes_of(20_000);
    client.write_all(&sent).unwrap();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    let mut held = Vec::new();
    loop {
        match rig.next_received() {
            (Received::Bytes(lent), ..) => held.push(lent),
            (Received::Starved, _, false) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held.len(), rig.driver.free_buffers()), (2, 0));
    rig.driver.receive(CONN, descriptor, Receive::Now);
    assert_eq!(rig.next_received().0, Received::Starved, "asked for again without one, it fails again");
    let mut received: Vec<u8> = held.into_iter().flat_map(|lent| rig.take(lent)).collect();
    let missing = sent.len() - received.len();
    received.extend(rig.receive_all(descriptor, missing));
    assert!(received == sent, "the bytes stay in order");
}

pub(super) fn a_poll_tells_once_of_bytes_and_of_the_end<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    let told = |completion: &Completion| matches!(completion, Completion::Polled { conn: CONN });
    rig.driver.poll(CONN, descriptor);
    assert!(rig.is_silent());
    client.write_all(b"some").unwrap();
    rig.next(told);
    client.write_all(b" more").unwrap();
    assert!(rig.is_silent(), "it is over");
    // What is there already is told of, too.
    rig.driver.poll(CONN, descriptor);
    rig.next(told);
    assert_eq!(rig.receive_all(descriptor, 9), b"some more");
    rig.driver.poll(CONN, descriptor);
    assert!(rig.is_silent());
    client.shutdown(Shutdown::Write).unwrap();
    rig.next(told);
}

pub(super) fn frames_arrive_whole_and_in_order_and_are_told_of_once<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    // Of the last two, one is more frames than the relay sends at once, the other more than a socket takes.
    for sizes in [vec![10], vec![3, 5, 2], vec![7; FRAMES_PER_SEND_MAX + 1], vec![300_000, 1, 3_000_000]] {
        let sent = bytes_of(sizes.iter().sum());
        let mut rest = sent.as_slice();
        let mut cut = |bytes: &usize| Encoded::raw(rest.split_off(..*bytes).unwrap().to_vec());
        let frames: Vec<Encoded> = sizes.iter().map(&mut cut).collect();
        let frames = match frames.len() {
            1 => Frames::One(frames.into_iter().next().unwrap()),
            _ => Frames::Many(frames.into_iter().collect()),
        };
        rig.driver.send(CONN, descriptor, frames);
        let count = sent.len();
        let mut reader = client.try_clone().unwrap();
        let reads = std::thread::spawn(move || {
            let mut received = vec![0; count];
            reader.read_exact(&mut received).unwrap();
            received
        });
        assert_eq!(rig.next_sent(), (count, None));
        assert!(reads.join().unwrap() == sent);
        assert!(rig.is_silent());
    }
    client.write_all(b"x").unwrap();
}

pub(super) fn a_shutdown_of_the_sending_side_ends_what_is_sent_not_what_is_received<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    rig.driver.send(CONN, descriptor, Frames::One(Encoded::raw(b"last".to_vec())));
    assert_eq!(rig.next_sent(), (4, None));
    rig.driver.shutdown(CONN, descriptor, ShutdownSides::Write);
    rig.next(|completion| matches!(completion, Completion::ShutDown { conn: CONN }));
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"last");
    client.write_all(b"still heard").unwrap();
    let (Received::Bytes(lent), ..) = rig.next_received() else { panic!("no bytes") };
    assert_eq!(rig.take(lent), b"still heard");
}

pub(super) fn a_shutdown_of_both_sides_ends_what_is_in_flight<D: Tested>() {
    for receive in [Some(Receive::One), Some(Receive::Many), None] {
        let mut rig = Rig::<D>::new();
        let (_client, descriptor) = rig.pair();
        match receive {
            Some(receive) => rig.driver.receive(CONN, descriptor, receive),
            None => rig.driver.poll(CONN, descriptor),
        }
        rig.stick(descriptor);
        rig.driver.shutdown(CONN, descriptor, ShutdownSides::Both);
        rig.next(|completion| matches!(completion, Completion::ShutDown { conn: CONN }));
        let (bytes, failed) = rig.next_sent();
        assert!(bytes < STUCK_BYTES && failed.is_some(), "{bytes} {failed:?}");
        match receive {
            Some(_) => assert_eq!(rig.next_received(), (Received::End, false, false)),
            None => drop(rig.next(|completion| matches!(completion, Completion::Polled { conn: CONN }))),
        }
    }
}

pub(super) fn a_connection_that_was_shut_down_and_closed_is_over_on_both_ends<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    rig.driver.shutdown(CONN, descriptor, ShutdownSides::Both);
    rig.next_received();
    rig.next(|completion| matches!(completion, Completion::ShutDown { conn: CONN }));
    rig.driver.close(CONN, descriptor);
    rig.next(|completion| matches!(completion, Completion::Closed { conn: CONN }));
    assert!(hears_the_end(&mut client));

    // Its place is free, and nothing of the old connection comes to whoever has it next.
    let (mut second, descriptor) = rig.pair();
    rig.driver.receive(OTHER, descriptor, Receive::Many);
    // The bytes reach nobody.
    let _ = client.write_all(b"late");
    second.write_all(b"own").unwrap();
    match rig.next(|completion| matches!(completion, Completion::Received { .. })) {
        Completion::Received { conn: OTHER, what: Received::Bytes(lent), .. } => {
            assert_eq!(rig.take(lent), b"own");
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_send_into_a_broken_connection_fails<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (client, descriptor) = rig.pair();
    // Closed with bytes unread, a socket resets.
    rig.driver.send(CONN, descriptor, Frames::One(Encoded::raw(b"unread".to_vec())));
    assert_eq!(rig.next_sent(), (6, None));
    drop(client);
    std::thread::sleep(SILENCE);
    rig.driver.send(CONN, descriptor, Frames::One(Encoded::raw(b"lost".to_vec())));
    let (bytes, failed) = rig.next_sent();
    assert_eq!((bytes, failed.is_some()), (0, true));
}

pub(super) fn a_stuck_send_can_be_cancelled<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (_client, descriptor) = rig.pair();
    let id = rig.stick(descriptor);
    rig.driver.cancel(Cancel::Send(id));
    let (bytes, failed) = rig.next_sent();
    assert!(bytes < STUCK_BYTES && failed.is_some(), "{bytes} {failed:?}");
}

pub(super) fn completions_that_were_not_asked_for_yet_stay_in_order<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    let mut received = Vec::new();
    for byte in 0..6 {
        client.write_all(&[byte]).unwrap();
        std::thread::sleep(SILENCE / 10);
        // One is asked for at a time; a wait in between brings further ones behind it.
        rig.driver.wait(Duration::ZERO).unwrap();
        if byte % 2 == 0
            && let Some(Completion::Received { what: Received::Bytes(lent), .. }) =
                rig.driver.next_completion()
        {
            received.extend(rig.take(lent));
        }
    }
    while received.len() < 6 {
        let (Received::Bytes(lent), ..) = rig.next_received() else { panic!("no bytes") };
        received.extend(rig.take(lent));
    }
    assert_eq!(received, [0, 1, 2, 3, 4, 5]);
}

pub(super) fn a_wait_lasts_until_something_happens<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    let clock = Clock::start();
    rig.driver.wait(Duration::from_millis(40)).unwrap();
    let slept = clock.instant().as_micros();
    assert!(slept >= 39_000, "{slept} µs");
    rig.driver.receive(CONN, descriptor, Receive::Many);
    assert!(rig.is_silent());
    client.write_all(b"ping").unwrap();
    let clock = Clock::start();
    rig.driver.wait(2 * PATIENCE).unwrap();
    assert!(u128::from(clock.instant().as_micros()) < PATIENCE.as_micros());
    let (Received::Bytes(lent), ..) = rig.next_received() else { panic!("no bytes") };
    assert_eq!(rig.take(lent), b"ping");
}

pub(super) fn a_dropped_driver_ends_its_connections<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let (mut client, descriptor) = rig.pair();
    rig.driver.receive(CONN, descriptor, Receive::Many);
    rig.driver.accept(&rig.listener, Accept::One(0));
    rig.stick(descriptor);
    drop(rig.driver);
    assert!(hears_the_end(&mut client));
}
