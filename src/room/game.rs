//! A game: seats, positions, objects, events, and the frame of each tick.

use std::time::Duration;

use crate::limits;

/// Where positions may be: both corners belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Smallest x.
    pub min_x: f32,
    /// Smallest y.
    pub min_y: f32,
    /// Largest x.
    pub max_x: f32,
    /// Largest y.
    pub max_y: f32,
}

/// What an operator sets for the games whose name fits a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct GameRules {
    /// Which games: a `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// Frames per second, 1 to `limits::TICK_HZ_MAX`.
    pub tick_hz: u16,
    /// Where positions may be.
    pub bounds: Bounds,
    /// Distance per sliding second; infinite: not checked.
    pub max_speed: f32,
    /// Seats, held ones included.
    pub players_max: u32,
    /// How long a lost player's seat is held; zero: not at all.
    pub seat_hold: Duration,
}

impl Default for GameRules {
    fn default() -> Self {
        Self {
            pattern: "*".into(),
            tick_hz: limits::TICK_HZ_DEFAULT,
            bounds: Bounds { min_x: f32::MIN, min_y: f32::MIN, max_x: f32::MAX, max_y: f32::MAX },
            max_speed: f32::INFINITY,
            players_max: limits::PLAYERS_MAX_DEFAULT,
            seat_hold: limits::SEAT_HOLD_DEFAULT,
        }
    }
}
