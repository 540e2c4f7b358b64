//! `get`: tables made by the server, or whole objects.

pub use super::api::said;
use super::catalog::{Catalog, Resource};
use super::columns;
use super::manifest::Sources;
use super::output::{self, Output};
use super::view::View;
use super::watch;
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use http::Request;
use kube::Client;
use serde_json::Value;
use std::process::ExitCode;

/// What to get.
#[derive(clap::Args, Debug, Default)]
pub struct GetArgs {
    /// Kind, kinds (`vm,port`), a category (`photon`), or `kind/name`; then names.
    #[arg(required_unless_present = "filename", value_name = "TYPE[/NAME]")]
    pub targets: Vec<String>,
    /// The manifests whose objects to get.
    #[command(flatten)]
    pub sources: Sources,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector: `a=b,c!=d,e in (f,g)`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Field selector: `spec.host=host01`.
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// wide, yaml, json, name, jsonpath=TEMPLATE, or custom-columns=HEADING:PATH,….
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
    /// Sort by the value at a path: `.metadata.creationTimestamp`.
    #[arg(long, value_name = "PATH")]
    pub sort_by: Option<String>,
    /// Go on printing changes.
    #[arg(short, long, conflicts_with = "sort_by")]
    pub watch: bool,
    /// Leave out the line of headings.
    #[arg(long)]
    pub no_headers: bool,
    /// No error when an object is not there.
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Show `metadata.managedFields` too.
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// A kind, and the names asked for (none: all).
pub struct Target {
    /// The kind.
    pub resource: Resource,
    /// The names.
    pub names: Vec<String>,
    /// The namespace a manifest names; else the command's.
    pub namespace: Option<String>,
}

/// Reads `TYPE NAME…`, `TYPE/NAME…` and `TYPE,TYPE`.
pub fn targets(catalog: &Catalog, words: &[String]) -> Result<Vec<Target>> {
    let target = |resource: &Resource, names| Target { resource: resource.clone(), names, namespace: None };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((kind, name)) if !name.is_empty() => Ok(target(catalog.find(kind)?, vec![name.to_owned()])),
                Some(_) => bail!("{word:?} names no object; write TYPE/NAME"),
                None => bail!(
                    "there is no need to specify a resource type as a separate argument when passing TYPE/NAME: {word}"
                ),
            })
            .collect();
    }
    let Some((kinds, names)) = words.split_first() else { bail!("name a kind") };
    let resources = catalog.select(kinds)?;
    Ok(resources.into_iter().map(|resource| target(resource, names.to_vec())).collect())
}

/// The objects of manifests.
pub fn targets_of(catalog: &Catalog, sources: &Sources) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for document in sources.read()? {
        let (kind, version, name) = document.identity()?;
        targets.push(Target {
            resource: catalog.of_manifest(version, kind)?.clone(),
            names: vec![name.to_owned()],
            namespace: document.object["metadata"]["namespace"].as_str().map(str::to_owned),
        });
    }
    Ok(targets)
}

/// Prints what was asked for; what is not there is reported and does not hold up the rest.
pub async fn run(client: &Client, namespace: &str, args: &GetArgs) -> Result<ExitCode> {
    let catalog = Catalog::load(client).await?;
    let targets = if args.sources.filename.is_empty() {
        targets(&catalog, &args.targets)?
    } else {
        targets_of(&catalog, &args.sources)?
    };
    if args.all_namespaces && targets.iter().any(|target| !target.names.is_empty()) {
        return Err(Ending::Usage(
            "an object cannot be named across all namespaces; leave out -A or the name".to_owned(),
        )
        .into());
    }
    if args.watch {
        return watch::run(client, namespace, args, &targets).await;
    }
    let mut asking = Asking { client, ignore_not_found: args.ignore_not_found, refused: 0 };
    match args.output.clone().unwrap_or(Output::Table { wide: false }) {
        Output::Table { wide } => tables(&mut asking, namespace, args, &targets, wide).await?,
        output => whole(&mut asking, namespace, args, &targets, &output).await?,
    }
    Ok(if asking.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Requests of which each may be refused without holding up the others.
struct Asking<'a> {
    client: &'a Client,
    ignore_not_found: bool,
    refused: usize,
}

impl Asking<'_> {
    async fn ask(&mut self, url: &str, table: bool) -> Result<Option<Value>> {
        match self.client.request::<Value>(request(url, table)?).await {
            Ok(answer) => Ok(Some(answer)),
            Err(kube::Error::Api(status)) if status.code == 404 && self.ignore_not_found => Ok(None),
            Err(error @ kube::Error::Api(_)) => {
                eprintln!("error: {:#}", said(error));
                self.refused += 1;
                Ok(None)
            }
            Err(error) => Err(said(error)),
        }
    }
}

