//! `label`, `annotate` and `reconcile`: words on objects.

use super::api::{self, read};
use super::catalog::{Catalog, Resource};
use super::get;
use crate::print::Ending;
use anyhow::{Result, bail};
use http::Method;
use kube::Client;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Annotation that changes so that an object's reconciler looks at it again.
const REQUESTED: &str = "photoncloud.dev/reconcile-requested-at";

/// What to mark, and with what.
#[derive(clap::Args, Debug)]
pub struct MarkArgs {
    /// Kind and names, or `kind/name`; then `key=value`, or `key-` to remove.
    #[arg(required = true, value_name = "TYPE/NAME KEY=VALUE|KEY-")]
    pub words: Vec<String>,
    /// Change values that are there already.
    #[arg(long)]
    pub overwrite: bool,
    /// Every object of the kind in the namespace.
    #[arg(long)]
    pub all: bool,
    /// Every object of the kind with these labels.
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "all")]
    pub selector: Option<String>,
}

/// Which objects to look at again.
#[derive(clap::Args, Debug)]
pub struct ReconcileArgs {
    /// Kind and names, or `kind/name`.
    #[arg(required = true, value_name = "TYPE/NAME")]
    pub targets: Vec<String>,
}

/// Which map of the metadata.
#[derive(Clone, Copy)]
pub enum Field {
    /// Labels.
    Labels,
    /// Annotations.
    Annotations,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Labels => "labeled",
            Self::Annotations => "annotated",
        }
    }
}

/// Sets and removes labels or annotations.
pub async fn run(client: &Client, namespace: &str, args: &MarkArgs, field: Field) -> Result<ExitCode> {
    let (targets, changes) = split(&args.words)?;
    let catalog = Catalog::load(client).await?;
    let mut code = ExitCode::SUCCESS;
    for (resource, name) in objects(client, &catalog, namespace, &targets, args).await? {
        match mark(client, namespace, &resource, &name, field, (&changes, args.overwrite)).await {
            Ok(what) => println!("{} {what}", resource.object_name(&name)),
            Err(error) => {
                eprintln!("error: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Has the objects' reconcilers look at them again.
pub async fn reconcile(client: &Client, namespace: &str, args: &ReconcileArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let patch = json!({"metadata": {"annotations": {REQUESTED: jiff::Timestamp::now().to_string()}}});
    for target in get::targets(&catalog, &args.targets)? {
        if target.names.is_empty() {
            return Err(Ending::Usage("name the objects to reconcile".to_owned()).into());
        }
        for name in &target.names {
            api::send(client, Method::PATCH, &target.resource.object(namespace, name), api::MERGE, &patch).await?;
            println!("{} reconciliation requested", target.resource.object_name(name));
        }
    }
    Ok(())
}

/// Objects first, then changes; a change has `=` or ends in `-`.
fn split(words: &[String]) -> Result<(Vec<String>, Map<String, Value>)> {
    let mut targets = Vec::new();
    let mut changes = Map::new();
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => changes.insert(key.to_owned(), value.into()),
            (None, Some(key)) => changes.insert(key.to_owned(), Value::Null),
            (None, None) if changes.is_empty() => {
                targets.push(word.clone());
                continue;
            }
            (None, None) => bail!(Ending::Usage(format!("{word:?} is neither KEY=VALUE nor KEY-"))),
        };
    }
    if changes.is_empty() {
        bail!(Ending::Usage("at least one KEY=VALUE or KEY- is needed".to_owned()));
    }
    Ok((targets, changes))
}

async fn objects(
    client: &Client,
    catalog: &Catalog,
    namespace: &str,
    targets: &[String],
    args: &MarkArgs,
) -> Result<Vec<(Resource, String)>> {
    let mut objects = Vec::new();
    for target in get::targets(catalog, targets)? {
        let mut names = target.names;
        if args.all || args.selector.is_some() {
            let url = get::selected(&target.resource.collection(Some(namespace)), args.selector.as_deref(), None);
            let list = read(client, &url).await?;
            let items = list["items"].as_array().into_iter().flatten();
            names = items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect();
        } else if names.is_empty() {
            bail!(Ending::Usage("name objects, or say --all or --selector".to_owned()));
        }
        objects.extend(names.into_iter().map(|name| (target.resource.clone(), name)));
    }
    Ok(objects)
}

async fn mark(
    client: &Client,
    namespace: &str,
    resource: &Resource,
    name: &str,
    field: Field,
    (changes, overwrite): (&Map<String, Value>, bool),
) -> Result<String> {
    let url = resource.object(namespace, name);
    let object = read(client, &url).await?;
    let there = &object["metadata"][field.name()];
    let effective: Map<String, Value> = changes
        .iter()
        .filter(|(key, value)| there.get(key.as_str()).unwrap_or(&Value::Null) != *value)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some((key, _)) =
        effective.iter().find(|(key, value)| !overwrite && !value.is_null() && there.get(key.as_str()).is_some())
    {
        let value = there[key.as_str()].as_str().unwrap_or_default();
        bail!("{}: {key:?} already has a value ({value}); say --overwrite to change it", resource.object_name(name));
    }
    if effective.is_empty() {
        return Ok(format!("not {}", field.done()));
    }
    let removing = effective.values().all(Value::is_null);
    let patch = json!({"metadata": {field.name(): effective}});
    api::send(client, Method::PATCH, &url, api::MERGE, &patch).await?;
    Ok(if removing { format!("un{}", field.done()) } else { field.done().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_follow_objects() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (targets, changes) = split(&words("vm a b tier=web old- empty=")).unwrap();
        assert_eq!(targets, ["vm", "a", "b"]);
        assert_eq!(Value::Object(changes), json!({"tier": "web", "old": null, "empty": ""}));
        assert!(split(&words("vm a")).unwrap_err().to_string().contains("KEY=VALUE"));
        assert!(split(&words("vm a=b c")).unwrap_err().to_string().contains("neither"));
    }
}
