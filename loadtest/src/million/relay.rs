//! The relay under test: started for the run with a configuration of its own, or one that runs already.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value as Json;

use crate::clock;
use crate::process::Process;

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

/// Which relay is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayChoice {
    /// This binary, started for the run and ended with it.
    Start(PathBuf),
    /// One that is there.
    Running {
        url: String,
        /// `None`: port 4001 of the same host.
        metrics_url: Option<String>,
        /// Its process, if it is on this machine and has no metrics.
        pid: Option<u32>,
    },
}

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
            "there is no relay to start: no {}, and $CORELAY is not set. Build it (cargo build --release), name it with --relay, \
             or point to one that runs with --url",
            beside.display()
        )
    })
}

/// A relay of our own. Dropped, it is ended.
pub struct Relay {
    process: Process,
    configuration: PathBuf,
    /// Where players connect, as in `ws://…`.
    pub url: String,
    pub metrics_url: String,
}

impl Relay {
    /// Starts `binary` for `connections`, and waits until it is ready.
    pub fn start(binary: &Path, connections: u32, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let name = format!("corelay-million-{}-{}.toml", std::process::id(), clock::now_ns());
        let configuration = std::env::temp_dir().join(name);
        std::fs::write(&configuration, configuration_text())
            .with_context(|| configuration.display().to_string())?;
        let mut command = Command::new(binary);
        // Ports of the kernel's choice; the line that says "ready" names them.
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--ephemeral",
        ]);
        command.arg("--connections-max").arg(connections.to_string()).arg("--config").arg(&configuration);
        let process = Process::start(&mut command, END_TIME).inspect_err(|_| remove(&configuration));
        let process = process.context("the relay; --relay or $CORELAY names its binary")?;
        let mut relay = Self { process, configuration, url: String::new(), metrics_url: String::new() };
        let ready = |log: &str| log.lines().find_map(ready_line);
        let ready = relay.process.await_ready(START_TIME, interrupted, ready);
        (relay.url, relay.metrics_url) = ready.context("the relay")?;
        Ok(relay)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How it ended, if it did.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.process.exit()
    }

    /// Where its log is, and the end of it.
    pub fn log_excerpt(&mut self) -> String {
        self.process.log_excerpt()
    }

    /// Ends it; an error if it does not end with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        match self.process.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the relay ended with {status} after SIGTERM; {}", self.log_excerpt()),
            None => bail!("the relay had to be killed after SIGTERM; {}", self.log_excerpt()),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        remove(&self.configuration);
    }
}

/// What cannot be removed stays in the temporary folder.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
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

    #[test]
    fn a_relay_that_cannot_start_is_told_with_its_log() {
        let start = |binary| Relay::start(Path::new(binary), 1_000, &AtomicBool::new(false));
        let error = format!("{:#}", start("/nowhere/corelay").err().unwrap());
        assert!(error.contains("--relay or $CORELAY"), "{error}");
        // `false` knows no flags and says nothing.
        let error = format!("{:#}", start("/bin/false").err().unwrap());
        assert!(error.contains("exit status: 1") && error.contains("logged nothing"), "{error}");
    }
}
