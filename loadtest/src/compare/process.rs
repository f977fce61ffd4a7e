//! A server as a process: started in a session of its own, ready when it accepts, ended with this value.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::contender::{Contender, Origin};
use crate::clock;

/// How long a server may take until it accepts.
const START_NS: u64 = 10_000_000_000;
/// How long it may take to end after SIGTERM.
const END_NS: u64 = 5_000_000_000;
/// Between two looks at either.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Descriptors of a server that are no clients.
const DESCRIPTORS_RESERVE: u64 = 64;
/// What is told of the log of a server that failed.
const LOG_BYTES_MAX: usize = 2000;

/// A server that accepts.
pub struct Running {
    /// `ws://host:port`.
    pub url: String,
    /// Its process, if that is on this machine.
    pub pid: Option<u32>,
    started: Option<Started>,
}

struct Started {
    child: Child,
    /// Its standard output and error.
    log: File,
}

/// Raises the soft limit of descriptors, which the servers inherit, or says why `connections` do not fit.
pub fn make_room(connections: u32) -> anyhow::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("RLIMIT_NOFILE")?;
    }
    let needed = u64::from(connections) + DESCRIPTORS_RESERVE;
    match maximum {
        Some(maximum) if maximum < needed => bail!(
            "RLIMIT_NOFILE is {maximum}, and a server with {connections} connections needs {needed} descriptors: raise it \
             (`ulimit -Hn`), or ask for fewer with --rooms, --players and --idle"
        ),
        _ => Ok(()),
    }
}

impl Running {
    /// Starts a server, if it is to be started, and waits until it accepts.
    pub fn start(contender: &Contender, threads: Option<u32>) -> anyhow::Result<Self> {
        let (program, arguments) = match &contender.origin {
            Origin::Elsewhere(peer) => {
                return Ok(Self { url: peer.url.clone(), pid: peer.pid, started: None });
            }
            Origin::Program(program, arguments) => (program, arguments),
        };
        let [listen, admin] = free_addresses()?;
        let log = temporary_file()?;
        // A session of its own, because the scheduler shares the processors between sessions first; and no server outlives
        // this process, however that ends.
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", "TERM"]).arg(program);
        arguments.add_to(&mut command, listen, admin, threads);
        own_variables().for_each(|name| _ = command.env_remove(name));
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .context("setsid and setpriv start the servers; both are in util-linux")?;
        let pid = Some(child.id());
        let mut running = Self { url: format!("ws://{listen}"), pid, started: Some(Started { child, log }) };
        running.wait_until_it_accepts(listen)?;
        Ok(running)
    }

    fn wait_until_it_accepts(&mut self, listen: SocketAddr) -> anyhow::Result<()> {
        let deadline_ns = clock::now_ns() + START_NS;
        while TcpStream::connect_timeout(&listen, CONNECT_TIMEOUT).is_err() {
            let status = self.started.as_mut().map(|started| started.child.try_wait()).transpose()?.flatten();
            if let Some(status) = status {
                bail!("it ended with {status}{}", self.log());
            }
            if clock::now_ns() > deadline_ns {
                bail!("it does not accept at {listen} after {} s{}", START_NS / 1_000_000_000, self.log());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// The end of what it has printed, to be appended to an error.
    pub fn log(&self) -> String {
        let Some(Started { log, .. }) = &self.started else { return String::new() };
        let mut bytes = Vec::new();
        let mut log = log;
        let read = log.seek(SeekFrom::Start(0)).and_then(|_| log.read_to_end(&mut bytes));
        match read {
            Ok(1..) => {
                let end = &bytes[bytes.len().saturating_sub(LOG_BYTES_MAX)..];
                format!("; it printed:\n{}", String::from_utf8_lossy(end).trim_end())
            }
            _ => String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(Started { child, .. }) = &mut self.started else { return };
        let deadline_ns = clock::now_ns() + END_NS;
        // One that has already gone is only to be waited for.
        let _ = Pid::from_raw(child.id() as i32).map(|pid| kill_process(pid, Signal::TERM));
        while matches!(child.try_wait(), Ok(None)) {
            if clock::now_ns() > deadline_ns {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Two addresses that nobody listens on at the moment.
fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port");
    // Both are held before one is given back, so that they differ.
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}

/// A file without a name.
fn temporary_file() -> anyhow::Result<File> {
    let name = format!("corelay-compare-{}-{}.log", std::process::id(), clock::now_ns());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).append(true).create_new(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    Ok(file)
}

/// What would configure a relay besides its arguments.
fn own_variables() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("CORELAY_"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::compare::contender::ProgramArguments;
    use crate::dialect::DialectName;

    fn contender(program: &str) -> Contender {
        let origin = Origin::Program(PathBuf::from(program), ProgramArguments::Bare);
        Contender { name: "x".into(), dialect: DialectName::Raw, origin }
    }

    #[test]
    fn a_program_that_ends_at_once_is_told_with_what_it_printed() {
        let Err(error) = Running::start(&contender("/bin/echo"), None) else { panic!("it accepted") };
        let error = error.to_string();
        assert!(error.contains("exit status: 0") && error.contains("--listen 127.0.0.1:"), "{error}");
    }

    #[test]
    fn a_limit_in_the_way_is_named_with_the_arithmetic() {
        let error = make_room(u32::MAX - 1).unwrap_err().to_string();
        assert!(error.contains("4294967358 descriptors") && error.contains("--idle"), "{error}");
        assert!(make_room(1).is_ok());
    }
}
