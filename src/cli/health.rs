//! `corelay healthcheck`: asks the admin pages of a relay that runs here whether it is well, for containers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::{EXIT_FAILED, Failure, config_file, environment, flag};
use crate::config;
use crate::server::reachable;

pub(super) const AFTER_HELP: &str = "\
Examples:
  corelay healthcheck                            for HEALTHCHECK of a container
  corelay healthcheck --ready                    for a probe of a load balancer

Exit codes: 0 it is well, 1 it is not, or nobody answers, 2 wrong command line or configuration.
Where its admin pages are is read as the relay reads it: flag, CORELAY_ADMIN, configuration file.";

/// For the connection, for the question, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// An answer is a word or a few lines. More is not read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// Where the admin pages are [default: 127.0.0.1:4001]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The configuration file; also the variable CORELAY_CONFIG [default: corelay.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whether players may come (/readyz), not only whether it is alive (/livez)
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(arguments: HealthArguments) -> Result<ExitCode, Failure> {
    let HealthArguments { admin, config, ready } = arguments;
    let flags = flag(("admin", admin)).into_iter().collect();
    let admin = config::load(config_file(config).as_deref(), environment(), flags)?.draft.admin;
    let page = if ready { "/readyz" } else { "/livez" };
    let (is_well, text) = ask(reachable(admin), page)?;
    write!(io::stdout(), "{text}").context("cannot write the answer")?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Whether the answer is 200, and its body.
fn ask(admin: SocketAddr, page: &str) -> anyhow::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)
        .with_context(|| format!("no relay answers on {admin} (other admin pages: --admin ADDRESS)"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).with_context(|| format!("{admin} ends the connection"))?;
    let mut answer = String::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    read.with_context(|| format!("{admin} does not answer {page} within {PATIENCE:?}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("{admin} speaks no HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok((true, body.to_owned())),
        Some("503") => Ok((false, body.to_owned())),
        _ => bail!("{admin} is no relay's admin page: {}", head.lines().next().unwrap_or_default()),
    }
}
