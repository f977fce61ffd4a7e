//! A client without a socket: a buffer of bytes, and how the world treats it.

#[path = "../support/phoenix.rs"]
mod phoenix;
#[path = "../support/records.rs"]
mod records;

use corelay::ids::ConnId;
use corelay::reasons::CloseReason;

pub use phoenix::*;
pub use records::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// What a client got, and how its socket behaves.
pub struct Client {
    pub shard: usize,
    pub conn: ConnId,
    /// Bytes from the relay that are not read yet.
    pub inbox: Vec<u8>,
    pub reading: bool,
    /// What the kernel has not taken yet, because the client does not read.
    pub in_flight: Option<Vec<u8>>,
    pub half_closed: bool,
    pub paused: bool,
    pub handed_over: bool,
    pub upgraded_by_shard: bool,
    /// The rim was told to end the connection, with this reason.
    pub ended: Option<Option<CloseReason>>,
}

impl Client {
    pub fn new(shard: usize, conn: ConnId) -> Self {
        Self {
            shard,
            conn,
            inbox: Vec::new(),
            reading: true,
            in_flight: None,
            half_closed: false,
            paused: false,
            handed_over: false,
            upgraded_by_shard: false,
            ended: None,
        }
    }

    /// Reads an HTTP response off the inbox: its status, and head and body as text.
    pub fn response(&mut self) -> (u16, String) {
        take_response(&mut self.inbox)
    }

    /// Reads 101, Welcome, Roster and Keyframe, in this order, and returns the Welcome.
    pub fn upgraded(&mut self) -> Welcome {
        let (status, head) = self.response();
        assert_eq!(status, 101, "{head}");
        let Some(Frame::Record(Record::Welcome(welcome))) = self.next() else { panic!("no Welcome") };
        loop {
            let Some(Frame::Record(Record::Roster { flags, .. } | Record::Crowd { flags, .. })) = self.next()
            else {
                panic!("no Roster")
            };
            if flags & 2 == 0 {
                break;
            }
        }
        let Some(Frame::Record(Record::Keyframe { .. })) = self.next() else { panic!("no Keyframe") };
        welcome
    }

    /// The next frame, if a whole one is there.
    pub fn next(&mut self) -> Option<Frame> {
        take_frame(&mut self.inbox)
    }

    /// Every frame that is there.
    pub fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Every record that is there; other frames are not expected.
    pub fn records(&mut self) -> Vec<Record> {
        let record = |frame| match frame {
            Frame::Record(record) => record,
            other => panic!("not a record: {other:?}"),
        };
        self.frames().into_iter().map(record).collect()
    }

    /// Every Phoenix message that is there, in order; other frames are not expected.
    pub fn messages(&mut self) -> Vec<Message> {
        let message = |frame| match frame {
            Frame::Text(text) => Message::parse(&text),
            Frame::Binary(bytes) => Message::Update(GameUpdate::parse(&bytes)),
            other => panic!("not a Phoenix message: {other:?}"),
        };
        self.frames().into_iter().map(message).collect()
    }

    /// Every text that is there, as it came; other frames are not expected.
    pub fn texts(&mut self) -> Vec<String> {
        let text = |frame| match frame {
            Frame::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        };
        self.frames().into_iter().map(text).collect()
    }

    /// The close frame, which must be the last one.
    pub fn close_frame(&mut self) -> Option<(u16, String)> {
        match self.frames().pop() {
            Some(Frame::Close(close)) => close,
            other => panic!("no close frame, but {other:?}"),
        }
    }
}
