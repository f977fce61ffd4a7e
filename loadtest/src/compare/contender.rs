//! Who takes part: corelay, the peers that are built beside this program, and servers that somebody else has started.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::dialect::DialectName;
use crate::process::Process;
use crate::server::Server;

/// What all others are compared with; always measured.
pub const CORELAY: &str = "corelay";
/// corelay without io_uring.
const ON_EPOLL: &str = "corelay-epoll";
/// The peer that has one thread, whatever is asked for.
const BARE: &str = "bare";
/// Names of the peers, and of `--only`.
const PEERS: [&str; 4] = ["fastwebsockets", "tokio-tungstenite", BARE, ON_EPOLL];

const START_TIME: Duration = Duration::from_secs(10);
const END_TIME: Duration = Duration::from_secs(5);

/// One of those that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// In the table, and before the dot of its figures.
    pub name: String,
    pub dialect: DialectName,
    origin: Origin,
}

/// Where a server comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Program(PathBuf),
    /// It runs already; its process is known if it is on this machine.
    Elsewhere {
        url: String,
        pid: Option<u32>,
    },
}

/// A server that accepts. Dropped, it is ended, if it was started here.
pub struct Running {
    pub url: String,
    pub pid: Option<u32>,
    /// What it runs on, `io_uring` or `epoll`, if it tells.
    pub driver: Option<String>,
    process: Option<Process>,
}

impl Contender {
    /// corelay, or a peer, whose program is in `directory`.
    fn program(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let is_corelay = is_corelay(name);
        let file = if is_corelay { CORELAY.to_owned() } else { format!("peer-{name}") };
        let path = directory.join(file);
        if !path.is_file() {
            bail!("{} is not there; `cargo build --release --workspace` builds all of them", path.display());
        }
        let dialect = if is_corelay || name == BARE { DialectName::Native } else { DialectName::Raw };
        Ok(Self { name: name.to_owned(), dialect, origin: Origin::Program(path) })
    }

    /// An error: its processor time and memory cannot be read.
    pub fn known_process(&self) -> Result<(), String> {
        match &self.origin {
            Origin::Elsewhere { pid: None, .. } => {
                Err("its process is not known: --peer NAME=URL@PID".to_owned())
            }
            Origin::Elsewhere { .. } | Origin::Program(_) => Ok(()),
        }
    }

    /// How many threads it has; `None`: unknown.
    pub fn threads(&self, threads: Option<u32>) -> Option<u32> {
        match &self.origin {
            Origin::Program(_) if self.name == BARE => Some(1),
            Origin::Program(_) => Some(threads.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, |processors| processors.get() as u32)
            })),
            Origin::Elsewhere { .. } => None,
        }
    }

    /// Starts it in a session of its own, if it is to be started, and waits until it accepts.
    pub fn start(&self, threads: Option<u32>, interrupted: &AtomicBool) -> anyhow::Result<Running> {
        let program = match &self.origin {
            Origin::Elsewhere { url, pid } => {
                return Ok(Running { url: url.clone(), pid: *pid, driver: None, process: None });
            }
            Origin::Program(program) => program,
        };
        let [listen, admin] = free_addresses()?;
        let mut command = Command::new(program);
        command.arg("--listen").arg(listen.to_string());
        let threads = self.threads(threads).unwrap_or(1).to_string();
        match self.name.as_str() {
            CORELAY => command.args(["--admin", &admin.to_string(), "--shards", &threads, "--ephemeral"]),
            ON_EPOLL => command
                .args(["--admin", &admin.to_string(), "--shards", &threads, "--ephemeral"])
                .args(["--driver", "epoll"]),
            BARE => &mut command,
            _ => command.args(["--threads", &threads]),
        };
        // What would configure a relay besides its arguments.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("CORELAY_")) {
            command.env_remove(name);
        }
        let mut process = Process::start(&mut command, END_TIME)?;
        let accepts = |_: &str| TcpStream::connect(listen).ok().map(drop);
        process.await_ready(START_TIME, interrupted, accepts)?;
        let (url, pid) = (format!("ws://{listen}"), Some(process.pid()));
        let server = Server { metrics_url: format!("http://{admin}/metrics"), pid };
        let driver = if is_corelay(&self.name) { server.sample().driver } else { None };
        Ok(Running { url, pid, driver, process: Some(process) })
    }
}

fn is_corelay(name: &str) -> bool {
    [CORELAY, ON_EPOLL].contains(&name)
}

impl Running {
    /// The end of what it has logged, to be appended to an error.
    pub fn log_excerpt(&mut self) -> String {
        self.process.as_mut().map_or(String::new(), |process| format!("; {}", process.log_excerpt()))
    }
}

/// Two addresses that nobody listens on at the moment.
fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port");
    // Both are held before one is given back, so that they differ.
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}

/// `--peer NAME=URL` or `NAME=URL@PID`: a server that somebody else has started.
impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it must be NAME=ws://HOST:PORT or NAME=ws://HOST:PORT@PID".to_owned();
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err("NAME must be letters, digits, '-' and '_'".to_owned());
        }
        let (url, pid) = match rest.rsplit_once('@') {
            None => (rest, None),
            Some((url, pid)) => (url, Some(pid.parse().map_err(|_| format!("'{pid}' is no process id"))?)),
        };
        if !url.starts_with("ws://") {
            return Err(wrong());
        }
        let origin = Origin::Elsewhere { url: url.to_owned(), pid };
        Ok(Self { name: name.to_owned(), dialect: DialectName::Raw, origin })
    }
}

/// Everybody that `--only` and `--peer` ask for, corelay first.
pub fn line_up(only: &[String], peers: &[Contender]) -> anyhow::Result<Vec<Contender>> {
    if let Some(unknown) = only.iter().find(|name| *name != CORELAY && !PEERS.contains(&name.as_str())) {
        bail!("--only {unknown}: there are {} (corelay is always measured)", PEERS.join(", "));
    }
    let directory = std::env::current_exe().context("where this program is")?.with_file_name("");
    let mut contenders = vec![Contender::program(&directory, CORELAY)?];
    for name in PEERS.into_iter().filter(|name| only.is_empty() || only.iter().any(|only| only == name)) {
        contenders.push(Contender::program(&directory, name)?);
    }
    for peer in peers {
        if contenders.iter().any(|known| known.name == peer.name) {
            bail!("--peer {}: the name is taken", peer.name);
        }
        contenders.push(peer.clone());
    }
    if contenders.len() == 1 {
        bail!("--only {CORELAY}: there is nobody to compare it with; there are {}", PEERS.join(", "));
    }
    Ok(contenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_a_url_and_perhaps_a_process() {
        let peer = |text: &str| text.parse::<Contender>();
        let origin = |pid| Origin::Elsewhere { url: "ws://10.0.0.1:9000".into(), pid };
        let go = peer("go=ws://10.0.0.1:9000").unwrap();
        assert_eq!((go.name.as_str(), &go.origin, go.known_process().is_ok()), ("go", &origin(None), false));
        assert_eq!(peer("go=ws://10.0.0.1:9000@42").unwrap().origin, origin(Some(42)));
        let bad = [
            "ws://10.0.0.1:9000",
            "=ws://a:1",
            "a b=ws://a:1",
            "a.b=ws://a:1",
            "go=http://a:1",
            "go=ws://a:1@x",
        ];
        for bad in bad {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
