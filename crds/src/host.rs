//! Host: a machine with an agent.

use crate::Condition;
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A machine whose agent realises the objects bound to it. The agent registers it and renews a Lease of the same name in
/// namespace `photon-system` as its heartbeat.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Host",
    status = "HostStatus",
    derive = "PartialEq",
    category = "photon",
    doc = "A machine with an agent: its capacity, its probed capabilities and its heartbeat.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Accelerator", type_ = "string", json_path = ".status.capabilities.accelerator"),
    printcolumn(name = "CPUs", type_ = "integer", json_path = ".status.capacity.cpus"),
    printcolumn(name = "Kernel", type_ = "string", json_path = ".status.capabilities.kernel", priority = 1),
    printcolumn(name = "Underlay", type_ = "string", json_path = ".status.underlayAddress", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// Nothing new is placed here while true; what runs stays.
    #[serde(default)]
    pub unschedulable: bool,
}

/// What the agent says of its machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `address:port` of the agent's door, for the API server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// IPv4 address by which other hosts reach the tenant networks carried here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_address: Option<String>,
    /// What there is to give.
    #[serde(default)]
    pub capacity: Capacity,
    /// What was probed on this machine.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The machine's boot ID (`/proc/sys/kernel/random/boot_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When this agent process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_started_at: Option<Timestamp>,
    /// `Ready`: the agent is up and its heartbeat is fresh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A machine's size.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Processors online.
    #[serde(default)]
    pub cpus: u32,
    /// Memory in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// What a machine can do, found by trying and never assumed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// `kvm` when a probe guest booted under KVM, else `tcg`.
    #[serde(default)]
    pub accelerator: String,
    /// Why the accelerator is what it is.
    #[serde(default)]
    pub accelerator_reason: String,
    /// Kernel release.
    #[serde(default)]
    pub kernel: String,
    /// QEMU's version.
    #[serde(default)]
    pub qemu: String,
    /// HAProxy's version, which LoadBalancers with HTTP need; empty when there is none.
    #[serde(default)]
    pub haproxy: String,
    /// Whether Routers here have a way out: the agent was told where outside is.
    #[serde(default)]
    pub outside: bool,
    /// Whether SecurityGroups can be enforced: bridged packets can be filtered with connections in mind.
    #[serde(default)]
    pub stateful_filter: bool,
    /// Why they cannot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stateful_filter_reason: String,
}
