//! `patch`: changes fields of an object by a patch.

use super::api;
use super::apply::DryRun;
use super::catalog::Catalog;
use super::get;
use super::output::{self, Output};
use crate::print::Ending;
use anyhow::{Context, Result};
use http::Method;
use kube::Client;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to patch, and how.
#[derive(clap::Args, Debug)]
pub struct PatchArgs {
    /// Kind and names, or `kind/name`.
    #[arg(required = true, value_name = "TYPE/NAME")]
    pub targets: Vec<String>,
    /// The patch, as JSON or YAML.
    #[arg(short, long, required_unless_present = "patch_file", value_name = "PATCH")]
    pub patch: Option<String>,
    /// A file with the patch.
    #[arg(long, conflicts_with = "patch", value_name = "FILE")]
    pub patch_file: Option<PathBuf>,
    /// `merge` (RFC 7386) or `json` (RFC 6902).
    #[arg(long = "type", default_value = "merge", value_name = "TYPE")]
    pub kind: Kind,
    /// Patch this subresource instead.
    #[arg(long, value_parser = ["status"])]
    pub subresource: Option<String>,
    /// `server`: let the server check it and store nothing.
    #[arg(long, default_value = "none", value_name = "WHERE")]
    pub dry_run: DryRun,
    /// Print the object instead: yaml, json, name, jsonpath=TEMPLATE.
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
}

/// The languages of patches.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is named is changed, `null` removes.
    Merge,
    /// A list of operations.
    Json,
}

/// Patches every object named.
pub async fn run(client: &Client, namespace: &str, args: &PatchArgs) -> Result<ExitCode> {
    let patch = read(args)?;
    let catalog = Catalog::load(client).await?;
    let content_type = if args.kind == Kind::Json { api::JSON_PATCH } else { api::MERGE };
    for target in get::targets(&catalog, &args.targets)? {
        if target.names.is_empty() {
            return Err(Ending::Usage("name the objects to patch".to_owned()).into());
        }
        for name in &target.names {
            let url = target.resource.object(namespace, name);
            let before = api::read(client, &url).await?;
            let part = args.subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
            let after = match args.dry_run {
                DryRun::Client => before.clone(),
                dry => {
                    api::send(client, Method::PATCH, &format!("{url}{part}{}", dry.query()), content_type, &patch)
                        .await?
                }
            };
            if let Some(form) = &args.output {
                output::print(form, &[(target.resource.clone(), output::shown(after))], true, true)?;
                continue;
            }
            let same = args.dry_run == DryRun::None
                && before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"];
            let nothing = if same { " (no change)" } else { "" };
            println!("{} patched{nothing}{}", target.resource.object_name(name), args.dry_run.suffix());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &PatchArgs) -> Result<Value> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?
        }
        (None, None) => String::new(),
    };
    let patch: Value =
        serde_saphyr::from_str(&text).map_err(|error| Ending::Usage(format!("the patch does not parse: {error}")))?;
    let wrong = match args.kind {
        Kind::Merge if !patch.is_object() => "a merge patch is an object, such as '{\"spec\": {\"cpus\": 2}}'",
        Kind::Json if !patch.is_array() => {
            "a JSON patch is a list, such as '[{\"op\": \"replace\", \"path\": \"/spec/cpus\", \"value\": 2}]'; for an object say --type=merge"
        }
        _ => return Ok(patch),
    };
    Err(Ending::Usage(wrong.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kind: Kind, patch: &str) -> PatchArgs {
        PatchArgs {
            targets: Vec::new(),
            patch: Some(patch.to_owned()),
            patch_file: None,
            kind,
            subresource: None,
            dry_run: DryRun::None,
            output: None,
        }
    }

    #[test]
    fn a_patch_of_the_wrong_shape_says_which_is_right() {
        assert_eq!(read(&args(Kind::Merge, "spec: {cpus: 2}")).unwrap(), serde_json::json!({"spec": {"cpus": 2}}));
        for (kind, text, wanted) in [
            (Kind::Merge, "[1]", "merge patch is an object"),
            (Kind::Json, "{}", "--type=merge"),
            (Kind::Merge, "{", "parse"),
        ] {
            let error = read(&args(kind, text)).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
