//! How the state of a game's players and objects lies in records (PROTOCOL 3, Layouts).
//!
//! A player's *state* is what its Step brings and what the game keeps: `axes × f32 | pose`, big-endian. A *held record* is the player
//! id and the state; where numbers are `f32` it is also what frames hold. Where they are `u16`, coordinates are put on the grid of
//! the game's bounds on the way out, so that what is checked stays exact.

use zerocopy::IntoBytes;

use super::native::Solid;
use crate::ids::PlayerId;

/// Where something is: x, y, z; `z` is 0 in a game of two axes.
pub type Place = [f32; AXES_MAX];

/// Axes that a game has at most.
pub const AXES_MAX: usize = 3;

/// How coordinates are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// As they came.
    F32,
    /// `v` means `min + v × (max − min) / 65535` of the game's bounds.
    U16,
}

impl Number {
    /// In configuration and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::U16 => "u16",
        }
    }
}

/// What the state of a game's players and objects consists of: one for all its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How coordinates are told.
    pub number: Number,
    /// 2 or 3.
    pub axes: u8,
    /// Bytes of pose, which only the players understand.
    pub pose_bytes: u8,
    /// Values that a player may set, which are told when they change: keys 1 to this.
    pub keys: u8,
    /// Bytes of such a value.
    pub key_bytes_max: u8,
}

impl Layout {
    /// Two axes and nothing else: what every client understands.
    pub const PLAIN: Self = Self { number: Number::F32, axes: 2, pose_bytes: 0, keys: 0, key_bytes_max: 64 };

    /// Whether every client understands it.
    pub fn is_plain(&self) -> bool {
        self.number == Number::F32 && self.axes == 2 && self.pose_bytes == 0 && self.keys == 0
    }

    /// Bytes of the coordinates of a state.
    pub fn place_bytes(&self) -> usize {
        4 * usize::from(self.axes)
    }

    /// Bytes of a player's state.
    pub fn state_bytes(&self) -> usize {
        self.place_bytes() + usize::from(self.pose_bytes)
    }

    /// Bytes of a held record.
    pub fn held_bytes(&self) -> usize {
        size_of::<u32>() + self.state_bytes()
    }

    /// Bytes of a Position in a frame.
    pub fn position_bytes(&self) -> usize {
        self.gone_player_bytes() + self.told_place_bytes() + usize::from(self.pose_bytes)
    }

    /// Bytes of an Object in a frame.
    pub fn object_bytes(&self) -> usize {
        Solid::HEAD_BYTES + self.told_place_bytes()
    }

    /// Bytes of an Object that a client puts.
    pub fn put_object_bytes(&self) -> usize {
        Solid::HEAD_BYTES + self.place_bytes()
    }

    /// Bytes by which a frame names a player: its id, or its seat.
    pub fn gone_player_bytes(&self) -> usize {
        match self.number {
            Number::F32 => size_of::<u32>(),
            Number::U16 => size_of::<u16>(),
        }
    }

    fn told_place_bytes(&self) -> usize {
        let number = match self.number {
            Number::F32 => size_of::<f32>(),
            Number::U16 => size_of::<u16>(),
        };
        usize::from(self.axes) * number
    }

    /// The coordinates at the start of a state.
    pub fn place(&self, state: &[u8]) -> Place {
        let Some([x0, x1, x2, x3, y0, y1, y2, y3]) = state.first_chunk() else { return Place::default() };
        let z = match state.get(8..).and_then(|rest| rest.first_chunk()).filter(|_| self.axes > 2) {
            Some(z) => f32::from_be_bytes(*z),
            None => 0.0,
        };
        [f32::from_be_bytes([*x0, *x1, *x2, *x3]), f32::from_be_bytes([*y0, *y1, *y2, *y3]), z]
    }

    /// Whether all coordinates of a state are finite.
    pub fn is_finite(&self, state: &[u8]) -> bool {
        self.place(state).iter().all(|coordinate| coordinate.is_finite())
    }

    /// A state without pose.
    pub fn state_at(&self, place: Place) -> Vec<u8> {
        let mut state: Vec<u8> =
            place[..usize::from(self.axes)].iter().flat_map(|coordinate| coordinate.to_be_bytes()).collect();
        state.resize(self.state_bytes(), 0);
        state
    }

    /// The object at the start of `bytes`, as clients put it and as it is held: `z` is 0 where there are two axes.
    pub fn object(&self, bytes: &[u8]) -> Solid {
        let mut object = Solid::default();
        let count = self.put_object_bytes();
        object.as_mut_bytes()[..count].copy_from_slice(&bytes[..count]);
        object
    }

    /// Appends the Position of a held record, as frames hold it.
    pub fn write_position(&self, held: &[u8], bounds: &Bounds, buffer: &mut Vec<u8>) {
        match self.number {
            Number::F32 => buffer.extend_from_slice(held),
            Number::U16 => {
                let (player, state) = split_held(held);
                buffer.extend_from_slice(&seat_of(player.0).to_be_bytes());
                self.write_grid(self.place(state), bounds, buffer);
                buffer.extend_from_slice(&state[self.place_bytes()..]);
            }
        }
    }

    /// Appends an Object, as frames hold it.
    pub fn write_object(&self, object: &Solid, bounds: &Bounds, buffer: &mut Vec<u8>) {
        match self.number {
            Number::F32 => buffer.extend_from_slice(&object.as_bytes()[..self.object_bytes()]),
            Number::U16 => {
                buffer.extend_from_slice(&object.as_bytes()[..Solid::HEAD_BYTES]);
                self.write_grid(object.place(), bounds, buffer);
            }
        }
    }

