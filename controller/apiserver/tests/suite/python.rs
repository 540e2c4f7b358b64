//! The official Python client, typed and dynamic; what it does is in `python_client.py`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::kubectl::Kubectl;
use crate::lab::{Lab, SOON};
use crate::tls::serve;

fn interpreter() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("KUBERNETES_PYTHON") {
        return Ok(given.into());
    }
    let tools =
        std::env::var_os("CLUSTERCTL_TOOLS").map_or_else(|| "/var/cache/clusterctl/tools".into(), PathBuf::from);
    let file = tools.join("python/bin/python");
    ensure!(file.is_file(), "{} is missing: run `.ci/install test`, or set KUBERNETES_PYTHON", file.display());
    Ok(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_makes_watches_and_changes() -> Result<()> {
    let lab = Lab::new().await?;
    let home = tempfile::tempdir()?;
    let served = serve(&lab, home.path()).await?;
    // Writes the kubeconfig, too.
    Kubectl::of("kubectl".into(), home.path(), &served)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/python_client.py");
    let run = Command::new(interpreter()?)
        .args(["-I", script])
        .env_clear()
        .env("HOME", home.path())
        .env("KUBECONFIG", home.path().join("kubeconfig"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON * 3, run).await.context("the script hangs")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "done");
    served.stop().await?;
    lab.end().await
}
