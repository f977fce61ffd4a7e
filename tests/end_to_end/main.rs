//! The real binary over the real kernel: what the tests of the core show with virtual time holds on sockets, too.
//!
//! Each test has a relay of its own, in a process of its own. What is waited for is a frame, a line of the log,
//! or a number in `/metrics`, never a fixed time.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the log of a relay whose test failed")]
#![allow(clippy::disallowed_methods, reason = "the clocks here are real")]

mod certificates;
mod deploy;
mod documents;
mod goodbyes;
mod keys;
mod member;
mod misuse;
mod operations;
mod packages;
mod play;
mod player;
#[path = "../support/records.rs"]
mod records;
mod refused;
mod relay;
mod rooms;
mod rough;
mod seats;
mod socket;
mod standstill;
mod store_tools;
mod stream;
mod tls;
mod tls_floods;
