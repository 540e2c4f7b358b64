//! Renders the CRDs of crate `crds` into `crds/yaml`, one file a kind.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn rendered() -> Result<BTreeMap<PathBuf, String>> {
    let dir = crate::root().join("crds/yaml");
    crds::all()
        .iter()
        .map(|crd| {
            let text = serde_saphyr::to_string(crd).context("failed to render a CRD")?;
            Ok((dir.join(format!("{}.yaml", crd.spec.names.plural)), text))
        })
        .collect()
}

/// Writes the files, and removes those of kinds that are gone.
pub fn write() -> Result<()> {
    let wanted = rendered()?;
    for path in strangers(&wanted)? {
        std::fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    for (path, text) in wanted {
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Fails when a file differs from what would be written.
pub fn check() -> Result<()> {
    let wanted = rendered()?;
    let mut bad = strangers(&wanted)?;
    for (path, text) in wanted {
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            bad.push(path);
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    bail!("crds/yaml is out of date: run `cargo xtask crdgen` and commit the result ({bad:?})")
}

fn strangers(wanted: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let dir = crate::root().join("crds/yaml");
    std::fs::create_dir_all(&dir).context("failed to make crds/yaml")?;
    let found = std::fs::read_dir(&dir).context("failed to read crds/yaml")?;
    Ok(found.flatten().map(|entry| entry.path()).filter(|path| !wanted.contains_key(path)).collect())
}
