//! The figures of `million`.

use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Spec, headline, spec};

/// Figures of `million`.
pub static FIGURES: &[Spec] = &[
    headline("joined", Count, "players that got their Welcome"),
    headline("refused", Count, "connections that did not"),
    headline("dropped", Count, "players whose connection ended before the goodbyes"),
    spec("ramp_s", Number, "seconds from the first connect to the last Welcome"),
    spec("ramp_per_s", Number, "joined / ramp_s"),
    spec("rss_start_bytes", Bytes, "resident memory of the relay before the first connection"),
    spec("rss_top_bytes", Bytes, "with everybody in, after --quiet"),
    spec("rss_after_bytes", Bytes, "when everybody has gone"),
    spec("rss_left", Number, "rss_after_bytes / rss_start_bytes"),
    headline(
        "user_bytes_per_player",
        Number,
        "(rss_top_bytes - rss_start_bytes) / players that are there at the top",
    ),
    spec(
        "kernel_bytes_per_connection",
        Number,
        "growth of slab caches per end (relay here: both ends, halved), without what only clients have",
    ),
    spec(
        "client_kernel_bytes",
        Number,
        "per connection, growth of caches that only clients have, marked (client); not in the figure before",
    ),
    spec("sockstat_mem_bytes", Bytes, "TCP buffers of this machine after --quiet"),
    spec("idle_cpu_cores", Number, "processor time of the relay / time, in --quiet"),
    spec("hold_cpu_cores", Number, "the same in --hold"),
    spec("client_rss_bytes", Bytes, "resident memory of this load test with everybody in"),
    spec("client_idle_cpu_cores", Number, "processor time of this load test / time, in --quiet"),
    spec("client_cpu_cores", Number, "the same in --hold"),
    spec("active_players", Count, "players that move in --hold"),
    spec("frames", Count, "tick frames that they received in it"),
    headline("cpu_us_per_frame", Number, "(hold_cpu_cores - idle_cpu_cores) × --hold / frames, in µs"),
    headline("reach", Number, "views that were fresh / views expected"),
    spec("views_expected", Count, "moves of the hold × other players of the game"),
    spec("p50", Duration, "latency: intended send of a move to its arrival elsewhere"),
    spec("p90", Duration, "90 % of the views arrived within"),
    headline("p99", Duration, "99 % of the views arrived within"),
    spec("max", Duration, "the slowest view"),
    spec("moves", Count, "moves sent that were meant for the hold"),
    spec("late_share", Number, "of these, sent more than 1 ms after their time"),
    spec("lateness_p99", Duration, "99 % of these were sent within, after their time"),
    spec("pings", Count, "pings answered"),
    spec("malformed", Count, "messages received that are none of the protocol"),
    spec("slab_kept_bytes", Bytes, "growth of slab caches when everybody has gone and the relay runs on"),
    spec("slab_left_bytes", Bytes, "the same when the relay has ended, too (neither counts TIME_WAIT)"),
    spec("time_wait", Count, "ended connections of this machine in TIME_WAIT, in the end"),
];
