//! The ring against plain sockets of the standard library.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// Waits for the next completion; fails after two seconds.
fn next(ring: &mut Ring) -> Completion {
    for _ in 0..200 {
        if let Some(completion) = ring.completion().unwrap() {
            return completion;
        }
        ring.wait(1, Duration::from_millis(10)).unwrap();
    }
    panic!("nothing happened for two seconds")
}

fn connected(connections: u32) -> (Ring, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Ring::new(connections, true, listener.local_addr().unwrap()).unwrap();
    let servers = (0..connections).map(|slot| {
        ring.connect(slot, Opening::default()).unwrap();
        let Completion::Connected(connected, Ok(())) = next(&mut ring) else { panic!("not connected") };
        assert_eq!(connected, slot);
        ring.arm_receive(slot).unwrap();
        listener.accept().unwrap().0
    });
    let servers = servers.collect();
    (ring, servers)
}

#[test]
fn bytes_go_both_ways_and_the_end_is_told() {
    let (mut ring, mut servers) = connected(2);
    ring.send(1, b"hello").unwrap();
    assert!(matches!(next(&mut ring), Completion::Sent(1, Ok(()))));
    let mut received = [0; 5];
    servers[1].read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello");

    servers[0].write_all(b"welcome").unwrap();
    let Completion::Received { slot: 0, lent, armed: true } = next(&mut ring) else { panic!("no bytes") };
    assert_eq!(ring.bytes(&lent), b"welcome");
    ring.give_back(lent);

    drop(servers.remove(0));
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded(0, ReceiveEnd::Eof)));
    ring.close(0).unwrap();
}

#[test]
fn a_receive_that_found_no_buffer_goes_on_after_they_are_back_without_losing_a_byte() {
    let (mut ring, mut servers) = connected(1);
    let sent: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 1021) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || servers[0].write_all(&copy).unwrap());
    let (mut held, mut starved) = (Vec::new(), 0);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        match next(&mut ring) {
            Completion::Received { lent, armed, .. } => {
                received.extend_from_slice(ring.bytes(&lent));
                held.push(lent);
                if !armed {
                    ring.arm_receive(0).unwrap();
                }
            }
            Completion::ReceiveEnded(0, ReceiveEnd::NoBuffers) => {
                starved += 1;
                held.drain(..).for_each(|lent| ring.give_back(lent));
                ring.arm_receive(0).unwrap();
            }
            other @ (Completion::Connected(..) | Completion::ReceiveEnded(..) | Completion::Sent(..)) => {
                panic!("{other:?}")
            }
        }
    }
    writer.join().unwrap();
    assert!(starved >= 1, "8 MiB fit into the buffers");
    assert!(received == sent, "bytes were lost or reordered");
}

#[test]
fn a_stopped_receive_reads_nothing_until_it_is_armed_again() {
    let (mut ring, mut servers) = connected(1);
    ring.stop_receive(0).unwrap();
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded(0, ReceiveEnd::Stopped)));
    servers[0].write_all(b"later").unwrap();
    ring.wait(1, Duration::from_millis(50)).unwrap();
    assert!(ring.completion().unwrap().is_none());
    ring.arm_receive(0).unwrap();
    assert!(matches!(next(&mut ring), Completion::Received { slot: 0, .. }));
}

#[test]
fn a_send_that_the_socket_cannot_take_completes_later_and_is_whole() {
    const SEND_BYTES: usize = 1084;
    let (mut ring, mut servers) = connected(1);
    let mut sends = 0;
    let mut pending = false;
    // Until the server's buffers are full.
    while !pending && sends < 100_000 {
        ring.send(0, &[sends as u8; SEND_BYTES]).unwrap();
        sends += 1;
        ring.wait(1, Duration::from_millis(100)).unwrap();
        pending = ring.completion().unwrap().is_none();
    }
    assert!(pending, "the buffers never filled");
    let mut bytes = vec![0; sends * SEND_BYTES];
    let reader = std::thread::spawn(move || {
        servers[0].read_exact(&mut bytes).unwrap();
        bytes
    });
    assert!(matches!(next(&mut ring), Completion::Sent(0, Ok(()))));
    let bytes = reader.join().unwrap();
    for (index, chunk) in bytes.chunks_exact(SEND_BYTES).enumerate() {
        assert!(chunk.iter().all(|&byte| byte == index as u8), "send {index} is damaged");
    }
}

#[test]
fn a_parked_connection_receives_everything_and_is_told_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Ring::new(1, false, listener.local_addr().unwrap()).unwrap();
    let source = "127.0.0.7".parse().unwrap();
    ring.connect(0, Opening { source: Some(source), ..Opening::default() }).unwrap();
    assert!(matches!(next(&mut ring), Completion::Connected(0, Ok(()))));
    ring.park(0).unwrap();
    let (mut server, client) = listener.accept().unwrap();
    assert_eq!(client.ip(), source);

    // More than all buffers hold, and then again after a pause.
    for bytes in [4 << 20, 3, 3] {
        let sent: Vec<u8> = (0..bytes).map(|i: u32| (i / 1021) as u8).collect();
        let (mut writing, copy) = (server.try_clone().unwrap(), sent.clone());
        let writer = std::thread::spawn(move || writing.write_all(&copy).unwrap());
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let Completion::Received { slot: 0, lent, armed: true } = next(&mut ring) else {
                panic!("no bytes")
            };
            received.extend_from_slice(ring.bytes(&lent));
            ring.give_back(lent);
        }
        writer.join().unwrap();
        assert!(received == sent, "bytes were lost or reordered");
        // A poll that found nothing more is no news.
        for _ in 0..3 {
            assert!(ring.completion().unwrap().is_none());
            ring.wait(1, Duration::from_millis(20)).unwrap();
        }
        assert!(ring.completion().unwrap().is_none());
    }

    ring.shutdown(0).unwrap();
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded(0, ReceiveEnd::Eof)));
    ring.close(0).unwrap();
    assert!(ring.completion().unwrap().is_none());
    ring.wait(1, Duration::from_millis(20)).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "the server sees the end");
}

#[test]
fn a_parked_connection_that_is_reset_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Ring::new(1, false, listener.local_addr().unwrap()).unwrap();
    ring.connect(0, Opening::default()).unwrap();
    assert!(matches!(next(&mut ring), Completion::Connected(0, Ok(()))));
    ring.park(0).unwrap();
    let (server, _) = listener.accept().unwrap();
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let Completion::ReceiveEnded(0, ReceiveEnd::Failed(error)) = next(&mut ring) else { panic!("no end") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_ring_with_many_parked_connections_is_dropped_and_they_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Ring::new(300, false, listener.local_addr().unwrap()).unwrap();
    let servers = (0..300).map(|slot| {
        ring.connect(slot, Opening::default()).unwrap();
        assert!(matches!(next(&mut ring), Completion::Connected(_, Ok(()))));
        let armed = if slot % 3 == 0 { ring.arm_receive(slot) } else { ring.park(slot) };
        armed.unwrap();
        listener.accept().unwrap().0
    });
    let servers: Vec<_> = servers.collect();
    ring.cancel_slots().unwrap();
    assert_eq!(ring.outstanding, 0, "nothing is left for the cancel that looks through everything");
    drop(ring);
    for mut server in servers {
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    }
}
