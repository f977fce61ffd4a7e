//! The grid of a game with views: in which cells something may count, and how far cells are from each other.
//!
//! A relay keeps something in its cell until it is a quarter of a cell beyond the edge. In which of two cells something near
//! an edge counts depends on where it was at the end of each tick, which nobody else knows: so a place means a *span* of cells.

use corelay::wire::layout::Bounds;

/// How far beyond the edge something still counts in its former cell, in cells.
const HYSTERESIS: f32 = 0.25;
/// For what is rounded, in cells.
const ROUNDING: f32 = 0.001;

pub type Cell = [i32; 2];

#[derive(Clone, Copy, Debug)]
pub struct Grid {
    min: [f32; 2],
    cell: f32,
    /// Those that clamp.
    last: Cell,
}

/// Cells from `low` to `high` on each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    low: Cell,
    high: Cell,
}

/// Chebyshev distance in cells: at least, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    pub nearest: u32,
    pub farthest: u32,
}

impl Grid {
    pub fn new(bounds: &Bounds, cell: f32) -> Self {
        let last = [0, 1].map(|axis| ((bounds.max[axis] - bounds.min[axis]) / cell).ceil() as i32 - 1);
        Self { min: [bounds.min[0], bounds.min[1]], cell, last: last.map(|last| last.max(0)) }
    }

    /// Every cell in which something at `place` may count.
    pub fn possible(&self, place: [f32; 2]) -> Span {
        let slack = self.cell * (HYSTERESIS + ROUNDING);
        Span {
            low: self.cell_at(place.map(|coordinate| coordinate - slack)),
            high: self.cell_at(place.map(|coordinate| coordinate + slack)),
        }
    }

    /// In which cell something counts that has counted in `former` and is at `place` now.
    pub fn settle(&self, former: Cell, place: [f32; 2]) -> Cell {
        let (slack, anew) = (self.cell * HYSTERESIS, self.cell_at(place));
        [0, 1].map(|axis| {
            let low = self.min[axis] + former[axis] as f32 * self.cell;
            let keeps = (low - slack..low + self.cell + slack).contains(&place[axis]);
            if keeps { former[axis] } else { anew[axis] }
        })
    }

    pub fn cell_at(&self, place: [f32; 2]) -> Cell {
        [0, 1].map(|axis| {
            let index = ((place[axis] - self.min[axis]) / self.cell).floor() as i32;
            index.clamp(0, self.last[axis])
        })
    }
}

impl Span {
    pub fn of(cell: Cell) -> Self {
        Self { low: cell, high: cell }
    }

    /// The smallest that holds both.
    pub fn join(self, other: Self) -> Self {
        let [low, high] = [[self.low, other.low], [self.high, other.high]];
        Self {
            low: [0, 1].map(|axis| low[0][axis].min(low[1][axis])),
            high: [0, 1].map(|axis| high[0][axis].max(high[1][axis])),
        }
    }

    pub fn distance(&self, other: &Self) -> Distance {
        let axis = |axis: usize| {
            let (before, behind) = (self.low[axis] - other.high[axis], other.low[axis] - self.high[axis]);
            let farthest = (self.high[axis] - other.low[axis]).max(other.high[axis] - self.low[axis]);
            (before.max(behind).max(0).cast_unsigned(), farthest.cast_unsigned())
        };
        let ((near_x, far_x), (near_y, far_y)) = (axis(0), axis(1));
        Distance { nearest: near_x.max(near_y), farthest: far_x.max(far_y) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid::new(&Bounds { min: [-100.0, 0.0, 0.0], max: [0.0, 90.0, 0.0] }, 10.0)
    }

    #[test]
    fn a_place_means_all_cells_that_a_relay_may_count_it_in() {
        let span = |x, y| grid().possible([x, y]);
        assert_eq!(span(-95.0, 5.0), Span::of([0, 0]));
        assert_eq!(span(-88.0, 5.0), Span { low: [0, 0], high: [1, 0] });
        assert_eq!(span(-87.4, 42.0), Span { low: [1, 3], high: [1, 4] });
        assert_eq!(span(0.0, 90.0), Span::of([9, 8]), "the last cells clamp");
        for former in 0..4 {
            for tenths in 0..300_i16 {
                let place = [-100.0 + f32::from(tenths) / 10.0, 5.0];
                let settled = Span::of(grid().settle([former, 0], place));
                assert_eq!(grid().possible(place).join(settled), grid().possible(place), "{place:?}");
            }
        }
    }

    #[test]
    fn distances_are_those_of_the_nearest_and_of_the_farthest_cells() {
        let [near, far] = [Span { low: [1, 1], high: [2, 1] }, Span { low: [4, 0], high: [5, 9] }];
        let expected = Distance { nearest: 2, farthest: 8 };
        assert_eq!((near.distance(&far), far.distance(&near)), (expected, expected));
        assert_eq!(near.distance(&near), Distance { nearest: 0, farthest: 1 });
    }
}
