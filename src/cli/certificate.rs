//! `corelay cert`: a certificate and its key, for trying.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::Failure;
use crate::limits::SELF_SIGNED_DAYS;
use crate::rim::Clock;
use crate::tls::self_signed;

pub(super) const AFTER_HELP: &str = "\
Nobody trusts such a certificate unless told to: for players use one of a certificate authority. Example:
  corelay cert --self-signed localhost >tls.toml
  corelay --config tls.toml                      wss://localhost:4443/play/{game}
  NODE_EXTRA_CA_CERTS=localhost.crt node game.mjs

It writes HOST.crt and HOST.key, and the lines of corelay.toml that name them. A file that is there already is left alone.";

#[derive(Debug, Args)]
pub(super) struct CertificateArguments {
    /// The name or address that clients connect to
    #[arg(long, value_name = "HOST")]
    self_signed: String,
    /// Where the files are written
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    out_dir: PathBuf,
}

pub(super) fn run(arguments: &CertificateArguments) -> Result<ExitCode, Failure> {
    let CertificateArguments { self_signed: host, out_dir } = arguments;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:*".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) || host.starts_with('-') {
        return Err(Failure::usage(format!("--self-signed {host:?} is no host name or address")));
    }
    let pair = self_signed::make(host, Clock::start().now().unix_s())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let stem = host.replace(['*', ':'], "_");
    let [file, key] = ["crt", "key"].map(|extension| out_dir.join(format!("{stem}.{extension}")));
    // The key first: a certificate without a key is of no use.
    write_new(&key, 0o600, &pair.key)?;
    write_new(&file, 0o644, &pair.certificate)?;
    let lines = format!(
        "listen_tls = \"127.0.0.1:4443\"\n[[certificate]]\nfile = {:?}\nkey = {:?}\n",
        file.display().to_string(),
        key.display().to_string()
    );
    io::stdout().write_all(lines.as_bytes()).context("cannot write what to configure")?;
    let _ = writeln!(io::stderr(), "good for {SELF_SIGNED_DAYS} days, for clients that are told to trust it");
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
