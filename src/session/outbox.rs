//! What waits to be sent to one client: a reliable lane, and one place for the newest state.
//!
//! A client that does not read costs only itself: its state frames are skipped, and its reliable lane has a bound.

use crate::limits::{FRAMES_PER_SEND_MAX, GREETINGS_BYTES_MAX, OUTBOX_BURST, OUTBOX_FRAME_BYTES};
use crate::memory::Allocated;
use crate::wire::encoded::{Encoded, Frames};

/// See the module documentation. At most one send is in flight; what arrives meanwhile waits.
///
/// Invariant: `exempt_bytes <= lane_bytes + in_flight_bytes`.
#[derive(Debug, Default)]
pub struct Outbox {
    lane: Lane,
    state: Option<Encoded>,
    lane_bytes: u32,
    /// Reliable bytes with the kernel.
    in_flight_bytes: u32,
    /// Part of the two above that the bound does not count.
    exempt_bytes: u32,
    in_flight: InFlight,
    stale: bool,
    listed: bool,
}

/// Frames that wait, oldest first. Most often there is none, or one: that takes no allocation.
#[derive(Debug, Default)]
enum Lane {
    #[default]
    Empty,
    One(Encoded),
    #[allow(clippy::box_collection, reason = "an idle outbox pays one word for the rare case, not three")]
    Many(Box<Vec<Encoded>>),
}

impl Lane {
    fn push(&mut self, frame: Encoded) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(frame),
            Self::One(first) => Self::Many(Box::new(vec![first, frame])),
            Self::Many(mut frames) => {
                frames.push(frame);
                Self::Many(frames)
            }
        };
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(frame) => frame.heap_bytes(),
            Self::Many(frames) => {
                let lists = frames.allocated_bytes() + Vec::allocated_bytes(frames);
                lists + frames.iter().map(Encoded::heap_bytes).sum::<usize>()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InFlight {
    #[default]
    Nothing,
    /// Reliable frames only.
    Lane,
    /// A state frame, perhaps behind reliable ones.
    State,
}

/// What became of a reliable frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It will be sent.
    Queued,
    /// The lane is full: the client reads too slowly to stay.
    Refused,
}

/// Which state frame a client needs at this tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wanted {
    /// The changes: it was sent the frame before.
    Delta,
    /// Everything.
    Keyframe,
    /// None: its socket is busy with an older frame.
    Nothing,
}

/// What a state frame of a channel finds: a connection may be in several games.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceForState {
    /// It is sent next.
    Free,
    /// A state frame waits that the kernel has not been offered yet.
    Taken,
    /// A state frame is with the kernel.
    Busy,
}

impl Outbox {
    /// Queues a frame that must arrive.
    pub fn push(&mut self, frame: Encoded, bytes_max: usize) -> Pushed {
        let bytes = cost(&frame);
        // Many may say something within one turn. Whoever has nothing in flight has not been slow yet.
        let burst = if self.in_flight == InFlight::Nothing { OUTBOX_BURST } else { 1 };
        if (self.reliable_bytes() - self.exempt_bytes + bytes) as usize > burst * bytes_max {
            return Pushed::Refused;
        }
        self.lane_bytes += bytes;
        self.lane.push(frame);
        Pushed::Queued
    }

    /// Queues a frame that must arrive whatever waits already: of a greeting, whose length a game's players and kept events
    /// bound, or a close.
    pub fn push_exempt(&mut self, frame: Encoded) {
        self.lane_bytes += cost(&frame);
        self.exempt_bytes += cost(&frame);
        self.lane.push(frame);
    }

    /// Queues a frame of the answer to a join: it does not count against the bound, as long as all that wait are not too many.
    pub fn push_greeting(&mut self, frame: Encoded, bytes_max: usize) -> Pushed {
        if (self.exempt_bytes + cost(&frame)) as usize > GREETINGS_BYTES_MAX {
            return self.push(frame, bytes_max);
        }
        self.push_exempt(frame);
        Pushed::Queued
    }

