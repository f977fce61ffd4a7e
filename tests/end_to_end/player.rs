//! A player as a game has it: a WebSocket of tungstenite, and the view that its frames add up to.

use std::io::ErrorKind;
use std::time::Instant;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::records::{Record, View, Welcome, ping};
use crate::relay::{PATIENCE, Relay};
use crate::socket;
use crate::stream::Stream;

/// See the module documentation.
pub struct Player {
    pub socket: WebSocket<Stream>,
    pub welcome: Welcome,
    pub view: View,
    /// The last event seen.
    pub seq: u64,
    nonce: u32,
}

/// What a player reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    Record(Record),
    Closed(u16, String),
    /// The connection is over.
    Ended,
}

impl Player {
    pub fn join(relay: &Relay, target: &str) -> Self {
        Self::join_with(relay, target, None)
    }

    /// A player whose kernel takes few bytes that it does not read.
    #[track_caller]
    pub fn join_with(relay: &Relay, target: &str, receive_buffer: Option<usize>) -> Self {
        let stream = socket::connect(relay.listen, receive_buffer);
        Self::join_by(Stream::Plain(stream), &format!("ws://{}{target}", relay.listen))
    }

    /// A player on a connection that is there.
    #[track_caller]
    pub fn join_by(stream: Stream, url: &str) -> Self {
        // Small reads: what the test has not asked for stays with the kernel.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut player = Self {
            socket,
            welcome: Welcome {
                flags: 0,
                tick_hz: 0,
                player_id: 0,
                epoch: 0,
                seq: 0,
                tick: 0,
                server_time_us: 0,
                resume_token: String::new(),
                bounds: [0.0; 4],
                max_speed: 0.0,
            },
            view: View::default(),
            seq: 0,
            nonce: 0,
        };
        let Read::Record(Record::Welcome(welcome)) = player.read() else { panic!("no Welcome") };
        player.seq = welcome.seq;
        player.welcome = welcome;
        let Read::Record(Record::Roster { flags: 1, .. }) = player.read() else { panic!("no Roster") };
        let Read::Record(Record::Keyframe { .. }) = player.read() else { panic!("no Keyframe") };
        player
    }

    /// Where a client asks for its seat again.
    pub fn resume_target(&self, game: &str) -> String {
        format!("/play/{game}?resume={}&seq={}", self.welcome.resume_token, self.seq)
    }

    pub fn id(&self) -> u32 {
        self.welcome.player_id
    }

    #[track_caller]
    pub fn send(&mut self, record: Vec<u8>) {
        self.socket.send(Message::Binary(record.into())).unwrap();
    }

    /// The next record, or the end; the view follows.
    #[track_caller]
    pub fn read(&mut self) -> Read {
        self.read_one().unwrap_or_else(|| panic!("player {}: nothing comes", self.id()))
    }

    /// What has come already; `None`: nothing more.
    #[track_caller]
    pub fn read_if_any(&mut self) -> Option<Read> {
        self.socket.get_ref().tcp().set_nonblocking(true).unwrap();
        let read = self.read_one();
        self.socket.get_ref().tcp().set_nonblocking(false).unwrap();
        read
    }

    #[track_caller]
    fn read_one(&mut self) -> Option<Read> {
        let started = Instant::now();
        // Pings come for ever.
        while started.elapsed() < PATIENCE {
            match self.socket.read() {
                Ok(Message::Binary(payload)) => {
                    let record = Record::parse(&payload);
                    self.view.apply(&record);
                    return Some(Read::Record(record));
                }
                Ok(Message::Close(Some(close))) => {
                    return Some(Read::Closed(close.code.into(), close.reason.as_str().to_owned()));
                }
                // tungstenite answers pings by itself.
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("player {} got {other:?}", self.id()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {
                    return Some(Read::Ended);
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {
                    return Some(Read::Ended);
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("player {}: {error}", self.id()),
            }
        }
        None
    }

    /// Waits for a record. Those before it are dropped; the view has them.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut find: impl FnMut(&Self, &Record) -> Option<T>) -> T {
        loop {
            match self.read() {
                Read::Record(record) => {
                    if let Some(found) = find(self, &record) {
                        return found;
                    }
                }
                end => panic!("player {} got {end:?} instead of {what}", self.id()),
            }
        }
    }

    /// Waits until the view is as it should be.
    #[track_caller]
    pub fn until_view(&mut self, what: &str, fits: impl Fn(&View) -> bool) {
        if !fits(&self.view) {
            self.until(what, |player, _| fits(&player.view).then_some(()));
        }
    }

    /// Waits until the position of `player` is known to be this.
    #[track_caller]
    pub fn until_at(&mut self, player: u32, position: (f32, f32)) {
        let what = format!("player {player} at {position:?}");
        self.until_view(&what, |view| view.positions.get(&player) == Some(&position));
    }

    /// The next event: its seq and payload.
    #[track_caller]
    pub fn next_event(&mut self) -> (u64, Vec<u8>) {
        let event = |_: &Self, record: &Record| match record {
            Record::Event { seq, payload, .. } => Some((*seq, payload.clone())),
            _ => None,
        };
        let (seq, payload) = self.until("an event", event);
        assert!(seq > self.seq, "event {seq} after event {}", self.seq);
        self.seq = seq;
        (seq, payload)
    }

    /// Waits for the answer to a Ping: everything the relay has sent before it is read then.
    #[track_caller]
    pub fn catch_up(&mut self) {
        self.nonce += 1;
        let asked = self.nonce;
        self.send(ping(asked, 0));
        self.until("a Pong", |_, record| match record {
            Record::Pong { nonce, .. } if *nonce == asked => Some(()),
            _ => None,
        });
    }

    /// Reads to the close frame.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.read() {
                Read::Record(_) => {}
                Read::Closed(code, reason) => return (code, reason),
                Read::Ended => panic!("player {}: the end without a close frame", self.id()),
            }
        }
    }

    /// Leaves the game: the seat is free then.
    pub fn leave(mut self) {
        let reason = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(reason)).unwrap();
        while self.read() != Read::Ended {}
    }

    /// Ends the connection as a killed process does.
    pub fn reset(self) {
        socket::reset(self.socket.get_ref().tcp());
    }
}
