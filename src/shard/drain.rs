//! Shutting down: accepting stops, clients are told, then closed in batches, and the rest is ended at the deadline.

use std::time::Duration;

use zerocopy::IntoBytes;

use super::{Output, Shard};
use crate::ids::ConnId;
use crate::impossible;
use crate::limits;
use crate::reasons::{CloseReason, RefusalReason};
use crate::session::{Dialect, Lifecycle};
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::json::object;
use crate::wire::native::{Notice, kind};
use crate::wire::phoenix::Event;
use crate::wire::upgrade::Refusal;

/// Batches are cut into steps of this length, so that clients do not come back in waves.
const STEP: Duration = Duration::from_millis(100);

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    next_step: Instant,
    /// Connections in slots below have been closed.
    slot: usize,
    /// Then whoever is left is ended without ceremony.
    deadline: Instant,
    /// That time has come.
    overdue: bool,
    ended: bool,
}

impl Drain {
    pub(super) fn next(&self) -> Instant {
        if self.ended { Instant::NEVER } else { self.next_step }
    }
}

impl Shard {
    /// The first order to shut down; further ones change nothing.
    pub(super) fn start_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.outputs.push_back(Output::StopAccepting);
        self.drain = Some(Drain {
            next_step: now.instant + limits::DRAIN_NOTICE,
            slot: 0,
            // The close frames of the last ones must still get out before the process ends.
            deadline: now.instant + limits::DRAIN_DEADLINE - 2 * limits::CLOSE_TIMEOUT,
            overdue: false,
            ended: false,
        });
        let notice = self.drain_notice();
        let [timeout, retry_after, jitter] =
            [limits::DRAIN_DEADLINE, limits::DRAIN_RETRY_AFTER, limits::DRAIN_JITTER]
                .map(|time| time.as_millis() as u64);
        let payload = object(|notice| {
            notice.number("timeout", timeout).number("retry_after", retry_after).number("jitter", jitter);
        });
        for conn in self.conns_in_slots(0, self.connections.slots()) {
            let lifecycle = self.connections.find(conn).map(|connection| &connection.session.lifecycle);
            match lifecycle {
                Some(Lifecycle::Open(Dialect::Native)) => self.push(conn, notice.clone()),
                Some(Lifecycle::Open(Dialect::Phoenix)) => {
                    self.push_on_all(conn, Event::ServerDraining, &payload);
                }
                Some(
                    Lifecycle::Open(Dialect::Echo)
                    | Lifecycle::Upgrading
                    | Lifecycle::HandingOver
                    | Lifecycle::Closing(_),
                )
                | None => {}
            }
        }
        self.end_drain_if_empty();
    }

    /// The next step, if it is due.
    pub(super) fn go_on_draining(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        if drain.next() > now.instant {
            return;
        }
        drain.next_step = now.instant + STEP;
        let overdue = drain.deadline <= now.instant;
        drain.overdue = overdue;
        let first = drain.slot;
        let per_step = u128::from(self.settings.drain_batch) * STEP.as_millis();
        let count = match overdue {
            true => self.connections.slots(),
            false => per_step.div_ceil(limits::DRAIN_BATCH_INTERVAL.as_millis()) as usize,
        };
        drain.slot = first + count;
        let conns = if overdue { self.conns_in_slots(0, count) } else { self.conns_in_slots(first, count) };
        for conn in conns {
            self.close_for_drain(conn, overdue, now);
        }
        self.end_drain_if_empty();
    }

    fn close_for_drain(&mut self, conn: ConnId, overdue: bool, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("closing one connection removes none");
        };
        match connection.session.lifecycle {
            Lifecycle::Open(_) => self.close(conn, CloseReason::Drain, now),
            Lifecycle::Upgrading => {
                let text = "this relay is shutting down; try again";
                self.refuse(conn, &Refusal::new(RefusalReason::Draining, text), now);
            }
            Lifecycle::Closing(_) | Lifecycle::HandingOver if overdue => self.end(conn),
            // A close under way has its own timeout; a hand-over comes back as refused, or is over soon.
            Lifecycle::Closing(_) | Lifecycle::HandingOver => {}
        }
    }

    fn end_drain_if_empty(&mut self) {
        // Connections of other shards may be in topics of this one until they are closed themselves.
        let is_needed = self.topics.have_members();
        let Some(drain) = &mut self.drain else { return };
        let is_needed = is_needed && !drain.overdue;
        if self.connections.len() == 0 && !is_needed && !drain.ended {
            drain.ended = true;
            self.outputs.push_back(Output::Drained);
        }
    }

    fn conns_in_slots(&self, first: usize, count: usize) -> Vec<ConnId> {
        self.connections.in_slots(first, count).map(|(conn, _)| conn).collect()
    }

    fn drain_notice(&self) -> Encoded {
        let notice = Notice {
            kind: kind::NOTICE,
            reason: Notice::DRAIN,
            reserved: 0.into(),
            timeout_ms: (limits::DRAIN_DEADLINE.as_millis() as u32).into(),
            retry_after_ms: (limits::DRAIN_RETRY_AFTER.as_millis() as u32).into(),
            jitter_ms: (limits::DRAIN_JITTER.as_millis() as u32).into(),
        };
        Encoded::message(Opcode::Binary, notice.as_bytes())
    }
}
