//! The relay under test, started for the run with a configuration of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value as Json;
use tempfile::NamedTempFile;

use crate::process::Process;
use crate::server::Server;

/// Name of the relay's binary, beside this one.
const RELAY_BINARY: &str = "corelay";
const START_TIME: Duration = Duration::from_secs(30);
/// How long it may take to end: it drains for at most 30 s.
const END_TIME: Duration = Duration::from_secs(40);

/// Silence after which the relay pings: at the default of 5 s a million silent players cost 200,000 pings a second.
pub const PING_AFTER_MS: u32 = 60_000;
/// Silence after which it closes.
pub const CLOSE_AFTER_MS: u32 = 180_000;
/// Ticks of every game.
pub const TICK_HZ: u32 = 5;

/// The binary to start: `given`, `corelay` beside this program, or what `$CORELAY` names.
pub fn relay_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("the name of this program")?;
    let beside = own.with_file_name(RELAY_BINARY);
    if beside.is_file() {
        return Ok(beside);
    }
    std::env::var_os("CORELAY").map(PathBuf::from).with_context(|| {
        format!(
            "there is no relay to start: no {}, and $CORELAY is not set. Build it (cargo build --release), or name it with \
             --relay",
            beside.display()
        )
    })
}

/// A relay of our own. Dropped, it is ended.
pub struct Relay {
    pub process: Process,
    /// Where players connect, as in `ws://…`.
    pub url: String,
    metrics_url: String,
    /// Its configuration, removed with it.
    _configuration: NamedTempFile,
}

impl Relay {
    /// Starts `binary` for `connections`, and waits until it is ready.
    pub fn start(binary: &Path, connections: u32, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let mut configuration =
            tempfile::Builder::new().prefix("corelay-million-").suffix(".toml").tempfile()?;
        configuration.write_all(configuration_text().as_bytes())?;
        let mut command = Command::new(binary);
        // Ports of the kernel's choice; the line that says "ready" names them.
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command
            .arg("--ephemeral")
            .arg("--connections-max")
            .arg(connections.to_string())
            .arg("--config")
            .arg(configuration.path());
        let process = Process::start(&mut command, END_TIME);
        let mut process = process.context("the relay; --relay or $CORELAY names its binary")?;
        let ready = |log: &str| log.lines().find_map(ready_line);
        let (url, metrics_url) = process.await_ready(START_TIME, interrupted, ready).context("the relay")?;
        Ok(Self { process, url, metrics_url, _configuration: configuration })
    }

    /// Where its figures come from.
    pub fn server(&self) -> Server {
        Server { metrics_url: self.metrics_url.clone(), pid: Some(self.process.pid()) }
    }

    /// Ends it; an error if it does not end with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        match self.process.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                bail!("the relay ended with {status} after SIGTERM; {}", self.process.log_excerpt())
            }
            None => bail!("the relay had to be killed after SIGTERM; {}", self.process.log_excerpt()),
        }
    }
}

fn configuration_text() -> String {
    format!(
        "[liveness]\nping_after_ms = {PING_AFTER_MS}\nclose_after_ms = {CLOSE_AFTER_MS}\n\n\
         [[game]]\npattern = \"*\"\ntick_hz = {TICK_HZ}\n"
    )
}

/// URL and metrics from the line of the log that says that everything runs.
fn ready_line(line: &str) -> Option<(String, String)> {
    let line: Json = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str().filter(|_| line["message"] == "ready");
    Some((format!("ws://{}", address("listen")?), format!("http://{}/metrics", address("admin")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_is_found_among_others() {
        let line = r#"{"level":"INFO","message":"ready","listen":"127.0.0.1:9","admin":"127.0.0.1:8"}"#;
        let expected = ("ws://127.0.0.1:9".to_owned(), "http://127.0.0.1:8/metrics".to_owned());
        assert_eq!(ready_line(line), Some(expected));
        assert_eq!(ready_line(r#"{"message":"development mode"}"#), None);
        assert_eq!(ready_line("ready"), None);
    }
}
