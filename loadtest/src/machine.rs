//! What a run was measured on, for whoever compares it with another.

use procfs::{CpuInfo, Current, Meminfo};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    /// Those that this process may use.
    pub cores: usize,
    pub memory_bytes: f64,
    /// Name, release and architecture.
    pub kernel: String,
}

impl Machine {
    pub fn here() -> Self {
        let cpu = CpuInfo::current().ok().and_then(|cpu| cpu.model_name(0).map(str::to_owned));
        let system = rustix::system::uname();
        let [name, release, architecture] = [system.sysname(), system.release(), system.machine()]
            .map(|text| text.to_string_lossy().into_owned());
        Self {
            cpu: cpu.unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: Meminfo::current().map_or(0.0, |memory| memory.mem_total as f64),
            kernel: format!("{name} {release} {architecture}"),
        }
    }
}