async fn tables(
    asking: &mut Asking<'_>,
    namespace: &str,
    args: &GetArgs,
    targets: &[Target],
    wide: bool,
) -> Result<()> {
    let several = targets.len() > 1;
    let mut printed = false;
    for target in targets {
        let view = View { wide, prefix: several.then(|| target.resource.clone()), all: args.all_namespaces };
        let (mut definitions, mut rows) = (Value::Null, Vec::new());
        for mut url in urls(namespace, args, target) {
            if args.sort_by.is_some() {
                url = format!("{url}{}includeObject=Object", if url.contains('?') { '&' } else { '?' });
            }
            let Some(mut table) = asking.ask(&url, true).await? else { continue };
            if let Value::Array(more) = table["rows"].take() {
                rows.extend(more);
            }
            definitions = table["columnDefinitions"].take();
        }
        if let Some(path) = &args.sort_by {
            columns::sort_by(&mut rows, path, |row| &row["object"])?;
        }
        if rows.is_empty() {
            continue;
        }
        if printed && several {
            println!();
        }
        print!("{}", view.text(&definitions, &rows, !args.no_headers));
        printed = true;
    }
    if !printed && asking.refused == 0 && !args.ignore_not_found {
        let namespaced = targets.iter().any(|target| target.resource.namespaced) && !args.all_namespaces;
        eprintln!(
            "No resources found{}",
            if namespaced { format!(" in {namespace} namespace.") } else { String::new() }
        );
    }
    Ok(())
}

async fn whole(
    asking: &mut Asking<'_>,
    namespace: &str,
    args: &GetArgs,
    targets: &[Target],
    output: &Output,
) -> Result<()> {
    let mut objects = Vec::new();
    let alone = matches!(targets, [target] if target.names.len() == 1);
    for target in targets {
        for url in urls(namespace, args, target) {
            let Some(mut answer) = asking.ask(&url, false).await? else { continue };
            let items = match answer["items"].take() {
                Value::Array(items) => items,
                _ => {
                    answer.as_object_mut().map(|answer| answer.remove("items"));
                    vec![answer]
                }
            };
            for mut item in items {
                item["apiVersion"] = target.resource.api_version().into();
                item["kind"] = target.resource.kind.clone().into();
                objects
                    .push((target.resource.clone(), if args.show_managed_fields { item } else { output::shown(item) }));
            }
        }
    }
    if let Some(path) = &args.sort_by {
        columns::sort_by(&mut objects, path, |(_, object)| object)?;
    }
    if alone && objects.is_empty() {
        return Ok(());
    }
    output::print(output, &objects, alone, !args.no_headers)
}

/// The URLs to ask: one for each name, or that of the collection.
pub fn urls(namespace: &str, args: &GetArgs, target: &Target) -> Vec<String> {
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    if !target.names.is_empty() {
        return target.names.iter().map(|name| target.resource.object(namespace, name)).collect();
    }
    let url = target.resource.collection((!args.all_namespaces).then_some(namespace));
    vec![selected(&url, args.selector.as_deref(), args.field_selector.as_deref())]
}

/// A collection's URL with selectors.
pub fn selected(url: &str, labels: Option<&str>, fields: Option<&str>) -> String {
    let query: Vec<String> = [("labelSelector", labels), ("fieldSelector", fields)]
        .into_iter()
        .filter_map(|(name, selector)| selector.map(|selector| format!("{name}={}", encode(selector))))
        .collect();
    if query.is_empty() { url.to_owned() } else { format!("{url}?{}", query.join("&")) }
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

/// A read, of a table or of whole objects.
pub fn request(url: &str, table: bool) -> Result<Request<Vec<u8>>> {
    let accept = if table { "application/json;as=Table;v=v1;g=meta.k8s.io" } else { "application/json" };
    Request::get(url).header("accept", accept).body(Vec::new()).context("failed to make a request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_encoded() {
        let url = selected("/x", Some("a in (b,c)"), Some("spec.host=h"));
        assert_eq!(url, "/x?labelSelector=a%20in%20%28b%2Cc%29&fieldSelector=spec.host%3Dh");
        assert_eq!(selected("/x", None, None), "/x");
    }
}
