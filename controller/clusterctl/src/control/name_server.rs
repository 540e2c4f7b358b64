//! `clusterctl name-server`: the name server of one network, which an agent starts in a process of its own.
//!
//! It has no part in anything else here: no runtime of several threads, no instance, no client, no certificate.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// The word by which an agent starts it.
pub const COMMAND: &str = "name-server";

/// What it serves.
#[derive(clap::Args, Clone, Debug)]
pub struct NameServerArgs {
    /// Directory of the files that say what is served
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Serves until it is ended.
pub fn run(args: &NameServerArgs) -> Result<()> {
    super::logging::start();
    dns::serve::run(&args.directory, dns::serve::Limits::default()).context("the name server cannot go on")
}
