//! `corelay man` and `corelay completions`: what packages install beside the binary.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

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
    match &arguments.out_dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).context("cannot make the page")?;
            io::stdout().write_all(&page).context("cannot write the page")?;
        }
        Some(directory) => clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write the pages into {}", directory.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}
