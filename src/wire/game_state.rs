//! The game-state layout of Phoenix clients (PROTOCOL 4): `game_state` in, `game_update` out.
//!
//! ```text
//! position_count u32 | objects_count u32 | Positions | Objects        big-endian, no padding
//! ```

use super::layout::Layout;
use super::native::{HostSteps, Solid};

/// Bytes before the positions.
pub const HEADER_BYTES: usize = 8;

/// A state that a client has sent. Coordinates are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct GameState<'a> {
    /// States of players.
    pub positions: HostSteps<'a>,
    /// Objects to put.
    pub objects: Vec<Solid>,
}

/// What is wrong with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The counts do not say how long it is.
    #[error(
        "game_state is 8 bytes of counts (n u32, m u32), n positions of {position_bytes} bytes and m objects of {object_bytes}, \
         big-endian; its length does not fit its counts"
    )]
    Length {
        /// Of one, in this game.
        position_bytes: usize,
        /// Of one, in this game.
        object_bytes: usize,
    },
    /// A coordinate is infinite or not a number.
    #[error("a coordinate is not a finite number")]
    NotFinite,
}

/// Reads a state that a client has sent to a game of this layout.
pub fn decode<'a>(bytes: &'a [u8], layout: &Layout) -> Result<GameState<'a>, Malformed> {
    let (position_bytes, object_bytes) = (layout.held_bytes(), layout.put_object_bytes());
    let wrong_length = Malformed::Length { position_bytes, object_bytes };
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(wrong_length)?;
    let count = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (positions, objects) = (u64::from(count(0)), u64::from(count(4)));
    let positions_bytes = positions * position_bytes as u64;
    if positions_bytes + objects * object_bytes as u64 != rest.len() as u64 {
        return Err(wrong_length);
    }
    let (positions, objects) = rest.split_at(positions_bytes as usize);
    let positions = HostSteps::of_held(positions, layout).ok_or(wrong_length)?;
    let objects: Vec<Solid> = objects.chunks_exact(object_bytes).map(|bytes| layout.object(bytes)).collect();
    let are_finite = positions.iter().all(|step| layout.is_finite(step.state))
        && objects.iter().all(|object| object.place().iter().all(|coordinate| coordinate.is_finite()));
    if are_finite { Ok(GameState { positions, objects }) } else { Err(Malformed::NotFinite) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PlayerId;
    use crate::wire::layout::Number;

    const PLAIN: Layout = Layout::PLAIN;

    fn state(positions: u32, objects: u32, body: &[u8]) -> Vec<u8> {
        [&positions.to_be_bytes(), &objects.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_state_is_read_by_the_layout_of_its_game() {
        let rich = Layout { number: Number::U16, axes: 3, pose_bytes: 4, ..PLAIN };
        for layout in [PLAIN, rich] {
            let held = [&7u32.to_be_bytes()[..], &layout.state_at([1.5, -2.0, 3.0])].concat();
            let body = [held, vec![0; layout.put_object_bytes()]].concat();
            let bytes = state(1, 1, &body);
            let decoded = decode(&bytes, &layout).unwrap();
            let first = decoded.positions.iter().next().unwrap();
            let z = if layout.axes == 3 { 3.0 } else { 0.0 };
            assert_eq!((first.player, layout.place(first.state)), (PlayerId(7), [1.5, -2.0, z]));
            assert_eq!(decoded.objects.len(), 1);
            assert_eq!(decode(&state(0, 0, &[]), &layout).map(|state| state.positions.count()), Ok(0));
        }
        let twelve = state(1, 0, &[0; 12]);
        let refused = decode(&twelve, &rich).unwrap_err().to_string();
        assert!(refused.contains("n positions of 20 bytes and m objects of 20"), "{refused}");
    }

    #[test]
    fn counts_that_lie_and_numbers_that_are_none_are_refused() {
        let wrong_length = Err(Malformed::Length { position_bytes: 12, object_bytes: 16 });
        for (positions, objects, bytes) in [(1, 0, 11), (1, 0, 13), (0, 1, 12), (u32::MAX, u32::MAX, 28)] {
            assert_eq!(decode(&state(positions, objects, &vec![0; bytes]), &PLAIN), wrong_length);
        }
        assert_eq!(decode(&[0; 7], &PLAIN), wrong_length);
        let mut body = vec![0; 12];
        body[4..8].copy_from_slice(&f32::NAN.to_be_bytes());
        assert_eq!(decode(&state(1, 0, &body), &PLAIN), Err(Malformed::NotFinite));
    }
}
