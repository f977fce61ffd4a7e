//! What only this driver can get wrong.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::{EpollDriver, EpollSettings, SocketBudget};
use crate::ids::{ConnId, ShardId};
use crate::limits::{FRUITLESS_STEPS_MAX, SEND_BYTES_AT_ONCE, SENDS_AT_ONCE};
use crate::mailbox::Ticket;
use crate::rim::Clock;
use crate::rim::conformance::{CONN, OTHER, Rig, SILENCE};
use crate::rim::driver::{Accept, Cancel, Completion, Driver, Receive, Received, ShutdownSides};
use crate::shard::Frames;
use crate::wire::encoded::Encoded;

#[test]
fn a_flood_on_one_socket_waits_for_its_turn() {
    let mut rig = Rig::<EpollDriver>::new();
    let [(mut loud, flooded), (mut quiet, other)] = [(); 2].map(|()| rig.pair());
    rig.driver.receive(CONN, flooded, Receive::Many);
    rig.driver.receive(OTHER, other, Receive::Many);
    loud.write_all(&[0; 64 * 1024]).unwrap();
    quiet.write_all(b"heard").unwrap();
    std::thread::sleep(SILENCE);
    rig.driver.wait(Duration::ZERO).unwrap();
    let whose = |completion: Option<Completion>, rig: &mut Rig<EpollDriver>| -> ConnId {
        let Some(Completion::Received { conn, what: Received::Bytes(lent), .. }) = completion else {
            panic!("{completion:?}")
        };
        rig.take(lent);
        conn
    };
    let order = [(); 4].map(|()| {
        let completion = rig.driver.next_completion();
        whose(completion, &mut rig)
    });
    assert_eq!(order.iter().filter(|conn| **conn == OTHER).count(), 1, "{order:?}");
    assert!(order[..2].contains(&OTHER), "{order:?}");
    assert_eq!(rig.driver.free_buffers(), 8, "each was back before the next was needed");
}

#[test]
fn a_socket_that_an_ended_shard_cannot_take_lives_on_here() {
    let [mut source, target] = Rig::<EpollDriver>::two();
    let (mut client, descriptor) = source.pair();
    drop(target);
    source.driver.hand_over(CONN, descriptor, ShardId(1), Ticket { source: ShardId(0), number: 1 });
    let Completion::HandedOver { outcome, .. } =
        source.next(|completion| matches!(completion, Completion::HandedOver { .. }))
    else {
        panic!("another completion")
    };
    assert_eq!(outcome, Err(Errno::PIPE));
    client.write_all(b"still here").unwrap();
    source.driver.receive(CONN, descriptor, Receive::One);
    let (Received::Bytes(lent), ..) = source.next_received() else { panic!("no bytes") };
    assert_eq!(source.take(lent), b"still here");
}

#[test]
fn a_socket_that_was_handed_over_is_watched_in_its_new_place_only() {
    let [mut source, mut target] = Rig::<EpollDriver>::two();
    let (_client, descriptor) = source.pair();
    source.driver.hand_over(CONN, descriptor, ShardId(1), Ticket { source: ShardId(0), number: 1 });
    target.next(|completion| matches!(completion, Completion::Arrived { .. }));
    let watched = |rig: &Rig<EpollDriver>| {
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", rig.driver.poller.number())).unwrap();
        info.lines().filter(|line| line.starts_with("tfd:")).count()
    };
    // Each has its doorbell, and one of them a listener.
    assert_eq!((watched(&source), watched(&target)), (2, 2));
}

#[test]
fn the_drivers_of_a_process_share_their_sockets() {
    let sockets = Arc::new(SocketBudget::new(1));
    let mut rigs = [(); 2].map(|()| {
        let settings = EpollSettings {
            descriptors: 16,
            sockets: sockets.clone(),
            receive_buffers: 8,
            gather_time: Duration::ZERO,
        };
        Rig::alone(EpollDriver::new(settings).unwrap())
    });
    let (_client, descriptor) = rigs[0].pair();
    let _waits = rigs[1].connect();
    let is_accept = |completion: &Completion| matches!(completion, Completion::Accepted { .. });
    let accept = |rig: &mut Rig<EpollDriver>| {
        rig.driver.accept(&rig.listener, Accept::Many);
        rig.next(is_accept)
    };
    let refused = accept(&mut rigs[1]);
    let expected = matches!(refused, Completion::Accepted { more: false, client: Err(Errno::MFILE), .. });
    assert!(expected, "{refused:?}");
    rigs[0].driver.discard(descriptor);
    let taken = accept(&mut rigs[1]);
    assert!(matches!(taken, Completion::Accepted { more: true, client: Ok(_), .. }), "{taken:?}");
}

#[test]
fn nobody_is_accepted_beyond_the_table_and_who_waits_is_taken_later() {
    let settings = EpollSettings {
        descriptors: 1,
        sockets: Arc::new(SocketBudget::new(9)),
        receive_buffers: 8,
        gather_time: Duration::ZERO,
    };
    let mut rig = Rig::alone(EpollDriver::new(settings).unwrap());
    let (_client, descriptor) = rig.pair();
    let _waits = rig.connect();
    rig.driver.accept(&rig.listener, Accept::One(0));
    let refused = rig.next(|completion| matches!(completion, Completion::Accepted { .. }));
    assert!(matches!(refused, Completion::Accepted { client: Err(Errno::NFILE), .. }), "{refused:?}");
    rig.driver.discard(descriptor);
    rig.pair();
}

