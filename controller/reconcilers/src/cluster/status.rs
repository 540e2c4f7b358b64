//! What a Cluster's status says. Pure.

use crds::cluster::PowerState;
use crds::node::NodePhase;
use crds::{Cluster, ClusterStatus, Node, condition};

/// Why a cluster cannot be made.
pub struct Problem {
    reason: &'static str,
    message: String,
}

impl Problem {
    /// A problem by its PascalCase reason and its sentence.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The status from the cluster's Nodes.
pub fn of(cluster: &Cluster, nodes: &[Node], problem: Option<Problem>) -> ClusterStatus {
    let generation = cluster.metadata.generation;
    let wanted = u32::try_from(cluster.spec.nodes.len()).unwrap_or(u32::MAX);
    let phase_is = |node: &&Node, phase| node.status.as_ref().is_some_and(|s| s.phase == phase);
    let ready = u32::try_from(nodes.iter().filter(|n| phase_is(n, NodePhase::Ready)).count()).unwrap_or(u32::MAX);
    let mut status = cluster.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.nodes = wanted;
    status.ready_nodes = ready;
    status.summary = format!("{ready}/{wanted}");
    let all_ready = problem.is_none() && ready == wanted && cluster.spec.power_state == PowerState::Running;
    if all_ready && !condition::is_true(&status.conditions, condition::READY) {
        status.boot_seconds = boot_seconds(nodes);
    }
    let (reason, message) = verdict(cluster, nodes, problem.as_ref(), all_ready);
    let stalled = problem.is_some();
    let moving = !all_ready && !stalled && reason != "Stopped";
    condition::set(&mut status.conditions, condition::READY, all_ready, reason, message.clone(), generation);
    condition::set(&mut status.conditions, condition::RECONCILING, moving, reason, "", generation);
    condition::set(&mut status.conditions, condition::STALLED, stalled, reason, "", generation);
    status
}

fn verdict<'a>(cluster: &Cluster, nodes: &[Node], problem: Option<&'a Problem>, all_ready: bool) -> (&'a str, String) {
    if let Some(problem) = problem {
        return (problem.reason, problem.message.clone());
    }
    if all_ready {
        return ("AllNodesReady", "every node is ready".to_owned());
    }
    if cluster.spec.power_state == PowerState::Stopped {
        let off = nodes.iter().all(|n| n.status.as_ref().is_some_and(|s| s.phase == NodePhase::Stopped));
        return if off {
            ("Stopped", "every node is powered off".to_owned())
        } else {
            ("Stopping", "nodes are being powered off".to_owned())
        };
    }
    let waiting: Vec<String> = nodes
        .iter()
        .filter_map(|node| {
            let status = node.status.as_ref()?;
            let ready = condition::find(&status.conditions, condition::READY)?;
            (ready.status != "True").then(|| format!("{}: {}", kube::ResourceExt::name_any(node), ready.reason))
        })
        .collect();
    ("NodesNotReady", waiting.join(", "))
}

/// Seconds between the first node's boot and the last node's readiness.
fn boot_seconds(nodes: &[Node]) -> Option<f64> {
    let statuses = || nodes.iter().filter_map(|n| n.status.as_ref());
    let first = statuses().filter_map(|s| s.boot_started_at).min()?;
    let last = statuses().filter_map(|s| s.ready_at).max()?;
    Some((last.duration_since(first).as_secs_f64() * 1000.0).round() / 1000.0)
}
