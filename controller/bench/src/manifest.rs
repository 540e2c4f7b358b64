//! The objects that are measured: the product's own smoke manifest, without its test.

use anyhow::{Context, Result};
use serde_json::Value;

const FRESH_SMOKE: &str = include_str!("../../../manifests/fresh-smoke.yaml");

/// Name of the smoke manifest's Cluster.
pub const CLUSTER: &str = "fresh-smoke";
/// Name of the Image that the others are layers of.
pub const BASE_IMAGE: &str = "fresh-smoke-base";

/// Objects of the smoke manifest of these kinds, in order.
pub fn of_kinds(kinds: &[&str]) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(FRESH_SMOKE).context("failed to read the smoke manifest")?;
    Ok(all.into_iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kinds.contains(&kind))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_has_what_is_measured() {
        let clusters = of_kinds(&["Cluster"]).unwrap();
        assert_eq!(clusters[0]["metadata"]["name"], CLUSTER);
        assert_eq!(clusters[0]["spec"]["nodes"].as_array().map(Vec::len), Some(6));
        assert!(of_kinds(&["Image"]).unwrap().iter().any(|image| image["metadata"]["name"] == BASE_IMAGE));
    }
}