    /// A state frame that waits is sent before whatever is pushed from now on.
    pub fn queue_state(&mut self) {
        if let Some(state) = self.state.take() {
            self.push_exempt(state);
        }
    }

    /// Which state frame to put; asked once a tick in which the state changed.
    pub fn wanted(&mut self) -> Wanted {
        if self.in_flight == InFlight::State {
            self.stale = true;
            return Wanted::Nothing;
        }
        if self.stale || self.state.is_some() { Wanted::Keyframe } else { Wanted::Delta }
    }

    /// What a state frame of a channel would find.
    pub fn place_for_state(&self) -> PlaceForState {
        match (self.in_flight, &self.state) {
            (InFlight::State, _) => PlaceForState::Busy,
            (InFlight::Nothing | InFlight::Lane, Some(_)) => PlaceForState::Taken,
            (InFlight::Nothing | InFlight::Lane, None) => PlaceForState::Free,
        }
    }

    /// Whether a state frame was skipped and none has been put since.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Puts a state frame; `true`: it replaces one that was not sent.
    pub fn put_state(&mut self, frame: Encoded) -> bool {
        self.stale = false;
        self.state.replace(frame).is_some()
    }

    /// Drops everything that is not in flight: only a close frame will follow.
    pub fn clear(&mut self) {
        self.lane = Lane::Empty;
        self.state = None;
        self.lane_bytes = 0;
        self.exempt_bytes = self.exempt_bytes.min(self.in_flight_bytes);
    }

    /// The next frames for the kernel; `None`: nothing waits, or a send is in flight.
    pub fn take(&mut self) -> Option<Frames> {
        if self.in_flight != InFlight::Nothing {
            return None;
        }
        let state_bytes = self.state.as_ref().map(cost);
        let taken = match std::mem::take(&mut self.lane) {
            Lane::Empty => self.state.take().map(Frames::One)?,
            Lane::One(frame) => match self.state.take() {
                None => Frames::One(frame),
                Some(state) => Frames::Many(vec![frame, state]),
            },
            Lane::Many(mut waiting) if waiting.len() > FRAMES_PER_SEND_MAX => {
                let first = waiting.drain(..FRAMES_PER_SEND_MAX).collect();
                self.lane = Lane::Many(waiting);
                Frames::Many(first)
            }
            Lane::Many(mut waiting) => {
                waiting.extend(self.state.take());
                Frames::Many(*waiting)
            }
        };
        let state_taken = state_bytes.filter(|_| self.state.is_none());
        let taken_bytes: u32 = taken.as_slice().iter().map(cost).sum();
        self.in_flight_bytes = taken_bytes - state_taken.unwrap_or(0);
        self.lane_bytes -= self.in_flight_bytes;
        self.in_flight = if state_taken.is_some() { InFlight::State } else { InFlight::Lane };
        Some(taken)
    }

    /// The kernel has taken what was in flight.
    pub fn sent(&mut self) {
        self.exempt_bytes = self.exempt_bytes.saturating_sub(self.in_flight_bytes);
        self.in_flight_bytes = 0;
        self.in_flight = InFlight::Nothing;
    }

    /// Nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight == InFlight::Nothing && self.lane.is_empty() && self.state.is_none()
    }

    /// Bytes of the reliable lane that the kernel has not taken, as its bound counts them.
    pub fn reliable_bytes(&self) -> u32 {
        self.lane_bytes + self.in_flight_bytes
    }

    /// Those of them that the bound does not count.
    pub fn exempt_bytes(&self) -> u32 {
        self.exempt_bytes
    }

    /// Of what waits; what is in flight is the rim's. See `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.lane.heap_bytes() + self.state.as_ref().map_or(0, Encoded::heap_bytes)
    }

    /// Enters the list of outboxes to look at; `false`: it is in there already.
    pub fn enlist(&mut self) -> bool {
        !std::mem::replace(&mut self.listed, true)
    }

    /// Leaves that list.
    pub fn delist(&mut self) {
        self.listed = false;
    }
}

