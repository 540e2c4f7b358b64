//! `completion`: what shells need to complete our commands and flags.

use anyhow::{Context, Result};
use clap_complete::Shell;

/// Which shell.
#[derive(clap::Args, Debug)]
pub struct CompletionArgs {
    /// The shell.
    pub shell: Shell,
}

/// Prints the script for this command line.
pub fn run(args: &CompletionArgs, mut cli: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "clusterctl", &mut script);
    print!("{}", String::from_utf8(script).context("the script is no text")?);
    Ok(())
}
