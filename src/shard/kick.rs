//! Removing a user: an operator's order, carried out on every shard.

use super::Shard;
use super::topics::TopicIndex;
use crate::ids::ConnId;
use crate::reasons::{CloseReason, LeaveReason};
use crate::room::request::ToMember;
use crate::room::seats::{Occupancy, SeatIndex};
use crate::session::Session;
use crate::time::Now;

/// A seat of the user.
type Found = (TopicIndex, SeatIndex, Occupancy);

impl Shard {
    /// Closes every connection of `user` on this shard, frees its held seats, and returns how many connections it closed. It may
    /// come back, as long as it has a token.
    pub(super) fn kick(&mut self, user: &str, now: Now) -> u32 {
        self.kick_sockets(user, now) + self.kick_players(user, now)
    }

    /// Those that speak Phoenix Channels.
    fn kick_sockets(&mut self, user: &str, now: Now) -> u32 {
        let slots = self.connections.slots();
        let is_of_user = |session: &Session| {
            session.is_open() && session.channels.as_ref().is_some_and(|channels| channels.are_of(user))
        };
        let of_user =
            self.connections.in_slots(0, slots).filter(|(_, connection)| is_of_user(&connection.session));
        let conns: Vec<ConnId> = of_user.map(|(conn, _)| conn).collect();
        conns.iter().for_each(|conn| self.close(*conn, CloseReason::Kicked, now));
        conns.len() as u32
    }

    /// Those that play in the native dialect.
    fn kick_players(&mut self, user: &str, now: Now) -> u32 {
        let mut disconnected = 0;
        for (game, seat, occupancy) in self.seats_of(user) {
            match occupancy {
                Occupancy::Connected(conn) => {
                    self.close(conn, CloseReason::Kicked, now);
                    disconnected += 1;
                }
                // Its connection may be known under another name: a guest that resumed another guest's seat.
                Occupancy::Channel(to) => {
                    // It may have ended with a seat before.
                    let Some(topic) = self.topics.name(game).cloned() else { continue };
                    self.tell_member(&topic, to, ToMember::Kicked, now);
                }
                Occupancy::HeldUntil(_) => {
                    self.decide_in_game(game, now, |game, context| {
                        game.vacate(seat, LeaveReason::Kicked, context);
                    });
                }
            }
        }
        disconnected
    }

    /// In all games. It looks at every seat of the shard: kicks are rare, and an index of users would cost every player memory.
    fn seats_of(&self, user: &str) -> Vec<Found> {
        let seats = self.topics.all_games().flat_map(|(index, game)| {
            let taken = game.seats().taken().filter(|(_, seat)| seat.user() == user);
            taken.map(move |(seat_index, seat)| (index, seat_index, seat.occupancy))
        });
        seats.collect()
    }
}