/// What a frame takes of a lane's bound. A frame of two bytes costs memory as well: a client that pings and does not read
/// would be owed a hundred thousand pongs.
fn cost(frame: &Encoded) -> u32 {
    (frame.bytes().len() + OUTBOX_FRAME_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Opcode;

    fn frame(bytes: usize) -> Encoded {
        Encoded::message(Opcode::Binary, &vec![0; bytes])
    }

    #[test]
    fn a_state_frame_in_flight_is_never_queued_behind() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.wanted(), Wanted::Delta);
        assert!(!outbox.put_state(frame(1)));
        assert!(outbox.take().is_some());
        assert_eq!(outbox.wanted(), Wanted::Nothing);
        assert!(outbox.is_stale() && outbox.take().is_none());
        outbox.sent();
        assert_eq!(outbox.wanted(), Wanted::Keyframe);
        assert!(!outbox.put_state(frame(1)));
        assert!(outbox.take().is_some());
        outbox.sent();
        assert_eq!(outbox.wanted(), Wanted::Delta);
    }

    #[test]
    fn a_state_frame_behind_events_is_replaced_by_a_keyframe() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(frame(1), 1000), Pushed::Queued);
        assert!(matches!(outbox.take(), Some(Frames::One(_))));
        assert_eq!(outbox.wanted(), Wanted::Delta, "only events are in flight");
        assert!(!outbox.put_state(frame(1)));
        assert_eq!(outbox.wanted(), Wanted::Keyframe, "the delta was never sent");
        assert!(outbox.put_state(frame(2)));
        assert_eq!(outbox.push(frame(3), 1000), Pushed::Queued);
        outbox.sent();
        let frames = outbox.take().expect("both wait");
        let lengths: Vec<_> = frames.as_slice().iter().map(|frame| frame.bytes()[1]).collect();
        assert_eq!(lengths, [3, 2], "reliable frames go first");
    }

    #[test]
    fn the_lane_has_a_bound_and_a_greeting_does_not_count() {
        let mut outbox = Outbox::default();
        let bound = OUTBOX_FRAME_BYTES + 100;
        outbox.push_exempt(frame(500));
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
        assert!(outbox.take().is_some());
        assert_eq!(outbox.push(frame(58), bound), Pushed::Refused, "in flight is not taken yet");
        outbox.sent();
        let bursts = (0..5).map(|_| outbox.push(frame(bound - OUTBOX_FRAME_BYTES - 2), bound));
        assert_eq!(
            bursts.filter(|pushed| *pushed == Pushed::Queued).count(),
            OUTBOX_BURST,
            "nothing is in flight"
        );
        assert!(outbox.take().is_some());
        outbox.sent();
        assert_eq!(outbox.reliable_bytes(), 0);
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
    }

    #[test]
    fn answers_to_joins_have_a_bound_of_their_own() {
        let mut outbox = Outbox::default();
        let answer = 64 * 1024;
        let taken =
            (0..100).take_while(|_| outbox.push_greeting(frame(answer), 1000) == Pushed::Queued).count();
        assert_eq!(taken, GREETINGS_BYTES_MAX / (answer + OUTBOX_FRAME_BYTES + 10));
        assert_eq!(
            outbox.push(frame(58), 1000),
            Pushed::Queued,
            "what else is sent has its place all the same"
        );
    }

    #[test]
    fn a_send_takes_a_bounded_number_of_frames() {
        let mut outbox = Outbox::default();
        for _ in 0..FRAMES_PER_SEND_MAX + 1 {
            assert_eq!(outbox.push(frame(1), 10_000), Pushed::Queued);
        }
        outbox.put_state(frame(1));
        assert_eq!(outbox.take().map(|frames| frames.as_slice().len()), Some(FRAMES_PER_SEND_MAX));
        outbox.sent();
        assert_eq!(outbox.take().map(|frames| frames.as_slice().len()), Some(2));
        outbox.sent();
        assert!(outbox.is_idle() && outbox.reliable_bytes() == 0);
    }
}
