//! The figures of `scaling`.

use crate::figures::{Spec, Unit, headline, spec};

/// Figures of `scaling`; what is not said to be of all sizes is of the largest.
pub static FIGURES: &[Spec] = &[
    spec("sizes", Unit::Count, "sizes that were measured"),
    headline("connections", Unit::Count, "connections asked for"),
    spec("joined", Unit::Count, "players that got their Welcome"),
    headline("refused", Unit::Count, "connections that did not, over all sizes"),
    headline("dropped", Unit::Count, "players whose connection ended before its time, over all sizes"),
    spec("ramp_per_s", Unit::Number, "joins per second"),
    headline("user", Unit::Number, "bytes of the relay's resident memory per player"),
    headline("kernel", Unit::Number, "bytes of kernel memory per connection, one end"),
    spec("rss_top_bytes", Unit::Bytes, "resident memory of the relay with everybody in"),
    spec("rss_left", Unit::Number, "resident memory when everybody has gone / before the first"),
    spec("slab_left_bytes", Unit::Bytes, "kernel memory that did not come back"),
    spec("idle_cpu_cores", Unit::Number, "processor time of the relay / time while nobody moves"),
    spec("frame_cpu_us", Unit::Number, "µs of the relay's processor time per delivered frame"),
    spec("flat", Unit::Number, "frame_cpu_us / that at the smallest size with as many active players"),
    headline("reach", Unit::Number, "fresh / expected views of moves, the lowest of all sizes"),
    spec("p50", Unit::Duration, "age of a move when it is seen: half of the views"),
    headline("p99", Unit::Duration, "99 % of the views"),
    spec("max", Unit::Duration, "the slowest view"),
];
