//! What every player has sent of its way: the places of the last seconds, and all cells in which it may have counted lately.

use super::grid::{Cell, Distance, Grid, Span};

/// Parts of the time that is looked back on. The oldest is forgotten as a whole.
const SLICES: usize = 8;
/// Places that are kept of each player. A relay that is well shows one of the newest twenty.
const PLACES: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    place: [f32; 2],
    ns: u64,
}

/// How a place that is shown compares with those that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It is the newest.
    Newest,
    /// The next one was sent then.
    OutdatedAt(u64),
    /// Nobody has sent it, or so long ago that it is not kept.
    Unknown,
}

/// See the module documentation. Call `handle_sent` for each move, and `forget_old` again and again.
#[derive(Debug)]
pub struct Trails {
    grid: Grid,
    slice_ns: u64,
    next_slice_ns: u64,
    slice: usize,
    trails: Vec<Trail>,
    /// By player: all slices together.
    spans: Vec<Span>,
    /// By player, round and round: number `n` is at `n % PLACES`.
    places: Vec<Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Trail {
    /// How many places it has sent.
    count: usize,
    /// As a relay that saw every place would count it.
    cell: Cell,
    slices: [Span; SLICES],
    is_gone: bool,
}

impl Trails {
    /// Players that begin at `places`, of which is known in which cells they may have counted for the last `memory_ns`.
    pub fn new(grid: Grid, places: &[[f32; 2]], memory_ns: u64, now_ns: u64) -> Self {
        let slice_ns = memory_ns.div_ceil(SLICES as u64 - 1);
        let trail = |&place: &[f32; 2]| {
            let slices = [grid.possible(place); SLICES];
            Trail { count: 0, cell: grid.cell_at(place), slices, is_gone: false }
        };
        Self {
            slice_ns,
            next_slice_ns: now_ns + slice_ns,
            slice: 0,
            trails: places.iter().map(trail).collect(),
            spans: places.iter().map(|&place| grid.possible(place)).collect(),
            places: vec![Sent::default(); places.len() * PLACES],
            grid,
        }
    }

    pub fn handle_sent(&mut self, player: u32, place: [f32; 2], now_ns: u64) {
        let player = player as usize;
        let (trail, span) = (&mut self.trails[player], self.grid.possible(place));
        self.places[player * PLACES + trail.count % PLACES] = Sent { place, ns: now_ns };
        trail.count += 1;
        trail.cell = self.grid.settle(trail.cell, place);
        trail.slices[self.slice] = trail.slices[self.slice].join(span);
        self.spans[player] = self.spans[player].join(span);
    }

    pub fn forget_old(&mut self, now_ns: u64) {
        while self.next_slice_ns <= now_ns {
            self.next_slice_ns += self.slice_ns;
            self.slice = (self.slice + 1) % SLICES;
            for (player, trail) in self.trails.iter_mut().enumerate() {
                let Some(last) = trail.count.checked_sub(1) else { continue };
                let place = self.places[player * PLACES + last % PLACES].place;
                trail.slices[self.slice] = self.grid.possible(place);
                self.spans[player] = trail.slices.into_iter().reduce(Span::join).expect("there are some");
            }
        }
    }

    /// The player has gone, or moves no more: nothing is known of it.
    pub fn handle_gone(&mut self, player: u32) {
        self.trails[player as usize].is_gone = true;
    }

    pub fn is_here(&self, player: u32) -> bool {
        let trail = &self.trails[player as usize];
        trail.count > 0 && !trail.is_gone
    }

    pub fn players(&self) -> u32 {
        self.trails.len() as u32
    }

    /// How far from each other the cells of two were within the time that is looked back on.
    pub fn distance(&self, one: u32, other: u32) -> Distance {
        self.spans[one as usize].distance(&self.spans[other as usize])
    }

    /// How far from each other their cells most likely are now.
    pub fn likely_distance(&self, one: u32, other: u32) -> u32 {
        let [one, other] = [one, other].map(|player| Span::of(self.trails[player as usize].cell));
        one.distance(&other).farthest
    }

    pub fn place(&self, player: u32) -> [f32; 2] {
        let last = self.trails[player as usize].count.saturating_sub(1);
        self.places[player as usize * PLACES + last % PLACES].place
    }

    /// How old a place is that is shown of `player`, give or take `rounding`.
    pub fn age(&self, player: u32, shown: [f32; 2], rounding: [f32; 2]) -> Age {
        let count = self.trails[player as usize].count;
        let places = &self.places[player as usize * PLACES..][..PLACES];
        let mut next = Age::Newest;
        for number in (count.saturating_sub(PLACES)..count).rev() {
            let Sent { place, ns } = places[number % PLACES];
            if (0..2).all(|axis| (place[axis] - shown[axis]).abs() <= rounding[axis]) {
                return next;
            }
            next = Age::OutdatedAt(ns);
        }
        Age::Unknown
    }
}
