//! The last turn of a shard that has panicked. What its core knows may be wrong, so it is not called again; but its clients need not
//! guess what has happened.

use std::collections::VecDeque;
use std::time::Duration;

use super::Loop;
use super::driver::{Completion, Driver, Received};
use super::sockets::{Flag, State};
use crate::ids::ConnId;
use crate::limits::{GOODBYE_TIME_MAX, SENDS_PER_TURN};
use crate::reasons::CloseReason;
use crate::shard::Frames;
use crate::time::Instant;
use crate::wire::encoded::Encoded;
use crate::wire::frame::{self, Opcode};

impl<D: Driver> Loop<D> {
    /// Sends every open WebSocket a close frame, in the order of their slots, each behind what is being sent to it. When the time is
    /// over, whoever has not been sent it or has not taken it goes without.
    pub(super) fn say_goodbye(&mut self) -> Result<(), D::Error> {
        let end = self.clock.instant() + GOODBYE_TIME_MAX;
        let mut payload = Vec::new();
        frame::write_close(&mut payload, CloseReason::Failed.code(), CloseReason::Failed.label());
        let close = Encoded::message(Opcode::Close, &payload);
        let mut conns: VecDeque<ConnId> = self.sockets.range(0..self.sockets.len()).collect();
        let mut sends = conns.iter().filter(|conn| self.is_sending(**conn)).count();
        loop {
            let batch = conns.len().min(SENDS_PER_TURN);
            for conn in conns.drain(..batch) {
                if self.clock.instant() >= end {
                    break;
                }
                sends += usize::from(!self.is_sending(conn) && self.send_last(conn, &close));
            }
            let left = end.since(self.clock.instant());
            if conns.is_empty() && sends == 0 {
                return Ok(());
            }
            // Behind the end it still submits what was begun.
            self.driver.wait(if conns.is_empty() { left } else { Duration::ZERO })?;
            if left == Duration::ZERO {
                return Ok(());
            }
            self.take_last_completions(&close, &mut sends, end);
        }
    }

    /// `sends`: how many are in flight.
    fn take_last_completions(&mut self, close: &Encoded, sends: &mut usize, end: Instant) {
        while self.clock.instant() < end {
            match self.driver.next_completion() {
                None => break,
                Some(Completion::Sent { conn, failed, .. }) => {
                    if let Some(socket) = self.sockets.find(conn) {
                        socket.send = None;
                    }
                    *sends -= 1;
                    *sends += usize::from(failed.is_none() && self.send_last(conn, close));
                }
                Some(Completion::Received { what: Received::Bytes(lent), .. }) => self.driver.release(lent),
                Some(
                    Completion::Received { .. }
                    | Completion::Polled { .. }
                    | Completion::ShutDown { .. }
                    | Completion::Closed { .. }
                    | Completion::HandedOver { .. }
                    | Completion::Arrived { .. }
                    | Completion::Accepted { .. }
                    | Completion::Discarded,
                ) => {}
            }
        }
    }

    fn is_sending(&mut self, conn: ConnId) -> bool {
        self.sockets.find(conn).is_some_and(|socket| socket.send.is_some())
    }

    /// Returns false if the connection is no open WebSocket, or has had its last frame.
    fn send_last(&mut self, conn: ConnId, close: &Encoded) -> bool {
        let Some(socket) = self.sockets.find(conn) else { return false };
        let has = |flag| socket.flags.has(flag);
        if socket.state != State::Open || !has(Flag::Upgraded) || has(Flag::Broken) {
            return false;
        }
        // Nothing may follow this frame.
        socket.state = State::Closing;
        let Some(frames) = self.transports.give_out_last(conn, Frames::One(close.clone())) else {
            return false;
        };
        socket.send = Some(self.driver.send(conn, socket.descriptor, frames));
        true
    }
}
