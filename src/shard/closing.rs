//! The end of a connection: its close frame, its seat, and the wait for the peer.

use super::connections::SeatRef;
use super::{Output, Shard};
use crate::ids::ConnId;
use crate::impossible;
use crate::limits;
use crate::reasons::{CloseReason, LeaveReason};
use crate::room::game_seats::SeatFate;
use crate::room::request::Departure;
use crate::session::rate_limit::RateLimiter;
use crate::session::{Closing, Deadline, Lifecycle, PeerEnd};
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::frame::{self, Opcode};

/// What becomes of a seat whose connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is held: its player did not mean to go.
    Hold,
    /// It is freed.
    Leave(LeaveReason),
}

const fn fate_of_seat(reason: CloseReason) -> Fate {
    match reason {
        CloseReason::Idle
        | CloseReason::Expired
        | CloseReason::Drain
        | CloseReason::Slow
        | CloseReason::Overload
        | CloseReason::Failed
        | CloseReason::Lost => Fate::Hold,
        CloseReason::Bye => Fate::Leave(LeaveReason::Left),
        CloseReason::Replaced => Fate::Leave(LeaveReason::Replaced),
        CloseReason::Kicked
        | CloseReason::Protocol
        | CloseReason::Malformed
        | CloseReason::Utf8
        | CloseReason::TooBig
        | CloseReason::Unauthorized
        | CloseReason::Abuse => Fate::Leave(LeaveReason::Kicked),
    }
}

/// How members in channels leave the topics of a connection that ends: as `fate_of_seat` says, even where they hold no seat.
const fn departure(reason: CloseReason) -> Departure {
    match fate_of_seat(reason) {
        Fate::Hold => Departure::Lost,
        Fate::Leave(reason) => Departure::Left(reason),
    }
}

impl Shard {
    /// Ends an open connection from our side: whatever waits is sent first, unless the client is too slow to get it.
    pub(super) fn close(&mut self, conn: ConnId, reason: CloseReason, now: Now) {
        self.close_with(conn, reason, reason.code(), PeerEnd::Untold { paused: false }, now);
    }

    /// Answers the client's close with its own code (RFC 6455 section 5.5.1); an empty one with an empty one.
    pub(super) fn answer_close(&mut self, conn: ConnId, code: Option<u16>, now: Now) {
        self.close_with(conn, CloseReason::Bye, code.unwrap_or(0), PeerEnd::Done, now);
    }

    fn close_with(&mut self, conn: ConnId, reason: CloseReason, code: u16, peer: PeerEnd, now: Now) {
        // The connection may have gone while the order to close it was on its way.
        let Some(connection) = self.connections.find(conn) else { return };
        if !connection.session.is_open() {
            return;
        }
        self.work.spend(limits::WORK_OF_CLOSE);
        let seat = connection.seat.take();
        let channels = connection.session.channels.take();
        let rates = std::mem::take(&mut connection.session.rates);
        if peer == PeerEnd::Done {
            // Nothing is waited for but our own last frame: then nothing has to be ended before the descriptor is closed.
            self.outputs.push_back(Output::Pause { conn });
        } else if matches!(connection.session.deadline(), Deadline::Budget(_)) {
            // Its byte budget has stopped the reading; but the peer's end must be seen.
            self.outputs.push_back(Output::Resume { conn });
        }
        if reason == CloseReason::Slow {
            self.drop_waiting(conn);
        }
        self.metrics.closes[reason.index()].increment();
        let mut payload = Vec::new();
        if code != 0 {
            frame::write_close(&mut payload, code, reason.label());
        }
        self.push_exempt(conn, Encoded::message(Opcode::Close, &payload));
        self.set_lifecycle(conn, Lifecycle::Closing(Closing::begin(Some(reason), peer)));
        self.start_close_timeout(conn, now);
        if let Some(seat) = seat {
            self.vacate(seat, rates, reason, now);
        }
        self.leave_all(conn, channels, departure(reason), now);
    }

    /// The peer sends nothing more.
    pub(super) fn peer_is_done(&mut self, conn: ConnId, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        let idle = connection.session.is_idle();
        match &mut connection.session.lifecycle {
            Lifecycle::Upgrading | Lifecycle::HandingOver => self.end(conn),
            Lifecycle::Open(_) => self.lose(conn, now),
            Lifecycle::Closing(closing) => {
                closing.peer = PeerEnd::Done;
                if idle {
                    self.end(conn);
                }
            }
        }
    }

