//! What drivers do for each other, and what they do when there is no room.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::{CONN, PATIENCE, ROOM, Rig, SILENCE, Tested};
use crate::ids::ShardId;
use crate::mailbox::Ticket;
use crate::rim::Clock;
use crate::rim::driver::{Accept, Completion, Descriptor};

pub(in crate::rim) fn a_socket_that_is_handed_over_lives_on_in_its_new_place<D: Tested>() {
    let [mut source, mut target] = Rig::<D>::two();
    let (mut client, descriptor) = source.pair();
    let ticket = Ticket { source: ShardId(0), number: 77 };
    source.driver.hand_over(CONN, descriptor, ShardId(1), ticket);
    match source.next(|completion| matches!(completion, Completion::HandedOver { .. })) {
        Completion::HandedOver { conn: CONN, outcome: Ok(()) } => {}
        other => panic!("{other:?}"),
    }
    let place = match target.next(|completion| matches!(completion, Completion::Arrived { .. })) {
        Completion::Arrived { ticket: arrived, descriptor: Ok(place) } if arrived == ticket => place,
        other => panic!("{other:?}"),
    };
    source.driver.close(CONN, descriptor);
    source.next(|completion| matches!(completion, Completion::Closed { conn: CONN }));
    client.write_all(b"hello").unwrap();
    assert_eq!(target.receive_all(place, 5), b"hello");
}

pub(in crate::rim) fn shards_and_eventfds_wake_a_driver<D: Tested>() {
    let [mut source, mut target] = Rig::<D>::two();
    let outside: Arc<OwnedFd> = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    target.driver.watch(outside.clone());
    assert!(target.is_silent());
    for round in 0..4 {
        let (woken, outside) = (Clock::start(), outside.clone());
        // A driver belongs to its thread, so the other end rings from here before the wait begins.
        if round % 2 == 0 {
            source.driver.ring(ShardId(1));
            source.driver.wait(Duration::ZERO).unwrap();
            target.driver.wait(2 * PATIENCE).unwrap();
        } else {
            let rings = std::thread::spawn(move || {
                std::thread::sleep(SILENCE);
                rustix::io::write(&*outside, &1_u64.to_ne_bytes()).unwrap();
            });
            target.driver.wait(2 * PATIENCE).unwrap();
            rings.join().unwrap();
        }
        assert!(u128::from(woken.instant().as_micros()) < PATIENCE.as_micros());
        assert!(target.driver.next_completion().is_none(), "there is nothing to tell");
    }
}

/// Takes every place of a driver.
fn fill<D: Tested>(rig: &mut Rig<D>) -> Vec<(TcpStream, Descriptor)> {
    (0..ROOM).map(|_| rig.pair()).collect()
}

pub(in crate::rim) fn a_socket_that_the_other_shard_has_no_room_for_lives_on_where_it_is<D: Tested>() {
    let [mut source, mut target] = Rig::<D>::two();
    let others = fill(&mut target);
    let (mut client, descriptor) = source.pair();
    let hand_over = |source: &mut Rig<D>, number| {
        source.driver.hand_over(CONN, descriptor, ShardId(1), Ticket { source: ShardId(0), number });
        match source.next(|completion| matches!(completion, Completion::HandedOver { .. })) {
            Completion::HandedOver { conn: CONN, outcome } => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert!(hand_over(&mut source, 1).is_err());
    assert!(target.is_silent(), "it is told of nobody");
    client.write_all(b"still here").unwrap();
    assert_eq!(source.receive_all(descriptor, 10), b"still here");

    target.driver.discard(others[0].1);
    target.next(|completion| matches!(completion, Completion::Discarded));
    assert_eq!(hand_over(&mut source, 2), Ok(()));
    target.next(|completion| matches!(completion, Completion::Arrived { descriptor: Ok(_), .. }));
}

pub(in crate::rim) fn a_full_driver_is_silent_until_somebody_comes<D: Tested>() {
    let mut rig = Rig::<D>::new();
    let others = fill(&mut rig);
    rig.driver.accept(&rig.listener, Accept::One(0));
    assert!(rig.is_silent(), "nobody waits for a place");
    let _waits = rig.connect();
    let refused = rig.next(|completion| matches!(completion, Completion::Accepted { .. }));
    let expected = matches!(refused, Completion::Accepted { more: false, client: Err(Errno::NFILE), .. });
    assert!(expected, "{refused:?}");
    rig.driver.discard(others[0].1);
    rig.next(|completion| matches!(completion, Completion::Discarded));
    // If the one that waited is gone, this one is taken.
    let _comes = rig.connect();
    rig.driver.accept(&rig.listener, Accept::One(0));
    rig.next_client();
}
