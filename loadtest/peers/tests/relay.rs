//! The peers on tokio as a client sees them: who is sent what, with each library and each kind of runtime.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test that waits for a process needs a clock")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

const START_TIME: Duration = Duration::from_secs(10);
const READ_TIME: Duration = Duration::from_secs(5);
const PEERS: [&str; 2] =
    [env!("CARGO_BIN_EXE_peer-fastwebsockets"), env!("CARGO_BIN_EXE_peer-tokio-tungstenite")];

struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(program: &str, threads: &str) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let arguments = ["--listen", &address.to_string(), "--threads", threads];
        let child = Command::new(program).args(arguments).spawn().unwrap();
        let peer = Self { child, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < START_TIME, "{program} does not accept");
            std::thread::sleep(Duration::from_millis(20));
        }
        peer
    }

    fn join(&self, path: &str) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(READ_TIME)).unwrap();
        tungstenite::client(format!("ws://{}{path}", self.address), stream).unwrap().0
    }
}

fn send(client: &mut WebSocket<TcpStream>, byte: u8) {
    client.send(Message::binary(vec![byte; 12])).unwrap();
}

/// Reads until a frame holds the record of `byte`; every record read so far, by its byte.
fn read_until(client: &mut WebSocket<TcpStream>, byte: u8) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.contains(&byte) {
        let Message::Binary(frame) = client.read().unwrap() else { panic!("no binary message") };
        let (records, rest) = frame.as_chunks::<12>();
        assert!(rest.is_empty() && records.iter().all(|record| *record == [record[0]; 12]), "{frame:?}");
        seen.extend(records.iter().map(|record| record[0]));
    }
    seen
}

#[test]
fn what_is_sent_to_a_room_comes_to_everybody_there_and_nobody_else() {
    for program in PEERS {
        for threads in ["1", "2"] {
            let peer = Peer::start(program, threads);
            let (mut a, mut b, mut elsewhere) =
                (peer.join("/room/1"), peer.join("/room/1"), peer.join("/room/2"));
            send(&mut a, 1);
            assert_eq!(read_until(&mut a, 1), [1], "{program}");
            assert_eq!(read_until(&mut b, 1), [1], "{program}");
            send(&mut elsewhere, 2);
            assert_eq!(read_until(&mut elsewhere, 2), [2], "{program}");
            // What was in between would come before this.
            send(&mut b, 3);
            assert_eq!(read_until(&mut a, 3), [3], "{program}");
        }
    }
}

#[test]
fn the_newest_of_many_moves_arrives_and_a_client_that_leaves_disturbs_nobody() {
    for program in PEERS {
        let peer = Peer::start(program, "2");
        let (mut a, mut b) = (peer.join("/room/1"), peer.join("/room/1"));
        (1..=200).for_each(|byte| send(&mut a, byte));
        let seen = read_until(&mut b, 200);
        assert!(seen.is_sorted() && seen.len() < 200, "{program}: {seen:?}");
        drop(a);
        send(&mut b, 7);
        assert_eq!(read_until(&mut b, 7).last(), Some(&7), "{program}");
        let mut polite = peer.join("/room/1");
        polite.close(None).unwrap();
        send(&mut b, 8);
        assert_eq!(read_until(&mut b, 8).last(), Some(&8), "{program}");
    }
}
