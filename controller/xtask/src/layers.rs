//! Proves that imports go down only.
//!
//! ```text
//!  L4  clusterctl
//!  L3  reconcilers   agent   testrun   nix-agent      speak to the API through kube::Client alone
//!  L2  apiserver   control-loop
//!  L1  store   host   reachability                    import no sibling
//!  L0  crds   dns   traffic   process   pki           import nothing of ours
//! ```

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What each crate of ours may import of ours. Development dependencies are free but for `testkit` being one.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("crds", &[][..]),
        ("process", &[]),
        ("pki", &[]),
        ("dns", &[]),
        ("traffic", &[]),
        ("store", &["process", "pki"]),
        ("host", &["process", "pki", "traffic"]),
        ("reachability", &["crds", "traffic"]),
        ("apiserver", &["store", "pki"]),
        ("control-loop", &[]),
        ("reconcilers", &["crds", "control-loop", "dns", "pki"]),
        ("agent", &["crds", "control-loop", "dns", "reachability", "host", "process", "pki"]),
        ("testrun", &["crds", "reachability", "control-loop"]),
        ("nix-agent", &["crds"]),
        (
            "clusterctl",
            &[
                "crds",
                "dns",
                "process",
                "pki",
                "reachability",
                "store",
                "host",
                "apiserver",
                "reconcilers",
                "agent",
                "testrun",
            ],
        ),
        ("testkit", &["process", "pki"]),
        ("bench", &["agent", "control-loop", "crds", "dns", "host", "pki", "process", "testkit"]),
        ("xtask", &["crds"]),
    ])
}

/// Checks every crate's dependencies, and that no reconciler folder imports another.
pub fn check() -> Result<()> {
    let mut faults = Vec::new();
    let metadata = metadata()?;
    let allowed = allowed();
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may) = allowed.get(name) else {
            faults.push(format!("crate {name} has no layer: add it to xtask/src/layers.rs and docs/architecture.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&on) && dependency["kind"].is_null() && !may.contains(&on) {
                faults.push(format!("{name} imports {on}, which its layer may not"));
            }
        }
    }
    for folder_of in ["controller/reconcilers/src", "controller/agent/src"] {
        faults.extend(siblings(&crate::root().join(folder_of))?);
    }
    if faults.is_empty() {
        println!("layers: {} crates, imports go down only", names.len());
        return Ok(());
    }
    bail!("layers are broken:\n  {}", faults.join("\n  "))
}

fn metadata() -> Result<Value> {
    let output = std::process::Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(crate::root())
        .output()
        .context("failed to run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// A kind's folder is named as its file in `crds/src`; two reconcilers are about no single kind.
fn siblings(dir: &Path) -> Result<Vec<String>> {
    let is_kind = |name: &str| {
        ["scheduler", "host_health"].contains(&name) || crate::root().join(format!("crds/src/{name}.rs")).exists()
    };
    let found = std::fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let kinds: Vec<String> = found
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_kind(name))
        .collect();
    let mut faults = Vec::new();
    for kind in &kinds {
        for file in files(&dir.join(kind))? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
            for other in kinds.iter().filter(|other| *other != kind) {
                if text.contains(&format!("crate::{other}::")) {
                    faults.push(format!("{} imports the folder of another kind, {other}", file.display()));
                }
            }
        }
    }
    Ok(faults)
}

fn files(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    Ok(all)
}
