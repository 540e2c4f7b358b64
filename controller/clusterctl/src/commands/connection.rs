//! The way to the server: a kubeconfig, the instance's own unless another is named.

use crate::global::Global;
use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The client that a command uses.
pub async fn client(global: &Global) -> Result<Client> {
    from_file(&kubeconfig(global)?, Some(global)).await
}

/// The kubeconfig that a command uses.
pub fn kubeconfig(global: &Global) -> Result<PathBuf> {
    match &global.kubeconfig {
        Some(path) => Ok(path.clone()),
        None => own(&global.data_dir),
    }
}

/// The administrator's client of an instance.
pub async fn client_of(instance: &Instance) -> Result<Client> {
    from_file(&instance.kubeconfig(), None).await
}

/// The instance's own kubeconfig; `KUBECONFIG` when there is no instance here.
fn own(dir: &Path) -> Result<PathBuf> {
    let own = dir.join("kubeconfig");
    if own.exists() {
        return Ok(own);
    }
    match std::env::var_os("KUBECONFIG") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => bail!(
            "no controller in {}: run `clusterctl up --detach`, or pass --data-dir or --kubeconfig",
            dir.display()
        ),
    }
}

async fn from_file(path: &Path, global: Option<&Global>) -> Result<Client> {
    let kubeconfig =
        Kubeconfig::read_from(path).with_context(|| format!("failed to read the kubeconfig {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("the kubeconfig {} is not usable", path.display()))?;
    if let Some(global) = global {
        global.namespace.clone_into(&mut config.default_namespace);
        if let Some(user) = &global.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(global.as_group.clone());
        }
    }
    config.connect_timeout = Some(Duration::from_secs(5));
    // A refusal for now (503: no host, no guest agent yet) says why; asked again in silence, it would look like a hang.
    config.default_retry = false;
    Client::try_from(config).context("failed to set up the client")
}
