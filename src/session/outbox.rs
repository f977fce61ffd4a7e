//! What waits to be sent to one client: a reliable lane, and one place for the newest state of each of its games.
//!
//! A client that does not read costs only itself: its state frames are skipped, and its reliable lane has a bound.

mod lane;
mod states;

use self::lane::{Cost, Lane, Queued, cost};
pub use self::states::States;
use crate::limits::{FRAMES_PER_SEND_MAX, GREETINGS_BYTES_MAX, OUTBOX_BURST};
use crate::planted;
use crate::wire::encoded::{Encoded, Frames};

/// See the module documentation. At most one send is in flight; what arrives meanwhile waits.
#[derive(Debug, Default)]
pub struct Outbox {
    lane: Lane,
    /// The newest state of the game that the connection plays in.
    state: Option<Encoded>,
    /// The cost of the reliable frames that the kernel has.
    sending: Cost,
    /// The counted bytes of frames that were queued while the client was owed nothing else; these are the oldest ones.
    burst: u32,
    in_flight: InFlight,
    /// The last send has left frames behind.
    behind: bool,
    stale: bool,
    listed: bool,
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

impl Outbox {
    /// Queues a frame that must arrive.
    pub fn push(&mut self, frame: Encoded, bytes_max: usize) -> Pushed {
        // Many may say something within one turn. A client that is owed nothing else has not been slow yet; and what is let in
        // for that reason does not count against what comes while it is being sent.
        let is_burst = self.in_flight == InFlight::Nothing && !self.behind;
        let (counted, bound) = match is_burst {
            true => (self.burst, OUTBOX_BURST * bytes_max),
            false => (self.reliable().counted - self.burst, bytes_max),
        };
        if (counted + cost(&frame)) as usize > bound {
            return Pushed::Refused;
        }
        if is_burst {
            self.burst += cost(&frame);
        }
        self.lane.push(Queued { frame, exempt: false });
        Pushed::Queued
    }

    /// Queues a frame that must arrive whatever waits already: a close, or a part of a greeting, whose length is bounded by the
    /// players and kept events of its game.
    pub fn push_exempt(&mut self, frame: Encoded) {
        self.lane.push(Queued { frame, exempt: true });
    }

    /// Queues a frame of the answer to a join: it does not count against the bound, as long as all that wait are not too many.
    pub fn push_greeting(&mut self, frame: Encoded, bytes_max: usize) -> Pushed {
        if (self.exempt_bytes() + cost(&frame)) as usize > GREETINGS_BYTES_MAX {
            return self.push(frame, bytes_max);
        }
        self.push_exempt(frame);
        Pushed::Queued
    }

    /// Which state frame of the own game to put; asked once a tick in which the state changed.
    pub fn wanted(&mut self) -> Wanted {
        if self.in_flight == InFlight::State {
            self.stale = !planted!(ForgetsSkipped);
            return Wanted::Nothing;
        }
        if self.stale || self.state.is_some() && !planted!(ReplacesDelta) {
            Wanted::Keyframe
        } else {
            Wanted::Delta
        }
    }

    /// Whether the kernel still has frames.
    pub fn is_sending(&self) -> bool {
        self.in_flight != InFlight::Nothing
    }

    /// Whether a state frame of the own game waits to be sent.
    pub fn has_state(&self) -> bool {
        self.state.is_some()
    }

    /// Whether a state frame of the own game is in flight, or waits behind what is.
    pub fn is_behind_state(&self) -> bool {
        self.sends_state() || self.is_sending() && self.has_state()
    }

    /// Whether the kernel still has a state frame.
    pub fn sends_state(&self) -> bool {
        self.in_flight == InFlight::State
    }

    /// Whether a state frame of the own game was skipped and none has been put since.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Puts a state frame of the own game; `true`: it replaces one that was not sent.
    pub fn put_state(&mut self, frame: Encoded) -> bool {
        self.stale = false;
        self.state.replace(frame).is_some()
    }

    /// Drops everything that is not in flight: only a close frame will follow.
    pub fn clear(&mut self) {
        self.lane = Lane::Empty;
        self.state = None;
        self.burst = self.burst.min(self.sending.counted);
    }

