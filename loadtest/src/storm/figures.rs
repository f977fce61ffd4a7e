//! The figures of `storm`.

use crate::figures::Unit::{Bytes, Count, Duration, Number};
use crate::figures::{Spec, headline, spec};

/// Figures of `storm`.
pub static FIGURES: &[Spec] = &[
    headline("joined", Count, "clients whose join was answered with ok"),
    spec("not_joined", Count, "clients whose join was not"),
    headline("closed", Count, "clients that joined and whose connection ended"),
    spec("states", Count, "clients that got a presence_state after their join reply"),
    headline("stateless", Count, "joined - states"),
    headline("presence_frames_per_s_max", Count, "most presence_* messages of one client in any second"),
    spec("join_time", Duration, "from the first client's time to the last join reply"),
    spec("joins_per_s", Number, "joined / join_time"),
    spec("join_p50", Duration, "from when a client was meant to connect to its join reply"),
    headline("join_p99", Duration, "99 % of the joins were answered within"),
    spec("join_max", Duration, "the slowest join"),
    spec("state_p50", Duration, "from when a client was meant to connect to its state"),
    spec("state_p99", Duration, "99 % of the states arrived within"),
    spec("state_max", Duration, "the slowest state"),
    spec("start_lateness_max", Duration, "the latest connect, after its time"),
    spec("presence_states", Count, "presence_state messages received"),
    spec("presence_diffs", Count, "presence_diff messages received"),
    spec("presence_counts", Count, "presence_count messages received"),
    spec("window", Duration, "from the first connect to the end of --hold"),
    spec("frames_received", Count, "WebSocket messages received, all of them"),
    spec("bytes_received", Count, "bytes received"),
    spec("frames_per_client", Number, "frames_received / joined"),
    spec("bytes_per_client", Number, "bytes_received / joined"),
    spec("rate_limited", Count, "rate_limited messages received"),
    spec("errors", Count, "error replies received, besides those to joins"),
    spec("notices", Count, "disconnect_warning and server_draining messages received"),
    spec("malformed", Count, "messages received that are none of the protocol"),
    spec("client.cpu_cores", Number, "processor time of this load test / window"),
    spec("server.cpu_cores", Number, "processor time of the relay / window"),
    headline("server.cpu_us_per_client", Number, "µs of it per client that joined"),
    spec("server.rss_bytes", Bytes, "resident memory of the relay at the end"),
    spec("server.rss_growth_bytes", Bytes, "and how much it grew"),
];
