//! The figures of `storm`.

use crate::figures::{Spec, Unit, headline, spec};

/// Figures of `storm`.
pub static FIGURES: &[Spec] = &[
    headline("joined", Unit::Count, "clients whose join was answered with ok"),
    spec("not_joined", Unit::Count, "clients whose join was not"),
    headline("closed", Unit::Count, "clients that joined and whose connection ended"),
    spec("states", Unit::Count, "clients that got a presence_state after their join reply"),
    headline("stateless", Unit::Count, "joined - states"),
    headline(
        "presence_frames_per_s_max",
        Unit::Count,
        "most presence_* messages of one client in any second",
    ),
    spec("join_time", Unit::Duration, "from the first client's time to the last join reply"),
    spec("joins_per_s", Unit::Number, "joined / join_time"),
    spec("join_p50", Unit::Duration, "from when a client was meant to connect to its join reply"),
    headline("join_p99", Unit::Duration, "99 % of the joins were answered within"),
    spec("join_max", Unit::Duration, "the slowest join"),
    spec("state_p50", Unit::Duration, "from when a client was meant to connect to its state"),
    spec("state_p99", Unit::Duration, "99 % of the states arrived within"),
    spec("state_max", Unit::Duration, "the slowest state"),
    spec("start_lateness_max", Unit::Duration, "the latest connect, after its time"),
    spec("presence_states", Unit::Count, "presence_state messages received"),
    spec("presence_diffs", Unit::Count, "presence_diff messages received"),
    spec("presence_counts", Unit::Count, "presence_count messages received"),
    spec("window", Unit::Duration, "from the first connect to the end of --hold"),
    spec("frames_received", Unit::Count, "WebSocket messages received, all of them"),
    spec("bytes_received", Unit::Count, "bytes received"),
    spec("frames_per_client", Unit::Number, "frames_received / joined"),
    spec("bytes_per_client", Unit::Number, "bytes_received / joined"),
    spec("rate_limited", Unit::Count, "rate_limited messages received"),
    spec("errors", Unit::Count, "error replies received, besides those to joins"),
    spec("notices", Unit::Count, "disconnect_warning and server_draining messages received"),
    spec("malformed", Unit::Count, "messages received that are none of the protocol"),
    spec("client.cpu_cores", Unit::Number, "processor time of this load test / window"),
    spec("server.cpu_cores", Unit::Number, "processor time of the relay / window"),
    headline("server.cpu_us_per_client", Unit::Number, "µs of it per client that joined"),
    spec("server.rss_bytes", Unit::Bytes, "resident memory of the relay at the end"),
    spec("server.rss_growth_bytes", Unit::Bytes, "and how much it grew"),
];
