//! VirtualMachine: one QEMU guest (PlasmaVMC).
//!
//! ```text
//!            spec.host set          QEMU up            guest agent answers, readiness passes
//!  Pending ───────────────► Starting ─────► Running ─────────────────────────► Running, Ready=True
//!                               ▲              │ guest powers off / QEMU dies      │ Fault pause
//!                               │ Always       ▼                                   ▼
//!                               └────────── Stopped ◄── Stopping ◄── Halted      Paused
//! ```

use crate::{Condition, Quantity};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual machine booted from an Image.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "photoncloud.dev",
    version = "v1alpha1",
    kind = "VirtualMachine",
    namespaced,
    status = "VirtualMachineStatus",
    derive = "PartialEq",
    category = "photon",
    shortname = "vm",
    selectable = ".spec.host",
    doc = "A virtual machine run by QEMU on one Host.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ip"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSpec {
    /// Image of this namespace to boot. A change takes effect at the next start from a fresh root disk.
    #[schemars(length(min = 1, max = 253))]
    pub image: String,
    /// Virtual processors.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub cpus: u32,
    /// Memory.
    #[serde(default = "default_memory")]
    pub memory: Quantity,
    /// When it should run.
    #[serde(default)]
    pub run_strategy: RunStrategy,
    /// Network attachments, in the order of the guest's interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"]))]
    pub interfaces: Vec<Interface>,
    /// Data volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["volume"]))]
    pub volumes: Vec<VolumeMount>,
    /// Words added to the guest kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub kernel_arguments: Vec<KernelArgument>,
    /// Seconds a graceful stop may take before it is forced.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: u32,
    /// How `Ready` is judged; without it the machine is ready when its guest agent answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// Host that runs it; set by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

pub(crate) fn one() -> u32 {
    1
}

pub(crate) fn default_memory() -> Quantity {
    Quantity::from("256Mi")
}

fn thirty() -> u32 {
    30
}

/// When a machine should run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum RunStrategy {
    /// Started, and started again whenever it ends.
    #[default]
    Always,
    /// Started again when QEMU died or the guest panicked; a guest that powers itself off stays off.
    RerunOnFailure,
    /// Powered off, disks kept.
    Halted,
}

/// A network attachment.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Port of this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub port: String,
}

/// A data volume in the machine.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Volume of this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub volume: String,
}

/// One word of a kernel command line.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
pub struct KernelArgument(#[schemars(regex(pattern = r"^[A-Za-z0-9_.=:,/@+-]{1,256}$"))] pub String);

/// A command in the guest that exits with 0 when the machine is ready.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Program and arguments, not passed through a shell.
    #[schemars(length(min = 1, max = 64))]
    pub exec: Vec<String>,
    /// Seconds between two tries.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: u32,
    /// Seconds one try may take.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: u32,
    /// Failures in a row after which a ready machine is no longer ready.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: u32,
}

fn five() -> u32 {
    5
}

fn three() -> u32 {
    3
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
pub enum VmPhase {
    /// Waits for a Host, an Image, a Port or a Volume.
    #[default]
    Pending,
    /// QEMU is being started.
    Starting,
    /// QEMU runs.
    Running,
    /// QEMU runs, its processors are stopped.
    Paused,
    /// Being powered off.
    Stopping,
    /// Powered off.
    Stopped,
    /// Cannot run without a change.
    Failed,
}

/// What the agent says of the machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// Generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default)]
    pub phase: VmPhase,
    /// Process of QEMU on its Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The guest's boot ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// `kvm` or `tcg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// First address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// When the running QEMU was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Milliseconds from the decision to start until QEMU's monitor answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_ready_milliseconds: Option<u64>,
    /// When it last became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// How often QEMU was started again after it had ended.
    #[serde(default)]
    pub restarts: u32,
    /// `Ready`, `GuestAgentConnected`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Condition type: the guest agent answers.
pub const GUEST_AGENT_CONNECTED: &str = "GuestAgentConnected";