#[test]
fn what_is_ready_and_brings_nothing_is_done_in_parts() {
    let sockets = FRUITLESS_STEPS_MAX as u32 + 10;
    let settings = EpollSettings {
        descriptors: sockets,
        sockets: Arc::new(SocketBudget::new(sockets.into())),
        receive_buffers: 8,
        gather_time: Duration::ZERO,
    };
    let mut rig = Rig::alone(EpollDriver::new(settings).unwrap());
    let pairs: Vec<_> = (0..sockets).map(|_| rig.pair()).collect();
    for (_, descriptor) in &pairs {
        rig.driver.receive(CONN, *descriptor, Receive::Now);
        rig.driver.cancel(Cancel::Receive(CONN, *descriptor));
    }
    let told = std::iter::from_fn(|| rig.driver.next_completion()).count();
    assert_eq!((told, rig.driver.ready_count()), (sockets as usize, 10), "the rest is left for later");
    let clock = Clock::start();
    rig.driver.wait(Duration::from_secs(60)).unwrap();
    assert!(clock.instant().as_micros() < 30_000_000, "it does not sleep");
    assert!(rig.driver.next_completion().is_none());
    assert_eq!(rig.driver.ready_count(), 0);
}

#[test]
fn of_many_sends_some_wait_until_the_loop_has_looked_at_its_clock() {
    let mut rig = Rig::<EpollDriver>::new();
    let (mut client, descriptor) = rig.pair();
    let frame = || Frames::One(Encoded::raw(b"frame".to_vec()));
    let is_sent =
        |completion: Option<Completion>| matches!(completion, Some(Completion::Sent { bytes: 5, .. }));
    rig.driver.wait(Duration::ZERO).unwrap();
    for _ in 0..SENDS_AT_ONCE {
        rig.driver.send(CONN, descriptor, frame());
        assert!(is_sent(rig.driver.next_completion()));
    }
    rig.driver.send(CONN, descriptor, frame());
    assert_eq!(rig.driver.unsent_bytes(descriptor), Some(5));
    assert!(is_sent(rig.driver.next_completion()), "its turn has come");
    rig.driver.send(CONN, descriptor, frame());
    rig.driver.wait(Duration::from_secs(60)).unwrap();
    assert!(is_sent(rig.driver.next_completion()), "a wait does not sleep while one waits");
    rig.driver.send(CONN, descriptor, frame());
    assert_eq!(rig.driver.unsent_bytes(descriptor), None, "and begins anew");
    let mut received = vec![0; 5 * (SENDS_AT_ONCE + 3)];
    client.read_exact(&mut received).unwrap();
    assert!(received.chunks(5).all(|frame| frame == b"frame"));
}

#[test]
fn what_was_said_before_a_shutdown_goes_out_however_many_sends_there_were() {
    let mut rig = Rig::<EpollDriver>::new();
    let [(mut busy, descriptor), (mut client, other)] = [(); 2].map(|()| rig.pair());
    rig.driver.wait(Duration::ZERO).unwrap();
    for _ in 0..SENDS_AT_ONCE {
        rig.driver.send(CONN, descriptor, Frames::One(Encoded::raw(b"frame".to_vec())));
        let completion = rig.driver.next_completion();
        assert!(matches!(completion, Some(Completion::Sent { .. })), "{completion:?}");
    }
    rig.driver.send(OTHER, other, Frames::One(Encoded::raw(b"goodbye".to_vec())));
    rig.driver.shutdown(OTHER, other, ShutdownSides::Both);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"goodbye");
    busy.read_exact(&mut vec![0; 5 * SENDS_AT_ONCE]).unwrap();
}

#[test]
fn a_long_send_leaves_others_their_turn() {
    let mut rig = Rig::<EpollDriver>::new();
    let (mut client, descriptor) = rig.pair();
    // More than half of it would fit into the buffers between the two.
    let sent = vec![7; 2 * SEND_BYTES_AT_ONCE + 1];
    rig.driver.send(CONN, descriptor, Frames::One(Encoded::raw(sent.clone())));
    assert_eq!(rig.driver.unsent_bytes(descriptor), Some(SEND_BYTES_AT_ONCE + 1));
    let reads = std::thread::spawn(move || {
        let mut received = vec![0; 2 * SEND_BYTES_AT_ONCE + 1];
        client.read_exact(&mut received).unwrap();
        received
    });
    let ended = rig.next(|completion| matches!(completion, Completion::Sent { .. }));
    assert!(
        matches!(ended, Completion::Sent { bytes, failed: None, .. } if bytes == sent.len()),
        "{ended:?}"
    );
    assert!(reads.join().unwrap() == sent);
}

#[test]
fn a_send_that_waits_is_counted_as_memory_and_let_go_of() {
    let mut rig = Rig::<EpollDriver>::new();
    let (_client, descriptor) = rig.pair();
    let before = rig.driver.heap_bytes();
    let frame = Encoded::raw(vec![7; 32 * 1024 * 1024]);
    let id = rig.driver.send(CONN, descriptor, Frames::One(frame.clone()));
    assert!(rig.is_silent());
    assert!(rig.driver.heap_bytes() > before + 16 * 1024 * 1024, "half of it, since two hold the frame");
    rig.driver.cancel(Cancel::Send(id));
    rig.next(|completion| matches!(completion, Completion::Sent { failed: Some(Errno::CANCELED), .. }));
    assert!(rig.driver.heap_bytes() < before + 4096);
}
