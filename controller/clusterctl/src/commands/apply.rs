//! `apply`: creates what is missing, changes what differs, says so for each document.
//!
//! What a manifest no longer says is removed by comparing with the manifest of last time, which is kept in kubectl's own
//! annotation, so that both tools may be used on one object.

use super::catalog::{Catalog, Resource};
use super::manifest::{Document, Sources};
use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use std::process::ExitCode;

/// kubectl's annotation for the manifest of last time.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What to apply.
#[derive(clap::Args, Debug)]
pub struct ApplyArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: Sources,
    /// `server`: let the server check everything and store nothing.
    #[arg(long, value_parser = ["none", "server"], default_value = "none")]
    pub dry_run: String,
}

/// Applies every document; one that is refused does not hold up the others.
pub async fn run(client: &Client, namespace: &str, args: &ApplyArgs) -> Result<ExitCode> {
    let documents = args.sources.read()?;
    let dry = args.dry_run == "server";
    let refused = apply_all(client, namespace, &documents, dry).await?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies the documents and prints one line each; returns how many were refused.
pub async fn apply_all(client: &Client, namespace: &str, documents: &[Document], dry: bool) -> Result<usize> {
    let catalog = Catalog::load(client).await?;
    let mut refused = 0;
    for document in documents {
        match apply(client, &catalog, namespace, document, dry).await {
            Ok(line) => println!("{line}{}", if dry { " (server dry run)" } else { "" }),
            Err(error) => {
                refused += 1;
                eprintln!("error: {}: {error:#}", document.origin);
            }
        }
    }
    Ok(refused)
}

async fn apply(client: &Client, catalog: &Catalog, namespace: &str, document: &Document, dry: bool) -> Result<String> {
    let (kind, api_version, name) = document.identity()?;
    let resource = catalog.of_manifest(api_version, kind)?;
    let namespace = document.namespace(namespace);
    let query = if dry { "?fieldValidation=Strict&dryRun=All" } else { "?fieldValidation=Strict" };
    let mut wanted = document.object.clone();
    let last = serde_json::to_string(&document.object).context("failed to render the manifest")?;
    wanted["metadata"]["annotations"][LAST_APPLIED] = json!(last);
    let url = resource.object(namespace, name);
    let Some(found) = read(client, &url).await? else {
        if resource.namespaced {
            wanted["metadata"]["namespace"] = json!(namespace);
        }
        let url = format!("{}{query}", resource.collection(Some(namespace)));
        send(client, Request::post(url), "application/json", &wanted).await?;
        return Ok(line(resource, name, "created"));
    };
    let before: Value = found["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let patch = difference(&before, &wanted, &found);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(line(resource, name, "unchanged"));
    }
    send(client, Request::patch(format!("{url}{query}")), "application/merge-patch+json", &patch).await?;
    Ok(line(resource, name, "configured"))
}

fn line(resource: &Resource, name: &str, what: &str) -> String {
    format!("{} {what}", resource.object_name(name))
}

async fn read(client: &Client, url: &str) -> Result<Option<Value>> {
    let request = Request::get(url).body(Vec::new()).context("failed to make a request")?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn send(client: &Client, request: http::request::Builder, content_type: &str, body: &Value) -> Result<Value> {
    let body = serde_json::to_vec(body).context("failed to render the request")?;
    let request = request.header("content-type", content_type).body(body).context("failed to make a request")?;
    match client.request(request).await {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err(anyhow::anyhow!("{}", status.message)),
        Err(error) => Err(error.into()),
    }
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
            } else if !covers(there, value) {
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
    fn a_patch_changes_what_differs_removes_what_was_dropped_and_leaves_the_rest() {
        let before = json!({"spec": {"a": 1, "gone": 2, "list": [{"x": 1}]}});
        let wanted = json!({"spec": {"a": 5, "list": [{"x": 1}]}});
        let found = json!({"spec": {"a": 1, "gone": 2, "host": "h", "list": [{"x": 1, "defaulted": true}]}});
        assert_eq!(difference(&before, &wanted, &found), json!({"spec": {"a": 5, "gone": null}}));
        let same = json!({"spec": {"a": 5, "host": "h", "list": [{"x": 1, "defaulted": true}]}});
        assert_eq!(difference(&wanted, &wanted, &same), json!({}));
    }

    #[test]
    fn a_list_item_that_was_dropped_makes_a_difference() {
        let wanted = json!({"l": [{"a": 1}]});
        let found = json!({"l": [{"a": 1}, {"b": 2}]});
        assert_eq!(difference(&wanted, &wanted, &found), json!({"l": [{"a": 1}]}));
    }
}
