//! `clusterctl encryption`: the keys of Secrets.

use super::{Form, reach};
use crate::control::etcd::{EtcdArgs, key_file};
use crate::instance::Instance;
use anyhow::{Context, Result};
use clap::Subcommand;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// What to do with the keys.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the keys' ids, the encrypting one first, and which of them are in use
    #[command(after_help = "Example:\n  clusterctl encryption status -o json")]
    Status {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        etcd: EtcdArgs,
    },
    /// Make a new key and encrypt with it from now on; a running server rewrites all Secrets within seconds
    #[command(
        after_help = "With one server only; with several see `stage`.\n\nExample:\n  clusterctl encryption rotate"
    )]
    Rotate,
    /// Add a new key that only decrypts, to be copied to every server before it is promoted
    #[command(
        after_help = "With several servers: stage, copy DIR/pki/encryption-keys.json to all, promote, copy again.\n\nExample:\n  clusterctl encryption stage"
    )]
    Stage,
    /// Encrypt with a key from now on; a running server rewrites all Secrets within seconds
    #[command(after_help = "Example:\n  clusterctl encryption promote 5f0c21aa")]
    Promote {
        /// Its id, as `status` prints it.
        id: String,
    },
    /// Forget the keys with which nothing is encrypted any more
    #[command(
        after_help = "Old backups may still need them: keep the old key file with those.\n\nExample:\n  clusterctl encryption prune"
    )]
    Prune {
        #[command(flatten)]
        etcd: EtcdArgs,
    },
}

/// One key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    encrypts: bool,
    in_use: bool,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, dir: &Path) -> Result<()> {
        let file = key_file(&Instance::open(dir)?);
        match self {
            Command::Status { output, etcd } => {
                let used = used(dir, &etcd).await?;
                let ids = file.ids()?.into_iter().enumerate();
                let keys: Vec<Key> =
                    ids.map(|(at, id)| Key { encrypts: at == 0, in_use: used.contains(&id), id }).collect();
                let word = |key: &Key| match (key.encrypts, key.in_use) {
                    (true, _) => "encrypts",
                    (false, true) => "decrypts, in use",
                    (false, false) => "decrypts, unused",
                };
                output.print(&keys, || keys.iter().map(|key| format!("{}  {}", key.id, word(key))).collect())
            }
            Command::Rotate => {
                let id = file.stage()?;
                file.promote(&id)?;
                println!("{id} encrypts from now on");
                Ok(())
            }
            Command::Stage => {
                println!("{}", file.stage()?);
                Ok(())
            }
            Command::Promote { id } => {
                file.promote(&id)?;
                println!("{id} encrypts from now on");
                Ok(())
            }
            Command::Prune { etcd } => {
                let used: Vec<String> = used(dir, &etcd).await?.into_iter().collect();
                let gone = file.prune(&used)?;
                gone.iter().for_each(|id| println!("forgot {id}"));
                Ok(())
            }
        }
    }
}

/// The keys with which something in etcd is encrypted.
async fn used(dir: &Path, etcd: &EtcdArgs) -> Result<BTreeSet<String>> {
    let reached = reach::reach(dir, etcd).await?;
    let summary = reached.keeper.summary().await.context("failed to look into etcd");
    reached.done().await?;
    Ok(summary?.encryption_keys)
}
