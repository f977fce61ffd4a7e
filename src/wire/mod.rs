//! Bytes to messages and back. Pure; the only floor that knows byte layouts.

pub mod encoded;
pub mod format;
pub mod frame;
pub mod game_state;
pub mod join;
pub mod json;
pub mod layout;
pub mod message;
pub mod meta;
pub mod native;
pub mod operation;
pub mod phoenix;
pub mod push;
pub mod seen;
pub mod token;
pub mod upgrade;
