//! What a game says of itself in its Welcome and its Layout, and how its positions are read.

use corelay::wire::layout::{AXES_MAX, Bounds, Layout, Number};
use corelay::wire::native::{LayoutRecord, Welcome};

/// A game without bounds of its own is walked in a square of this side at most.
const SIDE_MAX: f32 = 1e6;

/// See the module documentation. Before its records have come it is a game without anything.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub tick_hz: u16,
    /// Infinite: not checked.
    pub max_speed: f32,
    pub layout: Layout,
    pub bounds: Bounds,
    pub view: Option<View>,
}

/// Who sees whom: everything in the cells within `radius` of one's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub cell: f32,
    pub radius: u8,
}

impl Default for World {
    fn default() -> Self {
        Self {
            tick_hz: 1,
            max_speed: f32::INFINITY,
            layout: Layout::PLAIN,
            bounds: Bounds::default(),
            view: None,
        }
    }
}

impl World {
    pub fn handle_welcome(&mut self, welcome: &Welcome) {
        self.tick_hz = welcome.tick_hz.get().max(1);
        self.max_speed = welcome.max_speed.get();
        (self.bounds.min[0], self.bounds.min[1]) = (welcome.min_x.get(), welcome.min_y.get());
        (self.bounds.max[0], self.bounds.max[1]) = (welcome.max_x.get(), welcome.max_y.get());
    }

    pub fn handle_layout(&mut self, record: &LayoutRecord) {
        let &LayoutRecord { number, axes, pose_bytes, keys, key_bytes_max, radius, .. } = record;
        let number = if number == 0 { Number::F32 } else { Number::U16 };
        self.layout = Layout { number, axes: axes.clamp(2, AXES_MAX as u8), pose_bytes, keys, key_bytes_max };
        (self.bounds.min[2], self.bounds.max[2]) = (record.min_z.get(), record.max_z.get());
        self.view =
            (record.flags & LayoutRecord::VIEWS != 0).then(|| View { cell: record.cell.get(), radius });
    }

    /// Where players may walk: a square around the origin where the game has no bounds.
    pub fn area(&self, side: f32) -> Bounds {
        let is_small = (0..2).all(|axis| self.bounds.max[axis] - self.bounds.min[axis] <= SIDE_MAX);
        let half = side / 2.0;
        if is_small { self.bounds } else { Bounds { min: [-half, -half, 0.0], max: [half, half, 0.0] } }
    }

    /// The seat and the place of a Position.
    pub fn position(&self, bytes: &[u8]) -> (u16, [f32; 2]) {
        let (id, rest) = bytes.split_at(self.layout.gone_player_bytes());
        let coordinate = |axis: usize| match self.layout.number {
            Number::F32 => f32::from_be_bytes(array(&rest[4 * axis..])),
            Number::U16 => {
                let [min, max] = [self.bounds.min[axis], self.bounds.max[axis]].map(f64::from);
                let step = u16::from_be_bytes(array(&rest[2 * axis..]));
                (min + f64::from(step) * (max - min) / f64::from(u16::MAX)) as f32
            }
        };
        (self.seat(id), [coordinate(0), coordinate(1)])
    }

    /// The seat that a frame names.
    pub fn seat(&self, id: &[u8]) -> u16 {
        match self.layout.number {
            Number::F32 => seat_of(u32::from_be_bytes(array(id))),
            Number::U16 => u16::from_be_bytes(array(id)),
        }
    }

    /// How far a place that is told may be from the one that was sent.
    pub fn rounding(&self) -> [f32; 2] {
        match self.layout.number {
            Number::F32 => [0.0; 2],
            Number::U16 => {
                [0, 1].map(|axis| (self.bounds.max[axis] - self.bounds.min[axis]) / 65_535.0 * 0.52)
            }
        }
    }
}

pub fn seat_of(player: u32) -> u16 {
    (player as u16).wrapping_sub(1)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the layout says how long it is")
}
