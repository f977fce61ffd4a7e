//! A square grid over a game's bounds: which cell a place is in, and which cells are near each other.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use crate::planted;

/// Part of a cell by which a place must be beyond its home cell's edge before it counts in the next one.
const HYSTERESIS: f64 = 0.25;

/// A cell of a grid. Cells are ordered by row, then column, so those of a square are one range per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell(NonZeroU32);

impl Cell {
    /// The cell in `column` and `row`, both below `limits::GRID_SIDE_CELLS_MAX`.
    pub fn at(column: u16, row: u16) -> Self {
        Self(NonZeroU32::MIN.saturating_add(u32::from(row) << 16 | u32::from(column)))
    }

    /// Column, from the smallest x.
    pub fn column(self) -> u16 {
        (self.0.get() - 1) as u16
    }

    /// Row, from the smallest y.
    pub fn row(self) -> u16 {
        ((self.0.get() - 1) >> 16) as u16
    }

    /// Chebyshev distance, in cells.
    pub fn distance(self, other: Self) -> u16 {
        self.column().abs_diff(other.column()).max(self.row().abs_diff(other.row()))
    }
}

/// A grid of square cells. Places outside of the bounds count in the cells at the border.
#[derive(Debug)]
pub struct Grid {
    x: Axis,
    y: Axis,
}

impl Grid {
    /// Cells of size `cell` over `bounds`: `min_x, min_y, max_x, max_y`, in the units of positions.
    pub fn new(cell: f32, bounds: [f32; 4]) -> Self {
        let [min_x, min_y, max_x, max_y] = bounds;
        Self { x: Axis::new(cell, min_x, max_x), y: Axis::new(cell, min_y, max_y) }
    }

    /// The cell that a place is in.
    pub fn cell_at(&self, x: f32, y: f32) -> Cell {
        Cell::at(self.x.index(x), self.y.index(y))
    }

    /// The cell that an entity of cell `home` counts in now: another one only if it is a quarter of a cell beyond the edge.
    pub fn cell_from(&self, home: Cell, x: f32, y: f32) -> Cell {
        if planted!(CrossesAtTheEdge) {
            return self.cell_at(x, y);
        }
        Cell::at(self.x.index_from(home.column(), x), self.y.index_from(home.row(), y))
    }

    /// The cells within `radius` of `center`, row by row.
    pub fn rows_around(&self, center: Cell, radius: u8) -> impl Iterator<Item = RangeInclusive<Cell>> {
        let columns = self.x.around(center.column(), radius);
        self.y.around(center.row(), radius).map(move |row| {
            let (first, last) = (*columns.start(), *columns.end());
            Cell::at(first, row)..=Cell::at(last, row)
        })
    }

    /// A place in 255ths of the bounds.
    pub fn coarse(&self, x: f32, y: f32) -> (u8, u8) {
        (self.x.coarse(x), self.y.coarse(y))
    }
}

/// One side of a grid.
#[derive(Debug)]
struct Axis {
    min: f64,
    length: f64,
    cell: f64,
    cells: u16,
}

impl Axis {
    fn new(cell: f32, min: f32, max: f32) -> Self {
        let length = f64::from(max) - f64::from(min);
        let cell = f64::from(cell);
        Self { min: f64::from(min), length, cell, cells: (length / cell).ceil().max(1.0) as u16 }
    }

    fn index(&self, place: f32) -> u16 {
        // A conversion of what is below 0, or no number, gives 0.
        (((f64::from(place) - self.min) / self.cell).floor() as u16).min(self.cells - 1)
    }

    fn index_from(&self, home: u16, place: f32) -> u16 {
        let from_edge = (f64::from(place) - self.min) / self.cell - f64::from(home);
        let stays = (-HYSTERESIS..1.0 + HYSTERESIS).contains(&from_edge);
        if stays { home } else { self.index(place) }
    }

    fn around(&self, center: u16, radius: u8) -> RangeInclusive<u16> {
        let radius = u16::from(radius);
        center.saturating_sub(radius)..=center.saturating_add(radius).min(self.cells - 1)
    }

    fn coarse(&self, place: f32) -> u8 {
        ((f64::from(place) - self.min) / self.length * 255.0).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_cell_changes_a_quarter_beyond_its_edge() {
        let grid = Grid::new(8.0, [-16.0, 0.0, 16.0, 20.0]);
        assert_eq!(grid.cell_at(-16.0, 19.0), Cell::at(0, 2));
        assert_eq!(grid.cell_at(99.0, -99.0), Cell::at(3, 0), "outside: the border");
        assert_eq!(grid.cell_at(f32::NAN, 20.0), Cell::at(0, 2));
        let home = Cell::at(1, 1);
        for (x, y, cell) in [
            (1.75, 8.0, home),
            (-9.75, 8.0, home),
            (2.0, 8.0, Cell::at(2, 1)),
            (-10.25, 17.0, Cell::at(0, 1)),
            (-4.0, 18.0, Cell::at(1, 2)),
        ] {
            assert_eq!(grid.cell_from(home, x, y), cell, "{x}, {y}");
        }
        assert_eq!((grid.coarse(-99.0, 20.0), grid.coarse(16.0, 0.0)), ((0, 255), (255, 0)));
    }

    #[test]
    fn a_square_of_cells_is_a_range_per_row() {
        let grid = Grid::new(1.0, [0.0, 0.0, 5.0, 4.0]);
        let rows: Vec<_> = grid.rows_around(Cell::at(4, 1), 2).collect();
        assert_eq!(rows.len(), 4, "rows 0 to 3");
        assert_eq!(rows[1], Cell::at(2, 1)..=Cell::at(4, 1));
        assert_eq!(Cell::at(4, 1).distance(Cell::at(2, 2)), 2);
        assert!(Cell::at(4, 1) < Cell::at(0, 2));
    }
}
