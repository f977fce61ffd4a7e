//! Where the scenarios of rooms take place: a relay of our own with its store on disk, or one that runs already.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::arguments::{Access, Output, Site};
use crate::disk::{is_in_memory, sync_us};
use crate::figures::Value;
use crate::relay::{Relay, Settings, relay_binary};
use crate::target::Target;
use crate::tokens::Tokens;

/// How long the disk is measured before a run.
const DISK_TIME: Duration = Duration::from_secs(1);
/// No limit that is meant for people is in the way of the load; those of rooms, of documents and of the store are.
const CONFIGURATION: &str = "\
[rates]
bytes_per_s = 1073741824
bytes_burst = 1073741824
operation_per_s = 1000000
operation_burst = 1000000

[[room]]
pattern = \"*\"
messages_per_minute = 1000000
";

/// Which relay, and what to do with the result.
#[derive(Clone, Debug, Args)]
pub struct Venue {
    /// A relay that runs already and whose settings allow the rate; default: one is started for the run
    #[arg(long)]
    pub url: Option<String>,
    /// The relay to start; default: corelay beside this program, else $CORELAY
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub relay: Option<PathBuf>,
    /// The disk: a folder for the relay's data is made here for the run, and fdatasync is measured; default: the working
    /// directory, with --url nothing
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub output: Output,
}

/// A relay to play with. What was started for the run ends with it.
pub struct Host {
    pub site: Site,
    /// `None`: it was there before.
    pub relay: Option<Relay>,
    pub disk: Disk,
    /// Removed with it, after the relay has ended.
    _data: Option<TempDir>,
}

/// What the disk did before the run.
#[derive(Debug)]
pub struct Disk {
    /// How long 4 KiB take to be on it, in µs.
    pub sync_us: Result<Histogram<u64>, String>,
    pub in_memory: bool,
}

impl Venue {
    /// Measures the disk, and starts a relay for `connections` if there is none.
    pub fn open(&self, connections: u32, interrupted: &AtomicBool) -> anyhow::Result<Host> {
        if let Some(url) = &self.url {
            let disk = self.data_dir.as_deref().map_or_else(
                || {
                    Ok(Disk {
                        sync_us: Err("--data-dir does not say where its disk is".into()),
                        in_memory: false,
                    })
                },
                Disk::measure,
            )?;
            return Ok(Host { site: self.access.site(url)?, relay: None, disk, _data: None });
        }
        self.access.ensure_unset()?;
        let folder = self.data_dir.as_deref().unwrap_or(Path::new("."));
        let disk = Disk::measure(folder)?;
        let data = tempfile::Builder::new().prefix("corelay-loadtest-").tempdir_in(folder);
        let data = data.with_context(|| format!("--data-dir {}", folder.display()))?;
        let settings = Settings { connections, configuration: CONFIGURATION, data_dir: Some(data.path()) };
        let relay = Relay::start(&relay_binary(self.relay.as_deref())?, settings, interrupted)?;
        let target = Target::parse(&relay.url, None)?;
        let site = Site { target, server: relay.server(), tokens: Tokens::None };
        Ok(Host { site, relay: Some(relay), disk, _data: Some(data) })
    }

    /// As the title and the settings of a report say it.
    pub fn name(&self) -> String {
        self.url.clone().unwrap_or_else(|| "a relay of its own".to_owned())
    }

    /// What of a report's settings belongs to it.
    pub fn settings(&self) -> Json {
        json!({ "url": self.url, "tokens": self.access.tokens_label(), "data_dir": self.data_dir })
    }
}

impl Host {
    /// Ends the relay, if it was started for the run: what was wrong with its end.
    pub fn close(self) -> Option<String> {
        self.relay.and_then(|relay| relay.stop().err()).map(|error| format!("{error:#}"))
    }
}

impl Disk {
    fn measure(folder: &Path) -> anyhow::Result<Self> {
        let measure = || std::io::Result::Ok((sync_us(folder, DISK_TIME)?, is_in_memory(folder)?));
        let (us, in_memory) = measure().with_context(|| format!("--data-dir {}", folder.display()))?;
        Ok(Self { sync_us: Ok(us), in_memory })
    }

    /// A percentile of `fdatasync`, in µs.
    pub fn sync(&self, percentile: f64) -> Value {
        self.sync_us.as_ref().map(|us| us.value_at_percentile(percentile) as f64).map_err(Clone::clone)
    }

    pub fn warning(&self) -> Option<String> {
        let text = "the data was in memory (tmpfs), not on a disk: --data-dir names another folder";
        self.in_memory.then(|| text.to_owned())
    }
}