    /// Whatever a client says after its close, or ours, is not heard. But it is read, within a bound: a socket that is closed with
    /// bytes in it resets the connection, and the last frame may be lost with it. The bound may not end the connection before that
    /// frame is sent: the client would not know why.
    pub(super) fn discard(&mut self, conn: ConnId, bytes: usize) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let Lifecycle::Closing(closing) = &mut connection.session.lifecycle else { return };
        if bytes == 0 {
            return;
        }
        if closing.peer == PeerEnd::Done {
            // More may follow what it has said behind its close.
            closing.peer = PeerEnd::Untold { paused: true };
        }
        let kib = u16::try_from(bytes.div_ceil(1024)).unwrap_or(u16::MAX);
        closing.discarded_kib = closing.discarded_kib.saturating_add(kib);
        if closing.discarded_kib <= limits::CLOSING_KIB_MAX {
            return;
        }
        match &mut closing.peer {
            PeerEnd::Told => self.end(conn),
            PeerEnd::Untold { paused } if !*paused => {
                *paused = true;
                self.outputs.push_back(Output::Pause { conn });
            }
            PeerEnd::Untold { .. } | PeerEnd::Done => {}
        }
    }

    /// The client went without a close frame.
    fn lose(&mut self, conn: ConnId, now: Now) {
        self.work.spend(limits::WORK_OF_CLOSE);
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let seat = connection.seat.take();
        let channels = connection.session.channels.take();
        let rates = std::mem::take(&mut connection.session.rates);
        self.metrics.closes[CloseReason::Lost.index()].increment();
        self.drop_waiting(conn);
        let closing = Closing::begin(Some(CloseReason::Lost), PeerEnd::Done);
        self.set_lifecycle(conn, Lifecycle::Closing(closing));
        if let Some(seat) = seat {
            self.vacate(seat, rates, CloseReason::Lost, now);
        }
        self.leave_all(conn, channels, Departure::Lost, now);
        self.end(conn);
    }

    /// The last frame is with the kernel: a connection that closes waits for the peer's end, if that is still to come.
    pub(super) fn everything_sent(&mut self, conn: ConnId, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        let Lifecycle::Closing(closing) = &mut connection.session.lifecycle else { return };
        match closing.peer {
            PeerEnd::Done => self.end(conn),
            PeerEnd::Untold { paused } => {
                closing.peer = PeerEnd::Told;
                closing.discarded_kib = 0;
                self.outputs.push_back(Output::Shutdown { conn });
                if paused {
                    self.outputs.push_back(Output::Resume { conn });
                }
                self.start_close_timeout(conn, now);
            }
            PeerEnd::Told => {}
        }
    }

    /// A close that takes too long is finished without the peer.
    pub(super) fn start_close_timeout(&mut self, conn: ConnId, now: Now) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        connection.session.set_deadline(Deadline::Close(now.instant + limits::CLOSE_TIMEOUT));
        self.schedule_check(conn, now);
    }

    /// Tells the rim to end the connection; it answers with `handle_closed`.
    pub(super) fn end(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("whoever is worked on is here");
        };
        connection.session.set_deadline(Deadline::None);
        let reason = match &connection.session.lifecycle {
            Lifecycle::Closing(closing) => closing.reason,
            Lifecycle::Upgrading | Lifecycle::HandingOver | Lifecycle::Open(_) => None,
        };
        self.outputs.push_back(Output::Close { conn, reason });
    }

    /// Nothing that is sent arrives. A connection that closes waits for no send any more; one that is open still has messages to
    /// be read, and ends behind them.
    pub(super) fn stop_sending(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        // `end` has cleared the deadline of one that the rim has been told to close.
        if matches!(connection.session.deadline(), Deadline::Close(_)) {
            self.end(conn);
        }
    }

    /// The rim holds nothing of the connection any more.
    pub(super) fn forget(&mut self, conn: ConnId, now: Now) {
        self.drop_waiting(conn);
        self.heads.remove(&conn);
        let Some(connection) = self.connections.remove(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        self.metrics.outbox_bytes.subtract(u64::from(connection.session.outbox.reliable_bytes()));
        match connection.session.lifecycle {
            Lifecycle::Upgrading | Lifecycle::HandingOver => {
                self.metrics.connections_upgrading.subtract(1);
            }
            Lifecycle::Open(_) => {
                impossible!("the rim keeps connections until they are closed");
                self.open -= 1;
                self.settings.connections_open.decrement();
                self.metrics.connections_open.subtract(1);
                self.metrics.closes[CloseReason::Lost.index()].increment();
            }
            Lifecycle::Closing(_) => self.metrics.connections_closing.subtract(1),
        }
        if let Some(seat) = connection.seat {
            let rates = connection.session.rates;
            self.vacate(seat, rates, CloseReason::Lost, now);
        }
        self.leave_all(conn, connection.session.channels, Departure::Lost, now);
    }

    /// Drops what waits to be sent and is not in flight.
    fn drop_waiting(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.find(conn) else {
            return impossible!("the rim tells of connections that are here");
        };
        let outbox = &mut connection.session.outbox;
        let before = outbox.reliable_bytes();
        outbox.clear();
        self.metrics.outbox_bytes.subtract(u64::from(before - outbox.reliable_bytes()));
    }

    /// Holds or frees the seat of a connection that ends. `rates`: the rate limits that its player comes back to.
    fn vacate(&mut self, seat: SeatRef, rates: RateLimiter, reason: CloseReason, now: Now) {
        let SeatRef { game: index, seat, .. } = seat;
        let fate = self.decide_in_game(index, now, |game, context| match fate_of_seat(reason) {
            Fate::Hold => game.lose_player(seat, context),
            Fate::Leave(reason) => {
                game.vacate(seat, reason, context);
                SeatFate::Freed
            }
        });
        if fate == Some(SeatFate::Held) {
            self.held_rates.insert((index, seat), rates);
        }
    }
}
