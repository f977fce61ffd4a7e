//! What shards want done, carried out.

use std::collections::VecDeque;

use corelay::ids::ConnId;
use corelay::shard::Output;

use super::letters::Letter;
use super::{Completion, Relay};
use crate::faults::Branch;
use crate::socket::{SocketId, State};
use crate::trace::summary;

impl Relay {
    /// As many sends as a turn may, and all else: the core gives its sends last, so none of that is left when bytes come next.
    pub(super) fn perform_outputs(&mut self, number: usize) {
        let mut sends = 0;
        while sends < self.shape.sends_per_turn {
            let Some(output) = self.loops[number].shard.poll_output() else {
                self.loops[number].has_outputs = false;
                return;
            };
            sends += usize::from(matches!(output, Output::Send { .. }));
            self.trace.note("output", || format!("{number} {}", summary(&output)));
            self.perform(number, output);
        }
    }

    fn perform(&mut self, number: usize, output: Output) {
        let by_conn = |relay: &Self, conn: ConnId| relay.loops[number].by_conn.get(&conn).copied();
        match output {
            Output::Send { conn, frames } => {
                if let Some(id) = by_conn(self, conn) {
                    self.send(id, &frames);
                }
            }
            Output::Shutdown { conn } => {
                let Some(id) = by_conn(self, conn) else { return };
                let socket = self.socket(id);
                if socket.state == State::Open {
                    match &socket.sending {
                        Some(_) => socket.shuts_down_after_send = true,
                        None => socket.end_down(),
                    }
                }
            }
            Output::Close { conn, .. } => self.close(number, conn),
            Output::HandOver { conn, target, state } => {
                self.hand_over(number, conn, usize::from(target.0), state);
            }
            Output::Forward { target, message } => self.forward(number, target, message),
            Output::Pause { conn } => {
                self.counts.branch(Branch::Paused);
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).paused = true;
                }
            }
            Output::Resume { conn } => {
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).paused = false;
                    self.receive(id);
                }
            }
            Output::Upgraded { conn } => {
                if let Some(id) = by_conn(self, conn) {
                    self.socket(id).upgraded = true;
                }
            }
            Output::Note(_) => {}
            Output::StopAccepting => self.loops[number].accepts = false,
            Output::Drained => {
                self.counts.branch(Branch::Drained);
                let open = &self.loops[number].by_conn;
                assert!(open.is_empty(), "shard {number} has drained, and {open:?} are there");
                self.end_loop(number);
            }
        }
    }

    fn close(&mut self, number: usize, conn: ConnId) {
        let Some(id) = self.loops[number].by_conn.get(&conn).copied() else { return };
        let socket = self.socket(id);
        if socket.conn != Some(conn) || socket.shard != number {
            // It is at another shard already.
            return;
        }
        match socket.state {
            State::Open => {
                socket.state = State::Closing;
                socket.sending = None;
                socket.end_down();
                self.complete(number, Completion::Closed(id, conn));
            }
            State::HandingOver => socket.state = State::GivenUp,
            State::Dialled | State::GivenUp | State::Closing | State::Closed => {}
        }
    }

    /// A shard's ring and its mailbox go, and what was on the way to it.
    pub(super) fn end_loop(&mut self, number: usize) {
        let own = &mut self.loops[number];
        own.is_gone = true;
        own.accepts = false;
        own.has_outputs = false;
        // Letters that have come tell of descriptors, which are lost if they come, too: the kernel may have refused them.
        own.announced.clear();
        own.inboxes.iter_mut().for_each(VecDeque::clear);
        let mut lost: Vec<SocketId> = std::mem::take(&mut own.arrived).into_iter().collect();
        for letter in own.overflow.iter_mut().flat_map(std::mem::take) {
            if let Letter::Connection(id, _) = letter {
                lost.push(id);
            }
        }
        for completion in std::mem::take(&mut own.completions) {
            if let Completion::Accepted(id) | Completion::Arrived(id) | Completion::Stayed { id, .. } =
                completion
            {
                lost.push(id);
            }
        }
        for id in std::mem::take(&mut own.by_conn).into_values() {
            // What has left already is another shard's.
            if self.socket(id).state != State::HandingOver && self.socket(id).shard == number {
                lost.push(id);
            }
        }
        lost.into_iter().for_each(|id| self.let_go(id));
        self.service.inboxes[number].push_back(Letter::Ended);
    }
}
