//! The open loop: when every player means to send every move, whatever the relay or this machine does.
//!
//! Each player sends at the same rate, at a phase of its own. So the plan needs no queue: players in the order of their
//! phases, walked round and round.

use std::ops::Range;

/// When moves are meant to be sent, in nanoseconds after the start. A player's first move has sequence 1.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval_ns: u64,
    phases_ns: Vec<u64>,
    /// Players by phase.
    order: Vec<u32>,
    /// The next move is the one of `order[cursor]` in round `round`; its sequence is `round + 1`.
    cursor: usize,
    round: u32,
}

/// One move that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub player: u32,
    pub sequence: u32,
    /// When it was meant to be sent, in nanoseconds after the start.
    pub intended_ns: u64,
}

impl Schedule {
    /// A plan for players `players`, `hz` moves a second each. A player's phase depends on `seed` and its number only.
    pub fn new(players: Range<u32>, hz: f64, seed: u64) -> Self {
        let interval_ns = (1e9 / hz) as u64;
        let phases_ns: Vec<u64> = players.map(|player| random(seed, player) % interval_ns).collect();
        let mut order: Vec<u32> = (0..phases_ns.len() as u32).collect();
        order.sort_by_key(|&player| (phases_ns[player as usize], player));
        Self { interval_ns, phases_ns, order, cursor: 0, round: 0 }
    }

    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    pub fn phases_ns(&self) -> &[u64] {
        &self.phases_ns
    }

    pub fn next_ns(&self) -> Option<u64> {
        let &player = self.order.get(self.cursor)?;
        Some(self.phases_ns[player as usize] + u64::from(self.round) * self.interval_ns)
    }

    /// The next move if it is due at `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Due> {
        let intended_ns = self.next_ns().filter(|&next| next <= now_ns)?;
        let due = Due { player: self.order[self.cursor], sequence: self.round + 1, intended_ns };
        self.cursor += 1;
        if self.cursor == self.order.len() {
            self.cursor = 0;
            self.round += 1;
        }
        Some(due)
    }

    /// From now on players send at other phases. Moves may come due that have been before: who sends them knows.
    pub fn set_phases(&mut self, phases_ns: Vec<u64>, now_ns: u64) {
        debug_assert_eq!(phases_ns.len(), self.phases_ns.len());
        self.phases_ns = phases_ns;
        self.order.sort_by_key(|&player| (self.phases_ns[player as usize], player));
        self.cursor = 0;
        self.round = u32::try_from(now_ns / self.interval_ns).unwrap_or(u32::MAX).saturating_sub(2);
    }

    /// How many moves of `player` are meant for `window`.
    pub fn moves_within(&self, player: u32, window: Range<u64>) -> u64 {
        let before =
            |end: u64| end.saturating_sub(self.phases_ns[player as usize]).div_ceil(self.interval_ns);
        before(window.end).saturating_sub(before(window.start))
    }
}

/// A well-mixed number for every (seed, number): SplitMix64.
pub fn random(seed: u64, number: u32) -> u64 {
    let mut z = (seed ^ 0x6A09_E667_F3BC_C908)
        .wrapping_add((u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_player_sends_at_its_rate_and_in_time_order() {
        let mut schedule = Schedule::new(0..100, 20.0, 1);
        let mut last_ns = 0;
        let mut sequences = vec![0; 100];
        while let Some(due) = schedule.take_due(1_000_000_000 - 1) {
            assert!(due.intended_ns >= last_ns);
            last_ns = due.intended_ns;
            sequences[due.player as usize] += 1;
            assert_eq!(due.sequence, sequences[due.player as usize]);
            let phase_ns = schedule.phases_ns()[due.player as usize];
            assert_eq!(due.intended_ns, phase_ns + u64::from(due.sequence - 1) * 50_000_000);
        }
        assert_eq!(sequences, vec![20; 100]);
    }

    #[test]
    fn phases_are_spread_and_depend_on_the_seed_alone() {
        let phases = |players: Range<u32>, seed| Schedule::new(players, 20.0, seed).phases_ns().to_vec();
        assert_eq!(phases(0..1000, 7), phases(0..1000, 7));
        assert_eq!(phases(500..1000, 7), phases(0..1000, 7)[500..], "threads do not change the plan");
        assert_ne!(phases(0..1000, 7), phases(0..1000, 8));
        let in_first_tenth = phases(0..10_000, 7).iter().filter(|&&phase| phase < 5_000_000).count();
        assert!(
            (900..1100).contains(&in_first_tenth),
            "{in_first_tenth} of 10,000 in a tenth of the interval"
        );
    }

    #[test]
    fn moves_within_a_window_are_those_that_come_due_in_it() {
        let window = 130_000_000..977_000_000;
        let mut schedule = Schedule::new(0..50, 30.0, 3);
        let mut counted = vec![0; 50];
        while let Some(due) = schedule.take_due(2_000_000_000) {
            counted[due.player as usize] += u64::from(window.contains(&due.intended_ns));
        }
        for player in 0..50 {
            assert_eq!(schedule.moves_within(player, window.clone()), counted[player as usize]);
        }
    }
}
