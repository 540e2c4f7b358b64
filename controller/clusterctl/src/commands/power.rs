//! `stop`, `start` and `status`: the power of clusters and loose machines, and the state of everything at a glance.

use super::get::{self, GetArgs, said};
use crate::print::Ending;
use anyhow::Result;
use crds::cluster::PowerState;
use crds::node::NodePhase;
use crds::virtual_machine::{RunStrategy, VmPhase};
use crds::{Cluster, NODE_LABEL, Node, VirtualMachine};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use std::time::Duration;

/// Which machines.
#[derive(clap::Args, Debug)]
pub struct PowerArgs {
    /// Clusters by name; every cluster and every machine of the namespace when empty.
    pub clusters: Vec<String>,
    /// Seconds to wait until it is done; 0 returns at once.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Powers off and keeps every disk.
pub async fn stop(client: &Client, namespace: &str, args: &PowerArgs) -> Result<()> {
    set(client, namespace, args, PowerState::Stopped).await
}

/// Powers on again, in the clusters' order.
pub async fn start(client: &Client, namespace: &str, args: &PowerArgs) -> Result<()> {
    set(client, namespace, args, PowerState::Running).await
}

async fn set(client: &Client, namespace: &str, args: &PowerArgs, power: PowerState) -> Result<()> {
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), namespace);
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    let names = if args.clusters.is_empty() {
        let all = clusters.list(&ListParams::default()).await.map_err(said)?;
        all.items.iter().map(ResourceExt::name_any).collect()
    } else {
        args.clusters.clone()
    };
    for name in &names {
        let patch = Patch::Merge(serde_json::json!({"spec": {"powerState": power}}));
        clusters.patch(name, &PatchParams::default(), &patch).await.map_err(said)?;
        println!(
            "cluster.photoncloud.dev/{name} {}",
            if power == PowerState::Running { "starting" } else { "stopping" }
        );
    }
    let mut loose = Vec::new();
    if args.clusters.is_empty() {
        let strategy = if power == PowerState::Running { RunStrategy::Always } else { RunStrategy::Halted };
        let without_node = ListParams::default().labels(&format!("!{NODE_LABEL}"));
        for machine in machines.list(&without_node).await.map_err(said)?.items {
            let name = machine.name_any();
            let patch = Patch::Merge(serde_json::json!({"spec": {"runStrategy": strategy}}));
            machines.patch(&name, &PatchParams::default(), &patch).await.map_err(said)?;
            println!(
                "virtualmachine.photoncloud.dev/{name} {}",
                if power == PowerState::Running { "starting" } else { "stopping" }
            );
            loose.push(name);
        }
    }
    if names.is_empty() && loose.is_empty() {
        eprintln!("No clusters or machines found in {namespace} namespace.");
    }
    if args.timeout == 0 {
        return Ok(());
    }
    let done = done(client, namespace, &names, &loose, power);
    match tokio::time::timeout(Duration::from_secs(args.timeout), done).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("not done after {} s; it goes on: clusterctl get nodes,vm", args.timeout);
            Err(Ending::TimeUp(message).into())
        }
    }
}

async fn done(
    client: &Client,
    namespace: &str,
    clusters: &[String],
    loose: &[String],
    power: PowerState,
) -> Result<()> {
    let nodes: Api<Node> = Api::namespaced(client.clone(), namespace);
    for node in nodes.list(&ListParams::default()).await.map_err(said)?.items {
        if clusters.contains(&node.spec.cluster) {
            let wanted = if power == PowerState::Running { NodePhase::Ready } else { NodePhase::Stopped };
            let reached =
                move |node: Option<&Node>| node.and_then(|n| n.status.as_ref()).is_some_and(|s| s.phase == wanted);
            await_condition(nodes.clone(), &node.name_any(), reached).await?;
        }
    }
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    for name in loose {
        let wanted = if power == PowerState::Running { VmPhase::Running } else { VmPhase::Stopped };
        let reached = move |machine: Option<&VirtualMachine>| {
            machine.and_then(|m| m.status.as_ref()).is_some_and(|s| s.phase == wanted)
        };
        await_condition(machines.clone(), name, reached).await?;
    }
    Ok(())
}

/// Prints the state of hosts, clusters, nodes, loose machines and test runs.
pub async fn status(client: &Client, namespace: &str) -> Result<()> {
    let args = GetArgs { targets: vec!["host,cluster,node,vm,testrun".to_owned()], ..GetArgs::default() };
    get::run(client, namespace, &args).await.map(|_| ())
}
