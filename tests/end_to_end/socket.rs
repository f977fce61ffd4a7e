//! A bare TCP connection to the relay, for what a well-behaved client would not do.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::records::{Frame, Record, Welcome, request, take_frame, take_response};
use crate::relay::{PATIENCE, Relay};

/// See the module documentation.
pub struct RawClient {
    pub stream: TcpStream,
    inbox: Vec<u8>,
}

/// Connects, with a receive buffer of so many bytes (the kernel doubles it) instead of the usual one.
pub fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Ends a connection as a killed process with unread bytes does: with a reset.
pub fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

impl RawClient {
    pub fn connect(relay: &Relay) -> Self {
        Self { stream: connect(relay.listen, None), inbox: Vec::new() }
    }

    /// A connection that has asked for `target`.
    pub fn request(relay: &Relay, target: &str) -> Self {
        let mut client = Self::connect(relay);
        client.send(request(target).as_bytes());
        client
    }

    /// A player whose Welcome, Roster and Keyframe are read.
    pub fn join(relay: &Relay, target: &str) -> Self {
        let mut client = Self::request(relay, target);
        client.upgraded();
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The answer to a request: its status and text. A refusal is followed by the end of the connection.
    #[track_caller]
    pub fn answer(&mut self) -> (u16, String) {
        let ends_with_head = |inbox: &[u8]| inbox.windows(4).any(|four| four == b"\r\n\r\n");
        while !ends_with_head(&self.inbox) {
            assert!(self.read(), "the end instead of an answer");
        }
        if !self.inbox.starts_with(b"HTTP/1.1 101 ") {
            while self.read() {}
        }
        take_response(&mut self.inbox)
    }

    /// The refusal: its status and text.
    #[track_caller]
    pub fn refused(&mut self) -> (u16, String) {
        let (status, text) = self.answer();
        assert_ne!(status, 101, "{text}");
        (status, text)
    }

    /// Reads 101, Welcome, Roster and Keyframe, in this order, and returns the Welcome.
    #[track_caller]
    pub fn upgraded(&mut self) -> Welcome {
        let (status, head) = self.answer();
        assert_eq!(status, 101, "{head}");
        let Some(Frame::Record(Record::Welcome(welcome))) = self.next() else { panic!("no Welcome") };
        let Some(Frame::Record(Record::Roster { .. })) = self.next() else { panic!("no Roster") };
        let Some(Frame::Record(Record::Keyframe { .. })) = self.next() else { panic!("no Keyframe") };
        welcome
    }

    /// The next frame; `None`: the relay has ended the connection.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.inbox) {
                return Some(frame);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Waits for a frame.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut fits: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            let Some(frame) = self.next() else { panic!("the end instead of {what}") };
            if fits(&frame) {
                return frame;
            }
        }
    }

    /// Reads to the end of the connection; returns the close frame, which must be the last one.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let close = self.until("a close frame", |frame| matches!(frame, Frame::Close(_)));
        assert_eq!(self.next(), None, "nothing follows a close frame");
        let Frame::Close(Some(close)) = close else { panic!("a close frame without a code") };
        close
    }

    /// Reads what comes; `false`: the relay has ended the connection.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.inbox.extend(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.inbox)),
        }
    }
}

/// Whether a condition comes true in time.
pub fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
