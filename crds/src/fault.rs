//! Fault: harm done on purpose, and undone.
//!
//! The intent is stored before anything is touched, and the inverse is known from the spec alone, so a crash at any moment
//! leaves an object that says what to revert.

use crate::Condition;
use crate::reference::ObjectReference;
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One harm to one machine. It happens once; what has a duration is reverted at its end, or when the object is deleted.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "Fault",
    namespaced,
    status = "FaultStatus",
    derive = "PartialEq",
    category = "photon",
    selectable = ".spec.host",
    doc = "A fault injected into a machine: kill, pause or power-cycle.",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.action == oldSelf.action && self.target == oldSelf.target")
    .message("action and target are immutable: make a new Fault"))]
#[x_kube(validation = Rule::new("self.action == 'Pause' || !has(self.durationSeconds)")
    .message("durationSeconds goes with action Pause").field_path(".durationSeconds"))]
#[x_kube(validation = Rule::new("self.target.kind in ['Node', 'VirtualMachine']")
    .message("target.kind must be Node or VirtualMachine").field_path(".target.kind"))]
pub struct FaultSpec {
    /// Machine to harm.
    pub target: ObjectReference,
    /// What is done to it.
    pub action: FaultAction,
    /// How long a pause lasts; without it until the Fault is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub duration_seconds: Option<u32>,
    /// Host of the target; set by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What is done to a machine.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum FaultAction {
    /// QEMU is killed with SIGKILL, as if the plug was pulled; `runStrategy` decides what follows.
    Kill,
    /// The virtual processors stop (QMP `stop`) and go on later (QMP `cont`).
    Pause,
    /// Power is cut and given again: killed, then started at once.
    PowerCycle,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum FaultPhase {
    /// Nothing done yet.
    #[default]
    Pending,
    /// About to be done: stored before the host is touched.
    Injecting,
    /// Done, and in force.
    Injected,
    /// Over: undone, or nothing to undo.
    Reverted,
    /// Could not be done.
    Failed,
}

/// What the agent says of the fault.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FaultStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(default)]
    pub phase: FaultPhase,
    /// Process that was harmed, so that a repeat after a crash harms no successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When that process started, in clock ticks since the host's boot: a later process may get the same pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_start_time: Option<u64>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// `Injected`, `Reverted`, `Failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
