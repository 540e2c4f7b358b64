//! `delete`: removes objects and waits until they are gone.

use super::catalog::{Catalog, Resource};
use super::get::{self, said};
use super::manifest::Sources;
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use http::Request;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// What to delete.
#[derive(clap::Args, Debug)]
pub struct DeleteArgs {
    /// Kind and names, or `kind/name`.
    #[arg(value_name = "TYPE[/NAME]")]
    pub targets: Vec<String>,
    /// The manifests whose objects to delete.
    #[command(flatten)]
    pub sources: Sources,
    /// Every object of the kind in the namespace.
    #[arg(long)]
    pub all: bool,
    /// Return at once, without waiting until the objects are gone.
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait at most.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
    /// No error when an object is not there.
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// An object to delete.
pub struct Doomed {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Deletes what was named; what is not there is reported and does not hold up the rest.
pub async fn run(client: &Client, namespace: &str, args: &DeleteArgs) -> Result<ExitCode> {
    let catalog = Catalog::load(client).await?;
    let doomed = doomed(client, &catalog, namespace, args).await?;
    let mut code = ExitCode::SUCCESS;
    let mut waiting = Vec::new();
    for object in doomed {
        match delete(client, &object).await {
            Ok(()) => {
                println!("{} deleted", object.resource.object_name(&object.name));
                waiting.push(object);
            }
            Err(kube::Error::Api(status)) if status.code == 404 && args.ignore_not_found => {}
            Err(error) => {
                eprintln!("error: {:#}", said(error));
                code = ExitCode::FAILURE;
            }
        }
    }
    if !args.no_wait {
        gone(client, &waiting, Duration::from_secs(args.timeout)).await?;
    }
    Ok(code)
}

async fn doomed(client: &Client, catalog: &Catalog, namespace: &str, args: &DeleteArgs) -> Result<Vec<Doomed>> {
    let mut doomed = Vec::new();
    if !args.sources.filename.is_empty() {
        // What was applied last depends on what was applied first: the other way round.
        for document in args.sources.read()?.iter().rev() {
            let (kind, version, name) = document.identity()?;
            doomed.push(Doomed {
                resource: catalog.of_manifest(version, kind)?.clone(),
                namespace: document.namespace(namespace).to_owned(),
                name: name.to_owned(),
            });
        }
        return Ok(doomed);
    }
    for target in get::targets(catalog, &args.targets)? {
        let names = match (target.names.is_empty(), args.all) {
            (false, false) => target.names,
            (true, true) => names(client, &target.resource, namespace).await?,
            (true, false) => bail!("resource(s) were provided, but no name was specified; name them or say --all"),
            (false, true) => bail!("name objects or say --all, not both"),
        };
        doomed.extend(names.into_iter().map(|name| Doomed {
            resource: target.resource.clone(),
            namespace: namespace.to_owned(),
            name,
        }));
    }
    Ok(doomed)
}

async fn names(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<String>> {
    let request =
        Request::get(resource.collection(Some(namespace))).body(Vec::new()).context("failed to make a request")?;
    let list: Value = client.request(request).await.map_err(said)?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// Asks for one object's deletion.
pub async fn delete(client: &Client, object: &Doomed) -> Result<(), kube::Error> {
    let url = object.resource.object(&object.namespace, &object.name);
    let request = Request::delete(url).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(|_| ())
}

/// Waits until every object is gone, and says which are not when time is up.
pub async fn gone(client: &Client, objects: &[Doomed], limit: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    for object in objects {
        let kind = GroupVersionKind::gvk(&object.resource.group, &object.resource.version, &object.resource.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &object.resource.plural);
        let api: Api<DynamicObject> = if object.resource.namespaced {
            Api::namespaced_with(client.clone(), &object.namespace, &resource)
        } else {
            Api::all_with(client.clone(), &resource)
        };
        let mut states = watcher::watch_object(api, &object.name).boxed();
        let gone = async {
            while let Some(state) = states.next().await {
                if matches!(state, Ok(None)) {
                    return;
                }
            }
        };
        if tokio::time::timeout_at(deadline, gone).await.is_err() {
            let name = object.resource.object_name(&object.name);
            let message = format!("timed out after {} s waiting for {name} to be gone", limit.as_secs());
            return Err(Ending::TimeUp(message).into());
        }
    }
    Ok(())
}
