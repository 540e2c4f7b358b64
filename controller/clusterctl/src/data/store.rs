//! `clusterctl store`: etcd's size and alarms, and the way out of a full one.

use super::{Form, reach};
use crate::control::etcd::EtcdArgs;
use anyhow::{Context, Result};
use clap::Subcommand;
use std::path::Path;
use store::{Keeper, Member};

/// What to do with etcd.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print each member's version, size and alarms
    #[command(after_help = "Example:\n  clusterctl store status -o json")]
    Status {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        etcd: EtcdArgs,
    },
    /// Forget history, give free space back, and take back the alarm of a full etcd
    #[command(
        after_help = "Each member is busy while it is at it. Watches that are behind begin anew.\n\nExample:\n  clusterctl store defrag"
    )]
    Defrag {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
        #[command(flatten)]
        etcd: EtcdArgs,
    },
}

impl Command {
    /// Runs the command.
    pub async fn run(self, dir: &Path) -> Result<()> {
        let (Command::Status { output, etcd } | Command::Defrag { output, etcd }) = &self;
        let reached = reach::reach(dir, etcd).await?;
        let members = match self {
            Command::Status { .. } => reached.keeper.members().await.context("failed to ask etcd"),
            Command::Defrag { .. } => repair(&reached.keeper).await,
        };
        reached.done().await?;
        let members = members?;
        output.print(&members, || members.iter().map(line).collect())
    }
}

async fn repair(keeper: &Keeper) -> Result<Vec<Member>> {
    keeper.compact().await.context("failed to forget history")?;
    keeper.defragment().await.context("failed to give space back")?;
    keeper.disarm().await.context("failed to take the alarm back")?;
    keeper.members().await.context("failed to ask etcd")
}

fn line(member: &Member) -> String {
    let mib = |bytes: i64| format!("{:.1} MiB", bytes.max(0).unsigned_abs() as f64 / f64::from(1 << 20));
    let role = if member.leads { "leads" } else { "follows" };
    let alarms = match member.alarms.join(", ") {
        none if none.is_empty() => "no alarm".to_owned(),
        alarms => format!("ALARM {alarms}: delete what is not needed, then `clusterctl store defrag`"),
    };
    format!(
        "{}  etcd {}  {role}  {} on disk, {} in use  {alarms}",
        member.endpoint,
        member.version,
        mib(member.size),
        mib(member.size_in_use)
    )
}
