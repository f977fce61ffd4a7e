//! A server that takes part, while it runs: started in a session of its own and ready when it accepts, or there already.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};

use super::contender::{Contender, Origin};
use crate::limits::raise_descriptors;
use crate::process::Process;

const START_TIME: Duration = Duration::from_secs(10);
const END_TIME: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Descriptors of a server that are no clients.
const DESCRIPTORS_RESERVE: u64 = 64;

/// A server that accepts. Dropped, it is ended, if it was started here.
pub struct Running {
    pub url: String,
    /// Its process, if that is on this machine.
    pub pid: Option<u32>,
    process: Option<Process>,
}

/// Raises the soft limit of descriptors, which the servers inherit, or says why `connections` do not fit.
pub fn make_room(connections: u32) -> anyhow::Result<()> {
    let needed = u64::from(connections) + DESCRIPTORS_RESERVE;
    let limit = raise_descriptors(needed);
    if limit < needed {
        bail!(
            "RLIMIT_NOFILE is {limit}, and a server with {connections} connections needs {needed} descriptors: raise it \
             (`ulimit -Hn`), or ask for fewer with --rooms, --players and --idle"
        );
    }
    Ok(())
}

impl Running {
    /// Starts a server, if it is to be started, and waits until it accepts.
    pub fn start(
        contender: &Contender,
        threads: Option<u32>,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let program = match &contender.origin {
            Origin::Elsewhere(peer) => {
                return Ok(Self { url: peer.url.clone(), pid: peer.pid, process: None });
            }
            Origin::Program(program) => program,
        };
        let [listen, admin] = free_addresses()?;
        let mut command = Command::new(program);
        command.args(contender.program_arguments(listen, admin, threads));
        // What would configure a relay besides its arguments.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("CORELAY_")) {
            command.env_remove(name);
        }
        let mut process = Process::start(&mut command, END_TIME)?;
        let accepts = |_: &str| TcpStream::connect_timeout(&listen, CONNECT_TIMEOUT).ok().map(drop);
        process.await_ready(START_TIME, interrupted, accepts)?;
        Ok(Self { url: format!("ws://{listen}"), pid: Some(process.pid()), process: Some(process) })
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_the_way_is_named_with_the_arithmetic() {
        let error = make_room(u32::MAX - 1).unwrap_err().to_string();
        assert!(error.contains("4294967358 descriptors") && error.contains("--idle"), "{error}");
        assert!(make_room(1).is_ok());
    }
}
