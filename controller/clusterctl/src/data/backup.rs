//! `clusterctl backup` and `clusterctl restore`.

use super::{Form, reach};
use crate::control::etcd::{EtcdArgs, key_file};
use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use store::{Keeper, KeyFile, Summary};

/// What to save.
#[derive(clap::Args, Debug)]
pub struct BackupArgs {
    /// The file; one that exists is replaced once the new one is whole.
    pub file: PathBuf,
    /// Form of the summary.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// What to restore.
#[derive(clap::Args, Debug)]
pub struct RestoreArgs {
    /// The backup.
    pub file: PathBuf,
    /// The key file of the instance that was saved; copied into the data directory.
    #[arg(long, value_name = "FILE")]
    pub encryption_keys: Option<PathBuf>,
    /// Only read the file and verify it.
    #[arg(long)]
    pub check: bool,
    /// Form of the summary.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// Saves all objects.
pub async fn save(dir: &Path, args: &BackupArgs) -> Result<()> {
    let reached = reach::reach(dir, &args.etcd).await?;
    let saved = reached.keeper.backup(&args.file).await;
    reached.done().await?;
    let summary = saved.context("failed to make the backup")?;
    args.output.print(&summary, || table(&summary, "saved"))?;
    if !summary.encryption_keys.is_empty() {
        eprintln!(
            "Secrets are encrypted in this file. Keep {} in a safe place of its own: without it they are lost.",
            dir.join("pki/encryption-keys.json").display()
        );
    }
    Ok(())
}

/// Restores all objects, or checks the file only.
pub async fn restore(dir: &Path, args: &RestoreArgs) -> Result<()> {
    if args.check {
        let summary = Keeper::examine(&args.file).context("the backup is not whole")?;
        return args.output.print(&summary, || table(&summary, "readable"));
    }
    let summary = Keeper::examine(&args.file).context("failed to read the backup")?;
    let instance = Instance::create(dir)?;
    // Two writers would not see each other; and who restores wants nothing to run on the old state.
    let _up = instance.lock("up").context("end the instance first")?;
    let _server = instance.lock("server").context("end the instance first")?;
    bring_keys(&instance, args, &summary)?;
    let restored = match args.etcd.elsewhere()? {
        Some(options) => Keeper::connect(&options).await.context("failed to reach etcd")?.restore(&args.file).await,
        None => {
            let etcd = args.etcd.start(&instance).await?;
            let keeper = Keeper::connect(&etcd.store_options()).await.context("failed to reach etcd")?;
            let restored = keeper.restore(&args.file).await;
            etcd.stop().await.context("failed to stop the etcd that was started for this")?;
            restored
        }
    };
    let summary = restored.context("failed to restore the backup")?;
    args.output.print(&summary, || table(&summary, "restored and verified"))
}

/// Sees to it that what is encrypted in the backup can be read afterwards.
fn bring_keys(instance: &Instance, args: &RestoreArgs, summary: &Summary) -> Result<()> {
    let own = key_file(instance);
    let offered = args.encryption_keys.as_ref().map(KeyFile::new);
    let known = match offered.as_ref().unwrap_or(&own) {
        file if file.path().exists() => file.ids().context("failed to read the encryption keys")?,
        _ => Vec::new(),
    };
    let missing: Vec<&str> =
        summary.encryption_keys.iter().map(String::as_str).filter(|id| !known.iter().any(|k| k == id)).collect();
    if !missing.is_empty() {
        bail!(
            "the backup's Secrets are encrypted with {}: pass the key file that holds it as --encryption-keys",
            missing.join(", ")
        );
    }
    let Some(offered) = offered else { return Ok(()) };
    let bytes = std::fs::read(offered.path()).context("failed to read the encryption keys")?;
    if own.path().exists() {
        if std::fs::read(own.path()).context("failed to read the encryption keys")? == bytes {
            return Ok(());
        }
        bail!("{} exists and is another: restore into a new data directory", own.path().display());
    }
    std::fs::create_dir_all(instance.path("pki")).context("failed to make the directory of keys")?;
    process::write_atomic(own.path(), bytes, 0o600).context("failed to store the encryption keys")
}

fn table(summary: &Summary, done: &str) -> Vec<String> {
    let rows = summary
        .resources
        .iter()
        .map(|(name, tally)| format!("{:>8}  {}  {name}", tally.count, tally.digest.get(..16).unwrap_or_default()));
    let total = format!("{:>8}  objects {done}, revision {}", summary.count(), summary.revision);
    rows.chain([total]).collect()
}
