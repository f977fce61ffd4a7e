//! Who takes part: corelay, the peers that are built beside this program, and servers that somebody else has started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::arguments::Arguments;
use super::extra_peer::ExtraPeer;
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
    Program(PathBuf, ProgramArguments),
    /// Runs somewhere.
    Elsewhere(ExtraPeer),
}

/// What a program of ours is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramArguments {
    /// `--admin`, `--shards`.
    Corelay,
    /// `--threads`.
    Peer,
    /// Nothing: it has one thread.
    Bare,
}

impl Contender {
    /// Whether its processor time and memory cannot be read.
    pub fn has_no_pid(&self) -> bool {
        matches!(&self.origin, Origin::Elsewhere(ExtraPeer { pid: None, .. }))
    }

    /// Threads it has; `None`: who knows.
    pub fn threads(&self, threads: Option<u32>) -> Option<u32> {
        match &self.origin {
            Origin::Program(_, ProgramArguments::Bare) => Some(1),
            Origin::Program(_, ProgramArguments::Corelay | ProgramArguments::Peer) => {
                Some(threads_or_all(threads))
            }
            Origin::Elsewhere(_) => None,
        }
    }
}

impl ProgramArguments {
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
pub fn line_up(arguments: &Arguments) -> anyhow::Result<Vec<Contender>> {
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
        CORELAY => (CORELAY.to_owned(), ProgramArguments::Corelay, DialectName::Native),
        "bare" => ("peer-bare".to_owned(), ProgramArguments::Bare, DialectName::Native),
        _ => (format!("peer-{name}"), ProgramArguments::Peer, DialectName::Raw),
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
    fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let error = program(Path::new("/nowhere"), "bare").unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/peer-bare") && error.contains("cargo build --release --workspace"),
            "{error}"
        );
    }
}
