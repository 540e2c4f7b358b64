//! The objects of a measured network.

use agent::mac::parse_mac;
use anyhow::{Context, Result};
use crds::{Host, LoadBalancer, Port, SecurityGroup, ServiceIP, TenantNetwork};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The tenant.
pub const TENANT: &str = "bench";
/// Its network.
pub const NETWORK: &str = "net";
/// The measured host.
pub const HERE: &str = "here";
/// Another one.
pub const THERE: &str = "there";

/// Requests under way at once.
const AT_ONCE: usize = 32;

/// An address of the network, by a number from 0.
pub fn address(number: usize) -> String {
    let number = number + 10;
    format!("10.0.{}.{}", number / 250, number % 250 + 2)
}

/// The hardware address that goes with it.
pub fn mac(number: usize) -> String {
    let text = format!("52:54:00:00:{:02x}:{:02x}", number / 256, number % 256);
    debug_assert!(parse_mac(&text).is_some());
    text
}

/// A port with these groups.
pub fn port(number: usize, host: &str, groups: &[String]) -> Result<Port> {
    port_of(NETWORK, number, host, groups)
}

/// The same in another network.
pub fn port_of(network: &str, number: usize, host: &str, groups: &[String]) -> Result<Port> {
    let spec =
        json!({"network": network, "host": host, "ip": address(number), "mac": mac(number), "securityGroups": groups});
    let mut port = Port::new(&format!("p{number}"), serde_json::from_value(spec)?);
    port.metadata.namespace = Some(TENANT.to_owned());
    Ok(port)
}

/// A group that lets its own members in at this TCP port.
pub fn group(name: &str, tcp: u16) -> Result<SecurityGroup> {
    let spec = json!({"rules": [{"direction": "Ingress", "protocol": "TCP", "port": tcp, "securityGroup": name}]});
    Ok(SecurityGroup::new(name, serde_json::from_value(spec)?))
}

/// A service with this address, before the ports that are labelled `app: web`; both bear its number.
pub async fn serve(
    client: &Client,
    number: usize,
    address: &str,
    listeners: Value,
    check: Option<Value>,
) -> Result<()> {
    let name = format!("s{number}");
    create(client, &ServiceIP::new(&name, serde_json::from_value(json!({"network": NETWORK}))?)).await?;
    let api = Api::<ServiceIP>::namespaced(client.clone(), TENANT);
    status(&api, &name, json!({"ip": address})).await?;
    let mut spec = json!({"serviceIP": name, "listeners": listeners,
        "backends": [{"selector": {"matchLabels": {"app": "web"}}, "weight": 1}]});
    if let Some(check) = check {
        spec["healthCheck"] = check;
    }
    create(client, &LoadBalancer::new(&name, serde_json::from_value(spec)?)).await?;
    Ok(())
}

/// Puts an object into the tenant's namespace.
pub async fn create<K>(client: &Client, object: &K) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), TENANT);
    api.create(&PostParams::default(), object).await.context("failed to make an object")
}

/// Puts many.
pub async fn create_all<K>(client: &Client, objects: Vec<K>) -> Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync,
{
    let all = futures::stream::iter(objects).map(|object| async move { create(client, &object).await });
    let made: Vec<Result<K>> = all.buffered(AT_ONCE).collect().await;
    made.into_iter().collect()
}

/// The network with a number, and two hosts that are joined.
pub async fn lay_ground(client: &Client, here: std::net::Ipv4Addr) -> Result<TenantNetwork> {
    for (name, underlay) in [(HERE, here.to_string()), (THERE, "100.64.99.99".to_owned())] {
        let api = Api::<Host>::all(client.clone());
        let host = Host::new(name, serde_json::from_value(json!({}))?);
        api.create(&PostParams::default(), &host).await.context("failed to make a Host")?;
        status(&api, name, json!({"underlayAddress": underlay})).await?;
    }
    let network = TenantNetwork::new(NETWORK, serde_json::from_value(json!({"subnet": "10.0.0.0/16"}))?);
    create(client, &network).await?;
    let api = Api::<TenantNetwork>::namespaced(client.clone(), TENANT);
    status(&api, NETWORK, json!({"vni": 10_000, "ports": 0})).await
}

async fn status<K: Clone + std::fmt::Debug + DeserializeOwned>(api: &Api<K>, name: &str, status: Value) -> Result<K> {
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.context("failed to write a status")
}
