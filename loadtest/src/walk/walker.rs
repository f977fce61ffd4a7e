//! How players walk, each in its own way, which the seed decides.

use corelay::wire::layout::Bounds;

use crate::schedule::random;

/// Of ten players, one oscillates over an edge, and one is in a train; every tenth train has so many members.
const TRAIN: u32 = 10;
/// How far the next way point is at most, in cells: so players stay spread as they began.
const WAY: f32 = 4.0;
/// Share of the way points at which a player rests, and for how many moves at most.
const RESTS: f32 = 0.1;
const REST_MOVES: f32 = 60.0;

/// Where and how everybody walks.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    pub bounds: Bounds,
    pub cell: f32,
    /// Share of the players that stay in one cell, the one in the middle.
    pub crowd: f32,
    /// Whether a player may be anywhere with its next move.
    pub may_leap: bool,
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct Walker {
    /// What its random numbers come from; members of a train have the same.
    stream: u64,
    draws: u32,
    low: [f32; 2],
    high: [f32; 2],
    cell: f32,
    place: [f32; 2],
    gait: Gait,
}

#[derive(Clone, Debug)]
enum Gait {
    /// To `goal`, and on to another. With an offset, the members of a train are beside each other.
    Roams { goal: [f32; 2], offset: f32, rest: u32 },
    /// Along x from `edge` − `reach` to `edge` + `reach` and back, or from one to the other with each move; slowly along y, so
    /// that no place comes twice in a while.
    Oscillates { edge: f32, reach: f32, leaps: bool, forth: bool, moves: u16 },
}

impl Paths {
    pub fn walker(&self, number: u32) -> Walker {
        let Self { bounds, cell, crowd, may_leap, seed } = *self;
        let is_crowded = unit(random(seed.rotate_left(7), number)) < crowd;
        let is_train = !is_crowded && random(seed, number / TRAIN).is_multiple_of(10);
        let stream = random(!seed, if is_train { u32::MAX - number / TRAIN } else { number });
        let margin = if is_train { TRAIN as f32 * 0.01 * cell } else { 0.0 };
        let mut walker = Walker {
            stream,
            draws: 0,
            low: [bounds.min[0], bounds.min[1]],
            high: [bounds.max[0] - margin, bounds.max[1] - margin],
            cell,
            place: [0.0; 2],
            gait: Gait::Roams { goal: [0.0; 2], offset: 0.0, rest: 0 },
        };
        if is_crowded {
            let middle = [0, 1].map(|axis| {
                let cells = ((bounds.max[axis] - bounds.min[axis]) / cell / 2.0).floor();
                bounds.min[axis] + cells * cell
            });
            (walker.low, walker.high) =
                (middle, [0, 1].map(|axis| (middle[axis] + cell).min(bounds.max[axis])));
        } else if random(stream, u32::MAX) % 10 == 1 && !is_train {
            walker.gait = walker.oscillation(may_leap);
        }
        if let Gait::Roams { offset, .. } = &mut walker.gait {
            *offset = if is_train { (number % TRAIN) as f32 * 0.01 * cell } else { 0.0 };
            walker.place = walker.draw(walker.low, walker.high);
            walker.set_goal();
        }
        walker
    }
}

impl Walker {
    /// Where it is after another move of `stride`.
    pub fn step(&mut self, stride: f32) -> [f32; 2] {
        match &mut self.gait {
            Gait::Roams { rest, .. } if *rest > 0 => *rest -= 1,
            Gait::Roams { goal, .. } => {
                let [x, y] = [goal[0] - self.place[0], goal[1] - self.place[1]];
                let left = x.hypot(y);
                if left > stride {
                    self.place = [self.place[0] + x / left * stride, self.place[1] + y / left * stride];
                } else {
                    self.place = *goal;
                    self.set_goal();
                }
            }
            Gait::Oscillates { edge, reach, leaps, forth, moves } => {
                let along = self.place[0] - *edge;
                if *leaps || along.abs() >= *reach {
                    *forth = along < 0.0;
                }
                let stride = if *leaps { 2.0 * *reach } else { stride };
                let along = if *forth { along + stride } else { along - stride };
                *moves = (*moves + 1) % 512;
                let drift = self.cell * 3e-4;
                let back = if *moves == 0 { 511.0 * drift } else { -drift };
                self.place = [*edge + along.clamp(-*reach, *reach), self.place[1] - back];
            }
        }
        self.place()
    }

