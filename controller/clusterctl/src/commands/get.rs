//! `get`: tables made by the server, or whole objects.

use super::catalog::{Catalog, Resource};
use super::output::{self, Output};
use crate::print::table::Table;
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use http::Request;
use kube::Client;
use kube::core::WatchEvent;
use serde_json::Value;

/// What to get.
#[derive(clap::Args, Debug)]
pub struct GetArgs {
    /// Kind, kinds (`vm,port`), a category (`photon`), or `kind/name`; then names.
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    pub targets: Vec<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector: `a=b,c!=d,e in (f,g)`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Field selector: `spec.host=host01`.
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// wide, yaml, json, name, or jsonpath=TEMPLATE.
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
    /// Go on printing changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
}

/// A kind, and the names asked for (none: all).
pub struct Target {
    /// The kind.
    pub resource: Resource,
    /// The names.
    pub names: Vec<String>,
}

/// Reads `TYPE NAME…`, `TYPE/NAME…` and `TYPE,TYPE`.
pub fn targets(catalog: &Catalog, words: &[String]) -> Result<Vec<Target>> {
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let Some((kind, name)) = word.split_once('/') else {
                    bail!("there is no need to specify a resource type as a separate argument when passing TYPE/NAME: {word}")
                };
                Ok(Target { resource: catalog.find(kind)?.clone(), names: vec![name.to_owned()] })
            })
            .collect();
    }
    let Some((kinds, names)) = words.split_first() else { bail!("name a kind") };
    let resources = catalog.select(kinds)?;
    Ok(resources.into_iter().map(|resource| Target { resource: resource.clone(), names: names.to_vec() }).collect())
}

/// Prints what was asked for.
pub async fn run(client: &Client, namespace: &str, args: &GetArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let targets = targets(&catalog, &args.targets)?;
    let output = args.output.clone().unwrap_or(Output::Table { wide: false });
    let Output::Table { wide } = output else { return whole(client, namespace, args, &targets, &output).await };
    if args.watch && targets.len() > 1 {
        bail!("you may only watch one kind at a time");
    }
    let several = targets.len() > 1;
    let mut printed = false;
    for target in &targets {
        for url in urls(namespace, args, target) {
            let view = View { wide, prefix: several.then(|| target.resource.clone()), all: args.all_namespaces };
            let table: Value = client.request(request(&url, true)?).await.map_err(said)?;
            let rows = table["rows"].as_array().map_or(0, Vec::len);
            if rows > 0 {
                if printed && several {
                    println!();
                }
                print!("{}", view.render(&table, !args.no_headers));
                printed = true;
            }
            if args.watch {
                let version = table["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
                return watch(client, &url, &version, &view, &table).await;
            }
        }
    }
    if !printed {
        if args.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {namespace} namespace.");
        }
    }
    Ok(())
}

async fn whole(client: &Client, namespace: &str, args: &GetArgs, targets: &[Target], output: &Output) -> Result<()> {
    let mut objects = Vec::new();
    let alone = matches!(targets, [target] if target.names.len() == 1);
    for target in targets {
        for url in urls(namespace, args, target) {
            let answer: Value = client.request(request(&url, false)?).await.map_err(said)?;
            match answer["items"].as_array() {
                Some(items) => {
                    for item in items {
                        let mut item = item.clone();
                        item["apiVersion"] = target.resource.api_version().into();
                        item["kind"] = target.resource.kind.clone().into();
                        objects.push((target.resource.clone(), item));
                    }
                }
                None => objects.push((target.resource.clone(), answer)),
            }
        }
    }
    output::print(output, &objects, alone)
}

/// An API error's own message: it is a sentence already.
pub fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
        other => anyhow::Error::new(other).context("failed to reach the server"),
    }
}

