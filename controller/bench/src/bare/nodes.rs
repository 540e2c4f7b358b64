//! Several machines booted by hand, in the order of their dependencies.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use crds::node::{Dependency, DependencyCondition};
use crds::virtual_machine::Readiness;
use futures::future::try_join_all;
use host::qemu::guest_agent::{GuestAgent, Program};
use tokio::sync::watch;

use super::machine::{self, Machine};
use super::network::{self, Guest, Network};
use super::template::Template;

/// The agent's own intervals: between two tries to reach a guest, and between two tries of the readiness command.
const SEEK: Duration = Duration::from_millis(500);
const TRY: Duration = Duration::from_secs(1);
const PING: Duration = Duration::from_secs(5);
const BOOTED: Duration = Duration::from_secs(900);

/// A node to boot.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// How it is started.
    pub template: Template,
    /// What it waits for.
    pub depends_on: Vec<Dependency>,
    /// When it counts as ready.
    pub readiness: Option<Readiness>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Started,
    Ready,
}

type Stages = HashMap<String, watch::Sender<Stage>>;

/// Boots all, returns when all are ready, and ends them only when the result is dropped.
pub async fn boot(nodes: &[Node], dir: &Path, gateway: &str, mtu: u32) -> Result<(Vec<Machine>, Network)> {
    let guests: Vec<Guest<'_>> = nodes
        .iter()
        .filter_map(|node| Some(Guest { name: &node.name, mac: node.template.mac.as_deref()?, ip: &node.ip }))
        .collect();
    let network = Network::make(dir, gateway, mtu, &guests).await?;
    let stages: Stages = nodes.iter().map(|node| (node.name.clone(), watch::channel(Stage::Waiting).0)).collect();
    let all = try_join_all(nodes.iter().map(|node| boot_one(node, dir, &network.namespace, &stages)));
    let machines = tokio::time::timeout(BOOTED, all).await.context("the nodes started by hand do not get ready")??;
    Ok((machines, network))
}

async fn boot_one(node: &Node, dir: &Path, namespace: &str, stages: &Stages) -> Result<Machine> {
    for dependency in &node.depends_on {
        let wanted = match dependency.condition {
            DependencyCondition::Started => Stage::Started,
            DependencyCondition::Ready => Stage::Ready,
        };
        let stage = stages.get(&dependency.node).with_context(|| format!("there is no node {}", dependency.node))?;
        stage.subscribe().wait_for(|stage| *stage >= wanted).await.context("a dependency went away")?;
    }
    let dir = dir.join(&node.name);
    let (template, at) = (node.template.clone(), dir.clone());
    let disks =
        tokio::task::spawn_blocking(move || machine::prepare(&template, &at)).await.context("a thread died")??;
    let mut machine = Machine::start(&node.template, &dir, &disks, Some((namespace, &network::tap(&node.name))))?;
    machine.answers().await.with_context(|| node.name.clone())?;
    let reach = |stage| stages.get(&node.name).map(|sender| sender.send_replace(stage));
    reach(Stage::Started);
    ready(&dir, node.readiness.as_ref()).await;
    reach(Stage::Ready);
    Ok(machine)
}

/// Asks the guest as the agent does, until it says yes.
async fn ready(dir: &Path, readiness: Option<&Readiness>) {
    let agent = GuestAgent::open(dir);
    while agent.ping(PING).await.is_err() {
        tokio::time::sleep(SEEK).await;
    }
    let Some((path, args)) = readiness.and_then(|readiness| readiness.exec.split_first()) else { return };
    let program = Program { path: path.clone(), args: args.to_vec(), env: None, input: None, capture: true };
    let limit = Duration::from_secs(readiness.map_or(30, |readiness| readiness.timeout_seconds).into());
    while !agent.run(&program, limit).await.is_ok_and(|output| output.code == Some(0)) {
        tokio::time::sleep(TRY).await;
    }
}
