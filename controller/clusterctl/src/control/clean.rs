//! `clusterctl clean`: leaves nothing behind but the image cache.
//!
//! Works without the controller, so that an instance whose data is damaged can be cleaned, too.

use crate::instance::Instance;
use agent::teardown;
use anyhow::{Context, Result, bail};
use process::Record;
use std::path::Path;
use std::time::Duration;

/// What to clean.
#[derive(clap::Args, Clone, Debug)]
pub struct CleanArgs {
    /// Delete the image cache, too.
    #[arg(long)]
    pub images: bool,
}

/// Ends every process of the instance, then removes its namespaces and files. Gathers what fails, and may be repeated.
pub async fn run(dir: &Path, args: &CleanArgs) -> Result<()> {
    let nothing_cached = !args.images || !dir.join("cache").exists();
    if !dir.join("instance").exists() && nothing_cached {
        println!("nothing to clean in {}", dir.display());
        return Ok(());
    }
    let keepers = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    if dir.join("instance").exists() {
        let instance = Instance::open(dir)?;
        let mut errors = controller(&instance).await;
        let (ended, failed) = teardown::end_recorded(dir, &dir.join("cache")).await;
        errors.extend(failed.into_iter().map(anyhow::Error::from));
        for host in instance.hosts() {
            errors.extend(teardown::remove_namespaces(instance.id(), &host).await.into_iter().map(anyhow::Error::from));
        }
        let switch = agent::underlay::remove_switch(instance.id()).await;
        errors.extend(switch.err().map(anyhow::Error::from));
        if !errors.is_empty() {
            for error in &errors {
                eprintln!("error: {error:#}");
            }
            bail!("{} things could not be removed; run `clusterctl clean` again", errors.len());
        }
        println!("ended {ended} processes");
    }
    files(dir, args.images)?;
    // Kept until now: what a clean that failed has left is found on the same ports.
    process::Claims::of_machine().release(&keepers);
    Ok(())
}

/// Ends `up` first, which would start the others again, then the server and the agents.
async fn controller(instance: &Instance) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    let agents = instance.hosts().into_iter().map(|host| format!("agent-{host}"));
    for name in std::iter::once("up".to_owned()).chain(agents).chain(std::iter::once("server".to_owned())) {
        let ended = async {
            let record = Record::load(&instance.record(&name)?).context("failed to read a record")?;
            match record.and_then(|record| record.running()) {
                Some(id) => {
                    id.terminate(Duration::from_secs(20)).await.with_context(|| format!("failed to stop {name}"))
                }
                None => Ok(()),
            }
        };
        errors.extend(ended.await.err());
    }
    errors
}

/// Removes the files; the instance's identity goes last, so that an interrupted clean can be repeated.
fn files(dir: &Path, images: bool) -> Result<()> {
    let names = ["hosts", "underlay", "etcd", "server", "pki", "logs", "kubeconfig", "instance"];
    let cache = ["cache"];
    for name in names.iter().chain(cache.iter().filter(|_| images)) {
        let path = dir.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            _ => println!("removed {}", path.display()),
        }
    }
    // Empty unless somebody put something of their own there, or the cache stays.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}
