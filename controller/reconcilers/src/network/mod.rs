//! TenantNetwork: its VNI and gateway, and no deletion while Ports are on it.

mod plan;

use crate::{Error, runner, write};
use crds::{Port, TenantNetwork};
use kube::api::ListParams;
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps a network until its last Port is gone: agents need it to take the ports down.
const FINALIZER: &str = "photoncloud.dev/ports";

struct Context {
    client: Client,
}

/// Runs the reconciler until `shutdown`. One at a time, because VNIs are handed out here.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<TenantNetwork>::all(client.clone()), watcher::Config::default())
        .watches(Api::<Port>::all(client.clone()), watcher::Config::default(), |port| {
            port.namespace().map(|namespace| ObjectRef::new(&port.spec.network).within(&namespace))
        })
        .with_config(runner::config(1));
    runner::drive(controller, Context { client }, shutdown, reconcile).await;
}

async fn reconcile(network: Arc<TenantNetwork>, cx: Arc<Context>) -> Result<Action, Error> {
    let networks: Api<TenantNetwork> = write::api_of(&cx.client, network.as_ref())?;
    let ports: Api<Port> = write::api_of(&cx.client, network.as_ref())?;
    let on_it = ListParams::default().fields(&format!("spec.network={}", network.name_any()));
    let ports = ports.list(&on_it).await.map_err(Error::api("list Ports"))?.items;
    let kept = network.finalizers().iter().any(|f| f == FINALIZER);
    if network.metadata.deletion_timestamp.is_some() {
        if kept && ports.is_empty() {
            let rest: Vec<&String> = network.finalizers().iter().filter(|f| *f != FINALIZER).collect();
            let patch = serde_json::json!({"metadata": {"finalizers": rest}});
            write::merge(&networks, network.as_ref(), patch).await?;
        }
        return Ok(Action::await_change());
    }
    if !kept {
        let mut all = network.finalizers().to_vec();
        all.push(FINALIZER.to_owned());
        // The write wakes this reconcile again, with the finalizer in place.
        write::merge(&networks, network.as_ref(), serde_json::json!({"metadata": {"finalizers": all}})).await?;
        return Ok(Action::await_change());
    }
    let vni = match network.status.as_ref().and_then(|s| s.vni) {
        Some(vni) => Ok(vni),
        None => {
            let everyone: Api<TenantNetwork> = Api::all(cx.client.clone());
            let all = everyone.list(&ListParams::default()).await.map_err(Error::api("list TenantNetworks"))?.items;
            plan::free_vni(all.iter().filter_map(|n| n.status.as_ref()?.vni))
        }
    };
    let live = ports.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).count();
    write::status(&networks, &network, plan::status(&network, vni, live)).await?;
    Ok(Action::await_change())
}
