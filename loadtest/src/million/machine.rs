//! What the machine of a run has left.

use std::fs::read_to_string;
use std::net::{TcpListener, TcpStream};

use procfs::{Current, LoadAverage, Meminfo};

use super::demands::Supply;

/// Connections that are made to see whether the kernel tracks them.
const TRACKING_PROBES: u64 = 8;
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

pub fn supply() -> Supply {
    Supply {
        memory_bytes: memory_bytes(),
        ports: numbers(PORT_RANGE).and_then(|ports| Some((*ports.first()?, *ports.get(1)?))),
        tcp_pages: numbers("/proc/sys/net/ipv4/tcp_mem").and_then(|pages| pages.get(1).copied()),
        files: numbers("/proc/sys/fs/file-nr")
            .and_then(|files| Some(files.get(2)?.saturating_sub(*files.first()?))),
        threads: threads(),
        tracked: tracked(),
    }
}

/// What the machine has, or what the control group still allows.
fn memory_bytes() -> Option<u64> {
    let machine = Meminfo::current().ok()?.mem_available?;
    Some(group_left("memory.max", "memory.current").map_or(machine, |left| left.min(machine)))
}

fn threads() -> Option<u64> {
    let number = |path| numbers(path).and_then(|numbers| numbers.first().copied());
    let running = u64::from(LoadAverage::current().ok()?.max);
    let limits = [number("/proc/sys/kernel/threads-max"), number("/proc/sys/kernel/pid_max")];
    let left = limits.into_iter().flatten().map(|limit| limit.saturating_sub(running));
    left.chain(group_left("pids.max", "pids.current")).min()
}

/// What the control group (version 2) still allows; `None` without a limit.
fn group_left(limit: &str, used: &str) -> Option<u64> {
    let groups = read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |file: &str| numbers(&format!("/sys/fs/cgroup{path}/{file}"))?.first().copied();
    Some(read(limit)?.saturating_sub(read(used)?))
}

/// How many more connections can be tracked; `None`: those of this machine are not. The module may be there without a rule that
/// uses it, so it is tried out.
fn tracked() -> Option<u64> {
    let number = |name| numbers(&format!("/proc/sys/net/netfilter/{name}"))?.first().copied();
    let before = number("nf_conntrack_count")?;
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let address = listener.local_addr().ok()?;
    let probes: Vec<_> = (0..TRACKING_PROBES).map_while(|_| TcpStream::connect(address).ok()).collect();
    let after = number("nf_conntrack_count")?;
    let tracks = !probes.is_empty() && after >= before + probes.len() as u64;
    tracks.then(|| number("nf_conntrack_max").unwrap_or(0).saturating_sub(after))
}

/// The numbers of a file; `None` if there are none, as in "max".
fn numbers(path: &str) -> Option<Vec<u64>> {
    let text = read_to_string(path).ok()?;
    let numbers: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    (!numbers.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_what_it_has_left() {
        let supply = supply();
        assert!(supply.memory_bytes.unwrap() > 1 << 20 && supply.files.unwrap() > 100);
        let (low, high) = supply.ports.unwrap();
        assert!(low < high && supply.tcp_pages.unwrap() > 0 && supply.threads.unwrap() > 0);
        assert_eq!(numbers("/proc/sys/kernel/ostype"), None);
    }
}