    pub fn place(&self) -> [f32; 2] {
        match self.gait {
            Gait::Roams { offset, .. } => self.place.map(|coordinate| coordinate + offset),
            Gait::Oscillates { .. } => self.place,
        }
    }

    fn set_goal(&mut self) {
        let way = WAY * self.cell;
        let low = [0, 1].map(|axis| (self.place[axis] - way).max(self.low[axis]));
        let high = [0, 1].map(|axis| (self.place[axis] + way).min(self.high[axis]));
        let next = self.draw(low, high);
        let moves = if self.number() < RESTS { self.number() * REST_MOVES } else { 0.0 };
        if let Gait::Roams { goal, rest, .. } = &mut self.gait {
            (*goal, *rest) = (next, moves as u32);
        }
    }

    /// Over an edge of the grid that is somewhere within the bounds.
    fn oscillation(&mut self, may_leap: bool) -> Gait {
        let cells = ((self.high[0] - self.low[0]) / self.cell).floor().max(2.0);
        let edge = self.low[0] + (1.0 + (self.number() * (cells - 1.0)).floor()) * self.cell;
        let leaps = self.number() < 0.5 && may_leap;
        let least = if leaps { 0.3 } else { 0.05 };
        let reach = (least + self.number() * (0.45 - least)) * self.cell;
        let reach = reach.min(edge - self.low[0]).min(self.high[0] - edge).max(0.0);
        let top = (self.high[1] - self.cell * 0.2).max(self.low[1]);
        self.place = [edge - reach, self.draw(self.low, [self.high[0], top])[1]];
        Gait::Oscillates { edge, reach, leaps, forth: true, moves: 0 }
    }

    fn draw(&mut self, low: [f32; 2], high: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|axis| low[axis] + self.number() * (high[axis] - low[axis]))
    }

    /// From 0 to 1.
    fn number(&mut self) -> f32 {
        self.draws += 1;
        unit(random(self.stream, self.draws))
    }
}

fn unit(random: u64) -> f32 {
    (random >> 40) as f32 / (1_u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_stays_within_the_bounds_and_the_crowd_within_a_cell() {
        let bounds = Bounds { min: [-50.0, 0.0, 0.0], max: [110.0, 160.0, 0.0] };
        for (crowd, spread_max) in [(0.0, 160.0), (1.0, 35.5)] {
            let paths = Paths { bounds, cell: 32.0, crowd, may_leap: true, seed: 3 };
            let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
            for number in 0..500 {
                let mut walker = paths.walker(number);
                for _ in 0..600 {
                    let place = walker.step(0.25);
                    assert!(bounds.contain([place[0], place[1], 0.0], 2), "{number} at {place:?}");
                    low = [0, 1].map(|axis| low[axis].min(place[axis]));
                    high = [0, 1].map(|axis| high[axis].max(place[axis]));
                }
            }
            assert!((0..2).all(|axis| high[axis] - low[axis] <= spread_max), "{low:?} {high:?}");
        }
    }

    #[test]
    fn some_leap_over_edges_some_go_together_and_most_roam() {
        let bounds = Bounds { min: [0.0; 3], max: [320.0; 3] };
        let paths = Paths { bounds, cell: 32.0, crowd: 0.0, may_leap: true, seed: 1 };
        let mut walkers: Vec<Walker> = (0..1000).map(|number| paths.walker(number)).collect();
        let oscillating = |walker: &&Walker| matches!(walker.gait, Gait::Oscillates { .. });
        let count = walkers.iter().filter(oscillating).count();
        assert!((60..140).contains(&count), "{count}");
        let strides: Vec<f32> =
            walkers.iter_mut().map(|walker| -walker.place()[0] + walker.step(0.25)[0]).collect();
        let leaps = strides.iter().filter(|stride| stride.abs() > 19.0).count();
        assert!((25..80).contains(&leaps), "{leaps}");
        let together = |train: &&[f32]| train.iter().all(|stride| (stride - train[0]).abs() < 1e-3);
        let trains = strides.chunks_exact(TRAIN as usize).filter(together).count();
        assert!((3..20).contains(&trains), "{trains}");
    }
}
