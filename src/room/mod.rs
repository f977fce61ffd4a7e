//! One topic: commands in, effects out.

pub mod game;
