//! The figures a run reports: one list from which the table, the JSON and the assertions are made.

use std::fmt;

/// What a figure counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things; whole.
    Count,
    /// A share of 1, or a plain number.
    Number,
    /// Microseconds.
    Duration,
    /// Bytes.
    Bytes,
}

/// A figure's name and meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// As in the table and in `--assert`.
    pub name: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// One line.
    pub about: &'static str,
    /// Whoever reads two lines of a report only reads this.
    pub headline: bool,
}

impl Spec {
    /// Path in the JSON: sections as in the name, durations with `_us`, no dot within a key.
    pub fn json_path(&self) -> (Option<&'static str>, String) {
        let (section, key) = match self.name.split_once('.') {
            Some((section @ ("server" | "client"), key)) => (Some(section), key),
            _ => (None, self.name),
        };
        let suffix = if self.unit == Unit::Duration { "_us" } else { "" };
        (section, key.replace('.', "_") + suffix)
    }
}

/// Why there is none if nobody has looked.
pub const NOT_MEASURED: &str = "it was not measured";

/// A number, or why there is none.
pub type Value = Result<f64, String>;

/// A figure of one run.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name and meaning.
    pub spec: &'static Spec,
    /// Durations in µs.
    pub value: Value,
}

/// Puts values to names: `specs` in order, each exactly once.
///
/// # Panics
/// When a name is not in `specs`, or one of them is missing: the list and the code that fills it must agree.
pub fn fill(specs: &'static [Spec], values: &[(&str, Value)]) -> Vec<Figure> {
    let figure = |spec: &'static Spec| {
        let value = values.iter().find(|(name, _)| *name == spec.name);
        Figure { spec, value: value.unwrap_or_else(|| panic!("no value for {}", spec.name)).1.clone() }
    };
    assert_eq!(specs.len(), values.len(), "every value has a name");
    specs.iter().map(figure).collect()
}

/// The value as a person reads it.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, self.spec.unit) {
            (Err(_), _) => f.write_str("n/a"),
            (Ok(value), unit) => f.write_str(&text(*value, unit)),
        }
    }
}

/// `value` with its unit.
pub fn text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => grouped(value),
        Unit::Number if value.fract() == 0.0 => format!("{value}"),
        Unit::Number if value.abs() >= 100.0 => grouped(value),
        Unit::Number if value.abs() >= 1.0 && value.abs() < 100.0 => format!("{value:.2}"),
        Unit::Number => format!("{value:.5}"),
        Unit::Duration if value < 1000.0 => format!("{value:.0} µs"),
        Unit::Duration if value < 1e6 => format!("{:.2} ms", value / 1e3),
        Unit::Duration => format!("{:.2} s", value / 1e6),
        Unit::Bytes if value.abs() < 10_240.0 => format!("{value:.0} B"),
        Unit::Bytes if value.abs() < 10_485_760.0 => format!("{:.1} KiB", value / 1024.0),
        Unit::Bytes => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How much a value has grown; unknown if one of the two is.
pub fn difference(after: &Value, before: &Value) -> Value {
    Ok(after.clone()? - before.clone()?)
}

const fn spec(name: &'static str, unit: Unit, about: &'static str) -> Spec {
    Spec { name, unit, about, headline: false }
}

/// A figure that also stands at the top of the report.
const fn headline(name: &'static str, unit: Unit, about: &'static str) -> Spec {
    Spec { headline: true, ..spec(name, unit, about) }
}

