//! Which input of a client its next frame has in it, for clients that ask to be told (PROTOCOL 3, Ack).

use std::collections::BTreeMap;

use super::game::Game;
use super::seats::{Occupancy, SeatIndex};
use crate::memory::Allocated;
use crate::time::Instant;
use crate::wire::encoded::Encoded;
use crate::wire::json::object;
use crate::wire::native::{self, answers};

/// The seats whose clients want to be told, and what they are to be told next.
#[derive(Debug, Default)]
pub struct PendingAcks(BTreeMap<SeatIndex, Option<Used>>);

/// An input that was used.
#[derive(Clone, Copy, Debug)]
enum Used {
    /// Since the last tick.
    Now {
        input_seq: u16,
        /// When it came; `None`: the host has used it.
        came: Option<Instant>,
    },
    /// By a tick whose frame the client could not take.
    Untold(Ack),
}

/// What a client is told of the last of its inputs that a tick has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Ack {
    pub input_seq: u16,
    pub tick: u32,
    /// How long before the tick the input had come, in units of 0.1 ms, or `native::Ack::BY_HOST`.
    pub slack: u16,
}

impl Ack {
    /// The record.
    pub fn record(&self) -> Encoded {
        answers::ack((self.input_seq, self.slack), self.tick)
    }

    /// The payload of `ack`.
    pub fn payload(&self) -> String {
        object(|payload| {
            payload.number("input_seq", self.input_seq).number("tick", self.tick);
            if self.slack != native::Ack::BY_HOST {
                payload.float("slack_ms", f32::from(self.slack) / 10.0);
            }
        })
    }
}

impl PendingAcks {
    /// Whether nobody wants to be told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An input of `seat` was used, which came at that time, or by the host.
    pub fn used(&mut self, seat: SeatIndex, input_seq: u16, came: Option<Instant>) {
        if let Some(pending) = self.0.get_mut(&seat) {
            *pending = Some(Used::Now { input_seq, came });
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

    /// Whom the tick `tick`, which was due at `due`, has to tell what.
    pub fn due_acks(&mut self, tick: u32, due: Instant) -> Vec<(SeatIndex, Occupancy, Ack)> {
        let mut acks = Vec::new();
        for (seat, pending) in &mut self.acks.0 {
            let Some(used) = pending else { continue };
            let ack = used.by_tick(tick, due);
            *used = Used::Untold(ack);
            acks.extend(self.seats.seat(*seat).map(|taken| (*seat, taken.occupancy, ack)));
        }
        acks
    }

    /// The client of a seat is being told.
    pub fn ack_told(&mut self, seat: SeatIndex) {
        if let Some(pending) = self.acks.0.get_mut(&seat) {
            *pending = None;
        }
    }
}

impl Used {
    fn by_tick(self, tick: u32, due: Instant) -> Ack {
        match self {
            Self::Untold(ack) => ack,
            Self::Now { input_seq, came } => {
                let slack = came.map_or(native::Ack::BY_HOST, |came| {
                    let slack = due.since(came).as_micros() / 100;
                    u16::try_from(slack).unwrap_or(u16::MAX).min(native::Ack::BY_HOST - 1)
                });
                Ack { input_seq, tick, slack }
            }
        }
    }
}
