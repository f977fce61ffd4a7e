//! Connections that wait on a multishot poll instead of an armed receive, which takes 600 bytes more of kernel memory.
//!
//! The poll tells of an edge: that bytes came, not that some are left. So every edge is followed by receives until the
//! socket is empty, and an edge that comes while one is in flight by another one. The poll holds the socket open: the end
//! of a connection is reported when the poll has ended too. Sans I/O.

use std::collections::HashMap;
use std::io;

use rustix::io::Errno;

use super::completion::ReceiveEnd;

/// What is in flight on one connection.
#[derive(Clone, Copy, Default)]
struct Parked {
    polling: bool,
    /// A cancel of the poll is on the way.
    cancelling: bool,
    receiving: bool,
    /// An edge came while a receive was in flight.
    again: bool,
}

/// What is to be submitted, and the end that is to be reported.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Step {
    pub(super) poll: bool,
    pub(super) receive: bool,
    pub(super) cancel: bool,
    pub(super) end: Option<ReceiveEnd>,
}

/// What a receive brought.
pub(super) enum Taken {
    /// Bytes; `more`: there may be others behind them.
    Bytes {
        more: bool,
    },
    Failed(io::Error),
    Eof,
}

/// All connections of a ring that may be parked.
pub(super) struct ParkedSlots {
    slots: Box<[Parked]>,
    /// Ends that are reported when nothing is in flight any more.
    ends: HashMap<u32, ReceiveEnd>,
    /// Receives that found no buffer; to be tried again when buffers are back.
    starved: Vec<u32>,
}

impl ParkedSlots {
    pub(super) fn new(connections: u32) -> Self {
        Self {
            slots: vec![Parked::default(); connections as usize].into(),
            ends: HashMap::new(),
            starved: Vec::new(),
        }
    }

    pub(super) fn connections(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether the poll of a connection is armed.
    pub(super) fn is_polling(&self, slot: u32) -> bool {
        self.slots[slot as usize].polling
    }

    /// Parks a connection on which nothing is armed.
    pub(super) fn park(&mut self, slot: u32) -> Step {
        let parked = &mut self.slots[slot as usize];
        debug_assert!(!parked.polling && !parked.receiving, "it is parked already");
        *parked = Parked { polling: true, ..Parked::default() };
        Step { poll: true, ..Step::default() }
    }

    /// The poll of a connection has completed. `armed`: it goes on.
    pub(super) fn handle_edge(&mut self, slot: u32, outcome: io::Result<i32>, armed: bool) -> Step {
        let parked = &mut self.slots[slot as usize];
        parked.polling = armed;
        if self.ends.contains_key(&slot) {
            return self.end_if_quiet(slot);
        }
        match outcome {
            Ok(_) => {
                parked.polling = true;
                parked.again = parked.receiving;
                let receive = !parked.receiving;
                parked.receiving = true;
                // A poll ends by itself when the completion queue was full.
                Step { poll: !armed, receive, ..Step::default() }
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => {
                self.end(slot, ReceiveEnd::Stopped)
            }
            Err(error) => self.end(slot, ReceiveEnd::Failed(error)),
        }
    }

    pub(super) fn handle_taken(&mut self, slot: u32, taken: Taken) -> Step {
        let parked = &mut self.slots[slot as usize];
        parked.receiving = false;
        let again = std::mem::take(&mut parked.again);
        let receive = match taken {
            Taken::Bytes { more } => more || again || self.ends.contains_key(&slot),
            Taken::Eof => return self.end(slot, ReceiveEnd::Eof),
            Taken::Failed(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => again,
                Some(Errno::NOBUFS) => {
                    parked.receiving = true;
                    self.starved.push(slot);
                    return Step::default();
                }
                _ => return self.end(slot, ReceiveEnd::Failed(error)),
            },
        };
        parked.receiving = receive;
        if receive { Step { receive, ..Step::default() } } else { self.end_if_quiet(slot) }
    }

    /// A connection whose receive found no buffer, if buffers are back.
    pub(super) fn take_starved(&mut self) -> Option<u32> {
        self.starved.pop()
    }

    fn end(&mut self, slot: u32, end: ReceiveEnd) -> Step {
        self.ends.entry(slot).or_insert(end);
        let parked = &mut self.slots[slot as usize];
        if parked.polling && !parked.cancelling {
            parked.cancelling = true;
            return Step { cancel: true, ..Step::default() };
        }
        self.end_if_quiet(slot)
    }

    fn end_if_quiet(&mut self, slot: u32) -> Step {
        let parked = self.slots[slot as usize];
        if parked.polling || parked.receiving {
            return Step::default();
        }
        Step { end: self.ends.remove(&slot), ..Step::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: Errno) -> Taken {
        Taken::Failed(errno.into())
    }

    /// poll, receive, cancel, whether an end is reported.
    fn parts(step: &Step) -> (bool, bool, bool, bool) {
        (step.poll, step.receive, step.cancel, step.end.is_some())
    }

    const REST: (bool, bool, bool, bool) = (false, false, false, false);
    const RECEIVE: (bool, bool, bool, bool) = (false, true, false, false);

    fn parked() -> ParkedSlots {
        let mut slots = ParkedSlots::new(1);
        assert_eq!(parts(&slots.park(0)), (true, false, false, false));
        slots
    }

    #[test]
    fn an_edge_is_followed_by_receives_until_the_socket_is_empty() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, Taken::Bytes { more: true })), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, Taken::Bytes { more: false })), REST);
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, failed(Errno::AGAIN))), REST);
    }

    #[test]
    fn an_edge_during_a_receive_is_not_lost() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), REST, "one receive at a time");
        assert_eq!(parts(&slots.handle_taken(0, failed(Errno::AGAIN))), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, Taken::Bytes { more: false })), REST);
    }

    #[test]
    fn a_poll_that_ended_by_itself_is_armed_again() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), false)), (true, true, false, false));
    }

    #[test]
    fn the_end_is_told_after_the_poll_has_ended() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, Taken::Eof)), (false, false, true, false));
        assert_eq!(
            parts(&slots.handle_edge(0, Ok(1), true)),
            REST,
            "it still tells of the end of the stream"
        );
        let step = slots.handle_edge(0, Err(Errno::CANCELED.into()), false);
        assert!(matches!(step.end, Some(ReceiveEnd::Eof)));
    }

    #[test]
    fn bytes_that_came_before_a_poll_failed_are_received_before_the_end_is_told() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_edge(0, Err(Errno::NOMEM.into()), false)), REST);
        assert_eq!(parts(&slots.handle_taken(0, Taken::Bytes { more: false })), RECEIVE);
        let step = slots.handle_taken(0, failed(Errno::AGAIN));
        assert!(matches!(step.end, Some(ReceiveEnd::Failed(_))));
    }

    #[test]
    fn a_receive_without_a_buffer_is_tried_again_later() {
        let mut slots = parked();
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), RECEIVE);
        assert_eq!(parts(&slots.handle_taken(0, failed(Errno::NOBUFS))), REST);
        assert_eq!(parts(&slots.handle_edge(0, Ok(1), true)), REST);
        assert_eq!((slots.take_starved(), slots.take_starved()), (Some(0), None));
    }
}
