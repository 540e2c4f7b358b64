//! `apply`: creates what is missing, changes what differs, says so for each document.
//!
//! What a manifest no longer says is removed by comparing with the manifest of last time, which is kept in kubectl's own
//! annotation, so that both tools may be used on one object. With `--server-side` the server does all that: it knows who
//! set which field, and refuses to change what is another's.

use super::api;
use super::catalog::{Catalog, Resource};
use super::manifest::{Document, Sources};
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::process::ExitCode;

/// kubectl's annotation for the manifest of last time.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What to apply.
#[derive(clap::Args, Debug)]
pub struct ApplyArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: Sources,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// How documents are applied.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct How {
    /// `server`: let the server check everything and store nothing; `client`: only say what would be sent.
    #[arg(long, default_value = "none", value_name = "WHERE")]
    pub dry_run: DryRun,
    /// Let the server merge, which refuses to change a field that another manager has set.
    #[arg(long)]
    pub server_side: bool,
    /// Take such fields from their managers.
    #[arg(long, requires = "server_side")]
    pub force_conflicts: bool,
    /// The name under which fields are set, with --server-side.
    #[arg(long, default_value = MANAGER, value_name = "NAME", value_parser = manager)]
    pub field_manager: String,
}

/// The name of this program as a manager of fields.
const MANAGER: &str = "clusterctl";

impl How {
    /// Checks what the flags cannot say by themselves.
    fn check(&self) -> Result<()> {
        if self.server_side && self.dry_run == DryRun::Client {
            bail!(Ending::Usage("--dry-run=client does not go with --server-side; --dry-run=server does".to_owned()));
        }
        Ok(())
    }

    /// The query of a server-side apply.
    fn query(&self) -> String {
        format!("{}&fieldManager={}&force={}", self.dry_run.query(), self.field_manager, self.force_conflicts)
    }
}

/// A manager's name, of letters that may stand in a URL.
fn manager(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~/:@".contains(c);
    if text.is_empty() || text.len() > 128 || !text.chars().all(fits) {
        return Err("a name has 1 to 128 letters, digits or -._~/:@".to_owned());
    }
    Ok(text.to_owned())
}

/// Whether anything is stored.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It is.
    #[default]
    None,
    /// The server checks it and stores nothing.
    Server,
    /// Nothing is sent.
    Client,
}

impl DryRun {
    /// What stands after the line of an object.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Server => " (server dry run)",
            Self::Client => " (dry run)",
        }
    }

    /// The query of a write.
    pub fn query(self) -> &'static str {
        if self == Self::None { "?fieldValidation=Strict" } else { "?fieldValidation=Strict&dryRun=All" }
    }
}

/// Applies every document; one that is refused does not hold up the others.
pub async fn run(client: &Client, namespace: &str, args: &ApplyArgs) -> Result<ExitCode> {
    args.how.check()?;
    let documents = args.sources.read()?;
    let refused = apply_all(client, namespace, &documents, &args.how).await?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies the documents and prints one line each; returns how many were refused.
pub async fn apply_all(client: &Client, namespace: &str, documents: &[Document], how: &How) -> Result<usize> {
    let catalog = Catalog::load(client).await?;
    let mut refused = 0;
    for document in documents {
        match apply(client, &catalog, namespace, document, how).await {
            Ok(line) => println!("{line}{}", how.dry_run.suffix()),
            Err(error) => {
                refused += 1;
                eprintln!("error: {}: {error:#}", document.origin);
            }
        }
    }
    Ok(refused)
}

async fn apply(client: &Client, catalog: &Catalog, namespace: &str, document: &Document, how: &How) -> Result<String> {
    if how.server_side {
        let (kind, api_version, name) = document.identity()?;
        let resource = catalog.of_manifest(api_version, kind)?;
        let url = format!("{}{}", resource.object(document.namespace(namespace), name), how.query());
        api::send(client, Method::PATCH, &url, api::APPLY, &document.object).await?;
        return Ok(format!("{} serverside-applied", resource.object_name(name)));
    }
    let dry = how.dry_run;
    let plan = plan(client, catalog, namespace, document).await?;
    if dry != DryRun::Client {
        plan.send(client, dry).await?;
    }
    let what = match plan.change {
        Change::Create(_) => "created",
        Change::Patch(_) => "configured",
        Change::None => "unchanged",
    };
    Ok(format!("{} {what}", plan.resource.object_name(&plan.name)))
}

/// What applying one document would send.
pub struct Plan<'a> {
    /// The kind.
    pub resource: &'a Resource,
    /// The object's name.
    pub name: String,
    /// The object as it is.
    pub live: Option<Value>,
    namespace: String,
    change: Change,
}

enum Change {
    Create(Value),
    Patch(Value),
    None,
}

