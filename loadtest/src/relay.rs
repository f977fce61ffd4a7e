//! A relay of our own, started for a run with a configuration of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
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
/// A port of the kernel's choice; the line that says "ready" names it.
const ANY_PORT: &str = "127.0.0.1:0";

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

/// How a relay is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By SIGTERM, as an operator does.
    Drain,
    /// By SIGTERM, and the next one starts while it drains.
    Deploy,
    /// By SIGKILL, as a crash does.
    Kill,
}

/// What a relay is started with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub connections: u32,
    /// The text of its configuration file.
    pub configuration: &'a str,
    /// Where it keeps what is said in rooms; `None`: in memory.
    pub data_dir: Option<&'a Path>,
}

/// See the module documentation. Dropped, it is ended.
pub struct Relay {
    pub process: Process,
    /// The one before it, which drains.
    last: Option<Process>,
    /// Where players connect, as in `ws://…`.
    pub url: String,
    addresses: Addresses,
    binary: PathBuf,
    /// All but its addresses.
    arguments: Vec<String>,
    /// Removed with it.
    _configuration: NamedTempFile,
}

/// Where it listens, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Addresses {
    listen: String,
    admin: String,
}

impl Relay {
    /// Starts `binary`, and waits until it is ready. What it is told to do when this thread ends is to end.
    pub fn start(binary: &Path, settings: Settings<'_>, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let mut configuration =
            tempfile::Builder::new().prefix("corelay-loadtest-").suffix(".toml").tempfile()?;
        configuration.write_all(settings.configuration.as_bytes())?;
        let path = configuration.path().display().to_string();
        let connections = settings.connections.to_string();
        let arguments = ["--log-format", "json", "--connections-max", &connections, "--config", &path];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        match settings.data_dir {
            Some(data_dir) => arguments.extend(["--data-dir".to_owned(), data_dir.display().to_string()]),
            None => arguments.push("--ephemeral".to_owned()),
        }
        let any = Addresses { listen: ANY_PORT.to_owned(), admin: ANY_PORT.to_owned() };
        let (process, addresses) = launch(binary, &arguments, &any, interrupted)?;
        let url = format!("ws://{}", addresses.listen);
        Ok(Self {
            process,
            last: None,
            url,
            addresses,
            binary: binary.to_owned(),
            arguments,
            _configuration: configuration,
        })
    }

    /// Where its figures come from.
    pub fn server(&self) -> Server {
        let metrics_url = format!("http://{}/metrics", self.addresses.admin);
        Server { metrics_url, pid: Some(self.process.pid()) }
    }

    /// Ends it, and starts it again on the same addresses and data; it has another process then. Must be called by the thread
    /// that started it.
    pub fn restart(&mut self, ending: Ending, interrupted: &AtomicBool) -> anyhow::Result<()> {
        match ending {
            Ending::Drain => self.end()?,
            Ending::Deploy => {
                self.process.terminate();
                // The one that drains still serves its admin pages.
                self.addresses.admin = ANY_PORT.to_owned();
            }
            Ending::Kill => self.process.kill(),
        }
        let (process, addresses) = launch(&self.binary, &self.arguments, &self.addresses, interrupted)?;
        let before = std::mem::replace(&mut self.process, process);
        self.addresses = addresses;
        if ending == Ending::Deploy {
            self.last = Some(before);
        }
        Ok(())
    }

    /// Waits for the end of the one that drained while this one started; an error if it does not end with 0.
    pub fn await_last(&mut self) -> anyhow::Result<()> {
        self.last.take().map_or(Ok(()), |mut last| judge(last.await_end(), &mut last))
    }

    /// Ends it; an error if it does not end with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        judge(self.process.end(), &mut self.process)
    }
}

fn judge(exit: Option<ExitStatus>, process: &mut Process) -> anyhow::Result<()> {
    match exit {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("the relay ended with {status} after SIGTERM; {}", process.log_excerpt()),
        None => bail!("the relay had to be killed after SIGTERM; {}", process.log_excerpt()),
    }
}

/// Starts it on `addresses` and waits until it is ready: where it listens then.
fn launch(
    binary: &Path,
    arguments: &[String],
    addresses: &Addresses,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Process, Addresses)> {
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", &addresses.listen, "--admin", &addresses.admin]).args(arguments);
    let process = Process::start(&mut command, END_TIME);
    let mut process = process.context("the relay; --relay or $CORELAY names its binary")?;
    let ready = |log: &str| log.lines().find_map(ready_line);
    let addresses = process.await_ready(START_TIME, interrupted, ready).context("the relay")?;
    Ok((process, addresses))
}

/// From the line of the log that says that everything runs.
fn ready_line(line: &str) -> Option<Addresses> {
    let line: Json = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str().filter(|_| line["message"] == "ready").map(str::to_owned);
    Some(Addresses { listen: address("listen")?, admin: address("admin")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_is_found_among_others() {
        let line = r#"{"level":"INFO","message":"ready","listen":"127.0.0.1:9","admin":"127.0.0.1:8"}"#;
        let expected = Addresses { listen: "127.0.0.1:9".to_owned(), admin: "127.0.0.1:8".to_owned() };
        assert_eq!(ready_line(line), Some(expected));
        assert_eq!(ready_line(r#"{"message":"development mode"}"#), None);
        assert_eq!(ready_line("ready"), None);
    }
}
