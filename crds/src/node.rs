//! Node: one member of a Cluster.
//!
//! ```text
//!  Waiting ──dependencies met──► Booting ──readiness passes──► Ready ◄──► NotReady
//!     ▲                             ▲                            │
//!     └──────── powerState: Running ┴──── Stopped ◄── powerState: Stopped
//! ```

use crate::virtual_machine::{KernelArgument, Readiness, default_memory, one};
use crate::{Condition, Quantity};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A member of a Cluster, made by the cluster's reconciler.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Node",
    namespaced,
    status = "NodeStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "no",
    selectable = ".spec.cluster",
    doc = "A member of a Cluster: boots after its dependencies and reports its readiness.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Roles", type_ = "string", json_path = ".spec.roleNames"),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ip"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster", priority = 1),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Boot", type_ = "number", json_path = ".status.bootSeconds", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Cluster it belongs to.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cluster is immutable"))]
    pub cluster: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub roles: Vec<String>,
    /// The roles joined by commas, for display.
    #[serde(default)]
    pub role_names: String,
    /// Image it boots.
    pub image: String,
    /// Virtual processors.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub cpus: u32,
    /// Memory.
    #[serde(default = "default_memory")]
    pub memory: Quantity,
    /// TenantNetwork it is on.
    pub network: String,
    /// Address there; allocated when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Nodes that must have come so far before this one boots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub depends_on: Vec<Dependency>,
    /// Data volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<NodeVolume>,
    /// Words added to the guest kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<KernelArgument>,
    /// Readiness gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// Whether it is powered on.
    #[serde(default)]
    pub power_state: crate::cluster::PowerState,
}

/// A node that must come first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    pub node: String,
    /// How far it must have come.
    #[serde(default)]
    pub condition: DependencyCondition,
}

/// How far a dependency must have come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum DependencyCondition {
    /// Its machine runs.
    Started,
    /// Its readiness gate has passed.
    #[default]
    Ready,
}

/// A data volume of a node; the Volume object is named `<node>-<name>`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeVolume {
    /// Name within the node.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$"))]
    pub name: String,
    /// Size.
    pub size: Quantity,
    /// File system made on it when it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^ext4$"))]
    pub filesystem: Option<String>,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum NodePhase {
    /// A dependency has not come far enough.
    #[default]
    Waiting,
    /// Its machine is starting, the readiness gate has not passed yet.
    Booting,
    /// The readiness gate has passed.
    Ready,
    /// It was ready and is not now.
    NotReady,
    /// Powered off.
    Stopped,
}

/// What the node reconciler says.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: NodePhase,
    /// Where its machine stands.
    #[serde(default)]
    pub machine_phase: crate::virtual_machine::VmPhase,
    /// Address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Host that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The guest's boot ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When its machine was first wanted, that is, when its dependencies were met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_started_at: Option<Timestamp>,
    /// When it last became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// Seconds from `bootStartedAt` to the first `readyAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_seconds: Option<f64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