impl Plan<'_> {
    /// Sends it, and returns what the server makes of it; `None` when there is nothing to change.
    pub async fn send(&self, client: &Client, dry: DryRun) -> Result<Option<Value>> {
        let (resource, query) = (self.resource, dry.query());
        match &self.change {
            Change::None => Ok(None),
            Change::Create(object) => {
                let url = format!("{}{query}", resource.collection(Some(&self.namespace)));
                api::send(client, Method::POST, &url, api::JSON, object).await.map(Some)
            }
            Change::Patch(patch) => {
                let url = format!("{}{query}", resource.object(&self.namespace, &self.name));
                api::send(client, Method::PATCH, &url, api::MERGE, patch).await.map(Some)
            }
        }
    }
}

/// Compares one document with what there is.
pub async fn plan<'a>(client: &Client, catalog: &'a Catalog, namespace: &str, document: &Document) -> Result<Plan<'a>> {
    let (kind, api_version, name) = document.identity()?;
    let resource = catalog.of_manifest(api_version, kind)?;
    let namespace = document.namespace(namespace).to_owned();
    let live = api::find(client, &resource.object(&namespace, name)).await?;
    let mut wanted = document.object.clone();
    let last = serde_json::to_string(&document.object).context("failed to render the manifest")?;
    let annotations = &mut wanted["metadata"]["annotations"];
    if !annotations.is_object() && !annotations.is_null() {
        bail!("metadata.annotations must be a map of text");
    }
    annotations[LAST_APPLIED] = json!(last);
    let change = match &live {
        None => {
            if resource.namespaced {
                wanted["metadata"]["namespace"] = json!(namespace);
            }
            Change::Create(wanted)
        }
        Some(found) => {
            let before: Value = found["metadata"]["annotations"][LAST_APPLIED]
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or(Value::Null);
            let patch = difference(&before, &wanted, found);
            if patch.as_object().is_none_or(serde_json::Map::is_empty) { Change::None } else { Change::Patch(patch) }
        }
    };
    Ok(Plan { resource, name: name.to_owned(), live, namespace, change })
}

/// The merge patch (RFC 7386) from `found` to `wanted`: what the manifest says and `found` has otherwise, and null for
/// what the manifest said `before` and says no longer. What others wrote stays.
fn difference(before: &Value, wanted: &Value, found: &Value) -> Value {
    let mut patch = serde_json::Map::new();
    if let Some(wanted) = wanted.as_object() {
        for (key, value) in wanted {
            let there = &found[key.as_str()];
            if value.is_object() && there.is_object() {
                let inner = difference(&before[key.as_str()], value, there);
                if inner.as_object().is_some_and(|map| !map.is_empty()) {
                    patch.insert(key.clone(), inner);
                }
            } else if !covers(there, value) || before.get(key).is_some_and(|before| before != value) {
                // A list may have lost a field of an item since last time, and still be covered by what is there.
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in before.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if wanted.get(key).is_none() && found.get(key).is_some() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    Value::Object(patch)
}

/// Whether `found` is `wanted`, or `wanted` with the server's defaults filled in.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|there| covers(there, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(there, value)| covers(there, value))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_the_manager_and_whether_to_force() {
        let how = How { server_side: true, force_conflicts: true, field_manager: "ci/x".to_owned(), ..How::default() };
        assert_eq!(how.query(), "?fieldValidation=Strict&fieldManager=ci/x&force=true");
        assert!(how.check().is_ok());
        assert!(How { dry_run: DryRun::Client, ..how }.check().is_err());
        assert!(manager("ci/x").is_ok() && manager("ci x").is_err() && manager("").is_err() && manager("a&b").is_err());
    }

    #[test]
    fn a_patch_changes_what_differs_removes_what_was_dropped_and_leaves_the_rest() {
        let before = json!({"spec": {"a": 1, "gone": 2, "list": [{"x": 1}]}});
        let wanted = json!({"spec": {"a": 5, "list": [{"x": 1}]}});
        let found = json!({"spec": {"a": 1, "gone": 2, "host": "h", "list": [{"x": 1, "defaulted": true}]}});
        assert_eq!(difference(&before, &wanted, &found), json!({"spec": {"a": 5, "gone": null}}));
        let same = json!({"spec": {"a": 5, "host": "h", "list": [{"x": 1, "defaulted": true}]}});
        assert_eq!(difference(&wanted, &wanted, &same), json!({}));
    }

    #[test]
    fn a_field_dropped_from_a_list_item_makes_a_difference() {
        let before = json!({"l": [{"a": 1, "b": 2}]});
        let wanted = json!({"l": [{"a": 1}]});
        assert_eq!(difference(&before, &wanted, &before), json!({"l": [{"a": 1}]}));
        assert_eq!(difference(&wanted, &wanted, &before), json!({}));
    }

    #[test]
    fn a_list_item_that_was_dropped_makes_a_difference() {
        let wanted = json!({"l": [{"a": 1}]});
        let found = json!({"l": [{"a": 1}, {"b": 2}]});
        assert_eq!(difference(&wanted, &wanted, &found), json!({"l": [{"a": 1}]}));
    }
}
