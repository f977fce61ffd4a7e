//! What every player saw of every other one, and how late: reach and latency.
//!
//! A *view* is one move of one player as another player of its room should see it: (receiver, sender, sequence). A frame
//! that holds sequence `s` of a sender is the arrival of every sequence up to `s` that the receiver had not seen: state that
//! is newer makes the older one needless. Its latency is the time from when the move was *meant* to be sent. Only moves
//! meant for the measured window count. A view is fresh if it arrived within the grace period.

use std::ops::Range;

use corelay::wire::native::Position;
use hdrhistogram::Histogram;

use crate::alignment::Alignment;

/// Longest duration that is recorded; longer ones count as this.
const DURATION_US_MAX: u64 = 600_000_000;

/// When moves were meant to be sent, and which of them count; nanoseconds on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Sequence 1 of the player with phase 0.
    pub start_ns: u64,
    pub interval_ns: u64,
    /// Moves meant for this time count.
    pub window_ns: Range<u64>,
    /// A view that arrives later than this is not fresh.
    pub grace_ns: u64,
}

/// The accounts of the rooms of one thread.
#[derive(Debug)]
pub struct Views {
    players_per_room: usize,
    pub timing: Timing,
    phases_ns: Vec<u64>,
    /// Last sequence that each player has sent, by player.
    sent: Vec<u32>,
    /// Last sequence seen, by receiver, then by sender within the room.
    seen: Vec<u32>,
    pub tally: Tally,
    /// Where the ticks of players are; `None`: nobody wants to know.
    pub alignment: Option<Alignment>,
}

/// What came of the views.
#[derive(Debug)]
pub struct Tally {
    /// Latency of every view that arrived, in µs.
    pub latency_us: Histogram<u64>,
    pub fresh: u64,
    pub delivered: u64,
    /// Positions of a player or with a sequence that nobody sent.
    pub unknown: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { latency_us: microseconds(), fresh: 0, delivered: 0, unknown: 0 }
    }
}

/// An empty histogram of durations in µs, with three significant digits.
pub fn microseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DURATION_US_MAX, 3).expect("the bounds are constant and valid")
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("both have the same bounds");
        self.fresh += other.fresh;
        self.delivered += other.delivered;
        self.unknown += other.unknown;
    }
}

impl Views {
    /// Accounts for players with these phases, in rooms of `players_per_room`. Nothing counts before `timing` is set.
    pub fn new(players_per_room: u32, phases_ns: &[u64]) -> Self {
        let players_per_room = players_per_room as usize;
        Self {
            players_per_room,
            timing: Timing::default(),
            phases_ns: phases_ns.to_vec(),
            sent: vec![0; phases_ns.len()],
            seen: vec![0; phases_ns.len() * players_per_room],
            tally: Tally::default(),
            alignment: None,
        }
    }

    /// From now on moves are meant for other moments.
    pub fn set_phases(&mut self, phases_ns: &[u64]) {
        self.phases_ns.copy_from_slice(phases_ns);
    }

    /// The relay has used an input of `player`, `slack` before its tick, in units of 0.1 ms.
    pub fn handle_ack(&mut self, player: u32, input_seq: u16, slack: u16) {
        let Some(&sent) = self.sent.get(player as usize) else { return };
        // Inputs are numbered by the low half of their sequence.
        let sequence = sent.wrapping_sub(u32::from((sent as u16).wrapping_sub(input_seq)));
        if sequence == 0 || self.alignment.is_none() {
            return;
        }
        let intended_ns = self.intended_ns(player, sequence) - self.timing.start_ns;
        if let Some(alignment) = &mut self.alignment {
            alignment.handle_ack(player, intended_ns, u64::from(slack) * 100_000);
        }
    }

    /// When `player` was meant to send its move `sequence`.
    pub fn intended_ns(&self, player: u32, sequence: u32) -> u64 {
        let Timing { start_ns, interval_ns, .. } = self.timing;
        start_ns + self.phases_ns[player as usize] + u64::from(sequence - 1) * interval_ns
    }

    /// Ends the window earlier: nothing meant for `end_ns` or later counts, so that time must not have come.
    pub fn end_window_at(&mut self, end_ns: u64) {
        self.timing.window_ns.end = self.timing.window_ns.end.min(end_ns);
    }

    pub fn handle_sent(&mut self, player: u32, sequence: u32) {
        self.sent[player as usize] = sequence;
    }

    pub fn sent(&self, player: u32) -> u32 {
        self.sent[player as usize]
    }

