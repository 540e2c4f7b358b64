//! `auth`: who the caller is, and what he may do. The words and exit codes are kubectl's.

mod can_i;
mod whoami;

use anyhow::Result;
use clap::Subcommand;
use kube::Client;
use std::process::ExitCode;

/// Questions about rights.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print whether something may be done (0: yes, 1: no)
    #[command(
        after_help = "Examples:\n  clusterctl auth can-i create vm\n  clusterctl auth can-i delete vm/web -n acme --as jane\n  clusterctl auth can-i create vm --subresource exec\n  clusterctl auth can-i get /metrics\n  clusterctl auth can-i --list -n acme"
    )]
    CanI(can_i::CanIArgs),
    /// Print who the server takes the caller for
    #[command(after_help = "Examples:\n  clusterctl auth whoami\n  clusterctl auth whoami -o json")]
    Whoami(whoami::WhoamiArgs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, client: &Client, namespace: &str) -> Result<ExitCode> {
        match self {
            Self::CanI(args) => can_i::run(client, namespace, &args).await,
            Self::Whoami(args) => whoami::run(client, &args).await.map(|()| ExitCode::SUCCESS),
        }
    }
}
