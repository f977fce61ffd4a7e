//! The native protocol at the sans-I/O border, in virtual time.

mod connections;
mod crowds;
#[path = "../support/layouts.rs"]
mod layouts;
mod operators;
mod play;
mod seats;
mod standstill;
mod with_layouts;
#[path = "../world/mod.rs"]
mod world;
