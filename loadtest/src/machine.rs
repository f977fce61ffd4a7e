//! What a run was measured on, for whoever compares it with another.

use std::fs;

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
        let value_of = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
        };
        let memory = value_of("/proc/meminfo", "MemTotal");
        let kibibytes = memory.and_then(|text| text.strip_suffix(" kB")?.parse::<f64>().ok());
        let system = rustix::system::uname();
        let [name, release, architecture] = [system.sysname(), system.release(), system.machine()]
            .map(|text| text.to_string_lossy().into_owned());
        Self {
            cpu: value_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes.unwrap_or(0.0) * 1024.0,
            kernel: format!("{name} {release} {architecture}"),
        }
    }
}
