//! The last turn of a shard that has panicked. What its core knows may be wrong, so it is not called again; but its clients need not
//! guess what has happened.

use std::time::Duration;

use super::Loop;
use super::driver::{Completion, Driver, Received};
use super::sockets::{Flag, State};
use crate::ids::ConnId;
use crate::limits::GOODBYE_TIME_MAX;
use crate::reasons::CloseReason;
use crate::shard::Frames;
use crate::wire::encoded::Encoded;
use crate::wire::frame::{self, Opcode};

impl<D: Driver> Loop<D> {
    /// Sends every open WebSocket a close frame, behind what is being sent to it. Whoever does not take it in time goes without.
    pub(super) fn say_goodbye(&mut self) -> Result<(), D::Error> {
        let mut payload = Vec::new();
        frame::write_close(&mut payload, CloseReason::Failed.code(), CloseReason::Failed.label());
        let close = Encoded::message(Opcode::Close, &payload);
        let conns: Vec<ConnId> = self.sockets.range(0..self.sockets.len()).collect();
        let mut sends = 0;
        for conn in conns {
            sends += usize::from(self.is_sending(conn) || self.send_last(conn, &close));
        }
        let end = self.clock.instant() + GOODBYE_TIME_MAX;
        loop {
            let left = end.since(self.clock.instant());
            if sends == 0 || left == Duration::ZERO {
                return Ok(());
            }
            self.driver.wait(left)?;
            while let Some(completion) = self.driver.next_completion() {
                match completion {
                    Completion::Sent { conn, failed, .. } => {
                        if let Some(socket) = self.sockets.find(conn) {
                            socket.send = None;
                        }
                        sends -= usize::from(failed.is_some() || !self.send_last(conn, &close));
                    }
                    Completion::Received { what: Received::Bytes(lent), .. } => self.driver.release(lent),
                    Completion::Received { .. }
                    | Completion::Polled { .. }
                    | Completion::ShutDown { .. }
                    | Completion::Closed { .. }
                    | Completion::HandedOver { .. }
                    | Completion::Arrived { .. }
                    | Completion::Accepted { .. }
                    | Completion::Discarded => {}
                }
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
        let Some(frames) = self.transports.give_out(conn, Frames::One(close.clone())) else { return false };
        socket.send = Some(self.driver.send(conn, socket.descriptor, frames));
        true
    }
}
