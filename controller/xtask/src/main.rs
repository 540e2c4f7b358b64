//! Chores of the workspace: `cargo xtask crdgen [--check]`, `cargo xtask check-layers`.

mod crdgen;
mod layers;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crdgen"] => crdgen::write(),
        ["crdgen", "--check"] => crdgen::check(),
        ["check-layers"] => layers::check(),
        _ => bail!("usage: cargo xtask crdgen [--check] | check-layers"),
    }
}

/// The workspace's root directory.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