/// Figures of `rooms`.
pub static ROOMS: &[Spec] = &[
    headline("joined", Unit::Count, "players (and stalled members) that are in their game"),
    spec("not_joined", Unit::Count, "those that did not"),
    spec("join_time", Unit::Duration, "from the first connect to the last join"),
    headline("closed", Unit::Count, "players whose connection ended during the run"),
    headline("reach", Unit::Number, "views that were fresh / views expected"),
    spec("views_expected", Unit::Count, "moves of the window × other players of the room"),
    spec("views_fresh", Unit::Count, "of these, arrived (or a newer one did) within --grace"),
    spec("views_delivered", Unit::Count, "of these, arrived at all"),
    headline("p50", Unit::Duration, "latency: intended send of a move to its arrival elsewhere"),
    spec("p90", Unit::Duration, "90 % of the views arrived within"),
    headline("p99", Unit::Duration, "99 % of the views arrived within"),
    spec("p99.9", Unit::Duration, "99.9 % of the views arrived within"),
    spec("max", Unit::Duration, "the slowest view"),
    spec("mean", Unit::Duration, "mean latency"),
    spec("moves", Unit::Count, "moves sent that were meant for the window"),
    spec("moves_unsent", Unit::Count, "moves whose player had not joined or was gone"),
    spec("moves_queued", Unit::Count, "moves that waited for their own busy socket"),
    spec("late", Unit::Count, "moves sent more than 1 ms after their time"),
    spec("late_share", Unit::Number, "late / moves"),
    spec("lateness_p99", Unit::Duration, "99 % of the moves were sent within, after their time"),
    spec("lateness_max", Unit::Duration, "the latest move"),
    spec("window", Unit::Duration, "length of the measured window"),
    spec("frames_received", Unit::Count, "WebSocket messages received in the window"),
    spec("positions_received", Unit::Count, "positions in the tick frames among them"),
    spec("bytes_received", Unit::Count, "bytes received in the window"),
    spec("frames_per_player_s", Unit::Number, "per player and second"),
    spec("bytes_per_player_s", Unit::Number, "per player and second"),
    spec("keyframe_share", Unit::Number, "Keyframes / tick frames"),
    spec("rate_limited", Unit::Count, "RateLimited records (rate_limited messages) received"),
    spec("corrections", Unit::Count, "Correction records (correction messages) received"),
    spec("errors", Unit::Count, "Error records (error replies) received"),
    spec("notices", Unit::Count, "Notice records (warnings before a close) received"),
    spec("malformed", Unit::Count, "messages received that are none of the protocol"),
    spec("positions_unknown", Unit::Count, "positions received that nobody sent"),
    spec("stalled_closed", Unit::Count, "members that stopped reading and were closed"),
    spec("client.cpu_cores", Unit::Number, "processor time of this load test / window"),
    spec("client.cpu_us_per_frame", Unit::Number, "µs of it per frame received"),
    spec("server.cpu_cores", Unit::Number, "processor time of the relay / window"),
    headline("server.cpu_us_per_frame", Unit::Number, "µs of it per frame received"),
    spec("server.rss_bytes", Unit::Bytes, "resident memory of the relay at the end of the window"),
    spec("server.rss_growth_bytes", Unit::Bytes, "and how much it grew within"),
    spec("server.frames_out", Unit::Count, "corelay_frames_out_total, within the window"),
    spec("server.deltas", Unit::Count, "corelay_deltas_total, within the window"),
    spec("server.keyframes", Unit::Count, "corelay_keyframes_total, within the window"),
    spec("server.frames_skipped", Unit::Count, "corelay_frames_skipped_total, within the window"),
    spec("server.enters", Unit::Count, "corelay_enters_total, within the window"),
    spec("server.completions", Unit::Count, "corelay_completions_total, within the window"),
];

/// Figures of `idle`.
pub static IDLE: &[Spec] = &[
    headline("joined", Unit::Count, "members that are in their game or topic"),
    spec("not_joined", Unit::Count, "members that are not"),
    headline("closed", Unit::Count, "members whose connection ended"),
    spec("stateless", Unit::Count, "members that joined and got no presence_state"),
    spec("rss_first_bytes", Unit::Bytes, "resident memory of the relay at the first step"),
    spec("rss_last_bytes", Unit::Bytes, "resident memory of the relay at the last step"),
    headline("slope", Unit::Number, "bytes per member between the first and the last step"),
];

