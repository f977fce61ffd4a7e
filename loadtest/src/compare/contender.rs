//! Who takes part: corelay, the peers that are built beside this program, and servers that somebody else has started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::cli::Compare;
use crate::dialect::DialectName;

/// What all others are compared with; always measured.
pub const CORELAY: &str = "corelay";
/// Why a server's processor time and memory are not known.
pub const NO_PID: &str = "its process is not known: --peer NAME=URL@PID";
/// Names of the peers, and of `--only`.
const PEERS: [&str; 3] = ["fastwebsockets", "tokio-tungstenite", "bare"];

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct Contender {
    /// In the table, and before the dot of its figures.
    pub name: String,
    /// What it speaks.
    pub dialect: DialectName,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a server comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Started here, with these arguments after `--listen`.
    Program(PathBuf, Arguments),
    /// Runs somewhere.
    Elsewhere(ExtraPeer),
}

/// What a program of ours is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `--admin`, `--shards`.
    Corelay,
    /// `--threads`.
    Peer,
    /// Nothing: it has one thread.
    Bare,
}

/// `--peer NAME=URL` or `NAME=URL@PID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraPeer {
    name: String,
    /// `ws://host:port`.
    pub url: String,
    /// Its process, if it runs on this machine.
    pub pid: Option<u32>,
}

impl FromStr for ExtraPeer {
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
        Ok(Self { name: name.to_owned(), url: url.to_owned(), pid })
    }
}

impl Contender {
    /// Whether its processor time and memory cannot be read.
    pub fn has_no_pid(&self) -> bool {
        matches!(&self.origin, Origin::Elsewhere(ExtraPeer { pid: None, .. }))
    }

    /// Threads it has; `None`: who knows.
    pub fn threads(&self, threads: Option<u32>) -> Option<u32> {
        match &self.origin {
            Origin::Program(_, Arguments::Bare) => Some(1),
            Origin::Program(_, Arguments::Corelay | Arguments::Peer) => Some(threads_or_all(threads)),
            Origin::Elsewhere(_) => None,
        }
    }
}

impl Arguments {
    /// Adds what comes after the program's name.
    pub fn add_to(self, command: &mut Command, listen: SocketAddr, admin: SocketAddr, threads: Option<u32>) {
        let threads = threads_or_all(threads).to_string();
        let listen = listen.to_string();
        match self {
            Self::Corelay => {
                command.args(["--listen", &listen, "--admin", &admin.to_string(), "--shards", &threads])
            }
            Self::Peer => command.args(["--listen", &listen, "--threads", &threads]),
            Self::Bare => command.args(["--listen", &listen]),
        };
    }
}

/// `--threads`, or one per processor.
fn threads_or_all(threads: Option<u32>) -> u32 {
    let processors = || std::thread::available_parallelism().map_or(1, |processors| processors.get() as u32);
    threads.unwrap_or_else(processors)
}

/// Everybody that `arguments` ask for, corelay first.
pub fn line_up(arguments: &Compare) -> anyhow::Result<Vec<Contender>> {
    if let Some(unknown) =
        arguments.only.iter().find(|name| *name != CORELAY && !PEERS.contains(&name.as_str()))
    {
        bail!("--only {unknown}: there are {} (corelay is always measured)", PEERS.join(", "));
    }
    let directory = match &arguments.bin_dir {
        Some(directory) => directory.clone(),
        None => {
            let own = std::env::current_exe().context("where this program is")?;
            own.parent().map(Path::to_path_buf).unwrap_or_default()
        }
    };
    let wanted = |name: &&str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut contenders = vec![program(&directory, CORELAY)?];
    for name in PEERS.iter().filter(|name| wanted(name)) {
        contenders.push(program(&directory, name)?);
    }
    for peer in &arguments.peers {
        if contenders.iter().any(|contender| contender.name == peer.name) {
            bail!("--peer {}: the name is taken", peer.name);
        }
        contenders.push(Contender {
            name: peer.name.clone(),
            dialect: DialectName::Raw,
            origin: Origin::Elsewhere(peer.clone()),
        });
    }
    if contenders.len() == 1 {
        bail!("--only {CORELAY}: there is nobody to compare it with; there are {}", PEERS.join(", "));
    }
    Ok(contenders)
}

fn program(directory: &Path, name: &str) -> anyhow::Result<Contender> {
    let (file, arguments, dialect) = match name {
        CORELAY => (CORELAY.to_owned(), Arguments::Corelay, DialectName::Native),
        "bare" => ("peer-bare".to_owned(), Arguments::Bare, DialectName::Native),
        _ => (format!("peer-{name}"), Arguments::Peer, DialectName::Raw),
    };
    let path = directory.join(file);
    if !path.is_file() {
        bail!(
            "{} is not there; `cargo build --release --workspace` builds all of them, --bin-dir says where they are",
            path.display()
        );
    }
    Ok(Contender { name: name.to_owned(), dialect, origin: Origin::Program(path, arguments) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_a_url_and_perhaps_a_process() {
        let peer = |text: &str| text.parse::<ExtraPeer>();
        let url = "ws://10.0.0.1:9000".to_owned();
        assert_eq!(
            peer("go=ws://10.0.0.1:9000"),
            Ok(ExtraPeer { name: "go".into(), url: url.clone(), pid: None })
        );
        assert_eq!(peer("go=ws://10.0.0.1:9000@42"), Ok(ExtraPeer { name: "go".into(), url, pid: Some(42) }));
        for bad in [
            "ws://10.0.0.1:9000",
            "=ws://a:1",
            "a b=ws://a:1",
            "a.b=ws://a:1",
            "go=http://a:1",
            "go=ws://a:1@x",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let error = program(Path::new("/nowhere"), "bare").unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/peer-bare") && error.contains("cargo build --release --workspace"),
            "{error}"
        );
    }
}
