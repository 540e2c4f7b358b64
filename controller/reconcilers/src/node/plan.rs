//! What a Node needs made or changed. Pure.

use super::Found;
use crds::cluster::PowerState;
use crds::node::{Dependency, DependencyCondition, NodePhase, NodeVolume};
use crds::virtual_machine::{Interface, RunStrategy, VmPhase, VolumeMount};
use crds::{CLUSTER_LABEL, NODE_LABEL, Node, Port, PortSpec, VirtualMachine, VirtualMachineSpec, Volume, VolumeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

/// One change to what belongs to the Node.
#[derive(Debug)]
pub enum Step {
    /// Its network attachment.
    CreatePort(Box<Port>),
    /// A data volume.
    CreateVolume(Box<Volume>),
    /// Its machine, powered on.
    CreateMachine(Box<VirtualMachine>),
    /// Its machine with another spec: power, image, size.
    ChangeMachine(Box<VirtualMachine>),
}

/// The steps towards what the Node wants. Nothing is made over an object of somebody else.
pub fn plan(node: &Node, found: &Found) -> Vec<Step> {
    if !found.foreign.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if found.port.is_none() {
        steps.push(Step::CreatePort(Box::new(port(node))));
    }
    for volume in &node.spec.volumes {
        let name = volume_name(node, volume);
        if !found.volumes.iter().any(|v| v.name_any() == name) {
            steps.push(Step::CreateVolume(Box::new(wanted_volume(node, volume))));
        }
    }
    steps.extend(machine_step(node, found));
    steps
}

fn machine_step(node: &Node, found: &Found) -> Option<Step> {
    let on = node.spec.power_state == PowerState::Running;
    match &found.machine {
        None if on && missing(node, found).is_empty() => Some(Step::CreateMachine(Box::new(machine(node)))),
        None => None,
        Some(current) if current.metadata.deletion_timestamp.is_some() => None,
        Some(current) => {
            let runs = current.spec.run_strategy == RunStrategy::Always;
            let mut wanted = machine(node).spec;
            // Once it runs, a dependency that falls back does not take it down.
            wanted.run_strategy =
                if on && (runs || missing(node, found).is_empty()) { RunStrategy::Always } else { RunStrategy::Halted };
            wanted.host.clone_from(&current.spec.host);
            (wanted != current.spec).then(|| {
                let mut changed = current.clone();
                changed.spec = wanted;
                Step::ChangeMachine(Box::new(changed))
            })
        }
    }
}

/// The dependencies that have not come far enough.
pub fn missing<'a>(node: &'a Node, found: &Found) -> Vec<&'a Dependency> {
    let met = |dependency: &Dependency| {
        let Some(other) = found.siblings.iter().find(|n| n.name_any() == dependency.node) else {
            return false;
        };
        let phase = other.status.as_ref().map(|s| s.phase).unwrap_or_default();
        match dependency.condition {
            DependencyCondition::Ready => phase == NodePhase::Ready,
            DependencyCondition::Started => {
                matches!(phase, NodePhase::Ready | NodePhase::NotReady)
                    || (phase == NodePhase::Booting
                        && other.status.as_ref().is_some_and(|s| s.machine_phase == VmPhase::Running))
            }
        }
    };
    node.spec.depends_on.iter().filter(|d| !met(d)).collect()
}

/// Name of the Volume object of a node's volume.
pub fn volume_name(node: &Node, volume: &NodeVolume) -> String {
    format!("{}-{}", node.name_any(), volume.name)
}

fn metadata(node: &Node, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: node.namespace(),
        owner_references: node.controller_owner_ref(&()).map(|reference| vec![reference]),
        labels: Some(BTreeMap::from([
            (CLUSTER_LABEL.to_owned(), node.spec.cluster.clone()),
            (NODE_LABEL.to_owned(), node.name_any()),
        ])),
        ..ObjectMeta::default()
    }
}

fn port(node: &Node) -> Port {
    let spec = PortSpec {
        network: node.spec.network.clone(),
        subnet: None,
        ip: node.spec.ip.clone(),
        ipv6_subnet: None,
        ipv6: None,
        mac: None,
        hostname: Some(node.name_any()),
        allowed_addresses: Vec::new(),
        bandwidth: None,
        security_groups: Vec::new(),
        host: None,
    };
    Port { metadata: metadata(node, node.name_any()), spec, status: None }
}

fn wanted_volume(node: &Node, volume: &NodeVolume) -> Volume {
    let spec = VolumeSpec {
        class: "local".to_owned(),
        size: volume.size.clone(),
        filesystem: volume.filesystem.clone(),
        host: None,
    };
    Volume { metadata: metadata(node, volume_name(node, volume)), spec, status: None }
}

fn machine(node: &Node) -> VirtualMachine {
    let spec = VirtualMachineSpec {
        image: node.spec.image.clone(),
        cpus: node.spec.cpus,
        memory: node.spec.memory.clone(),
        run_strategy: RunStrategy::Always,
        interfaces: vec![Interface { port: node.name_any() }],
        volumes: node.spec.volumes.iter().map(|v| VolumeMount { volume: volume_name(node, v) }).collect(),
        kernel_arguments: node.spec.kernel_arguments.clone(),
        termination_grace_period_seconds: 30,
        readiness: node.spec.readiness.clone(),
        host: None,
    };
    VirtualMachine { metadata: metadata(node, node.name_any()), spec, status: None }
}

#[cfg(test)]
mod tests;