    /// The next frames for the kernel: the lane, then `states` of channels, as many as one send takes. `None`: nothing waits, or
    /// a send is in flight.
    pub fn take(&mut self, states: Option<&mut States>) -> Option<Frames> {
        if self.in_flight != InFlight::Nothing {
            return None;
        }
        let waiting = self.lane.cost();
        let states = states.filter(|states| !states.is_empty());
        let taken = match (std::mem::take(&mut self.lane), self.state.take(), states) {
            (Lane::Empty, None, None) => return None,
            (Lane::One(Queued { frame, .. }), None, None) => {
                self.in_flight = InFlight::Lane;
                Frames::One(frame)
            }
            (Lane::Empty, Some(state), None) => {
                self.in_flight = InFlight::State;
                Frames::One(state)
            }
            (lane, state, states) => {
                self.lane = lane;
                self.take_many(state, states)
            }
        };
        self.sending = waiting.minus(self.lane.cost());
        Some(taken)
    }

    fn take_many(&mut self, state: Option<Encoded>, states: Option<&mut States>) -> Frames {
        let mut taken = self.lane.take_first();
        let reliable = taken.len();
        if self.lane.is_empty() && reliable < FRAMES_PER_SEND_MAX {
            taken.extend(state);
            if let Some(states) = states {
                states.take(FRAMES_PER_SEND_MAX - taken.len(), &mut taken);
            }
        } else {
            self.state = state;
        }
        self.in_flight = if taken.len() > reliable { InFlight::State } else { InFlight::Lane };
        if taken.len() == 1 { Frames::One(taken.remove(0)) } else { Frames::Many(taken) }
    }

    /// The kernel has taken what was in flight.
    pub fn sent(&mut self) {
        self.burst = self.burst.saturating_sub(self.sending.counted);
        self.behind = !self.lane.is_empty();
        self.sending = Cost::default();
        self.in_flight = InFlight::Nothing;
    }

    /// Nothing waits and nothing is in flight; but for `States`.
    pub fn is_idle(&self) -> bool {
        self.in_flight == InFlight::Nothing && self.lane.is_empty() && self.state.is_none()
    }

    /// Bytes of the reliable lane that the kernel has not taken, as its bound counts them.
    pub fn reliable_bytes(&self) -> u32 {
        let Cost { counted, exempt } = self.reliable();
        counted + exempt
    }

    /// Bytes of the reliable lane that its bound does not count.
    pub fn exempt_bytes(&self) -> u32 {
        self.reliable().exempt
    }

    fn reliable(&self) -> Cost {
        self.lane.cost().plus(self.sending)
    }

    /// Whether the lane counts its frames right, exempt ones apart from the others. For tests.
    pub fn counts_right(&self) -> bool {
        self.lane.counts_right()
    }

    /// Bytes allocated for what waits (see `memory`); frames in flight are counted by the rim.
    pub fn heap_bytes(&self) -> usize {
        self.lane.heap_bytes() + self.state.as_ref().map_or(0, Encoded::heap_bytes)
    }

    /// Enters the list of outboxes to look at; `false`: it is in there already.
    pub fn enlist(&mut self) -> bool {
        !std::mem::replace(&mut self.listed, true)
    }

    /// Leaves the list of outboxes to look at.
    pub fn delist(&mut self) {
        self.listed = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::OUTBOX_FRAME_BYTES;
    use crate::wire::frame::Opcode;

    fn frame(bytes: usize) -> Encoded {
        Encoded::message(Opcode::Binary, &vec![0; bytes])
    }

    #[test]
    fn a_state_frame_in_flight_is_never_queued_behind() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.wanted(), Wanted::Delta);
        assert!(!outbox.put_state(frame(1)));
        assert!(outbox.take(None).is_some());
        assert_eq!(outbox.wanted(), Wanted::Nothing);
        assert!(outbox.is_stale() && outbox.take(None).is_none());
        outbox.sent();
        assert_eq!(outbox.wanted(), Wanted::Keyframe);
        assert!(!outbox.put_state(frame(1)));
        assert!(outbox.take(None).is_some());
        outbox.sent();
        assert_eq!(outbox.wanted(), Wanted::Delta);
    }

