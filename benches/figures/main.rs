//! Figures of a crowd, a flood and many tokens, measured on the real relay from outside. They are measurements, so they run by hand,
//! on a machine that does nothing else:
//!
//!     cargo test --release --test figures -- --ignored --nocapture --test-threads 1
//!
//! Each prints what it measured and fails above its bound. What is read from `/metrics` is a bucket's upper bound, so it is up to
//! twice what it stands for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was measured")]
#![allow(clippy::disallowed_methods, reason = "the clocks here are real")]
#![allow(dead_code, reason = "the relay's handle is shared with other tests")]

#[path = "../end_to_end/relay.rs"]
mod relay;

mod crowd;
mod flood;
mod histogram;
mod link;
mod tokens;
