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
pub const PER_ADDRESS_MAX: u32 = 10_000;
/// Of a range of ports so much is used from each address: the kernel takes the even ones in turn, and looks through all of them
/// before it takes an odd one.
const PORTS_USED: f64 = 0.45;
/// One in so many silent connections is answering a ping at any moment.
const PINGED_SHARE: u64 = 50;
/// Pages of buffers that a busy connection takes at each end.
const BUSY_PAGES: u64 = 2;
/// Processes and threads besides the rings: main threads, admin pages, logs.
const THREADS_BESIDE: u64 = 32;
/// Connections from 127.0.0.2 on: 2^24 addresses less those at the ends.
const LOOPBACK_ADDRESSES: u64 = (1 << 24) - 4;

#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub connections: u64,
    pub players: u64,
    /// Connections that are joining or moving at the same time.
    pub busy: u64,
    pub rings: u64,
    /// Rings of the relay, if it runs on this machine.
    pub relay_rings: Option<u64>,
    /// Connections come from many loopback addresses.
    pub loopback: bool,
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

impl Demand {
    fn ends(&self) -> u64 {
        if self.relay_rings.is_some() { 2 } else { 1 }
    }

    /// Connections from one source address.
    pub fn per_address(&self, supply: &Supply) -> u32 {
        let usable = supply
            .ports
            .map_or(f64::INFINITY, |(low, high)| (high + 1).saturating_sub(low) as f64 * PORTS_USED);
        (usable.min(f64::from(PER_ADDRESS_MAX)) as u32).max(1)
    }

    pub fn shortages(&self, supply: &Supply) -> Vec<String> {
        let checks = [
            self.memory(supply),
            self.ports(supply),
            self.buffers(supply),
            self.files(supply),
            self.threads(supply),
            self.tracked(supply),
        ];
        checks.into_iter().flatten().collect()
    }

    fn memory(&self, supply: &Supply) -> Option<String> {
        let available = supply.memory_bytes?;
        let relay_bytes = self.relay_rings.map_or(0, |_| RELAY_BYTES);
        let each = relay_bytes + KERNEL_BYTES * self.ends() + CLIENT_BYTES;
        let rings = (self.rings + self.relay_rings.unwrap_or(0)) * RING_BYTES;
        let needed = self.connections * each + rings;
        let fitting = available.saturating_sub(rings) / each / self.players * self.players;
        let relay = if relay_bytes > 0 { format!("relay {relay_bytes} + ") } else { String::new() };
        (needed > available).then(|| {
            format!(
                "too little memory: {} connections × ({relay}kernel {KERNEL_BYTES} × {} end(s) + client {CLIENT_BYTES}) = {each} \
                 bytes, and {} for rings, are {}; MemAvailable (or the control group) has {}. --connections {fitting} fits",
                self.connections,
                self.ends(),
                mebibytes(rings),
                mebibytes(needed),
                mebibytes(available)
            )
        })
    }

    fn ports(&self, supply: &Supply) -> Option<String> {
        let (connections, (low, high)) = (self.connections, supply.ports?);
        let range = format!("net.ipv4.ip_local_port_range is {low}-{high}");
        if self.loopback {
            let per_address = u64::from(self.per_address(supply));
            return (connections > per_address * LOOPBACK_ADDRESSES).then(|| {
                format!(
                    "too little ports: {connections} connections from loopback addresses of {per_address} each ({range}). Widen \
                     it: sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
                )
            });
        }
        let ports = (high + 1).saturating_sub(low);
        (connections > ports).then(|| {
            format!(
                "too little ports: {range}, so {ports} connections from this address to one relay, and {connections} are asked \
                 for. sysctl -w net.ipv4.ip_local_port_range='1024 65535' gives {WIDE_PORTS}; more need more machines, or a \
                 relay on this one (without --url)"
            )
        })
    }

    fn buffers(&self, supply: &Supply) -> Option<String> {
        let available = supply.tcp_pages?;
        let pinged = self.connections / PINGED_SHARE;
        let needed = (self.busy + pinged) * BUSY_PAGES * self.ends();
        (needed > available).then(|| {
            format!(
                "too little net.ipv4.tcp_mem: ({} connections that join, leave or move + {pinged} that answer pings) × \
                 {BUSY_PAGES} pages × {} end(s) = {needed} pages of buffers; under pressure from {available} on. sysctl -w \
                 net.ipv4.tcp_mem='{needed} {} {}', or a lower --ramp and --active-games",
                self.busy,
                self.ends(),
                needed * 3 / 2,
                needed * 2
            )
        })
    }

