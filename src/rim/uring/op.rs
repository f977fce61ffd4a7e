//! What a completion belongs to, in the 64 bits that the kernel carries from a submission to its completions.
//!
//! ```text
//! 63        56 55                              24 23                    0
//! ┌───────────┬──────────────────────────────────┬───────────────────────┐
//! │ operation │            generation            │         slot          │
//! └───────────┴──────────────────────────────────┴───────────────────────┘
//! ```

use std::num::NonZeroU32;

use crate::ids::{ConnId, ShardId};
use crate::limits::CONNECTIONS_PER_SHARD_MAX;
use crate::mailbox::Ticket;
use crate::rim::driver::SendId;

const SLOT_BITS: u32 = 24;
const GENERATION_SHIFT: u32 = SLOT_BITS;
const OPERATION_SHIFT: u32 = SLOT_BITS + u32::BITS;

const _: () = assert!(CONNECTIONS_PER_SHARD_MAX == 1 << SLOT_BITS);

/// What was submitted, or which message another ring has posted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    /// An accept; slot: which one.
    Accept,
    /// A receive of a connection, single or multishot.
    Receive,
    /// The poll of a parked connection.
    Poll,
    /// A send; slot: which one.
    Send,
    /// A `shutdown` of a connection, of either kind.
    Shutdown,
    /// The close of a connection's descriptor.
    Close,
    /// The close of a descriptor that belongs to no connection; slot: the descriptor.
    Discard,
    /// A cancellation. It answers "found", not "done": nobody acts on it.
    Cancel,
    /// A connection's descriptor goes to another ring.
    HandOver,
    /// Posted by another ring: a descriptor has come; slot and generation are the ticket.
    HandedOver,
    /// The ringing of another ring's doorbell; slot: the shard.
    Ring,
    /// Posted by another ring: look into the mailbox.
    Doorbell,
    /// The read of the eventfd by which the service thread wakes the ring.
    Wake,
}

impl Operation {
    const ALL: [Self; 13] = [
        Self::Accept,
        Self::Receive,
        Self::Poll,
        Self::Send,
        Self::Shutdown,
        Self::Close,
        Self::Discard,
        Self::Cancel,
        Self::HandOver,
        Self::HandedOver,
        Self::Ring,
        Self::Doorbell,
        Self::Wake,
    ];

    /// Whether its completion comes from another ring, not from a submission to this one.
    pub(super) fn is_posted(self) -> bool {
        matches!(self, Self::HandedOver | Self::Doorbell)
    }
}

/// The three fields of a `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) operation: Operation,
    pub(super) generation: u32,
    pub(super) slot: u32,
}

impl Token {
    /// For an operation on a connection.
    pub(super) fn of(operation: Operation, conn: ConnId) -> Self {
        Self { operation, generation: conn.generation, slot: conn.slot }
    }

    /// For an operation that belongs to no connection.
    pub(super) fn numbered(operation: Operation, slot: u32) -> Self {
        Self { operation, generation: 0, slot }
    }

    /// For a send.
    pub(super) fn send(id: SendId) -> Self {
        Self::numbered(Operation::Send, id.0.get() - 1)
    }

    /// Which send a `Send` is of.
    pub(super) fn send_id(self) -> SendId {
        SendId(NonZeroU32::MIN.saturating_add(self.slot))
    }

    /// For the message that tells a ring about a descriptor.
    pub(super) fn handed_over(ticket: Ticket) -> Self {
        Self { operation: Operation::HandedOver, generation: ticket.number, slot: u32::from(ticket.source.0) }
    }

    pub(super) fn conn(self) -> ConnId {
        ConnId { slot: self.slot, generation: self.generation }
    }

    /// The ticket of a `HandedOver`.
    pub(super) fn ticket(self) -> Ticket {
        Ticket { source: ShardId(self.slot as u16), number: self.generation }
    }

    pub(super) fn encode(self) -> u64 {
        debug_assert!(self.slot < CONNECTIONS_PER_SHARD_MAX, "slot {} has more than 24 bits", self.slot);
        (self.operation as u64) << OPERATION_SHIFT
            | u64::from(self.generation) << GENERATION_SHIFT
            | u64::from(self.slot)
    }

    /// `None`: no submission of ours carried this number.
    pub(super) fn decode(user_data: u64) -> Option<Self> {
        let operation = *Operation::ALL.get((user_data >> OPERATION_SHIFT) as usize)?;
        let generation = (user_data >> GENERATION_SHIFT) as u32;
        let slot = user_data as u32 & (CONNECTIONS_PER_SHARD_MAX - 1);
        Some(Self { operation, generation, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_at_its_limits() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index, "ALL is in the order of the discriminants");
            for generation in [0, 1, u32::MAX] {
                for slot in [0, 1, CONNECTIONS_PER_SHARD_MAX - 1] {
                    let token = Token { operation, generation, slot };
                    assert_eq!(Token::decode(token.encode()), Some(token));
                }
            }
        }
    }

    #[test]
    fn a_number_of_nobody_is_refused() {
        assert_eq!(Token::decode(u64::MAX), None);
        assert_eq!(Token::decode((Operation::ALL.len() as u64) << 56), None);
    }

    #[test]
    fn a_ticket_travels_in_the_fields_of_a_connection() {
        let ticket = Ticket { source: ShardId(u16::MAX), number: u32::MAX - 1 };
        assert_eq!(Token::decode(Token::handed_over(ticket).encode()).unwrap().ticket(), ticket);
    }
}
