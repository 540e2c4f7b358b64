//! Cluster: several nodes on a network of their own, booted in order.

use crate::node::{Dependency, NodeVolume};
use crate::virtual_machine::{KernelArgument, Readiness, default_memory, one};
use crate::{Condition, Quantity};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A set of nodes. Each becomes a Node of the same name in this namespace, and each Node a VirtualMachine with a Port on
/// the cluster's network.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Cluster",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    category = "photon",
    doc = "A set of nodes on a network of their own, booted in dependency order.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Power", type_ = "string", json_path = ".spec.powerState"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// `vm`: every node is a VirtualMachine.
    #[serde(default = "vm")]
    #[schemars(regex(pattern = r"^vm$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("runtime is immutable"))]
    pub runtime: String,
    /// Whether the nodes run. `Stopped` powers them off and keeps their disks.
    #[serde(default)]
    pub power_state: PowerState,
    /// TenantNetwork the nodes are on.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("network is immutable"))]
    pub network: String,
    /// The nodes.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(n, !has(n.dependsOn) || n.dependsOn.all(d, self.exists(o, o.name == d.node)))")
        .message("dependsOn names a node that the cluster does not have"))]
    #[x_kube(validation = Rule::new("self.all(n, !has(n.dependsOn) || n.dependsOn.all(d, d.node != n.name))")
        .message("a node cannot depend on itself"))]
    pub nodes: Vec<ClusterNode>,
}

fn vm() -> String {
    "vm".to_owned()
}

/// Whether a cluster's nodes run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum PowerState {
    /// The nodes run.
    #[default]
    Running,
    /// The nodes are powered off, their disks kept.
    Stopped,
}

/// One node of a cluster.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNode {
    /// Name of the Node, its VirtualMachine and its Port.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// What it is for, e.g. `control-plane`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub roles: Vec<String>,
    /// Image it boots.
    #[schemars(length(min = 1, max = 253))]
    pub image: String,
    /// Virtual processors.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub cpus: u32,
    /// Memory.
    #[serde(default = "default_memory")]
    pub memory: Quantity,
    /// Address on the cluster's network; allocated when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"))]
    pub ip: Option<String>,
    /// Nodes that must have come so far before this one boots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub depends_on: Vec<Dependency>,
    /// Data volumes made for the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<NodeVolume>,
    /// Words added to the guest kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kernel_arguments: Vec<KernelArgument>,
    /// Readiness gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
}

/// What the cluster reconciler says.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes wanted.
    #[serde(default)]
    pub nodes: u32,
    /// Nodes ready.
    #[serde(default)]
    pub ready_nodes: u32,
    /// `ready/wanted`.
    #[serde(default)]
    pub summary: String,
    /// Seconds from the cluster's creation (or last power-on) until every node was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_seconds: Option<f64>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