fn urls(namespace: &str, args: &GetArgs, target: &Target) -> Vec<String> {
    if !target.names.is_empty() {
        return target.names.iter().map(|name| target.resource.object(namespace, name)).collect();
    }
    let mut url = target.resource.collection((!args.all_namespaces).then_some(namespace));
    let mut query = Vec::new();
    if let Some(selector) = &args.selector {
        query.push(format!("labelSelector={}", encode(selector)));
    }
    if let Some(selector) = &args.field_selector {
        query.push(format!("fieldSelector={}", encode(selector)));
    }
    if !query.is_empty() {
        url = format!("{url}?{}", query.join("&"));
    }
    vec![url]
}

/// Percent-encoding of a query value (RFC 3986 §2.1).
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn request(url: &str, table: bool) -> Result<Request<Vec<u8>>> {
    let accept = if table { "application/json;as=Table;v=v1;g=meta.k8s.io" } else { "application/json" };
    Request::get(url).header("accept", accept).body(Vec::new()).context("failed to make a request")
}

/// How tables are shown.
struct View {
    wide: bool,
    prefix: Option<Resource>,
    all: bool,
}

impl View {
    fn render(&self, table: &Value, headings: bool) -> String {
        self.text(&table["columnDefinitions"], &table["rows"], headings)
    }

    fn text(&self, definitions: &Value, rows: &Value, headings: bool) -> String {
        let shown: Vec<usize> = definitions
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, column)| self.wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(index, _)| index)
            .collect();
        let mut names: Vec<String> = Vec::new();
        if self.all {
            names.push("NAMESPACE".to_owned());
        }
        names.extend(shown.iter().map(|i| definitions[*i]["name"].as_str().unwrap_or_default().to_uppercase()));
        let mut text = Table::new(names);
        for row in rows.as_array().into_iter().flatten() {
            let mut cells = Vec::new();
            if self.all {
                cells.push(row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned());
            }
            for (position, index) in shown.iter().enumerate() {
                let cell = match &row["cells"][*index] {
                    Value::String(text) => text.clone(),
                    Value::Null => "<none>".to_owned(),
                    other => other.to_string(),
                };
                match &self.prefix {
                    Some(resource) if position == 0 => cells.push(resource.object_name(&cell)),
                    _ => cells.push(cell),
                }
            }
            text.push(cells);
        }
        text.render(headings)
    }
}

async fn watch(client: &Client, url: &str, version: &str, view: &View, first: &Value) -> Result<()> {
    let mut version = version.to_owned();
    // Later tables may leave the columns out.
    let mut definitions = first["columnDefinitions"].clone();
    // One object is watched as a collection of one.
    let (base, name) = match first["rows"].as_array().map(Vec::as_slice) {
        Some([row]) if url.ends_with(&format!("/{}", row["object"]["metadata"]["name"].as_str().unwrap_or("\0"))) => {
            let name = row["object"]["metadata"]["name"].as_str().unwrap_or_default();
            (url.trim_end_matches(name).trim_end_matches('/').to_owned(), Some(name.to_owned()))
        }
        _ => (url.to_owned(), None),
    };
    let selector = name.map(|name| format!("&fieldSelector={}", encode(&format!("metadata.name={name}")))).unwrap_or_default();
    loop {
        let joint = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{joint}watch=true&allowWatchBookmarks=true&resourceVersion={version}{selector}");
        let events = client.request_events::<Value>(request(&url, true)?).await.map_err(said)?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let table = match event.map_err(said)? {
                WatchEvent::Added(table) | WatchEvent::Modified(table) | WatchEvent::Deleted(table) => table,
                WatchEvent::Bookmark(bookmark) => {
                    version.clone_from(&bookmark.metadata.resource_version);
                    continue;
                }
                WatchEvent::Error(status) => bail!("{}", status.message),
            };
            if table["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
                definitions = table["columnDefinitions"].clone();
            }
            if let Some(seen) = table["rows"][0]["object"]["metadata"]["resourceVersion"].as_str() {
                seen.clone_into(&mut version);
            }
            print!("{}", view.text(&definitions, &table["rows"], false));
        }
    }
}
