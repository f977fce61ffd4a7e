//! What a connection is due for when nothing comes from it: a ping, a close, the end of a pause.

use std::time::Duration;

use zerocopy::IntoBytes;

use super::{Output, Shard};
use crate::ids::ConnId;
use crate::impossible;
use crate::limits::CHECKS_PER_TURN;
use crate::planted;
use crate::reasons::{CloseReason, RefusalReason};
use crate::session::liveness::{Liveness, Patience, Silence, Step};
use crate::session::{Deadline, Dialect, Lifecycle, NEVER_EXPIRES};
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::json::object;
use crate::wire::native::{Notice, kind};
use crate::wire::phoenix::Event;
use crate::wire::upgrade::Refusal;

impl Shard {
    /// Looks at overdue connections, as many as one turn may; the rest stays due.
    pub(super) fn check_connections(&mut self, now: Now) {
        for _ in 0..CHECKS_PER_TURN {
            if !self.work.is_left() {
                return;
            }
            let Some((bucket, conn)) = self.deadlines.expire(now.instant) else { return };
            // It may have gone since it was put into its bucket.
            let Some(connection) = self.connections.find(conn) else { continue };
            if connection.check_bucket == bucket {
                connection.check_bucket = 0;
                self.check(conn, now);
                self.schedule_check(conn, now);
            }
        }
    }

    /// The wall clock was set, or went on while the monotonic one stood still: tokens end sooner than they were to, or later.
    pub(super) fn look_at_expiries(&mut self, now: Now) {
        let connections = self.connections.in_slots(0, self.connections.slots());
        let ending = connections.filter(|(_, connection)| connection.session.expires_at_s != NEVER_EXPIRES);
        let conns: Vec<ConnId> = ending.map(|(conn, _)| conn).collect();
        conns.into_iter().for_each(|conn| self.schedule_check(conn, now));
    }

    fn check(&mut self, conn: ConnId, now: Now) {
        let liveness = self.settings.liveness;
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let session = &mut connection.session;
        let patience = patience_with(&session.lifecycle, &liveness);
        if session.is_open() {
            if u64::from(session.expires_at_s) <= now.unix_s() {
                return self.close(conn, CloseReason::Expired, now);
            }
            if session.channels.as_ref().is_some_and(|channels| channels.join_by <= now.instant) {
                return self.close(conn, CloseReason::Unauthorized, now);
            }
        }
        let is_over = session.deadline().at() <= now.instant;
        match session.deadline() {
            Deadline::Upgrade(_) if is_over => {
                let text = "the request head did not end in time";
                self.refuse(conn, &Refusal::new(RefusalReason::Timeout, text), now);
            }
            Deadline::Close(_) if is_over && !planted!(NeverEndsClose) => self.end(conn),
            Deadline::Budget(_) if is_over => {
                session.set_deadline(Deadline::None);
                session.silence = Silence::broken(now.instant);
                if !planted!(NeverResumes) {
                    self.outputs.push_back(Output::Resume { conn });
                }
            }
            // A client that is not read from cannot be heard.
            Deadline::Upgrade(_) | Deadline::Close(_) | Deadline::Budget(_) => {}
            Deadline::None if session.is_open() => match session.silence.step(&patience, now.instant) {
                Step::Wait => {}
                Step::Ping => self.push(conn, self.ping.clone()),
                Step::Warn => self.warn_idle(conn, patience.close_after - patience.warn_after),
                Step::Close => self.close(conn, CloseReason::Idle, now),
            },
            Deadline::None => {}
        }
    }

    /// Makes sure that `check` is called when there is something to do for this connection.
    pub(super) fn schedule_check(&mut self, conn: ConnId, now: Now) {
        let liveness = self.settings.liveness;
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let session = &connection.session;
        let patience = patience_with(&session.lifecycle, &liveness);
        let next = if session.is_open() {
            let expires_in_us = (u64::from(session.expires_at_s) * 1_000_000).saturating_sub(now.unix_us);
            let expires_at = now.instant + Duration::from_micros(expires_in_us);
            let silence = match session.deadline() {
                Deadline::None => session.silence.next_step_at(&patience, now.instant),
                // Over its byte budget the client is silent by our doing.
                Deadline::Budget(at) | Deadline::Upgrade(at) | Deadline::Close(at) => at,
            };
            let join_by = session.channels.as_ref().map_or(Instant::NEVER, |channels| channels.join_by);
            silence.min(expires_at).min(join_by)
        } else {
            session.deadline().at()
        };
        if next != Instant::NEVER {
            // Never in the past: see `Deadlines`.
            self.deadlines.schedule(conn, &mut connection.check_bucket, next.max(now.instant));
        }
    }

    fn warn_idle(&mut self, conn: ConnId, timeout: Duration) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        if matches!(connection.session.lifecycle, Lifecycle::Open(Dialect::Phoenix)) {
            let payload = object(|warning| {
                warning.number("timeout", timeout.as_millis() as u64);
                warning.text("message", "nothing was heard of this client; it is closed when that goes on");
            });
            return self.push_on_all(conn, Event::DisconnectWarning, &payload);
        }
        let notice = Notice {
            kind: kind::NOTICE,
            reason: Notice::IDLE,
            reserved: 0.into(),
            timeout_ms: (timeout.as_millis() as u32).into(),
            retry_after_ms: 0.into(),
            jitter_ms: 0.into(),
        };
        self.push(conn, Encoded::message(Opcode::Binary, notice.as_bytes()));
    }
}

/// How long a client in this part of its life may be silent.
fn patience_with(lifecycle: &Lifecycle, liveness: &Liveness) -> Patience {
    match lifecycle {
        Lifecycle::Open(Dialect::Phoenix) => liveness.with_sockets(),
        Lifecycle::Open(Dialect::Native | Dialect::Echo)
        | Lifecycle::Upgrading
        | Lifecycle::HandingOver
        | Lifecycle::Closing(_) => liveness.with_players(),
    }
}
