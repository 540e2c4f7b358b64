//! `completion`: what shells need to complete our commands and flags.

use crate::cli::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

/// Which shell.
#[derive(clap::Args, Debug)]
pub struct CompletionArgs {
    /// The shell.
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "clusterctl", &mut script);
    print!("{}", String::from_utf8(script).context("the script is no text")?);
    Ok(())
}
