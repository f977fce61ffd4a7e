//! What an operator sets for views, and what of it cannot be.

use crate::limits::{
    GRID_CELLS_MAX, GRID_SIDE_CELLS_MAX, VIEW_BUDGET_DEFAULT, VIEW_RADIUS_DEFAULT, VIEW_RADIUS_MAX,
};

/// Who is told of whom, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewRules {
    /// Side of a cell, in the units of positions.
    pub cell: f32,
    /// Radius of a view unless its member asks for another, in cells.
    pub radius: u8,
    /// Largest radius that a member gets, in cells.
    pub radius_max: u8,
    /// Positions that a frame is expected to hold; beyond it they are told less often.
    pub budget: u16,
    /// Rounds of the overview per second; 0: there is none.
    pub overview_hz: f32,
    /// Kinds of objects that all see, wherever they are.
    pub everywhere: Box<[u16]>,
}

impl ViewRules {
    /// Only the size of a cell has no default.
    pub fn new(cell: f32) -> Self {
        Self {
            cell,
            radius: VIEW_RADIUS_DEFAULT,
            radius_max: VIEW_RADIUS_DEFAULT,
            budget: VIEW_BUDGET_DEFAULT,
            overview_hz: 0.0,
            everywhere: Box::default(),
        }
    }

    /// Time of a round of the overview in a game that is no crowd, in ms; 0: there is none.
    pub fn overview_ms(&self) -> u32 {
        if self.overview_hz > 0.0 { (1_000.0 / self.overview_hz) as u32 } else { 0 }
    }

    /// `Err`: why there cannot be such views in a game with `bounds` (`min_x, min_y, max_x, max_y`), and what would do.
    pub fn check(&self, bounds: [f32; 4]) -> Result<(), String> {
        let Self { cell, radius, radius_max, budget, overview_hz, everywhere: _ } = *self;
        if !(cell.is_finite() && cell > 0.0) {
            return Err(format!("view.cell is {cell}; it must be a size above 0, in the units of positions"));
        }
        if radius_max > VIEW_RADIUS_MAX {
            return Err(format!(
                "view.radius_max is {radius_max}; it can be at most {VIEW_RADIUS_MAX} cells"
            ));
        }
        if radius > radius_max {
            return Err(format!("view.radius is {radius}, which is more than view.radius_max, {radius_max}"));
        }
        if budget == 0 {
            return Err("view.budget is 0; it must be at least 1 position per frame".to_owned());
        }
        if !(overview_hz.is_finite() && overview_hz >= 0.0) {
            return Err(format!("view.overview_hz is {overview_hz}; it must be 0 (none) or more"));
        }
        if bounds.iter().any(|side| !side.is_finite() || side.abs() == f32::MAX) {
            return Err(
                "a view needs bounds on all sides, because it divides what is within them into cells: \
                        give for example bounds = [0, 0, 1000, 1000], which are min_x, min_y, max_x, max_y"
                    .to_owned(),
            );
        }
        let [min_x, min_y, max_x, max_y] = bounds.map(f64::from);
        let (width, height) = (max_x - min_x, max_y - min_y);
        if width < 0.0 || height < 0.0 {
            return Err("bounds must be min_x, min_y, max_x, max_y, minima first".to_owned());
        }
        if !fits(f64::from(cell), width, height) {
            let smallest = smallest_cell(width, height);
            return Err(format!(
                "view.cell is {cell}, which makes more than {GRID_CELLS_MAX} cells (or {GRID_SIDE_CELLS_MAX} along a side) \
                 of these bounds; the smallest that would do is {smallest}"
            ));
        }
        Ok(())
    }
}

fn fits(cell: f64, width: f64, height: f64) -> bool {
    let side = |length: f64| (length / cell).ceil().max(1.0);
    let (columns, rows) = (side(width), side(height));
    columns.max(rows) <= f64::from(GRID_SIDE_CELLS_MAX) && columns * rows <= f64::from(GRID_CELLS_MAX)
}

/// To three digits, rounded up.
fn smallest_cell(width: f64, height: f64) -> f32 {
    let by_area = (width * height / f64::from(GRID_CELLS_MAX)).sqrt();
    let by_side = width.max(height) / f64::from(GRID_SIDE_CELLS_MAX);
    let least = by_area.max(by_side);
    let step = 10f64.powi(least.log10().floor() as i32 - 2);
    let mut steps = (least / step).floor();
    while !fits(f64::from((steps * step) as f32), width, height) {
        steps += 1.0;
    }
    (steps * step) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f32; 4] = [0.0, 0.0, 1000.0, 1000.0];

    #[test]
    fn what_cannot_be_is_refused_with_what_would_do() {
        let refused = |rules: ViewRules, bounds: [f32; 4]| rules.check(bounds).unwrap_err();
        assert_eq!(ViewRules::new(32.0).check(BOUNDS), Ok(()));
        let open = [f32::MIN, f32::MIN, f32::MAX, f32::MAX];
        assert!(refused(ViewRules::new(32.0), open).contains("bounds = [0, 0, 1000, 1000]"));
        assert!(refused(ViewRules::new(32.0), [0.0, 0.0, f32::INFINITY, 1.0]).contains("needs bounds"));
        for cell in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(refused(ViewRules::new(cell), BOUNDS).starts_with("view.cell is"));
        }
        let rules = || ViewRules::new(32.0);
        assert!(refused(ViewRules { radius: 3, ..rules() }, BOUNDS).contains("view.radius is 3"));
        assert!(refused(ViewRules { radius_max: 9, ..rules() }, BOUNDS).contains("at most 8"));
        assert!(refused(ViewRules { budget: 0, ..rules() }, BOUNDS).contains("view.budget is 0"));
        assert!(refused(ViewRules { overview_hz: f32::NAN, ..rules() }, BOUNDS).contains("overview_hz"));
    }

    #[test]
    fn the_smallest_cell_that_is_named_would_do() {
        for bounds in [BOUNDS, [-5e8, -1.0, 7e8, 1.0], [0.0, 0.0, 3e30, 2e30], [0.0, 0.0, 1e-3, 0.0]] {
            let text = ViewRules::new(1e-30).check(bounds).unwrap_err();
            let smallest: f32 = text.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(ViewRules::new(smallest).check(bounds), Ok(()), "{text}");
            assert!(ViewRules::new(smallest * 0.98).check(bounds).is_err(), "{text}");
        }
        assert_eq!(smallest_cell(1000.0, 1000.0), 0.977);
    }
}
