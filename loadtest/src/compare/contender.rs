//! Who takes part: corelay, the peers that are built beside this program, and servers that somebody else has started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::arguments::Arguments;
use super::extra_peer::ExtraPeer;
use crate::dialect::DialectName;

/// What all others are compared with; always measured.
pub const CORELAY: &str = "corelay";
/// Why a server's processor time and memory are not known.
pub const NO_PID: &str = "its process is not known: --peer NAME=URL@PID";
/// The peer that has one thread, whatever is asked for.
const BARE: &str = "bare";
/// Names of the peers, and of `--only`.
const PEERS: [&str; 3] = ["fastwebsockets", "tokio-tungstenite", BARE];

/// One of those that are compared.
#[derive(Clone, Debug)]
pub struct Contender {
    /// In the table, and before the dot of its figures.
    pub name: String,
    pub dialect: DialectName,
    pub origin: Origin,
}

/// Where a server comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    Program(PathBuf),
    Elsewhere(ExtraPeer),
}

impl Contender {
    /// corelay, or a peer, whose program is in `directory`.
    fn program(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let file = if name == CORELAY { CORELAY.to_owned() } else { format!("peer-{name}") };
        let path = directory.join(file);
        if !path.is_file() {
            bail!("{} is not there; `cargo build --release --workspace` builds all of them", path.display());
        }
        let dialect = if [CORELAY, BARE].contains(&name) { DialectName::Native } else { DialectName::Raw };
        Ok(Self { name: name.to_owned(), dialect, origin: Origin::Program(path) })
    }

    /// Whether its processor time and memory cannot be read.
    pub fn has_no_pid(&self) -> bool {
        matches!(&self.origin, Origin::Elsewhere(ExtraPeer { pid: None, .. }))
    }

    /// How many threads it has; `None`: unknown.
    pub fn threads(&self, threads: Option<u32>) -> Option<u32> {
        match &self.origin {
            Origin::Program(_) if self.name == BARE => Some(1),
            Origin::Program(_) => Some(threads.unwrap_or_else(|| {
                std::thread::available_parallelism().map_or(1, |processors| processors.get() as u32)
            })),
            Origin::Elsewhere(_) => None,
        }
    }

    /// What its program is started with.
    pub fn program_arguments(
        &self,
        listen: SocketAddr,
        admin: SocketAddr,
        threads: Option<u32>,
    ) -> Vec<String> {
        let mut arguments = vec!["--listen".to_owned(), listen.to_string()];
        let threads = self.threads(threads).unwrap_or(1).to_string();
        match self.name.as_str() {
            CORELAY => {
                arguments.extend(["--admin".to_owned(), admin.to_string(), "--shards".to_owned(), threads]);
            }
            BARE => {}
            _ => arguments.extend(["--threads".to_owned(), threads]),
        }
        arguments
    }
}

/// Everybody that `arguments` ask for, corelay first.
pub fn line_up(arguments: &Arguments) -> anyhow::Result<Vec<Contender>> {
    let only = &arguments.only;
    if let Some(unknown) = only.iter().find(|name| *name != CORELAY && !PEERS.contains(&name.as_str())) {
        bail!("--only {unknown}: there are {} (corelay is always measured)", PEERS.join(", "));
    }
    let directory = std::env::current_exe().context("where this program is")?.with_file_name("");
    let mut contenders = vec![Contender::program(&directory, CORELAY)?];
    for name in PEERS.into_iter().filter(|name| only.is_empty() || only.iter().any(|only| only == name)) {
        contenders.push(Contender::program(&directory, name)?);
    }
    for peer in &arguments.peers {
        if contenders.iter().any(|contender| contender.name == peer.name) {
            bail!("--peer {}: the name is taken", peer.name);
        }
        let origin = Origin::Elsewhere(peer.clone());
        contenders.push(Contender { name: peer.name.clone(), dialect: DialectName::Raw, origin });
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
    fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let error = Contender::program(Path::new("/nowhere"), BARE).unwrap_err().to_string();
        assert!(error.contains("/nowhere/peer-bare"), "{error}");
        assert!(error.contains("cargo build --release --workspace"), "{error}");
    }
}
