//! The figures of `scaling`.

use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Spec, headline, spec};

/// Figures of `scaling`; what is not said to be of all sizes is of the largest.
pub static FIGURES: &[Spec] = &[
    spec("sizes", Count, "sizes that were measured"),
    headline("connections", Count, "connections asked for"),
    spec("joined", Count, "players that got their Welcome"),
    headline("refused", Count, "connections that did not, over all sizes"),
    headline("dropped", Count, "players whose connection ended before its time, over all sizes"),
    spec("ramp_per_s", Number, "joins per second"),
    headline("user", Number, "bytes of the relay's resident memory per player"),
    headline("kernel", Number, "bytes of kernel memory per connection, one end"),
    spec("rss_top_bytes", Bytes, "resident memory of the relay with everybody in"),
    spec("rss_left", Number, "resident memory when everybody has gone / before the first"),
    spec("slab_left_bytes", Bytes, "kernel memory that did not come back"),
    spec("idle_cpu_cores", Number, "processor time of the relay / time while nobody moves"),
    spec("frame_cpu_us", Number, "µs of the relay's processor time per delivered frame"),
    spec("flat", Number, "frame_cpu_us / that at the smallest size with as many active players"),
    headline("reach", Number, "fresh / expected views of moves, the lowest of all sizes"),
    spec("p50", Duration, "age of a move when it is seen: half of the views"),
    headline("p99", Duration, "99 % of the views"),
    spec("max", Duration, "the slowest view"),
];