/// Figures of `storm`.
pub static STORM: &[Spec] = &[
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

/// Figures of `million`.
pub static MILLION: &[Spec] = &[
    headline("joined", Unit::Count, "players that got their Welcome"),
    headline("refused", Unit::Count, "connections that did not"),
    headline("dropped", Unit::Count, "players whose connection ended before the goodbyes"),
    spec("ramp_s", Unit::Number, "seconds from the first connect to the last Welcome"),
    spec("ramp_per_s", Unit::Number, "joined / ramp_s"),
    spec("rss_start_bytes", Unit::Bytes, "resident memory of the relay before the first connection"),
    spec("rss_top_bytes", Unit::Bytes, "with everybody in, after --quiet"),
    spec("rss_after_bytes", Unit::Bytes, "when everybody has gone"),
    spec("rss_left", Unit::Number, "rss_after_bytes / rss_start_bytes"),
    headline(
        "user_bytes_per_player",
        Unit::Number,
        "(rss_top_bytes - rss_start_bytes) / players that are there at the top",
    ),
    spec(
        "kernel_bytes_per_connection",
        Unit::Number,
        "growth of slab caches per end (relay here: both ends, halved), without what only clients have",
    ),
    spec(
        "client_kernel_bytes",
        Unit::Number,
        "per connection, growth of caches that only clients have, marked (client); not in the figure before",
    ),
    spec("sockstat_mem_bytes", Unit::Bytes, "TCP buffers of this machine after --quiet"),
    spec("idle_cpu_cores", Unit::Number, "processor time of the relay / time, in --quiet"),
    spec("hold_cpu_cores", Unit::Number, "the same in --hold"),
    spec("client_rss_bytes", Unit::Bytes, "resident memory of this load test with everybody in"),
    spec("client_idle_cpu_cores", Unit::Number, "processor time of this load test / time, in --quiet"),
    spec("client_cpu_cores", Unit::Number, "the same in --hold"),
    spec("active_players", Unit::Count, "players that move in --hold"),
    spec("frames", Unit::Count, "tick frames that they received in it"),
    headline("cpu_us_per_frame", Unit::Number, "(hold_cpu_cores - idle_cpu_cores) × --hold / frames, in µs"),
    headline("reach", Unit::Number, "views that were fresh / views expected"),
    spec("views_expected", Unit::Count, "moves of the hold × other players of the game"),
    spec("p50", Unit::Duration, "latency: intended send of a move to its arrival elsewhere"),
    spec("p90", Unit::Duration, "90 % of the views arrived within"),
    headline("p99", Unit::Duration, "99 % of the views arrived within"),
    spec("max", Unit::Duration, "the slowest view"),
    spec("moves", Unit::Count, "moves sent that were meant for the hold"),
    spec("late_share", Unit::Number, "of these, sent more than 1 ms after their time"),
    spec("lateness_p99", Unit::Duration, "99 % of these were sent within, after their time"),
    spec("pings", Unit::Count, "pings answered"),
    spec("malformed", Unit::Count, "messages received that are none of the protocol"),
    spec(
        "slab_kept_bytes",
        Unit::Bytes,
        "growth of slab caches when everybody has gone and the relay runs on",
    ),
    spec("slab_left_bytes", Unit::Bytes, "the same when the relay has ended, too (neither counts TIME_WAIT)"),
    spec("time_wait", Unit::Count, "ended connections of this machine in TIME_WAIT, in the end"),
];

/// Figures of `scaling`; what is not said to be of all sizes is of the largest.
pub static SCALING: &[Spec] = &[
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_the_json_too() {
        for specs in [ROOMS, IDLE, STORM, MILLION, SCALING] {
            let paths: std::collections::BTreeSet<_> = specs.iter().map(Spec::json_path).collect();
            assert_eq!(paths.len(), specs.len());
        }
        let path = |name| ROOMS.iter().find(|spec| spec.name == name).unwrap().json_path();
        assert_eq!(path("p99.9"), (None, "p99_9_us".into()));
        assert_eq!(path("server.cpu_us_per_frame"), (Some("server"), "cpu_us_per_frame".into()));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(text(1_234_567.0, Unit::Count), "1,234,567");
        assert_eq!(text(999.0, Unit::Count), "999");
        assert_eq!(text(0.99973, Unit::Number), "0.99973");
        assert_eq!(text(1.0, Unit::Number), "1");
        assert_eq!(text(51_234.0, Unit::Duration), "51.23 ms");
        assert_eq!(text(-2048.0, Unit::Bytes), "-2048 B");
        assert_eq!(text(50_000_000.0, Unit::Bytes), "47.7 MiB");
    }
}
