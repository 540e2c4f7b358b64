//! Care of what is stored: backup, restore, encryption keys, and etcd's own upkeep.
//!
//! These commands go to etcd itself, past the API: they must work when no server does.

mod backup;
mod encryption;
mod reach;
mod store;

use crate::global::Global;
use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Save all objects to a file, consistent as of one moment
    #[command(
        after_help = "The instance may run meanwhile. Secrets stay encrypted: DIR/pki/encryption-keys.json is not in the file, and belongs\nin a safe place of its own.\n\nExamples:\n  clusterctl backup /backup/objects.jsonl\n  clusterctl backup objects.jsonl --etcd-endpoints https://10.0.0.1:2379 --etcd-ca ca.crt --etcd-cert c.crt --etcd-key c.key"
    )]
    Backup(backup::BackupArgs),
    /// Make all objects of a backup anew, in a data directory that has none, and verify them
    #[command(
        after_help = "The instance must not run. Objects keep their uid; resource versions begin anew.\n\nExamples:\n  clusterctl restore /backup/objects.jsonl --encryption-keys /safe/encryption-keys.json --data-dir /srv/new\n  clusterctl restore /backup/objects.jsonl --check      read and verify the file only"
    )]
    Restore(backup::RestoreArgs),
    /// The keys that encrypt Secrets in etcd
    #[command(subcommand, after_help = "Example:\n  clusterctl encryption status")]
    Encryption(encryption::Command),
    /// The etcd that stores everything
    #[command(subcommand, after_help = "Example:\n  clusterctl store status")]
    Store(store::Command),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<()> {
        match self {
            Command::Backup(args) => backup::save(&global.data_dir, &args).await,
            Command::Restore(args) => backup::restore(&global.data_dir, &args).await,
            Command::Encryption(command) => command.run(&global.data_dir).await,
            Command::Store(command) => command.run(&global.data_dir).await,
        }
    }
}

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Form {
    /// Prints `data` as JSON, or as `lines` for people.
    pub fn print(self, data: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<()> {
        match self {
            Form::Json => println!("{}", serde_json::to_string_pretty(data)?),
            Form::Table => lines().iter().for_each(|line| println!("{line}")),
        }
        Ok(())
    }
}
