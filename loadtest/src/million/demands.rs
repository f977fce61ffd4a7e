//! What so many connections need of this machine, checked before the first of them: memory, ports, descriptors, threads, and the
//! kernel's tables. Here is the arithmetic; `machine` reads.

/// User memory of the relay for a player; its budget.
const RELAY_BYTES: u64 = 320;
/// Kernel memory of one end of a silent connection.
const KERNEL_BYTES: u64 = 4_200;
/// User memory of this process for a connection.
const CLIENT_BYTES: u64 = 128;
/// A ring with its buffers, here or in the relay.
const RING_BYTES: u64 = 6 << 20;
/// Connections from one loopback address. Far fewer than it has ports, so that a free one is found at once.
const PER_ADDRESS_MAX: u32 = 10_000;
/// Of a range of ports so much is used from each address: the kernel takes the even ones in turn, and looks through all of them
/// before it takes an odd one.
const PORTS_USED: f64 = 0.45;
/// One in so many silent connections is answering a ping at any moment.
const PINGED_SHARE: u64 = 50;
/// Pages of buffers that a busy connection takes at each end.
const BUSY_PAGES: u64 = 2;
/// Processes and threads besides the rings: main threads, admin pages, logs.
const THREADS_BESIDE: u64 = 32;
/// Open files that are no connections.
const FILES_BESIDE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub connections: u64,
    pub players: u64,
    /// Connections that are joining or moving at the same time.
    pub busy: u64,
    pub rings: u64,
    pub relay_rings: u64,
}

/// What the machine has; `None`: unknown, or not limited.
#[derive(Clone, Debug, Default)]
pub struct Supply {
    /// Memory that can still be had, in bytes.
    pub memory_bytes: Option<u64>,
    /// `net.ipv4.ip_local_port_range`.
    pub ports: Option<(u64, u64)>,
    /// `net.ipv4.tcp_mem`, in pages: from the second on the kernel is sparing.
    pub tcp_pages: Option<u64>,
    /// `fs.file-max` less what is open.
    pub files: Option<u64>,
    /// Threads that may still be started.
    pub threads: Option<u64>,
    /// `net.netfilter.nf_conntrack_max` less what is tracked, if connections are tracked.
    pub tracked: Option<u64>,
}

impl Supply {
    /// Connections from one source address.
    pub fn per_address(&self) -> u32 {
        let usable = |(low, high): (u64, u64)| (high + 1).saturating_sub(low) as f64 * PORTS_USED;
        (self.ports.map_or(f64::INFINITY, usable).min(f64::from(PER_ADDRESS_MAX)) as u32).max(1)
    }
}

impl Demand {
    /// Of what there is too little, each with the arithmetic and the remedy. Both ends of every connection are on this machine.
    pub fn shortages(&self, supply: &Supply) -> Vec<String> {
        let &Self { connections, players, busy, rings, relay_rings } = self;
        let pinged = connections / PINGED_SHARE;
        let ring_bytes = (rings + relay_rings) * RING_BYTES;
        let each = RELAY_BYTES + KERNEL_BYTES * 2 + CLIENT_BYTES;
        let fitting = supply.memory_bytes.unwrap_or(0).saturating_sub(ring_bytes) / each / players * players;
        let pages = (busy + pinged) * BUSY_PAGES * 2;
        let files = connections * 2 + FILES_BESIDE;
        let checks = [
            (
                "memory, in bytes (MemAvailable, or the control group)",
                format!(
                    "{connections} connections × (relay {RELAY_BYTES} + kernel {KERNEL_BYTES} × 2 + client {CLIENT_BYTES}) \
                     + {ring_bytes} for rings"
                ),
                connections * each + ring_bytes,
                supply.memory_bytes,
                format!("--connections {fitting} fits"),
            ),
            (
                "net.ipv4.tcp_mem, in pages",
                format!(
                    "({busy} connections that join, leave or move + {pinged} that answer pings) × {BUSY_PAGES} pages × 2 ends"
                ),
                pages,
                supply.tcp_pages,
                format!(
                    "sysctl -w net.ipv4.tcp_mem='{pages} {} {}', or a lower --ramp and --active-games",
                    pages * 3 / 2,
                    pages * 2
                ),
            ),
            (
                "fs.file-max",
                format!("{connections} connections × 2 ends + {FILES_BESIDE} open files"),
                files,
                supply.files,
                format!("sysctl -w fs.file-max={}", files * 2),
            ),
            (
                "threads (kernel.threads-max, kernel.pid_max, pids.max of the control group)",
                format!("{rings} rings here + {relay_rings} of the relay + {THREADS_BESIDE}"),
                rings + relay_rings + THREADS_BESIDE,
                supply.threads,
                "raise RLIMIT_NOFILE (`ulimit -n`): larger rings are fewer; or raise these limits".to_owned(),
            ),
            (
                "net.netfilter.nf_conntrack_max, since this machine's firewall tracks every connection",
                format!("{connections} connections"),
                connections,
                supply.tracked,
                format!(
                    "sysctl -w net.netfilter.nf_conntrack_max={}, or take them out of tracking (NOTRACK)",
                    connections * 5 / 4 + 65_536
                ),
            ),
        ];
        let short = checks.into_iter().filter_map(|(what, sum, needed, available, remedy)| {
            let available = available.filter(|available| needed > *available)?;
            Some(format!("too little {what}: {sum} = {needed}; there are {available}. {remedy}"))
        });
        short.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn million() -> Demand {
        Demand { connections: 1_000_000, players: 50, busy: 9_000, rings: 50, relay_rings: 60 }
    }

    /// A virtual machine with 2 cores and 24 GiB.
    fn machine() -> Supply {
        Supply {
            memory_bytes: Some(23 << 30),
            ports: Some((32_768, 60_999)),
            tcp_pages: Some(383_866),
            files: Some(2_466_174),
            threads: Some(32_768),
            tracked: None,
        }
    }

    #[test]
    fn a_million_fits_on_a_small_machine_and_what_is_not_told_is_not_short() {
        assert_eq!(million().shortages(&machine()), [""; 0]);
        assert_eq!(million().shortages(&Supply::default()), [""; 0]);
        assert_eq!(machine().per_address(), 10_000);
        assert_eq!(Supply { ports: Some((40_000, 40_099)), ..machine() }.per_address(), 45);
    }

    #[test]
    fn all_that_is_short_is_told_with_its_sum_and_remedy() {
        let supply = Supply {
            memory_bytes: Some(4 << 30),
            ports: None,
            tcp_pages: Some(20_000),
            files: Some(1_000_000),
            threads: Some(100),
            tracked: Some(262_144),
        };
        let shortages = million().shortages(&supply);
        let told = [
            // (4096 − 660) MiB / 8848 bytes fit.
            [
                "(relay 320 + kernel 4200 × 2 + client 128)",
                "= 9540060160; there are 4294967296",
                "--connections 407200 fits",
            ],
            [
                "(9000 connections that join, leave or move + 20000",
                "= 116000;",
                "tcp_mem='116000 174000 232000'",
            ],
            ["2 ends + 4096", "= 2004096;", "fs.file-max=4008192"],
            ["50 rings here + 60 of the relay", "= 142; there are 100", "ulimit -n"],
            ["1000000 connections", "there are 262144", "nf_conntrack_max=1315536"],
        ];
        assert_eq!(shortages.len(), told.len());
        for (shortage, words) in shortages.iter().zip(told) {
            assert!(words.iter().all(|word| shortage.contains(word)), "{words:?} is not in {shortage}");
        }
    }
}
