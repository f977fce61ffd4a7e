//! Which input of a client its next frame has in it, for clients that ask to be told (PROTOCOL 3, Ack).

use std::collections::BTreeMap;

use super::game::Game;
use super::request::ToMember;
use super::seats::{Occupancy, SeatIndex};
use crate::ids::Address;
use crate::memory::Allocated;
use crate::time::Instant;
use crate::wire::format::Format;
use crate::wire::json::object;
use crate::wire::native::{Ack, answers};
use crate::wire::phoenix::Event;

/// The seats whose clients want to be told, and what they are to be told next.
#[derive(Debug, Default)]
pub struct PendingAcks(BTreeMap<SeatIndex, Option<Used>>);

/// An input that was used.
#[derive(Clone, Copy, Debug)]
struct Used {
    input_seq: u16,
    /// When it came; `None`: the host has used it.
    came: Option<Instant>,
}

impl PendingAcks {
    /// Whether nobody wants to be told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An input of `seat` was used, which came at that time, or by the host.
    pub fn used(&mut self, seat: SeatIndex, input_seq: u16, came: Option<Instant>) {
        if let Some(pending) = self.0.get_mut(&seat) {
            *pending = Some(Used { input_seq, came });
        }
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }
}

impl Game {
    /// Whether the client of a seat wants to be told which of its inputs were used.
    pub fn want_acks(&mut self, seat: SeatIndex, wanted: bool) {
        if wanted {
            self.acks.0.insert(seat, None);
        } else {
            self.acks.0.remove(&seat);
        }
    }

    /// Whether the client of a seat is to be told at the next tick.
    pub fn has_ack(&self, seat: SeatIndex) -> bool {
        self.acks.0.get(&seat).is_some_and(Option::is_some)
    }

    /// Whom to tell.
    pub fn wanted_acks(&self) -> Vec<(SeatIndex, Occupancy)> {
        let pending = self.acks.0.iter().filter(|(_, used)| used.is_some());
        pending.filter_map(|(seat, _)| Some((*seat, self.seats.seat(*seat)?.occupancy))).collect()
    }

    /// How a member is told in its channel.
    pub fn ack_of_channel(&self, to: Address, ack: (u16, u16), tick: u32) -> Option<ToMember> {
        let (input_seq, slack) = ack;
        match self.member(to)?.format {
            Format::Native => Some(ToMember::Record(answers::ack(ack, tick))),
            Format::V2 | Format::V2Text | Format::V1 => {
                let payload = object(|payload| {
                    payload.number("input_seq", input_seq).number("tick", tick);
                    if slack != Ack::BY_HOST {
                        payload.float("slack_ms", f32::from(slack) / 10.0);
                    }
                });
                Some(ToMember::Push { event: Event::Ack, payload: payload.into(), greeting: false })
            }
        }
    }

    /// What the client of a seat is told by the tick that was due at `due`: the input, and how long before the tick it came, in
    /// units of 0.1 ms.
    pub fn take_ack(&mut self, seat: SeatIndex, due: Instant) -> Option<(u16, u16)> {
        let Used { input_seq, came } = self.acks.0.get_mut(&seat)?.take()?;
        let slack = came.map_or(Ack::BY_HOST, |came| {
            let slack = due.since(came).as_micros() / 100;
            u16::try_from(slack).unwrap_or(u16::MAX).min(Ack::BY_HOST - 1)
        });
        Some((input_seq, slack))
    }
}
