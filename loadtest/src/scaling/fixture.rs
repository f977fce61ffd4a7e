//! Measurements that nobody measured, for tests: of a plausible size, each number another.

use super::record::Record;
use crate::machine::Machine;
use crate::measurement::Measurement;

pub fn record() -> Record {
    let planned = vec![1000, 10_000, 100_000, 1_000_000];
    Record {
        command: "corelay-loadtest scaling --to 1000000 --assert 'flat<=1.5'".into(),
        version: "0.1.0".into(),
        date: "2031-02-03T04:05:06Z".into(),
        machine: Machine {
            cpu: "Made-up <CPU> & Co. @ 2.70GHz".into(),
            cores: 2,
            memory_bytes: 24.0 * 1_073_741_824.0,
            kernel: "Linux 6.18.0 x86_64".into(),
        },
        settings: vec![("Pings".into(), "every 60 s & closed after 180 s".into())],
        complete: true,
        ended_by: None,
        measurements: planned.iter().map(|&connections| measurement(connections)).collect(),
        planned,
    }
}

pub fn measurement(connections: u32) -> Measurement {
    let players = f64::from(connections);
    let decades = players.log10() - 3.0;
    let (user, kernel) = (305.0 + 300_000.0 / players, 4096.0 + 60_000.0 / players);
    Measurement {
        connections,
        joined: connections,
        refused: 0,
        dropped: 0,
        shards: Some(connections.div_ceil(16_000)),
        ramp_per_s: 24_310.0 - 1870.0 * decades,
        rss_start_bytes: 11_534_336.0,
        rss_top_bytes: 11_534_336.0 + user * players,
        rss_after_bytes: 12_058_624.0,
        user_bytes_per_player: user,
        kernel_bytes_per_connection: kernel,
        kernel_by_cache: vec![
            ("TCP".into(), 2304.0 * 2.0 * players),
            ("sock_inode_cache".into(), 896.0 * 2.0 * players),
            ("dentry".into(), 192.0 * 2.0 * players),
        ],
        sockstat_mem_bytes: 1_572_864.0 + players,
        idle_cpu_cores: 0.004 + 0.000_000_29 * players,
        hold_cpu_cores: 0.009 + 0.000_000_31 * players,
        client_cpu_cores: 0.012 + 0.000_000_41 * players,
        active_players: connections.min(5000),
        frames: u64::from(connections.min(5000)) * 300,
        cpu_us_per_frame: 2.13 + 0.17 * decades,
        reach: 0.999_97 - 0.000_01 * decades,
        p50_us: 101_200.0 + 1310.0 * decades,
        p90_us: 183_400.0 + 2120.0 * decades,
        p99_us: 203_700.0 + 9170.0 * decades,
        max_us: 214_900.0 + 23_400.0 * decades,
        slab_left_bytes: 40_960.0 * (decades + 1.0),
    }
}
