//! `corelay man` and `corelay completions`: what packages install beside the binary.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// Whose completions
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write a page for the relay and one for each command here, instead of the relay's to standard output
    #[arg(long, value_name = "DIRECTORY")]
    out_dir: Option<PathBuf>,
}

pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "corelay", &mut script);
    io::stdout().write_all(&script).context("cannot write the completions")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(arguments: &ManArguments, command: Command) -> Result<ExitCode, Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match &arguments.out_dir {
        None => io::stdout().write_all(page(command)?.as_bytes()).context("cannot write the page")?,
        Some(directory) => write_pages(command, directory)
            .with_context(|| format!("cannot write the pages into {}", directory.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the command, and one for each command below it.
fn write_pages(command: Command, directory: &Path) -> anyhow::Result<()> {
    for below in command.get_subcommands() {
        write_pages(below.clone(), directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let file = directory.join(format!("{name}.1"));
    Ok(fs::write(file, page(command)?)?)
}

/// The page in roff. Names of flags and variables are not broken, and examples keep their lines, so that both can be copied.
fn page(command: Command) -> anyhow::Result<String> {
    let man = Man::new(command).source(concat!("corelay ", env!("CARGO_PKG_VERSION")));
    let mut roff = Vec::new();
    man.render(&mut roff)?;
    let roff = String::from_utf8(roff)?;
    let kept = roff.replace("\n.SH NAME\n", "\n.nh\n.ad l\n.SH NAME\n");
    let Some((head, below)) = kept.split_once("\n.SH EXTRA\n") else { return Ok(kept) };
    let (notes, sections) = below.split_at(below.find("\n.SH ").unwrap_or(below.len()));
    Ok(format!("{head}\n.SH NOTES\n.nf\n{}\n.fi{sections}\n", notes.trim_end()))
}
