//! Cluster: made of Nodes, and as ready as they are.

mod plan;
mod status;

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Cluster, Node, TenantNetwork};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use plan::Step;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Clusters {
    client: Client,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<Cluster>::all(client.clone()), shutdown);
    let clusters = control.cache();
    control
        .owns(Api::<Node>::all(client.clone()))
        .wakes(Api::<TenantNetwork>::all(client.clone()), move |network: &TenantNetwork| {
            clusters.names(|cluster| {
                cluster.namespace() == network.namespace() && cluster.spec.network == network.name_any()
            })
        })
        .run(Clusters { client }, Pace::at_once(8).gathering(GATHER))
        .await;
}

impl Reconciler for Clusters {
    type Kind = Cluster;
    type Error = Error;

    async fn reconcile(&self, cluster: Arc<Cluster>) -> Result<Action, Error> {
        if cluster.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let clusters: Api<Cluster> = write::api_of(&self.client, cluster.as_ref())?;
        let nodes: Api<Node> = write::api_of(&self.client, cluster.as_ref())?;
        let found = observe(&nodes, &cluster).await?;
        let problem = problem(&self.client, &cluster, &found).await?;
        if problem.is_none() {
            for step in plan::plan(&cluster, &found) {
                apply(&nodes, &found, step).await?;
            }
        }
        let found = observe(&nodes, &cluster).await?;
        write::status(&clusters, &cluster, status::of(&cluster, &found, problem)).await?;
        Ok(Action::await_change())
    }
}

/// The Nodes labelled with the cluster's name, whoever made them.
async fn observe(nodes: &Api<Node>, cluster: &Cluster) -> Result<Vec<Node>, Error> {
    let label = format!("{}={}", crds::CLUSTER_LABEL, cluster.name_any());
    Ok(nodes.list(&ListParams::default().labels(&label)).await.map_err(Error::api("list Nodes"))?.items)
}

/// What keeps the cluster from being made, as a reason and a sentence.
async fn problem(client: &Client, cluster: &Cluster, found: &[Node]) -> Result<Option<status::Problem>, Error> {
    if let Some(names) = plan::cycle(&cluster.spec.nodes) {
        return Ok(Some(status::Problem::new(
            "DependencyCycle",
            format!("spec.nodes: {} wait for each other", names.join(", ")),
        )));
    }
    if let Some(stranger) = found.iter().find(|n| !write::is_owned_by(*n, cluster)) {
        let text = format!("Node {} carries this cluster's label and belongs to something else", stranger.name_any());
        return Ok(Some(status::Problem::new("NodeNotOwned", text)));
    }
    let networks: Api<TenantNetwork> = write::api_of(client, cluster)?;
    let name = &cluster.spec.network;
    let network = networks.get_opt(name).await.map_err(Error::api(format!("read TenantNetwork {name}")))?;
    Ok(network.is_none().then(|| {
        status::Problem::new("NetworkNotFound", format!("spec.network: TenantNetwork {name} does not exist; create it"))
    }))
}

async fn apply(nodes: &Api<Node>, found: &[Node], step: Step) -> Result<(), Error> {
    match step {
        Step::Delete(name) => match nodes.delete(&name, &DeleteParams::background()).await {
            Err(error) if !crate::error::is_not_found(&error) => Err(Error::api(format!("delete Node {name}"))(error)),
            _ => Ok(()),
        },
        Step::Create(node) => write::create(nodes, node.as_ref()).await.map(|_| ()),
        Step::Update(node) => {
            let Some(current) = found.iter().find(|n| n.name_any() == node.name_any()) else {
                return Ok(());
            };
            let mut changed = current.clone();
            changed.spec = node.spec;
            write::replace(nodes, &changed).await.map(|_| ())
        }
    }
}
