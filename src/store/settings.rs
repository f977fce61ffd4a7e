//! What an operator can set about the store.

use std::path::{Path, PathBuf};

use crate::limits;

/// See the module documentation. `StoreSettings::default()` is the embedded default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The directory of the file, which is made if it is not there.
    pub data_dir: PathBuf,
    /// Everything is in memory instead, and ends with the process.
    pub ephemeral: bool,
    /// Memory for what was read and written last.
    pub cache_bytes: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { data_dir: "corelay-data".into(), ephemeral: false, cache_bytes: limits::STORE_CACHE_BYTES }
    }
}

impl StoreSettings {
    /// Where the file is. `None`: in memory.
    pub fn directory(&self) -> Option<&Path> {
        (!self.ephemeral).then_some(&*self.data_dir)
    }
}
