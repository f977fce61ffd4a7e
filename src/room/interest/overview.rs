//! The overview: where everybody is, roughly, a part of them a tick.

use crate::limits::{OVERVIEW_PLACES_PER_S, OVERVIEW_TURN_MAX};
use crate::memory::Allocated;
use crate::surplus::Surplus;
use crate::time::Instant;

/// A player's place in the overview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverviewPlace {
    /// Slot of the seat.
    pub slot: u16,
    /// In 255ths of the bounds' width, from the minimum.
    pub x: u8,
    /// In 255ths of the bounds' height, from the minimum.
    pub y: u8,
}

/// Rounds over all places, which take `1 / hz` seconds, or longer, if it would be more than `limits::OVERVIEW_PLACES_PER_S`.
#[derive(Debug)]
pub struct Overview {
    /// Shortest time of a round, in µs; `None`: there is no overview.
    round_us: Option<u64>,
    by_slot: Vec<Option<(u8, u8)>>,
    count: u64,
    /// The next slot of this round.
    next: usize,
    told_at: Instant,
    /// Places to tell, in parts: a place has as many as a round has microseconds.
    owed: u64,
    /// Rounds that end before what has changed last was told in a whole one.
    rounds_left: u8,
}

impl Overview {
    /// `hz` rounds a second, 0: no overview.
    pub fn new(hz: f32) -> Self {
        Self {
            round_us: (hz > 0.0).then(|| (1e6 / f64::from(hz)) as u64),
            by_slot: Vec::new(),
            count: 0,
            next: 0,
            told_at: Instant::default(),
            owed: 0,
            rounds_left: 0,
        }
    }

    /// The player on seat `slot` is at `place`; `None`: at none.
    pub fn set(&mut self, slot: u16, place: Option<(u8, u8)>) {
        if self.round_us.is_none() {
            return;
        }
        let index = usize::from(slot);
        if index >= self.by_slot.len() {
            self.by_slot.resize(index + 1, None);
        }
        let before = std::mem::replace(&mut self.by_slot[index], place);
        self.count += u64::from(place.is_some());
        self.count -= u64::from(before.is_some());
        self.rounds_left = 2;
    }

    /// Adds what is to be told at `now` to `into`. True: a round begins with it.
    pub fn tell(&mut self, now: Instant, into: &mut Vec<OverviewPlace>) -> bool {
        let Some(round_us) = self.round_us else { return false };
        let passed_us = now.since(self.told_at).min(OVERVIEW_TURN_MAX).as_micros() as u64;
        self.told_at = now;
        let round_us = round_us.max(self.count * 1_000_000 / u64::from(OVERVIEW_PLACES_PER_S)).max(1);
        self.owed += passed_us * self.count;
        let told = (self.owed / round_us) as usize;
        self.owed %= round_us;
        if told == 0 {
            return false;
        }
        let begins = self.next == 0;
        let rest = self.by_slot.iter().enumerate().skip(self.next);
        let places =
            rest.filter_map(|(slot, place)| place.map(|(x, y)| OverviewPlace { slot: slot as u16, x, y }));
        let from = into.len();
        into.extend(places.take(told));
        let is_over = into.len() - from < told;
        self.next = match into.last() {
            Some(last) if !is_over && into.len() > from => usize::from(last.slot) + 1,
            _ => 0,
        };
        if self.next >= self.by_slot.len() {
            self.next = 0;
        }
        if self.next == 0 {
            self.rounds_left = self.rounds_left.saturating_sub(1);
        }
        begins
    }

    /// Whether what is where has been told in a whole round.
    pub fn is_settled(&self) -> bool {
        self.rounds_left == 0 || self.count == 0
    }

    /// Shrinks what was large for a crowd that is gone.
    pub fn give_back(&mut self) {
        while self.by_slot.pop_if(|last| last.is_none()).is_some() {}
        self.by_slot.give_back(self.count as usize);
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.by_slot.allocated_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per second: places told, and rounds begun, of `players` in 20 ticks a second.
    fn per_second(players: u16, hz: f32) -> (usize, usize) {
        let mut overview = Overview::new(hz);
        for slot in 0..players {
            overview.set(3 * slot, Some((slot as u8, 7)));
        }
        let mut places = Vec::new();
        let mut rounds = 0;
        for tick in 0..400 {
            let before = places.len();
            rounds +=
                usize::from(overview.tell(Instant::from_micros(9_000_000 + tick * 50_000), &mut places));
            assert!(places.len() - before <= 250, "a tick's part is small");
        }
        assert!(
            places
                .chunks(usize::from(players).max(1))
                .all(|round| round.is_sorted_by_key(|place| place.slot))
        );
        (places.len() / 20, rounds)
    }

    #[test]
    fn a_round_lasts_as_long_as_it_should() {
        assert_eq!(per_second(0, 1.0), (0, 0));
        assert_eq!(per_second(10, 1.0), (10, 21), "the part of the first tick is a quarter of a second's");
        assert_eq!(per_second(400, 2.0), (808, 41));
        assert_eq!(per_second(4_000, 1.0), (1_010, 6));
    }
}
