//! Bytes between a socket and its shard, in both directions.

use std::collections::BTreeMap;

use corelay::shard::Frames;

use super::{Completion, Relay};
use crate::faults::Fault;
use crate::socket::{SocketId, State};

/// State frames of one topic in one send: the one of its place, and behind a join in V1, which does not say which is which, the
/// whole that answers it. More: state has become a queue.
const STATE_FRAMES_PER_SEND_MAX: usize = 2;

impl Relay {
    /// Lets a receive complete, if one would.
    pub(super) fn receive(&mut self, id: SocketId) {
        let socket = self.socket(id);
        if socket.is_readable() {
            socket.receives = true;
            let shard = socket.shard;
            self.complete_at_times(shard, Completion::Received(id), Fault::LateBytes, 40);
        }
    }

    pub(super) fn received(&mut self, number: usize, id: SocketId) {
        let cut = self.random.chance(self.plan.of(Fault::CutSegment));
        let waiting = self.socket(id).up.len().min(4096);
        let count = if cut && waiting > 1 { 1 + self.random.below(waiting - 1) } else { waiting };
        if count < waiting {
            self.counts.fault(Fault::CutSegment);
        }
        let socket = self.socket(id);
        socket.receives = false;
        // Bytes that have come before a pause takes effect are still given to the core.
        let Some(conn) = socket.conn.filter(|_| socket.state == State::Open && !socket.end_told) else {
            return;
        };
        let mut bytes: Vec<u8> = socket.up.drain(..count).collect();
        let ends = socket.up.is_empty() && socket.up_ended;
        let shard = &mut self.loops[number].shard;
        if !bytes.is_empty() {
            shard.handle_received(conn, &mut bytes, self.now);
        }
        if ends {
            self.sockets[id.0 as usize].end_told = true;
            shard.handle_eof(conn, self.now);
        }
    }

    /// Moves what a socket has to send, and answers a send that the kernel has taken.
    pub(super) fn flow(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let shard = socket.shard;
        if socket.flow() {
            self.complete_at_times(shard, Completion::Sent(id), Fault::LateSent, 1500);
        }
    }

    pub(super) fn send(&mut self, id: SocketId, frames: &Frames) {
        let frames = frames.as_slice();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes()).copied().collect();
        self.trace.bytes(&bytes);
        let updates = frames.iter().filter_map(|frame| topic_of_state(frame.bytes()));
        let mut by_topic: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        updates.for_each(|topic| *by_topic.entry(topic.to_vec()).or_default() += 1);
        let most = by_topic.values().max().copied().unwrap_or(0);
        assert!(most <= STATE_FRAMES_PER_SEND_MAX, "{most} state frames of one topic wait for {id:?}");
        let socket = self.socket(id);
        if socket.state != State::Open || socket.broken {
            return;
        }
        socket.send(bytes);
        if socket.is_reset {
            let shard = socket.shard;
            self.complete(shard, Completion::SendFailed(id));
        } else {
            self.flow(id);
        }
    }

    /// A send failed, perhaps in the middle of a frame: the core hears of an end of stream, if it has not yet.
    pub(super) fn break_off(&mut self, number: usize, id: SocketId) {
        let socket = self.socket(id);
        let Some(conn) = socket.conn.filter(|_| socket.state == State::Open) else { return };
        socket.sending = None;
        socket.broken = true;
        if socket.end_told {
            self.loops[number].shard.handle_send_failed(conn, self.now);
        } else {
            socket.end_told = true;
            self.loops[number].shard.handle_eof(conn, self.now);
        }
    }
}

/// The topic of a frame that is the state of a game for every member; `None`: it is something else.
fn topic_of_state(frame: &[u8]) -> Option<&[u8]> {
    let header = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = frame.get(header..)?;
    match frame[0] {
        0x82 if payload.first() == Some(&2) => payload.get(3..3 + usize::from(*payload.get(1)?)),
        0x81 if payload.starts_with(br#"{"event":"game_update""#) => {
            let start = payload.windows(9).rposition(|bytes| bytes == br#""topic":""#)?;
            Some(&payload[start..])
        }
        _ => None,
    }
}
