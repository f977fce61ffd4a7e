//! What the machine gives the process: CPUs, descriptors, the kernel's settings.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The machine, as the process finds it at its start.
#[derive(Debug)]
pub struct Machine {
    /// Numbers of the CPUs that the process may use.
    pub cpus: Vec<usize>,
    /// Release of the running kernel.
    pub kernel: String,
    /// `RLIMIT_NOFILE` in force; it also caps the descriptor table of a ring.
    pub descriptors: u64,
}

/// What decides how many connections fit.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// CPUs that the process may use.
    pub cpus: usize,
    /// `RLIMIT_NOFILE`.
    pub descriptors: u64,
    /// Memory of the machine, or of the control group, in bytes; `None`: unknown.
    pub memory: Option<u64>,
    /// The part of `memory` that is free now.
    pub memory_available: Option<u64>,
}

impl Machine {
    /// Reads what the machine gives, and raises `RLIMIT_NOFILE` to its hard limit.
    pub fn prepare() -> Self {
        let uname = rustix::system::uname();
        Self {
            cpus: usable_cpus(),
            kernel: uname.release().to_string_lossy().into_owned(),
            descriptors: raise_descriptor_limit(),
        }
    }

    /// The resources as they are now.
    pub fn resources(&self) -> Resources {
        Resources {
            cpus: self.cpus.len(),
            descriptors: self.descriptors,
            memory: memory_total(),
            memory_available: memory_available(),
        }
    }
}

fn usable_cpus() -> Vec<usize> {
    let cpus: Vec<usize> = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => Vec::new(),
    };
    // The mask cannot be read on a machine with more than 1,024 CPUs; threads then stay where the kernel puts them.
    if cpus.is_empty() {
        return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    cpus
}

fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let in_force = if raised { maximum } else { current };
    in_force.unwrap_or(u64::MAX)
}

/// Keeps the calling thread on one CPU.
pub fn pin_thread(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Runs `make` on one CPU, if the kernel allows it, so that large memory that `make` is the first to write to is near that CPU.
pub fn on_cpu<T>(cpu: usize, make: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None);
    let moved = before.is_ok() && pin_thread(cpu).is_ok();
    let made = make();
    if let (true, Ok(before)) = (moved, before)
        && let Err(errno) = sched_setaffinity(None, &before)
    {
        tracing::debug!(%errno, cpu, "a thread stays on the CPU that it made something on");
    }
    made
}

/// A kernel setting by its dotted name; `None` where this kernel or container does not have it.
pub fn sysctl(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Memory that the process can still get, in bytes: what the machine has left, or what its control group has.
pub fn memory_available() -> Option<u64> {
    let machine = meminfo("MemAvailable:")?;
    Some(cgroup_memory_left().map_or(machine, |left| left.min(machine)))
}

/// Memory of the machine, or of the control group, in bytes, whoever uses it now.
fn memory_total() -> Option<u64> {
    let machine = meminfo("MemTotal:")?;
    Some(cgroup_memory("memory.max").map_or(machine, |limit| limit.min(machine)))
}

fn meminfo(name: &str) -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// What the control group (version 2) still allows; `None` without a limit.
pub fn cgroup_memory_left() -> Option<u64> {
    Some(cgroup_memory("memory.max")?.saturating_sub(cgroup_memory("memory.current")?))
}

/// Reads a file of the process's control group; `None` also for "max", which is no limit.
fn cgroup_memory(file: &str) -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    std::fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu_a_kernel_and_descriptors() {
        let machine = Machine::prepare();
        assert!(!machine.cpus.is_empty());
        assert!(machine.kernel.contains('.'), "{}", machine.kernel);
        assert_eq!(
            Some(machine.descriptors),
            getrlimit(Resource::Nofile).maximum,
            "raised to the hard limit"
        );
        assert!(memory_available().unwrap() > 1 << 20);
        assert_eq!(sysctl("kernel.ostype").as_deref(), Some("Linux"));
        assert_eq!(sysctl("no.such"), None);
    }

    #[test]
    fn a_pinned_thread_may_use_one_cpu() {
        let cpus = usable_cpus();
        let last = *cpus.last().unwrap();
        let pinned = std::thread::spawn(move || pin_thread(last).map(|()| usable_cpus())).join().unwrap();
        assert_eq!(pinned.unwrap(), [last]);
    }

    #[test]
    fn a_thread_is_on_a_cpu_for_as_long_as_it_makes_something_there() {
        let before = usable_cpus();
        let last = *before.last().unwrap();
        assert_eq!(on_cpu(last, usable_cpus), [last]);
        assert_eq!(usable_cpus(), before);
    }
}
