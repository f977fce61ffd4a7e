//! The relay under test: started for the run with a configuration and a log of its own, ended with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::clock;
use crate::uring::in_own_session;

/// How long a relay may take to be ready.
const START_NS: u64 = 30_000_000_000;
/// How long it may take to end: it drains for at most 30 s.
const STOP_NS: u64 = 40_000_000_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of the log that an error shows.
const LOG_LINES_SHOWN: usize = 8;

/// Silence after which the relay pings: at the default of 5 s a million silent players cost 200,000 pings a second.
pub const PING_AFTER_MS: u32 = 60_000;
/// Silence after which it closes.
pub const CLOSE_AFTER_MS: u32 = 180_000;
/// Ticks of every game.
pub const TICK_HZ: u32 = 5;

/// A relay of our own. Dropped, it is ended.
pub struct Relay {
    child: Child,
    ended: bool,
    /// Where players connect, as in `ws://…`.
    pub url: String,
    /// Its metrics.
    pub metrics_url: String,
    /// Its threads.
    pub shards: Option<u32>,
    log: PathBuf,
    configuration: PathBuf,
}

impl Relay {
    /// Starts `binary` for `connections`, and waits until it is ready.
    pub fn start(binary: &Path, connections: u32, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let name = format!("corelay-million-{}-{}", std::process::id(), clock::now_ns());
        let in_temporary = |extension: &str| std::env::temp_dir().join(&name).with_extension(extension);
        let (log, configuration) = (in_temporary("log"), in_temporary("toml"));
        std::fs::write(&configuration, configuration_text())
            .with_context(|| configuration.display().to_string())?;
        let mut command = Command::new(binary);
        // Ports of the kernel's choice; the line that says "ready" names them.
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--connections-max").arg(connections.to_string()).arg("--config").arg(&configuration);
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = in_own_session(&mut command).spawn().with_context(|| {
            format!("{}: the relay cannot be started; --relay or $CORELAY names its binary", binary.display())
        });
        let child = child.inspect_err(|_| remove(&[&log, &configuration]))?;
        let (url, metrics_url) = (String::new(), String::new());
        let mut relay = Self { child, ended: false, url, metrics_url, shards: None, log, configuration };
        relay.await_ready(interrupted)?;
        Ok(relay)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        let exit = self.child.try_wait().ok().flatten();
        self.ended |= exit.is_some();
        exit
    }

    /// Where its log is, and the end of it.
    pub fn log_excerpt(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        if text.is_empty() {
            return "it has logged nothing".to_owned();
        }
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        let shown: String = last.iter().map(|line| format!("\n  {line}")).collect();
        format!("its log is {}{shown}", self.log.display())
    }

    /// Ends it as an operator would; an error if it does not end with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        match self.end() {
            Some(status) if status.success() => {
                remove(&[&self.log]);
                Ok(())
            }
            Some(status) => bail!("the relay ended with {status} after SIGTERM; {}", self.log_excerpt()),
            None => bail!("the relay had to be killed after SIGTERM; {}", self.log_excerpt()),
        }
    }

    fn await_ready(&mut self, interrupted: &AtomicBool) -> anyhow::Result<()> {
        let deadline_ns = clock::now_ns() + START_NS;
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(ready) = text.lines().find_map(ready_line) {
                (self.url, self.metrics_url, self.shards) = ready;
                return Ok(());
            }
            if let Some(status) = self.exit() {
                bail!("the relay ended with {status} before it was ready; {}", self.log_excerpt());
            }
            if interrupted.load(Relaxed) {
                bail!("interrupted before the relay was ready");
            }
            if clock::now_ns() > deadline_ns {
                bail!("the relay was not ready after {} s; {}", START_NS / 1_000_000_000, self.log_excerpt());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// SIGTERM, and SIGKILL after a while; `None`: the latter was needed.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.exit() {
            return Some(status);
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline_ns = clock::now_ns() + STOP_NS;
        while clock::now_ns() < deadline_ns {
            if let Some(status) = self.exit() {
                return Some(status);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
        None
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
        remove(&[&self.configuration]);
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() == 0) {
            remove(&[&self.log]);
        }
    }
}

fn configuration_text() -> String {
    format!(
        "[liveness]\nping_after_ms = {PING_AFTER_MS}\nclose_after_ms = {CLOSE_AFTER_MS}\n\n\
         [[game]]\npattern = \"*\"\ntick_hz = {TICK_HZ}\n"
    )
}

/// URL, metrics and shards from the line of the log that says that everything runs.
fn ready_line(line: &str) -> Option<(String, String, Option<u32>)> {
    let line: Json = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str().filter(|_| line["message"] == "ready");
    let shards = line["shards"].as_u64().and_then(|shards| u32::try_from(shards).ok());
    Some((format!("ws://{}", address("listen")?), format!("http://{}/metrics", address("admin")?), shards))
}

/// What cannot be removed stays in the temporary folder.
fn remove(paths: &[&PathBuf]) {
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_is_found_among_others() {
        let line =
            r#"{"level":"INFO","message":"ready","listen":"127.0.0.1:9","admin":"127.0.0.1:8","shards":3}"#;
        let expected = ("ws://127.0.0.1:9".to_owned(), "http://127.0.0.1:8/metrics".to_owned(), Some(3));
        assert_eq!(ready_line(line), Some(expected));
        assert_eq!(ready_line(r#"{"message":"development mode"}"#), None);
        assert_eq!(ready_line("ready"), None);
    }

    #[test]
    fn a_relay_that_cannot_start_is_told_with_its_log() {
        let start = |binary| Relay::start(Path::new(binary), 1_000, &AtomicBool::new(false));
        let error = start("/nowhere/corelay").err().unwrap();
        assert!(format!("{error:#}").contains("--relay or $CORELAY"), "{error:#}");
        // `false` knows no flags and says nothing.
        let error = start("/bin/false").err().unwrap().to_string();
        assert!(error.contains("exit status: 1") && error.contains("logged nothing"), "{error}");
    }
}