    fn files(&self, supply: &Supply) -> Option<String> {
        let available = supply.files?;
        let needed = self.connections * self.ends() + 4096;
        (needed > available).then(|| {
            format!(
                "too little fs.file-max: {} connections × {} end(s) + 4096 = {needed} open files; {available} may still be \
                 opened. sysctl -w fs.file-max={}",
                self.connections,
                self.ends(),
                needed * 2
            )
        })
    }

    fn threads(&self, supply: &Supply) -> Option<String> {
        let available = supply.threads?;
        let relay_rings = self.relay_rings.unwrap_or(0);
        let needed = self.rings + relay_rings + THREADS_BESIDE;
        (needed > available).then(|| {
            format!(
                "too little room for threads: {} rings here + {relay_rings} of the relay + {THREADS_BESIDE} = {needed} threads; \
                 {available} may still be started (kernel.threads-max, kernel.pid_max, pids.max of the control group). Raise \
                 RLIMIT_NOFILE (`ulimit -n`): larger rings are fewer; or raise these limits",
                self.rings
            )
        })
    }

    fn tracked(&self, supply: &Supply) -> Option<String> {
        let (connections, available) = (self.connections, supply.tracked?);
        (connections > available).then(|| {
            format!(
                "too little net.netfilter.nf_conntrack_max: this machine's firewall tracks every connection: {connections} are \
                 asked for, and it can track {available} more. sysctl -w net.netfilter.nf_conntrack_max={}, or take these \
                 connections out of tracking (NOTRACK)",
                connections * 5 / 4 + 65_536
            )
        })
    }
}

/// Ports of the widest range that leaves out those below 1024.
const WIDE_PORTS: u64 = 65_535 - 1_024 + 1;

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn million() -> Demand {
        Demand {
            connections: 1_000_000,
            players: 50,
            busy: 9_000,
            rings: 50,
            relay_rings: Some(60),
            loopback: true,
        }
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

    fn shortage(demand: Demand, supply: &Supply) -> String {
        let shortages = demand.shortages(supply);
        assert_eq!(shortages.len(), 1, "{shortages:?}");
        shortages[0].clone()
    }

    #[test]
    fn a_million_fits_on_a_small_machine_and_what_is_not_told_is_not_short() {
        assert_eq!(million().shortages(&machine()), [""; 0]);
        assert_eq!(million().shortages(&Supply::default()), [""; 0]);
    }

    #[test]
    fn memory_is_told_with_the_sum_and_what_fits() {
        let supply = Supply { memory_bytes: Some(4 << 30), ..machine() };
        let text = shortage(million(), &supply);
        assert!(
            text.contains("relay 320 + kernel 4200 × 2 end(s) + client 128") && text.contains("8848 bytes")
        );
        assert!(text.contains("9098 MiB") && text.contains("4096 MiB"), "{text}");
        // (4096 − 660) MiB / 8848 bytes
        assert!(text.contains("--connections 407200 fits"), "{text}");
        let elsewhere = Demand { relay_rings: None, loopback: false, connections: 20_000, ..million() };
        let text = shortage(elsewhere, &Supply { memory_bytes: Some(100 << 20), ..machine() });
        assert!(text.contains("(kernel 4200 × 1 end(s) + client 128)"), "{text}");
    }

    #[test]
    fn ports_are_short_towards_another_machine_only() {
        let elsewhere = Demand { relay_rings: None, loopback: false, ..million() };
        let text = shortage(elsewhere, &machine());
        assert!(text.contains("28232 connections") && text.contains("64512"), "{text}");
        assert_eq!(million().per_address(&machine()), 10_000);
        let narrow = Supply { ports: Some((40_000, 40_099)), ..machine() };
        assert_eq!(million().per_address(&narrow), 45);
        assert_eq!(million().shortages(&narrow), [""; 0]);
    }

    #[test]
    fn the_kernels_tables_are_told_with_their_remedy() {
        let text = shortage(million(), &Supply { tcp_pages: Some(20_000), ..machine() });
        assert!(
            text.contains("(9000 connections that join, leave or move + 20000 that answer pings)"),
            "{text}"
        );
        assert!(text.contains("= 116000 pages") && text.contains("tcp_mem='116000 174000 232000'"), "{text}");
        let text = shortage(million(), &Supply { files: Some(1_000_000), ..machine() });
        assert!(text.contains("2004096 open files") && text.contains("fs.file-max=4008192"), "{text}");
        let text = shortage(million(), &Supply { threads: Some(100), ..machine() });
        assert!(text.contains("= 142 threads; 100"), "{text}");
        let text = shortage(million(), &Supply { tracked: Some(262_144), ..machine() });
        assert!(text.contains("262144") && text.contains("nf_conntrack_max=1315536"), "{text}");
    }

    #[test]
    fn all_that_is_short_is_told_at_once() {
        let supply = Supply { tracked: Some(0), files: Some(0), ..machine() };
        assert_eq!(million().shortages(&supply).len(), 2);
    }
}
