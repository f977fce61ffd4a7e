//! What the kernel allows this process, checked before the first connection: descriptors, ports, io_uring.

use std::net::SocketAddr;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: standard streams, rings, files, a socket on its way into a ring's table.
const DESCRIPTORS_RESERVE: u64 = 32;

/// Raises what may be raised, and says which limit is in the way of `connections` over `threads` rings to `target`.
pub fn make_room(connections: u32, threads: u32, target: SocketAddr) -> anyhow::Result<()> {
    let per_ring = u64::from(connections.div_ceil(threads));
    let limit = raise_descriptors(per_ring.max(1024));
    check_descriptors(per_ring, threads, limit)?;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    check_ports(connections, target, &range)
}

/// The likely cause when a ring cannot be made.
pub fn explain_ring_error(error: std::io::Error) -> anyhow::Error {
    use rustix::io::Errno;
    let cause = match Errno::from_io_error(&error) {
        Some(Errno::NOSYS) => {
            "this kernel has no io_uring, or a seccomp profile hides it (Docker's default does)"
        }
        Some(Errno::PERM) => {
            "io_uring is forbidden: see `sysctl kernel.io_uring_disabled` and the seccomp profile"
        }
        Some(Errno::INVAL) => "this kernel's io_uring is too old: Linux 6.1 or newer is needed",
        Some(Errno::NOMEM) => "no memory for the ring: see `ulimit -l`",
        Some(Errno::MFILE) => "the ring's table is larger than RLIMIT_NOFILE: see `ulimit -n`",
        _ => "the ring cannot be made",
    };
    anyhow::Error::new(error).context(cause)
}

/// Sets the soft limit to what is needed, up to the hard one. Returns the (soft) limit then.
pub fn raise_descriptors(needed: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    let raised = (needed + DESCRIPTORS_RESERVE).min(maximum.unwrap_or(u64::MAX));
    let set =
        current < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok();
    if set { raised } else { current }
}

fn check_descriptors(per_ring: u64, threads: u32, limit: u64) -> anyhow::Result<()> {
    if per_ring <= limit {
        return Ok(());
    }
    let connections = per_ring * u64::from(threads);
    bail!(
        "RLIMIT_NOFILE is {limit}, and it bounds each ring's descriptor table: {connections} connections over {threads} \
         thread(s) need {per_ring}. Use --threads {} or raise the limit (`ulimit -n`).",
        connections.div_ceil(limit.max(1))
    )
}

/// One source address has so many ports towards one target.
fn check_ports(connections: u32, target: SocketAddr, range: &str) -> anyhow::Result<()> {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(low)), Some(Ok(high))) = (bounds.next(), bounds.next()) else { return Ok(()) };
    let ports = (high + 1).saturating_sub(low);
    if connections <= ports {
        return Ok(());
    }
    bail!(
        "net.ipv4.ip_local_port_range is {low}-{high}: {ports} connections to {target} from one address, and {connections} are \
         asked for. Ask for fewer, or widen it: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` gives 64,512."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_the_way_is_named_with_a_way_out() {
        let error = check_descriptors(25_000, 1, 20_000).unwrap_err().to_string();
        assert!(
            error.contains("20000") && error.contains("25000") && error.contains("--threads 2"),
            "{error}"
        );
        assert!(check_descriptors(12_500, 2, 20_000).is_ok());
    }

    #[test]
    fn ports_are_counted_per_target() {
        let target = "127.0.0.1:4000".parse().unwrap();
        assert!(check_ports(28_232, target, "32768\t60999\n").is_ok());
        let error = check_ports(28_233, target, "32768\t60999\n").unwrap_err().to_string();
        assert!(error.contains("28232"), "{error}");
        assert!(check_ports(28_233, target, "").is_ok(), "without the range, the connect will tell");
    }
}
