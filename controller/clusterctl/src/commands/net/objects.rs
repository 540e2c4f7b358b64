//! The objects that decide, read from the API.

use super::super::api::said;
use anyhow::Result;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use reachability::{Objects, World};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// All that decides in one namespace, or in every one.
pub async fn world(client: &Client, namespace: Option<&str>) -> Result<World> {
    Ok(World::of(objects(client, namespace).await?))
}

/// The same with the services of the namespace.
pub async fn world_with_services(client: &Client, namespace: &str) -> Result<World> {
    let namespace = Some(namespace);
    Ok(World::of(Objects {
        services: list(client, namespace).await?,
        balancers: list(client, namespace).await?,
        ..objects(client, namespace).await?
    }))
}

async fn objects(client: &Client, namespace: Option<&str>) -> Result<Objects> {
    let hosts: Api<crds::Host> = Api::all(client.clone());
    Ok(Objects {
        networks: list(client, namespace).await?,
        ports: list(client, namespace).await?,
        groups: list(client, namespace).await?,
        routers: list(client, namespace).await?,
        machines: list(client, namespace).await?,
        // Tenants may not see Hosts; what these say is asked of them only where it matters.
        hosts: match hosts.list(&ListParams::default()).await {
            Ok(list) => list.items,
            Err(kube::Error::Api(status)) if status.is_forbidden() => Vec::new(),
            Err(error) => return Err(said(error)),
        },
        ..Objects::default()
    })
}

async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    Ok(api.list(&ListParams::default()).await.map_err(said)?.items)
}