    #[test]
    fn a_state_frame_behind_events_is_replaced_by_a_keyframe() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(frame(1), 1000), Pushed::Queued);
        assert!(matches!(outbox.take(None), Some(Frames::One(_))));
        assert_eq!(outbox.wanted(), Wanted::Delta, "only events are in flight");
        assert!(!outbox.put_state(frame(1)));
        assert_eq!(outbox.wanted(), Wanted::Keyframe, "the delta was never sent");
        assert!(outbox.put_state(frame(2)));
        assert_eq!(outbox.push(frame(3), 1000), Pushed::Queued);
        outbox.sent();
        let frames = outbox.take(None).expect("both wait");
        let lengths: Vec<_> = frames.as_slice().iter().map(|frame| frame.bytes()[1]).collect();
        assert_eq!(lengths, [3, 2], "reliable frames go first");
    }

    #[test]
    fn the_lane_has_a_bound_and_a_greeting_does_not_count() {
        let mut outbox = Outbox::default();
        let bound = OUTBOX_FRAME_BYTES + 100;
        outbox.push_exempt(frame(500));
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
        assert!(outbox.take(None).is_some());
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
        assert_eq!(outbox.push(frame(58), bound), Pushed::Refused, "the client is busy");
        outbox.sent();
        assert!(outbox.take(None).is_some());
        outbox.sent();
        let bursts = (0..5).map(|_| outbox.push(frame(bound - OUTBOX_FRAME_BYTES - 2), bound));
        assert_eq!(
            bursts.filter(|pushed| *pushed == Pushed::Queued).count(),
            OUTBOX_BURST,
            "nothing is in flight"
        );
        assert!(outbox.take(None).is_some());
        outbox.sent();
        assert_eq!(outbox.reliable_bytes(), 0);
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
    }

    #[test]
    fn whoever_keeps_up_is_not_slow_behind_a_burst() {
        let mut outbox = Outbox::default();
        let bound = 20 * (OUTBOX_FRAME_BYTES + 1_002);
        let push = |outbox: &mut Outbox| outbox.push(frame(998), bound);
        for _ in 0..80 {
            assert_eq!(push(&mut outbox), Pushed::Queued);
        }
        assert_eq!(push(&mut outbox), Pushed::Refused, "the burst has a bound");
        assert!(outbox.take(None).is_some());
        for _ in 0..20 {
            assert_eq!(push(&mut outbox), Pushed::Queued, "more comes while it is being sent");
        }
        assert_eq!(push(&mut outbox), Pushed::Refused);
        outbox.sent();
        assert_eq!(push(&mut outbox), Pushed::Refused, "what came behind the burst waits still");
        while outbox.take(None).is_some() {
            outbox.sent();
        }
        assert_eq!(push(&mut outbox), Pushed::Queued);
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
    fn what_was_sent_gives_back_its_own_bound_and_no_other() {
        let mut outbox = Outbox::default();
        let bound = 2 * (OUTBOX_FRAME_BYTES + 60);
        assert_eq!(outbox.push(frame(58), bound), Pushed::Queued);
        assert!(outbox.take(None).is_some());
        outbox.push_exempt(frame(58));
        outbox.sent();
        assert_eq!(
            outbox.exempt_bytes(),
            outbox.reliable_bytes(),
            "only the greeting is left, and it is exempt"
        );
        assert!(outbox.take(None).is_some());
        assert_eq!([(); 3].map(|()| outbox.push(frame(58), bound) == Pushed::Queued), [true, true, false]);
    }

    /// What may happen to an outbox; a frame's number is its length.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        PushExempt(usize),
        PushGreeting(usize),
        PutState(usize),
        Take,
        Sent,
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = || 1..120_usize;
        prop_oneof![
            4 => bytes().prop_map(Step::Push),
            2 => bytes().prop_map(Step::PushExempt),
            2 => bytes().prop_map(Step::PushGreeting),
            1 => bytes().prop_map(Step::PutState),
            2 => Just(Step::Take),
            2 => Just(Step::Sent),
            1 => Just(Step::Clear),
        ]
    }

    /// How a frame counts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        Exempt,
        Burst,
        Later,
    }

    proptest! {
        /// Against a list of every frame with its kind.
        #[test]
        fn each_frame_counts_as_what_it_was_pushed_until_it_is_sent(
            steps in prop::collection::vec(step(), 1..400),
            bytes_max in 200..40_000_usize,
        ) {
            let mut outbox = Outbox::default();
            let mut waiting: Vec<(usize, Kind)> = Vec::new();
            let mut sending: Option<Vec<(usize, Kind)>> = None;
            let mut behind = false;
            let mut state = None;
            let bytes_of = |length: usize| length + 2 + OUTBOX_FRAME_BYTES;
            let sum = |frames: &[(usize, Kind)], kind: Kind| -> usize {
                frames.iter().filter(|frame| frame.1 == kind).map(|frame| bytes_of(frame.0)).sum()
            };
            for step in steps {
                match step {
                    Step::Push(length) => {
                        let (kind, bound) = match sending.is_none() && !behind {
                            true => (Kind::Burst, OUTBOX_BURST * bytes_max),
                            false => (Kind::Later, bytes_max),
                        };
                        let counted = sum(&waiting, kind) + sum(sending.as_deref().unwrap_or_default(), kind);
                        let fits = counted + bytes_of(length) <= bound;
                        prop_assert_eq!(outbox.push(frame(length), bytes_max) == Pushed::Queued, fits);
                        waiting.extend(fits.then_some((length, kind)));
                    }
                    Step::PushExempt(length) => {
                        outbox.push_exempt(frame(length));
                        waiting.push((length, Kind::Exempt));
                    }
                    Step::PushGreeting(length) => {
                        prop_assert_eq!(outbox.push_greeting(frame(length), bytes_max), Pushed::Queued);
                        waiting.push((length, Kind::Exempt));
                    }
                    Step::PutState(length) => {
                        outbox.put_state(frame(length));
                        state = Some(length);
                    }
                    Step::Take => {
                        let taken: Option<Vec<usize>> = outbox
                            .take(None)
                            .map(|frames| frames.as_slice().iter().map(|frame| frame.payload().len()).collect());
                        let may = sending.is_none() && (!waiting.is_empty() || state.is_some());
                        prop_assert_eq!(taken.is_some(), may);
                        if let Some(taken) = taken {
                            let first: Vec<_> = waiting.drain(..waiting.len().min(FRAMES_PER_SEND_MAX)).collect();
                            let is_full = first.len() == FRAMES_PER_SEND_MAX;
                            let last = state.take_if(|_| waiting.is_empty() && !is_full);
                            prop_assert_eq!(taken, first.iter().map(|frame| frame.0).chain(last).collect::<Vec<_>>());
                            sending = Some(first);
                        }
                    }
                    Step::Sent => {
                        outbox.sent();
                        sending = None;
                        behind = !waiting.is_empty();
                    }
                    Step::Clear => {
                        outbox.clear();
                        waiting.clear();
                        state = None;
                    }
                }
                let all = [&waiting[..], sending.as_deref().unwrap_or_default()].concat();
                let [exempt, burst, later] =
                    [Kind::Exempt, Kind::Burst, Kind::Later].map(|kind| sum(&all, kind));
                prop_assert_eq!(outbox.exempt_bytes() as usize, exempt);
                prop_assert_eq!(outbox.reliable_bytes() as usize, exempt + burst + later);
            }
        }
    }

    #[test]
    fn a_send_takes_a_bounded_number_of_frames() {
        let mut outbox = Outbox::default();
        for _ in 0..FRAMES_PER_SEND_MAX + 1 {
            assert_eq!(outbox.push(frame(1), 10_000), Pushed::Queued);
        }
        outbox.put_state(frame(1));
        assert_eq!(outbox.take(None).map(|frames| frames.as_slice().len()), Some(FRAMES_PER_SEND_MAX));
        outbox.sent();
        assert_eq!(outbox.take(None).map(|frames| frames.as_slice().len()), Some(2));
        outbox.sent();
        assert!(outbox.is_idle() && outbox.reliable_bytes() == 0);
        for _ in 0..FRAMES_PER_SEND_MAX {
            assert_eq!(outbox.push(frame(1), 10_000), Pushed::Queued);
        }
        outbox.put_state(frame(1));
        for expected in [FRAMES_PER_SEND_MAX, 1] {
            assert_eq!(outbox.take(None).map(|frames| frames.as_slice().len()), Some(expected));
            outbox.sent();
        }
    }
}