    /// Appends what names a player in a frame.
    pub fn write_player(&self, player: u32, buffer: &mut Vec<u8>) {
        match self.number {
            Number::F32 => buffer.extend_from_slice(&player.to_be_bytes()),
            Number::U16 => buffer.extend_from_slice(&seat_of(player).to_be_bytes()),
        }
    }

    fn write_grid(&self, place: Place, bounds: &Bounds, buffer: &mut Vec<u8>) {
        for (axis, coordinate) in place.into_iter().enumerate().take(self.axes.into()) {
            buffer.extend_from_slice(&bounds.on_grid(axis, coordinate).to_be_bytes());
        }
    }
}

/// The player id and the state of a held record.
pub fn split_held(held: &[u8]) -> (PlayerId, &[u8]) {
    let (id, state) = held.split_first_chunk().expect("a held record begins with an id");
    (PlayerId(u32::from_be_bytes(*id)), state)
}

/// A seat's index: the low 16 bits of its players' ids, less one.
fn seat_of(player: u32) -> u16 {
    (player as u16).wrapping_sub(1)
}

/// Where positions may be, by axis: both corners belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The smallest coordinates.
    pub min: Place,
    /// The largest coordinates.
    pub max: Place,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: [f32::MIN; AXES_MAX], max: [f32::MAX; AXES_MAX] }
    }
}

impl Bounds {
    /// Whether a place is inside; on an axis that the game does not have it is 0.
    pub fn contain(&self, place: Place, axes: u8) -> bool {
        let is_within = |axis: usize| (self.min[axis]..=self.max[axis]).contains(&place[axis]);
        is_within(0) && is_within(1) && (axes < 3 || is_within(2))
    }

    /// Whether an operator has set both sides of the first `axes` axes.
    pub fn are_set(&self, axes: u8) -> bool {
        let axes = usize::from(axes);
        self.min[..axes].iter().all(|min| *min > f32::MIN)
            && self.max[..axes].iter().all(|max| *max < f32::MAX)
    }

    /// The nearest place inside.
    pub fn nearest(&self, place: Place) -> Place {
        std::array::from_fn(|axis| place[axis].clamp(self.min[axis], self.max[axis]))
    }

    /// The nearest of 65,536 steps from side to side.
    fn on_grid(&self, axis: usize, coordinate: f32) -> u16 {
        // In f64 the way from side to side is finite, and a step is not lost.
        let [min, max, at] = [self.min[axis], self.max[axis], coordinate].map(f64::from);
        ((at - min) / (max - min) * f64::from(u16::MAX)).round() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: Layout = Layout { number: Number::U16, axes: 3, pose_bytes: 2, keys: 1, key_bytes_max: 9 };
    const BOUNDS: Bounds = Bounds { min: [-100.0, 0.0, -5.0], max: [100.0, 65_535.0, 5.0] };

    #[test]
    fn a_position_is_told_on_the_grid_of_the_bounds() {
        let mut held = 0x0003_0008_u32.to_be_bytes().to_vec();
        held.extend(RICH.state_at([-100.0, 1.4, 5.0]));
        held[16..].copy_from_slice(&[7, 9]);
        let mut told = Vec::new();
        RICH.write_position(&held, &BOUNDS, &mut told);
        assert_eq!(told, [0, 7, 0, 0, 0, 1, 0xFF, 0xFF, 7, 9], "the seat, three steps, the pose");
        assert_eq!((told.len(), held.len()), (RICH.position_bytes(), RICH.held_bytes()));
        let plain = Layout::PLAIN;
        let held = [&[0, 0, 0, 1][..], &plain.state_at([1.5, -2.0, 0.0])].concat();
        let mut told = Vec::new();
        plain.write_position(&held, &BOUNDS, &mut told);
        assert_eq!((told.len(), told == held), (12, true));
    }

    #[test]
    fn a_step_of_the_grid_is_never_farther_than_half_of_one() {
        for bounds in [BOUNDS, Bounds { min: [-3.0e38; 3], max: [3.0e38; 3] }] {
            for axis in 0..AXES_MAX {
                let [min, max] = [bounds.min[axis], bounds.max[axis]].map(f64::from);
                let step = (max - min) / 65_535.0;
                for part in 0..1_000 {
                    let at = (min + (max - min) * f64::from(part) / 999.0) as f32;
                    let told = min + f64::from(bounds.on_grid(axis, at)) * step;
                    assert!((told - f64::from(at)).abs() <= step * 0.501, "axis {axis} at {at}");
                }
            }
        }
    }

    #[test]
    fn an_object_has_the_numbers_and_the_axes_but_no_pose() {
        let mut bytes = vec![0, 0, 0, 9, 0, 1, 0, 2];
        bytes.extend(RICH.state_at([100.0, 0.0, 0.0]));
        let object = RICH.object(&bytes);
        assert_eq!((object.object.object_id.get(), object.place()), (9, [100.0, 0.0, 0.0]));
        let mut told = Vec::new();
        RICH.write_object(&object, &BOUNDS, &mut told);
        assert_eq!(told, [0, 0, 0, 9, 0, 1, 0, 2, 0xFF, 0xFF, 0, 0, 0x80, 0]);
        assert_eq!(told.len(), RICH.object_bytes());
    }
}
