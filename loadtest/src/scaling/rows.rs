//! The rows of the table: every member of a measurement, with its meaning and its unit.

use super::text::{count, memory, short};
use crate::figures::{Unit, text};
use crate::measurement::Measurement;

/// Rows that belong together.
pub struct Section {
    pub title: &'static str,
    pub rows: &'static [Row],
}

/// One number at every size.
pub struct Row {
    pub label: &'static str,
    /// What it is, and how it was measured.
    pub about: &'static str,
    value: fn(&Measurement) -> f64,
    format: fn(f64) -> String,
}

impl Row {
    /// With its unit; `n/a` where there was nothing to measure it by.
    pub fn cell(&self, measurement: &Measurement) -> String {
        let value = (self.value)(measurement);
        if value.is_finite() { (self.format)(value) } else { "n/a".to_owned() }
    }
}

/// One line for each row: its label, how it is written, its value; and one for what it is.
macro_rules! section {
    ($title:literal: $($label:literal, $format:ident, $value:expr, $about:literal;)*) => {
        Section { title: $title, rows: &[$(Row { label: $label, about: $about, value: $value, format: $format }),*] }
    };
}

/// The whole table, without the caches of the kernel.
#[rustfmt::skip]
pub static SECTIONS: [Section; 4] = [
    section! { "Connections":
        "joined", count, |at| f64::from(at.joined),
            "Players with a WebSocket of their own, upgraded on /play, that joined a game and got their Welcome.";
        "refused", count, |at| at.refused as f64,
            "Connections that were asked for and did not get that far.";
        "dropped", count, |at| at.dropped as f64,
            "Players whose connection ended while all should have stayed.";
        "shards", count, |at| at.shards.map_or(f64::NAN, f64::from),
            "Threads of the relay with a ring each, if it tells.";
        "ramp", per_second, |at| at.ramp_per_s,
            "Joins per second, from the first connect to the last Welcome.";
    },
    section! { "Memory":
        "relay per player", bytes, |at| at.user_bytes_per_player,
            "Growth of the relay's resident memory from before the first connection to everybody in, by the players that are there then: connection, seat, roster entry and a share of the rings.";
        "kernel per connection", bytes, |at| at.kernel_bytes_per_connection,
            "Growth of the kernel's slab caches per end of a connection. Relay and clients are on one machine, so that the kernel holds two ends of each. Caches that only clients fill, marked so below, are left out.";
        "relay at the start", memory, |at| at.rss_start_bytes,
            "Resident memory of the relay before the first connection.";
        "relay at the top", memory, |at| at.rss_top_bytes,
            "With everybody in.";
        "relay afterwards", memory, |at| at.rss_after_bytes,
            "When everybody has gone.";
        "TCP buffers", memory, |at| at.sockstat_mem_bytes,
            "What /proc/net/sockstat counts with everybody in and quiet.";
        "slab left", memory, |at| at.slab_left_bytes,
            "Growth of the slab caches over the whole run, read when the relay has ended, without sockets in TIME_WAIT.";
    },
    section! { "Processor":
        "relay, idle", cores, |at| at.idle_cpu_cores,
            "Processor time of the relay / time while nobody moves and pings are answered: in 60 s one ping of every player.";
        "relay, active", cores, |at| at.hold_cpu_cores,
            "The same while the active games move.";
        "clients, active", cores, |at| at.client_cpu_cores,
            "And of the load test, on the same machine.";
        "relay per frame", microseconds, Measurement::frame_cpu_us,
            "What that time took beyond being idle, by delivered frame: how flat this is over the sizes that have the same active players says whether a player costs more among many.";
    },
    section! { "Frames":
        "active players", count, |at| f64::from(at.active_players),
            "Players, in whole games, that move; the others are silent. As many at every size, unless it has fewer players or a share of them was asked for.";
        "frames", count, |at| at.frames as f64,
            "Tick frames that they received.";
        "reach", number, |at| at.age_us(at.reach),
            "Views of moves that were fresh / that were expected: for each move one view for each other player of the game.";
        "age p50", duration, |at| at.age_us(at.p50_us),
            "Age of a move when it is seen, from when it was meant to be sent (an open loop: what stalls makes every move of that time late). Half of the views are younger.";
        "age p90", duration, |at| at.age_us(at.p90_us),
            "90 % of them are.";
        "age p99", duration, |at| at.age_us(at.p99_us),
            "99 % of them are.";
        "age max", duration, |at| at.age_us(at.max_us),
            "The oldest.";
    },
];

/// Heading and meaning of the caches.
pub const CACHES: (&str, &str) = (
    "Kernel memory by slab cache",
    "Growth of each cache from before the first connection to everybody in, both ends of all connections together. Caches that the kernel has merged are told by the name of the one that connections most likely fill.",
);

/// The caches of all sizes, those first that are largest at the largest size.
pub fn caches(measurements: &[Measurement]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in measurements.iter().rev().flat_map(|at| &at.kernel_by_cache) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// What one cache grew by.
pub fn cache_cell(measurement: &Measurement, name: &str) -> String {
    let cache = measurement.kernel_by_cache.iter().find(|(known, _)| known == name);
    cache.map_or_else(|| "–".to_owned(), |&(_, grown)| memory(grown))
}

fn bytes(value: f64) -> String {
    format!("{} B", count(value))
}

fn per_second(value: f64) -> String {
    format!("{}/s", count(value))
}

fn cores(value: f64) -> String {
    format!("{} cores", short(value))
}

fn microseconds(value: f64) -> String {
    format!("{} µs", short(value))
}

fn number(value: f64) -> String {
    text(value, Unit::Number)
}

fn duration(value: f64) -> String {
    text(value, Unit::Duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture;

    #[test]
    fn every_member_of_a_measurement_is_in_the_table() {
        let members = serde_json::to_value(fixture::measurement(1000)).unwrap();
        let rows = SECTIONS.iter().map(|section| section.rows.len()).sum::<usize>();
        // The head has the connections, and the caches are a table of their own.
        assert_eq!(rows + 2, members.as_object().unwrap().len());
    }

    #[test]
    fn caches_are_those_of_all_sizes() {
        let mut measurements = fixture::record().measurements;
        measurements[0].kernel_by_cache.push(("kmalloc-64".into(), 4096.0));
        assert_eq!(caches(&measurements), ["TCP", "sock_inode_cache", "dentry", "kmalloc-64"]);
        assert_eq!(cache_cell(&measurements[0], "kmalloc-64"), "4.00 KiB");
        assert_eq!(cache_cell(&measurements[1], "kmalloc-64"), "–");
    }
}