    /// A frame with `positions` came to `receiver`. One that is no player (it only stops reading) has no views.
    pub fn handle_positions(&mut self, receiver: u32, positions: &[Position], now_ns: u64) {
        let receiver = receiver as usize;
        if receiver >= self.sent.len() {
            return;
        }
        let own = receiver % self.players_per_room;
        let room = receiver - own..receiver - own + self.players_per_room;
        let seen = &mut self.seen[receiver * self.players_per_room..][..self.players_per_room];
        let (sent, phases_ns) = (&self.sent[room.clone()], &self.phases_ns[room]);
        let Timing { start_ns, interval_ns, window_ns, grace_ns } = &self.timing;
        for position in positions {
            // Numbers that are not whole and in range become others that nobody sent.
            let (sender, sequence) = (position.x.get() as usize, position.y.get() as u32);
            let (Some(last), Some(&sent)) = (seen.get_mut(sender), sent.get(sender)) else {
                self.tally.unknown += 1;
                continue;
            };
            if sequence <= *last || sender == own {
                continue;
            }
            if sequence > sent {
                self.tally.unknown += 1;
                continue;
            }
            for arrived in *last..sequence {
                let intended_ns = start_ns + phases_ns[sender] + u64::from(arrived) * interval_ns;
                if window_ns.contains(&intended_ns) {
                    let latency_ns = now_ns.saturating_sub(intended_ns);
                    self.tally.latency_us.saturating_record(latency_ns / 1000);
                    self.tally.delivered += 1;
                    self.tally.fresh += u64::from(latency_ns <= *grace_ns);
                }
            }
            *last = sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Two rooms of three players at 20 Hz with phases of 0, 10 and 20 ms; moves meant for 100..1000 ms count.
    fn views() -> Views {
        let mut views = Views::new(3, &[0, 10 * MS, 20 * MS, 0, 10 * MS, 20 * MS]);
        views.timing = Timing {
            start_ns: 1000 * MS,
            interval_ns: 50 * MS,
            window_ns: 1100 * MS..2000 * MS,
            grace_ns: 1000 * MS,
        };
        (0..6).for_each(|player| views.handle_sent(player, 40));
        views
    }

    fn position(sender: u32, sequence: u32) -> Position {
        Position { player_id: (900 + sender).into(), x: (sender as f32).into(), y: (sequence as f32).into() }
    }

    #[test]
    fn latency_runs_from_the_intended_time_to_the_first_frame_that_holds_the_move() {
        let mut views = views();
        // Sequence 4 of player 1 was meant for 1000 + 10 + 150 = 1160 ms; 1 to 2 are before the window.
        views.handle_positions(0, &[position(1, 2)], 1070 * MS);
        assert_eq!(views.tally.delivered, 0);
        views.handle_positions(0, &[position(1, 4)], 1190 * MS);
        // 3 was superseded by 4, and arrived with it: 1110 → 80 ms, 1160 → 30 ms.
        assert_eq!((views.tally.delivered, views.tally.fresh), (2, 2));
        assert!(views.tally.latency_us.equivalent(views.tally.latency_us.max(), 80_000));
        assert!(views.tally.latency_us.equivalent(views.tally.latency_us.min(), 30_000));
        // A position that was seen, or an older one, adds nothing.
        views.handle_positions(0, &[position(1, 4), position(1, 3)], 1200 * MS);
        assert_eq!(views.tally.delivered, 2);
    }

    #[test]
    fn each_receiver_has_its_own_view_and_nobody_views_itself() {
        let mut views = views();
        let frame = [position(0, 4), position(1, 4), position(2, 4)];
        for receiver in 3..6 {
            views.handle_positions(receiver, &frame, 1300 * MS);
        }
        // Per receiver two senders; sequences 3 and 4 of each are in the window.
        assert_eq!(views.tally.delivered, 3 * 2 * 2);
        assert_eq!(views.tally.unknown, 0);
    }

    #[test]
    fn a_view_that_comes_after_the_grace_period_is_delivered_but_not_fresh() {
        let mut views = views();
        views.handle_positions(0, &[position(1, 3)], 1110 * MS + 1000 * MS + 1);
        assert_eq!((views.tally.delivered, views.tally.fresh), (1, 0));
    }

    #[test]
    fn what_nobody_sent_is_not_a_view() {
        let mut views = views();
        let mut nonsense = position(1, 5);
        nonsense.x = f32::NAN.into();
        nonsense.y = f32::INFINITY.into();
        views.handle_positions(1, &[position(3, 4), position(2, 41), nonsense], 1300 * MS);
        assert_eq!((views.tally.delivered, views.tally.unknown), (0, 3));
    }

    #[test]
    fn a_window_that_ends_early_counts_what_was_meant_before_its_end() {
        let mut views = views();
        views.end_window_at(1260 * MS);
        // Of player 1: 3, 4, 5 at 1110, 1160, 1210; 6 at 1260 is outside.
        views.handle_positions(0, &[position(1, 6)], 1300 * MS);
        assert_eq!(views.tally.delivered, 3);
    }
}
