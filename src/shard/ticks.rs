//! The tick of a game: at most one Delta and one Keyframe are encoded, whatever the number of members.

use super::Shard;
use super::connections::SeatRef;
use super::games::GameIndex;
use crate::ids::ConnId;
use crate::reasons::LeaveReason;
use crate::room::seats::Occupancy;
use crate::session::outbox::Wanted;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;

impl Shard {
    /// Ticks every game whose tick is due.
    pub(super) fn run_ticks(&mut self, now: Now) {
        while let Some((game, due)) = self.games.due_tick(now.instant) {
            self.metrics.tick_lateness.record(now.instant.since(due));
            self.tell_roster(game);
            self.tell_state(game, now);
            self.tell_state_to_channels(game, now);
            if let Some(game) = self.games.game(game) {
                game.settle();
            }
        }
    }

    /// Who came and went, to everybody who does not know yet: one shared record, and a shorter one for each of those that
    /// joined during this tick.
    fn tell_roster(&mut self, index: GameIndex) {
        let Some(game) = self.games.game(index) else { return };
        let changes = game.roster_changes();
        if changes.is_empty() {
            return;
        }
        let for_everybody = changes.encode(0, game.seats(), &mut self.pool);
        let mut told: Vec<(ConnId, Encoded)> = Vec::new();
        for (seat, conn) in game.seats().connected() {
            let record = match changes.known_to(seat) {
                0 => for_everybody.clone(),
                known => changes.encode(known, game.seats(), &mut self.pool),
            };
            told.extend(record.map(|record| (conn, record)));
        }
        for (conn, record) in told {
            self.push(conn, record);
        }
    }

    /// The state, to everybody whose socket is free: the Delta to those that were sent the frame before, the Keyframe to
    /// the others. Who is skipped makes the next tick happen, even if nothing changes.
    fn tell_state(&mut self, index: GameIndex, now: Now) {
        let Some(game) = self.games.game(index) else { return };
        let tick = game.clock().number_at(now.instant);
        let changed = game.state_changed();
        let metrics = &self.metrics;
        let mut delta: Option<Encoded> = None;
        let mut keyframe: Option<Encoded> = None;
        let mut anybody_stale = false;
        for (_, conn) in game.seats().connected() {
            let Some(connection) = self.connections.find(conn) else { continue };
            let outbox = &mut connection.session.outbox;
            if !changed && !outbox.is_stale() {
                continue;
            }
            let frame = match outbox.wanted() {
                Wanted::Delta => {
                    metrics.deltas.increment();
                    delta.get_or_insert_with(|| {
                        metrics.frames_encoded.increment();
                        game.encode_delta(tick, &mut self.pool)
                    })
                }
                Wanted::Keyframe => {
                    metrics.keyframes.increment();
                    keyframe.get_or_insert_with(|| {
                        metrics.frames_encoded.increment();
                        game.encode_keyframe(tick, &mut self.pool)
                    })
                }
                Wanted::Nothing => {
                    metrics.frames_skipped.increment();
                    anybody_stale = true;
                    continue;
                }
            };
            if outbox.put_state(frame.clone()) {
                metrics.frames_skipped.increment();
            }
            if outbox.enlist() {
                self.ready.push_back(conn);
            }
        }
        if anybody_stale {
            self.games.changed(index, now.instant);
        }
    }

    /// Frees seats that were held in vain.
    pub(super) fn give_up_seats(&mut self, now: Now) {
        while let Some(held) = self.games.due_seat(now.instant) {
            let Some(game) = self.games.game(held.game) else { continue };
            let Some(seat) = game.seats().seat(held.seat) else { continue };
            let over = |until: Instant| until <= now.instant;
            let in_vain = matches!(seat.occupancy, Occupancy::HeldUntil(until) if over(until));
            if seat.player == held.player && in_vain {
                self.metrics.seats_held.subtract(1);
                self.held_rates.remove(&(held.game, held.seat));
                let seat =
                    SeatRef { game: held.game, seat: held.seat, host: false, resume_unconfirmed: false };
                self.free_seat(seat, LeaveReason::TimedOut, now);
            }
        }
    }
}
