//! Removing a user: an operator's question, which every shard answers when it is done.

use std::sync::Arc;

use super::Shard;
use super::inquiries::SLOTS_AT_ONCE;
use super::peer::Answer;
use super::topics::TopicIndex;
use crate::ids::ConnId;
use crate::limits::LOOKS_PER_WORK;
use crate::reasons::{CloseReason, LeaveReason};
use crate::room::request::{Effect, ToMember};
use crate::room::seats::{Occupancy, SeatIndex};
use crate::session::Session;
use crate::time::Now;

/// A walk over all connections, then over all seats of all games: kicks are rare, and an index of users would cost every player
/// memory.
#[derive(Debug)]
pub(super) struct Kick {
    user: Arc<str>,
    disconnected: u32,
    /// The first slot of connections that is still to come.
    connection: usize,
    /// The first slot of topics that is still to come.
    topic: usize,
    /// In the topic there, the first slot of seats that is still to come.
    seat: usize,
}

impl Kick {
    /// A walk that has looked at nothing yet.
    pub(super) fn of(user: Arc<str>) -> Self {
        Self { user, disconnected: 0, connection: 0, topic: 0, seat: 0 }
    }
}

impl Shard {
    /// Closes connections of the user on this shard and frees its held seats, as far as the work goes. `Some`: all of them are. The
    /// user may come back, as long as it has a token.
    pub(super) fn go_on_kicking(&mut self, kick: &mut Kick, now: Now) -> Option<Answer> {
        while kick.connection < self.connections.slots() {
            if !self.work.is_left() {
                return None;
            }
            self.kick_sockets(kick, now);
        }
        while kick.topic < self.topics.slots() {
            if !self.work.is_left() {
                return None;
            }
            self.kick_players(kick, now);
        }
        Some(Answer::Kicked { disconnected: kick.disconnected })
    }

    /// Closes connections of the user that speak Phoenix Channels, in the next slots.
    fn kick_sockets(&mut self, kick: &mut Kick, now: Now) {
        let is_of_user = |session: &Session| {
            session.is_open() && session.channels.as_ref().is_some_and(|channels| channels.are_of(&kick.user))
        };
        let looked_at = self.connections.in_slots(kick.connection, SLOTS_AT_ONCE);
        let of_user = looked_at.filter(|(_, connection)| is_of_user(&connection.session));
        let conns: Vec<ConnId> = of_user.map(|(conn, _)| conn).collect();
        kick.connection += SLOTS_AT_ONCE;
        kick.disconnected += conns.len() as u32;
        self.work.spend(SLOTS_AT_ONCE / LOOKS_PER_WORK);
        conns.iter().for_each(|conn| self.close(*conn, CloseReason::Kicked, now));
    }

    /// Takes the user's seats away, among the next ones of a game.
    fn kick_players(&mut self, kick: &mut Kick, now: Now) {
        self.work.spend(1);
        let Some((index, game)) = self.topics.game_in_slot(kick.topic) else {
            (kick.topic, kick.seat) = (kick.topic + 1, 0);
            return;
        };
        let seats = game.seats().taken_in(kick.seat, SLOTS_AT_ONCE);
        let of_user = seats.filter(|(_, seat)| seat.user() == &*kick.user);
        let found: Vec<(SeatIndex, Occupancy)> = of_user.map(|(seat, of)| (seat, of.occupancy)).collect();
        kick.seat += SLOTS_AT_ONCE;
        if kick.seat >= game.seats().slots() {
            (kick.topic, kick.seat) = (kick.topic + 1, 0);
        }
        self.work.spend(SLOTS_AT_ONCE / LOOKS_PER_WORK);
        for (seat, occupancy) in found {
            kick.disconnected += self.kick_from_seat(index, seat, occupancy, now);
        }
    }

    /// Returns how many native connections it closed.
    fn kick_from_seat(&mut self, game: TopicIndex, seat: SeatIndex, occupancy: Occupancy, now: Now) -> u32 {
        if let Occupancy::Connected(conn) = occupancy {
            self.close(conn, CloseReason::Kicked, now);
            return 1;
        }
        // Its seat is free at once: a client that goes before it is told must not find it held. The notice comes before what the
        // others are told, which must not reach it.
        self.decide_in_game(game, now, |game, context| {
            if let Occupancy::Channel(to) = occupancy {
                context.effects.push(Effect::Member { to, what: ToMember::Kicked });
            }
            game.vacate(seat, LeaveReason::Kicked, context);
        });
        0
    }
}
