//! `-w`: what there is, then every change, until interrupted.

use super::get::{self, GetArgs, Target, encode, request, said};
use super::output::{self, Output};
use super::view::View;
use anyhow::{Result, bail};
use futures::StreamExt;
use kube::Client;
use kube::core::WatchEvent;
use serde_json::Value;
use std::process::ExitCode;

/// Prints objects of one kind and their changes.
pub async fn run(client: &Client, namespace: &str, args: &GetArgs, targets: &[Target]) -> Result<ExitCode> {
    let [target] = targets else { bail!("you may only watch one kind at a time") };
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    let url = match target.names.as_slice() {
        // One object is watched as a collection of one.
        [name] => get::selected(
            &target.resource.collection(Some(namespace)),
            args.selector.as_deref(),
            Some(&format!("metadata.name={name}")),
        ),
        [] => get::urls(namespace, args, target).remove(0),
        _ => bail!("you may only watch one object or all of a kind at a time"),
    };
    match args.output.as_ref().unwrap_or(&Output::Table { wide: false }) {
        Output::Table { wide } => {
            tables(client, &url, &View { wide: *wide, prefix: None, all: args.all_namespaces }, args).await?
        }
        output => {
            let print = |mut object: Value| {
                object["apiVersion"] = target.resource.api_version().into();
                object["kind"] = target.resource.kind.clone().into();
                if *output == Output::Yaml {
                    println!("---");
                }
                output::print(output, &[(target.resource.clone(), output::shown(object))], true, false)
            };
            let mut list: Value = client.request(request(&url, false)?).await.map_err(said)?;
            if let Value::Array(items) = list["items"].take() {
                items.into_iter().try_for_each(print)?;
            }
            changes(client, &url, &version(&list), false, print).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn tables(client: &Client, url: &str, view: &View, args: &GetArgs) -> Result<()> {
    let first: Value = client.request(request(url, true)?).await.map_err(said)?;
    // Later tables may leave the columns out.
    let mut definitions = first["columnDefinitions"].clone();
    let rows = first["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut headings = !args.no_headers;
    if !rows.is_empty() {
        print!("{}", view.text(&definitions, rows, headings));
        headings = false;
    }
    changes(client, url, &version(&first), true, |table| {
        if table["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
            definitions = table["columnDefinitions"].clone();
        }
        let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        print!("{}", view.text(&definitions, rows, std::mem::take(&mut headings)));
        Ok(())
    })
    .await
}

/// The version of a list.
pub fn version(list: &Value) -> String {
    list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned()
}

/// Hands over every change after `version`. Ends only by an error: a watch that the server ends is taken up again.
pub async fn changes(
    client: &Client,
    url: &str,
    version: &str,
    table: bool,
    mut each: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let mut version = version.to_owned();
    let joint = if url.contains('?') { '&' } else { '?' };
    loop {
        let url = format!("{url}{joint}watch=true&allowWatchBookmarks=true&resourceVersion={}", encode(&version));
        let events = client.request_events::<Value>(request(&url, table)?).await.map_err(said)?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let change = match event {
                Ok(WatchEvent::Added(change) | WatchEvent::Modified(change) | WatchEvent::Deleted(change)) => change,
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version.clone_from(&bookmark.metadata.resource_version);
                    continue;
                }
                Ok(WatchEvent::Error(status)) => bail!("the watch ended: {}; run the command again", status.message),
                Err(error) => return Err(said(error)),
            };
            let metadata = if table { &change["rows"][0]["object"]["metadata"] } else { &change["metadata"] };
            if let Some(seen) = metadata["resourceVersion"].as_str() {
                seen.clone_into(&mut version);
            }
            each(change)?;
        }
    }
}
