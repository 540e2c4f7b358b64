//! Node: its Port and Volumes at once, its VirtualMachine when what it depends on has come far enough.

mod plan;
mod status;

use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{Node, Port, VirtualMachine, Volume};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use plan::Step;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Nodes {
    client: Client,
}

/// What exists for a Node.
pub struct Found {
    port: Option<Port>,
    volumes: Vec<Volume>,
    machine: Option<VirtualMachine>,
    /// The cluster's other nodes.
    siblings: Vec<Node>,
    /// Names taken by objects that belong to something else.
    foreign: Vec<String>,
}

/// Runs the reconciler until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let control = ControlLoop::new(Api::<Node>::all(client.clone()), shutdown);
    let nodes = control.cache();
    control
        .owns(Api::<VirtualMachine>::all(client.clone()))
        .owns(Api::<Port>::all(client.clone()))
        .owns(Api::<Volume>::all(client.clone()))
        .wakes_kin(move |changed| nodes.names(|node| waits_for(node, changed)))
        .run(Nodes { client }, Pace::at_once(16).gathering(GATHER))
        .await;
}

fn waits_for(node: &Node, other: &Node) -> bool {
    node.namespace() == other.namespace() && node.spec.depends_on.iter().any(|d| d.node == other.name_any())
}

impl Reconciler for Nodes {
    type Kind = Node;
    type Error = Error;

    async fn reconcile(&self, node: Arc<Node>) -> Result<Action, Error> {
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let mut found = observe(&self.client, &node).await?;
        for step in plan::plan(&node, &found) {
            apply(&self.client, &node, &mut found, step).await?;
        }
        let nodes: Api<Node> = write::api_of(&self.client, node.as_ref())?;
        let told = status::told(&node, &found, jiff::Timestamp::now());
        write::status(&nodes, &node, told.status).await?;
        Ok(told.look_again.map_or_else(Action::await_change, Action::requeue))
    }
}

async fn observe(client: &Client, node: &Node) -> Result<Found, Error> {
    let name = node.name_any();
    let mut foreign = Vec::new();
    let ports: Api<Port> = write::api_of(client, node)?;
    let port = ports.get_opt(&name).await.map_err(Error::api(format!("read Port {name}")))?;
    let port = owned(node, port, &mut foreign);
    let machines: Api<VirtualMachine> = write::api_of(client, node)?;
    let machine = machines.get_opt(&name).await.map_err(Error::api(format!("read VirtualMachine {name}")))?;
    let machine = owned(node, machine, &mut foreign);
    let volumes_api: Api<Volume> = write::api_of(client, node)?;
    let mut volumes = Vec::new();
    for volume in &node.spec.volumes {
        let name = plan::volume_name(node, volume);
        let volume = volumes_api.get_opt(&name).await.map_err(Error::api(format!("read Volume {name}")))?;
        volumes.extend(owned(node, volume, &mut foreign));
    }
    let siblings: Api<Node> = write::api_of(client, node)?;
    let siblings = if node.spec.depends_on.is_empty() {
        Vec::new()
    } else {
        let label = format!("{}={}", crds::CLUSTER_LABEL, node.spec.cluster);
        siblings.list(&ListParams::default().labels(&label)).await.map_err(Error::api("list Nodes"))?.items
    };
    Ok(Found { port, volumes, machine, siblings, foreign })
}

fn owned<K: kube::Resource<DynamicType = ()>>(node: &Node, object: Option<K>, foreign: &mut Vec<String>) -> Option<K> {
    let object = object?;
    if write::is_owned_by(&object, node) {
        return Some(object);
    }
    foreign.push(format!("{} {}", K::kind(&()), object.name_any()));
    None
}

async fn apply(client: &Client, node: &Node, found: &mut Found, step: Step) -> Result<(), Error> {
    match step {
        Step::CreatePort(port) => found.port = write::create(&write::api_of(client, node)?, port.as_ref()).await?,
        Step::CreateVolume(volume) => {
            found.volumes.extend(write::create(&write::api_of(client, node)?, volume.as_ref()).await?);
        }
        Step::CreateMachine(machine) => {
            found.machine = write::create(&write::api_of(client, node)?, machine.as_ref()).await?;
        }
        Step::ChangeMachine(machine) => {
            found.machine = Some(write::replace(&write::api_of(client, node)?, machine.as_ref()).await?);
        }
    }
    Ok(())
}
