//! The native protocol at the sans-I/O border, in virtual time.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

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
