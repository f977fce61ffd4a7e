//! The game-state layout of Phoenix clients (PROTOCOL 4): `game_state` in, `game_update` out.
//!
//! ```text
//! position_count u32 | objects_count u32 | Positions | Objects        big-endian, no padding
//! ```

use zerocopy::FromBytes;

use super::native::{Object, Position};

/// Bytes before the positions.
pub const HEADER_BYTES: usize = 8;

/// A state as it lies in a message.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct GameState<'a> {
    pub positions: &'a [Position],
    pub objects: &'a [Object],
}

/// What is wrong with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The counts do not say how long it is.
    #[error(
        "game_state is 8 bytes of counts (n u32, m u32), n positions of 12 bytes and m objects of 16, big-endian; its length \
         does not fit its counts"
    )]
    Length,
    /// A coordinate is infinite or not a number.
    #[error("a coordinate is not a finite number")]
    NotFinite,
}

/// Reads a state where it lies.
pub fn decode(bytes: &[u8]) -> Result<GameState<'_>, Malformed> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Length)?;
    let count = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (positions, objects) = (u64::from(count(0)), u64::from(count(4)));
    let positions_bytes = positions * size_of::<Position>() as u64;
    if positions_bytes + objects * size_of::<Object>() as u64 != rest.len() as u64 {
        return Err(Malformed::Length);
    }
    let (positions, objects) = rest.split_at(positions_bytes as usize);
    let positions = <[Position]>::ref_from_bytes(positions).map_err(|_| Malformed::Length)?;
    let objects = <[Object]>::ref_from_bytes(objects).map_err(|_| Malformed::Length)?;
    let finite =
        positions.iter().all(|position| position.x.get().is_finite() && position.y.get().is_finite())
            && objects.iter().all(|object| object.x.get().is_finite() && object.y.get().is_finite());
    if finite { Ok(GameState { positions, objects }) } else { Err(Malformed::NotFinite) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(positions: u32, objects: u32, body: &[u8]) -> Vec<u8> {
        [&positions.to_be_bytes(), &objects.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_state_is_read_where_it_lies() {
        let mut body = Vec::new();
        body.extend_from_slice(&7u32.to_be_bytes());
        body.extend_from_slice(&1.5f32.to_be_bytes());
        body.extend_from_slice(&(-2.0f32).to_be_bytes());
        body.extend_from_slice(&[0; 16]);
        let bytes = state(1, 1, &body);
        let decoded = decode(&bytes).unwrap();
        let position = decoded.positions[0];
        assert_eq!((position.player_id.get(), position.x.get(), position.y.get()), (7, 1.5, -2.0));
        assert_eq!(decoded.objects.len(), 1);
        assert_eq!(decode(&state(0, 0, &[])).map(|state| state.positions.len()), Ok(0));
    }

    #[test]
    fn counts_that_lie_and_numbers_that_are_none_are_refused() {
        for (positions, objects, bytes) in [(1, 0, 11), (1, 0, 13), (0, 1, 12), (u32::MAX, u32::MAX, 28)] {
            assert_eq!(decode(&state(positions, objects, &vec![0; bytes])), Err(Malformed::Length));
        }
        assert_eq!(decode(&[0; 7]), Err(Malformed::Length));
        let mut body = vec![0; 12];
        body[4..8].copy_from_slice(&f32::NAN.to_be_bytes());
        assert_eq!(decode(&state(1, 0, &body)), Err(Malformed::NotFinite));
    }
}
