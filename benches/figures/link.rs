//! Connections without a library between them and the kernel: many of them, looked at in turn by one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connection: the bytes that the kernel has not taken from it yet, and how many it has read.
pub struct Link {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// Bytes received.
    pub received: u64,
    /// The relay has ended the connection.
    pub ended: bool,
}

impl Link {
    /// Connects and asks for `target`.
    pub fn request(relay: SocketAddr, target: &str) -> Self {
        let mut stream = TcpStream::connect(relay).unwrap();
        stream.set_nodelay(true).unwrap();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: {relay}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, unsent: Vec::new(), received: 0, ended: false }
    }

    /// Bytes that go out as the kernel takes them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.write();
    }

    fn write(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Hands on the bytes that have come.
    fn read(&mut self, buffer: &mut [u8], take: &mut impl FnMut(&[u8])) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.received += count as u64;
                    take(&buffer[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.ended = true,
            }
            return;
        }
    }
}

/// Waits up to a millisecond for the links' sockets, then reads and writes what can be. `take` gets the number of a link and bytes.
pub fn turn(links: &mut [Link], mut take: impl FnMut(usize, &[u8])) {
    let interest = |link: &Link| match link.unsent.is_empty() {
        true => PollFlags::IN,
        false => PollFlags::IN | PollFlags::OUT,
    };
    let live: Vec<usize> = (0..links.len()).filter(|index| !links[*index].ended).collect();
    let ready: Vec<PollFlags> = {
        let mut fds: Vec<PollFd<'_>> =
            live.iter().map(|index| PollFd::new(&links[*index].stream, interest(&links[*index]))).collect();
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        poll(&mut fds, Some(&millisecond)).unwrap();
        fds.iter().map(PollFd::revents).collect()
    };
    let mut buffer = [0; 64 * 1024];
    for (index, ready) in live.into_iter().zip(ready).filter(|(_, ready)| !ready.is_empty()) {
        if ready.contains(PollFlags::OUT) {
            links[index].write();
        }
        links[index].read(&mut buffer, &mut |bytes| take(index, bytes));
    }
}

/// A client's frame, masked with zeros.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "one byte of length");
    [&[first_byte, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A Move to a place that depends on `number`.
pub fn move_frame(number: u32) -> Vec<u8> {
    let (x, y) = ((number % 100) as f32, (number / 100 % 100) as f32);
    frame(0x82, &[&[1, 0, 0, 0][..], &x.to_be_bytes(), &y.to_be_bytes()].concat())
}
