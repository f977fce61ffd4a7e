//! Shutting down: accepting stops, clients are told, then closed in batches, and the rest is ended at the deadline. Each of these
//! is a walk over connections, in one turn as far as its work goes. Those that are in a chat room are closed first: the store is
//! given away by then, so only the next relay can serve them.

use std::ops::Range;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::{Output, Shard};
use crate::ids::{ConnId, Topic};
use crate::impossible;
use crate::limits;
use crate::planted;
use crate::reasons::{CloseReason, RefusalReason};
use crate::session::channels::Channel;
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

/// Slots that a walk passes before it looks how much work is left.
const SLOTS_AT_ONCE: usize = 64;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// `go_on_draining` was called.
    has_begun: bool,
    /// Connections that are to be told.
    to_tell: Range<usize>,
    /// Connections that are still to be looked at in this walk …
    to_close: Range<usize>,
    /// … which closes so many more in this step, …
    closes_left: usize,
    /// … and only those that are in a chat room.
    rooms_only: bool,
    /// When the next step begins.
    next_step: Instant,
    /// From then on all connections are closed in one step, and closes and handovers under way are ended.
    deadline: Instant,
    /// The deadline has passed.
    overdue: bool,
    ended: bool,
}

impl Drain {
    pub(super) fn next(&self) -> Instant {
        match (self.ended, self.to_tell.is_empty() && !self.is_closing()) {
            (true, _) => Instant::NEVER,
            (false, true) if self.has_begun => self.next_step,
            (false, _) => Instant::default(),
        }
    }

    /// Whether this step has still to close something.
    fn is_closing(&self) -> bool {
        self.closes_left > 0 && !self.to_close.is_empty()
    }
}

impl Shard {
    /// The first order to shut down; further ones change nothing. The walk begins when what has come by then
    /// is read: a connection may be on its way here.
    pub(super) fn start_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.outputs.push_back(Output::StopAccepting);
        self.drain = Some(Drain {
            has_begun: false,
            to_tell: 0..self.connections.slots(),
            to_close: 0..self.connections.slots(),
            closes_left: 0,
            rooms_only: true,
            next_step: now.instant + limits::DRAIN_NOTICE,
            // The close frames of the last ones must still get out before the process ends.
            deadline: now.instant + limits::DRAIN_DEADLINE - 2 * limits::CLOSE_TIMEOUT,
            overdue: false,
            ended: false,
        });
    }

    /// Goes on with telling and closing.
    pub(super) fn go_on_draining(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        drain.has_begun = true;
        self.tell_of_drain();
        self.begin_step(now);
        while self.drain.as_ref().is_some_and(Drain::is_closing)
            && let Some(conns) = self.next_of_walk(|drain| (&mut drain.to_close, drain.closes_left))
        {
            self.close_some_for_drain(conns, now);
            self.walk_again();
        }
        self.end_drain_if_empty();
    }

    fn close_some_for_drain(&mut self, conns: Vec<ConnId>, now: Now) {
        for conn in conns {
            let Some(Drain { overdue, rooms_only, .. }) = self.drain else { return };
            if rooms_only && !self.is_in_room(conn) {
                continue;
            }
            let is_closed = self.close_for_drain(conn, overdue, now);
            if let Some(drain) = &mut self.drain {
                drain.closes_left = drain.closes_left.saturating_sub(is_closed.into());
            }
        }
    }

    fn is_in_room(&mut self, conn: ConnId) -> bool {
        let is_room = |channel: &Channel| matches!(*channel.topic, Topic::Room(_) | Topic::Document(_));
        self.channels(conn).is_some_and(|channels| channels.all().iter().any(is_room))
    }

    /// Behind those in rooms come all the others, in the same step.
    fn walk_again(&mut self) {
        let slots = self.connections.slots();
        if let Some(drain) = &mut self.drain
            && drain.rooms_only
            && drain.to_close.is_empty()
        {
            (drain.rooms_only, drain.to_close) = (false, 0..slots);
        }
    }

    fn tell_of_drain(&mut self) {
        if self.drain.as_ref().is_none_or(|drain| drain.to_tell.is_empty()) {
            return;
        }
        let notice = drain_notice();
        let [timeout, retry_after, jitter] =
            [limits::DRAIN_DEADLINE, limits::DRAIN_RETRY_AFTER, limits::DRAIN_JITTER]
                .map(|time| time.as_millis() as u64);
        let payload = object(|notice| {
            notice.number("timeout", timeout).number("retry_after", retry_after).number("jitter", jitter);
        });
        while let Some(conns) = self.next_of_walk(|drain| (&mut drain.to_tell, SLOTS_AT_ONCE)) {
            for conn in conns {
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
        }
    }

    /// The next step, when everybody is told and it is due.
    fn begin_step(&mut self, now: Now) {
        let slots = self.connections.slots();
        let Some(drain) = &mut self.drain else { return };
        if drain.next() > now.instant || !drain.to_tell.is_empty() || drain.is_closing() {
            return;
        }
        drain.next_step = now.instant + STEP;
        drain.overdue = drain.deadline <= now.instant;
        let per_step = u128::from(self.settings.drain_batch_of_shard()) * STEP.as_millis();
        drain.closes_left = per_step.div_ceil(limits::DRAIN_BATCH_INTERVAL.as_millis()) as usize;
        if drain.overdue {
            (drain.rooms_only, drain.to_close, drain.closes_left) = (false, 0..slots, usize::MAX);
        } else {
            // Connections that came by handover since.
            drain.to_close.end = slots;
        }
    }

    /// The next connections of a walk, if there are any and there is work left to do.
    fn next_of_walk(
        &mut self,
        walk: impl Fn(&mut Drain) -> (&mut Range<usize>, usize),
    ) -> Option<Vec<ConnId>> {
        let (walk, slots_max) = walk(self.drain.as_mut()?);
        if Range::is_empty(walk) || !self.work.is_left() {
            return None;
        }
        let first = walk.start;
        walk.start = walk.end.min(first + SLOTS_AT_ONCE.min(slots_max));
        let slots = walk.start - first;
        self.work.spend(slots);
        Some(self.connections.in_slots(first, slots).map(|(conn, _)| conn).collect())
    }

    /// False: there was nothing to close.
    fn close_for_drain(&mut self, conn: ConnId, overdue: bool, now: Now) -> bool {
        let Some(connection) = self.connections.find(conn) else {
            impossible!("closing one connection removes none");
            return false;
        };
        match connection.session.lifecycle {
            Lifecycle::Open(_) => self.close(conn, CloseReason::Drain, now),
            Lifecycle::Upgrading => {
                let text = "this relay is shutting down; try again";
                self.refuse(conn, &Refusal::new(RefusalReason::Draining, text), now);
            }
            Lifecycle::Closing(_) | Lifecycle::HandingOver if overdue => self.end(conn),
            // A close under way has its own timeout; a handover comes back as refused, or is over soon.
            Lifecycle::Closing(_) | Lifecycle::HandingOver => return false,
        }
        true
    }

    fn end_drain_if_empty(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        if self.connections.len() > 0 && !planted!(DrainsTooEarly) || drain.ended {
            return;
        }
        // Connections of other shards may be in topics of this one until they are closed themselves.
        if drain.overdue || !self.topics.have_members() {
            drain.ended = true;
            self.outputs.push_back(Output::Drained);
        }
    }
}

fn drain_notice() -> Encoded {
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
