//! Figures of a crowd, a flood, many tokens and many stored rooms, measured on the real relay from outside, on a machine that does nothing else:
//!
//!     cargo bench --bench figures
//!
//! Each prints what it measured and fails above its bound. What is read from `/metrics` is a bucket's upper bound, so it is up to
//! twice what it stands for.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was measured")]
#![allow(clippy::disallowed_methods, reason = "the clocks here are real")]
#![allow(dead_code, reason = "the relay's handle is that of the end-to-end tests")]

#[path = "../../tests/end_to_end/relay.rs"]
mod relay;

mod crowd;
mod flood;
mod histogram;
mod link;
mod stored;
mod tokens;

fn main() {
    // `cargo test` builds and starts benches, too, but is no time to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    crowd::a_crowd_joins_while_others_play();
    flood::a_flood_within_the_limits();
    tokens::many_joins_with_one_token();
    tokens::a_first_check_of_a_token();
    stored::many_rooms_are_on_disk();
}
