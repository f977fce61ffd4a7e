//! Bytes to messages and back. Pure; the only floor that knows byte layouts.

pub mod encoded;
pub mod frame;
pub mod native;
pub mod token;
pub mod upgrade;
