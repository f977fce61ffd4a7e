//! Phoenix Channels at the sans-I/O border, in virtual time.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod bounds;
mod crowds;
mod document_bounds;
mod document_members;
mod documents;
mod documents_made;
mod game_events;
mod games;
mod join_deadline;
#[path = "../support/layouts.rs"]
mod layouts;
mod misuse;
mod moderation;
mod oracle;
mod presence;
mod read_markers;
mod rooms;
mod seats;
mod store;
mod table;
mod token_costs;
mod tokens;
mod transcripts;
mod with_layouts;
#[path = "../world/mod.rs"]
mod world;
